"""What a layer computes on edges and nodes, as one step of autograd.

The operators are those of ``ops.frame_message`` and ``ops.mlp``, one after another. Recorded each on its own they
cost a small graph more time in Python than in kernels.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _check
from .._cast import autocast_dtype, cast_all, cast_each, cast_features, dtype_after, gradients_of
from .._precision import matmul_precision
from .._register import backward_of, is_recorded, record
from .._transforms import is_traced, refuse_tangents
from ..graph import EdgePlan, as_plan
from ..ops.frame_message import message_constants, message_operators
from ..ops.mlp import mlp_operator
from ..reference import frame_message as plain_frame_message
from ..reference import mlp as plain_mlp

# On CPUs larger graphs are recorded op by op in training: Python is no part of their time, and a step holds two arrays
# (N, H) more while the edges' gradients are made, with four neighbours a fifth of a layer's memory.
MAX_RECORDED_EDGES_ON_CPUS = 4096
# Of the nodes' perceptrons there is none after the last Linear.
ACTIVATE_LAST = False
# Bound of each component of an edge's vector in the published layers.
VECTOR_CLAMP = 100.0


class Inputs(NamedTuple):
    """What a layer reads: h (N, F), pos (N, 3) and, if any, vel (N, 3), edge_attr (E, D) and node_attr (N, A)."""

    h: Tensor
    pos: Tensor
    vel: Tensor | None
    edge_attr: Tensor | None
    node_attr: Tensor | None


class Weights(NamedTuple):
    """Weight and bias of each Linear of a layer's parts, in the order of application; of a missing part none."""

    edge_mlp: list[Tensor]
    att_mlp: list[Tensor]
    coord_mlp: list[Tensor]
    coord_mlp_vel: list[Tensor]
    node_mlp: list[Tensor]


@dataclass(frozen=True)
class LayerOptions:
    """What a layer does beside its parameters.

    ``node_activation`` is that of node_mlp and coord_mlp_vel where these are two Linears each, else None: their modules
    are called.
    """

    basis: str
    frame: str
    activation: str
    tanh: bool
    recurrent: bool
    coords_weight: float
    clamp: float = VECTOR_CLAMP
    vector_reduce: str = "mean"
    node_activation: str | None = None

    def of_messages(self) -> dict[str, str | bool | float]:
        """The options of ``ops.frame_message``, in their order."""
        return {
            "basis": self.basis,
            "mode": self.frame,
            "activation": self.activation,
            "tanh": self.tanh,
            "clamp": self.clamp,
            "message_reduce": "sum",
            "vector_reduce": self.vector_reduce,
        }


class Results(NamedTuple):
    """Of a step, or their cotangents: node_mlp's result (N, H), positions, messages (N, H), vel's factor (N, 1)."""

    update: Tensor | None
    pos: Tensor | None
    message: Tensor | None
    factor: Tensor | None = None


class Step(NamedTuple):
    """What a call does beside the tensors that it differentiates.

    Attributes:
        frame_operators: forward and backward.
        frame_constants: what these take after their tensors.
        mlp_operators: forward and backward.
        activation, precision: of the nodes' perceptrons.
        coords_weight: factor of the vectors.
        velocity_at, nodes_at: where the weights of coord_mlp_vel and of node_mlp begin.
        dtype: of autocast, or None.
    """

    frame_operators: tuple[Callable, Callable]
    frame_constants: tuple
    mlp_operators: tuple[Callable, Callable]
    activation: str
    precision: str
    coords_weight: float
    velocity_at: int
    nodes_at: int
    dtype: torch.dtype | None

    def split(self, tensors: Sequence) -> tuple[Inputs, list, list, list]:
        """Inputs, and the weights of what lives on edges, of coord_mlp_vel and of node_mlp."""
        n, begin, end = len(Inputs._fields), self.velocity_at, self.nodes_at
        weights = list(tensors[n:])
        return Inputs(*tensors[:n]), weights[:begin], weights[begin:end], weights[end:]

    def cast(self, cast: Callable, tensors: Sequence) -> Sequence:
        """Tensors as autocast wants them: all but positions and velocities, by one of the functions for that."""
        return cast_features(cast, tensors, self.dtype, geometry=2)

    def forward(self, tensors: Sequence) -> Results:
        """The results; autograd sees nothing of it."""
        (h, pos, vel, edge_attr, node_attr), of_edges, of_velocity, of_nodes = self.split(tensors)
        mlp, options = self.mlp_operators[0], (self.activation, ACTIVATE_LAST, self.precision)
        factor = None
        with torch._C._AutoDispatchBelowAutograd():
            message, vector = self.frame_operators[0](h, pos, edge_attr, None, of_edges, *self.frame_constants)
            # The vectors' memory becomes the new positions'.
            moved = torch.add(pos, vector, alpha=self.coords_weight, out=vector)
            if vel is not None:
                factor = mlp([h], of_velocity, *options)
                moved.addcmul_(factor, vel)
            update = mlp(side_by_side(h, message, node_attr), of_nodes, *options)
        return Results(update, moved, message, factor)

    def backward(
        self, tensors: Sequence, kept: list[Tensor | None], grads: Results, h_dtype: torch.dtype, of_vel: bool
    ) -> list[Tensor | None]:
        """Gradients of the tensors from cotangents of the results, of which None stands for zeros; of vel if asked for.

        That of h has the dtype in which h was given. ``kept`` are messages and factor; it is emptied, since the edges'
        part takes the most memory. Whether autograd sees it all is the caller's choice.
        """
        (h, pos, vel, edge_attr, node_attr), of_edges, of_velocity, of_nodes = self.split(tensors)
        mlp, options = self.mlp_operators[1], (self.activation, ACTIVATE_LAST, True, self.precision)
        message, grad_h, grad_attr, grad_vel = grads.message, None, [], None
        grad_nodes, grad_velocity = [None] * len(of_nodes), [None] * len(of_velocity)
        if grads.update is not None:
            side = side_by_side(h, kept[0], node_attr)
            (grad_h, more, *grad_attr), grad_nodes = mlp(grads.update, side, of_nodes, *options)
            grad_h, message = grad_h.to(h_dtype), _added(more, message)
        if vel is not None and (grads.pos is not None or grads.factor is not None):
            along = None if grads.pos is None else (grads.pos * vel).sum(1, keepdim=True).to(h.dtype)
            (more,), grad_velocity = mlp(_added(along, grads.factor), [h], of_velocity, *options)
            grad_h = more.to(h_dtype) if grad_h is None else _added(grad_h, more)
            grad_vel = grads.pos * kept[1] if of_vel and grads.pos is not None else None
        message = torch.zeros_like(kept[0]) if message is None else message
        vector = torch.zeros_like(pos) if grads.pos is None else grads.pos
        vector = vector if self.coords_weight == 1 else vector * self.coords_weight
        kept.clear()
        side = more = None
        more, grad_pos, grad_edge_attr, _, grad_edges = self.frame_operators[1](
            message, vector, h, pos, edge_attr, None, of_edges, *self.frame_constants
        )
        of_inputs = Inputs(
            h=more.to(h_dtype) if grad_h is None else _added(grad_h, more),
            pos=_added(grad_pos, grads.pos),
            vel=grad_vel,
            edge_attr=None if edge_attr is None else grad_edge_attr,
            node_attr=grad_attr[0] if grad_attr else None,
        )
        return [*of_inputs, *grad_edges, *grad_velocity, *grad_nodes]


def side_by_side(h: Tensor, message: Tensor, node_attr: Tensor | None) -> list[Tensor]:
    """What node_mlp reads."""
    return [h, message] if node_attr is None else [h, message, node_attr]


def _added(total: Tensor | None, grad: Tensor | None) -> Tensor | None:
    """The sum of a tensor that nobody else has, which may come to hold the sum, and another."""
    if total is None or grad is None:
        return grad if total is None else total
    return total + grad if torch.is_grad_enabled() else total.add_(grad)


class _Recorded(torch.autograd.Function):
    """A step as autograd records it.

    Messages and factors are results too, though nobody reads them: what a backward pass makes of them, it can be
    differentiated through. Under autocast the tensors are cast here.
    """

    @staticmethod
    def forward(ctx, step: Step, *given: Tensor | None) -> tuple:
        tensors = step.cast(cast_all, given)
        results = step.forward(tensors)
        ctx.step = step
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given, *(() if step.dtype is None else tensors), results.message, results.factor)
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple:
        refuse_tangents(*grads)
        step, wanted = ctx.step, ctx.needs_input_grad[1:]
        wants_vel = Inputs(*wanted[: len(Inputs._fields)]).vel
        *saved, message, factor = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()
        kept = [message, factor]
        del message, factor
        given, tensors = saved[: len(wanted)], saved[-len(wanted) :]
        if step.dtype is not None and torch.is_grad_enabled():
            # To be differentiated in turn: the casts have to be recorded.
            tensors = step.cast(cast_each, given)
        with nullcontext() if torch.is_grad_enabled() else torch._C._AutoDispatchBelowAutograd():
            found = step.backward(tensors, kept, Results(*grads), given[0].dtype, wants_vel)
        return None, *gradients_of(given, found, wanted, step.dtype)


def layer_step(
    inputs: Inputs, edge_index: Tensor | EdgePlan, weights: Weights, options: LayerOptions
) -> tuple[Tensor, Tensor] | None:
    """The node update (N, H), before it is added to h, and the new positions (N, 3), as ``FrameConv`` defines them.

    Returns:
        None where the ops are to be called one by one: for torch.compile, torch.func and forward mode, where one of
        them has no kernels, for velocities unlike the positions, and for large graphs in training on CPUs.

    Raises:
        Exception: something is wrong with the tensors; called one by one, the ops say what.
    """
    if is_traced():
        return None
    _check.positions(inputs.pos)
    plan = as_plan(edge_index, inputs.pos.shape[0], inputs.pos.device)
    tensors = (*inputs, *(tensor for part in weights for tensor in part))
    recorded = is_recorded(*tensors)
    if recorded and not inputs.pos.is_cuda and plan.num_edges > MAX_RECORDED_EDGES_ON_CPUS:
        return None
    step = _make_step(inputs, plan, weights, options, recorded)
    if step is None:
        return None
    with nullcontext() if step.dtype is None else torch._C._DisableAutocast():
        results = record(_Recorded, step, *tensors) if recorded else step.forward(step.cast(cast_all, tensors))
    return results[0], results[1]


def _make_step(inputs: Inputs, plan: EdgePlan, weights: Weights, options: LayerOptions, recorded: bool) -> Step | None:
    h, pos, vel, edge_attr, node_attr = inputs
    edge_mlp, att_mlp, coord_mlp, coord_mlp_vel, node_mlp = weights
    if bool(coord_mlp_vel) != (vel is not None and vel.shape == pos.shape and vel.dtype == pos.dtype):
        return None
    device, dtype = pos.device, autocast_dtype(pos.device.type)
    frame, differentiated = message_operators(h, edge_attr, edge_mlp, coord_mlp, device, dtype, recorded)
    columns = [tensor.shape[1] for tensor in (h, node_attr) if tensor is not None]
    columns.insert(1, edge_mlp[-1].shape[0])
    mlp = mlp_operator(tuple(columns), node_mlp, dtype_after(h, dtype), device, recorded)
    of_velocity = (
        mlp if vel is None else mlp_operator((columns[0],), coord_mlp_vel, dtype_after(h, dtype), device, recorded)
    )
    if frame is plain_frame_message or plain_mlp in (mlp, of_velocity):
        return None
    velocity_at = len(edge_mlp) + len(att_mlp) + len(coord_mlp)
    return Step(
        frame_operators=(frame, backward_of(differentiated)),
        frame_constants=message_constants(plan, edge_mlp, att_mlp, coord_mlp, tuple(options.of_messages().values())),
        mlp_operators=(mlp, backward_of(mlp)),
        activation=options.node_activation,
        precision=matmul_precision(device.type),
        coords_weight=options.coords_weight,
        velocity_at=velocity_at,
        nodes_at=velocity_at + len(coord_mlp_vel),
        dtype=dtype,
    )
