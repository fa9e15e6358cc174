"""EdgePlan: the edges of a graph, checked and sorted once, used by every op, layer and step."""

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _backends, _check, _register
from ._changes import state_of

MAX_EDGES = 2**31 - 1
MAX_NODES = 2**31 - 2


@dataclass(frozen=True, eq=False)
class EdgePlan:
    """The edges of a graph in the forms that the ops read.

    Attributes:
        edge_index: (2, E), row 0 the receivers i, row 1 the senders j, as given.
        edges: (4, E) int32: receivers, senders, edge numbers sorted by receiver, edge numbers sorted by sender
            (both sorts are stable).
        offsets: (3, N + 1) int32: where the edges of receiver n start in the third row of ``edges``; the same for
            senders and the fourth row; the number of edges that join a node below n with one at or above n (0 where
            the graphs of a batch meet).
    """

    edge_index: Tensor
    edges: Tensor
    offsets: Tensor

    @property
    def num_nodes(self) -> int:
        return self.offsets.shape[1] - 1

    @property
    def num_edges(self) -> int:
        return self.edges.shape[1]

    @property
    def device(self) -> torch.device:
        return self.edges.device

    def degree(self) -> Tensor:
        """Number of edges into each receiver, (N,) int32."""
        return self.offsets[0].diff()

    def to(self, device: torch.device | str) -> "EdgePlan":
        return EdgePlan(self.edge_index.to(device), self.edges.to(device), self.offsets.to(device))


def prepare_graph(edge_index: Tensor, num_nodes: int) -> EdgePlan:
    """Check and sort the edges of a graph once.

    Plans are cached for the life of the ``edge_index`` tensor and are made anew after it was changed in place, so
    that calling an op with the same ``edge_index`` again costs a look-up. Torch does not tell of writes through
    ``edge_index.data`` and through other owners of the memory (NumPy arrays, DLPack, storages): give a new tensor after
    these.

    Args:
        edge_index: (2, E) int32 or int64; row 0 the receivers, row 1 the senders; any order, duplicates and
            self-loops allowed, E may be 0.
        num_nodes: number of nodes N; every index must lie in [0, N).

    Raises:
        TypeError: ``edge_index`` is no integer tensor.
        ValueError: it does not have two rows, holds an index outside [0, N), or has 2**31 edges or more; num_nodes is
            no whole number from 0.
    """
    _check.is_tensor(edge_index, "edge_index")
    _check.dtype(edge_index, (torch.int64, torch.int32), "edge_index")
    _check.shape(edge_index, (2, "E"), "edge_index")
    return _plan_for(edge_index, edge_index, num_nodes, "edge_index", "num_nodes")


def prepare_segments(index: Tensor, num_segments: int) -> EdgePlan:
    """A plan whose receivers are the segments of rows, from (E,) ``index``; cached like ``prepare_graph``'s."""
    return _plan_for(index, index.expand(2, -1), num_segments, "index", "num_segments")


def as_plan(edge_index: "Tensor | EdgePlan", num_nodes: int, device: torch.device) -> EdgePlan:
    """The plan that an op runs on, from either form of its argument."""
    if not isinstance(edge_index, EdgePlan):
        plan = prepare_graph(edge_index, num_nodes)
    elif edge_index.num_nodes == num_nodes:
        plan = edge_index
    else:
        raise ValueError(f"edge_index is a plan for {edge_index.num_nodes} nodes; got {num_nodes} positions.")
    if plan.device != device:
        raise ValueError(f"edge_index must be on the device of pos, {device}; got {plan.device}.")
    return plan


def _plan_for(key: Tensor, edge_index: Tensor, num_nodes: int, name: str, count_name: str) -> EdgePlan:
    if torch.compiler.is_compiling():
        return _make_plan(edge_index, num_nodes, name)
    # A tensor made in inference mode does not count its changes, so its plan is not kept.
    counted = not key.is_inference()
    plan = _cached(key, num_nodes) if counted else None
    if plan is None:
        _check.whole(num_nodes, count_name, 0, MAX_NODES)
        # Tensors made in inference mode could not be saved for a backward pass later.
        with torch.inference_mode(False):
            plan = _make_plan(edge_index if counted else edge_index.clone(), num_nodes, name)
        if counted:
            _remember(key, plan)
    return plan


def _make_plan(edge_index: Tensor, num_nodes: int, name: str) -> EdgePlan:
    # The plan must not keep its own key alive: it holds a view of the same memory.
    edge_index = edge_index.detach()
    if edge_index.device.type not in _backends.plan_devices:
        return EdgePlan(edge_index, *sort_edges(edge_index, num_nodes, name))
    if torch.compiler.is_compiling():
        return EdgePlan(edge_index, *torch.ops.clof_ext.prepare_graph(edge_index, num_nodes, name))
    try:
        return EdgePlan(edge_index, *torch.ops.clof_ext.prepare_graph(edge_index, num_nodes, name))
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def check_range(edge_index: Tensor, num_nodes: int, name: str) -> None:
    """Raise ValueError for the first index outside [0, num_nodes)."""
    wrong = (edge_index < 0) | (edge_index >= num_nodes)
    if bool(wrong.any()):
        value = int(edge_index[wrong][0])
        raise ValueError(f"{name} must hold numbers from 0 to {num_nodes - 1}; got {value}.")


def sort_edges(edge_index: Tensor, num_nodes: int, name: str) -> tuple[Tensor, Tensor]:
    """``edges`` and ``offsets`` of an EdgePlan with torch's own ops, on any device."""
    if edge_index.shape[1] > MAX_EDGES:
        raise ValueError(f"{name} must have at most {MAX_EDGES} edges; got {edge_index.shape[1]}.")
    if not (torch.compiler.is_compiling() or edge_index.is_meta):
        check_range(edge_index, num_nodes, name)
    index = edge_index.long()
    numbers = index.argsort(dim=1, stable=True)
    starts = torch.zeros(3, num_nodes + 1, dtype=torch.int64, device=index.device)
    ones = torch.ones_like(index)
    starts[:2].scatter_add_(1, index + 1, ones)
    # An edge crosses every boundary above its lower end and up to its higher end.
    starts[2].scatter_add_(0, index.amin(0) + 1, ones[0])
    starts[2].scatter_add_(0, index.amax(0) + 1, -ones[0])
    offsets = starts.cumsum(1)
    return torch.cat((index, numbers)).int(), offsets.int()


# id of an index tensor -> (a weak reference to it, its state, the plan); dropped when the tensor is.
_plans: dict[int, tuple[weakref.ref, tuple, EdgePlan]] = {}


def _cached(edge_index: Tensor, num_nodes: int) -> EdgePlan | None:
    entry = _plans.get(id(edge_index))
    if entry is None:
        return None
    reference, state, plan = entry
    valid = reference() is edge_index and state == state_of(edge_index) and plan.num_nodes == num_nodes
    return plan if valid else None


def _remember(key: Tensor, plan: EdgePlan) -> None:
    number = id(key)
    # Bound here: when Python ends, the module's names are gone before the last tensors are.
    forget = _plans.pop
    _plans[number] = (weakref.ref(key, lambda _: forget(number, None)), state_of(key), plan)


def _fake_prepare_graph(edge_index, num_nodes, name):
    int32 = {"dtype": torch.int32}
    return edge_index.new_empty(4, edge_index.shape[1], **int32), edge_index.new_empty(3, num_nodes + 1, **int32)


def _rule(library: str) -> None:
    if library == _register.COMPILED:
        torch.library.register_fake(f"{library}::prepare_graph", _fake_prepare_graph)
        torch.library.impl(f"{library}::prepare_graph", "CUDA", sort_edges)


_register.register_rule(_rule)
