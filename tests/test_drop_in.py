"""The page on replacing layers: its code runs, and it names every class that is replaced."""

import re
import warnings
from pathlib import Path

import pytest
import torch

import clof_ext
from benchmarks import diffusion
from clof_ext.bench import published
from clof_ext.nn.families import CLASSES

TEXT = (Path(clof_ext.__file__).parent.parent / "docs/drop_in.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
N = 6


def build_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return diffusion.EGNN(4, 8, 2)


def given() -> dict:
    """What the page takes for granted."""
    row, col = torch.arange(N).repeat_interleave(N), torch.arange(N).repeat(N)
    data = {"x": torch.randn(N, 16), "pos": torch.randn(N, 3), "edge_index": torch.stack((row, col))}
    return {
        "model": build_model(),
        "batch": {"h": torch.randn(N, 4), "x": torch.randn(N, 3), "edge_index": [row, col]},
        "egnn_new": diffusion,
        "build_model": build_model,
        "checkpoint": build_model().state_dict(),
        "egnn_checkpoint": published.EGNN_vel(1, 2, 64).state_dict(),
        "data": {**data, "edge_attr": torch.randn(N * N, 2)},
        "positions": torch.rand(N, 3),
        "cell": 4 * torch.eye(3),
        "features": torch.randn(N, 16),
    }


def test_code_blocks_run():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        data = pytest.importorskip("torch_geometric.data", reason="needs PyTorch Geometric")
    pytest.importorskip("vesin", reason="needs vesin")
    names = given()
    names["data"] = data.Data(**names["data"])
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        exec(block, names)
    for fast, slow in zip(names["fast"], names["slow"], strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert set(names["report"].replaced) == {"EquivariantBlock 0", "EquivariantBlock 1"}
    assert names["updated"].x.shape == names["h"].shape == (N, 16)
    assert names["moved"].shape == (N, 3)


def test_names_every_class():
    listed = TEXT.split("## What is recognised")[1].split("## ")[0]
    assert all(f"`{name}`" in listed for name in CLASSES)
