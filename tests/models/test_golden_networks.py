"""Networks against the golden arrays of the published ones."""

import pytest
import torch

from clof_ext.models import EGNN, ClofNet
from tests import golden_cases

DTYPES = (torch.float64, torch.float32)
SHARED = ("tanh", "recurrent", "coords_weight")


def network(case: golden_cases.Case) -> torch.nn.Module:
    meta = case.meta
    kind = meta["model"]
    options = {key: meta[key] for key in SHARED if key in meta}
    options["frame"] = "soft" if meta.get("norm_diff", False) else "raw"
    sizes = (1, 2, meta["hidden"], meta["n_layers"])
    if kind.startswith("ClofNet"):
        return ClofNet(*sizes, velocity="_vel" in kind, gaussian_basis=kind.endswith("_gbf"), **options)
    activation = "silu" if kind == "EGNN_vel" else "leaky_relu"
    return EGNN(*sizes, velocity=kind == "EGNN_vel", activation=activation, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", golden_cases.names("*net*") + golden_cases.names("egnn*"))
def test_network(name, dtype):
    case = golden_cases.load(name)
    model = network(case).to(dtype)
    model.load_state_dict(case.group("state", dtype), strict=True)
    inputs = golden_cases.differentiable(case.group("in", dtype))
    arguments = (inputs["h"], inputs["pos"], inputs["edge_index"], inputs["edge_attr"], inputs["vel"])
    pos = model(*arguments, batch=case.batch())
    golden_cases.assert_golden(case, model, inputs, {"pos": pos}, dtype)
