"""The measurements of one layer on one batch: every peer is compared, then those that agree are timed in turn."""

import copy
import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from clof_ext.bench import machine
from clof_ext.bench.agreement import TOLERANCE, largest_of
from clof_ext.bench.one_layer import PASSES, Inputs, Layer, Size, errors, make_inputs, make_layer
from clof_ext.bench.run import Say
from clof_ext.bench.timing import Timing, interleave, milliseconds, time_once
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

from .program import Program, torch_program

CPU = torch.device("cpu")
ALLOWED = TOLERANCE[torch.float32]
PYG, JAX, DENSE = "PyG", "JAX", "egnn-pytorch"


class Peer(NamedTuple):
    """Where a program is built, what it needs, and the layers that it can express."""

    module: str
    function: str = "build"
    packages: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("egnn", "clofnet")

    def build(self, layer: Layer, inputs: Inputs) -> Program:
        """The module of a peer is imported here, because its packages may be missing."""
        return getattr(importlib.import_module(f".{self.module}", __package__), self.function)(layer, inputs)


PEERS = {
    EAGER: Peer("pytorch", "eager"),
    COMPILE: Peer("pytorch", "compiled"),
    FUSED: Peer("pytorch", "fused"),
    PYG: Peer("pyg", packages=("torch-geometric",), imports=("torch_geometric",)),
    JAX: Peer("jax_layers", packages=("jax", "jaxlib"), imports=("jax", "jaxlib")),
    DENSE: Peer("egnn_pytorch", packages=("egnn-pytorch",), imports=("egnn_pytorch", "einops"), networks=("egnn",)),
}


@dataclass(frozen=True)
class Effort:
    """How long, and how often at least, a measurement is repeated; by which clock."""

    seconds: float
    repeats: int
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Contestant:
    """A program that may be timed.

    Attributes:
        start: seconds of building it and of each pass's first call.
        error: the largest relative error; None where the formulas are others.
    """

    program: Program
    start: dict[str, float]
    error: float | None


def missing(name: str) -> str | None:
    """A sentence about what a peer needs and this machine lacks; None if nothing."""
    lacking = [module for module in PEERS[name].imports if importlib.util.find_spec(module) is None]
    if lacking:
        packages = " and ".join(module.replace("_", "-") for module in lacking)
        return f"{name} was left out: not installed is {packages}; pip install 'clof_ext[peers]' brings it."
    if name == COMPILE and machine.compiler() is None:
        return f"{COMPILE} was left out: it finds no C++ compiler."
    return None


def measure(size: Size, effort: Effort, say: Say) -> dict:
    """Everything about one layer on one batch, ready for JSON."""
    contestants, left_out = contest(size, say)
    measurements = []
    for key in PASSES:
        say(f"{size}: measuring {key}")
        calls = {name: entry.program.calls[key] for name, entry in contestants.items()}
        timings = interleave(calls, seconds=effort.seconds, repeats=effort.repeats, device=CPU, clock=effort.clock)
        measurements += [_row(name, key, timing, contestants[name]) for name, timing in timings.items()]
    return {**asdict(size), "edges": size.edges, "left_out": left_out, "measurements": measurements}


def contest(size: Size, say: Say) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The peers that agree with the eager layer in float64 or have other formulas; the others, with a sentence each."""
    layer, inputs = make_layer(size), make_inputs(size)
    exact = torch_program(copy.deepcopy(layer).double(), inputs.to(torch.float64)).arrays()
    contestants, left_out = {}, {}
    for name, peer in PEERS.items():
        if size.network not in peer.networks:
            left_out[name] = f"{name} was left out: its layer is no {size.network}."
        elif sentence := missing(name):
            left_out[name] = sentence
        else:
            say(f"{size}: starting {name} and comparing its results")
            contestant = _start(peer, layer, inputs, exact)
            # Written so that nan fails.
            if contestant.error is None or contestant.error <= ALLOWED:
                contestants[name] = contestant
            else:
                left_out[name] = (
                    f"{name} was not timed, because it does not agree with the published layer: its largest relative "
                    f"error is {contestant.error:.1e}; allowed is {ALLOWED:.1e}."
                )
    return contestants, left_out


def _start(peer: Peer, layer: Layer, inputs: Inputs, exact: dict[str, torch.Tensor]) -> Contestant:
    # Imports are left out of the time: several peers share PyTorch's.
    importlib.import_module(f".{peer.module}", __package__)
    started = time.perf_counter()
    program = peer.build(layer, inputs)
    start = {"build": time.perf_counter() - started}
    start |= {key: time_once(call, CPU) for key, call in program.calls.items()}
    error = largest_of(errors(program.arrays(), exact)) if program.arrays else None
    return Contestant(program, start, error)


def _row(name: str, key: str, timing: Timing, contestant: Contestant) -> dict:
    return {
        "variant": name,
        "pass": key,
        **milliseconds(timing),
        "error": contestant.error,
        "start_s": contestant.start,
    }
