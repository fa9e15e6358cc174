"""The layers as PyTorch Geometric's message passing."""

import copy

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from clof_ext.bench.one_layer import Inputs, Layer
from clof_ext.bench.published import VECTOR_BOUND, Clof_GCL, E_GCL_vel

from .program import Program, torch_program


class FrameMessagePassing(MessagePassing):
    """EGNN's and ClofNet's layer: PyTorch Geometric gathers and sums; perceptrons and axes are the published ones."""

    def __init__(self, layer: E_GCL_vel) -> None:
        # Row 0 of edge_index holds the receivers.
        super().__init__(aggr=None, flow="target_to_source")
        for name, module in layer.named_children():
            self.add_module(name, copy.deepcopy(module))
        self.axes = layer.axes
        self.normed = isinstance(layer, Clof_GCL)

    def forward(self, h: Tensor, pos: Tensor, edge_attr: Tensor, vel: Tensor, edge_index: Tensor):
        total, shift = self.propagate(edge_index, h=h, pos=pos, edge_attr=edge_attr)
        pos = pos + shift + self.coord_mlp_vel(h) * vel
        updated = h + self.node_mlp(torch.cat((h, total), 1))
        return (self.layer_norm(h + updated) if self.normed else updated), pos

    def message(self, h_i: Tensor, h_j: Tensor, pos_i: Tensor, pos_j: Tensor, edge_attr: Tensor):
        squared_distance = (pos_i - pos_j).square().sum(1, keepdim=True)
        message = self.edge_mlp(torch.cat((h_i, h_j, squared_distance, edge_attr), 1))
        axes, coefficients = self.axes(pos_i, pos_j), self.coord_mlp(message).split(1, 1)
        vector = sum(axis * coefficient for axis, coefficient in zip(axes, coefficients, strict=True))
        return message, vector.clamp(-VECTOR_BOUND, VECTOR_BOUND)

    def aggregate(self, inputs: tuple[Tensor, Tensor], index: Tensor, dim_size: int):
        message, vector = inputs
        total = scatter(message, index, dim_size=dim_size, reduce="sum")
        return total, scatter(vector, index, dim_size=dim_size, reduce="mean")


def build(layer: Layer, inputs: Inputs) -> Program:
    return torch_program(FrameMessagePassing(layer.layer), inputs)
