"""The score network against the published arrays, and its parts against plain forms of themselves."""

import contextlib
import math
import re
from pathlib import Path

import pytest
import torch

from benchmarks.published_score import EquiDistanceScoreMatch
from clof_ext import _backends, backend
from clof_ext.conformation import neighbourhoods as near_module
from clof_ext.conformation.directed import directed, pair_product
from clof_ext.conformation.edge_attention import edge_attention, edge_product
from clof_ext.conformation.neighbourhoods import neighbourhoods
from clof_ext.conformation.noise import noise_levels
from clof_ext.conformation.score_network import ScoreNetwork
from clof_ext.conformation.waves import Waves
from tests.golden_cases import GRADIENT_FACTOR, STORAGE_ROUNDING, assert_close, load

needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
HIDDEN = 64
# The gradient of the key's bias is 0 in theory: compared absolutely.
ZERO_GRADIENT = "MHA.lin_key.bias"


def golden_score(dtype: torch.dtype):
    case = load("confgen_score")
    network = ScoreNetwork(HIDDEN).to(dtype).eval()
    network.load_state_dict(case.group("state", dtype))
    inputs = case.group("in", dtype)
    pos = inputs["pert_pos"].requires_grad_()
    score = network.score(pos, *(inputs[name] for name in ("atom_type", "edge_index", "edge_type", "sigma")))
    return case, network, pos, score


@pytest.fixture(params=["table", "plain"])
def backend_used(request):
    """What the table of backends gives, and what serves devices without kernels."""
    with contextlib.nullcontext() if request.param == "table" else backend("reference"):
        yield


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_published_weights_give_the_published_score_and_gradients(dtype, backend_used):
    case, network, pos, score = golden_score(dtype)
    tolerance = case.tolerance(dtype)
    assert_close(score, case.group("out", torch.float64)["score"], tolerance, "score")
    score.backward(case.group("cotangent", dtype)["score"])
    parameters = dict(network.named_parameters())
    for name, gradient in case.group("grad", torch.float64).items():
        actual = pos.grad if name == "input.pert_pos" else parameters[name].grad
        if name.endswith(ZERO_GRADIENT):
            assert actual.abs().max() < GRADIENT_FACTOR * tolerance
        else:
            assert_close(actual, gradient, GRADIENT_FACTOR * tolerance + STORAGE_ROUNDING, f"gradient of {name}")


def small_batch(n_graphs: int = 40, *, seed: int = 0):
    """Random sparse graphs, directed, with atoms of no edges, and more edges than a table has rows."""
    generator = torch.Generator().manual_seed(seed)
    size = 12
    n_nodes = size * n_graphs
    source, target = torch.randint(size, (2, 30 * n_graphs), generator=generator)
    graph = torch.arange(n_graphs).repeat_interleave(30) * size
    # The first atom of each graph only sends.
    edge_index = torch.stack((source, target.clamp_min(1))) + graph
    edge_type = torch.randint(1, 25, (edge_index.shape[1],), generator=generator)
    atom_type = torch.randint(1, 10, (n_nodes,), generator=generator)
    sigma = torch.rand(n_nodes, 1, generator=generator, dtype=torch.float64) + 0.1
    pos = torch.randn(n_nodes, 3, generator=generator, dtype=torch.float64)
    return pos, atom_type, edge_index, edge_type, sigma


def test_directed_graphs_and_lone_atoms_agree_with_the_plain_program(backend_used):
    torch.manual_seed(0)
    batch = small_batch()
    network = ScoreNetwork(32).double().eval()
    plain = EquiDistanceScoreMatch(32, sigmas=network.sigmas.data).double().eval()
    plain.load_state_dict(network.state_dict())
    assert_close(network.score(*batch), plain.score(*batch), 1e-9, "score")


def test_rotated_positions_give_the_rotated_score():
    torch.manual_seed(0)
    network = ScoreNetwork(32).double().eval()
    pos, *rest = small_batch()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    rotation *= rotation.det().sign()
    score = network.score(pos, *rest)
    assert_close(network.score(pos @ rotation.T, *rest), score @ rotation.T, 1e-9, "rotated score")
    reflected = network.score(-pos, *rest)
    assert (reflected + score).abs().max() > 1e-3 * score.abs().max(), "a reflection should be seen"


def test_renumbered_atoms_give_the_renumbered_score():
    torch.manual_seed(0)
    network = ScoreNetwork(32).double().eval()
    pos, atom_type, edge_index, edge_type, sigma = small_batch(4)
    order = torch.randperm(len(pos))
    place = order.argsort()
    score = network.score(pos, atom_type, edge_index, edge_type, sigma)
    renumbered = network.score(pos[order], atom_type[order], place[edge_index], edge_type, sigma[order])
    assert_close(renumbered, score[order], 1e-9, "renumbered score")


@pytest.mark.parametrize("n_arguments", [5, 3000])
def test_mapped_waves_are_products_with_their_features(n_arguments: int):
    torch.manual_seed(0)
    waves = Waves(20).double()
    u = (torch.randn(2, n_arguments, dtype=torch.float64) * 3).requires_grad_()
    weights = torch.randn(2, 7, 40, dtype=torch.float64)
    expected = waves(u[0]) @ weights[0].T + waves(u[1]) @ weights[1].T
    actual = waves.mapped(u.unbind(0), weights.unbind(0))
    assert_close(actual, expected, 1e-11, "mapped waves")
    cotangent = torch.randn_like(expected)
    gradients = [torch.autograd.grad(value, u, cotangent)[0] for value in (actual, expected)]
    assert_close(*gradients, 1e-10, "derivative by the arguments")


def test_waves_of_no_number_are_no_number():
    u = torch.zeros(3000)
    u[7] = torch.nan
    mapped = Waves(4).mapped((u,), (torch.ones(2, 8),))
    assert mapped[7].isnan().all() and mapped[8].isfinite().all()


def attention_inputs(monkeypatch):
    """Small operands in float64, and groups of which some are split."""
    monkeypatch.setattr(near_module, "GROUP_EDGES", 6)
    torch.manual_seed(0)
    _, _, edge_index, _, _ = small_batch(2)
    near = neighbourhoods(edge_index, 24)
    heads, width = 2, 3
    slots = len(near.source)
    assert slots > edge_index.shape[1], "there should be ghosts"
    sizes = ((24, heads, width), (24, 6), (slots, 6), (heads, width, 12), (heads, width, 12))
    return near, [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]


def test_neighbourhoods_hold_every_edge_once(monkeypatch):
    monkeypatch.setattr(near_module, "GROUP_EDGES", 6)
    _, _, edge_index, _, _ = small_batch(3)
    near = neighbourhoods(edge_index, 36)
    real = ~near.ghost
    held = torch.stack((near.node_order[near.source], near.node_order[near.target]))[:, real]
    assert torch.equal(held, edge_index[:, near.edge_order[real]])
    assert torch.equal(near.edge_order[real].sort().values, torch.arange(90))
    assert torch.equal(near.source[near.ghost], near.target[near.ghost])
    degree = edge_index[1].bincount(minlength=36)[near.node_order]
    for group in near.groups:
        nodes = torch.arange(36)[group.nodes]
        assert torch.equal(near.target[group.edges], nodes.repeat_interleave(group.degree))
        assert 1 <= degree[nodes].min() <= degree[nodes].max() <= group.degree
    assert sum(len(torch.arange(36)[group.nodes]) for group in near.groups) == (degree > 0).sum()
    assert neighbourhoods(edge_index, 36) is near


def test_a_graph_without_edges_has_no_groups():
    near = neighbourhoods(torch.zeros(2, 0, dtype=torch.int64), 3)
    assert near.groups == () and len(near.source) == 0


def plain_attention(query, h, edge, in_weight, out_weight, near, keep):
    ends = torch.cat((h[near.source], edge), 1)
    key, value = torch.einsum("kdc,ec->ekd", in_weight, ends), torch.einsum("kdc,ec->ekd", out_weight, ends)
    score = (query[near.target] * key).sum(2) / math.sqrt(query.shape[2])
    exponential = score.exp().masked_fill(near.ghost[:, None], 0)
    total = torch.zeros_like(query[..., 0]).index_add(0, near.target, exponential)
    weight = exponential / total[near.target] * (1 if keep is None else keep)
    out = torch.zeros_like(query).index_add(0, near.target, weight[..., None] * value)
    return out, torch.zeros_like(query[..., 0]).index_add(0, near.target, weight)


@pytest.mark.parametrize("dropout", [False, True])
def test_attention_agrees_with_its_definition(dropout: bool, monkeypatch):
    near, operands = attention_inputs(monkeypatch)
    keep = torch.rand(len(near.source), 2, dtype=torch.float64) if dropout else None
    results = [attention(*operands, near, keep) for attention in (edge_attention, plain_attention)]
    cotangents = [torch.randn_like(value) for value in results[0]]
    gradients = [torch.autograd.grad(pair, operands, cotangents) for pair in results]
    for actual, expected in zip((*results[0], *gradients[0]), (*results[1], *gradients[1]), strict=True):
        assert_close(actual, expected, 1e-12, "attention")


@pytest.mark.parametrize("pairs", [False, True])
def test_edge_product_agrees_with_its_definition(pairs: bool, monkeypatch):
    near, (_, h, edge, *_) = attention_inputs(monkeypatch)
    weight, bias = (torch.randn(size, dtype=torch.float64) for size in ((5, 12), (5,)))
    # From 20 on torch's softplus is linear, and its derivative 1.
    bias[0] = 25
    weight[0] *= 0.1
    weight.requires_grad_()
    bias.requires_grad_()
    if pairs:
        edges = directed(torch.stack((near.source, near.target)), len(h))
        actual = pair_product(h, weight[:, :6], torch.nn.functional.linear(edge, weight[:, 6:], bias), edges)
    else:
        actual = edge_product(h, edge, weight, bias, near)
    plain = torch.cat((h[near.source] * h[near.target], edge), 1) @ weight.T + bias
    assert plain[:, 0].min() > 20
    expected = torch.nn.functional.softplus(plain)
    assert_close(actual, expected, 1e-12, "edge product")
    cotangent = torch.randn_like(expected)
    gradients = [torch.autograd.grad(value, (h, edge, weight, bias), cotangent) for value in (actual, expected)]
    for one, two in zip(*gradients, strict=True):
        assert_close(one, two, 1e-12, "gradient of the edge product")


def test_an_edge_and_the_edge_back_are_a_pair():
    _, _, edge_index, _, _ = small_batch(3)
    edges = directed(edge_index, 36)
    assert torch.equal(torch.stack((edges.source, edges.target)), edge_index)
    ends = torch.stack((edges.low, edges.high))
    assert torch.equal(ends[:, edges.pair], edge_index.sort(0).values)
    assert ends.unique(dim=1).shape == ends.shape
    assert directed(edge_index, 36) is edges


def test_dropout_is_random_in_training_and_keeps_the_mean():
    torch.manual_seed(0)
    network, batch = ScoreNetwork(32).double(), small_batch(4)
    with torch.no_grad():
        exact = network.eval().score(*batch)
        network.train()
        scores = torch.stack([network.score(*batch) for _ in range(60)])
    assert not torch.equal(scores[0], scores[1])
    assert (scores.mean(0) - exact).norm() < 0.3 * exact.norm()


@needs_binary
def test_under_autocast_scores_and_gradients_stay_close():
    torch.manual_seed(0)
    pos, atom_type, edge_index, edge_type, sigma = small_batch(40)
    network = ScoreNetwork(32).eval()
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            score = network.score(pos.float(), atom_type, edge_index, edge_type, sigma.float())
        score.square().mean().backward()
        gradients.append(network.model.dynamic_mlp_modules[0][0].weight.grad.clone())
    exact, found = gradients
    assert 0 < (found - exact).norm() < 0.1 * exact.norm()


def test_the_page_on_conformations_runs(monkeypatch):
    root = Path(__file__).parent.parent.parent
    monkeypatch.chdir(root)
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs/conformations.md").read_text(), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block.replace("range(128)", "range(3)"), names)
    assert names["score"].shape == (names["batch"].num_nodes, 3)


def test_wrong_arguments_are_named():
    network = ScoreNetwork(32)
    pos, atom_type, edge_index, edge_type, sigma = small_batch(1)
    pos, sigma = pos.float(), sigma.float()
    with pytest.raises(ValueError, match="sigma must have one number for each atom, 12"):
        network.score(pos, atom_type, edge_index, edge_type, sigma[:5])
    with pytest.raises(ValueError, match="edge_index must hold numbers from 0 to 11; got 99"):
        network.score(pos, atom_type, torch.full_like(edge_index, 99), edge_type, sigma)
    with pytest.raises(ValueError, match="edge_type must have shape"):
        network.score(pos, atom_type, edge_index, edge_type[:-1], sigma)
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads, 8; got 12"):
        ScoreNetwork(12)


def test_levels_of_noise_are_the_caller_s_and_come_with_weights():
    assert torch.equal(ScoreNetwork(16).sigmas, noise_levels())
    sigmas = noise_levels(5.0, 0.1, 7)
    published = ScoreNetwork(16, sigmas=sigmas).state_dict()
    assert torch.equal(published["sigmas"], sigmas)
    network = ScoreNetwork(16).double()
    network.load_state_dict(published)
    assert torch.equal(network.sigmas, sigmas.double()) and not network.sigmas.requires_grad
    assert published["sigmas"].data_ptr() != network.sigmas.data_ptr()


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.0], [[2.0, 1.0]]])
def test_wrong_levels_of_noise_are_named(sigmas):
    with pytest.raises(ValueError, match="sigmas must be two or more falling positive numbers; got "):
        ScoreNetwork(16, sigmas=torch.tensor(sigmas))
