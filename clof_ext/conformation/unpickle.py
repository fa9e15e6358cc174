"""A reader of pickles that makes nothing but the plain values, arrays and molecules of published conformer files.

A pickle can name any function and have it called. Here every name is looked up in a table; another name ends the
reading. Nothing of PyTorch Geometric is needed: its graphs become ``Record``.
"""

import collections
import io
import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ..training import FileError, extra

with extra("conformers"):
    from rdkit import Chem


class Record:
    """A graph of PyTorch Geometric, of any version: its attributes as a dict ``values``."""

    def __init__(self) -> None:
        self.values: dict = {}

    def __setstate__(self, state: object) -> None:
        # Before version 2 the attributes are the state; since then they lie in the mapping of a storage.
        state = state if isinstance(state, dict) else {}
        inner = state.get("_store")
        self.values = inner.values if isinstance(inner, Record) else state.get("_mapping", state)


class _Name:
    """A class that a graph mentions and that nothing is done with."""


class _KnownUnpickler(pickle.Unpickler):
    """Finds the names of the table, and refuses others and persistent objects."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no file of conformers has, and was not read further"
            ) from None


def read_pickle(path: str | Path) -> object:
    """The content of a pickle of known classes: plain values, arrays, tensors, RDKit molecules, ``Record``.

    Raises:
        FileError: the file is no pickle, is cut off or asks for anything else; the sentence names the file.
    """
    with open(path, "rb") as file:
        return _read(file, Path(path))


def _read(file: BinaryIO, path: Path) -> object:
    try:
        return _KnownUnpickler(file).load()
    except Exception as error:
        # A damaged pickle can raise anything, from any of the constructors of the table.
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise FileError(f"{path} is no pickle that can be read: {reason}.") from None


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes bytes as {encoding!r}, which no pickle does")
    return text.encode("latin1")


def _storage(content: bytes) -> object:
    """A tensor's memory, which is a pickle within the pickle."""
    return torch.load(io.BytesIO(content), weights_only=True)


_KNOWN = {
    ("_codecs", "encode"): _encode,
    ("builtins", "bytearray"): bytearray,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("rdkit.Chem.rdchem", "Mol"): Chem.Mol,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch_geometric.data.data", "Data"): Record,
    ("torch_geometric.data.data", "DataEdgeAttr"): _Name,
    ("torch_geometric.data.data", "DataTensorAttr"): _Name,
    ("torch_geometric.data.storage", "GlobalStorage"): Record,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN[_module, "_reconstruct"] = np._core.multiarray._reconstruct
    _KNOWN[_module, "scalar"] = np._core.multiarray.scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _KNOWN[_module, "_frombuffer"] = np._core.numeric._frombuffer
