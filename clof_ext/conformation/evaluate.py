"""Methods compared on the same molecules: generated conformers against references."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from torch import Tensor
from tqdm import tqdm

from ..training import OptionError
from ._parallel import ordered_map
from .chemistry import ChemistryError
from .embed import etkdg, etkdg_relaxed
from .metrics import (
    THRESHOLDS,
    coverage,
    distance_mmds,
    ensemble_properties,
    mean_and_median,
    property_errors,
    summarized,
)
from .molecule import Molecule
from .rmsd import rmsd_matrix
from .store import Skipped, Store

# As published: twice as many generated conformers as references.
GENERATED_PER_REFERENCE = 2
# Far from the seeds that sets are made with. RDKit's embeddings of seed s are those of seed 1 numbered s, 2 s, ..., so
# that small seeds would give baselines the very embeddings that the references were relaxed from.
BASELINE_SEED = 1_000_000
BASELINES: dict[str, Callable[[Molecule, int, int], Molecule]] = {"ETKDG": etkdg, "ETKDG + MMFF": etkdg_relaxed}


@dataclass(frozen=True)
class Measures:
    """What is measured.

    Attributes:
        threshold: of coverage, in angstrom; see ``metrics.THRESHOLDS``.
        validity: also the share of conformers that pass PoseBusters' checks.
        properties: also energies and gaps of the ensembles by GFN2-xTB, of at most so many conformers of each side;
            0 for none.
        seed: of the baselines.
    """

    threshold: float = THRESHOLDS["qm9"]
    validity: bool = False
    properties: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """One molecule to compare on.

    Attributes:
        reference: the molecule with its R reference conformers.
        generated: the molecule with the conformers of each method that are given, the first 2R of which count.
        baselines: names of the baselines to embed.
    """

    reference: Molecule
    generated: dict[str, Molecule]
    baselines: tuple[str, ...]

    @property
    def count(self) -> int:
        return GENERATED_PER_REFERENCE * self.reference.num_conformers


@dataclass(frozen=True)
class Result:
    """One method on one molecule.

    Attributes:
        values: the measured numbers by name; of an MMD of several distances or pairs their mean.
        mmds: of ``distance_mmds``.
        closest: (R,) smallest RMSD of each reference, angstrom.
        pair: (2, N, 3), the reference whose smallest RMSD is the median of all, and its closest generated conformer.
    """

    values: dict[str, float]
    mmds: dict[str, np.ndarray]
    closest: np.ndarray
    pair: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Methods compared on the same molecules.

    Attributes:
        measures: what was measured.
        molecules: those compared on, with the reference conformers.
        results: of each method, a result for each molecule.
        skipped: molecules of the references that are not compared on, and why.
    """

    measures: Measures
    molecules: list[Molecule]
    results: dict[str, list[Result]]
    skipped: list[Skipped]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean and median of every number of every method: over molecules, those of MMDs over all of all molecules."""
        return {name: _summary(results) for name, results in self.results.items()}


def _summary(results: list[Result]) -> dict[str, dict[str, float]]:
    pooled = {name: np.concatenate([each.mmds[name] for each in results]) for name in results[0].mmds}
    of_mmds = {f"mmd_{name}": summarized(values) for name, values in pooled.items()}
    return mean_and_median([each.values for each in results]) | of_mmds


def evaluate(
    references: Store,
    generated: dict[str, Store],
    *,
    baselines: Sequence[str] = tuple(BASELINES),
    measures: Measures = Measures(),
    processes: int = 1,
    molecules: int | None = None,
    least_references: int = 1,
) -> Evaluation:
    """Compare methods on the molecules that all of them have.

    Each method counts with its first 2R conformers of a molecule that has R references; a molecule of which a method
    has none is left out silently (it was trained on, or not asked for), one of which it has fewer than 2R is skipped.

    Args:
        references: molecules with reference conformers.
        generated: the stores of generated conformers by the methods' names; matched by SMILES.
        baselines: of ``BASELINES``, embedded here for the same molecules.
        measures: what is measured.
        processes: how many work at once, each on a molecule.
        molecules: compare on the first so many; all if not given.
        least_references: skip molecules with fewer reference conformers; the published MMDs of ISO17 are with 1000.

    Raises:
        OptionError: an unknown or repeated name of a method, or no molecule is left to compare on.
    """
    _check_names(generated, baselines)
    skipped: list[Skipped] = []
    comparisons = list(_comparisons(references, generated, tuple(baselines), least_references, skipped))[:molecules]
    kept: list[Molecule] = []
    results: dict[str, list[Result]] = {name: [] for name in (*generated, *baselines)}
    with tqdm(total=len(comparisons), unit="molecule") as progress:
        for comparison, outcome in ordered_map(partial(_compare, measures), comparisons, processes):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                kept.append(comparison.reference)
                for name, result in outcome.items():
                    results[name].append(result)
            progress.update()
    if not kept:
        reasons = "".join(f" {entry.name}: {entry.reason}" for entry in skipped[:1])
        raise OptionError(f"there is no molecule to compare on in {references.path} ({len(skipped)} skipped).{reasons}")
    return Evaluation(measures, kept, results, skipped)


def _check_names(generated: dict[str, Store], baselines: Sequence[str]) -> None:
    for name in baselines:
        if name not in BASELINES:
            raise OptionError(f"a baseline must be one of {', '.join(BASELINES)}; got {name!r}.")
        if name in generated:
            raise OptionError(f"{name!r} names both a store and a baseline.")


def _comparisons(
    references: Store, generated: dict[str, Store], baselines: tuple[str, ...], least: int, skipped: list[Skipped]
) -> Iterator[Comparison]:
    """The molecules that every store has, with its conformers."""
    stores = {
        name: {molecule.smiles: molecule for molecule in store.readable(skipped)} for name, store in generated.items()
    }
    for reference in references.readable(skipped):
        found = {name: store[reference.smiles] for name, store in stores.items() if reference.smiles in store}
        if len(found) < len(stores):
            continue
        comparison = Comparison(reference, found, baselines)
        fault = _fault(comparison, least)
        if fault:
            skipped.append(Skipped(reference.name, fault))
        else:
            yield comparison


def _fault(comparison: Comparison, least_references: int) -> str:
    """Why a molecule cannot be compared on, or nothing."""
    found = comparison.reference.num_conformers
    if found == 0:
        return "it has no reference conformers."
    if found < least_references:
        return f"it has {found} reference conformers, fewer than {least_references}."
    for name, molecule in comparison.generated.items():
        if molecule.num_conformers < comparison.count:
            return f"{name} has {molecule.num_conformers} conformers of it, fewer than {comparison.count}."
    return ""


def _compare(measures: Measures, comparison: Comparison) -> dict[str, Result] | Skipped:
    """All methods on one molecule, or why it cannot be compared on."""
    reference = comparison.reference
    try:
        generated = {name: molecule.positions[: comparison.count] for name, molecule in comparison.generated.items()}
        for name in comparison.baselines:
            generated[name] = BASELINES[name](reference, comparison.count, BASELINE_SEED + measures.seed).positions
        of_reference = _properties(measures, reference, reference.positions)
        return {name: _measure(measures, reference, positions, of_reference) for name, positions in generated.items()}
    except ChemistryError as error:
        return Skipped(reference.name, str(error))


def _measure(measures: Measures, reference: Molecule, generated: Tensor, of_reference: dict[str, float]) -> Result:
    """One method on one molecule."""
    rmsd = rmsd_matrix(reference, reference.positions, generated)
    values = asdict(coverage(rmsd, measures.threshold))
    mmds = {name: each.numpy() for name, each in distance_mmds(reference, reference.positions, generated).items()}
    values |= {f"mmd_{name}": float(each.mean()) if each.size else float("nan") for name, each in mmds.items()}
    if measures.validity:
        from .validity import valid_share

        values["valid"] = valid_share(reference, generated)
    values |= property_errors(of_reference, _properties(measures, reference, generated))
    closest = rmsd.min(axis=1)
    row = np.argsort(closest)[len(closest) // 2]
    pair = np.stack((reference.positions[row].numpy(), generated[rmsd[row].argmin()].numpy()))
    return Result(values, mmds, closest, pair)


def _properties(measures: Measures, molecule: Molecule, positions: Tensor) -> dict[str, float]:
    """Properties of the ensemble at (C, N, 3), or nothing where they are not asked for."""
    if not measures.properties:
        return {}
    from .xtb import properties

    found = properties(molecule.with_conformers(positions[: measures.properties]))
    return ensemble_properties(found.energies, found.gaps)
