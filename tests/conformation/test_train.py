"""Training of the score network: the loss, the task, and a training that goes on; then sampling from its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from clof_ext.cli import main
from clof_ext.conformation import Conformers, Store, StoreWriter, collate
from clof_ext.conformation.losses import perturb, score_matching_loss
from clof_ext.conformation.noise import noise_levels
from clof_ext.conformation.recipe import PUBLISHED, RECIPES
from clof_ext.conformation.train import Denoising, denoising_losses, load_network, parts_of, train
from clof_ext.training import OptionError, Processes
from tests.conformation.made import CYANIDE, ETHANE, WATER, molecule

ALONE = Processes(0, 1, torch.device("cpu"))
TINY = replace(PUBLISHED, hidden_dim=16, heads=2, dropout=0.0, epochs=4, batch_size=6, average_decay=0.9)


@pytest.fixture
def store(tmp_path) -> Store:
    path = tmp_path / "made.mols"
    with StoreWriter(path, {"source": "by hand"}) as writer:
        for number in range(3):
            for kind in (WATER, CYANIDE, ETHANE):
                writer.add(molecule(kind, 2, f"{kind[0]} {number}", seed=number))
    return Store(path)


def test_the_published_recipe():
    wanted = {"hidden_dim": 288, "batch_size": 128, "learning_rate": 1e-3, "average_decay": None, "clip_norm": None}
    plateau = {"plateau_factor": 0.6, "plateau_patience": 10, "smallest_learning_rate": 1e-4}
    assert (wanted | plateau | {"dropout": 0.1, "heads": 8}).items() <= RECIPES["published"].describe().items()
    levels = noise_levels()
    assert (len(levels), levels[0].item(), levels[-1].item()) == pytest.approx((50, 10.0, 0.01))
    assert torch.allclose(levels[1:] / levels[:-1], levels[1] / levels[0])


def test_the_loss_is_the_published_one_and_0_for_the_right_score():
    batch = collate([(molecule(WATER), 0), (molecule(ETHANE), 1)])
    sigma = torch.tensor([0.5, 2.0])
    perturbed = perturb(batch, sigma, torch.Generator().manual_seed(0))
    moved = perturbed.pos - batch.pos
    assert torch.allclose(perturbed.sigma[:, 0], sigma[batch.batch])
    target = -moved / perturbed.sigma**2
    assert score_matching_loss(target, perturbed).abs().max() < 1e-9
    score = torch.randn_like(target)
    per_atom = 0.5 * perturbed.sigma[:, 0] ** 2 * (score - target).square().sum(1)
    expected = torch.stack((per_atom[:3].mean(), per_atom[3:].mean()))
    assert torch.allclose(score_matching_loss(score, perturbed), expected)


def test_a_batch_is_shared_between_processes_and_the_same_in_sum(store):
    conformers = Conformers(store)

    def epoch(processes: Processes) -> list:
        task = Denoising(conformers, conformers, processes, 6)
        return list(task.batches(torch.Generator().manual_seed(0)))

    whole = epoch(ALONE)
    halves = [epoch(Processes(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert len(whole) == len(store.num_conformers) * 2 // 6
    for batch, *parts in zip(whole, *halves, strict=True):
        assert [part.molecules.num_graphs for part in parts] == [3, 3]
        assert torch.equal(batch.molecules.pos, torch.cat([part.molecules.pos for part in parts]))
        assert torch.equal(batch.sigma, torch.cat([part.sigma for part in parts]))


def test_an_epoch_is_all_conformers_in_batches_of_which_the_last_is_short(store):
    conformers = Conformers(store)
    task = Denoising(conformers, conformers, ALONE, 7)
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    assert [batch.molecules.num_graphs for batch in batches] == [7, 7, 4] and task.size == 18
    seen = torch.cat([batch.molecules.pos for batch in batches])
    whole = collate([conformers[number] for number in range(18)]).pos
    assert torch.equal(seen.sort(0).values, whole.sort(0).values)


def test_processes_leave_out_what_they_cannot_share(store):
    task = Denoising(Conformers(store), Conformers(store), Processes(0, 4, torch.device("cpu")), 12)
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    assert [batch.molecules.num_graphs for batch in batches] == [3, 1] and task.size == 16


def test_validation_is_the_same_every_time(store):
    conformers = Conformers(store)
    task = Denoising(conformers, conformers, ALONE, 6)
    torch.manual_seed(0)
    network = TINY.make_network().eval()
    with torch.no_grad():
        assert task.validate(network) == task.validate(network)
        # A network that gives no score at first leaves half the noise: 3 numbers of mean square 1 an atom.
        assert task.validate(network) == pytest.approx(1.5, rel=0.3)


def test_the_noise_is_of_the_given_levels(store):
    sigmas = torch.tensor([3.0, 0.5])
    task = Denoising(Conformers(store), Conformers(store), ALONE, 6, sigmas)
    seen = torch.cat([batch.sigma for batch in task.batches(torch.Generator().manual_seed(0))])
    assert set(seen.flatten().tolist()) == {3.0, 0.5}


def test_parts_are_disjoint_and_complete():
    parts = parts_of(50, 10, 3)
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (30, 10, 10)
    assert sorted(parts.train + parts.valid + parts.test) == list(range(50))
    assert parts_of(50, 10, 3) == parts
    assert parts_of(50, 10, 4) != parts
    with pytest.raises(OptionError, match="held_out must be at least 1 and below half of 50 molecules; got 25"):
        parts_of(50, 25, 0)


def test_training_lowers_the_loss_of_one_conformer():
    torch.manual_seed(0)
    batch = collate([(molecule(WATER, 1), 0)] * 16)
    network = TINY.make_network()
    optimizer = TINY.make_optimizer(network)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = denoising_losses(network, perturb(batch, noise_levels()[2 * torch.arange(16) + 9])).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:3])


def test_a_training_that_was_stopped_ends_like_one_that_was_not(store, tmp_path, monkeypatch):
    whole = train(store.path, tmp_path / "whole", TINY, held_out=1)

    class StopError(Exception):
        pass

    original = Denoising.batches

    def interrupted(self, generator):
        interrupted.epochs += 1
        if interrupted.epochs == 3:
            raise StopError
        return original(self, generator)

    interrupted.epochs = 0
    monkeypatch.setattr(Denoising, "batches", interrupted)
    with pytest.raises(StopError):
        train(store.path, tmp_path / "parts", TINY, held_out=1)
    monkeypatch.undo()
    resumed = train(store.path, tmp_path / "parts", TINY, held_out=1)
    assert [row["train_loss"] for row in resumed] == [row["train_loss"] for row in whole]
    networks = [load_network(tmp_path / name / "best.safetensors")[0] for name in ("whole", "parts")]
    for one, two in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(one, two)
    assert (tmp_path / "whole" / "loss.png").stat().st_size > 0
    assert len(json.loads((tmp_path / "whole" / "metrics.json").read_text())) == TINY.epochs


def test_a_batch_larger_than_the_set_is_named(store):
    with pytest.raises(OptionError, match="batch_size must be at most the 18 training conformers; got 99"):
        Denoising(Conformers(store), Conformers(store), ALONE, 99)


def test_train_and_sample_from_the_command_line(store, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rdkit")
    pytest.importorskip("tblite")
    from rdkit import Chem

    from clof_ext.conformation import train_commands
    from clof_ext.conformation.sampling import Solver
    from clof_ext.conformation.write import ENERGY_PROPERTY, RELAXATIONS, WRITERS

    assert set(train_commands.RELAXATIONS) == set(RELAXATIONS)
    assert set(train_commands.FORMATS) == set(WRITERS)
    monkeypatch.setitem(train_commands.SAMPLERS, "solver", lambda sigmas: Solver(sigmas[::12]))
    monkeypatch.setitem(train_commands.RECIPES, "small", TINY)
    run = tmp_path / "run"
    common = ["conformers", "train", str(store.path), str(run), "--recipe", "small", "--held-out", "2"]
    assert main([*common, "--epochs", "1", "--learning-rate", "1e-5", "--device", "cpu"]) == 0
    output = tmp_path / "generated.mols"
    model = str(run / "best.safetensors")
    asked = ["conformers", "sample", model, str(store.path), str(output), "--device", "cpu", "--write", "sdf", "xyz"]
    assert main([*asked, "--relax", "mmff"]) == 0
    assert "8 chains, 5 calls of the network on batches; 0 runs made again, 0 chains failed." in capsys.readouterr().out
    made = Store(output)
    held_out = [store[number] for number in parts_of(len(store), 2, 0).test]
    assert [made[k].name for k in range(2)] == [molecule.name for molecule in held_out]
    # Twice as many as the molecules have references.
    assert made.num_conformers.tolist() == [4, 4]
    mols = list(Chem.SDMolSupplier(str(output.with_suffix(".sdf")), removeHs=False))
    assert [mol.GetProp("_Name") for mol in mols] == [molecule.name for molecule in held_out for _ in range(4)]
    np.testing.assert_allclose(mols[0].GetConformer().GetPositions(), made[0].positions[0], atol=1e-4)
    energies = [float(mol.GetProp(ENERGY_PROPERTY)) for mol in mols if mol.HasProp(ENERGY_PROPERTY)]
    known = torch.cat([made[k].energies for k in range(2)])
    np.testing.assert_allclose(energies, known[known.isfinite()], atol=1e-5)
    frames = output.with_suffix(".xyz").read_text().splitlines()
    assert int(frames[0]) == made[0].num_atoms
    assert len(frames) == sum(4 * (2 + molecule.num_atoms) for molecule in held_out)
    list_of_smiles = tmp_path / "list.smi"
    list_of_smiles.write_text("O water\nnonsense(\nC#N\n")
    asked = ["conformers", "sample", model, str(list_of_smiles), str(tmp_path / "listed.mols"), "--device", "cpu"]
    assert main([*asked, "--count", "3", "--energies"]) == 0
    said = capsys.readouterr().out
    assert f"skipped in {list_of_smiles}: 'nonsense('" in said and "Skipped: 1." in said
    listed = Store(tmp_path / "listed.mols")
    assert (len(listed), listed[0].name, listed.num_conformers.tolist()) == (2, "water", [3, 3])
    assert main(asked) != 0
    assert "--count must say" in capsys.readouterr().err


def write_store(path, kinds, settings) -> Store:
    with StoreWriter(path, settings) as writer:
        for number, kind in enumerate(kinds):
            writer.add(molecule(kind, 2, f"{kind[0]} of {path.stem} {number}", seed=number))
    return Store(path)


def test_a_split_in_three_stores(store, tmp_path, monkeypatch, capsys):
    """As published: all of one store is trained on, another validates, and all of a third is sampled."""
    pytest.importorskip("rdkit")
    from clof_ext.conformation import train_commands
    from clof_ext.conformation.sampling import Solver

    monkeypatch.setitem(train_commands.SAMPLERS, "solver", lambda sigmas: Solver(sigmas[::12]))
    monkeypatch.setitem(train_commands.RECIPES, "small", TINY)
    valid = write_store(tmp_path / "valid.mols", [WATER, ETHANE], {"source": "valid"})
    test = write_store(tmp_path / "test.mols", [CYANIDE, WATER, ETHANE], {"source": "test"})
    seen = []
    monkeypatch.setattr(Denoising, "validate", lambda self, model: seen.append((self.train, self.valid)) or 1.0)
    small = ["--recipe", "small", "--epochs", "1", "--device", "cpu"]
    words = ["conformers", "train", str(store.path)]
    assert main([*words, str(tmp_path / "run"), "--valid", str(valid.path), *small]) == 0
    [(trained, validated)] = seen
    assert len(trained.molecules) == len(store) and validated.store.path == valid.path and len(validated) == 4
    assert main([*words, str(tmp_path / "run"), "--valid", str(test.path), *small]) == 2
    assert "valid was {'source': 'valid'}, now {'source': 'test'}" in capsys.readouterr().err

    def sampled(run, *options):
        output = tmp_path / f"made{len(list(tmp_path.iterdir()))}.mols"
        words = ["conformers", "sample", str(tmp_path / run / "best.safetensors"), str(test.path), str(output)]
        code = main([*words, "--device", "cpu", *options])
        return [each.name for each in Store(output)] if code == 0 else capsys.readouterr().err

    names = [each.name for each in test]
    assert sampled("run") == names
    # A network with molecules held out of its own store has none of another.
    assert main([*words, str(tmp_path / "other"), "--held-out", "1", *small]) == 0
    assert "test.mols is not the store that was trained on, so none of it was held out; see --all." in sampled("other")
    assert sampled("other", "--all") == names


def test_either_molecules_are_held_out_or_a_store_validates(store, tmp_path):
    for options in ({}, {"held_out": 1, "valid": store.path}):
        with pytest.raises(OptionError, match="either held_out or valid must be given, and not both"):
            train(store.path, tmp_path / "run", TINY, **options)
