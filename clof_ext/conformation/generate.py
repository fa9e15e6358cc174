"""Conformers of molecules by a trained score network: many chains at a time, watched, and restarted where they fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..training.trainer import mixed_seed
from .molecule import Molecule, MoleculeBatch, empty_batch, split_conformers
from .sampling import Sampler, Score
from .score_network import ScoreNetwork

# A chain with an atom this far from the origin, in angstrom, has exploded: no molecule or noise reaches there.
FARTHEST = 300.0
# Runs of a failed chain after its first.
MAX_RESTARTS = 3
# Atoms whose chains run together: their arrays stay in the caches.
BATCH_ATOMS = 2000


@dataclass
class Counts:
    """What happened to the chains.

    Attributes:
        chains: number of conformers asked for.
        restarted: number of runs that were made again because of NaN or an explosion.
        failed: chains that failed in all their runs: their conformers are missing.
        calls: of the score network, on batches of chains.
    """

    chains: int = 0
    restarted: int = 0
    failed: int = 0
    calls: int = 0


@dataclass(frozen=True)
class Chain:
    """One conformer to make: number of the molecule, and of the conformer there."""

    molecule: int
    number: int


@dataclass
class Watch:
    """Finds chains that are no numbers or too far away, and holds them at the origin from there on.

    Attributes:
        batch: (N,) chain of each atom.
        broken: (G,) whether a chain failed.
    """

    batch: Tensor
    broken: Tensor

    def __call__(self, pos: Tensor) -> Tensor:
        # Written so that NaN is far away.
        far = ~(pos.abs().amax(1) <= FARTHEST)
        if bool(far.any()):
            self.broken[self.batch[far]] = True
        return pos.masked_fill(self.broken[self.batch, None], 0.0) if bool(self.broken.any()) else pos


def generate(
    network: ScoreNetwork,
    molecules: Sequence[Molecule],
    counts: Sequence[int],
    sampler: Sampler,
    *,
    seed: int = 0,
    batch_atoms: int = BATCH_ATOMS,
    progress: bool = True,
) -> tuple[list[Molecule], Counts]:
    """Make conformers of each molecule.

    Args:
        network: trained; on its device, evaluated without dropout.
        molecules: their own conformers are not used.
        counts: how many conformers to make of each.
        sampler: see ``sampling``.
        seed: the same seed, molecules, counts and batch_atoms give the same conformers.
        batch_atoms: chains of up to this many atoms run together, at least one.
        progress: show a bar that counts calls of the network.

    Returns:
        The molecules with the new conformers, and what happened to the chains. A chain that gives NaN or explodes is
        run again with other numbers, up to three times; if all fail, its conformer is left out.

    Raises:
        ValueError: not as many counts as molecules.
    """
    if len(counts) != len(molecules):
        raise ValueError(f"counts must have a number for each of the {len(molecules)} molecules; got {len(counts)}.")
    chains = [Chain(molecule, number) for molecule, count in enumerate(counts) for number in range(count)]
    made: dict[Chain, Tensor] = {}
    report = Counts(chains=len(chains))
    network.eval()
    for attempt in range(1 + MAX_RESTARTS):
        missing = [chain for chain in chains if chain not in made]
        if not missing:
            break
        report.restarted += len(missing) if attempt else 0
        batches = list(_batches(missing, molecules, batch_atoms))
        bar = tqdm(total=len(batches) * sampler.calls, unit="call", disable=not progress)
        with bar, torch.no_grad():
            for number, batch_chains in enumerate(batches):
                batch = empty_batch([molecules[chain.molecule] for chain in batch_chains])
                positions = _run(network, batch, sampler, mixed_seed(seed, attempt, number), bar.update)
                report.calls += sampler.calls
                made.update((chain, pos) for chain, pos in zip(batch_chains, positions, strict=True) if pos is not None)
    report.failed = len(chains) - len(made)
    return [_with_made(molecule, k, made) for k, molecule in enumerate(molecules)], report


def _batches(chains: Sequence[Chain], molecules: Sequence[Molecule], batch_atoms: int):
    """Consecutive chains of up to ``batch_atoms`` atoms, at least one."""
    batch: list[Chain] = []
    atoms = 0
    for chain in chains:
        size = molecules[chain.molecule].num_atoms
        if batch and atoms + size > batch_atoms:
            yield batch
            batch, atoms = [], 0
        batch.append(chain)
        atoms += size
    yield batch


def _run(
    network: ScoreNetwork, batch: MoleculeBatch, sampler: Sampler, seed: int, update: Callable[[], object]
) -> list[Tensor | None]:
    """Positions of each chain, (n, 3) on the CPU; None for those that failed."""
    device = next(network.parameters()).device
    batch = batch.to(device)
    generator = torch.Generator().manual_seed(seed)
    watch = Watch(batch.batch, torch.zeros(batch.num_graphs, dtype=torch.bool, device=device))

    def noise() -> Tensor:
        # Drawn on the CPU, so that all devices get the same numbers.
        return torch.randn(batch.num_nodes, 3, generator=generator).to(device)

    pos = sampler.run(_counted(score_of(network, batch), update), noise, watch)
    broken = watch.broken.tolist()
    return [None if lost else part.cpu() for part, lost in zip(split_conformers(batch, pos), broken, strict=True)]


def score_of(network: ScoreNetwork, batch: MoleculeBatch) -> Score:
    """The network's score of the batch's molecules as a function of positions and noise."""
    ones = torch.ones(batch.num_nodes, device=batch.pos.device)

    def score(pos: Tensor, sigma: float) -> Tensor:
        return network.score(pos, batch.atom_type, batch.edge_index, batch.edge_type, sigma * ones)

    return score


def _counted(score: Score, update: Callable[[], object]) -> Score:
    def counted(pos: Tensor, sigma: float) -> Tensor:
        update()
        return score(pos, sigma)

    return counted


def _with_made(molecule: Molecule, number: int, made: dict[Chain, Tensor]) -> Molecule:
    """The molecule with the conformers that were made of it, in their order."""
    mine = sorted((chain for chain in made if chain.molecule == number), key=lambda chain: chain.number)
    positions = [made[chain] for chain in mine]
    return molecule.with_conformers(torch.stack(positions) if positions else torch.zeros(0, molecule.num_atoms, 3))
