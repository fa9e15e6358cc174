"""SE(3)-equivariant message passing on complete local frames, fused: fast and small in memory, the same numbers."""

from . import _backends, _register, models, newton, nn, ops
from ._backends import backend
from ._config import library_path, show_config
from ._patch import patch
from ._selftest import selftest
from ._version import __version__
from .graph import EdgePlan, prepare_graph
from .replace import Report, replace_layers, replaced, restore_layers

if _backends.binary() is not None:
    _register.activate(_register.COMPILED)
_backends.fill_table()

__all__ = [
    "EdgePlan",
    "Report",
    "__version__",
    "backend",
    "library_path",
    "models",
    "newton",
    "nn",
    "ops",
    "patch",
    "prepare_graph",
    "replace_layers",
    "replaced",
    "restore_layers",
    "selftest",
    "show_config",
]
