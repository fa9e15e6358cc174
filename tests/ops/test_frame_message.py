"""The compiled edge block against its definition: values and derivatives, over options, sizes and graphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from clof_ext import EdgePlan, _backends, ops, prepare_graph
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import threads
from clof_ext.ops.frame_message import message_size
from clof_ext.reference.frame_message import ACTIVATIONS
from tests.conformance import GRAPHS, Graph, points, random_edges

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

# Largest error in units of the largest value of the definition in float64, for values and for gradients.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
# Largest relative error (of norms) with half-precision features; measured 5e-3 where products take bfloat16 numbers,
# 2e-3 where only what is read and written is rounded, and 3e-4.
HALF_TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 6e-4}

OPTIONS = {
    "published ClofNet": {},
    "published EGNN": {"basis": "radial", "mode": "raw", "depth": 2},
    "orthonormal": {"mode": "orthonormal"},
    "radial orthonormal": {"basis": "radial", "mode": "orthonormal"},
    "gated": {"attention": True},
    "gated, shallow": {"attention": True, "depth": 1, "coord_depth": 1},
    "shallow": {"depth": 1, "coord_depth": 1},
    "one coordinate layer": {"coord_depth": 1, "basis": "radial"},
    "bounded coefficients": {"tanh": True},
    "clamped": {"clamp": 0.05},
    "last bias": {"last_bias": True},
    "weighted edges": {"weighted": True},
    "weighted edges, means": {"weighted": True, "message_reduce": "mean", "vector_reduce": "mean", "clamp": 0.1},
    "mean of messages, sum of vectors": {"message_reduce": "mean", "vector_reduce": "sum"},
    **{f"activation {name}": {"activation": name} for name in ACTIVATIONS},
}
# Which CPUs alone take.
UNEQUAL_WIDTHS = {
    "wide first Linear": {"first": 71, "depth": 2, "basis": "radial"},
    "wide first of three, gated": {"first": 50, "attention": True, "weighted": True},
    "narrow first Linear": {"first": 5, "depth": 2},
    "wide coordinate layer": {"coord": 64, "hidden": 16, "attention": True},
    "layer of egnn-pytorch": {"first": 130, "hidden": 16, "coord": 64, "depth": 2, "basis": "radial", "mode": "raw"},
}
MODULE = _backends.binary()
INSTRUCTION_SETS = MODULE.instruction_sets() if MODULE else []
EMULATED = MODULE.emulated_instruction_sets() if MODULE else []

# Hidden features, node features, edge features: below, at and above the widths of registers and panels.
SIZES = [(1, 1, 0), (7, 3, 1), (33, 5, 5), (64, 64, 32), (96, 10, 0), (130, 0, 17)]


@dataclass
class Block:
    """Arguments of one call in float64, and the options of the op.

    ``first`` and ``coord`` are the widths of what the first Linears of edge_mlp and coord_mlp make where these are not
    ``hidden``.
    """

    edge_index: Tensor
    pos: Tensor
    hidden: int = 33
    first: int | None = None
    coord: int | None = None
    node_dim: int = 6
    edge_dim: int = 5
    depth: int = 3
    coord_depth: int = 2
    attention: bool = False
    last_bias: bool = False
    weighted: bool = False
    options: dict = field(default_factory=dict)

    @property
    def plan(self) -> EdgePlan:
        return prepare_graph(self.edge_index, self.pos.shape[0])

    def leaves(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """h, pos, edge_attr, edge_weight and the weights, those that there are, rounded to the dtype."""
        generator = torch.Generator().manual_seed(1)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        def linear(n_out: int, n_in: int, bias: bool = True) -> list[Tensor]:
            return [random(n_out, n_in) / max(n_in, 1) ** 0.5] + [0.3 * random(n_out)] * bias

        edges, nodes, width = self.edge_index.shape[1], self.pos.shape[0], self.hidden
        leaves = [random(nodes, self.node_dim), self.pos]
        leaves += [random(edges, self.edge_dim)] * (self.edge_dim > 0) + [random(edges)] * self.weighted
        first, coord = self.first or width, self.coord or width
        leaves += linear(first, 2 * self.node_dim + 1 + self.edge_dim)
        for layer in range(1, self.depth):
            leaves += linear(width, first if layer == 1 else width)
        leaves += linear(1, width) if self.attention else []
        leaves += linear(coord, width) if self.coord_depth == 2 else []
        leaves += linear(1 if self.options.get("basis") == "radial" else 3, coord, self.last_bias)
        geometry = torch.float64 if dtype == torch.float64 else torch.float32
        # A tensor of its own each: a product above may have made two of one.
        return [leaf.to(geometry if k == 1 else dtype).clone().requires_grad_() for k, leaf in enumerate(leaves)]

    def weights(self, rest: list[Tensor]) -> dict[str, list[Tensor]]:
        """The last of the leaves by the names of arguments."""
        first, gate = 2 * self.depth, 2 * self.depth + 2 * self.attention
        return {"edge_mlp": rest[:first], "att_mlp": rest[first:gate], "coord_mlp": rest[gate:]}

    def run(self, leaves: list[Tensor], backend: str | None = "cpu") -> tuple[Tensor, Tensor]:
        # Not `*rest`, which torch.compile of torch 2.11 takes for a tuple.
        (h, pos), rest = leaves[:2], leaves[2:]
        edge_attr = rest.pop(0) if self.edge_dim else None
        edge_weight = rest.pop(0) if self.weighted else None
        named = {"edge_weight": edge_weight, **self.weights(rest), **self.options, "backend": backend}
        return ops.frame_message(h, pos, self.plan, edge_attr, **named)

    def results(self, dtype: torch.dtype = torch.float64, backend: str = "cpu", *, widen: bool = True) -> list[Tensor]:
        """Messages, vectors and all gradients for fixed cotangents; by the definition in float64 unless told not to."""
        leaves = self.leaves(dtype)
        if backend == "reference" and widen:
            leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
        outputs = self.run(leaves, backend)
        cotangents = [torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(dtype) for out in outputs]
        cotangents = [cotangent.to(out.dtype) for cotangent, out in zip(cotangents, outputs)]
        grads = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True)
        return [*(out.detach() for out in outputs), *grads]


def block(graph: Graph | None = None, **settings) -> Block:
    """By default a graph of 40 nodes and 300 edges: three tiles, the last one partial."""
    graph = graph or Graph(points(40), random_edges(40, 300))
    own = {key: settings.pop(key) for key in list(settings) if key in Block.__dataclass_fields__}
    return Block(graph.edge_index, graph.pos, options=settings, **own)


def assert_agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        assert value.shape == truth.shape
        if truth.numel():
            error = float((value.detach().double() - truth.detach()).abs().max())
            assert error <= tolerance * max(float(truth.abs().max()), 1e-3), f"array {number} is off by {error:.2e}"


@contextmanager
def selected(instruction_set: str) -> Iterator[str]:
    before = MODULE.instruction_set()
    assert MODULE.select_instruction_set(instruction_set)
    try:
        yield instruction_set
    finally:
        MODULE.select_instruction_set(before)


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    with selected(request.param) as name:
        yield name


@pytest.fixture(params=INSTRUCTION_SETS + EMULATED)
def unit(request):
    """An instruction set, those with AMX in software too."""
    with selected(request.param) as name:
        yield name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", OPTIONS | UNEQUAL_WIDTHS)
def test_options(name: str, dtype: torch.dtype, instruction_set: str):
    case = block(**(OPTIONS | UNEQUAL_WIDTHS)[name])
    assert_agree(case.results(dtype), case.results(dtype, "reference"), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int, dtype: torch.dtype, instruction_set: str):
    case = block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2)
    assert_agree(case.results(dtype), case.results(dtype, "reference"), TOLERANCE[dtype])


@pytest.mark.parametrize("mode", ["soft", "raw", "orthonormal"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs(graph: str, mode: str):
    case = block(GRAPHS[graph](), mode=mode)
    assert_agree(case.results(), case.results(backend="reference"), TOLERANCE[torch.float64])


def star(nodes: int) -> Tensor:
    """All edges into node 0: more than one chunk would hold."""
    return torch.stack((torch.zeros(nodes, dtype=torch.int64), torch.arange(nodes)))


def separate(graphs: int, nodes: int) -> Tensor:
    """Fully connected graphs side by side."""
    pair = torch.arange(nodes * nodes)
    edges = torch.stack((pair // nodes, pair % nodes))
    edges = edges[:, edges[0] != edges[1]]
    return torch.cat([edges + nodes * k for k in range(graphs)], 1)


# The chunks of a batch are closed, those of one large graph are not: their gradients take different ways.
LARGE = {
    "batch": (200 * 7, separate(200, 7)),
    "batch of unequal graphs": (330, torch.cat((separate(1, 60), 60 + separate(30, 9)), 1)),
    "connected": (500, random_edges(500, 9000)),
    "many edges": (9000, random_edges(9000, 2**16 + 700)),
    "star": (3000, star(3000)),
    "nodes without edges": (5000, random_edges(50, 2500) * 100),
    # Chunks of the batch are closed, and the last holds nearly all nodes.
    "batch beside nodes without edges": (200 * 7 + 20_000, separate(200, 7)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_graphs(name: str):
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True)
    assert_agree(case.results(), case.results(backend="reference"), 10 * TOLERANCE[torch.float64])


def test_tables_of_nodes_are_no_larger_for_more_threads():
    """One chunk has nearly all nodes: no thread gets a table of so many."""
    nodes, edges = LARGE["batch beside nodes without edges"]
    case = block(Graph(points(nodes), edges), hidden=64)
    leaves = [leaf.detach() for leaf in case.leaves(torch.float32)]
    used = []
    for count in (1, 8):
        with threads(count):
            used.append(peak_bytes(lambda: case.run(leaves), torch.device("cpu")))
    assert used[1] < 1.5 * used[0]


@pytest.mark.parametrize("name", ["batch", "connected"])
def test_same_bits_for_every_run_and_number_of_threads(name: str):
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=20)
    found = []
    for count in (1, 2, 3, 2):
        with threads(count):
            found.append(case.results(torch.float32))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other))


def relative_errors(found: list[Tensor], exact: list[Tensor]) -> Tensor:
    return torch.stack([(value.double() - truth).norm() / truth.norm() for value, truth in zip(found, exact)])


@pytest.mark.parametrize("dtype", HALF_TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ["published ClofNet", "published EGNN", "gated"])
def test_half_precision_features(name: str, dtype: torch.dtype, unit: str):
    """No array is less accurate than that of the plain ops, and together they are more so."""
    case = block(**OPTIONS[name])
    found, exact = case.results(dtype), case.results(dtype, "reference")
    assert [value.dtype for value in found[:4]] == [dtype, torch.float32, dtype, torch.float32]
    errors = relative_errors(found, exact)
    plain = relative_errors(case.results(dtype, "reference", widen=False), exact)
    assert errors.max() < HALF_TOLERANCE[dtype]
    assert (errors <= 1.1 * plain).all()
    assert (errors / plain).mean() < 0.8


def test_half_precision_of_many_features(unit: str):
    """More columns than are rounded at a time, an odd number of them."""
    case = block(node_dim=1037, hidden=5, depth=1, coord_depth=1)
    errors = relative_errors(case.results(torch.bfloat16), case.results(torch.bfloat16, "reference"))
    assert errors.max() < HALF_TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("clamp", [0.0, -1.0, -torch.inf, torch.nan])
def test_a_clamp_that_is_not_above_zero_is_refused(clamp: float):
    case = block(clamp=clamp)
    with pytest.raises(ValueError, match=f"clamp must be a number above 0; got {clamp}"):
        case.run(case.leaves())


SINGULAR = ["unsorted_with_isolated_node", "self_loop", "coincident", "collinear_with_centroid", "at_centroid"]


def tiny(name: str, mode: str) -> Block:
    settings = {
        "hidden": 2,
        "node_dim": 1,
        "edge_dim": 1,
        "depth": 2,
        "attention": True,
        "weighted": True,
        "clamp": 9.0,
    }
    graph = GRAPHS[name]()
    # The last edges of a case are those that it is named after.
    return block(Graph(graph.pos, graph.edge_index[:, -4:]), mode=mode, **settings)


@pytest.mark.parametrize("mode", ["soft", "raw"])
@pytest.mark.parametrize("name", SINGULAR[:2])
def test_gradcheck(name: str, mode: str):
    case = tiny(name, mode)
    assert torch.autograd.gradcheck(lambda *leaves: case.run(list(leaves)), case.leaves())


def test_gradgradcheck():
    case = tiny("unsorted_with_isolated_node", "soft")
    assert torch.autograd.gradgradcheck(lambda *leaves: case.run(list(leaves)), case.leaves())


def second_derivatives(case: Block, backend: str, order: int) -> list[Tensor]:
    """Gradients of the squared norm of gradients, as often as asked."""
    leaves = case.leaves()
    scalar = sum(out.square().sum() for out in case.run(leaves, backend))
    for _ in range(order - 1):
        grads = torch.autograd.grad(scalar, leaves, create_graph=True)
        scalar = sum(grad.square().sum() for grad in grads)
    return list(torch.autograd.grad(scalar, leaves))


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("mode", ["soft", "orthonormal"])
def test_second_derivatives(name: str, mode: str):
    case = tiny(name, mode)
    assert_agree(second_derivatives(case, "cpu", 2), second_derivatives(case, "reference", 2), 1e-9)


def test_third_derivatives():
    case = tiny("unsorted_with_isolated_node", "soft")
    assert_agree(second_derivatives(case, "cpu", 3), second_derivatives(case, "reference", 3), 1e-9)


def test_second_derivative_by_one_input_alone():
    """As a force field trains: the loss holds a gradient by positions, and only weights want its gradient."""
    case = block(hidden=8)
    found = []
    for backend in ("cpu", "reference"):
        leaves = [leaf if k == 1 or k > 2 else leaf.detach() for k, leaf in enumerate(case.leaves())]
        energy = sum(out.square().sum() for out in case.run(leaves, backend))
        (force,) = torch.autograd.grad(energy, leaves[1], create_graph=True)
        force.square().sum().backward()
        found.append([leaf.grad for leaf in leaves[3:]])
    assert_agree(found[0], found[1], 1e-9)


def operators(dtype: torch.dtype = torch.float64) -> tuple[tuple, tuple]:
    """Arguments of the two operators."""
    case = tiny("unsorted_with_isolated_node", "soft")
    h, pos, edge_attr, edge_weight, *weights = case.leaves(dtype)
    constants = (case.plan.edges, case.plan.offsets, 2, 2, True, "complete", "soft", "silu", False, 9.0, "sum", "mean")
    arguments = (h, pos, edge_attr, edge_weight, weights, *constants)
    cotangents = torch.randn(7, 2, dtype=dtype, requires_grad=True), torch.randn_like(pos).requires_grad_()
    return arguments, (*cotangents, *arguments)


def test_opcheck():
    forward, backward = operators()
    torch.library.opcheck(torch.ops.clof_ext.frame_message.default, forward)
    torch.library.opcheck(torch.ops.clof_ext.frame_message_backward.default, backward)


def test_opcheck_without_optional_inputs():
    h, pos, _, _, weights, *constants = operators()[0]
    weights = [weights[0][:, :3].detach().requires_grad_(), *weights[1:]]
    torch.library.opcheck(torch.ops.clof_ext.frame_message.default, (h, pos, None, None, weights, *constants))


def test_operator_records_its_derivative_itself():
    """torch.compile and callers of the operator do not go through the public function."""
    arguments, _ = operators()
    leaves = [*arguments[:4], *arguments[4]]
    outputs = torch.ops.clof_ext.frame_message(*arguments), tiny("unsorted_with_isolated_node", "soft").run(leaves)
    found, truth = (torch.autograd.grad([message.sum(), vector.sum()], leaves) for message, vector in outputs)
    assert_agree(list(found), list(truth), 1e-11)


def test_compile_fullgraph():
    case = block(hidden=8)
    compiled = torch.compile(lambda *leaves: case.run(list(leaves), None), fullgraph=True, backend="aot_eager")
    leaves = case.leaves()
    found = compiled(*leaves)
    grads = torch.autograd.grad(found[0].square().sum() + found[1].sum(), leaves)
    expected = case.run(leaves, "reference")
    truth = torch.autograd.grad(expected[0].square().sum() + expected[1].sum(), leaves)
    assert_agree([*found, *grads], [*expected, *truth], 1e-11)


def test_strided_inputs_and_gradients():
    case = block()
    leaves = case.leaves()
    strided = [leaf.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for leaf in leaves]
    assert not strided[0].is_contiguous()
    # Sums give expanded cotangents.
    found = torch.autograd.grad([out.sum() for out in case.run(strided)], strided)
    truth = torch.autograd.grad([out.sum() for out in case.run(leaves, "reference")], leaves)
    assert_agree(list(found), list(truth), 1e-11)


def test_autocast():
    case = block(hidden=16)
    leaves = case.leaves(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        message, vector = case.run(leaves)
    assert (message.dtype, vector.dtype) == (torch.bfloat16, torch.float32)
    exact = case.run(leaves, "reference")
    assert_agree([message, vector], [out.double() for out in exact], 3e-2)


def test_no_array_of_edges_by_hidden():
    """Extra memory of a step stays far below one array (E, H), where the definition needs many."""
    nodes, edges = 400, random_edges(400, 60_000)
    case = block(Graph(points(nodes), edges), hidden=64, edge_dim=1)
    one_array = 4 * 60_000 * 64

    def step(backend: str) -> int:
        leaves = case.leaves(torch.float32)
        cotangents = [torch.ones_like(out) for out in case.run(leaves, "cpu")]
        return peak_bytes(
            lambda: torch.autograd.grad(case.run(leaves, backend), leaves, cotangents), torch.device("cpu")
        )

    assert step("cpu") < one_array
    assert step("reference") > 8 * one_array


def test_wrong_arguments_of_the_operator_are_named():
    forward, backward = operators()
    h, pos, edge_attr, edge_weight, weights, *constants = forward
    run = torch.ops.clof_ext.frame_message
    with pytest.raises(RuntimeError, match="weights must hold 10 tensors, or one less; got 3"):
        run(h, pos, edge_attr, edge_weight, weights[:3], *constants)
    with pytest.raises(RuntimeError, match=r"a tensor of weights must have shape \(2, 3\); got \(2, 4\)"):
        run(h, pos, None, edge_weight, weights, *constants)
    with pytest.raises(RuntimeError, match="h must be float64 where pos is"):
        run(h.float(), pos, edge_attr, edge_weight, weights, *constants)
    with pytest.raises(RuntimeError, match="activation must be one of 'silu'.*; got 'mish'"):
        run(h, pos, edge_attr, edge_weight, weights, *constants[:7], "mish", *constants[8:])
    with pytest.raises(RuntimeError, match=r"grad_message must have shape \(7, 2\)"):
        torch.ops.clof_ext.frame_message_backward(backward[0][:3], *backward[1:])


@pytest.mark.parametrize("name", [*OPTIONS, *UNEQUAL_WIDTHS])
def test_gpus_are_asked_about_the_widths_of_hidden_layers_alone(name: str):
    """A bias after the last Linear is no layer more."""
    case = block(**{**OPTIONS, **UNEQUAL_WIDTHS}[name])
    leaves = case.leaves()
    edge_attr = leaves[2] if case.edge_dim else None
    weights = case.weights(leaves[2 + (case.edge_dim > 0) + case.weighted :])
    size = message_size(leaves[0].dtype, edge_attr, weights["edge_mlp"], weights["coord_mlp"], True)
    assert size.equal_widths == (name in OPTIONS)
    assert (size.hidden, size.edge_dim) == (case.first or case.hidden, case.edge_dim)
