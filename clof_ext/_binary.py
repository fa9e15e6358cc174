"""The compiled library: loading it, and its functions that are no operators.

It calls nothing of Python, so one file serves every version, and programs without Python.
"""

import ctypes
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from ._version import MIN_TORCH, __version__

PATH = Path(__file__).with_name("libclof_ext.so")
# How a library begins, where it names its processor, and the numbers there.
ELF = b"\x7fELF"
MACHINE_FIELD = slice(18, 20)
MACHINES = {"x86_64": 62, "aarch64": 183}


class Binary:
    """The loaded library, whose operators are ``torch.ops.clof_ext``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def build_info(self) -> dict[str, str | None]:
        """``version``, ``compiler``, ``torch_target``, ``cuda`` and ``cuda_architectures`` (None without nvcc)."""
        return json.loads(self._text("build_info"))

    def instruction_sets(self) -> list[str]:
        """Instruction sets built in that this processor runs, the best last."""
        return self._text("instruction_sets").split()

    def emulated_instruction_sets(self) -> list[str]:
        """Instruction sets that software runs in part, for tests."""
        return self._text("emulated_instruction_sets").split()

    def instruction_set(self) -> str:
        """The instruction set in use."""
        return self._text("instruction_set")

    def select_instruction_set(self, name: str) -> bool:
        """Use another instruction set, for tests and measurements; False if it is not available."""
        return bool(self._library.clof_ext_select_instruction_set(name.encode()))

    def bfloat16_unit(self) -> str:
        """What multiplies bfloat16 numbers in frame_message: none, pairs, tiles or emulated tiles."""
        return self._text("bfloat16_unit")

    def frame_message_limit(self, dtype: str, hidden: int, edge_features: int, backward: bool) -> str | None:
        """Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or None."""
        sizes = ctypes.c_int64(hidden), ctypes.c_int64(edge_features)
        return self._text("frame_message_limit", dtype.encode(), *sizes, ctypes.c_int(backward))

    def mlp_limit(self, dtype: str, inputs: Sequence[int], outputs: Sequence[int], backward: bool) -> str | None:
        """The same of an mlp, given the columns of its inputs and of what each Linear makes."""
        columns = *_array(inputs), *_array(outputs)
        return self._text("mlp_limit", dtype.encode(), *columns, ctypes.c_int(backward))

    def _text(self, name: str, *arguments) -> str | None:
        function = getattr(self._library, f"clof_ext_{name}")
        function.restype = ctypes.c_char_p
        text = function(*arguments)
        return None if text is None else text.decode()


def _array(numbers: Sequence[int]) -> tuple[ctypes.Array, ctypes.c_int64]:
    """A C array and its length."""
    return (ctypes.c_int64 * len(numbers))(*numbers), ctypes.c_int64(len(numbers))


def load(path: Path = PATH) -> Binary:
    """Load the library, which registers its operators.

    Raises:
        ImportError: there is none, or it does not fit this torch, machine or package; says which.
    """
    if _release(torch.__version__) < _release(MIN_TORCH):
        raise ImportError(f"it needs torch >= {MIN_TORCH}; this is torch {torch.__version__}")
    if not path.exists():
        raise ImportError(f"{path.name} was not built when the package was installed")
    try:
        binary = Binary(path)
    except OSError as error:
        raise ImportError(_why_not_loaded(path, error)) from None
    try:
        version = binary.build_info()["version"]
    except AttributeError:
        version = "unknown"
    if version != __version__:
        raise ImportError(f"it is of version {version}, this package of version {__version__}")
    return binary


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in version.split(".")[:2])


def _why_not_loaded(path: Path, error: OSError) -> str:
    header, host = path.read_bytes()[: MACHINE_FIELD.stop], platform.machine()
    machine = int.from_bytes(header[MACHINE_FIELD], "little")
    # The system's own message for another processor's library is that there is no such file.
    if header.startswith(ELF) and machine != MACHINES.get(host, machine):
        built = next((name for name, number in MACHINES.items() if number == machine), "another processor")
        return f"{path.name} is built for {built}; this machine is {host}"
    if "undefined symbol" in str(error):
        return f"it is built for a newer torch than {torch.__version__}: {error}"
    return str(error)
