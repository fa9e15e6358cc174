"""The plain layers and networks of the benchmarks against the golden arrays, before and after they are replaced."""

import pytest
import torch

import clof_ext
from clof_ext.bench import published
from tests import golden_cases

LAYERS = [name for name in golden_cases.names("layer_*") if "vel_attention" not in name]
NETWORKS = golden_cases.names("*net*") + golden_cases.names("egnn*")
SHARED = ("tanh", "recurrent", "coords_weight", "norm_diff", "attention")
DTYPES = (torch.float64, torch.float32)


def options(case: golden_cases.Case) -> dict:
    return {key: case.meta[key] for key in SHARED if key in case.meta}


def plain_layer(case: golden_cases.Case) -> torch.nn.Module:
    meta = case.meta
    kind = getattr(published, meta["layer"].split(".")[-1])
    width = meta["hidden"]
    sizes = {"edges_in_d": meta["edge_dim"], "nodes_att_dim": meta["node_attr_dim"]}
    return kind(width, width, width, **sizes, **options(case))


def plain_network(case: golden_cases.Case) -> torch.nn.Module:
    return getattr(published, case.meta["model"])(1, 2, case.meta["hidden"], case.meta["n_layers"], **options(case))


def layer_call(layer: torch.nn.Module, inputs: dict) -> tuple:
    # Copies of the positions, because the plain layers write into them.
    velocity = (inputs["vel"],) if hasattr(layer, "coord_mlp_vel") else ()
    rest = (inputs["edge_attr"], inputs.get("node_attr"))
    return inputs["h"], inputs["edge_index"], inputs["pos"].clone(), *velocity, *rest


def network_call(case: golden_cases.Case, inputs: dict) -> dict:
    call = {"h": inputs["h"], "x": inputs["pos"].clone(), "edges": inputs["edge_index"], "vel": inputs["vel"]}
    call["edge_attr"] = inputs["edge_attr"]
    return call | ({"n_nodes": case.meta["n_nodes"]} if case.meta["model"].startswith("ClofNet") else {})


def prepare(case: golden_cases.Case, module: torch.nn.Module, dtype: torch.dtype, fused: bool) -> dict:
    """Load the weights, replace the layers, and hand out the inputs."""
    module.to(dtype).load_state_dict(case.group("state", dtype), strict=True)
    if fused:
        report = clof_ext.replace_layers(module)
        assert report.replaced, str(report)
        assert not report.left, str(report)
    return golden_cases.differentiable(case.group("in", dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "replaced"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, fused, dtype):
    case = golden_cases.load(name)
    layer = plain_layer(case)
    inputs = prepare(case, layer, dtype, fused)
    h, pos, edge_attr = layer(*layer_call(layer, inputs))
    assert edge_attr is inputs["edge_attr"]
    golden_cases.assert_golden(case, layer, inputs, {"h": h, "pos": pos}, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "replaced"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, fused, dtype):
    case = golden_cases.load(name)
    model = plain_network(case)
    inputs = prepare(case, model, dtype, fused)
    golden_cases.assert_golden(case, model, inputs, {"pos": model(**network_call(case, inputs))}, dtype)
