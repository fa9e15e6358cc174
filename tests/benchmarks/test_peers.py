"""Peers compute the published layer, and what is missing or wrong is said."""

import importlib.util
import json
import os

import pytest
import torch

from benchmarks.peers import __main__ as command
from benchmarks.peers import measure, table
from benchmarks.peers.measure import COMPILE, DENSE, EAGER, FUSED, PEERS, contest
from benchmarks.peers.program import torch_program
from clof_ext.bench.agreement import TOLERANCE
from clof_ext.bench.one_layer import Inputs, Layer, Size, make_inputs, make_layer

TINY = {"egnn": Size("egnn", 12, 3, 8, 2), "clofnet": Size("clofnet", 12, 3, 8, 4)}


def quiet(text: str) -> None:
    pass


@pytest.fixture
def only_ours(monkeypatch):
    """Eager PyTorch and clof_ext alone, which every machine has."""
    monkeypatch.setattr(measure, "PEERS", {name: PEERS[name] for name in (EAGER, FUSED)})


@pytest.mark.parametrize("network", TINY)
@pytest.mark.parametrize("name", [name for name in PEERS if name not in (COMPILE, DENSE)])
def test_a_peer_computes_the_published_layer(name: str, network: str, monkeypatch):
    if reason := measure.missing(name):
        pytest.skip(reason)
    monkeypatch.setattr(measure, "PEERS", {name: PEERS[name]})
    contestants, left_out = contest(TINY[network], quiet)
    assert not left_out
    assert contestants[name].error < TOLERANCE[torch.float32]


def test_every_weight_and_input_is_compared():
    layer, inputs = make_layer(TINY["clofnet"]), make_inputs(TINY["clofnet"])
    found = torch_program(layer, inputs).arrays()
    weights = {f"gradient of {name}" for name, _ in layer.layer.named_parameters()}
    assert weights | {f"gradient of {name}" for name in inputs.leaves} < set(found)
    assert torch.equal(found["features alone"], found["features"])


@pytest.mark.skipif(measure.missing(DENSE) is not None, reason=f"needs {DENSE}: pip install 'clof_ext[peers]'")
def test_other_formulas_get_the_same_sizes():
    from benchmarks.peers.egnn_pytorch import dense_inputs

    inputs = make_inputs(TINY["egnn"])
    dense = dense_inputs(inputs)
    assert dense.leaves["h"].shape == (3, 4, 8)
    for (receiver, sender), edge in zip(inputs.edge_index.T.tolist(), inputs.leaves["edge_attr"], strict=True):
        assert torch.equal(dense.leaves["edge_attr"][receiver // 4, receiver % 4, sender % 4], edge)
    contestants, left_out = contest(TINY["egnn"], quiet)
    assert contestants[DENSE].error is None
    assert DENSE in contest(TINY["clofnet"], quiet)[1]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(measure.machine, "compiler", lambda: None)
    contestants, left_out = contest(TINY["egnn"], quiet)
    assert set(contestants) == {EAGER, FUSED}
    assert left_out["PyG"] == (
        "PyG was left out: not installed is torch-geometric; pip install 'clof_ext[peers]' brings it."
    )
    assert "jax and jaxlib" in left_out["JAX"]
    assert left_out[COMPILE] == "torch.compile was left out: it finds no C++ compiler."


class Disturbed(measure.Peer):
    def build(self, layer: Layer, inputs: Inputs):
        program = super().build(layer, inputs)

        def arrays():
            found = program.arrays()
            return found | {"gradient of coord_mlp.0.bias": found["gradient of coord_mlp.0.bias"] * (1 + 1e-3)}

        return measure.Program(program.calls, arrays)


def test_a_peer_that_disagrees_is_not_timed(only_ours, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(measure.PEERS, FUSED, Disturbed("pytorch", "fused"))
    monkeypatch.setattr(command, "SECONDS", 0.0)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    sizes = ["--systems", "2", "--particles", "3", "--hidden", "8"]
    assert command.main([*sizes, "--busy", "--output", str(tmp_path)]) == 1
    assert cores is None or os.sched_getaffinity(0) == cores
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("_systems-2_particles-3_hidden-8.json")
    document = json.loads(path.read_text())
    assert document["machine"]["load"] >= 0
    assert document["machine"]["threads"] == 1
    assert {"jax", "egnn-pytorch", "torch-geometric"} < set(document["versions"])
    for case in document["cases"]:
        assert [row["variant"] for row in case["measurements"]] == [EAGER, EAGER]
        assert "clof_ext was not timed, because it does not agree" in case["left_out"][FUSED]
    assert "its largest relative error is 1.0e-03; allowed is 5.0e-05" in capsys.readouterr().out


def row(variant: str, lower: float, median: float, upper: float, error: float | None = 1e-6) -> dict:
    times = {"lower_ms": lower, "median_ms": median, "upper_ms": upper}
    return {"variant": variant, "pass": "forward", **times, "error": error, "start_s": {"build": 1.0, "forward": 0.5}}


def test_the_table_says_who_is_faster():
    rows = [row(FUSED, 1.9, 2.0, 2.1), row("PyG", 5.9, 6.0, 6.1), row("JAX", 0.9, 1.0, 1.1), row(EAGER, 2.0, 2.2, 3.0)]
    rows.append(row(DENSE, 20.0, 20.0, 20.0, None))
    case = {"network": "egnn", "nodes": 10, "neighbours": 4, "left_out": {"x": "x was left out."}, "measurements": rows}
    versions = {package: "1.0" for peer in PEERS.values() for package in peer.packages} | {"jaxlib": None}
    document = {"cases": [case], "settings": {"busy": True}, "versions": versions}
    lines = table.markdown(document)
    assert "| egnn, 2 x 5 | forward | PyG | 6 | 5.9 to 6.1 | 3 x slower | 1e-06 | 1.5 |" in lines
    assert "| egnn, 2 x 5 | forward | JAX | 1 | 0.9 to 1.1 | **2 x faster** | 1e-06 | 1.5 |" in lines
    assert "| egnn, 2 x 5 | forward | egnn-pytorch | 20 | 20 to 20 | 10 x slower | other formulas | 1.5 |" in lines
    assert "- JAX, egnn, 2 x 5, forward: 2 x faster" in lines
    assert "- eager, egnn, 2 x 5, forward: alike: quartiles overlap" in lines
    assert "- x was left out." in lines
    assert lines[-1] == "Peers: torch-geometric 1.0, jax 1.0, egnn-pytorch 1.0."


@pytest.mark.parametrize("arguments", [["--systems", "0"], ["--hidden", "1"], ["--particles", "5", "1"]])
def test_sizes_are_checked(arguments: list[str], capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert f"{arguments[0]} must be at least" in capsys.readouterr().err
