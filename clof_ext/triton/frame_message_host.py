"""Arguments of frame_message on the host: checked, split and padded the way its kernels take them."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from .. import _check
from .._backends import Size
from ..reference.frame_message import ACTIVATIONS, BASIS_SIZE, layers_of
from ._host import Graph, checked_like, interpreted
from .frame_message_tile import Inputs, Spec, Weights
from .product import precision_of

# Products take blocks of 16 columns and more. Edge features are multiplied in blocks of at most 64 columns.
MIN_COLUMNS, MAX_EDGE_COLUMNS = 16, 64
# A tile of more hidden features does not fit in the registers of a program.
MAX_HIDDEN, MAX_HIDDEN_FLOAT64 = 128, 16


def cannot_run(size: Size) -> str | None:
    """Why the kernels cannot run such a block on a GPU, or None if they can."""
    most = MAX_HIDDEN_FLOAT64 if size.dtype == torch.float64 else MAX_HIDDEN
    if size.hidden > most:
        return f"it holds at most {most} hidden features of {_check.names([size.dtype])}; got {size.hidden}"
    return None


@dataclass(frozen=True)
class Switches:
    """The constants of a call, as the operator takes them."""

    edge_depth: int
    coord_depth: int
    attention: bool
    basis: str
    mode: str
    activation: str
    tanh: bool
    clamp: float
    message_reduce: str
    vector_reduce: str
    precision: str

    def __post_init__(self) -> None:
        _check.one_of(self.basis, tuple(BASIS_SIZE), "basis")
        _check.one_of(self.activation, tuple(ACTIVATIONS), "activation")
        _check.one_of(self.message_reduce, _check.REDUCTIONS, "message_reduce")
        _check.one_of(self.vector_reduce, _check.REDUCTIONS, "vector_reduce")
        _check.one_of(self.precision, ("highest", "high", "medium"), "precision")
        _check.one_of(self.edge_depth, (1, 2, 3), "edge_depth")
        _check.one_of(self.coord_depth, (1, 2), "coord_depth")
        if not self.clamp > 0:
            raise ValueError(f"clamp must be above 0; got {self.clamp!r}.")

    @property
    def num_tensors(self) -> int:
        """Weights and biases, all of them given."""
        return 2 * (self.edge_depth + self.attention + self.coord_depth)


@dataclass(frozen=True)
class Block:
    """The arguments of a call, checked and dense."""

    graph: Graph
    h: Tensor
    edge_attr: Tensor | None
    edge_weight: Tensor | None
    layers: list[tuple[Tensor, Tensor | None]]
    switches: Switches

    @classmethod
    def checked(cls, h, pos, edge_attr, edge_weight, weights, edges, offsets, *constants) -> "Block":
        switches = Switches(*constants)
        graph = Graph.checked(pos, edges, offsets, switches.mode)
        _check.features(h, pos, "h")
        _check.shape(h, (graph.num_nodes, "F"), "h")
        if edge_attr is not None:
            edge_attr = checked_like(edge_attr, h, (graph.num_edges, "D"), "edge_attr", "h")
            # No features at all are the same as none.
            edge_attr = edge_attr if edge_attr.shape[1] else None
        if edge_weight is not None:
            edge_weight = checked_like(edge_weight, h, (graph.num_edges,), "edge_weight", "h")
        if switches.num_tensors - len(weights) not in (0, 1):
            raise ValueError(
                f"weights must hold {switches.num_tensors} tensors, or one less; got {len(weights)} tensors."
            )
        block = cls(graph, h.contiguous(), edge_attr, edge_weight, layers_of(weights), switches)
        block._check_layers()
        reason = None if interpreted() else cannot_run(Size(block.hidden, block.edge_dim, h.dtype, False))
        if reason is not None:
            raise ValueError(f"The Triton backend cannot run this frame_message: {reason}.")
        return block

    def _check_layers(self) -> None:
        switches, hidden = self.switches, self.hidden
        shapes = [(hidden, 2 * self.node_dim + 1 + self.edge_dim)] + [(hidden, hidden)] * (switches.edge_depth - 1)
        shapes += [(1, hidden)] * switches.attention + [(hidden, hidden)] * (switches.coord_depth - 1)
        shapes.append((BASIS_SIZE[switches.basis], hidden))
        for number, ((weight, bias), shape) in enumerate(zip(self.layers, shapes, strict=True)):
            checked_like(weight, self.h, shape, f"weights[{2 * number}]", "h")
            if bias is not None:
                checked_like(bias, self.h, shape[:1], f"weights[{2 * number + 1}]", "h")

    @property
    def hidden(self) -> int:
        return self.layers[0][0].shape[0]

    @property
    def padded(self) -> int:
        return max(triton.next_power_of_2(self.hidden), MIN_COLUMNS)

    @property
    def node_dim(self) -> int:
        return self.h.shape[1]

    @property
    def edge_dim(self) -> int:
        return 0 if self.edge_attr is None else self.edge_attr.shape[1]

    @property
    def edge_block(self) -> int:
        return min(max(triton.next_power_of_2(self.edge_dim), MIN_COLUMNS), MAX_EDGE_COLUMNS)

    @property
    def precision(self) -> str:
        return precision_of(self.h.dtype, self.switches.precision, interpreted())

    @cached_property
    def spec(self) -> Spec:
        switches = self.switches
        values = (
            *(self.hidden, self.padded, self.edge_dim, self.edge_block),
            *(switches.basis, switches.mode, switches.activation, switches.tanh, switches.clamp),
            *(switches.message_reduce == "mean", switches.vector_reduce == "mean"),
            self.precision,
        )
        return Spec(*map(tl.constexpr, values))

    @cached_property
    def first_columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The first Linear's weight for features of receivers, of senders, for r and for features of edges."""
        return self.layers[0][0].split([self.node_dim, self.node_dim, 1, self.edge_dim], 1)

    @cached_property
    def inputs(self) -> Inputs:
        """What kernels read of nodes and edges; the first Linear is applied to the nodes here."""
        of_receiver, of_sender, _, _ = self.first_columns
        return Inputs(
            F.linear(self.h, of_receiver, self.layers[0][1]),
            F.linear(self.h, of_sender),
            self.graph.pos,
            () if self.edge_attr is None else (self.edge_attr,),
            () if self.edge_weight is None else (self.edge_weight,),
        )

    @cached_property
    def weights(self) -> Weights:
        switches = self.switches
        _, _, radial, edge = self.first_columns
        layers = [tuple(tensor.contiguous() for tensor in layer if tensor is not None) for layer in self.layers]
        depth = switches.edge_depth
        return Weights(
            radial.contiguous(),
            (edge.contiguous(),) if self.edge_dim else (),
            tuple(layers[1:depth]),
            layers[depth] if switches.attention else (),
            layers[-2] if switches.coord_depth == 2 else (),
            layers[-1],
        )

    def checked_cotangents(self, grad_message: Tensor, grad_vector: Tensor) -> tuple[Tensor, Tensor]:
        shape = (self.graph.num_nodes, self.hidden)
        return checked_like(grad_message, self.h, shape, "grad_message", "h"), self.graph.vectors(
            grad_vector, "grad_vector"
        )

    def node_gradient(self, of_nodes: Tensor) -> Tensor:
        """The gradient by h, given the (2, N, H) gradients by the first Linear's outputs of nodes."""
        of_receiver, of_sender, _, _ = self.first_columns
        of_nodes = of_nodes.to(self.h.dtype)
        return torch.addmm(of_nodes[0] @ of_receiver, of_nodes[1], of_sender)
