"""Files of tensors and plain values: whole or not there, versioned, checksummed, never unpickled.

A file is in the safetensors format. Its header's metadata name the program, the format's version, the kind of content
and the SHA-256 of all that was saved, and hold in JSON what is not a tensor.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from . import tree
from .errors import FileError
from .extras import extra

PROGRAM = "clof_ext"
VERSION = "1"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside the path, of the same ending, and move it there when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        with open(beside, "rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save(path: Path, value: tree.Tree, kind: str, *, compress: bool = False) -> None:
    """Write a tree of dicts, lists, tensors, numbers, strings, truth values and None to one file.

    Args:
        path: the file; its folder is made. An older file stays whole until the new one is complete.
        value: what to save. Tuples come back as lists, and tensors on the CPU.
        kind: the name of the content, which ``load`` compares.
        compress: zlib over the tensors' shuffled bytes; other readers of safetensors then see bytes alone.

    Raises:
        TypeError: a value of another type, or a key of a dict that is neither a string nor an integer.
        MissingPackageError: safetensors is not installed.
    """
    with extra("train"):
        from safetensors.torch import save as to_bytes
    text, tensors = tree.pack(value, compress=compress)
    metadata = {"program": PROGRAM, "version": VERSION, "kind": kind, "tree": text, "sha256": _digest(text, tensors)}
    content = to_bytes(tensors, metadata)
    replace_file(path, lambda beside: beside.write_bytes(content))


def load(path: Path, kind: str) -> tree.Tree:
    """What ``save`` wrote, after its checks.

    Raises:
        FileError: a sentence that names the file: it does not exist, is damaged, was not written by ``save``, or is
            of another version or kind.
        MissingPackageError: safetensors is not installed.
    """
    metadata, tensors = _read(path)
    if metadata.get("program") != PROGRAM:
        raise FileError(f"{path} was not written by clof_ext; expected its {kind}.")
    if metadata["version"] != VERSION:
        raise FileError(f"{path} has format version {metadata['version']}; this clof_ext reads version {VERSION}.")
    if metadata["kind"] != kind:
        raise FileError(f"{path} holds a {metadata['kind']}; expected a {kind}.")
    if metadata["sha256"] != _digest(metadata["tree"], tensors):
        raise FileError(f"{path} is damaged: its checksum does not match.")
    return tree.unpack(metadata["tree"], tensors)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with extra("train"):
        from safetensors import SafetensorError, safe_open
    if not Path(path).is_file():
        raise FileError(f"{path} does not exist, or is no file.")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FileError(f"{path} is truncated, damaged, or no safetensors file ({error}).") from None


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the JSON and of every tensor with its name, dtype and shape."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tree.raw_bytes(tensor))
    return digest.hexdigest()
