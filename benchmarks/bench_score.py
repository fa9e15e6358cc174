"""Time, memory and error of the score network of conformation generation, beside its published form.

``python -m benchmarks.bench_score`` prints a table and writes JSON. Both networks have the same weights, and both see
the same perturbed conformers of molecules that ship with the package.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
from torch import nn

from benchmarks.bench_geometry import RESULTS
from benchmarks.published_score import EquiDistanceScoreMatch
from clof_ext.bench import machine, record
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.timing import interleave
from clof_ext.conformation import Store, collate
from clof_ext.conformation.losses import Perturbed, perturb
from clof_ext.conformation.noise import noise_levels
from clof_ext.conformation.score_network import ScoreNetwork
from clof_ext.conformation.train import denoising_losses

FORMAT = 1
EAGER, OURS = "eager", "clof_ext"
# Relative to the largest score in float64: ten times what rounding gives the eager network.
TOLERANCE = 1e-4
MEGA, MS = 1e6, 1e3
SEED = 0


def batch_of(num_molecules: int) -> Perturbed:
    """The first conformers of molecules of the shipped QM9-like set, each with noise of another level."""
    store = Store(str(files("clof_ext.conformation") / "data" / "qm9_like.mols"))
    molecules = collate([(store[number % len(store)], 0) for number in range(num_molecules)])
    levels = noise_levels()
    sigma = levels[torch.arange(num_molecules) % len(levels)]
    return perturb(molecules, sigma, torch.Generator().manual_seed(SEED))


def networks(hidden_dim: int, device: torch.device) -> dict[str, nn.Module]:
    """The published form and ours, with the same weights, in training mode."""
    torch.manual_seed(SEED)
    ours = ScoreNetwork(hidden_dim)
    for head in ours.model.dynamic_mlp_modules:
        # Ours start near 0: where all scores are small, errors would be, too.
        nn.init.xavier_uniform_(head[-1].weight)
    plain = EquiDistanceScoreMatch(hidden_dim, sigmas=ours.sigmas.detach())
    plain.load_state_dict(ours.state_dict())
    return {EAGER: plain.to(device), OURS: ours.to(device)}


def passes(network: nn.Module, batch: Perturbed) -> dict[str, Callable[[], object]]:
    """Scores without gradients, and a training step without its update."""

    def forward() -> None:
        with torch.no_grad():
            denoising_losses(network.score, batch)

    def forward_backward() -> None:
        network.zero_grad(set_to_none=True)
        denoising_losses(network.score, batch).mean().backward()

    return {"forward": forward, "forward + backward": forward_backward}


def largest_error(nets: dict[str, nn.Module], batch: Perturbed) -> dict[str, float]:
    """Of each network's sigma * score without dropout, relative to the largest of the eager network in float64."""
    m = batch.molecules
    rest = (m.atom_type, m.edge_index, m.edge_type)

    def noise_found(network: nn.Module, dtype: torch.dtype) -> torch.Tensor:
        network = network.eval().to(dtype)
        with torch.no_grad():
            found = batch.sigma * network.score(batch.pos.to(dtype), *rest, batch.sigma.to(dtype))
        network.train().float()
        return found.double()

    exact = noise_found(nets[EAGER], torch.float64)
    errors = {name: noise_found(network, torch.float32) - exact for name, network in nets.items()}
    return {name: float(error.abs().max() / exact.abs().max()) for name, error in errors.items()}


def measure(
    hidden_dim: int, num_molecules: int, device: torch.device, threads: int, seconds: float, repeats: int
) -> list[dict]:
    """A row for each pass and network, timed in turn, with so many of PyTorch's threads.

    Raises:
        RuntimeError: the networks do not agree.
    """
    torch.set_num_threads(threads)
    batch = batch_of(num_molecules)
    batch = Perturbed(batch.molecules.to(device), batch.pos.to(device), batch.sigma.to(device), batch.noise.to(device))
    nets = networks(hidden_dim, device)
    errors = largest_error(nets, batch)
    # Written so that nan fails.
    if not max(errors.values()) <= TOLERANCE:
        raise RuntimeError(f"the networks do not agree: errors {errors}, allowed are {TOLERANCE}.")
    rows = []
    for name in ("forward", "forward + backward"):
        calls = {variant: passes(network, batch)[name] for variant, network in nets.items()}
        for call in calls.values():
            call()
        peaks = {variant: peak_bytes(call, device) for variant, call in calls.items()}
        times = interleave(calls, seconds=seconds, repeats=repeats, device=device)
        for variant, timing in times.items():
            rows.append(
                {
                    "pass": name,
                    "variant": variant,
                    "threads": threads,
                    "molecules": num_molecules,
                    "atoms": batch.molecules.num_nodes,
                    "edges": batch.molecules.edge_index.shape[1],
                    "median_ms": MS * timing.median,
                    "lower_ms": MS * timing.lower,
                    "upper_ms": MS * timing.upper,
                    "repeats": timing.repeats,
                    "ratio_to_eager": times[EAGER].median / timing.median,
                    "peak_bytes": peaks[variant],
                    "peak_of_eager": peaks[variant] / peaks[EAGER],
                    "error": errors[variant],
                }
            )
    return rows


def table(rows: list[dict]) -> str:
    heads = f"{'pass':20}{'variant':10}{'threads':>8}{'ms':>9}{'quartiles':>14}"
    lines = [f"{heads}{'x eager':>9}{'peak MB':>9}{'of it':>7}{'error':>9}"]
    for row in rows:
        spread = f"{row['lower_ms']:.0f}-{row['upper_ms']:.0f}"
        lines.append(
            f"{row['pass']:20}{row['variant']:10}{row['threads']:8}{row['median_ms']:9.1f}{spread:>14}"
            f"{row['ratio_to_eager']:9.2f}"
            f"{row['peak_bytes'] / MEGA:9.1f}{row['peak_of_eager']:7.2f}{row['error']:9.0e}"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_score", description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=288)
    parser.add_argument("--molecules", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of PyTorch's threads")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5, help="at least so many of each")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    about = machine.describe()
    rows = []
    for threads in options.threads:
        rows += measure(options.hidden, options.molecules, device, threads, options.seconds, options.repeats)
    print(f"hidden size {options.hidden}, {rows[0]['molecules']} molecules, {rows[0]['edges']} edges, float32")
    print(table(rows))
    document = {
        "format": FORMAT,
        "benchmark": "score network",
        "command": shlex.join(["python", "-m", "benchmarks.bench_score", *arguments]),
        **about,
        "settings": {"hidden": options.hidden, "molecules": options.molecules, "dtype": "float32"},
        "measurements": rows,
    }
    path = options.output / f"score_{machine.slug(device)}.json"
    record.write(path, document)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
