"""Trees of dicts, lists, tensors and plain values, taken apart into JSON and named tensors, and put together again."""

import json
import zlib
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Tree: TypeAlias = "dict | list | tuple | Tensor | float | int | str | bool | None"

# Fast, and within two percent of the best level's size on trajectories.
COMPRESSION_LEVEL = 1


def pack(value: Tree, *, compress: bool = False) -> tuple[str, dict[str, Tensor]]:
    """JSON, and the tensors by the path that leads to each, as ``model/embedding.weight``."""
    tensors: dict[str, Tensor] = {}
    return json.dumps(_apart(value, "", tensors, compress)), tensors


def unpack(text: str, tensors: dict[str, Tensor]) -> Tree:
    """The inverse of ``pack``."""
    return _together(json.loads(text), tensors)


def raw_bytes(tensor: Tensor) -> np.ndarray:
    """A contiguous CPU tensor's memory."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def _apart(value: Tree, name: str, tensors: dict[str, Tensor], compress: bool) -> object:
    if isinstance(value, Tensor):
        tensor = value.detach().to("cpu", copy=True).contiguous()
        tensors[name] = _compressed(tensor) if compress else tensor
        form = {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)} if compress else {}
        return {"tensor": name, **form}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a key of a saved dict must be a string or an integer; got {key!r} in {name!r}.")
        # Pairs, because JSON would make strings of integers.
        return {"dict": [[key, _apart(part, _join(name, key), tensors, compress)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_apart(part, _join(name, k), tensors, compress) for k, part in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"a saved value must be a tensor, dict, list or plain value; got {type(value).__name__} in {name!r}."
    )


def _together(value: object, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(value, list):
        return [_together(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _together(part, tensors) for key, part in value["dict"]}
    tensor = tensors[value["tensor"]]
    return _decompressed(tensor, getattr(torch, value["dtype"]), value["shape"]) if "dtype" in value else tensor


def _join(name: str, key: object) -> str:
    return f"{name}/{key}" if name else str(key)


def _compressed(tensor: Tensor) -> Tensor:
    """First bytes of all numbers, then second bytes, ...: signs and exponents, which are alike, stand together."""
    shuffled = raw_bytes(tensor).reshape(-1, tensor.element_size()).T
    packed = zlib.compress(np.ascontiguousarray(shuffled), COMPRESSION_LEVEL)
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def _decompressed(packed: Tensor, dtype: torch.dtype, shape: list[int]) -> Tensor:
    shuffled = np.frombuffer(zlib.decompress(packed.numpy()), dtype=np.uint8).reshape(dtype.itemsize, -1)
    return torch.from_numpy(np.array(shuffled.T, order="C")).reshape(-1).view(dtype).reshape(shape)
