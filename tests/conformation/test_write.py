"""Conformers relaxed by RDKit and by GFN2-xTB."""

from importlib.resources import files

import pytest
import torch

pytest.importorskip("rdkit")
pytest.importorskip("tblite")

from clof_ext.conformation import Store
from clof_ext.conformation.write import relax


@pytest.fixture(scope="module")
def moved():
    """A small molecule whose relaxed conformers were moved a little."""
    store = Store(str(files("clof_ext.conformation") / "data" / "small.mols"))
    molecule = min((store[number] for number in range(len(store))), key=lambda molecule: molecule.num_atoms)
    start = molecule.positions[:1].repeat(2, 1, 1)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    return molecule, molecule.with_conformers(start + 0.03 * noise)


def test_quantum_relaxation_finds_the_minimum_again(moved):
    reference, molecule = moved
    relaxed, lost = relax(molecule, "xtb")
    assert lost == 0
    assert torch.allclose(relaxed.energies, reference.energies[:1].expand(2), atol=0.005)
    distances = [torch.cdist(positions, positions) for positions in (relaxed.positions[0], reference.positions[0])]
    assert (distances[0] - distances[1]).abs().max() < 0.05


def test_conformers_that_break_are_left_out_and_counted(moved):
    reference, molecule = moved
    positions = molecule.positions.clone()
    positions[0] *= 3
    relaxed, lost = relax(molecule.with_conformers(positions), "xtb")
    assert (relaxed.num_conformers, lost) == (1, 1)
    assert relaxed.energies[0].item() == pytest.approx(reference.energies[0].item(), abs=0.005)


def test_the_force_field_gives_one_minimum_its_energy(moved):
    _, molecule = moved
    relaxed, lost = relax(molecule, "mmff")
    assert lost == 0
    assert relaxed.energies.isfinite().all()
    assert abs(relaxed.energies[0] - relaxed.energies[1]) < 0.005
    assert 0 < (relaxed.positions - molecule.positions).abs().max() < 0.5


def test_another_method_is_named(moved):
    with pytest.raises(ValueError, match="method must be one of 'mmff', 'xtb'; got 'uff'"):
        relax(moved[1], "uff")
