"""Times of several programs that are measured in turn, so that noise hits all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of repeated calls, in seconds."""

    median: float
    lower: float
    upper: float
    repeats: int


def summarize(durations: Sequence[float]) -> Timing:
    """Median and quartiles of two or more durations."""
    lower, median, upper = statistics.quantiles(durations, n=4, method="inclusive")
    return Timing(median, lower, upper, len(durations))


def interleave(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each call once per round, in turn, after they were warmed up.

    Args:
        calls: what to time, by name.
        seconds: rounds go on until this many seconds per call have passed on average,
        repeats: and until this many rounds were made, at least 2.
        device: the device whose work a call must have finished before its time counts.
        clock: seconds; ``time.process_time`` counts the processor's time alone, whatever else the machine does.
    """
    durations: dict[str, list[float]] = {name: [] for name in calls}
    # A collection of Python's garbage would fall on one call and not on another.
    gc.collect()
    gc.disable()
    end = time.perf_counter() + seconds * len(calls)
    rounds = 0
    try:
        while rounds < repeats or time.perf_counter() < end:
            for name, call in calls.items():
                durations[name].append(time_once(call, device, clock))
            rounds += 1
    finally:
        gc.enable()
    return {name: summarize(values) for name, values in durations.items()}


def time_once(call: Call, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, until the device has finished its work."""
    synchronize(device)
    start = clock()
    call()
    synchronize(device)
    return clock() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
