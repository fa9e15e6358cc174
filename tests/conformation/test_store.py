"""The store of molecules: what is written comes back; damage is named; a stopped writer goes on."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import clof_ext
from clof_ext.conformation import Conformers, Store, StoreError, StoreWriter, split
from tests.conformation.made import CYANIDE, ETHANE, WATER, molecule, same

SETTINGS = {"source": "made by hand"}
MOLECULES = [
    molecule(WATER, 2, "water"),
    molecule(CYANIDE, 0, "hydrogen cyanide"),
    molecule(ETHANE, 5, "éthane", seed=1),
    molecule(CYANIDE, 1, seed=2),
]


def write(path, molecules=MOLECULES, skips=(("bad", "no such thing."),)):
    with StoreWriter(path, SETTINGS) as writer:
        for entry in skips:
            writer.skip(*entry)
        for each in molecules:
            writer.add(each)
    return path


def interrupted(path, molecules):
    """Leave a part file, as a program that is stopped does."""
    writer = StoreWriter(path, SETTINGS).__enter__()
    writer.skip("bad", "no such thing.")
    for each in molecules:
        writer.add(each)
    writer.__exit__(KeyboardInterrupt)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_is_written_comes_back(tmp_path):
    store = Store(write(tmp_path / "set.clof"))
    assert len(store) == 4 and store.settings == SETTINGS
    assert all(same(store[number], expected) for number, expected in enumerate(MOLECULES))
    assert store.num_atoms.tolist() == [3, 3, 8, 3] and store.num_conformers.tolist() == [2, 0, 5, 1]
    assert [(entry.name, entry.reason) for entry in store.skipped] == [("bad", "no such thing.")]
    assert [path.name for path in tmp_path.iterdir()] == ["set.clof"]
    with pytest.raises(IndexError, match="has the molecules 0 to 3; got 4."):
        store[4]


def test_a_store_of_nothing_and_unknown_energies(tmp_path):
    assert len(Store(write(tmp_path / "none", molecules=(), skips=()))) == 0
    bare = molecule(ETHANE, 1).with_conformers(torch.randn(3, 8, 3))
    read = Store(write(tmp_path / "bare", [bare]))[0]
    assert read.energies.isnan().all() and read.weights.isnan().all() and torch.equal(read.positions, bare.positions)


def test_a_store_travels_to_workers(tmp_path):
    store = pickle.loads(pickle.dumps(Store(write(tmp_path / "set"))))
    assert same(store[2], MOLECULES[2])


@pytest.mark.parametrize("lost", [1, 7, 40, 150])
def test_a_stopped_writer_goes_on(tmp_path, lost):
    path, part = tmp_path / "set", tmp_path / "set.part"
    interrupted(path, MOLECULES[:3])
    assert not path.exists()
    # The machine went down in the middle of the last record.
    part.write_bytes(part.read_bytes()[:-lost])
    with StoreWriter(path, SETTINGS) as writer:
        assert writer.done == {"bad", "water", "hydrogen cyanide"} and writer.num_molecules == 2
        for each in MOLECULES[2:]:
            writer.add(each)
    assert path.read_bytes() == write(tmp_path / "whole").read_bytes()


def test_a_part_file_of_other_settings_is_refused(tmp_path):
    interrupted(tmp_path / "set", [])
    with pytest.raises(StoreError, match=r"set.part was begun with other settings"), StoreWriter(tmp_path / "set", {}):
        pass


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path):
    StoreWriter(tmp_path / "set", SETTINGS).__enter__().__exit__(KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path):
    path = write(tmp_path / "set.clof")
    content = path.read_bytes()
    flip(path, content.index(b"hydrogen cyanide"))
    store = Store(path)
    with pytest.raises(StoreError, match=r"set.clof: record 1 is damaged \(its checksum does not match\)."):
        store[1]
    skipped = []
    read = list(store.readable(skipped))
    assert len(read) == 3 and same(read[1], MOLECULES[2])
    assert [entry.name for entry in skipped] == ["record 1"] and "set.clof: record 1" in skipped[0].reason


def test_files_that_are_no_stores(tmp_path):
    path = write(tmp_path / "set")
    content = path.read_bytes()
    cases = {
        b"": "has only 0 bytes",
        b"PK" + content: "is no store of molecules: it begins with b'PKclofmo'",
        content[:8] + b"\x09" + content[9:]: "has version 9 of the store; this program reads version 2.",
        content[:-30]: "has no valid index",
        content[:16] + b"\xff" + content[17:]: "the checksum of its settings does not match",
    }
    for damaged, message in cases.items():
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=message):
            Store(path)


def test_no_flipped_bit_goes_unseen(tmp_path):
    path = write(tmp_path / "set", MOLECULES[:2])
    content, notes = path.read_bytes(), Store(path).skipped
    for at in range(len(content)):
        flip(path, at)
        skipped = []
        try:
            store = Store(path)
            count = sum(1 for _ in store.readable(skipped))
        except StoreError:
            count = None
        # What is said of an entry that was left out stands in the index once more.
        unharmed = count == 2 and store.skipped == notes and at < content.index(b"hydrogen")
        assert count is None or (count, len(skipped)) == (1, 1) or unharmed, f"byte {at}"
        flip(path, at)


def test_conformers_are_counted_through(tmp_path):
    store = Store(write(tmp_path / "set"))
    conformers = Conformers(store)
    pairs = [(each.name, number) for each, number in (conformers[index] for index in range(len(conformers)))]
    assert pairs == [("water", 0), ("water", 1), *(("éthane", number) for number in range(5)), ("", 0)]
    chosen = Conformers(store, np.array([3, 0]))
    assert [chosen[index][0].name for index in range(3)] == ["", "water", "water"] and len(chosen) == 3
    with pytest.raises(IndexError, match="conformers 0 to 2; got 3"):
        chosen[3]
    assert len(Conformers(store, np.array([], dtype=int))) == 0


def test_damaged_records_are_left_out_of_the_conformers(tmp_path):
    path = write(tmp_path / "set.clof")
    flip(path, path.read_bytes().index(b"water"))
    with pytest.warns(UserWarning, match=r"set.clof: 1 damaged records are left out, numbers \[0\]."):
        conformers = Conformers(Store(path))
    assert len(conformers) == 6 and conformers[0][0].name == "éthane"


def test_the_page_on_data_runs(monkeypatch):
    root = Path(clof_ext.__file__).parent.parent
    monkeypatch.chdir(root)
    names = {}
    exec(re.findall(r"```python\n(.*?)```", (root / "docs/conformations.md").read_text(), re.DOTALL)[0], names)
    assert len(names["store"]) == 244 and len(names["test"]) == 20 and names["batch"].num_graphs == 128


def test_a_split_is_by_molecule_and_by_seed():
    train, test = split(10, 3, seed=4)
    assert sorted([*train, *test]) == list(range(10)) and len(test) == 3
    assert np.array_equal(split(10, 3, seed=4)[1], test)
    assert any(not np.array_equal(split(10, 3, seed=seed)[1], test) for seed in range(4))
    with pytest.raises(ValueError, match="held_out must be from 1 to 9; got 10."):
        split(10, 10)
