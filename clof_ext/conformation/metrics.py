"""How well generated conformers match reference conformers: coverage, distances, properties of the ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .graph import extend_graph
from .molecule import Molecule

# In angstrom, as published for GEOM's two sets.
THRESHOLDS = {"qm9": 0.5, "drugs": 1.25}
# Widths of the five kernels, in units of the mean squared distance between two samples.
KERNEL_WIDTHS = (1 / 4, 1 / 2, 1, 2, 4)
HYDROGEN = 1
# Numbers in a block of kernel matrices, 64 MiB of float64.
BLOCK = 2**23


@dataclass(frozen=True)
class Coverage:
    """Shares within the threshold (0 to 1) and mean smallest RMSD (angstrom), of references and of generated."""

    cov_recall: float
    mat_recall: float
    cov_precision: float
    mat_precision: float


def coverage(rmsd: np.ndarray, threshold: float) -> Coverage:
    """COV and MAT, recall and precision.

    Recall: over references, of the smallest RMSD to a generated conformer, the share <= threshold (COV) and the mean
    (MAT). Precision: the same with references and generated conformers swapped.

    Args:
        rmsd: (R, G) of references to generated conformers, angstrom.
        threshold: in angstrom.

    Raises:
        ValueError: there are no references or no generated conformers.

    Source: Du et al., ICML 2022, section 6.2.
    """
    if rmsd.ndim != 2 or rmsd.size == 0:
        raise ValueError(f"rmsd must have shape (R, G) with R and G at least 1; got {rmsd.shape}.")
    of_reference, of_generated = rmsd.min(axis=1), rmsd.min(axis=0)
    return Coverage(
        cov_recall=float((of_reference <= threshold).mean()),
        mat_recall=float(of_reference.mean()),
        cov_precision=float((of_generated <= threshold).mean()),
        mat_precision=float(of_generated.mean()),
    )


def mmd(samples: Tensor, others: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of K pairs of samples, with a sum of five Gaussian kernels.

    mean k(u, u') + mean k(v, v') - 2 mean k(u, v), k(u, v) = sum over w of exp(-|u - v|^2 / (w beta)), where beta is
    the mean of |u - v|^2 over all pairs of different samples of both sets together, and w = 1/4, 1/2, 1, 2, 4. Where
    all samples coincide it is 0.

    Args:
        samples: (K, A, D).
        others: (K, B, D).

    Returns:
        (K,) float64.

    Raises:
        TypeError, ValueError: a wrong type or shape, or no samples.
    """
    _check.is_tensor(samples, "samples")
    _check.shape(samples, ("K", "A", "D"), "samples")
    _check.shape(others, (samples.shape[0], "B", samples.shape[2]), "others")
    if samples.shape[1] == 0 or others.shape[1] == 0:
        raise ValueError("mmd needs at least one sample on either side; got none.")
    count = samples.shape[1] + others.shape[1]
    blocks = max(1, BLOCK // count**2)
    pairs = zip(samples.split(blocks), others.split(blocks), strict=True)
    values = [_mmd_of_block(one.double(), other.double()) for one, other in pairs]
    return torch.cat(values) if values else samples.new_zeros(0, dtype=torch.float64)


def _mmd_of_block(samples: Tensor, others: Tensor) -> Tensor:
    both = torch.cat((samples, others), 1)
    # By products, small distances between large numbers would be lost.
    squared = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    count = both.shape[1]
    width = squared.sum((1, 2)) / (count * (count - 1))
    # All samples coincide: every kernel is 1.
    width = torch.where(width > 0, width, 1.0)[:, None, None]
    kernel = sum(torch.exp(-squared / (factor * width)) for factor in KERNEL_WIDTHS)
    inner, outer = slice(0, samples.shape[1]), slice(samples.shape[1], None)
    means = [kernel[:, one, other].mean((1, 2)) for one, other in ((inner, inner), (outer, outer), (inner, outer))]
    return means[0] + means[1] - 2 * means[2]


def distance_mmd(molecule: Molecule, references: Tensor, generated: Tensor) -> dict[str, float]:
    """Means of ``distance_mmds``; NaN where a molecule has too few edges."""
    return {name: float(values.mean()) for name, values in distance_mmds(molecule, references, generated).items()}


def distance_mmds(molecule: Molecule, references: Tensor, generated: Tensor) -> dict[str, Tensor]:
    """MMD between the distributions of distances in two ensembles of a molecule.

    Distances are those along the E edges i < j between heavy atoms up to three bonds apart. "single": (E,), of each
    distance; "pair": (P,), of two distances jointly, for all pairs of edges with different i, as published; "all":
    (1,), of all jointly, or nothing where there is no edge. Published tables are means and medians over the values of
    all molecules together.

    Args:
        molecule: the molecule.
        references: (R, N, 3).
        generated: (G, N, 3).

    Source: Du et al., ICML 2022, section 6.2.
    """
    edges = heavy_edges(molecule)
    one, other = (distances(positions, edges).T[:, :, None] for positions in (references, generated))
    first, second = torch.combinations(torch.arange(edges.shape[1])).T
    differ = edges[0, first] != edges[0, second]
    first, second = first[differ], second[differ]
    pairs = [torch.cat((lengths[first], lengths[second]), 2) for lengths in (one, other)]
    whole = [lengths.permute(2, 1, 0)[: edges.shape[1]] for lengths in (one, other)]
    return {"single": mmd(one, other), "pair": mmd(*pairs), "all": mmd(*whole)}


def heavy_edges(molecule: Molecule) -> Tensor:
    """(2, E) edges i < j between atoms other than hydrogen, up to three bonds apart."""
    edge_index, _ = extend_graph(molecule.edge_index, molecule.edge_type, molecule.num_atoms)
    is_heavy = (molecule.atomic_numbers != HYDROGEN)[edge_index].all(0)
    return edge_index[:, is_heavy & (edge_index[0] < edge_index[1])]


def distances(positions: Tensor, edges: Tensor) -> Tensor:
    """(C, E) lengths of edges (2, E) in conformers (C, N, 3)."""
    return (positions[:, edges[0]] - positions[:, edges[1]]).double().norm(dim=-1)


def ensemble_properties(energies: Tensor, gaps: Tensor) -> dict[str, float]:
    """Mean and lowest energy, mean, smallest and largest gap of an ensemble, from (C,) each; NaN is left out.

    Every conformer counts the same, as published.
    """
    known, known_gaps = energies[~energies.isnan()], gaps[~gaps.isnan()]
    nothing = float("nan")
    return {
        "mean_energy": float(known.mean()),
        "lowest_energy": float(known.min()) if len(known) else nothing,
        "mean_gap": float(known_gaps.mean()),
        "smallest_gap": float(known_gaps.min()) if len(known_gaps) else nothing,
        "largest_gap": float(known_gaps.max()) if len(known_gaps) else nothing,
    }


def property_errors(reference: Mapping[str, float], generated: Mapping[str, float]) -> dict[str, float]:
    """Absolute difference of each property of two ensembles."""
    return {name: abs(value - generated[name]) for name, value in reference.items()}


def mean_and_median(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and median over molecules of every column; NaN is left out, and counted as missing.

    Args:
        rows: one mapping a molecule, all with the same names.
    """
    return {name: summarized(np.array([row[name] for row in rows], dtype=float)) for name in rows[0]}


def summarized(values: np.ndarray) -> dict[str, float]:
    """Mean and median of (K,) values, and how many are NaN, which are left out of both."""
    known = values[~np.isnan(values)]
    mean, median = (float(np.mean(known)), float(np.median(known))) if known.size else (float("nan"), float("nan"))
    return {"mean": mean, "median": median, "missing": len(values) - len(known)}
