"""The form B(s, T, F) = sum over k, i of s[k1..kr] F[k1,i1] ... F[kr,ir] T[i1..ir] of tensors of order r on edges with
frames F, and its three gradients.

``project`` is the gradient by s, ``aggregate`` that by T, summed into receivers; their derivatives are the others.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import _check
from ..ops.project import SOURCES
from . import edge_frame, memory, number, vec3
from ._host import EDGES, LANES, NODES, Graph, jit, launch
from .segment import weight_of

# Where T lives: numbered so that a node's place is its role in memory.py.
RECEIVER, EDGE = SOURCES.index("receiver"), SOURCES.index("edge")

# Channels that a program reads side by side where it adds over all of them.
CHANNELS = 32

_EDGE = tl.constexpr(EDGE)


@triton.jit
def component(frame, t, PLACE: tl.constexpr, STRIDE: tl.constexpr, TRANSPOSE: tl.constexpr):
    """One component of the frame, or its transpose, times the tensor along the axis of this stride."""
    K: tl.constexpr = PLACE // STRIDE % 3
    FIRST: tl.constexpr = PLACE - K * STRIDE
    along = (t[FIRST], t[FIRST + STRIDE], t[FIRST + 2 * STRIDE])
    if TRANSPOSE:
        return vec3.dot((frame[0][K], frame[1][K], frame[2][K]), along)
    else:
        return vec3.dot(frame[K], along)


@triton.jit
def apply_axis(frame, t, STRIDE: tl.constexpr, TRANSPOSE: tl.constexpr):
    out = ()
    for place in tl.static_range(len(t)):
        out = out + (component(frame, t, place, STRIDE, TRANSPOSE),)
    return out


@triton.jit
def apply_frame(frame, t, ORDER: tl.constexpr, TRANSPOSE: tl.constexpr):
    """The frame on every axis: the components of a tensor. Its transpose: the tensor with these components."""
    for axis in tl.static_range(ORDER):
        t = apply_axis(frame, t, 3**axis, TRANSPOSE)
    return t


@triton.jit
def add_form_frame_vjp(grad, frame, s, t, ORDER: tl.constexpr):
    """Add the form's gradient by the frame on the last axis: s times the tensor projected on all other axes."""
    for axis in tl.static_range(1, ORDER):
        t = apply_axis(frame, t, 3**axis, False)
    for first in tl.static_range(0, len(s), 3):
        grad = vec3.add_matrix(grad, vec3.outer(s[first : first + 3], t[first : first + 3]))
    return grad


@triton.jit
def place_of(COMPONENT: tl.constexpr, rotation, ORDER: tl.constexpr):
    """Where a component lies in memory, if the tensor's axes are rotated so that the last has the stride rotation."""
    SIZE: tl.constexpr = 3**ORDER
    place = 0
    for axis in tl.static_range(ORDER):
        stride = rotation * 3**axis
        # Beyond the first axis follows the last one.
        place += COMPONENT // 3**axis % 3 * (stride % SIZE + stride // SIZE)
    return place


@triton.jit
def load_tensor(
    t,
    t_tangent,
    graph,
    edge,
    channel,
    channels,
    mask,
    rotation,
    PLACE: tl.constexpr,
    MEAN: tl.constexpr,
    ORDER: tl.constexpr,
    DTYPE: tl.constexpr,
    DUAL: tl.constexpr,
):
    """The tensors of edges in their channels, from where they live, with the weight of a mean over receivers."""
    row = edge
    if PLACE != _EDGE:
        row = memory.node_of(graph, edge, mask, PLACE)
    first = (row * channels + channel) * 3**ORDER
    out = ()
    for component in tl.static_range(3**ORDER):
        place = first + place_of(component, rotation, ORDER)
        out = out + (memory.load_number(t, t_tangent, place, mask, DTYPE, DUAL),)
    if MEAN:
        start, end = memory.segment_of(graph, row, mask, memory.RECEIVER)
        out = number.all_scaled(out, weight_of(start, end, DTYPE, MEAN))
    return out


@jit
def map_kernel(
    t,
    t_tangent,
    pos,
    pos_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    out,
    channels,
    PLACE: tl.constexpr,
    MEAN: tl.constexpr,
    TRANSPOSE: tl.constexpr,
    ORDER: tl.constexpr,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each channel of each edge: the frame, or its transpose, on every axis of its tensor."""
    SIZE: tl.constexpr = 3**ORDER
    row = memory.rows_of_program(EDGES)
    edge = row // channels
    mask = edge < num_edges
    graph = (edges, offsets, num_nodes, num_edges)
    x_i, x_j = memory.load_ends(pos, pos_tangent, graph, edge, mask, DUAL)
    frame = edge_frame.frame_of(x_i, x_j, MODE)
    tensor = load_tensor(
        t, t_tangent, graph, edge, row % channels, channels, mask, 1, PLACE, MEAN, ORDER, pos.dtype.element_ty, DUAL
    )
    values = apply_frame(frame, tensor, ORDER, TRANSPOSE)
    memory.store_values(out, row * SIZE, mask, number.results(values))


@jit
def sum_kernel(
    s,
    s_tangent,
    pos,
    pos_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    out,
    channels,
    PLACE: tl.constexpr,
    MEAN: tl.constexpr,
    ORDER: tl.constexpr,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    NODES: tl.constexpr,
    LANES: tl.constexpr,
):
    """For each channel of each node: the tensors with the components s, over the edges of one role."""
    SIZE: tl.constexpr = 3**ORDER
    DTYPE: tl.constexpr = pos.dtype.element_ty
    row = memory.rows_of_program(NODES)
    node = row // channels
    channel = (row % channels)[:, None]
    graph = (edges, offsets, num_nodes, num_edges)
    start, end = memory.segment_of(graph, node, node < num_nodes, PLACE)
    totals = ()
    for _ in tl.static_range(SIZE):
        totals = totals + (tl.zeros([NODES, LANES], DTYPE),)
    for step in range(0, tl.max(end - start), LANES):
        edge, mask = memory.edges_from(graph, start + step, end, PLACE, LANES)
        x_i, x_j = memory.load_ends(pos, pos_tangent, graph, edge, mask, DUAL)
        frame = edge_frame.frame_of(x_i, x_j, MODE)
        scalars = load_tensor(s, s_tangent, graph, edge, channel, channels, mask, 1, _EDGE, False, ORDER, DTYPE, DUAL)
        totals = number.add(totals, number.results(apply_frame(frame, scalars, ORDER, True)))
    weight = weight_of(start, end, DTYPE, MEAN)
    memory.store_values(out, row * SIZE, node < num_nodes, number.scaled(memory.lane_sums(totals), weight))


@jit
def frame_kernel(
    s,
    s_tangent,
    t,
    t_tangent,
    pos,
    pos_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_frame,
    grad_tangent,
    channels,
    PLACE: tl.constexpr,
    MEAN: tl.constexpr,
    ORDER: tl.constexpr,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    EDGES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """For each edge: the gradient by its frame, over all channels; with tangents also its derivative."""
    DTYPE: tl.constexpr = pos.dtype.element_ty
    edge = memory.rows_of_program(EDGES)
    exists = edge < num_edges
    graph = (edges, offsets, num_nodes, num_edges)
    x_i, x_j = memory.load_ends(pos, pos_tangent, graph, edge[:, None], exists[:, None], DUAL)
    frame = edge_frame.frame_of(x_i, x_j, MODE)
    grad = vec3.zero_matrix(tl.zeros([EDGES, CHANNELS], DTYPE), DUAL)
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)[None, :]
        mask = exists[:, None] & (channel < channels)
        # A loop over the axes, each brought to the last place, since three copies of its body spill registers.
        rotation = 1
        for _ in range(ORDER):
            scalars = load_tensor(
                s, s_tangent, graph, edge[:, None], channel, channels, mask, rotation, _EDGE, False, ORDER, DTYPE, DUAL
            )
            tensor = load_tensor(
                t, t_tangent, graph, edge[:, None], channel, channels, mask, rotation, PLACE, MEAN, ORDER, DTYPE, DUAL
            )
            grad = add_form_frame_vjp(grad, frame, scalars, tensor, ORDER)
            rotation *= 3
    for k in tl.static_range(3):
        for axis in tl.static_range(3):
            parts = memory.lane_sums(grad[k][axis])
            tl.store(grad_frame + edge * 9 + 3 * k + axis, parts[0], mask=exists)
            if DUAL:
                tl.store(grad_tangent + edge * 9 + 3 * k + axis, parts[1], mask=exists)


@dataclass(frozen=True)
class Form:
    """The form of a call: its graph, tensor order, where T lives, whether T counts 1 / degree of its receiver.

    Each method is a gradient of the form or, given the tangent of the positions, its derivative in the direction of
    all tangents, of which those not given are 0.
    """

    graph: Graph
    order: int
    place: int
    mean: bool = False

    @classmethod
    def checked(
        cls,
        pos: Tensor,
        edges: Tensor,
        offsets: Tensor,
        order: int,
        place: int,
        mode: str,
        mean: bool = False,
    ) -> "Form":
        _check.order(order)
        return cls(Graph.checked(pos, edges, offsets, mode), order, place, mean)

    @property
    def rows(self) -> int:
        """Number of rows of T."""
        return self.graph.num_edges if self.place == EDGE else self.graph.num_nodes

    def checked_s(self, s: Tensor, name: str) -> Tensor:
        _check.features(s, self.graph.pos, name)
        _check.shape(s, (self.graph.num_edges, "K", 3**self.order), name)
        return s.contiguous()

    def checked_t(self, t: Tensor, name: str) -> Tensor:
        _check.features(t, self.graph.pos, name)
        _check.shape(t, (self.rows, "K", *[3] * self.order), name)
        return t.contiguous()

    def checked_pair(self, s: Tensor, s_name: str, t: Tensor, t_name: str) -> tuple[Tensor, Tensor]:
        """Both, with the same channels and dtype."""
        s, t = self.checked_s(s, s_name), self.checked_t(t, t_name)
        _check.shape(s, (s.shape[0], t.shape[1], s.shape[2]), s_name)
        _check.dtype(s, (t.dtype,), s_name)
        return s, t

    def by_s(self, t: Tensor, t_tangent: Tensor | None = None, pos_tangent: Tensor | None = None) -> Tensor:
        out = t.new_empty(self.graph.num_edges, t.shape[1], 3**self.order)
        self._map(t, t_tangent, pos_tangent, out, place=self.place, transpose=False)
        return out

    def by_t(self, s: Tensor, s_tangent: Tensor | None = None, pos_tangent: Tensor | None = None) -> Tensor:
        out = s.new_empty(self.rows, s.shape[1], *[3] * self.order)
        if self.place == EDGE:
            self._map(s, s_tangent, pos_tangent, out, place=EDGE, transpose=True)
        else:
            launch(
                sum_kernel,
                triton.cdiv(self.rows * s.shape[1], NODES),
                out,
                s,
                s_tangent,
                self.graph.pos,
                pos_tangent,
                *self.graph.plan,
                out,
                s.shape[1],
                PLACE=self.place,
                MEAN=self.mean,
                ORDER=self.order,
                MODE=self.graph.mode,
                DUAL=pos_tangent is not None,
                NODES=NODES,
                LANES=LANES,
            )
        return out

    def by_pos(
        self,
        s: Tensor,
        t: Tensor,
        s_tangent: Tensor | None = None,
        t_tangent: Tensor | None = None,
        pos_tangent: Tensor | None = None,
    ) -> Tensor:
        """By way of the gradient by each edge's frame, which is written to memory."""
        if self.order == 0:
            return torch.zeros_like(self.graph.pos)
        dual = pos_tangent is not None
        channels = min(triton.next_power_of_2(max(s.shape[1], 1)), CHANNELS)
        grad_frame = self.graph.pos.new_empty(self.graph.num_edges, 3, 3)
        grad_tangent = torch.empty_like(grad_frame) if dual else None
        launch(
            frame_kernel,
            triton.cdiv(self.graph.num_edges, EDGES // channels),
            grad_frame,
            s,
            s_tangent,
            t,
            t_tangent,
            self.graph.pos,
            pos_tangent,
            *self.graph.plan,
            grad_frame,
            grad_tangent,
            s.shape[1],
            PLACE=self.place,
            MEAN=self.mean,
            ORDER=self.order,
            MODE=self.graph.mode,
            DUAL=dual,
            EDGES=EDGES // channels,
            CHANNELS=channels,
        )
        return edge_frame.sum_nodes(self.graph, grad_frame, pos_tangent, grad_tangent)

    def _map(
        self,
        tensor: Tensor,
        tangent: Tensor | None,
        pos_tangent: Tensor | None,
        out: Tensor,
        place: int,
        transpose: bool,
    ) -> None:
        launch(
            map_kernel,
            triton.cdiv(self.graph.num_edges * tensor.shape[1], EDGES),
            out,
            tensor,
            tangent,
            self.graph.pos,
            pos_tangent,
            *self.graph.plan,
            out,
            tensor.shape[1],
            PLACE=place,
            MEAN=self.mean,
            TRANSPOSE=transpose,
            ORDER=self.order,
            MODE=self.graph.mode,
            DUAL=pos_tangent is not None,
            EDGES=EDGES,
        )
