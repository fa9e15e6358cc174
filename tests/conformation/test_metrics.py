"""Coverage, distances and properties of ensembles, computed by hand."""

import math

import numpy as np
import pytest
import torch

from clof_ext.conformation.metrics import (
    coverage,
    distance_mmd,
    distance_mmds,
    distances,
    ensemble_properties,
    heavy_edges,
    mean_and_median,
    mmd,
    property_errors,
)
from tests.conformation.made import CYANIDE, ETHANE, WATER, molecule


def test_coverage_by_hand():
    """Two references, four generated. Smallest of rows 0.5 and 1.0, of columns 0.5, 1.0, 1.25 and 3."""
    rmsd = np.array([[0.5, 2.0, 1.25, 3.0], [1.5, 1.0, 1.75, 4.0]])
    found = coverage(rmsd, 0.5)
    assert (found.cov_recall, found.mat_recall) == (0.5, 0.75)
    assert (found.cov_precision, found.mat_precision) == (0.25, (0.5 + 1.0 + 1.25 + 3.0) / 4)
    # A conformer at the threshold is covered.
    assert coverage(rmsd, 0.4999).cov_recall == 0.0
    assert coverage(rmsd, 1.25).cov_precision == 0.75
    # Swapped roles swap recall and precision.
    swapped = coverage(rmsd.T, 1.25)
    assert (swapped.cov_recall, swapped.mat_recall) == (0.75, found.mat_precision)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (3,)])
def test_coverage_needs_both_sides(shape):
    with pytest.raises(ValueError, match="rmsd must have shape"):
        coverage(np.zeros(shape), 0.5)


def kernel(squared, beta):
    return sum(math.exp(-squared / (beta * width)) for width in (0.25, 0.5, 1, 2, 4))


def test_mmd_of_one_sample_each_by_hand():
    """beta is |u - v|^2 = 4, the mean over both pairs; the kernel of a sample with itself is 5."""
    expected = 5 + 5 - 2 * kernel(4.0, 4.0)
    assert float(mmd(torch.tensor([[[1.0]]]), torch.tensor([[[3.0]]]))) == pytest.approx(expected, rel=1e-12)


def test_mmd_of_two_and_one_by_hand():
    """u = 0, 2; v = 1: squared distances 4, 1, 1, each twice, so that beta = 12 / 6 = 2."""
    inner = (2 * 5 + 2 * kernel(4.0, 2.0)) / 4
    expected = inner + 5 - 2 * kernel(1.0, 2.0)
    samples, others = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[1.0]]])
    assert float(mmd(samples, others)) == pytest.approx(expected, rel=1e-12)
    assert float(mmd(others, samples)) == pytest.approx(expected, rel=1e-12)


def test_mmd_of_many_pairs_of_samples_is_theirs_one_by_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    samples, others = torch.randn(7, 4, 3, generator=generator), torch.randn(7, 5, 3, generator=generator)
    one_by_one = torch.cat([mmd(samples[k : k + 1], others[k : k + 1]) for k in range(7)])
    torch.testing.assert_close(mmd(samples, others), one_by_one)
    monkeypatch.setattr("clof_ext.conformation.metrics.BLOCK", 2 * 81)
    torch.testing.assert_close(mmd(samples, others), one_by_one)
    assert mmd(samples[:0], others[:0]).shape == (0,)


def test_mmd_of_equal_samples_is_zero():
    samples = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    assert float(mmd(samples, samples.flip(1)).abs().max()) < 1e-12
    # All samples the same: no width can be taken from them.
    assert mmd(torch.ones(1, 3, 2), torch.ones(1, 4, 2)).tolist() == [0.0]


def test_mmd_names_wrong_arguments():
    with pytest.raises(ValueError, match=r"others must have shape \(2, B, 1\); got \(2, 4, 3\)."):
        mmd(torch.zeros(2, 3, 1), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="mmd needs at least one sample on either side; got none."):
        mmd(torch.zeros(2, 3, 1), torch.zeros(2, 0, 1))


def test_heavy_edges_and_their_lengths():
    assert heavy_edges(molecule(ETHANE)).tolist() == [[1], [4]]
    assert heavy_edges(molecule(WATER)).shape == (2, 0)
    positions = torch.tensor([[[0.0, 0, 0], [0, 3, 4], [1, 1, 1]]])
    assert distances(positions, torch.tensor([[0, 1], [1, 0]])).tolist() == [[5.0, 5.0]]


def test_distances_of_ensembles():
    """A chain of three heavy atoms: two bonds and the edge between its ends; of three pairs of edges one has one i."""
    chain = ("CCC without hydrogens", [6, 6, 6], [(0, 1, 1), (1, 2, 1)])
    reference, generated = molecule(chain, 3, seed=1), molecule(chain, 4, seed=2)
    edges = heavy_edges(reference)
    assert edges.tolist() == [[0, 0, 1], [1, 2, 2]]
    one, other = distances(reference.positions, edges), distances(generated.positions, edges)
    found = distance_mmd(reference, reference.positions, generated.positions)
    single = [float(mmd(one[None, :, [k]], other[None, :, [k]])) for k in range(3)]
    pair = [float(mmd(one[None][:, :, ks], other[None][:, :, ks])) for ks in ([0, 2], [1, 2])]
    assert found["single"] == pytest.approx(np.mean(single))
    assert found["pair"] == pytest.approx(np.mean(pair))
    assert found["all"] == pytest.approx(float(mmd(one[None], other[None])))
    each = distance_mmds(reference, reference.positions, generated.positions)
    assert each["single"].tolist() == pytest.approx(single) and each["pair"].tolist() == pytest.approx(pair)
    assert each["all"].tolist() == [found["all"]]
    same = distance_mmd(reference, reference.positions, reference.positions)
    assert max(map(abs, same.values())) < 1e-12


def test_distances_where_there_are_too_few_edges():
    of_water = distance_mmd(molecule(WATER), *molecule(WATER).positions[:, None])
    assert all(math.isnan(value) for value in of_water.values())
    assert all(len(each) == 0 for each in distance_mmds(molecule(WATER), *molecule(WATER).positions[:, None]).values())
    of_cyanide = distance_mmd(molecule(CYANIDE), *molecule(CYANIDE).positions[:, None])
    assert of_cyanide["single"] == of_cyanide["all"] and math.isnan(of_cyanide["pair"])


def test_properties_of_an_ensemble():
    found = ensemble_properties(torch.tensor([-3.0, -1.0, math.nan]), torch.tensor([5.0, math.nan, 8.0]))
    expected = {"mean_energy": -2.0, "lowest_energy": -3.0, "mean_gap": 6.5, "smallest_gap": 5.0, "largest_gap": 8.0}
    assert found == expected
    other = {**expected, "mean_energy": -2.25, "largest_gap": 7.0}
    assert property_errors(found, other) == {**dict.fromkeys(expected, 0.0), "mean_energy": 0.25, "largest_gap": 1.0}
    unknown = ensemble_properties(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert all(math.isnan(value) for value in unknown.values())


def test_mean_and_median_over_molecules():
    rows = [
        {"a": 1.0, "b": math.nan},
        {"a": 2.0, "b": math.nan},
        {"a": 6.0, "b": math.nan},
        {"a": math.nan, "b": math.nan},
    ]
    found = mean_and_median(rows)
    assert found["a"] == {"mean": 3.0, "median": 2.0, "missing": 1}
    assert math.isnan(found["b"]["mean"]) and found["b"]["missing"] == 4
