"""One published ClofNet layer on a GPU: eager, torch.compile and clof_ext, up to millions of edges.

``python -m benchmarks.bench_edge_block`` prints a line for each measurement and writes JSON to ``benchmarks/results``.
Ratios are to eager PyTorch at ``torch.set_float32_matmul_precision("high")`` in the same run. The roofline is that of
``roofline.py`` with the bandwidth and the rates of products that are measured first; clof_ext's time holds the whole
layer, its node-level part too. ``--device cpu`` runs a small case, to try the program out.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import clof_ext
from clof_ext.bench import machine
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.published import Clof_GCL
from clof_ext.bench.run import matmul_precision
from clof_ext.bench.timing import interleave, time_once
from clof_ext.training import replace_file

from . import roofline

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
MS = 1e3
# Particles of a system; the smallest case is the published batch of small ones, 128 of five.
N_PARTICLES, N_PARTICLES_OF_SMALLEST = 20, 5
HIDDEN = (64, 128)
# Edges of the published batches of 5 and of 20 particles, and of what fills a GPU.
SMALLEST_EDGES = 2560
EDGES = (SMALLEST_EDGES, 48_640, 1_000_000, 4_000_000)
CPU_EDGES = (760,)
# torch.compile takes a minute for each case: it is asked for one. CUDA graphs are for what launches bound.
COMPILED_EDGES = 1_000_000
GRAPHED_EDGES = 48_640
EAGER, COMPILED, FUSED, EXACT, HALF = "eager", "torch.compile", "clof_ext", "clof_ext highest", "clof_ext bfloat16"
GRAPHED = ", CUDA graph"
# A matrix of this many rows and columns, and an array of this many numbers, keep a GPU busy for milliseconds.
GPU_ROWS, GPU_NUMBERS = 8192, 2**28
CPU_ROWS, CPU_NUMBERS = 256, 2**16


@dataclass(frozen=True)
class Program:
    """A call that returns what is differentiated, and the leaves that get gradients."""

    call: Callable[[], list[Tensor]]
    leaves: list[Tensor]


@dataclass(frozen=True)
class Case:
    """A layer of some width on fully connected systems."""

    hidden: int
    num_edges: int
    device: torch.device

    def variants(self) -> dict[str, Program]:
        """Programs with the same weights and inputs."""
        torch.manual_seed(0)
        hidden, edge_dim = self.hidden, self.hidden // 2
        particles = N_PARTICLES_OF_SMALLEST if self.num_edges == SMALLEST_EDGES else N_PARTICLES
        systems = max(1, self.num_edges // (particles * (particles - 1)))
        nodes = systems * particles
        edges = clof_ext.newton.fully_connected(particles, systems).to(self.device)
        plain = Clof_GCL(hidden, hidden, hidden, edge_dim, norm_diff=True).to(self.device)
        fused = clof_ext.nn.FrameConv(hidden, hidden, edge_dim, velocity=True).to(self.device)
        fused.load_state_dict(plain.state_dict())
        vel = torch.randn(nodes, 3, device=self.device)
        shapes = (nodes, hidden), (nodes, 3), (edges.shape[1], edge_dim)
        h, pos, edge_attr = (torch.randn(shape, device=self.device, requires_grad=True) for shape in shapes)

        def published() -> list[Tensor]:
            # It writes into the positions that it is given.
            return list(plain(h, edges, pos.clone(), vel, edge_attr)[:2])

        def ours(precision: str = "high", *, half: bool = False) -> list[Tensor]:
            with matmul_precision(precision), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                return list(fused(h, pos, edges, edge_attr, vel))

        calls = {EAGER: published, FUSED: ours, EXACT: partial(ours, "highest"), HALF: partial(ours, half=True)}
        if self.num_edges == COMPILED_EDGES:
            torch.compiler.reset()
            calls[COMPILED] = torch.compile(published)
        leaves = [h, pos, edge_attr]
        parameters = {
            name: plain if call in (published, calls.get(COMPILED)) else fused for name, call in calls.items()
        }
        return {name: Program(call, [*leaves, *parameters[name].parameters()]) for name, call in calls.items()}

    @property
    def graphed(self) -> tuple[str, ...]:
        """The variants that are captured as CUDA graphs too."""
        return (EAGER, FUSED) if self.device.type == "cuda" and self.num_edges <= GRAPHED_EDGES else ()


def forward(program: Program) -> None:
    with torch.no_grad():
        program.call()


def step(program: Program) -> None:
    """Forward and backward, to fresh gradients, as after ``optimizer.zero_grad()``."""
    for leaf in program.leaves:
        leaf.grad = None
    sum(out.float().sum() for out in program.call()).backward()


def captured(call: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Replays what a call that has run before does on the GPU."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        # Memory that only the first calls ask for must not come from the graph's.
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def error(found: list[Tensor], exact: list[Tensor]) -> float:
    """Largest difference in units of the largest value."""
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(found, exact, strict=True))


def measure(case: Case, seconds: float, say: Callable[[str], None]) -> Iterator[dict]:
    """Figures of every variant that works here, in both passes."""
    with matmul_precision("highest"), torch.no_grad():
        exact = case.variants()[EAGER].call()
    calls = case.variants()
    for name, run in {"forward": forward, "forward+backward": step}.items():
        warmup = {}
        for variant in list(calls):
            try:
                warmup[variant] = time_once(partial(run, calls[variant]), case.device)
            except RuntimeError as failure:
                say(f"{variant} does not work here: {next(iter(str(failure).splitlines()), '')}")
                del calls[variant]
        timed = {variant: partial(run, program) for variant, program in calls.items()}
        peaks = {variant: peak_bytes(call, case.device) for variant, call in timed.items()}
        for variant in case.graphed:
            timed[variant + GRAPHED] = captured(timed[variant], case.device)
        times = interleave(timed, seconds=seconds, repeats=5, device=case.device)
        with torch.no_grad():
            errors = {variant: error(program.call(), exact) for variant, program in calls.items()}
        for variant, time in times.items():
            same = variant.removesuffix(GRAPHED)
            yield {
                **{"hidden": case.hidden, "edges": case.num_edges, "pass": name, "variant": variant},
                **{"median_ms": MS * time.median, "lower_ms": MS * time.lower, "upper_ms": MS * time.upper},
                **{"repeats": time.repeats, "ratio_to_eager": times[EAGER].median / time.median},
                **{"peak_bytes": peaks[same], "error": errors[same], "warmup_s": warmup[same]},
            }


def measured_gpu(device: torch.device) -> roofline.Gpu:
    """What this GPU reaches: the bandwidth of a copy, and large products of torch's."""
    on_gpu = device.type == "cuda"
    rows, numbers = (GPU_ROWS, GPU_NUMBERS) if on_gpu else (CPU_ROWS, CPU_NUMBERS)
    source, target = torch.empty(2, numbers, device=device)
    matrix = torch.randn(rows, rows, device=device)
    half = matrix.bfloat16()
    calls = {"copy": lambda: target.copy_(source), "tf32": lambda: matrix @ matrix, "bf16": lambda: half @ half}
    for call in calls.values():
        call()
    times = interleave(calls, seconds=0.2, repeats=5, device=device)
    rates = {name: 2.0 * rows**3 / times[name].median for name in ("tf32", "bf16")}
    bandwidth = 2 * source.element_size() * numbers / times["copy"].median
    if not on_gpu:
        return roofline.Gpu("this machine", bandwidth, rates, float("inf"), "measured here")
    properties = torch.cuda.get_device_properties(device)
    # kHz, and 16 special functions each cycle on every multiprocessor.
    exponentials = 16e3 * properties.clock_rate * properties.multi_processor_count
    return roofline.Gpu(properties.name, bandwidth, rates, exponentials, "measured here; exponentials by the clock")


def with_roofline(row: dict, gpu: roofline.Gpu) -> dict:
    """A row, and the fraction of the roofline that it reaches where it has one."""
    precision = {FUSED: "tf32", HALF: "bf16"}.get(row["variant"])
    if precision is None:
        return row
    block = roofline.EdgeBlock(row["hidden"], row["hidden"] // 2, row["edges"])
    seconds = roofline.forward_bound(block, gpu, precision).seconds
    if row["pass"] != "forward":
        seconds += roofline.backward_bound(block, gpu, precision).seconds
    return {**row, "fraction_of_roofline": MS * seconds / row["median_ms"]}


def line(row: dict) -> str:
    fraction = row.get("fraction_of_roofline")
    return (
        f"H={row['hidden']:<4} E={row['edges']:<8} {row['pass']:<17}{row['variant']:<22}{row['median_ms']:>9.3f} ms"
        f"{row['ratio_to_eager']:>7.2f} x{row['peak_bytes'] / 1e6:>10.1f} MB  error {row['error']:.0e}"
        f"  warm-up {row['warmup_s']:.1f} s" + ("" if fraction is None else f"  {fraction:.0%} of the roofline")
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--hidden", type=int, nargs="+", default=HIDDEN, help="hidden features")
    parser.add_argument("--edges", type=int, nargs="+", help=f"default: {EDGES}, on the CPU {CPU_EDGES}")
    parser.add_argument("--seconds", type=float, default=0.5, help="time that each measurement is repeated for")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = []
    with matmul_precision("high"):
        gpu = measured_gpu(device)
        print(f"{gpu.name}: copies {gpu.bandwidth / 1e9:.0f} GB/s", flush=True)
        for hidden in options.hidden:
            for num_edges in options.edges or (EDGES if device.type == "cuda" else CPU_EDGES):
                for row in measure(Case(hidden, num_edges, device), options.seconds, print):
                    rows.append(with_roofline(row, gpu))
                    print(line(rows[-1]), flush=True)
    command = shlex.join(["python", "-m", "benchmarks.bench_edge_block", *(arguments or sys.argv[1:])])
    head = {"format": FORMAT, "benchmark": "edge_block", "command": command, **machine.describe()}
    path = options.output / f"edge_block_{machine.slug(device)}.json"
    text = json.dumps({**head, "measured": asdict(gpu), "rows": rows}, indent=1)
    replace_file(path, lambda target: target.write_text(text + "\n"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
