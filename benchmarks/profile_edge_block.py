"""Where a GPU's time goes in one published ClofNet layer: ``python -m benchmarks.profile_edge_block``.

For each precision the time of every kernel of a pass, from torch's profiler, and the time from call to end of eager
PyTorch and clof_ext. What is missing between the two is the time in which the GPU waits for launches.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from clof_ext.bench import machine
from clof_ext.bench.run import matmul_precision
from clof_ext.bench.timing import interleave
from clof_ext.training import replace_file

from .bench_edge_block import EAGER, EXACT, FUSED, HALF, MS, RESULTS, SMALLEST_EDGES, Case, forward, step

FORMAT = 1
PASSES = {"forward": forward, "forward+backward": step}
CALLS = 3
MICROSECONDS = 1e-6


def kernels(run, device: torch.device) -> list[dict]:
    """Every kernel of a call that was warmed up, the longest first."""
    for _ in range(2):
        run()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(CALLS):
            run()
        torch.cuda.synchronize(device)
    events = [event for event in profiler.key_averages() if event.device_time_total > 0]
    return [
        {"kernel": event.key, "launches": event.count // CALLS, "us": event.device_time_total / CALLS}
        for event in sorted(events, key=lambda event: -event.device_time_total)
    ]


def profiles(case: Case) -> Iterator[dict]:
    programs = case.variants()
    for variant in (FUSED, EXACT, HALF):
        for name, run in PASSES.items():
            found = kernels(partial(run, programs[variant]), case.device)
            yield {
                **{"hidden": case.hidden, "edges": case.num_edges, "pass": name, "variant": variant},
                **{"gpu_us": sum(row["us"] for row in found), "launches": sum(row["launches"] for row in found)},
                "kernels": found,
            }


def times(case: Case, seconds: float) -> Iterator[dict]:
    programs = case.variants()
    for name, run in PASSES.items():
        calls = {variant: partial(run, programs[variant]) for variant in (EAGER, FUSED)}
        for variant, time in interleave(calls, seconds=seconds, repeats=5, device=case.device).items():
            yield {
                **{"hidden": case.hidden, "edges": case.num_edges, "pass": name, "variant": variant},
                "median_ms": MS * time.median,
            }


def line(row: dict) -> str:
    head = f"H={row['hidden']} E={row['edges']} {row['pass']} {row['variant']}"
    if "median_ms" in row:
        return f"{head}: {row['median_ms']:.3f} ms from call to end"
    longest = "".join(f"\n  {one['us']:9.1f} us  x{one['launches']:<3} {one['kernel'][:90]}" for one in row["kernels"])
    return f"{head}: {row['gpu_us']:.0f} us in {row['launches']} launches{longest}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--edges", type=int, nargs="+", default=[SMALLEST_EDGES, 1_000_000])
    parser.add_argument("--seconds", type=float, default=0.1, help="of each measurement from call to end")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("this needs a GPU: torch finds none.")
    device = torch.device("cuda")
    rows = {"profiles": [], "times": []}
    with matmul_precision("high"):
        for num_edges in options.edges:
            case = Case(options.hidden, num_edges, device)
            for kind, found in (("times", times(case, options.seconds)), ("profiles", profiles(case))):
                for row in found:
                    rows[kind].append(row)
                    print(line(row), flush=True)
    command = shlex.join(["python", "-m", "benchmarks.profile_edge_block", *(arguments or sys.argv[1:])])
    head = {"format": FORMAT, "benchmark": "edge_block_profile", "command": command, **machine.describe()}
    path = options.output / f"edge_block_profile_{machine.slug(device)}.json"
    replace_file(path, lambda target: target.write_text(json.dumps({**head, **rows}, indent=1) + "\n"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
