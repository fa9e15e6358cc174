"""Times of several programs that are measured in turn, so that noise hits all of them alike."""

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Call = Callable[[], object]
MS = 1e3

# A batch of calls between two of a GPU's time stamps: long beside the launch of the first one.
BATCH_SECONDS = 5e-3
# Cores that other programs may use, on average, while something is timed: the system's own work.
DISTURBED = 0.1


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of repeated calls, in seconds.

    Attributes:
        calls: how many calls share one duration: a repeat is a batch of them.
        others: cores that other programs used meanwhile, on average; None where the system does not tell.
    """

    median: float
    lower: float
    upper: float
    repeats: int
    calls: int = 1
    others: float | None = None


def milliseconds(timing: Timing) -> dict:
    """A timing as rows of measurements hold it, ready for JSON."""
    return {
        "median_ms": MS * timing.median,
        "lower_ms": MS * timing.lower,
        "upper_ms": MS * timing.upper,
        "repeats": timing.repeats,
        "others": timing.others,
    }


def summarize(durations: Sequence[float], calls: int = 1, others: float | None = None) -> Timing:
    """Median and quartiles of two or more durations."""
    lower, median, upper = statistics.quantiles(durations, n=4, method="inclusive")
    return Timing(median, lower, upper, len(durations), calls, others)


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
    timers = {name: lambda call=call: time_once(call, device, clock) for name, call in calls.items()}
    durations, others = _take_turns(timers, seconds, repeats)
    return {name: summarize(values, others=others) for name, values in durations.items()}


def interleave_batches(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    repeats: int,
    batch_time: Callable[[Call, int], float] | None = None,
    batch_seconds: float = BATCH_SECONDS,
) -> dict[str, Timing]:
    """Like ``interleave`` for calls on the current GPU, without what the processor does between them.

    A single call's time, waited for, holds its launch and much of Python's work: as much again as a kernel of 0.1 ms.
    Here a repeat is a batch of calls that fills ``batch_seconds``, and the GPU's own clock is read before and after.

    Args:
        batch_time: seconds of so many calls; ``device_time``, other than in tests.
    """
    measure = batch_time or device_time
    counts = {name: batch_size(measure(call, 1), batch_seconds) for name, call in calls.items()}
    timers = {name: lambda name=name: measure(calls[name], counts[name]) / counts[name] for name in calls}
    durations, others = _take_turns(timers, seconds, repeats)
    return {name: summarize(values, counts[name], others) for name, values in durations.items()}


def batch_size(seconds: float, batch_seconds: float) -> int:
    """How many calls of so many seconds fill a batch."""
    return max(1, math.ceil(batch_seconds / seconds))


def device_time(call: Call, count: int) -> float:
    """Seconds from the start of the first to the end of the last of ``count`` calls, by the GPU's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _take_turns(
    timers: Mapping[str, Callable[[], float]], seconds: float, repeats: int
) -> tuple[dict[str, list[float]], float | None]:
    """What each timer said, once per round, until the rounds and the seconds asked for have passed; others' cores."""
    durations: dict[str, list[float]] = {name: [] for name in timers}
    # A collection of Python's garbage would fall on one call and not on another.
    gc.collect()
    gc.disable()
    started, others_before, rounds = time.perf_counter(), others_seconds(), 0
    end = started + seconds * len(timers)
    try:
        while rounds < repeats or time.perf_counter() < end:
            for name, timer in timers.items():
                durations[name].append(timer())
            rounds += 1
    finally:
        gc.enable()
    return durations, _cores(others_before, others_seconds(), time.perf_counter() - started)


def others_seconds() -> float | None:
    """Processor time that other programs and virtual machines have had so far; None where Linux does not tell."""
    try:
        line = Path("/proc/stat").read_text().split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def _cores(before: float | None, after: float | None, seconds: float) -> float | None:
    # The system counts in steps of 10 ms.
    return None if before is None else max(0.0, after - before) / seconds


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
