"""Conformers of held-out molecules by a trained score network, beside an untrained one's and RDKit's.

``python -m benchmarks.conformer_quality RUN STORE`` samples with the network in RUN (what ``clof-ext conformers train``
made of STORE), evaluates, and writes tables, JSON and pictures. A training that still runs may be looked at.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from clof_ext.bench import machine
from clof_ext.conformation import Molecule, Store, StoreWriter
from clof_ext.conformation.evaluate import GENERATED_PER_REFERENCE, Measures, evaluate
from clof_ext.conformation.evaluation_report import plot_rmsd, table, write_report
from clof_ext.conformation.generate import generate
from clof_ext.conformation.sampling import SAMPLERS
from clof_ext.conformation.score_network import ScoreNetwork
from clof_ext.conformation.train import held_out_of, load_network
from clof_ext.training import best_epoch
from clof_ext.training.metrics import plot_losses, write_metrics

RESULTS = Path(__file__).parent.parent / "results" / "conformers" / "qm9_like"
TRAINED, UNTRAINED = "ClofNet", "untrained"


def networks(run: Path) -> tuple[dict[str, ScoreNetwork], dict]:
    """The trained network, one of the same sizes with random weights, and the training's config."""
    trained, config = load_network(run / "best.safetensors")
    torch.manual_seed(config["seed"])
    sizes = {name: config[name] for name in ("hidden_dim", "heads", "dropout")}
    return {TRAINED: trained, UNTRAINED: ScoreNetwork(**sizes)}, config


def make_all(
    nets: dict[str, ScoreNetwork], molecules: list[Molecule], samplers: list[str], seed: int, folder: Path
) -> tuple[dict[str, Store], dict[str, dict]]:
    """A store of conformers for the trained network with each sampler, and for the untrained with the first."""
    counts = [GENERATED_PER_REFERENCE * molecule.num_conformers for molecule in molecules]
    plans = [(TRAINED, name) for name in samplers] + [(UNTRAINED, samplers[0])]
    stores, reports = {}, {}
    for variant, name in plans:
        label, start = f"{variant}, {name}", time.perf_counter()
        sampler = SAMPLERS[name](nets[variant].sigmas.detach())
        made, report = generate(nets[variant], molecules, counts, sampler, seed=seed)
        reports[label] = {
            "chains": report.chains,
            "restarted": report.restarted,
            "failed": report.failed,
            "calls_per_chain": sampler.calls,
            "seconds": round(time.perf_counter() - start, 1),
        }
        path = folder / f"{label}.mols"
        with StoreWriter(path, {"source": "generated", "sampler": name, "seed": seed}) as writer:
            for molecule in made:
                writer.add(molecule)
        stores[label] = Store(path)
    return stores, reports


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformer_quality", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the training")
    parser.add_argument("store", type=Path, help="what was trained on")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["solver", "ode"])
    parser.add_argument("--molecules", type=int, help="at most so many of those held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.5, help="of coverage, in angstrom")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    nets, config = networks(options.run)
    history = json.loads((options.run / "metrics.json").read_text())
    store = Store(options.store)
    numbers = held_out_of(store, config)
    molecules = [store[number] for number in numbers][: options.molecules]
    with tempfile.TemporaryDirectory() as folder:
        stores, chains = make_all(nets, molecules, options.samplers, options.seed, Path(folder))
        result = evaluate(store, stores, measures=Measures(threshold=options.threshold, seed=options.seed))
    about = {
        "references": options.store.name,
        "training": {**config, "epochs_made": len(history), "best": best_epoch(history)},
        "chains": chains,
        **machine.describe(),
    }
    write_report(result, options.output, about)
    # An untrained network's distances would stretch the axis over all others'.
    shown = {name: results for name, results in result.results.items() if not name.startswith(UNTRAINED)}
    plot_rmsd(replace(result, results=shown), options.output / "rmsd.png")
    write_metrics(options.output, history)
    plot_losses(options.output / "loss.png", history)
    print(table(result))
    print(f"Mean / median over {len(result.molecules)} molecules. Skipped: {len(result.skipped)}.")
    print(json.dumps(chains, indent=1))


if __name__ == "__main__":
    main()
