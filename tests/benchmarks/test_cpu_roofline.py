"""Counted arithmetic and bytes against numbers worked out by hand, and the picture they make."""

import pytest
import torch

from benchmarks import arithmetic, cpu_roofline
from benchmarks.cpu_roofline import Roofs, layer_bytes
from clof_ext.bench.one_layer import Size, make_layer
from clof_ext.bench.variants import EAGER, FUSED

H, EDGES = 64, 2560 * 19


def test_operations_of_known_calls():
    a, b = torch.randn(2, 3, 4, requires_grad=True)
    assert arithmetic.count(lambda: (a * b - b).sum()) == 12 + 12 + 12
    assert arithmetic.count(lambda: a @ b.T) == 2 * 9 * 4
    assert arithmetic.count(lambda: torch.zeros(2, 4).index_add(0, torch.tensor([0, 0, 1]), a)) == 12
    assert arithmetic.count(lambda: torch.stack((a, b)).clone()[0] > 0) == 0
    # Two products, whose gradients are products with the other factor.
    assert arithmetic.count(lambda: torch.autograd.grad(a * b, [a, b], torch.ones(3, 4))) == 36


def test_operations_of_the_geometry():
    """With 16 channels of order 1 a projection has 16 products of 3 x 3 more than its frame."""
    found = arithmetic.per_edge(16)
    # d: 3. Its cross product: 9. Squares, a threshold, two norms, shifts, divisions; the third axis: 9.
    assert 3 + 9 + 9 < found["edge_frame"] < 80
    assert found["project"] - found["edge_frame"] == 2 * 9 * 16
    assert found["edge_scalars"] > found["edge_frame"] + 2 * 9 * 4
    assert all(found[f"{name} backward"] > 2 * found[name] for name in ("edge_frame", "edge_scalars", "project"))


def test_bytes_of_a_layer():
    """Forward: h, pos, vel in, h, pos out, edge features, two numbers of each edge, weights."""
    size = Size("egnn", 6, 2, 4, 5)
    weights = sum(parameter.numel() for parameter in make_layer(size).parameters())
    forward = 4 * (6 * (4 + 3 + 3) + 6 * (4 + 3) + 12 * 5 + weights) + 4 * 2 * 12
    gradients = 4 * (2 * 6 * (4 + 3) + 12 * 5 + weights)
    assert layer_bytes(size) == {"forward": forward, "forward+backward": 2 * forward - 4 * 6 * (4 + 3) + gradients}


def test_roofs():
    roofs = Roofs(bandwidth=10.0, products=100.0)
    assert (roofs.at(2.0), roofs.limit(2.0)) == (20.0, "copy")
    assert (roofs.at(50.0), roofs.limit(50.0)) == (100.0, "matmul")


@pytest.fixture
def documents() -> tuple[dict, dict]:
    def timed(op: str, ms: float, size: int) -> dict:
        return {"op": op, "median_ms": ms, "bytes": size, "gb_per_s": size / ms / 1e6}

    geometry = {
        "settings": {"edges": 10**6, "channels": 16},
        "measurements": [timed("copy", 10.0, 4 * 10**8), timed("edge_frame", 5.0, 10**8),
                         timed("edge_frame backward", 9.0, 10**8)],
    }  # fmt: skip
    rows = [
        {"variant": name, "pass": key, "flops": 10**9, "flops_per_s": 5e10}
        for name in (EAGER, FUSED)
        for key in ("forward", "forward+backward")
    ]
    size = {"network": "clofnet", "nodes": 2560, "neighbours": 19, "hidden": H, "edge_dim": 32, "graph": "systems"}
    sweep = {
        "machine": {"cpu": "A Processor", "threads": 2, "gpus": []},
        "versions": {"torch": "2.99", "clof_ext": "0.9"},
        "settings": {"device": "cpu"},
        "gemm": {"largest": 2e11},
        "cases": [{**size, "measurements": rows}, {**size, "nodes": 20, "measurements": rows}],
    }
    return geometry, sweep


def test_points_and_table(documents):
    frame, frame_backward, forward, step = cpu_roofline.points(*documents)
    operations = arithmetic.per_edge(16)["edge_frame"]
    assert frame.rate == pytest.approx(operations * 1e6 / 5e-3)
    assert frame.intensity == pytest.approx(operations * 1e6 / 1e8)
    assert frame_backward.backward and frame_backward.label == "edge_frame"
    assert forward.intensity == pytest.approx(1e9 / layer_bytes(Size("clofnet", 2560, 19, H, 32))["forward"])
    assert step.intensity < forward.intensity
    lines = cpu_roofline.markdown(*documents)
    assert len(lines) == 2 + 4
    assert lines[-1].startswith("| ClofNet layer, H = 64, forward+backward | ") and lines[-1].endswith(
        "| 50 | 25% | matmul |"
    )


def test_picture(documents):
    (axes,) = cpu_roofline.draw(*documents).axes
    assert [line.get_label() for line in axes.lines[1:]] == [
        "geometry op, forward", "geometry op, backward", "ClofNet layer, forward", "ClofNet layer, forward+backward"
    ]  # fmt: skip
    assert {text.get_text().strip() for text in axes.texts} == {
        "matmul, 200 GFLOP/s", "copy, 40 GB/s", "edge_frame", "H=64"
    }  # fmt: skip
