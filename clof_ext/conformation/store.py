"""A file of molecules that streams: written one by one, read through a memory map, every record checksummed.

Layout, little-endian: a head (magic, version, JSON of settings), records, an index, and a tail that says where the
index stands. A record is its kind, length and checksum, then its bytes. While it is written the file is called
``<name>.part`` and has no index; a writer that was stopped takes up the records that are whole and goes on.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..training import FileError
from ._record import pack_molecule, unpack_molecule
from .molecule import Molecule

MAGIC = b"clofmols"
VERSION = 2
MOLECULE, SKIPPED = b"M", b"S"
_HEAD = struct.Struct("<8sIII")  # magic, version, length of the settings, their CRC-32
_RECORD = struct.Struct("<cII")  # kind, length, CRC-32 of kind and bytes
_TAIL = struct.Struct("<QII8s")  # start of the index, its length, its CRC-32, magic
_ROW = np.dtype([("start", "<u8"), ("atoms", "<u4"), ("conformers", "<u4")])


class StoreError(FileError):
    """A store that cannot be read: the sentence names the file and, where one is at fault, the record."""


@dataclass(frozen=True)
class Skipped:
    """An entry of the source that is not in the store, and why.

    Attributes:
        name: of the entry.
        reason: a sentence.
    """

    name: str
    reason: str


class StoreWriter:
    """Writes a store record by record; use it in a ``with`` statement.

    Args:
        path: of the finished file; ``<path>.part`` is written, and renamed when the ``with`` block ends without error.
        settings: how the data came to be, JSON; a part file that was made with others is refused.

    Attributes:
        done: names of the molecules and of the skipped entries that the file has.
        skipped: the entries that were left out.
        num_molecules, num_conformers: in the file so far.

    Raises:
        StoreError: the part file on disk is no part of this store.
    """

    def __init__(self, path: str | Path, settings: dict):
        self.path = Path(path)
        self.settings = settings
        self.skipped: list[Skipped] = []
        self.num_molecules = self.num_conformers = 0
        self.done: set[str] = set()

    def __enter__(self) -> "StoreWriter":
        head = _pack_head(self.settings)
        self._part = self.path.with_name(self.path.name + ".part")
        self._rows: list[tuple[int, int, int]] = []
        self._file = open(self._part, "r+b" if self._part.exists() else "w+b")
        found = self._file.read(len(head))
        if found and found != head:
            self._file.close()
            raise StoreError(
                f"{self._part} was begun with other settings or by another version; remove it to begin anew."
            )
        if not found:
            self._file.write(head)
        self._take_up(len(head))
        return self

    def add(self, molecule: Molecule) -> None:
        """Append a molecule."""
        self._note_molecule(self._file.tell(), molecule)
        self._append(MOLECULE, pack_molecule(molecule))

    def skip(self, name: str, reason: str) -> None:
        """Note an entry of the source that is left out, with the sentence that says why."""
        self._note_skipped(name, reason)
        self._append(SKIPPED, json.dumps([name, reason]).encode())

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self._file.close()
        if kind is None:
            os.replace(self._part, self.path)
        elif not self.done:
            # Nothing to go on with, and it would stand in the way of other settings.
            self._part.unlink()

    def _append(self, kind: bytes, payload: bytes) -> None:
        # Flushed at once: a record that took minutes to make must survive the process.
        self._file.write(_RECORD.pack(kind, len(payload), _checksum(kind, payload)) + payload)
        self._file.flush()

    def _take_up(self, start: int) -> None:
        """Note the whole records from ``start`` on, and cut off what follows them."""
        for kind, payload, end in _whole_records(self._file, start):
            if kind == MOLECULE:
                self._note_molecule(start, unpack_molecule(payload))
            else:
                self._note_skipped(*json.loads(payload))
            start = end
        self._file.truncate(start)
        self._file.seek(start)

    def _note_molecule(self, start: int, molecule: Molecule) -> None:
        self._rows.append((start, molecule.num_atoms, molecule.num_conformers))
        self.num_molecules += 1
        self.num_conformers += molecule.num_conformers
        self.done.add(molecule.name)

    def _note_skipped(self, name: str, reason: str) -> None:
        self.skipped.append(Skipped(name, reason))
        self.done.add(name)

    def _finish(self) -> None:
        start = self._file.tell()
        notes = json.dumps([[entry.name, entry.reason] for entry in self.skipped]).encode()
        rows = np.array(self._rows, dtype=_ROW).tobytes()
        index = struct.pack("<I", len(self._rows)) + rows + notes
        self._file.write(index + _TAIL.pack(start, len(index), zlib.crc32(index), MAGIC))
        self._file.flush()
        os.fsync(self._file.fileno())


class Store:
    """The molecules of a finished store, read as they are asked for: ``len(store)``, ``store[number]``.

    Attributes:
        settings: how the data came to be.
        num_atoms, num_conformers: (M,) int64 arrays, of every molecule.
        skipped: entries of the source that were left out, and why.

    Raises:
        StoreError: the file is no store, of another version, unfinished or damaged. A damaged record raises when it
            is read; the others stay readable.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEAD.size + _TAIL.size:
                raise StoreError(f"{self.path} is no store of molecules: it has only {size} bytes.")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.settings = self._read_head()
        rows, self.skipped = self._read_index()
        self._starts = rows["start"]
        self.num_atoms = rows["atoms"].astype(np.int64)
        self.num_conformers = rows["conformers"].astype(np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Molecule:
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path} has the molecules 0 to {len(self) - 1}; got {number}.")
        return unpack_molecule(self._payload(number))

    def __getstate__(self) -> dict:
        # Workers of a DataLoader open the file themselves: a memory map does not travel.
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])

    def damaged(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbered records whose checksums do not match; nothing is decoded."""
        found = []
        for number in numbers:
            try:
                self._payload(number)
            except StoreError:
                found.append(int(number))
        return found

    def readable(self, skipped: list[Skipped]) -> Iterator[Molecule]:
        """All molecules in order; damaged records are appended to ``skipped`` instead."""
        for number in range(len(self)):
            try:
                yield self[number]
            except StoreError as error:
                skipped.append(Skipped(f"record {number}", str(error)))

    def _payload(self, number: int) -> memoryview:
        start = int(self._starts[number])
        kind, length, checksum = _RECORD.unpack_from(self._bytes, start)
        first = start + _RECORD.size
        payload = memoryview(self._bytes)[first : first + length]
        if kind != MOLECULE or len(payload) != length or _checksum(kind, payload) != checksum:
            raise StoreError(f"{self.path}: record {number} is damaged (its checksum does not match).")
        return payload

    def _read_head(self) -> dict:
        magic, version, length, checksum = _HEAD.unpack_from(self._bytes)
        if magic != MAGIC:
            raise StoreError(f"{self.path} is no store of molecules: it begins with {magic!r}, not with {MAGIC!r}.")
        if version != VERSION:
            raise StoreError(f"{self.path} has version {version} of the store; this program reads version {VERSION}.")
        text = self._bytes[_HEAD.size : _HEAD.size + length]
        if zlib.crc32(text) != checksum:
            raise StoreError(f"{self.path} is damaged: the checksum of its settings does not match.")
        return json.loads(text)

    def _read_index(self) -> tuple[np.ndarray, list[Skipped]]:
        start, length, checksum, magic = _TAIL.unpack_from(self._bytes, len(self._bytes) - _TAIL.size)
        index = self._bytes[start : start + length]
        if magic != MAGIC or len(index) != length or zlib.crc32(index) != checksum:
            raise StoreError(f"{self.path} has no valid index: it is unfinished, cut off or damaged.")
        (count,) = struct.unpack_from("<I", index)
        end = 4 + count * _ROW.itemsize
        notes = [Skipped(*entry) for entry in json.loads(index[end:])]
        return np.frombuffer(index[4:end], dtype=_ROW), notes


def _pack_head(settings: dict) -> bytes:
    text = json.dumps(settings, sort_keys=True).encode()
    return _HEAD.pack(MAGIC, VERSION, len(text), zlib.crc32(text)) + text


def _checksum(kind: bytes, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(kind))


def _whole_records(file: BinaryIO, start: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, bytes and end of the records from ``start`` on, up to the first that is cut off or damaged."""
    file.seek(start)
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        kind, length, checksum = _RECORD.unpack(head)
        payload = file.read(length)
        if kind not in (MOLECULE, SKIPPED) or len(payload) < length or _checksum(kind, payload) != checksum:
            return
        start += _RECORD.size + length
        yield kind, payload, start
