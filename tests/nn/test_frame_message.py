"""The definition of the fused edge block: against the formula written out per edge, derivatives, dtypes, errors."""

import itertools
import math

import pytest
import torch
from torch import nn

from clof_ext import ops, prepare_graph
from clof_ext.nn.activation import MODULES
from clof_ext.nn.mlp import linear_tensors

N, F, H, D = 6, 4, 5, 3
# Receiver, sender: unsorted, node 5 without edges, a self-loop (0, 0), a duplicate (1, 2).
EDGES = ((1, 0, 3, 1, 2, 1, 0, 4, 3), (2, 1, 0, 2, 4, 0, 0, 3, 1))
OPTIONS = {
    "published ClofNet": {},
    "published EGNN": {"basis": "radial", "mode": "raw", "depth": 2},
    "gated": {"attention": True, "depth": 2},
    "bounded coefficients": {"tanh": True, "mode": "raw"},
    "orthonormal": {"mode": "orthonormal"},
    "radial orthonormal": {"basis": "radial", "mode": "orthonormal"},
    "clamped": {"mode": "raw", "clamp": 0.05},
    "weighted edges": {"weighted": True},
    "mean of messages, sum of vectors": {"message_reduce": "mean", "vector_reduce": "sum"},
    "shallow": {"depth": 1, "coord_depth": 1},
    "last bias": {"last_bias": True},
    "no edge features": {"edge_dim": 0},
    **{f"activation {name}": {"activation": name, "depth": 2} for name in MODULES},
}


class Block:
    """Inputs and weights of one setting of the op."""

    def __init__(
        self, *, depth=3, coord_depth=2, attention=False, last_bias=False, edge_dim=D, weighted=False, **options
    ) -> None:
        torch.manual_seed(0)
        self.options = {"clamp": 100.0, **options}
        self.activation = MODULES[options.get("activation", "silu")]()
        n_out = 1 if options.get("basis") == "radial" else 3
        sizes = [2 * F + 1 + edge_dim] + [H] * depth
        self.edge_layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.att_layers = [nn.Linear(H, 1)] if attention else []
        self.coord_layers = [nn.Linear(H, H) for _ in range(coord_depth - 1)] + [nn.Linear(H, n_out, bias=last_bias)]
        for layer in self.edge_layers + self.att_layers + self.coord_layers:
            layer.double()
        self.h, self.pos = torch.randn(N, F).double(), torch.randn(N, 3).double()
        self.edge_index = torch.tensor(EDGES)
        self.edge_attr = torch.randn(len(EDGES[0]), edge_dim).double() if edge_dim else None
        self.edge_weight = torch.rand(len(EDGES[0])).double() if weighted else None

    def weights(self) -> dict:
        layers = {"edge_mlp": self.edge_layers, "att_mlp": self.att_layers, "coord_mlp": self.coord_layers}
        return {name: linear_tensors(nn.Sequential(*linears)) for name, linears in layers.items()}

    def run(self, **changes):
        arguments = (self.h, self.pos, self.edge_index, self.edge_attr)
        named = {"edge_weight": self.edge_weight, **self.weights(), **self.options, **changes}
        return ops.frame_message(*arguments, **named, backend="reference")

    def written_out(self):
        """The docstring's formula, an edge at a time."""
        options = {"basis": "complete", "mode": "soft", "message_reduce": "sum", "vector_reduce": "mean"} | self.options
        frames = ops.edge_frame(self.pos, self.edge_index, mode=options["mode"])
        messages, vectors, counts = torch.zeros(N, H).double(), torch.zeros(N, 3).double(), torch.zeros(N, 1).double()
        for e, (i, j) in enumerate(zip(*EDGES)):
            r = (self.pos[i] - self.pos[j]).square().sum().reshape(1)
            m = torch.cat([self.h[i], self.h[j], r] + ([] if self.edge_attr is None else [self.edge_attr[e]]))
            for layer in self.edge_layers:
                m = self.activation(layer(m))
            for layer in self.att_layers:
                m = m * layer(m).sigmoid()
            q = m
            for layer in self.coord_layers[:-1]:
                q = self.activation(layer(q))
            q = self.coord_layers[-1](q)
            q = q.tanh() if options.get("tanh") else q
            basis = frames[e] if options["basis"] == "complete" else frames[e, :1]
            t = (q @ basis).clamp(-options["clamp"], options["clamp"])
            w = 1.0 if self.edge_weight is None else self.edge_weight[e]
            messages[i], vectors[i], counts[i] = messages[i] + w * m, vectors[i] + w * t, counts[i] + 1
        n = counts.clamp(min=1)
        return (
            messages / n if options["message_reduce"] == "mean" else messages,
            vectors / n if options["vector_reduce"] == "mean" else vectors,
        )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_formula(options):
    block = Block(**options)
    for actual, expected in zip(block.run(), block.written_out(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_clamp_is_reached():
    block = Block(mode="raw", clamp=0.05, vector_reduce="sum")
    free = block.run(clamp=math.inf)[1]
    assert free.abs().max() > 0.5
    assert block.run()[1].abs().max() <= 0.05 * len(EDGES[0])


@pytest.mark.parametrize("tensor", ["h", "pos", "edge_attr", "edge_weight", "weights"])
@pytest.mark.parametrize("basis", ["complete", "radial"])
def test_first_and_second_derivatives(basis, tensor):
    """On singular edges too: a self-loop, coincident nodes, and nodes on a line through the origin."""
    block = Block(basis=basis, attention=True, weighted=True, tanh=True)
    block.pos[2] = block.pos[1]
    block.pos[4] = 2 * block.pos[3]
    named = block.weights()
    if tensor == "weights":
        names = [(key, k) for key, tensors in named.items() for k in range(len(tensors))]
        leaves = [named[key][k].detach().requires_grad_() for key, k in names]
    else:
        leaves = [getattr(block, tensor).requires_grad_()]

    def run(*values):
        if tensor != "weights":
            setattr(block, tensor, values[0])
            return block.run()
        changed = {key: list(tensors) for key, tensors in named.items()}
        for (key, k), value in zip(names, values, strict=True):
            changed[key][k] = value
        return block.run(**changed)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def test_weight_zero_masks_an_edge():
    block = Block(message_reduce="sum", vector_reduce="sum")
    block.edge_weight = torch.ones(len(EDGES[0])).double()
    block.edge_weight[-1] = 0
    masked = block.run()
    block.edge_index, block.edge_attr, block.edge_weight = block.edge_index[:, :-1], block.edge_attr[:-1], None
    for actual, expected in zip(masked, block.run(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_no_edges():
    block = Block()
    block.edge_index, block.edge_attr = torch.empty(2, 0, dtype=torch.long), torch.empty(0, D).double()
    message, vector = block.run()
    assert message.shape == (N, H)
    assert not message.any()
    assert vector.shape == (N, 3)
    assert not vector.any()


def test_takes_a_plan():
    block = Block()
    expected = block.run()
    block.edge_index = prepare_graph(block.edge_index, N)
    for actual, value in zip(block.run(), expected, strict=True):
        assert torch.equal(actual, value)


def narrow(block: Block, dtype: torch.dtype) -> dict:
    """The block's features and weights in another dtype, its positions in float32."""
    block.h, block.edge_attr = block.h.to(dtype), block.edge_attr.to(dtype)
    block.pos = block.pos.float()
    return {key: [tensor.to(dtype) for tensor in tensors] for key, tensors in block.weights().items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features(dtype):
    block = Block()
    expected = block.run()
    message, vector = block.run(**narrow(block, dtype))
    assert (message.dtype, vector.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(message.double(), expected[0], rtol=0.05, atol=0.02)
    torch.testing.assert_close(vector.double(), expected[1], rtol=0.05, atol=0.02)


def test_autocast_casts_features_but_not_positions():
    block = Block()
    halves = narrow(block, torch.bfloat16)
    expected = block.run(**halves)
    singles = narrow(block, torch.float32)
    singles = {key: [tensor.bfloat16().float() for tensor in tensors] for key, tensors in singles.items()}
    with torch.autocast("cpu", torch.bfloat16):
        actual = block.run(**singles)
    for value, wanted in zip(actual, expected, strict=True):
        assert value.dtype == wanted.dtype
        assert torch.equal(value, wanted)


def test_autocast_leaves_float64_alone():
    block = Block()
    expected = block.run()
    with torch.autocast("cpu", torch.bfloat16):
        actual = block.run()
    for value, wanted in zip(actual, expected, strict=True):
        assert torch.equal(value, wanted)


def wrong(name: str, change) -> dict:
    """A weight list with one tensor changed."""
    return {name: change(Block().weights()[name])}


ERRORS = {
    "basis": ({"basis": "full"}, ValueError, "basis must be one of 'complete', 'radial'; got 'full'"),
    "mode": ({"mode": "hard"}, ValueError, "mode must be one of"),
    "activation": ({"activation": "mish"}, ValueError, "activation must be one of 'silu'"),
    "clamp": ({"clamp": 0.0}, ValueError, "clamp must be a number above 0; got 0.0"),
    "message_reduce": ({"message_reduce": "max"}, ValueError, "message_reduce must be one of"),
    "vector_reduce": ({"vector_reduce": "max"}, ValueError, "vector_reduce must be one of"),
    "too deep": (wrong("edge_mlp", lambda w: w + w[-2:]), ValueError, "1 to 3 Linears; got 8 tensors"),
    "no bias": (wrong("edge_mlp", lambda w: w[:-1]), ValueError, "edge_mlp must be the weight and bias"),
    "columns": (
        wrong("edge_mlp", lambda w: [w[0][:, 1:], *w[1:]]),
        ValueError,
        r"edge_mlp\[0\] weight must have shape \(H, 12\); got \(5, 11\)",
    ),
    "bias": (
        wrong("edge_mlp", lambda w: [w[0], w[1][:2], *w[2:]]),
        ValueError,
        r"edge_mlp\[0\] bias must have shape \(5\); got \(2,\)",
    ),
    "hidden": (wrong("edge_mlp", lambda w: [*w[:2], w[2][:, :2], w[3]]), ValueError, r"edge_mlp\[1\] weight"),
    "narrow messages": (
        wrong("edge_mlp", lambda w: [*w[:2], w[2][:2], w[3][:2]]),
        ValueError,
        r"coord_mlp\[0\] weight must have shape \(C, 2\)",
    ),
    "att_mlp": ({"att_mlp": [torch.ones(1, H).double()]}, ValueError, "att_mlp must be .* got 1 tensors"),
    "att_mlp shape": (
        {"att_mlp": [torch.ones(2, H).double(), torch.ones(2).double()]},
        ValueError,
        r"att_mlp\[0\] weight must have shape \(1, 5\)",
    ),
    "coord_mlp": (wrong("coord_mlp", lambda w: []), ValueError, "coord_mlp must be .* got 0 tensors"),
    "outputs": ({"basis": "radial"}, ValueError, r"coord_mlp\[1\] weight must have shape \(1, 5\); got \(3, 5\)"),
    "weight dtype": (
        wrong("coord_mlp", lambda w: [value.float() for value in w]),
        TypeError,
        r"coord_mlp\[0\] weight must be float64 like h; got float32",
    ),
    "edge_weight": ({"edge_weight": torch.ones(2).double()}, ValueError, r"edge_weight must have shape \(9\); got"),
}


@pytest.mark.parametrize(("change", "error", "sentence"), ERRORS.values(), ids=ERRORS)
def test_errors(change, error, sentence):
    with pytest.raises(error, match=sentence):
        Block().run(**change)


def test_errors_of_inputs():
    block = Block()
    block.h = block.h[:-1]
    with pytest.raises(ValueError, match=r"h must have shape \(6, F\); got \(5, 4\)"):
        block.run()
    block = Block()
    block.edge_attr = block.edge_attr.float()
    with pytest.raises(TypeError, match="edge_attr must be float64 like h; got float32"):
        block.run()
