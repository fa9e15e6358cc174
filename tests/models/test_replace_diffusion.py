"""Replacing the blocks of E(3) Equivariant Diffusion and its descendants."""

import gc
import inspect

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from benchmarks import diffusion as edm
from clof_ext.nn import masked_edges
from clof_ext.nn.families import FusedForward
from tests.lookalikes import difflinker, diffsbdd

F, H, N_GRAPHS, N_NODES = 4, 6, 3, 4
N = N_GRAPHS * N_NODES


def network(kind=edm, **options) -> nn.Module:
    torch.manual_seed(0)
    made = kind.EGNN(F, H, 2, **options).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return made


def dense_edges() -> list[Tensor]:
    """All pairs of every graph, self-loops included, as the programs make them."""
    nodes = torch.arange(N).view(N_GRAPHS, N_NODES)
    rows, cols = torch.broadcast_tensors(nodes[:, :, None], nodes[:, None, :])
    return [rows.reshape(-1), cols.reshape(-1)]


def all_masks() -> dict[str, Tensor]:
    node_mask = torch.ones(N_GRAPHS, N_NODES, dtype=torch.float64)
    node_mask[0, -1] = node_mask[1, -2:] = 0
    pairs = node_mask[:, :, None] * node_mask[:, None, :] * (1 - torch.eye(N_NODES))
    return {"node_mask": node_mask.view(-1, 1), "edge_mask": pairs.reshape(-1, 1)}


def batch(**masks: Tensor) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    h, x = (torch.randn(N, size, generator=generator, dtype=torch.float64) for size in (F, 3))
    return {"h": h, "x": x, "edge_index": dense_edges(), **masks}


def movable() -> Tensor:
    return (torch.arange(N) % 3 > 0).double()[:, None]


def graphs() -> Tensor:
    return torch.arange(N_GRAPHS).repeat_interleave(N_NODES)


def results(model: nn.Module, values: dict) -> list[Tensor]:
    """Features, positions and all gradients of a combination of both; zeros for what has no effect."""
    leaves = {name: value.clone().requires_grad_() for name, value in values.items() if name in ("h", "x")}
    h, x = model(**{**values, **leaves})
    loss = (h * torch.arange(h.numel()).view_as(h).cos()).sum() + (x * torch.arange(x.numel()).view_as(x).sin()).sum()
    variables = [*leaves.values(), *model.parameters()]
    return [h, x, *torch.autograd.grad(loss, variables, allow_unused=True, materialize_grads=True)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9 * max(1.0, wanted.abs().max().item()))


MASKS = all_masks()
SETTINGS = {
    "edm": (edm, {}, {}),
    "masks": (edm, {}, MASKS),
    "node mask": (edm, {}, {"node_mask": MASKS["node_mask"]}),
    "weights": (edm, {}, {"edge_mask": MASKS["edge_mask"] * 0.7}),
    "no zeros in the mask": (edm, {}, {"edge_mask": torch.full((N * N_NODES, 1), 0.3, dtype=torch.float64)}),
    "no edges left": (edm, {}, {"edge_mask": torch.zeros(N * N_NODES, 1, dtype=torch.float64)}),
    "truth values": (edm, {"tanh": True}, {"edge_mask": MASKS["edge_mask"].bool()}),
    "no gate": (edm, {"attention": False}, MASKS),
    "tanh": (edm, {"tanh": True, "coords_range": 3.0}, MASKS),
    "mean": (edm, {"aggregation_method": "mean"}, MASKS),
    "mean without masks": (edm, {"aggregation_method": "mean"}, {}),
    "sinusoids": (edm, {"sin_embedding": True}, MASKS),
    "sinusoids without masks": (edm, {"sin_embedding": True}, {}),
    "norm_constant": (edm, {"norm_constant": 0.5, "normalization_factor": 2}, {}),
    "one sublayer": (edm, {"inv_sublayers": 1}, MASKS),
    "no sublayer": (edm, {"inv_sublayers": 0}, MASKS),
    "activation": (edm, {"act_fn": nn.GELU()}, MASKS),
    "difflinker": (difflinker, {"sin_embedding": True}, {**MASKS, "linker_mask": movable()}),
    "difflinker without masks": (difflinker, {}, {}),
    "diffsbdd": (diffsbdd, {"tanh": True}, {**MASKS, "update_coords_mask": movable(), "batch_mask": graphs()}),
    "diffsbdd with cross products": (
        diffsbdd,
        {"tanh": True, "crossed": True},
        {"update_coords_mask": movable(), "batch_mask": graphs(), **MASKS},
    ),
    "cross products of all edges": (diffsbdd, {"crossed": True, "sin_embedding": True}, {"batch_mask": graphs()}),
}


@pytest.mark.parametrize(("kind", "options", "masks"), SETTINGS.values(), ids=SETTINGS)
def test_replaced_blocks_compute_the_same(kind, options, masks):
    model, values = network(kind, **options), batch(**masks)
    expected = results(model, values)
    report = clof_ext.replace_layers(model)
    assert report.replaced == {"e_block_0": "EquivariantBlock", "e_block_1": "EquivariantBlock"}
    assert not report.left
    assert_same(results(model, values), expected)
    clof_ext.restore_layers(model)
    assert all(torch.equal(a, b) for a, b in zip(results(model, values), expected, strict=True))


def test_edges_of_weight_zero_are_left_out():
    edges, mask = torch.stack(dense_edges()), MASKS["edge_mask"]
    chosen = masked_edges.masked_edges(edges, mask, N)
    assert chosen.plan.num_edges == int(mask.sum())
    assert chosen.weight is None
    assert masked_edges.masked_edges(edges, mask, N) is not chosen
    assert masked_edges.masked_edges(edges, mask, N).plan is chosen.plan
    assert torch.equal(chosen.counts(), torch.full((N,), N_NODES, dtype=torch.int32))


def test_edges_are_chosen_again_after_a_change_of_the_mask():
    edges, mask = torch.stack(dense_edges()), MASKS["edge_mask"].clone()
    masked_edges.masked_edges(edges, mask, N)
    mask[:] = 1
    assert masked_edges.masked_edges(edges, mask, N).plan.num_edges == N * N_NODES


def test_edges_are_chosen_again_for_another_number_of_nodes():
    edges, mask = torch.stack(dense_edges()), MASKS["edge_mask"]
    for n_nodes in (N, N + 2, N):
        assert masked_edges.masked_edges(edges, mask, n_nodes).plan.num_nodes == n_nodes


def test_chosen_edges_are_forgotten_with_their_mask():
    before = len(masked_edges._chosen._entries)
    edges, mask = torch.stack(dense_edges()), MASKS["edge_mask"].clone()
    masked_edges.masked_edges(edges, mask, N)
    assert len(masked_edges._chosen._entries) == before + 1
    del mask
    gc.collect()
    assert len(masked_edges._chosen._entries) == before


def test_the_mask_itself_can_be_differentiated():
    model, values = network(), batch()
    mask = (MASKS["edge_mask"] * 0.7).requires_grad_()

    def gradient() -> list[Tensor]:
        h, x = model(**values, edge_mask=mask)
        return list(torch.autograd.grad(h.square().sum() + x.square().sum(), [mask]))

    expected = gradient()
    clof_ext.replace_layers(model)
    assert_same(gradient(), expected)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_recognising_leaves_running_statistics(device):
    """DiffLinker normalises batches between the Linears of its nodes as an option."""
    block = network().e_block_0
    act, norm = nn.SiLU(), nn.BatchNorm1d(H).double()
    block.gcl_0.node_mlp = nn.Sequential(nn.Linear(2 * H, H), norm, act, nn.Linear(H, H)).double()
    values = batch(**MASKS, edge_attr=torch.ones(N * N_NODES, 1, dtype=torch.float64))
    values["h"] = torch.randn(N, H, dtype=torch.float64)
    expected = block.eval()(**values)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    block.to(device)
    assert clof_ext.replace_layers(block).replaced
    if device == "meta":
        block.to_empty(device="cpu").load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in block.state_dict().items())
    assert_same(list(block(**values)), list(expected))


def test_inference_mode():
    model, values = network(), batch(**MASKS)
    with torch.no_grad():
        expected = model(**values)
    clof_ext.replace_layers(model)
    with torch.inference_mode():
        fresh = {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}
        assert_same(list(model(**fresh)), list(expected))


def test_positional_arguments_and_the_signature_stay():
    block, values = network().e_block_0, batch(**MASKS)
    distance = edm.squared_distance(values["x"], values["edge_index"])
    arguments = (torch.randn(N, H).double(), values["x"], values["edge_index"], *MASKS.values(), distance)
    expected, signature = block(*arguments), inspect.signature(block.forward)
    clof_ext.replace_layers(block)
    assert_same(list(block(*arguments)), list(expected))
    assert inspect.signature(block.forward) == signature


def test_parts_alone_are_left_with_a_reason():
    block = network().e_block_0
    report = clof_ext.replace_layers(nn.ModuleList([block.gcl_0, block.gcl_equiv]))
    assert not report.replaced
    assert "GCL: it also returns the message of every edge" in report.left["0"]
    assert "EquivariantUpdate: it is given a vector for every edge" in report.left["1"]


class WithVelocity(edm.EquivariantBlock):
    def forward(self, h, x, edge_index, vel, edge_attr=None):
        return self.run(h, x + vel, edge_index, None, None, edge_attr, None)


class Louder(edm.EquivariantBlock):
    def run(self, *values):
        h, x = super().run(*values)
        return 2 * h, x


class Pushier(edm.EquivariantBlock):
    def run(self, *values):
        h, x = super().run(*values)
        return h, x + 1e-6


class Longer(edm.EquivariantBlock):
    def run(self, *values):
        return *super().run(*values), None


def derived(kind: type) -> nn.Module:
    made = network().e_block_0
    made.__class__ = type("EquivariantBlock", (kind,), {})
    return made


def changed(change) -> nn.Module:
    made = network().e_block_0
    change(made)
    return made


def set_method(block: nn.Module, name: str, **values) -> None:
    vars(block.get_submodule(name)).update(values)


LEFT = {
    "other arguments": (lambda: derived(WithVelocity), "its forward has other parameters: h, x, edge_index, vel"),
    "other features": (lambda: derived(Louder), "its new features differ"),
    "other positions": (lambda: derived(Pushier), "its new positions differ"),
    "other results": (lambda: derived(Longer), "does not return features and positions"),
    "other class": (lambda: type("Mine", (edm.EquivariantBlock,), {})(H), "its class Mine is derived from a published"),
    "other reduction": (lambda: edm.EquivariantBlock(H, aggregation_method="max"), "its aggregation_method is 'max'"),
    "two scalings": (lambda: changed(lambda b: set_method(b, "gcl_0", normalization_factor=1)), "scaled differently"),
    "unknown part": (lambda: changed(lambda b: b.add_module("norm", nn.LayerNorm(H))), "parts that .* has not: norm"),
    "unknown part of a layer": (
        lambda: changed(lambda b: b.gcl_0.add_module("norm", nn.LayerNorm(H))),
        "parts that .* has not: norm",
    ),
    "no constant": (lambda: changed(lambda b: delattr(b, "norm_constant")), "no attribute norm_constant"),
    "no gate": (lambda: changed(lambda b: delattr(b.gcl_0, "att_mlp")), "not built as published: .*att_mlp"),
    "activation": (lambda: edm.EquivariantBlock(H, act_fn=nn.Mish()), r"its activations, Mish\(\)"),
    "unused bias": (
        lambda: changed(lambda b: b.gcl_equiv.coord_mlp.__setitem__(4, nn.Linear(H, 2, bias=False))),
        "fails on a trial graph",
    ),
    "hook on a layer": (
        lambda: changed(lambda b: b.gcl_1.register_forward_hook(lambda *_: None)),
        "gcl_1 has hooks, which",
    ),
    "hook deep inside": (
        lambda: changed(lambda b: b.gcl_equiv.coord_mlp[0].register_forward_hook(lambda *_: None)),
        "gcl_equiv.coord_mlp has hooks, which",
    ),
}


@pytest.mark.parametrize(("make", "reason"), LEFT.values(), ids=LEFT)
def test_left_with_a_reason(make, reason):
    block = make()
    report = clof_ext.replace_layers(block)
    assert not report.replaced
    assert "forward" not in vars(block)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.left["(the model itself)"])


def test_hooks_that_come_later_are_called():
    model, values = network(), batch(**MASKS)
    expected = results(model, values)
    clof_ext.replace_layers(model)
    seen = []
    handle = model.e_block_0.gcl_0.register_forward_hook(lambda *_: seen.append(1))
    assert_same(results(model, values), expected)
    assert seen == [1]
    handle.remove()
    assert isinstance(model.e_block_0.forward, FusedForward)


def test_half_precision():
    """Features in bfloat16 beside positions in float32, and all of it."""
    model, values = network(coords_range=1.0).float(), batch(**MASKS)
    values = {
        name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in values.items()
    }
    exact = model(**values)
    clof_ext.replace_layers(model)
    with torch.autocast("cpu", torch.bfloat16):
        for value, wanted in zip(model(**values), exact, strict=True):
            torch.testing.assert_close(value.float(), wanted, rtol=0.1, atol=0.1)
    halves = {
        name: value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in values.items()
    }
    for value, wanted in zip(model.bfloat16()(**halves), exact, strict=True):
        assert value.dtype == torch.bfloat16
        torch.testing.assert_close(value.float(), wanted, rtol=0.2, atol=0.2)
