"""One molecule as bytes: its sizes, then its arrays, widest numbers first, each bond once.

Molecules travel between processes in this form, too: a tensor would take a shared file for each of its arrays.
"""

import copyreg
import math
import struct

import numpy as np
import torch

from .graph import both_directions
from .molecule import Molecule

_SIZES = struct.Struct("<IIIIII")  # atoms, bonds, conformers, bytes of the SMILES, bytes of the name, 0


def pack_molecule(molecule: Molecule) -> bytes:
    source, target = molecule.edge_index.numpy()
    once = source < target
    smiles, name = molecule.smiles.encode(), molecule.name.encode()
    sizes = _SIZES.pack(molecule.num_atoms, int(once.sum()), molecule.num_conformers, len(smiles), len(name), 0)
    arrays = (
        molecule.energies.numpy().astype("<f8"),
        molecule.weights.numpy().astype("<f8"),
        molecule.positions.numpy().astype("<f4"),
        np.stack((source[once], target[once])).astype("<u4"),
        molecule.edge_type.numpy()[once].astype("u1"),
        molecule.atomic_numbers.numpy().astype("u1"),
    )
    return sizes + b"".join(array.tobytes() for array in arrays) + smiles + name


def unpack_molecule(payload: bytes | memoryview) -> Molecule:
    atoms, bonds, conformers, smiles_length, name_length, _ = _SIZES.unpack_from(payload)
    at = _SIZES.size

    def array(dtype: str, *shape: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(payload, dtype, count=math.prod(shape), offset=at).reshape(shape)
        at += values.nbytes
        return values

    energies, weights = array("<f8", conformers), array("<f8", conformers)
    positions = array("<f4", conformers, atoms, 3)
    edges, types, numbers = array("<u4", 2, bonds), array("u1", bonds), array("u1", atoms)
    edge_index, edge_type = both_directions(edges.astype(np.int64), types.astype(np.int64))
    texts = bytes(payload[at : at + smiles_length + name_length])
    return Molecule(
        smiles=texts[:smiles_length].decode(),
        atomic_numbers=torch.from_numpy(numbers.astype(np.int64)),
        edge_index=edge_index,
        edge_type=edge_type,
        # Copies, since torch warns of tensors on read-only memory.
        positions=torch.from_numpy(positions.astype(np.float32)),
        energies=torch.from_numpy(energies.astype(np.float64)),
        weights=torch.from_numpy(weights.astype(np.float64)),
        name=texts[smiles_length:].decode(),
    )


copyreg.pickle(Molecule, lambda molecule: (unpack_molecule, (pack_molecule(molecule),)))
