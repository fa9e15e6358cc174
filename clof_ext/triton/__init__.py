"""The Triton backend: the ops' kernels for GPUs, as operators of the library ``clof_ext_triton``.

They serve NVIDIA and AMD GPUs and need no compiled extension. Where the environment variable TRITON_INTERPRET is 1 when
Python starts, they run on CPU tensors in Triton's interpreter, slowly, for tests.
"""

# Importing an op's module defines its operators; importing ops declares the rules that they get.
from .. import _register, ops  # noqa: F401
from . import aggregate, edge_frame, edge_scalars, frame_message, project, segment  # noqa: F401
from ._host import interpreted
from .frame_message_host import cannot_run

_register.activate(_register.TRITON)

# Why an op of some size cannot run, or None if it can.
limits = {"frame_message": cannot_run}

__all__ = ["interpreted", "limits"]
