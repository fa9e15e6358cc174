"""The definitions: every op as plain, twice differentiable PyTorch.

The functions take what the operators take (tensors of an EdgePlan instead of an
``edge_index``); the other backends are tested against them.
"""

from .add_layer_norm import add_layer_norm
from .aggregate import aggregate
from .edge_attention import edge_attention
from .edge_frame import edge_frame
from .edge_scalars import edge_scalars
from .frame_message import frame_message
from .mlp import mlp
from .project import project
from .segment import segment_gather, segment_reduce
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
    "segment_gather",
    "segment_reduce",
    "table_sum",
]
