"""Replacing the layers of egnn-pytorch: those of look-alikes, and the package's own where it is installed."""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from clof_ext.nn import masked_edges
from clof_ext.nn.families import FusedForward
from tests.lookalikes import egnn_pytorch as lookalike

ITSELF = "(the model itself)"
DIM, EDGE_DIM, B, N, N_NODES, N_EDGES = 5, 2, 3, 7, 9, 30


def installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("egnn_pytorch", "einops", "torch_geometric"))


@pytest.fixture(params=["look-alike", "package"])
def source(request):
    """A module that holds both layers."""
    if request.param == "look-alike":
        return lookalike
    if not installed():
        pytest.skip("needs egnn-pytorch and PyTorch Geometric")
    return pytest.importorskip("egnn_pytorch")


DENSE = {
    "as it is": {},
    "sinusoids": {"fourier_features": 3},
    "edges": {"edge_dim": EDGE_DIM},
    "edges, sinusoids, soft": {"edge_dim": EDGE_DIM, "fourier_features": 2, "soft_edges": True},
    "normed features": {"norm_feats": True},
    "normed positions": {"norm_coors": True},
    "means": {"m_pool_method": "mean"},
    "nearest": {"num_nearest_neighbors": 3},
    "within a radius": {"num_nearest_neighbors": 5, "valid_radius": 3.0, "m_pool_method": "mean"},
    "nearest, edges": {"num_nearest_neighbors": 3, "edge_dim": EDGE_DIM, "fourier_features": 1},
    "adjacent": {"only_sparse_neighbors": True},
    "positions alone": {"update_feats": False},
    "features alone": {"update_coors": False},
    "wide messages": {"m_dim": 40},
}
SPARSE = {
    "as it is": {},
    "edges, sinusoids": {"fourier_features": 2, "edge_attr_dim": EDGE_DIM},
    "means": {"aggr": "mean"},
    "normed features": {"norm_feats": True},
    "normed positions": {"norm_coors": True},
    "positions alone": {"update_feats": False},
    "features alone": {"update_coors": False},
}


def randomized(layer: nn.Module) -> nn.Module:
    """In float64, with weights of order one."""
    torch.manual_seed(1)
    for parameter in layer.double().parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return layer


def dense_batch(options: dict, *, masked: bool = False, adjacent: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(2)
    values = {"feats": torch.randn(B, N, DIM).double(), "coors": torch.randn(B, N, 3).double()}
    if options.get("edge_dim"):
        values["edges"] = torch.randn(B, N, N, EDGE_DIM).double()
    if masked:
        # The last graph has a single node.
        values["mask"] = torch.arange(N) < torch.tensor([[N], [4], [1]])
    if adjacent:
        near = torch.rand(N, N) > 0.6
        values["adj_mat"] = near | near.T
    return values


def sparse_batch(options: dict, pos_dim: int = 3) -> dict[str, Tensor]:
    """The last node has no edges, and one edge leads to itself."""
    torch.manual_seed(2)
    edges = torch.randint(0, N_NODES - 1, (2, N_EDGES))
    edges[:, 0] = 2
    values = {"x": torch.randn(N_NODES, pos_dim + DIM).double(), "edge_index": edges}
    if options.get("edge_attr_dim"):
        values["edge_attr"] = torch.randn(N_EDGES, EDGE_DIM).double()
    return values | {"batch": torch.zeros(N_NODES, dtype=torch.int64)}


def results(layer, values: dict[str, Tensor]) -> list[Tensor]:
    """Outputs, and all gradients of a combination of them."""
    values = {
        name: value.clone().requires_grad_() if value.is_floating_point() else value for name, value in values.items()
    }
    returned = layer(**values)
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    loss = sum((out * torch.linspace(0.5, 2, out.numel()).view_as(out)).sum() for out in outputs)
    wanted = [value for value in values.values() if value.requires_grad]
    wanted += layer.parameters() if isinstance(layer, nn.Module) else []
    return [*outputs, *torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)]


def assert_same(actual: list[Tensor], expected: list[Tensor], tolerance: float = 1e-11) -> None:
    assert any(value.abs().max() > 1e-3 for value in expected)
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


def tolerance_of(options: dict) -> float:
    """The published gradient of |d| / max(|d|, 1e-8) adds and subtracts 1e8 for a node's pair with itself."""
    return 1e-6 if options.get("norm_coors") else 1e-11


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("adjacent", [False, True])
@pytest.mark.parametrize("options", DENSE.values(), ids=DENSE)
def test_dense_layer(source, options, masked, adjacent):
    if options.get("only_sparse_neighbors") and not adjacent:
        pytest.skip("it has no neighbours without a matrix")
    layer, values = randomized(source.EGNN(DIM, **options)), dense_batch(options, masked=masked, adjacent=adjacent)
    expected = results(layer, values)
    assert clof_ext.replace_layers(layer).replaced == {ITSELF: "EGNN"}
    assert_same(results(layer, values), expected, tolerance_of(options))
    clof_ext.restore_layers(layer)
    assert all(torch.equal(a, b) for a, b in zip(results(layer, values), expected, strict=True))


@pytest.mark.parametrize("options", SPARSE.values(), ids=SPARSE)
def test_sparse_layer(source, options):
    layer, values = randomized(source.EGNN_Sparse(DIM, **options)), sparse_batch(options)
    expected = results(layer, values)
    assert clof_ext.replace_layers(layer).replaced == {ITSELF: "EGNN_Sparse"}
    assert_same(results(layer, values), expected, tolerance_of(options))


def test_look_alike_is_the_package():
    """With the same weights, so that the tests of the look-alike say something about the package."""
    if not installed():
        pytest.skip("needs egnn-pytorch and PyTorch Geometric")
    import egnn_pytorch as package

    options = DENSE["within a radius"]
    values = dense_batch(options, masked=True, adjacent=True)
    pairs = [(module.EGNN(DIM, **options), values) for module in (package, lookalike)]
    pairs += [(module.EGNN_Sparse(DIM, **SPARSE["means"]), sparse_batch({})) for module in (package, lookalike)]
    found = [results(randomized(layer), values) for layer, values in pairs]
    assert_same(found[0], found[1])
    assert_same(found[2], found[3])


def test_pairs_of_a_mask_are_found_once_and_again_after_a_change(source, monkeypatch):
    layer, values, found = randomized(source.EGNN(DIM)), dense_batch({}, masked=True), []
    clof_ext.replace_layers(layer)
    choose = masked_edges._choose
    monkeypatch.setattr(masked_edges, "_choose", lambda *arguments: found.append(1) or choose(*arguments))
    layer(**values)
    layer(**values)
    assert found == [1]
    values["mask"][0, -1] = False
    assert_same(results(layer, values), results(randomized(source.EGNN(DIM)), values))


def test_network_of_the_package():
    """Unmodified, with tokens, degrees of adjacency and global attention; verified on the way."""
    if not installed():
        pytest.skip("needs egnn-pytorch and PyTorch Geometric")
    import egnn_pytorch

    torch.manual_seed(0)
    network = egnn_pytorch.EGNN_Network(
        num_tokens=4, num_positions=N, dim=8, depth=3, num_nearest_neighbors=4, edge_dim=EDGE_DIM, num_adj_degrees=2,
        adj_dim=3, global_linear_attn_every=2, coor_weights_clamp_value=None,
    )  # fmt: skip
    values = dense_batch({}, masked=True, adjacent=True)
    tokens, coors = torch.randint(0, 4, (B, N)), values["coors"].float()
    edges = torch.randn(B, N, N, EDGE_DIM)
    batch = {"feats": tokens, "coors": coors, "adj_mat": values["adj_mat"], "edges": edges, "mask": values["mask"]}
    report = clof_ext.replace_layers(network, verify=batch)
    assert set(report.replaced) == {f"layers.{k}.1" for k in range(3)} and not report.left
    assert report.verified.outputs < 1e-5


@pytest.mark.parametrize("name", ["as it is", "edges, sinusoids, soft", "nearest"])
def test_compiled_whole_with_dynamic_sizes(name):
    options = DENSE[name]
    layer = randomized(lookalike.EGNN(DIM, **options))
    values = [dense_batch(options, masked=True)]
    values.append({key: torch.cat((value, value.flip(0)))[1:] for key, value in values[0].items()})
    expected = [results(layer, batch) for batch in values]
    clof_ext.replace_layers(layer)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, wanted in zip(values, expected, strict=True):
        assert_same(results(compiled, batch), wanted)


def test_half_precision():
    """Features in bfloat16 beside positions in float32, and all of it."""
    options = {"norm_feats": True, "soft_edges": True, "fourier_features": 1, "m_pool_method": "mean"}
    layer = randomized(lookalike.EGNN(DIM, **options)).float()
    values = {
        name: value.float() if value.is_floating_point() else value
        for name, value in dense_batch({}, masked=True).items()
    }
    exact = layer(**values)
    clof_ext.replace_layers(layer)
    with torch.autocast("cpu", torch.bfloat16):
        for value, wanted in zip(layer(**values), exact, strict=True):
            torch.testing.assert_close(value.float(), wanted, rtol=0.1, atol=0.1)
    halves = {name: value.bfloat16() if value.is_floating_point() else value for name, value in values.items()}
    for value, wanted in zip(layer.bfloat16()(**halves), exact, strict=True):
        assert value.dtype == torch.bfloat16
        torch.testing.assert_close(value.float(), wanted, rtol=0.2, atol=0.2)


def test_second_derivatives():
    """Forces are often a gradient, and are trained on."""
    layer, values = randomized(lookalike.EGNN(DIM, soft_edges=True)), dense_batch({}, masked=True)

    def trained() -> list[Tensor]:
        coors = values["coors"].clone().requires_grad_()
        feats, moved = layer(**{**values, "coors": coors})
        (force,) = torch.autograd.grad(feats.sum() + moved.square().sum(), coors, create_graph=True)
        wanted = [coors, *layer.parameters()]
        return list(torch.autograd.grad(force.square().sum(), wanted, allow_unused=True, materialize_grads=True))

    expected = trained()
    clof_ext.replace_layers(layer)
    assert_same(trained(), expected, 1e-9)


def test_other_calls_run_the_own_forward(source):
    """Positions in a plane, and no matrix where only adjacent nodes are neighbours."""
    flat, values = randomized(source.EGNN(DIM)), dense_batch({})
    values["coors"] = values["coors"][..., :2]
    alone, given = randomized(source.EGNN(DIM, only_sparse_neighbors=True)), dense_batch({})
    sparse, plane = randomized(source.EGNN_Sparse(DIM, pos_dim=2)), sparse_batch({}, pos_dim=2)
    for layer, batch in ((flat, values), (alone, given)):
        expected = results(layer, batch)
        assert clof_ext.replace_layers(layer).replaced
        assert all(torch.equal(a, b) for a, b in zip(results(layer, batch), expected, strict=True))
    assert "fails on a trial graph" in clof_ext.replace_layers(sparse).left[ITSELF]
    assert torch.isfinite(sparse(**plane)).all()


def test_hooks_that_come_later_are_called():
    layer, values, seen = randomized(lookalike.EGNN(DIM)), dense_batch({}), []
    expected = results(layer, values)
    clof_ext.replace_layers(layer)
    layer.coors_mlp.register_forward_hook(lambda *_: seen.append(1))
    assert_same(results(layer, values), expected)
    assert seen == [1]


def test_patched_before_construction(source):
    with clof_ext.patch(source) as report:
        layer = source.EGNN(DIM)
    assert report.replaced == {"EGNN 0": "EGNN"}
    assert isinstance(layer.forward, FusedForward)


class Doubled(lookalike.EGNN):
    def forward(self, *values):
        feats, coors = super().forward(*values)
        return 2 * feats, coors


def named(kind: type, *arguments) -> nn.Module:
    return type("EGNN", (kind,), {})(*arguments)


LEFT = {
    "bounded weights": (lambda: lookalike.EGNN(DIM, coor_weights_clamp_value=0.1), "bounds the weight of each pair"),
    "dropout": (lambda: lookalike.EGNN(DIM, dropout=0.1), "it has dropout inside"),
    "other features": (lambda: named(Doubled, DIM), "its new features differ"),
    "derived": (lambda: Doubled(DIM), "its class Doubled is derived from a published one"),
    "soft edges": (lambda: lookalike.EGNN_Sparse(DIM, soft_edge=1), "weight messages and not positions"),
    "maximum": (lambda: lookalike.EGNN_Sparse(DIM, aggr="max"), "its aggr is 'max'"),
}


@pytest.mark.parametrize(("make", "reason"), LEFT.values(), ids=LEFT)
def test_left_with_a_reason(make, reason):
    report = clof_ext.replace_layers(make())
    assert not report.replaced
    assert reason in report.left[ITSELF]


def test_networks_of_that_name_are_no_candidates():
    """EGNN is also what other programs call their networks."""
    from benchmarks import diffusion

    report = clof_ext.replace_layers(diffusion.EGNN(4, 8, 1))
    assert set(report.replaced) == {"e_block_0"} and not report.left
