"""Methods compared on the same molecules; the table, the JSON and the pictures."""

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit", reason="needs rdkit: pip install 'clof_ext[conformers]'")
pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'clof_ext[train]'")

from clof_ext.cli import main
from clof_ext.conformation import Store, StoreWriter
from clof_ext.conformation.chemistry import read_smiles
from clof_ext.conformation.embed import etkdg
from clof_ext.conformation.evaluate import Measures, evaluate
from clof_ext.conformation.rmsd import aligned_heavy, rmsd_matrix
from clof_ext.training import OptionError

ROTATION = torch.tensor([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def write(path, molecules):
    with StoreWriter(path, {}) as writer:
        for each in molecules:
            writer.add(each)
    return path


def first_conformers(store_of, count):
    return [each.with_conformers(each.positions[:count]) for each in store_of]


@pytest.fixture
def molecules():
    return [etkdg(read_smiles(smiles), 4, seed=5) for smiles in ("CCCO", "NCCO", "CC(=O)OC")]


def test_rmsd_by_hand():
    """Two heavy atoms 1 and 1.4 apart, centred: each is 0.2 off. Hydrogens do not count; nor do turns and shifts."""
    methanol = read_smiles("CO")
    heavy = methanol.atomic_numbers > 1
    near, far = torch.randn(2, methanol.num_atoms, 3)
    near[heavy], far[heavy] = torch.tensor([[0.0, 0, 0], [1, 0, 0]]), torch.tensor([[0.0, 0, 0], [1.4, 0, 0]])
    found = rmsd_matrix(methanol, torch.stack((near, far)), torch.stack((near @ ROTATION.T + 3, far, near)))
    np.testing.assert_allclose(found, [[0, 0.2, 0], [0.2, 0, 0.2]], atol=1e-5)


def test_rmsd_knows_symmetries():
    """Propane's ends can be exchanged."""
    propane = etkdg(read_smiles("CCC"), 1, seed=0)
    carbons = (propane.atomic_numbers == 6).nonzero().flatten()
    source, target = propane.edge_index[:, (propane.atomic_numbers[propane.edge_index] == 6).all(0)]
    ends = [int(atom) for atom in carbons if int((source == atom).sum()) == 1]
    exchanged = propane.positions.clone()
    exchanged[:, ends] = exchanged[:, ends[::-1]]
    assert rmsd_matrix(propane, propane.positions, exchanged)[0, 0] == pytest.approx(0, abs=1e-4)


def test_a_conformer_laid_on_another():
    molecule = etkdg(read_smiles("CCO"), 1, seed=0)
    pair, rmsd, bonds = aligned_heavy(molecule, molecule.positions[0], molecule.positions[0] @ ROTATION.T - 2)
    assert rmsd == pytest.approx(0, abs=1e-4) and pair.shape == (2, 3, 3) and len(bonds) == 2
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-4)


def test_methods_on_the_same_molecules(molecules, tmp_path):
    references = Store(write(tmp_path / "references", first_conformers(molecules, 2)))
    # One method finds the references and two others; one has the same four conformers twice as long.
    exact = Store(write(tmp_path / "exact", molecules))
    stretched = Store(write(tmp_path / "long", [each.with_conformers(each.positions * 2) for each in molecules[::-1]]))
    result = evaluate(references, {"exact": exact, "long": stretched}, baselines=("ETKDG",))
    assert [molecule.name for molecule in result.molecules] == ["CCCO", "NCCO", "CC(=O)OC"] and result.skipped == []
    assert list(result.results) == ["exact", "long", "ETKDG"]
    summary = result.summary()
    assert summary["exact"]["cov_recall"]["mean"] == 1.0 and summary["exact"]["mat_recall"]["mean"] < 1e-3
    assert summary["long"]["cov_recall"]["mean"] == 0.0 and summary["long"]["mat_recall"]["median"] > 0.5
    assert summary["exact"]["mmd_single"]["mean"] < summary["long"]["mmd_single"]["mean"]
    # As published: over the distances of all molecules together, of which they have different numbers.
    for name in ("single", "pair", "all"):
        values = np.concatenate([each.mmds[name] for each in result.results["long"]])
        assert summary["long"][f"mmd_{name}"] == {"mean": values.mean(), "median": np.median(values), "missing": 0}
    means = [each.values["mmd_single"] for each in result.results["long"]]
    assert summary["long"]["mmd_single"]["mean"] != pytest.approx(np.mean(means), rel=1e-6)
    assert means[0] == result.results["long"][0].mmds["single"].mean()
    assert 0 < summary["ETKDG"]["mat_recall"]["mean"] < summary["long"]["mat_recall"]["mean"]
    one = result.results["long"][1]
    assert one.closest.shape == (2,) and one.pair.shape == (2, molecules[1].num_atoms, 3)
    again = evaluate(references, {"exact": exact, "long": stretched}, baselines=("ETKDG",), molecules=1)
    assert again.results["ETKDG"][0].values == result.results["ETKDG"][0].values and len(again.molecules) == 1


def test_baselines_do_not_start_from_the_embeddings_of_made_sets(molecules, tmp_path):
    """Made with seed 0, the references would be found again exactly."""
    references = [etkdg(read_smiles(molecule.name), 2, seed=0) for molecule in molecules]
    result = evaluate(Store(write(tmp_path / "references", references)), {}, baselines=("ETKDG",))
    assert all(float(each.closest.min()) > 1e-3 for each in result.results["ETKDG"])
    again = evaluate(Store(tmp_path / "references"), {}, baselines=("ETKDG",), measures=Measures(seed=1))
    assert again.results["ETKDG"][0].values != result.results["ETKDG"][0].values


def test_molecules_without_enough_conformers_are_skipped(molecules, tmp_path):
    references = Store(
        write(tmp_path / "references", first_conformers(molecules, 2) + first_conformers(molecules[:1], 0))
    )
    with pytest.raises(OptionError, match=r"\(4 skipped\). CCCO: it has 2 reference conformers, fewer than 3."):
        evaluate(references, {}, baselines=(), least_references=3)
    short = [molecules[0], molecules[1].with_conformers(molecules[1].positions[:3])]
    result = evaluate(references, {"short": Store(write(tmp_path / "short", short))}, baselines=())
    # The third molecule is not among the generated ones at all.
    assert [molecule.name for molecule in result.molecules] == ["CCCO"]
    assert [(entry.name, entry.reason) for entry in result.skipped] == [
        ("NCCO", "short has 3 conformers of it, fewer than 4."),
        ("CCCO", "it has no reference conformers."),
    ]


def test_wrong_arguments_are_named(molecules, tmp_path):
    references = Store(write(tmp_path / "references", first_conformers(molecules, 2)))
    with pytest.raises(OptionError, match=r"a baseline must be one of ETKDG, ETKDG \+ MMFF; got 'UFF'."):
        evaluate(references, {}, baselines=("UFF",))
    with pytest.raises(OptionError, match="'ETKDG' names both a store and a baseline."):
        evaluate(references, {"ETKDG": references})
    with pytest.raises(OptionError, match=r"there is no molecule to compare on in .*references \(0 skipped\)."):
        evaluate(references, {"none": Store(write(tmp_path / "none", []))})


@pytest.mark.parametrize(("name", "package"), [("validity", "posebusters"), ("properties", "tblite")])
def test_validity_and_properties(tmp_path, name, package):
    pytest.importorskip(package, reason=f"needs {package}")
    molecule = etkdg(read_smiles("CO"), 2, seed=0)
    references = Store(write(tmp_path / "references", first_conformers([molecule], 1)))
    wild = Store(write(tmp_path / "wild", [molecule.with_conformers(molecule.positions * 1.6)]))
    measures = Measures(validity=name == "validity", properties=2 if name == "properties" else 0)
    result = evaluate(
        references, {"same": Store(write(tmp_path / "same", [molecule])), "wild": wild}, baselines=(), measures=measures
    )
    same, wild = (result.results[method][0].values for method in ("same", "wild"))
    if name == "validity":
        assert (same["valid"], wild["valid"]) == (1.0, 0.0) and "mean_energy" not in same
    else:
        assert same["lowest_energy"] < 0.1 < 1 < wild["lowest_energy"] and "valid" not in same
        assert not math.isnan(wild["mean_gap"])


def test_the_command_writes_table_json_and_pictures(molecules, tmp_path, capsys):
    references = write(tmp_path / "references", first_conformers(molecules, 2) + [read_smiles("CC")])
    generated = write(tmp_path / "generated", molecules)
    folder = tmp_path / "results"
    arguments = ["conformers", "evaluate", str(references), f"network={generated}", str(generated)]
    assert main([*arguments, "--output", str(folder), "--threshold", "0.25"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith("| method | COV-R % | MAT-R Å |")
    assert lines[2].startswith("| network | 100.0 / 100.0 | 0.000 / 0.000 |")
    assert [line.split(" | ")[0] for line in lines[2:6]] == ["| network", "| generated", "| ETKDG", "| ETKDG + MMFF"]
    assert "Mean / median over 3 molecules. Skipped: 0." in printed
    assert (folder / "table.md").read_text() == "\n".join(lines[:6]) + "\n"
    content = json.loads((folder / "evaluation.json").read_text())
    assert content["measures"]["threshold"] == 0.25 and content["generated"]["network"] == str(generated)
    assert content["molecules"] == ["CCCO", "NCCO", "CC(=O)OC"] and content["skipped"] == {}
    assert content["summary"]["network"]["cov_recall"] == {"mean": 1.0, "median": 1.0, "missing": 0}
    assert len(content["results"]["ETKDG"]) == 3 and len(content["results"]["ETKDG"][0]["closest"]) == 2
    for picture in ("rmsd.png", "overlay.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--output", str(folder), "--no-baselines"]) == 0
    assert "ETKDG" not in capsys.readouterr().out
