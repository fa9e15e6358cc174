"""The measurements of one size of the sweep, and what is left out because it would not fit."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import nn

from clof_ext.bench import machine
from clof_ext.bench.agreement import TOLERANCE, DisagreementError, largest_of
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.one_layer import (
    PASSES,
    Inputs,
    Layer,
    Size,
    about,
    arrays,
    clear,
    errors,
    force_step,
    make_inputs,
    make_layer,
)
from clof_ext.bench.run import Say
from clof_ext.bench.timing import DISTURBED, MS, interleave, milliseconds
from clof_ext.bench.variants import COMPILE, EAGER, FUSED, fused

from .flops import products

CPU = torch.device("cpu")
# Eager PyTorch rounds, too.
ALLOWED = 2 * TOLERANCE[torch.float32]
# Of the nodes whose eager memory stands for that of a larger graph.
SMALL_NODES = 200
# To measure while no other program runs.
ATTEMPTS = 3


@dataclass(frozen=True)
class Limits:
    """Efforts of a run, and what is too much for it.

    Attributes:
        seconds, repeats: how long, and how often at least, each measurement is repeated.
        longest_call: seconds; a size is left out whose products alone take longer.
        memory: bytes; an unfused program is left out that needs more.
        compiled: features of all messages, E x H, above which nothing is compiled.
        minutes: no size is begun after this time.
        busy: the machine does other work, so processor time is counted.
    """

    seconds: float
    repeats: int
    longest_call: float
    memory: int
    compiled: float
    minutes: float
    busy: bool = False

    @property
    def clock(self) -> Callable[[], float]:
        return time.process_time if self.busy else time.perf_counter


class Sweep:
    """Measures one size after another; a layer that stays is compiled once.

    Args:
        limits: see there.
        rate: the machine's operations per second, which tells what is too much.
        say: tells what is being done.
    """

    def __init__(self, limits: Limits, rate: float, say: Say) -> None:
        self.limits, self.rate, self.say = limits, rate, say
        self.started = time.perf_counter()
        self.compiled: tuple[tuple, nn.Module | None] = ((), None)

    def measure(self, size: Size) -> dict:
        """Everything about one size, ready for JSON.

        Raises:
            DisagreementError: clof_ext's results are not those of the eager layer.
        """
        layer = make_layer(size)
        left_out = self._reasons(size, layer)
        case = {**asdict(size), "edges": size.edges, "left_out": left_out, "measurements": []}
        if FUSED in left_out:
            self.say(f"{size}: left out, {left_out[FUSED]}")
            return case
        self.say(str(size))
        inputs = make_inputs(size)
        programs = {name: make(size, layer) for name, make in self._programs().items() if name not in left_out}
        case["errors"] = _largest_errors(programs, inputs)
        for key in PASSES:
            case["measurements"] += self._measure_pass(key, size, programs, inputs)
        return case

    def _programs(self) -> dict[str, Callable[[Size, Layer], nn.Module]]:
        return {EAGER: lambda size, layer: layer, COMPILE: self._compiled, FUSED: lambda size, layer: fused(layer)}

    def _compiled(self, size: Size, layer: Layer) -> nn.Module:
        """The layer under torch.compile, for graphs of any size, as one compiles it who has more than one."""
        if self.compiled[0] != size.layer:
            torch.compiler.reset()
            copied = copy.deepcopy(layer)
            copied.compile(dynamic=True)
            self.compiled = size.layer, copied
        return self.compiled[1]

    def _reasons(self, size: Size, layer: Layer) -> dict[str, str]:
        """Programs that are not measured at this size, and why."""
        minutes = (time.perf_counter() - self.started) / 60
        if minutes > self.limits.minutes:
            return dict.fromkeys(self._programs(), f"the run's {self.limits.minutes:g} minutes were over")
        work = products(layer.layer, size.nodes, size.edges, split=True).step(recompute=True)
        if work / self.rate > self.limits.longest_call:
            reason = f"its products take {work / self.rate:.2g} s at the machine's rate"
            return dict.fromkeys(self._programs(), reason)
        memory = eager_memory(size, layer)
        if memory > self.limits.memory:
            return dict.fromkeys((EAGER, COMPILE), f"eager would need {memory / 1e9:.1f} GB")
        if machine.compiler() is None:
            return {COMPILE: "there is no C++ compiler"}
        if size.edges * size.hidden > self.limits.compiled:
            return {COMPILE: f"left out above {self.limits.compiled:.0e} features of messages, to save time"}
        return {}

    def _measure_pass(self, key: str, size: Size, programs: dict[str, nn.Module], inputs: Inputs) -> list[dict]:
        rows = self._measure_calls(PASSES[key], programs, inputs)
        for row in rows:
            name = row["variant"]
            row["pass"], row["flops"] = key, work(programs[name], size, name == FUSED)[key]
            row["flops_per_s"] = MS * row["flops"] / row["median_ms"]
        return rows

    def measure_second_derivatives(self, size: Size) -> dict:
        """Time and memory of a step that differentiates a gradient; torch.compile cannot record one."""
        self.say(f"{size}: second derivatives")
        layer, inputs = make_layer(size), make_inputs(size)
        programs = {EAGER: layer, FUSED: fused(layer)}
        for program in programs.values():
            force_step(program, inputs)
        return {**asdict(size), "measurements": self._measure_calls(force_step, programs, inputs)}

    def _measure_calls(self, run: Callable, programs: dict[str, nn.Module], inputs: Inputs) -> list[dict]:
        """Times of a call of each program, in turn, and its memory."""
        calls = {name: partial(run, program, inputs) for name, program in programs.items()}
        peaks = {name: _peak(call, programs[name], inputs) for name, call in calls.items()}
        limits = self.limits
        for _ in range(ATTEMPTS):
            timings = interleave(calls, seconds=limits.seconds, repeats=limits.repeats, device=CPU, clock=limits.clock)
            if limits.busy or (timings[FUSED].others or 0) <= DISTURBED:
                break
        return [
            {
                "variant": name,
                **milliseconds(timing),
                "ratio_to_eager": timings[EAGER].median / timing.median if EAGER in timings else None,
                "peak_bytes": peaks[name],
            }
            for name, timing in timings.items()
        ]


def eager_memory(size: Size, layer: Layer) -> float:
    """Bytes that eager PyTorch would need for a step, from a small graph: they grow as the number of edges."""
    small = replace(size, nodes=min(size.nodes, about(SMALL_NODES, size.neighbours)))
    return peak_bytes(partial(PASSES["forward+backward"], layer, make_inputs(small)), CPU) * size.edges / small.edges


def work(program: Layer, size: Size, is_fused: bool) -> dict[str, int]:
    """Floating-point operations of the products that a program does, by pass."""
    counted = products(program.layer, size.nodes, size.edges, split=is_fused)
    return {"forward": counted.forward, "forward+backward": counted.step(recompute=is_fused)}


def _peak(call: Callable[[], object], program: nn.Module, inputs: Inputs) -> int:
    # Gradients of the last call would be released inside this one.
    clear(program, inputs)
    return peak_bytes(call, CPU)


def _largest_errors(programs: dict[str, nn.Module], inputs: Inputs) -> dict[str, float]:
    """Of each program beside eager, against it; it also warms them up."""
    found = {name: arrays(program, inputs) for name, program in programs.items()}
    for program in programs.values():
        PASSES["forward"](program, inputs)
    if EAGER not in found:
        return {}
    exact = found.pop(EAGER)
    largest = {name: largest_of(errors(values, exact)) for name, values in found.items()}
    if not largest[FUSED] <= ALLOWED:
        raise DisagreementError(
            f"clof_ext does not agree with the published layer: the largest relative error of its outputs and "
            f"gradients is {largest[FUSED]:.1e}; allowed is {ALLOWED:.1e}."
        )
    return largest
