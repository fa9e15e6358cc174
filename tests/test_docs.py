"""The documentation: the site builds without a warning, its code runs, and its table of backends is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import clof_ext
from clof_ext import _backends
from clof_ext.bench.published import ClofNet_vel

ROOT = Path(clof_ext.__file__).parent.parent
N, H = 6, 64


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def given() -> dict:
    """What the pages take for granted."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    edge_index = torch.tensor([[0, 0, 1, 2, 3, 4, 5], [1, 2, 0, 3, 4, 5, 0]])
    return {
        "model": ClofNet_vel(1, 2, 8),
        "h": random(N, 1),
        "speed": random(N, 1),
        "pos": random(N, 3),
        "vel": random(N, 3),
        "edge_index": edge_index,
        "edge_attr": random(edge_index.shape[1], 2),
        "graph_of_node": torch.zeros(N, dtype=torch.long),
        "num_nodes": N,
        "spins": random(N, 2, 3),
        "stress": random(N, 2, 3, 3),
        "rotation": torch.linalg.qr(random(3, 3))[0],
    }


def test_quick_start_runs():
    names = given()
    for block in code_of("index.md"):
        exec(block, names)
    assert names["report"].replaced and not names["report"].left
    assert names["moved"].shape == (N, 3)


def test_building_a_network_runs():
    names = given()
    if torch.linalg.det(names["rotation"]) < 0:
        names["rotation"] = -names["rotation"]
    blocks = code_of("build.md")
    assert len(blocks) == 5
    for block in blocks:
        if "nn.FrameConv" in block:
            names["h"] = torch.randn(N, H)
        exec(block, names)
    assert names["h_new"].shape == (N, H)
    assert names["stress_new"].shape == (N, 2, 3, 3)
    # A layer that did nothing would be equivariant, too.
    assert not torch.allclose(names["spins_new"], names["spins"])


def rows_of_backends() -> dict[str, list[str]]:
    lines = (ROOT / "docs/support.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| op |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        op, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[op.strip("`")] = cells
    return rows


def test_table_of_backends():
    rows = rows_of_backends()
    assert set(rows) == set(_backends.OPERATORS)
    launchers = (ROOT / "csrc/cuda/launchers.h").read_text()
    for op, (reference, cpu, cuda, triton) in rows.items():
        assert reference == "yes"
        if _backends.binary() is not None:
            assert (cpu == "yes") == (_backends.unavailable("cpu", op) is None)
        kernel = "tensor_form" if op in ("project", "aggregate") else op
        assert (cuda == "yes") == (kernel in launchers or (ROOT / f"csrc/cuda/{op}.h").exists())
        if _backends.triton_room() is not None:
            assert (triton == "yes") == (_backends.unavailable("triton", op) is None)


def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "frame_message" in (tmp_path / "reference/index.html").read_text()
    newton = (tmp_path / "newton/index.html").read_text()
    assert "../files/examples/newton.py" in newton and (tmp_path / "files/examples/newton.py").exists()
