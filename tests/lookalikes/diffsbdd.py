"""The block of DiffSBDD: EDM's, with a mask of the nodes that may move, and cross products as an option."""

import torch
from torch import Tensor

from benchmarks import diffusion as edm


class EquivariantBlock(edm.EquivariantBlock):
    def forward(
        self, h, x, edge_index, node_mask=None, edge_mask=None, edge_attr=None, update_coords_mask=None, batch_mask=None
    ):
        crossed = self.gcl_equiv.cross_product_mlp is not None
        cross = self.cross_products(x, edge_index, batch_mask) if crossed else None
        return self.run(h, x, edge_index, node_mask, edge_mask, edge_attr, update_coords_mask, cross)

    def cross_products(self, x: Tensor, edge_index, batch_mask: Tensor) -> Tensor:
        """Of positions from the middle of their graph, shortened like the vectors along edges."""
        row, col = edge_index
        center = edm.reduced(x, batch_mask, int(batch_mask.max()) + 1, "mean", 1)[batch_mask]
        cross = torch.linalg.cross((x - center)[row], (x - center)[col])
        return cross / (torch.linalg.norm(cross, dim=1, keepdim=True) + self.norm_constant)


class EGNN(edm.EGNN):
    block = EquivariantBlock
