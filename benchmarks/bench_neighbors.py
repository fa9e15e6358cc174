"""Neighbours within a radius by ``clof_ext.neighbors`` (vesin), and by torch_cluster where that is installed.

``python -m benchmarks.bench_neighbors`` prints a table and writes JSON. Points lie evenly in a box, with about as many
neighbours as atoms have within 5 Angstrom. Both must find the same number of edges; torch_cluster knows no cells.
"""

import argparse
import importlib.util
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from clof_ext.bench import machine
from clof_ext.bench.run import clock, threads
from clof_ext.bench.timing import interleave
from clof_ext.neighbors import radius_graph
from clof_ext.training import replace_file

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
CPU = torch.device("cpu")
SECONDS, REPEATS, MS = 0.3, 7, 1e3
CUTOFF, NEIGHBOURS = 1.0, 50
HEADERS = ("graphs x nodes", "cell", "edges", "program", "ms")
PACKAGES = ("vesin", "torch-cluster")


@dataclass(frozen=True)
class Size:
    """Graphs of so many points each, in a box that repeats or not."""

    graphs: int
    nodes: int
    periodic: bool = False

    @property
    def edge(self) -> float:
        """Of the box, in which a ball of the cutoff's radius holds the wanted number of neighbours."""
        return (self.nodes * 4 / 3 * math.pi * CUTOFF**3 / NEIGHBOURS) ** (1 / 3)

    def points(self) -> tuple[Tensor, Tensor]:
        """Positions in float64, and the graph of each."""
        torch.manual_seed(0)
        pos = self.edge * torch.rand(self.graphs * self.nodes, 3, dtype=torch.float64)
        return pos, torch.arange(self.graphs).repeat_interleave(self.nodes)


SIZES = [Size(1, 1000), Size(1, 10000), Size(64, 30), Size(64, 100), Size(1, 1000, True), Size(1, 10000, True)]


def with_vesin(size: Size, pos: Tensor, batch: Tensor) -> Tensor:
    cell = size.edge * torch.eye(3, dtype=torch.float64) if size.periodic else None
    return radius_graph(pos, CUTOFF, batch=batch, cell=cell).edge_index


def with_torch_cluster(size: Size, pos: Tensor, batch: Tensor) -> Tensor:
    from torch_cluster import radius_graph as find

    return find(pos, CUTOFF, batch, max_num_neighbors=size.nodes)


def programs(size: Size) -> dict[str, Callable[[Size, Tensor, Tensor], Tensor]]:
    """Those that are installed and can."""
    other = not size.periodic and importlib.util.find_spec("torch_cluster") is not None
    return {"vesin": with_vesin, **({"torch_cluster": with_torch_cluster} if other else {})}


def measure(size: Size, timer: Callable[[], float]) -> list[dict]:
    """A row for each program."""
    pos, batch = size.points()
    calls = {name: lambda run=run: run(size, pos, batch) for name, run in programs(size).items()}
    edges = {name: call().shape[1] for name, call in calls.items()}
    if len(set(edges.values())) > 1:
        raise RuntimeError(f"The programs do not find the same edges of {size}: {edges}.")
    timings = interleave(calls, seconds=SECONDS, repeats=REPEATS, device=CPU, clock=timer)
    return [
        {**asdict(size), "edges": edges[name], "program": name, "ms": MS * timing.median}
        for name, timing in timings.items()
    ]


def table(rows: list[dict]) -> list[str]:
    """Lines of Markdown."""
    lines = [HEADERS, ("---",) * len(HEADERS)]
    for row in rows:
        size, cell = f"{row['graphs']} x {row['nodes']}", "yes" if row["periodic"] else "no"
        lines.append((size, cell, str(row["edges"]), row["program"], f"{row['ms']:.3g}"))
    return ["| " + " | ".join(line) + " |" for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = "python -m benchmarks.bench_neighbors"
    parser = argparse.ArgumentParser(prog=name, description=__doc__.splitlines()[0])
    parser.add_argument("--busy", action="store_true", help="on a busy machine: processor time of one thread")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON (default: %(default)s)")
    options = parser.parse_args(arguments)
    say, rows = clock(), []
    with threads(1 if options.busy else torch.get_num_threads()):
        head = machine.describe()
        for size in SIZES:
            say(str(size))
            rows += measure(size, time.process_time if options.busy else time.perf_counter)
    head["versions"] |= {package: machine.distribution(package) for package in PACKAGES}
    command = shlex.join([*name.split(), *arguments])
    document = {"format": FORMAT, "command": command, "busy": options.busy, **head, "measurements": rows}
    path = options.output / f"neighbors_{machine.slug(CPU)}.json"
    replace_file(path, lambda target: target.write_text(json.dumps(document, indent=1) + "\n"))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
