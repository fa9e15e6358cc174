"""Loading the compiled library and its Python module: whether they fit, and if not, why, in words."""

import ctypes
import importlib
import platform
from pathlib import Path
from types import ModuleType

import torch

from ._version import MIN_TORCH, __version__

PATH = Path(__file__).with_name("libclof_ext.so")
MODULE = "clof_ext._C"
# How a library begins, where it names its processor, and the numbers there.
ELF = b"\x7fELF"
MACHINE_FIELD = slice(18, 20)
MACHINES = {"x86_64": 62, "aarch64": 183}


def load(path: Path = PATH) -> ModuleType:
    """Load the library, which registers the operators, and the module, which holds what is no operator.

    Raises:
        ImportError: there is none, or it does not fit this torch, machine, Python or package; says which.
    """
    if _release(torch.__version__) < _release(MIN_TORCH):
        raise ImportError(f"it needs torch >= {MIN_TORCH}; this is torch {torch.__version__}")
    if not path.exists():
        raise ImportError(f"{path.name} was not built when the package was installed")
    version = _version(_loaded(path))
    if version != __version__:
        raise ImportError(f"it is of version {version}, this package of version {__version__}")
    try:
        return importlib.import_module(MODULE)
    except ModuleNotFoundError:
        raise ImportError(f"{MODULE} is not built for Python {platform.python_version()}") from None


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in version.split(".")[:2])


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(_why_not_loaded(path, error)) from None


def _version(library: ctypes.CDLL) -> str:
    try:
        function = library.clof_ext_version
    except AttributeError:
        return "unknown"
    function.restype = ctypes.c_char_p
    return function().decode()


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
