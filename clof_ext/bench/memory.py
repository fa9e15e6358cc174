"""Peak of the memory that a call needs beyond what was allocated before it."""

import os

import torch
from torch.profiler import ProfilerActivity, profile

from .. import _backends
from .timing import Call, synchronize

# How often a call is run that seems to allocate nothing: on a busy machine the profiler can lose a call's events.
ATTEMPTS = 3


def peak_bytes(call: Call, device: torch.device) -> int:
    """The most bytes of new tensors that live at one time during a call.

    On GPUs torch's allocator counts. On the CPU its profiler notes every allocation and release that goes through
    torch's allocator, whoever asks for it: eager ops, code that ``torch.compile`` made, or a custom op's kernel. Their
    running sum starts at 0, so its maximum is what the call adds, exactly and without the noise of a process's size,
    which holds caches of the C library. What clof_ext keeps for a thread's next call is given back before. What a
    library takes from the operating system itself (scratch of matrix products, a few hundred KB per thread in clof_ext)
    is in neither count.
    """
    return _peak_cuda(call, device) if device.type == "cuda" else _peak_cpu(call)


def _peak_cuda(call: Call, device: torch.device) -> int:
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_cpu(call: Call) -> int:
    # Else the profiler writes its own log lines between ours.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    peaks = (_peak_of(_allocations(call)) for _ in range(ATTEMPTS))
    return next((peak for peak in peaks if peak), 0)


def _allocations(call: Call) -> list[int]:
    """Bytes of each allocation, and less than 0 of each release, in their order."""
    if _backends.binary() is not None:
        _backends.binary().release_memory()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return [change for _, change in sorted(changes, key=lambda entry: entry[0])]


def _peak_of(changes: list[int]) -> int:
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    return peak
