"""Which of several ways to launch kernels is the fastest on this GPU: timed once, and remembered in a file.

Off unless the environment variable ``CLOF_EXT_AUTOTUNE`` is 1: the first time, compiling every candidate takes minutes.
The file, ``tiles.json`` in ``$XDG_CACHE_HOME/clof_ext`` or ``~/.cache/clof_ext``, has a version and a checksum; one
that is damaged, or of another version, is written anew.
"""

import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
import triton

from .._version import __version__
from ..training.files import replace_file

ENVIRONMENT = "CLOF_EXT_AUTOTUNE"
FORMAT = 1

Candidate = TypeVar("Candidate")
log = logging.getLogger(__name__)


def enabled() -> bool:
    return os.environ.get(ENVIRONMENT, "0") == "1"


def path() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "clof_ext" / "tiles.json"


def gpu_milliseconds(run: Callable[[], object]) -> float:
    """The median of repeated calls, by the GPU's clock."""
    return triton.testing.do_bench(run, warmup=10, rep=50, return_mode="median")


def fastest(
    name: str,
    key: Mapping[str, Hashable],
    candidates: Sequence[Candidate],
    run: Callable[[Candidate], object],
    device: torch.device,
    milliseconds: Callable[[Callable[[], object]], float] = gpu_milliseconds,
) -> Candidate:
    """The candidate to launch: the fastest on this GPU, or the first where nothing may be timed.

    Args:
        name: what is launched.
        key: what the choice depends on beside the GPU and the versions of the software, by name.
        candidates: what to choose from, told apart by their repr; the first is the default.
        run: makes a whole call as a candidate has it. It may be called many times, with the same result.
        device: of the call.
        milliseconds: the time of a call.
    """
    if len(candidates) == 1 or not enabled() or device.type != "cuda":
        return candidates[0]
    entry = _entry(device, name, key)
    by_repr = {repr(candidate): candidate for candidate in candidates}
    known = by_repr.get(_choices().get(entry, ""))
    if known is not None:
        return known
    # Times are those of the device in use.
    with torch.cuda.device(device):
        # In a CUDA graph nothing can be timed, and a later call outside of one will.
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        times = _times(entry, candidates, run, milliseconds)
    if not times:
        return candidates[0]
    best = min(times, key=times.__getitem__)
    _remember(entry, best)
    return by_repr[best]


def _times(
    entry: str,
    candidates: Sequence[Candidate],
    run: Callable[[Candidate], object],
    milliseconds: Callable[[Callable[[], object]], float],
) -> dict[str, float]:
    """Of every candidate that works here, by its repr."""
    times = {}
    for number, candidate in enumerate(candidates, 1):
        start = time.perf_counter()
        try:
            times[repr(candidate)] = milliseconds(lambda candidate=candidate: run(candidate))
        except (RuntimeError, triton.CompilationError, triton.runtime.errors.TritonError) as failure:
            log.info("%s: %r does not work here: %s", entry, candidate, failure)
            continue
        took = time.perf_counter() - start
        log.info(
            "%s: candidate %d of %d, %r: %.3f ms, timed and compiled in %.1f s",
            *(entry, number, len(candidates), candidate, times[repr(candidate)], took),
        )
    return times


def _entry(device: torch.device, name: str, key: Mapping[str, Hashable]) -> str:
    gpu = torch.cuda.get_device_name(device)
    software = f"clof_ext {__version__}, torch {torch.__version__}, triton {triton.__version__}"
    return f"{gpu}, {software}: {name} {', '.join(f'{part}={value}' for part, value in key.items())}"


@cache
def _choices() -> dict[str, str]:
    """What was chosen, as the file has it when it is first asked for and as it is changed from then on."""
    try:
        document = json.loads(path().read_text())
        choices = document["choices"]
        if document["format"] == FORMAT and document["checksum"] == _checksum(choices):
            return choices
        log.warning("%s is damaged or of another version: tiles are chosen anew.", path())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError) as failure:
        log.warning("%s cannot be read (%s): tiles are chosen anew.", path(), failure)
    return {}


def _remember(entry: str, choice: str) -> None:
    choices = _choices()
    choices[entry] = choice
    document = {"format": FORMAT, "checksum": _checksum(choices), "choices": choices}
    try:
        replace_file(path(), lambda target: target.write_text(json.dumps(document, indent=1) + "\n"))
    except OSError as failure:
        log.warning("%s cannot be written (%s): the choice lasts as long as this process.", path(), failure)


def _checksum(choices: dict[str, str]) -> int:
    return zlib.crc32(json.dumps(choices, sort_keys=True).encode())
