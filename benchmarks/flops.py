"""Floating-point operations of the matrix products of one layer."""

from dataclasses import dataclass

from torch import nn

# A multiplication and an addition.
PER_WEIGHT = 2
# Parts of a published layer whose Linears run for every edge, and for every node.
EDGE_PARTS, NODE_PARTS = ("edge_mlp", "coord_mlp"), ("node_mlp", "coord_mlp_vel")


@dataclass(frozen=True)
class Products:
    """Operations of a forward pass.

    Attributes:
        edge_block: of edge_mlp and coord_mlp.
        node_mlps: of node_mlp and coord_mlp_vel.
    """

    edge_block: int
    node_mlps: int

    @property
    def forward(self) -> int:
        return self.edge_block + self.node_mlps

    def step(self, *, recompute: bool) -> int:
        """Of a forward and backward pass in which every input and weight gets a gradient.

        A product Y = X W has two in its backward pass, for the gradients of X and of W, of as many operations each.

        Args:
            recompute: the backward pass computes the edge block again, as the fused one does.
        """
        return 3 * self.forward + (self.edge_block if recompute else 0)


def products(layer: nn.Module, nodes: int, edges: int, *, split: bool) -> Products:
    """Operations of a published layer with velocities and without attention.

    Args:
        layer: has edge_mlp, coord_mlp, node_mlp and coord_mlp_vel.
        nodes, edges: N and E of the graph.
        split: the first Linear is applied to h_i and h_j once a node instead of once an edge, as the fused edge block
            does; eager PyTorch multiplies all 2 H + 1 + D columns for every edge.
    """
    edge_block = edges * _weights(layer, EDGE_PARTS)
    if split:
        first, features = layer.edge_mlp[0], layer.coord_mlp_vel[0].in_features
        edge_block -= (edges - nodes) * 2 * features * first.out_features
    return Products(PER_WEIGHT * edge_block, PER_WEIGHT * nodes * _weights(layer, NODE_PARTS))


def _weights(layer: nn.Module, parts: tuple[str, ...]) -> int:
    """Entries of the Linears' matrices."""
    linears = (module for name in parts for module in getattr(layer, name) if isinstance(module, nn.Linear))
    return sum(linear.weight.numel() for linear in linears)
