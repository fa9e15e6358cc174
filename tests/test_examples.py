"""The examples that have no test beside what they show: two lines in a plain network, and a program without Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import clof_ext
from clof_ext import _backends, models
from clof_ext.newton import fully_connected
from examples import drop_in
from tests.compiler import COMPILER

ROOT = Path(clof_ext.__file__).parent.parent
PAGE = (ROOT / "docs/export.md").read_text()
FOLDER = "build/aoti"
needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


def missing_tool() -> str | None:
    """What compiling a program against LibTorch lacks here."""
    if COMPILER is None:
        return "needs a C++ compiler"
    if shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        return "needs cmake"
    if torch.version.cuda is not None and shutil.which("nvcc") is None:
        return "needs nvcc: this LibTorch is built with CUDA"
    return None


def test_two_lines_make_a_plain_network_faster(monkeypatch, capsys):
    monkeypatch.setattr(drop_in, "N_SYSTEMS", 2)
    monkeypatch.setattr(drop_in, "TIMED_SECONDS", 0.05)
    drop_in.main()
    out = capsys.readouterr().out
    assert f"Replaced {drop_in.N_LAYERS} of {drop_in.N_LAYERS} published layers" in out
    assert "Verified: outputs differ by at most" in out
    assert re.search(r"forward and backward: \d+\.\d ms before, \d+\.\d ms after", out)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@needs_binary
def test_a_network_is_exported_for_every_size():
    torch.manual_seed(0)
    network = models.ClofNet(1, 2, 8, 2)

    def inputs(n: int) -> tuple[torch.Tensor, ...]:
        edge_index = fully_connected(n, 1)
        pos, vel = torch.randn(2, n, 3)
        return vel.norm(dim=1, keepdim=True), pos, edge_index, torch.randn(edge_index.shape[1], 2), vel

    keys = "speed", "pos", "edge_index", "edge_attr", "vel"
    names = {"network": network, "num_nodes": 5, **dict(zip(keys, inputs(5), strict=True))}
    export, with_plan, _ = blocks("python")
    exec(export, names)
    for n in (3, 9):
        given = inputs(n)
        torch.testing.assert_close(names["program"].module()(*given), network(*given))
    exec(with_plan, names)
    torch.testing.assert_close(names["on_plan"].module()(*names["given"]), network(*(names[key] for key in keys)))
    called = {str(node.target) for node in names["on_plan"].graph.nodes if node.op == "call_function"}
    assert "clof_ext.frame_message.default" in called and "clof_ext.prepare_graph.default" not in called


@needs_binary
@pytest.mark.skipif(missing_tool() is not None, reason=str(missing_tool()))
def test_a_program_without_python_gives_pythons_result(tmp_path: Path):
    """The commands of the page, with another folder."""
    (commands,) = blocks("sh")
    assert FOLDER in commands
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euc", commands.replace(FOLDER, str(tmp_path))]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    compare = blocks("python")[-1].replace(FOLDER, str(tmp_path))
    names = {"torch": torch}
    exec(compare, names)
    assert names["result"].shape == (7, 3) and names["result"].abs().max() > 0.1
    program = tmp_path / "program/run_network"
    linked = subprocess.run(["ldd", program, clof_ext.library_path()], capture_output=True, text=True).stdout
    assert "libtorch_cpu" in linked and "libpython" not in linked and "libtorch_python" not in linked
    run = subprocess.run([program, tmp_path / "missing.so", *["x"] * 3], capture_output=True, text=True)
    assert run.returncode == 1 and "missing.so: cannot open shared object file" in run.stderr
