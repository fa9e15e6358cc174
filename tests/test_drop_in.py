"""The page on replacing layers: its code runs, and it names every class that is replaced."""

import importlib.util
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

import clof_ext
from benchmarks import diffusion
from clof_ext.bench import published
from clof_ext.nn.families import CLASSES
from tests.lookalikes import egnn_pytorch

TEXT = (Path(clof_ext.__file__).parent.parent / "docs/drop_in.md").read_text()
N, N_GRAPHS = 6, 2
EDM_FILE, CLOFNET_FILE = "edm_checkpoint.pt", "clofnet_checkpoint.pt"


def blocks_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def build_model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return diffusion.EGNN(4, 8, 2)


def clofnet(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return published.ClofNet_vel(1, 2, 16, 2)


def particles() -> dict:
    """A batch for ClofNet."""
    edges = clof_ext.newton.fully_connected(N, N_GRAPHS)
    h, x, vel = (torch.randn(N * N_GRAPHS, size) for size in (1, 3, 3))
    edge_attr = torch.randn(edges.shape[1], 2)
    return {"h": h, "x": x, "edges": list(edges), "vel": vel, "edge_attr": edge_attr, "n_nodes": N}


def given() -> dict:
    """What the page takes for granted."""
    row, col = torch.arange(N).repeat_interleave(N), torch.arange(N).repeat(N)
    data = {"x": torch.randn(N, 16), "pos": torch.randn(N, 3), "edge_index": torch.stack((row, col))}
    return {
        "torch": torch,
        "model": build_model(),
        "batch": {"h": torch.randn(N, 4), "x": torch.randn(N, 3), "edge_index": [row, col]},
        "particles": particles(),
        "egnn_new": diffusion,
        "clof": published,
        "build_model": build_model,
        "checkpoint": build_model().state_dict(),
        "egnn_checkpoint": published.EGNN_vel(1, 2, 64).state_dict(),
        "data": {**data, "edge_attr": torch.randn(N * N, 2)},
        "positions": torch.rand(N, 3),
        "cell": 4 * torch.eye(3),
        "features": torch.randn(N, 16),
    }


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Those of other weights than a new network has, where the page looks for them."""
    monkeypatch.chdir(tmp_path)
    torch.save(build_model(1).state_dict(), EDM_FILE)
    torch.save(clofnet(1).state_dict(), CLOFNET_FILE)


@pytest.mark.usefixtures("checkpoints")
def test_code_blocks_run(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        data = pytest.importorskip("torch_geometric.data", reason="needs PyTorch Geometric")
    pytest.importorskip("vesin", reason="needs vesin")
    if importlib.util.find_spec("egnn_pytorch") is None:
        monkeypatch.setitem(sys.modules, "egnn_pytorch", egnn_pytorch)
    names = given()
    names["data"] = data.Data(**names["data"])
    first, *others = TEXT.split("## From a checkpoint")
    for block in blocks_of(first):
        exec(block, names)
    assert set(names["report"].replaced) == {"EquivariantBlock 0", "EquivariantBlock 1"}
    for fast, slow in zip(names["fast"], names["slow"], strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    for block in blocks_of("".join(others)):
        exec(block, names)
    assert names["updated"].x.shape == names["h"].shape == (N, 16)
    assert names["moved"].shape == (N, 3)


@pytest.mark.usefixtures("checkpoints")
def test_checkpoints_get_the_speed():
    """Of an EDM-like and of a ClofNet-like program: the loaded weights run, fused, and are saved as they were."""
    before = torch.load(CLOFNET_FILE, weights_only=True)
    names = given() | {"clof_ext": clof_ext}
    for block in blocks_of(section("From a checkpoint")):
        exec(block, names)
    pairs = ((names["model"], build_model(1), names["batch"]), (names["network"], clofnet(1), names["particles"]))
    for model, plain, batch in pairs:
        report = clof_ext.replace_layers(model)
        assert not report.replaced and all("replaced before" in reason for reason in report.left.values())
        # ClofNet's own layers write into the positions that they are given.
        found, expected = (network(**{**batch, "x": batch["x"].clone()}) for network in (model, plain))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    after = torch.load(CLOFNET_FILE, weights_only=True)
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_names_every_class():
    listed = section("What is recognised")
    assert all(f"`{name}`" in listed for name in CLASSES)
