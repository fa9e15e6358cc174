"""The measurements of one size: errors, start, memory and times of every variant in every pass."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import nn

from . import energy, machine
from .agreement import Errors, check, largest_of
from .memory import peak_bytes
from .one_layer import (
    Inputs,
    Size,
    arrays,
    clear,
    errors,
    force_step,
    forward,
    forward_backward,
    make_inputs,
    make_network,
    outputs_alone,
    second_arrays,
)
from .run import Say
from .timing import interleave, milliseconds, time_once
from .variants import COMPILE, EAGER, FUSED, VARIANTS

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}


@dataclass(frozen=True)
class Pass:
    """What is timed, and everything that it computes, by name."""

    run: Callable[[nn.Module, Inputs], None]
    results: Callable[[nn.Module, Inputs], dict[str, torch.Tensor]]


PASSES = {
    "forward": Pass(forward, outputs_alone),
    "forward+backward": Pass(forward_backward, arrays),
    "second-order": Pass(force_step, second_arrays),
}
# What torch.compile cannot do.
UNCOMPILED = "second-order"


@dataclass(frozen=True)
class Job:
    """What is measured and how long.

    Attributes:
        size, dtype: of a layer or network, and of its weights and inputs.
        passes: names in PASSES.
        compiled: measure torch.compile too.
        device: where.
        seconds, repeats: how long, and how often at least, each measurement is repeated.
    """

    size: Size
    dtype: str
    passes: Sequence[str]
    compiled: bool
    device: torch.device
    seconds: float
    repeats: int


@dataclass(frozen=True)
class Contestant:
    """A variant that works here.

    Attributes:
        program: what is called.
        cold: seconds of making it and of the first call, by pass.
        warm: seconds of the second call, by pass.
        errors: against eager in float64.
    """

    program: nn.Module
    cold: dict[str, float]
    warm: dict[str, float]
    errors: Errors


def measure(job: Job, say: Say) -> dict:
    """Everything about one size, ready for JSON.

    Raises:
        DisagreementError: clof_ext's results are not those of the eager layers.
    """
    inputs = make_inputs(job.size).to(DTYPES[job.dtype], job.device)
    contestants, left_out = _contest(job, inputs, say)
    measurements = []
    for key in job.passes:
        say(f"{job.size} {job.dtype}: measuring {key}")
        measurements += _measure_pass(key, job, inputs, contestants)
    about = {**asdict(job.size), "edges": job.size.edges, "dtype": job.dtype}
    return {**about, "left_out": left_out, "measurements": measurements}


def _contest(job: Job, inputs: Inputs, say: Say) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The variants that work here and agree, and the others with the reason."""
    say(f"{job.size} {job.dtype}: eager in float64, which errors refer to")
    eager = make_network(job.size).to(job.device, DTYPES[job.dtype])
    exact = _results(copy.deepcopy(eager).double(), inputs.to(torch.float64), job.passes)
    left_out = {} if job.compiled else {COMPILE: "--compile was not given"}
    if job.compiled and job.device.type == "cpu" and machine.compiler() is None:
        left_out[COMPILE] = "it finds no C++ compiler"
    if COMPILE not in left_out and UNCOMPILED in job.passes:
        left_out[f"{COMPILE}, {UNCOMPILED}"] = "it records no derivative of a backward pass"
    contestants = {}
    for name, make in VARIANTS.items():
        if name not in left_out:
            say(f"{job.size} {job.dtype}: starting {name} and comparing its results")
            try:
                contestants[name] = _start(name, partial(make, eager), inputs, exact, job)
            except RuntimeError as error:
                if name != COMPILE:
                    raise
                left_out[name] = next(filter(str.strip, str(error).splitlines()), type(error).__name__)
    check(contestants[FUSED].errors, contestants[EAGER].errors, DTYPES[job.dtype], FUSED)
    return contestants, left_out


def _start(name: str, make: Callable[[], nn.Module], inputs: Inputs, exact: dict, job: Job) -> Contestant:
    made = []
    building = time_once(lambda: made.append(make()), job.device)
    (program,) = made
    passes = _passes_of(name, job.passes)
    cold, warm = {}, {}
    for key in passes:
        call = partial(PASSES[key].run, program, inputs)
        cold[key], warm[key] = building + time_once(call, job.device), time_once(call, job.device)
    found = _results(program, inputs, passes)
    relative = errors(found, {key: exact[key] for key in found})
    return Contestant(program, cold, warm, _largest(relative))


def _passes_of(name: str, passes: Sequence[str]) -> list[str]:
    return [key for key in passes if name != COMPILE or key != UNCOMPILED]


def _results(program: nn.Module, inputs: Inputs, passes: Sequence[str]) -> dict[str, torch.Tensor]:
    return {name: value for key in passes for name, value in PASSES[key].results(program, inputs).items()}


def _largest(relative: dict[str, float]) -> Errors:
    """Of gradients of every order, and of the other results."""
    gradients = {name: value for name, value in relative.items() if "gradient" in name}
    outputs = {name: value for name, value in relative.items() if name not in gradients}
    return Errors(*(largest_of(values) if values else 0.0 for values in (outputs, gradients)))


def _measure_pass(key: str, job: Job, inputs: Inputs, contestants: dict[str, Contestant]) -> list[dict]:
    taking_part = {name: entry for name, entry in contestants.items() if key in _passes_of(name, job.passes)}
    calls = {name: partial(PASSES[key].run, entry.program, inputs) for name, entry in taking_part.items()}
    peaks = {name: _peak(call, taking_part[name].program, inputs, job.device) for name, call in calls.items()}
    timings = interleave(calls, seconds=job.seconds, repeats=job.repeats, device=job.device)
    counters = energy.packages() if job.device.type == "cpu" else []
    return [
        {
            "variant": name,
            "pass": key,
            **milliseconds(timing),
            "ratio_to_eager": timings[EAGER].median / timing.median,
            "peak_bytes": peaks[name],
            "joules": energy.joules(calls[name], counters),
            "errors": asdict(taking_part[name].errors),
            "cold_start_s": taking_part[name].cold[key],
            "warm_up_s": taking_part[name].warm[key],
        }
        for name, timing in timings.items()
    ]


def _peak(call: Callable[[], object], program: nn.Module, inputs: Inputs, device: torch.device) -> int:
    # Gradients of the last call would be released inside this one.
    clear(program, inputs)
    return peak_bytes(call, device)
