"""The measurements of one case: errors, memory and times of every variant in every pass."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from clof_ext import prepare_graph
from clof_ext.bench.agreement import Errors, check
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import Say
from clof_ext.bench.timing import MS, Timing, interleave, milliseconds, time_once
from clof_ext.bench.variants import COMPILE, EAGER, FUSED, VARIANTS

from .agreement import Results, exact_results, results
from .workload import CASES, PASSES, Predictor, Settings, Workload

# Preparing a graph takes about a millisecond and is done once: few repeats will do.
GRAPH_REPEATS = 9


@dataclass(frozen=True)
class Contestant:
    """A variant that works here, warmed up.

    Attributes:
        predictor: what is called.
        warmup: seconds of the first call, by pass.
        errors: see ``agreement``.
    """

    predictor: Predictor
    warmup: dict[str, float]
    errors: Errors


def measure_case(name: str, settings: Settings, say: Say) -> dict:
    """Everything about one case, ready for JSON.

    Raises:
        DisagreementError: clof_ext's results are not those of the published network.
    """
    say(f"{name}: simulating {settings.n_systems} systems")
    workload = Workload(CASES[name], settings)
    contestants, failures = _warm_up_all(name, workload, say)
    measurements = []
    for key in PASSES:
        say(f"{name}: measuring {key}")
        measurements += _measure_pass(key, workload, contestants)
    return {
        "case": name,
        "network": workload.case.network.__name__,
        "n_particles": workload.case.n_particles,
        "n_systems": settings.n_systems,
        "nodes": workload.num_nodes,
        "edges": workload.num_edges,
        "prepare_graph_ms": _time_graph(workload),
        "failures": failures,
        "measurements": measurements,
    }


def _warm_up_all(name: str, workload: Workload, say: Say) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The variants that work here, and the others with the reason."""
    say(f"{name}: eager in float64, which errors refer to")
    eager = workload.make_predictor()
    exact = exact_results(workload, eager)
    contestants, failures = {}, {}
    for variant, make in VARIANTS.items():
        say(f"{name}: warming up {variant} and comparing its results")
        try:
            contestants[variant] = _warm_up(variant, make(eager), workload, exact)
        except RuntimeError as error:
            if variant != COMPILE:
                raise
            failures[variant] = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            say(f"{name}: {variant} does not work here: {failures[variant]}")
    check(contestants[FUSED].errors, contestants[EAGER].errors, workload.dtype, FUSED)
    return contestants, failures


def _warm_up(variant: str, predictor: Predictor, workload: Workload, exact: Results) -> Contestant:
    warmup = {key: time_once(partial(call, workload, predictor), workload.device) for key, call in PASSES.items()}
    # Gradients of inputs would make torch.compile compile another program, which is not the one that is measured.
    found = results(workload, predictor, of_inputs=variant != COMPILE)
    return Contestant(predictor, warmup, found.errors(exact))


def _measure_pass(key: str, workload: Workload, contestants: dict[str, Contestant]) -> list[dict]:
    calls = {variant: partial(PASSES[key], workload, entry.predictor) for variant, entry in contestants.items()}
    peaks = {variant: _peak(call, contestants[variant].predictor, workload) for variant, call in calls.items()}
    settings = workload.settings
    timings = interleave(calls, seconds=settings.seconds, repeats=settings.repeats, device=workload.device)
    return [
        {
            "variant": variant,
            "pass": key,
            **milliseconds(timing),
            "edges_per_s": workload.num_edges / timing.median,
            "ratio_to_eager": _ratio(timings, EAGER, variant),
            "ratio_to_compile": _ratio(timings, COMPILE, variant),
            "peak_bytes": peaks[variant],
            "errors": asdict(contestants[variant].errors),
            "warmup_s": contestants[variant].warmup[key],
        }
        for variant, timing in timings.items()
    ]


def _ratio(timings: dict[str, Timing], other: str, variant: str) -> float | None:
    """How many times faster a variant is than another, or None if that could not be measured."""
    return timings[other].median / timings[variant].median if other in timings else None


def _peak(call: Callable[[], object], predictor: Predictor, workload: Workload) -> int:
    # Gradients of the last call would be released inside this one.
    predictor.zero_grad(set_to_none=True)
    return peak_bytes(call, workload.device)


def _time_graph(workload: Workload) -> float:
    """Milliseconds to prepare the graph, which clof_ext does once for each edge_index tensor."""
    # A new tensor each time: plans are cached.
    edges = [workload.edge_index.clone() for _ in range(GRAPH_REPEATS)]
    durations = [time_once(partial(prepare_graph, one, workload.num_nodes), workload.device) for one in edges]
    return MS * statistics.median(durations)
