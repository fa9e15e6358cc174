"""Train a score network on a small set of molecules, make conformers of others, and compare them with the references.

Run ``python -m examples.conformers``; it takes some minutes. Started again, it finds its files and trains no more. So
short a training learns bond lengths, not much more: see docs/conformations.md for what longer ones reach.
"""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from clof_ext.conformation import Store
from clof_ext.conformation.generate import generate
from clof_ext.conformation.metrics import coverage
from clof_ext.conformation.recipe import SMALL
from clof_ext.conformation.rmsd import rmsd_matrix
from clof_ext.conformation.sampling import Solver
from clof_ext.conformation.train import held_out_of, load_network, train
from clof_ext.conformation.write import write_sdf

folder = Path("runs/example-conformers")
data = Path(str(files("clof_ext.conformation") / "data" / "small.mols"))
recipe = replace(SMALL, hidden_dim=64, epochs=100)
train(data, folder, recipe, held_out=4)
network, config = load_network(folder / "best.safetensors")

store = Store(data)
molecules = [store[number] for number in held_out_of(store, config)]
counts = [2 * molecule.num_conformers for molecule in molecules]
made, report = generate(network, molecules, counts, Solver(), seed=0)
print(f"{report.chains} conformers, {report.restarted} chains run again, {report.failed} failed")
write_sdf(folder / "made.sdf", made)
for reference, molecule in zip(molecules, made, strict=True):
    print(molecule.name, coverage(rmsd_matrix(reference, reference.positions, molecule.positions), threshold=0.5))
