"""The Triton backend: the ops' kernels for GPUs, as operators of the library ``clof_ext_triton``.

They serve NVIDIA and AMD GPUs and need no compiled extension. Where the environment variable TRITON_INTERPRET is 1 when
Python starts, they run on CPU tensors in Triton's interpreter, slowly, for tests.
"""

from .. import _register, ops
from . import aggregate, edge_frame, edge_scalars, project, segment
from ._host import interpreted

_register.activate(_register.TRITON)

__all__ = ["interpreted"]
