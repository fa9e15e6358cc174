"""The package's layer with PyTorch Geometric's conventions: edges from sources to targets, ``Data`` and ``Batch``."""

import copy

from torch import Tensor
from torch_geometric.data import Data

from . import _check, nn
from .nn.edge_pair import turned

FLOWS = ("source_to_target", "target_to_source")
# What forward reads from a Data, in its order.
FIELDS = ("x", "pos", "edge_index", "edge_attr", "vel", "node_attr")


class FrameConv(nn.FrameConv):
    """``clof_ext.nn.FrameConv`` called as the layers of PyTorch Geometric are; see there for its formula and options.

    Row 0 of edge_index holds the sources (senders), row 1 the targets (receivers), as in PyTorch Geometric; with
    ``flow="target_to_source"`` the other way round. State dicts are those of ``nn.FrameConv``.

    Args:
        in_channels: features of a node before the layer.
        out_channels: features of a message, and of a node after the layer.
        edge_dim: features of an edge; may be 0.
        flow: ``"source_to_target"`` or ``"target_to_source"``.
        options: keyword arguments of ``nn.FrameConv``.

    Raises:
        ValueError: an option that does not exist.
    """

    def __init__(
        self, in_channels: int, out_channels: int, edge_dim: int = 0, *, flow: str = FLOWS[0], **options
    ) -> None:
        _check.one_of(flow, FLOWS, "flow")
        super().__init__(in_channels, out_channels, edge_dim, **options)
        self.flow = flow

    def forward(
        self,
        x: Tensor | Data,
        pos: Tensor | None = None,
        edge_index: Tensor | None = None,
        edge_attr: Tensor | None = None,
        vel: Tensor | None = None,
        node_attr: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | Data:
        """One update of features and positions.

        Args:
            x: (N, in_channels) node features; or a Data or Batch that holds the arguments under their names here.
            pos: (N, 3) positions.
            edge_index: (2, E).
            edge_attr: (E, edge_dim), or None if edge_dim is 0.
            vel: (N, 3) velocities, exactly where the layer was made with velocity=True.
            node_attr: (N, node_attr_dim), or None if node_attr_dim is 0.

        Returns:
            x (N, out_channels) and pos (N, 3); for a Data a shallow copy with these in place of the old ones.

        Raises:
            TypeError, ValueError: a wrong type, dtype or shape, a bipartite graph, or an argument missing or in excess.
        """
        if isinstance(x, Data):
            new = copy.copy(x)
            new.x, new.pos = self.forward(*(x.get(name) for name in FIELDS))
            return new
        for value, name in ((x, "x"), (pos, "pos")):
            if isinstance(value, tuple | list):
                raise ValueError(
                    f"{name} must be one tensor for all nodes, because each node's position is updated by its "
                    f"neighbours; got a {type(value).__name__}, as for a bipartite graph."
                )
        _check.is_tensor(edge_index, "edge_index")
        _check.shape(edge_index, (2, "E"), "edge_index")
        if self.flow == FLOWS[0]:
            edge_index = turned(edge_index)
        return super().forward(x, pos, edge_index, edge_attr, vel, node_attr)
