"""The block of DiffLinker: EDM's, with a mask of the nodes that may move between the other masks."""

from benchmarks import diffusion as edm


class EquivariantBlock(edm.EquivariantBlock):
    def forward(self, h, x, edge_index, node_mask=None, linker_mask=None, edge_mask=None, edge_attr=None):
        return self.run(h, x, edge_index, node_mask, edge_mask, edge_attr, linker_mask)


class EGNN(edm.EGNN):
    block = EquivariantBlock
