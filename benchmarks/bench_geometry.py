"""The geometry ops against the machine's copy bandwidth.

``python -m benchmarks.bench_geometry`` prints a table and writes JSON; ``pytest benchmarks/bench_geometry.py
--benchmark-enable`` times the same calls under pytest-benchmark. A call's bytes are those that it must move: features,
results and edge numbers once an edge, nodes once a node. On the CPU the script runs itself again with glibc keeping
freed memory: else the page faults of each fresh result would be most of what is timed, for a copy as well. On a GPU its
own clock is read around CUDA graphs of calls: Python and the launches of some calls may take longer than their kernels.
"""

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import clof_ext
from clof_ext import EdgePlan, ops
from clof_ext.bench import machine, record
from clof_ext.bench.timing import BATCH_SECONDS, Timing, device_time, interleave, interleave_batches, milliseconds

RESULTS = Path(__file__).parent / "results"
FORMAT = 2
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}
GIGA = 1e9
FLOAT, INDEX = 4, 4
NEIGHBOURS = 20
COPY = "copy"
# Of each op's measurement, by the device's type.
SECONDS = {"cpu": 4.0, "cuda": 0.2}


@dataclass(frozen=True)
class Call:
    """A call and the bytes that it must move."""

    run: Callable[[], object]
    bytes: int


def graph(num_edges: int, device: torch.device) -> EdgePlan:
    """Graphs of NEIGHBOURS nodes, each node with an edge from every node of its graph, sorted by receiver."""
    receiver = torch.arange(num_edges // NEIGHBOURS).repeat_interleave(NEIGHBOURS)
    sender = receiver // NEIGHBOURS * NEIGHBOURS + torch.arange(NEIGHBOURS).repeat(len(receiver) // NEIGHBOURS)
    num_nodes = len(receiver) // NEIGHBOURS
    return clof_ext.prepare_graph(torch.stack((receiver, sender.clamp_max(num_nodes - 1))).to(device), num_nodes)


def calls(num_edges: int, channels: int, device: torch.device) -> dict[str, Call]:
    """Every op, forward and backward, float32, and a copy of all frames, which should exceed the caches."""
    plan = graph(num_edges, device)
    edges, nodes = plan.num_edges, plan.num_nodes
    pos, vel = torch.randn(2, nodes, 3, device=device)
    frames, scalars = torch.randn(edges, 3, 3, device=device), torch.randn(edges, 14, device=device)
    on_edges, on_nodes = (torch.randn(count, channels, 3, device=device) for count in (edges, nodes))
    target = torch.empty_like(frames)
    op, sides = torch.ops.clof_ext, (plan.edges, plan.offsets)

    def cost(per_edge: int, per_node: int) -> int:
        return edges * (FLOAT * per_edge + 2 * INDEX) + nodes * FLOAT * per_node

    wide, rows = 3 * channels, (plan.edges[0], plan.edges[2], plan.offsets[0])
    return {
        COPY: Call(lambda: target.copy_(frames), 2 * FLOAT * frames.numel()),
        "edge_frame": Call(lambda: ops.edge_frame(pos, plan), cost(9, 3)),
        "edge_frame backward": Call(lambda: op.edge_frame_backward(frames, pos, *sides, "soft"), cost(9, 6)),
        "edge_scalars": Call(lambda: ops.edge_scalars(pos, plan, vel), cost(14, 6)),
        "edge_scalars backward": Call(
            lambda: op.edge_scalars_backward(scalars, pos, vel, *sides, "soft"), cost(14, 12)
        ),
        "project": Call(lambda: ops.project(on_nodes, pos, plan, source="sender"), cost(wide, wide + 3)),
        "project backward": Call(
            lambda: op.project_backward(on_edges, on_nodes, pos, *sides, 1, "sender", "soft"),
            cost(wide, 2 * wide + 6),
        ),
        "aggregate": Call(lambda: ops.aggregate(on_edges, pos, plan), cost(wide, wide + 3)),
        "aggregate backward": Call(
            lambda: op.aggregate_backward(on_nodes, on_edges, pos, *sides, 1, "sum", "soft"),
            cost(2 * wide, wide + 6),
        ),
        "segment_sum": Call(lambda: op.segment_reduce(on_edges, *rows, "sum"), cost(wide, wide)),
    }


@functools.cache
def captured(call: Callable[[], object], count: int) -> torch.cuda.CUDAGraph:
    """So many calls as one CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            call()
    return graph


def captured_time(call: Callable[[], object], count: int) -> float:
    """Seconds that a GPU needs for so many calls, which do not wait for Python."""
    replay = captured(call, count).replay
    replay()  # the first one brings the graph to the GPU
    return device_time(replay, 1)


def times_of(timed: dict[str, Call], device: torch.device, seconds: float) -> dict[str, Timing]:
    runs = {name: call.run for name, call in timed.items()}
    if device.type == "cuda":
        return interleave_batches(runs, seconds=seconds, repeats=5, batch_time=captured_time)
    return interleave(runs, seconds=seconds, repeats=5, device=device)


def clock_of(device: torch.device) -> str:
    """How a call was timed, in words."""
    if device.type == "cuda":
        return f"CUDA events around CUDA graphs of calls that fill {1e3 * BATCH_SECONDS:g} ms"
    return "time.perf_counter around single calls"


def measure(num_edges: int, channels: int, device: torch.device, seconds: float) -> list[dict]:
    """Median, quartiles, bandwidth and fraction of the copy's for every call, in turn in one run."""
    timed = calls(num_edges, channels, device)
    with torch.no_grad():
        for call in timed.values():
            call.run()
        times = times_of(timed, device, seconds)
    copy = timed[COPY].bytes / times[COPY].median
    return [
        {
            "op": name,
            **milliseconds(time),
            "calls_per_repeat": time.calls,
            "bytes": timed[name].bytes,
            "gb_per_s": timed[name].bytes / time.median / GIGA,
            "fraction_of_copy": timed[name].bytes / time.median / copy,
        }
        for name, time in times.items()
    ]


def table(rows: list[dict]) -> str:
    lines = [f"{'op':<24}{'ms':>9}{'quartiles':>19}{'GB/s':>8}{'of copy':>9}"]
    for row in rows:
        spread = f"{row['lower_ms']:.3f}-{row['upper_ms']:.3f}"
        share = f"{row['fraction_of_copy']:.0%}"
        lines.append(f"{row['op']:<24}{row['median_ms']:>9.3f}{spread:>19}{row['gb_per_s']:>8.1f}{share:>9}")
    return "\n".join(lines)


def markdown(document: dict) -> list[str]:
    """Lines of a table."""
    lines = ["| op | ms (quartiles) | GB/s | of copy |", "| --- | --- | --- | --- |"]
    for row in document["measurements"]:
        times = f"{row['median_ms']:.3g} ({row['lower_ms']:.3g} to {row['upper_ms']:.3g})"
        lines.append(f"| {row['op']} | {times} | {row['gb_per_s']:.1f} | {row['fraction_of_copy']:.0%} |")
    return lines


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_geometry", description=__doc__)
    parser.add_argument("--edges", type=int, default=4_000_000)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help=f"of each op's measurement; by default {SECONDS}")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not KEEP_FREED_MEMORY.items() <= os.environ.items():
        command = [sys.executable, "-m", "benchmarks.bench_geometry", *arguments]
        os.execve(sys.executable, command, os.environ | KEEP_FREED_MEMORY)
    device = torch.device(options.device)
    rows = measure(options.edges, options.channels, device, options.seconds or SECONDS[device.type])
    about = machine.describe()
    print(f"{options.edges} edges, {options.channels} channels of order 1, float32, {torch.get_num_threads()} threads")
    print(table(rows))
    document = {
        "format": FORMAT,
        "benchmark": "geometry",
        "command": shlex.join(["python", "-m", "benchmarks.bench_geometry", *arguments]),
        **about,
        "clock": clock_of(device),
        "environment": KEEP_FREED_MEMORY if options.device == "cpu" else {},
        "settings": {
            **{"device": options.device, "edges": options.edges, "channels": options.channels},
            **{"dtype": "float32", "order": 1},
        },
        "measurements": rows,
    }
    path = options.output / f"geometry_{machine.slug(device)}.json"
    record.write(path, document)
    print(f"wrote {path}")


SMALL = calls(4000, 16, torch.device("cpu"))


@pytest.mark.parametrize("name", SMALL)
def test_geometry(benchmark, name: str):
    """The same calls at a size that fits the caches."""
    benchmark(SMALL[name].run)


if __name__ == "__main__":
    main(sys.argv[1:])
