"""The ops: public functions with checks, documented; each runs on the backend that the table gives it."""

from .add_layer_norm import add_layer_norm
from .aggregate import aggregate
from .edge_attention import edge_attention
from .edge_frame import edge_frame
from .edge_scalars import edge_scalars
from .frame_message import frame_message
from .mlp import mlp
from .project import project
from .segment import segment_mean, segment_sum
from .table_sum import table_sum

__all__ = [
    "add_layer_norm",
    "aggregate",
    "edge_attention",
    "edge_frame",
    "edge_scalars",
    "frame_message",
    "mlp",
    "project",
    "segment_mean",
    "segment_sum",
    "table_sum",
]
