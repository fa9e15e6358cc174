"""Networks beyond the golden arrays: symmetry, graphs of different size, baselines, errors."""

import pytest
import torch
from torch import nn

from clof_ext.bench import published
from clof_ext.models import EGNN, GNN, ClofNet, LinearMotion, RadialField
from clof_ext.models.gaussian_basis import GaussianBasis
from tests.systems import System, make_system, rotation


def strong(model: nn.Module) -> nn.Module:
    """In float64, with coordinate weights of order one, so that a broken symmetry cannot hide behind a small gain."""
    for name, parameter in model.named_parameters():
        if name.endswith("coord_mlp.2.weight"):
            nn.init.normal_(parameter)
    return model.double()


def make(kind: type, *sizes, **options) -> nn.Module:
    torch.manual_seed(0)
    return strong(kind(*sizes, **options))


NETWORKS = {
    "ClofNet": lambda: make(ClofNet, 2, 2, 8, 2),
    "ClofNet raw": lambda: make(ClofNet, 2, 2, 8, 2, frame="raw", coords_weight=0.1),
    "ClofNet orthonormal": lambda: make(ClofNet, 2, 2, 8, 2, frame="orthonormal"),
    "ClofNet without velocity": lambda: make(ClofNet, 2, 2, 8, 2, velocity=False),
    "ClofNet Gaussian": lambda: make(ClofNet, 2, 2, 8, 2, gaussian_basis=True),
    "EGNN": lambda: make(EGNN, 2, 2, 8, 2, frame="soft"),
    "EGNN with velocity": lambda: make(EGNN, 2, 2, 8, 2, velocity=True, frame="soft"),
    "radial field": lambda: make(RadialField, 2, 8, 2),
    "linear motion": lambda: make(LinearMotion),
}


def system_with_types() -> System:
    """A system whose first edge attribute is a type, -1 or 1."""
    system = make_system(2, 2)
    system.edge_attr[:, 0] = torch.tensor([-1.0, 1.0]).double().repeat(6)
    return system


def apply(model: nn.Module, system: System, **options) -> torch.Tensor:
    return model(system.h, system.pos, system.edge_index, system.edge_attr, system.vel, **options)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_rotation_and_translation(build):
    model, system, turn = build(), system_with_types(), rotation()
    moved = apply(model, system.mapped(turn, shift=2.0))
    torch.testing.assert_close(moved, apply(model, system) @ turn.T + 2.0, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_clofnet_sees_a_reflection(name):
    model, system = NETWORKS[name](), system_with_types()
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0])).double()
    difference = apply(model, system.mapped(mirror)) - apply(model, system) @ mirror.T
    assert (difference.abs().max() > 1e-4) == name.startswith("ClofNet")


@pytest.mark.parametrize("build", [*NETWORKS.values(), lambda: make(GNN, 8, 2)], ids=[*NETWORKS, "GNN"])
def test_permutation(build):
    model, system = build(), system_with_types()
    order, edge_order = torch.randperm(7), torch.randperm(12)
    permuted = apply(model, system.permuted(order, edge_order))
    torch.testing.assert_close(permuted, apply(model, system)[order], rtol=1e-9, atol=1e-9)


def graph(n_nodes: int, seed: int) -> System:
    """A fully connected system."""
    torch.manual_seed(seed)
    edges = [(i, j) for i in range(n_nodes) for j in range(n_nodes) if i != j]
    tensors = [torch.randn(rows, columns).double() for rows, columns in ((n_nodes, 2), (n_nodes, 3), (n_nodes, 3))]
    return System(*tensors, torch.randn(len(edges), 2).double().sign(), torch.tensor(edges).T)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_a_batch_is_its_graphs(build, dtype):
    """Graphs of different size, their nodes and edges in any order."""
    model = build()
    systems = [graph(n, seed) for seed, n in enumerate((5, 2, 4))]
    offsets = (0, 5, 7)
    parts = {name: torch.cat([getattr(s, name) for s in systems]) for name in ("h", "pos", "vel", "edge_attr")}
    edges = torch.cat([s.edge_index + offset for s, offset in zip(systems, offsets, strict=True)], 1)
    batch = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    order = torch.randperm(11)
    together = System(**parts, edge_index=edges).permuted(order, torch.randperm(edges.shape[1]))
    result = apply(model, together, batch=batch[order].to(dtype))
    expected = torch.cat([apply(model, system) for system in systems])[order]
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_three_edges():
    """Where a cross product without a named axis would take the wrong one."""
    system = make_system(2, 2)
    first = System(system.h, system.pos, system.vel, system.edge_attr[:3], system.edge_index[:, :3])
    model = make(ClofNet, 2, 2, 8, 1)
    plain = published.ClofNet_vel(2, 2, 8, 1).double()
    plain.load_state_dict(model.state_dict())
    expected = plain(first.h, first.pos.clone(), first.edge_index, first.vel, first.edge_attr, n_nodes=7)
    torch.testing.assert_close(apply(model, first), expected, rtol=1e-9, atol=1e-9)


def test_raw_layers_keep_soft_scalars_with_velocities():
    system, model = make_system(2, 2), make(ClofNet, 2, 2, 8, 2, frame="raw", coords_weight=0.1)
    plain = published.ClofNet_vel(2, 2, 8, 2, norm_diff=False, coords_weight=0.1).double()
    plain.load_state_dict(model.state_dict())
    expected = plain(system.h, system.pos.clone(), system.edge_index, system.vel, system.edge_attr, n_nodes=7)
    torch.testing.assert_close(apply(model, system), expected, rtol=1e-9, atol=1e-9)


def test_gated_networks_have_the_gate_in_every_layer():
    for model in (ClofNet(2, 2, 8, 3, attention=True), EGNN(2, 2, 8, 3, attention=True)):
        assert sum("att_mlp.0.weight" in name for name in model.state_dict()) == 3


def test_velocities_may_be_left_out_without_velocity_scalars():
    system, model = make_system(2, 2), make(ClofNet, 2, 2, 8, 2, velocity=False)
    without = model(system.h, system.pos, system.edge_index, system.edge_attr)
    resting = model(system.h, system.pos, system.edge_index, system.edge_attr, torch.zeros_like(system.vel))
    torch.testing.assert_close(without, resting)


@pytest.mark.parametrize("kind", [ClofNet, EGNN])
def test_node_attributes_reach_the_layers(kind):
    system = make_system(2, 2)
    model = make(kind, 2, 2, 8, 2, node_attr_dim=1)
    attributes = torch.randn(7, 1).double()
    assert not torch.allclose(apply(model, system, node_attr=attributes), apply(model, system, node_attr=-attributes))


def test_features_in_bfloat16_beside_positions_in_float32():
    system = make_system(2, 2)
    single = System(
        system.h.float(), system.pos.float(), system.vel.float(), system.edge_attr.float(), system.edge_index
    )
    model = make(ClofNet, 2, 2, 8, 2).float()
    expected = apply(model, single)
    halves = System(single.h.bfloat16(), single.pos, single.vel, single.edge_attr.bfloat16(), single.edge_index)
    result = apply(model.bfloat16(), halves)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0.1, atol=0.2)


def test_autocast():
    system = make_system(2, 2)
    single = System(
        system.h.float(), system.pos.float(), system.vel.float(), system.edge_attr.float(), system.edge_index
    )
    model = make(ClofNet, 2, 2, 8, 2).float()
    with torch.autocast("cpu", torch.bfloat16):
        result = apply(model, single)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, apply(model, single), rtol=0.1, atol=0.2)


def test_gaussian_basis():
    basis = GaussianBasis(3).double()
    basis.mul.weight.data[1], basis.bias.weight.data[1] = 2.0, 0.5
    basis.stds.weight.data *= -1
    value = torch.tensor([0.7]).double()
    width = basis.stds.weight[0].abs() + 1e-5
    normal = torch.distributions.Normal(basis.means.weight[0], width)
    expected = normal.log_prob(2 * value + 0.5).exp()
    # Five decimals of pi.
    torch.testing.assert_close(basis(value, torch.tensor([1]))[0], expected, rtol=1e-6, atol=0)
    assert basis.bfloat16()(value.bfloat16(), torch.tensor([1])).dtype == torch.float32


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("attention", [False, True])
def test_gnn_layer(attention, recurrent):
    """One layer of the formula: features from [x, v], an update by summed messages, a decoded position."""
    system, model = make_system(2, 2), make(GNN, 8, 1, attention=attention, recurrent=recurrent)
    h = model.embedding(torch.cat((system.pos, system.vel), 1))
    layer, total = model.gcl_0, torch.zeros_like(h)
    for e, (i, j) in enumerate(system.edge_index.T.tolist()):
        message = layer.edge_mlp(torch.cat((h[i], h[j], system.edge_attr[e, :1])))
        if attention:
            first, second = layer.att_mlp[0], layer.att_mlp[2]
            message = message * second(nn.functional.silu(first((h[i] - h[j]).abs()))).sigmoid()
        total[i] = total[i] + message
    update = layer.node_mlp(torch.cat((h, total), 1))
    torch.testing.assert_close(apply(model, system), model.decoder(h + update if recurrent else update))


def test_gnn_names():
    """Those of the published network, which has its gate under a name of its own."""
    names = set(dict(make(GNN, 8, 1, attention=True).named_parameters()))
    linears = {"edge_mlp": (0, 2), "node_mlp": (0, 2), "att_mlp": (0, 2)}
    expected = {f"gcl_0.{part}.{k}.{kind}" for part, ks in linears.items() for k in ks for kind in ("weight", "bias")}
    assert expected <= names
    assert names - expected == {
        f"{part}.{kind}" for part in ("embedding.0", "decoder.0", "decoder.2") for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", ["ClofNet", "ClofNet_vel"])
def test_clofnet_with_another_activation(kind):
    """The same weights in the plain network with that activation."""
    torch.manual_seed(0)
    model = strong(ClofNet(2, 2, 8, 2, velocity=kind == "ClofNet_vel", activation="relu"))
    plain = getattr(published, kind)(2, 2, 8, 2, act_fn=nn.ReLU()).double()
    plain.load_state_dict(model.state_dict())
    system = make_system(2, 2)
    expected = plain(system.h, system.pos.clone(), system.edge_index, system.vel, system.edge_attr, n_nodes=7)
    torch.testing.assert_close(apply(model, system), expected)


def test_radial_field_layer():
    system, model = make_system(2, 2), make(RadialField, 2, 8, 1)
    layer, total, count = model.gcl_0, torch.zeros(7, 3).double(), torch.zeros(7, 1).double()
    for e, (i, j) in enumerate(system.edge_index.T.tolist()):
        d = system.pos[i] - system.pos[j]
        total[i] = total[i] + d * layer.phi(torch.cat((d.norm()[None], system.edge_attr[e])))
        count[i] += 1
    velocity = system.vel * layer.coord_mlp_vel(system.vel.norm(dim=1, keepdim=True))
    expected = system.pos + total / count.clamp(min=1) + velocity
    torch.testing.assert_close(apply(model, system), expected)


def test_linear_motion():
    system, model = make_system(2, 2), LinearMotion().double()
    model.time.data.fill_(0.3)
    torch.testing.assert_close(apply(model, system), system.pos + 0.3 * system.vel)


CONSTRUCTIONS = {
    "odd": ({"hidden_dim": 7}, "hidden_dim must be even"),
    "basis columns": ({"gaussian_basis": True, "edge_dim": 3}, "edge_dim=2; got velocity=True and edge_dim=3"),
    "basis velocity": ({"gaussian_basis": True, "velocity": False}, "gaussian_basis=True must come with velocity=True"),
    "frame": ({"frame": "hard"}, "frame must be one of"),
    "activation": ({"activation": "mish"}, "activation must be one of 'silu', .*; got 'mish'"),
}


@pytest.mark.parametrize(("change", "sentence"), CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
def test_construction_errors(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ClofNet(**{"node_dim": 1, "edge_dim": 2, "hidden_dim": 8, **change})


CALLS = {
    "h": ({"h": torch.zeros(7, 3)}, ValueError, r"h must have shape \(7, 2\); got \(7, 3\)"),
    "pos": ({"pos": torch.zeros(7, 2)}, ValueError, r"pos must have shape \(N, 3\); got \(7, 2\)"),
    "edge_attr": ({"edge_attr": None}, TypeError, "edge_attr must be a torch.Tensor; got NoneType"),
    "edge rows": ({"edge_attr": torch.zeros(3, 2)}, ValueError, r"edge_attr must have shape \(12, 2\); got \(3, 2\)"),
    "vel": ({"vel": None}, ValueError, "vel must be given to this network"),
    "vel dtype": ({"vel": torch.zeros(7, 3)}, TypeError, r"vel must be float64 like pos; got float32"),
    "vel device": (
        {"vel": torch.zeros(7, 3, device="meta").double()},
        ValueError,
        r"vel must be on the device of pos, cpu; got meta",
    ),
    "vel shape": ({"vel": torch.zeros(6, 3).double()}, ValueError, r"vel must have shape \(7, 3\); got \(6, 3\)"),
}


@pytest.mark.parametrize("name", ["ClofNet", "EGNN with velocity"])
@pytest.mark.parametrize(("change", "error", "sentence"), CALLS.values(), ids=CALLS)
def test_call_errors(name, change, error, sentence):
    system = make_system(2, 2)
    call = {"h": system.h, "pos": system.pos, "edge_index": system.edge_index, "edge_attr": system.edge_attr}
    with pytest.raises(error, match=sentence):
        NETWORKS[name]()(**{**call, "vel": system.vel, **change})


BATCHES = {
    "type": ([0] * 7, TypeError, "batch must be a torch.Tensor; got list"),
    "dtype": (torch.zeros(7), TypeError, "batch must be int64 or int32; got float32"),
    "shape": (torch.zeros(6, dtype=torch.long), ValueError, r"batch must have shape \(7\); got \(6,\)"),
    "range": (torch.full((7,), 7), ValueError, "must hold numbers from 0 to 6; got 7"),
}


@pytest.mark.parametrize(("batch", "error", "sentence"), BATCHES.values(), ids=BATCHES)
def test_batch_errors(batch, error, sentence):
    with pytest.raises(error, match=sentence):
        apply(NETWORKS["ClofNet"](), make_system(2, 2), batch=batch)


def test_exchanged_modules_of_what_is_read():
    model = NETWORKS["ClofNet"]()
    model.fuse_edge[1] = nn.ReLU()
    with pytest.raises(ValueError, match=r"^fuse_edge of ClofNet must be Linears with silu .*; got Linear, ReLU, "):
        apply(model, make_system(2, 2))
