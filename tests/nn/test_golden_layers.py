"""Layers against the golden arrays of the published ones."""

import pytest
import torch

from clof_ext.nn import FrameAttention, FrameConv
from tests import golden_cases

DTYPES = (torch.float64, torch.float32)
CONVS = [name for name in golden_cases.names("layer_*") if "vel_attention" not in name]
SETTINGS = {
    "Clof_GCL": {"basis": "complete", "velocity": True},
    "E_GCL": {"basis": "radial", "velocity": False},
    "E_GCL_vel": {"basis": "radial", "velocity": True},
}


def frame_conv(case: golden_cases.Case) -> FrameConv:
    meta = case.meta
    options = {key: meta[key] for key in ("attention", "tanh", "recurrent", "node_attr_dim") if key in meta}
    frame = "soft" if meta.get("norm_diff", False) else "raw"
    settings = SETTINGS[meta["layer"].split(".")[-1]]
    return FrameConv(meta["hidden"], meta["hidden"], meta["edge_dim"], frame=frame, **settings, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONVS)
def test_frame_conv(name, dtype):
    case = golden_cases.load(name)
    layer = frame_conv(case).to(dtype)
    layer.load_state_dict(case.group("state", dtype), strict=True)
    inputs = golden_cases.differentiable(case.group("in", dtype))
    vel = inputs["vel"] if hasattr(layer, "coord_mlp_vel") else None
    arguments = (inputs["h"], inputs["pos"], inputs["edge_index"], inputs["edge_attr"], vel, inputs.get("node_attr"))
    h, pos = layer(*arguments)
    golden_cases.assert_golden(case, layer, inputs, {"h": h, "pos": pos}, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frame_attention(dtype):
    case = golden_cases.load("layer_egcl_vel_attention")
    layer = FrameAttention(case.meta["hidden"], case.meta["edge_dim"], heads=3).to(dtype)
    layer.load_state_dict(case.group("state", dtype), strict=True)
    inputs = golden_cases.differentiable(case.group("in", dtype))
    acc, h, edge = layer(inputs["h"], inputs["pos_pre"], inputs["edge_index"], inputs["edge_attr"])
    golden_cases.assert_golden(case, layer, inputs, {"acc": acc, "h": h, "edge": edge}, dtype)
