"""Public programs, unmodified, with replaced layers: ``python -m benchmarks.public_programs PATH``.

PATH is a checkout of one of the programs in ``PROGRAMS``; its own modules are imported and nothing of it is changed.
Each of its networks is called on random systems, with and without masks, plain and replaced, in float64 and in float32,
and all outputs and gradients are compared.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

import clof_ext
from clof_ext.bench.agreement import relative
from clof_ext.newton import fully_connected

SEED = 0
HIDDEN, LAYERS, FEATURES = 32, 2, 5
# Systems of so many atoms, padded to the largest where there are masks.
SIZES = (9, 6, 4)
SYSTEMS, ATOMS = len(SIZES), max(SIZES)
# In units of each array, in the Euclidean norm; the published gradients are small differences of large numbers.
ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-3}

Inputs = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A network of a program, and the arguments of a call.

    Attributes:
        make: the network, with the program's own initial weights.
        inputs: by the names of its forward; the gradients of those in ``leaves`` are compared.
        method: what is called if that is not the module.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Inputs
    leaves: tuple[str, ...]
    method: str = "__call__"


@dataclass(frozen=True)
class Result:
    """What was replaced in a case, and the largest relative errors of outputs and gradients by dtype."""

    name: str
    replaced: int
    left: int
    errors: dict[torch.dtype, tuple[float, float]]

    def __str__(self) -> str:
        found = (f"{output:.0e} {gradient:.0e}" for output, gradient in self.errors.values())
        return f"{self.name:40} {self.replaced:8} {self.left:4}   " + "   ".join(found)

    @property
    def agrees(self) -> bool:
        # Written so that nan fails.
        return self.replaced > 0 and all(max(pair) <= ALLOWED[dtype] for dtype, pair in self.errors.items())


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def masked_batch() -> Inputs:
    """Padded systems, all pairs of places their edges: masks of atoms, of pairs of different ones, and of movers."""
    there = torch.arange(ATOMS) < torch.tensor(SIZES)[:, None]
    pairs = there[:, :, None] & there[:, None, :] & ~torch.eye(ATOMS, dtype=torch.bool)
    movable = there & (torch.arange(ATOMS) % 3 > 0)
    masks = {"node_mask": there, "edge_mask": pairs, "movable": movable}
    return {name: mask.reshape(-1, 1).double() for name, mask in masks.items()}


def all_pairs() -> list[Tensor]:
    """Pairs with oneself among them, which those programs mask."""
    place = torch.arange(SYSTEMS * ATOMS * ATOMS)
    receiver = place // ATOMS
    return [receiver, receiver // ATOMS * ATOMS + place % ATOMS]


def of_diffusion(
    network: Callable[..., nn.Module], *, movable: str | None, variants: dict[str, dict]
) -> Iterator[Case]:
    """The network of EDM and its descendants, with masks and without."""
    given = {"h": random(SYSTEMS * ATOMS, FEATURES), "x": random(SYSTEMS * ATOMS, 3)}
    masks = masked_batch()
    moving = masks.pop("movable")
    if movable is not None:
        masks[movable] = moving
    graph = torch.arange(SYSTEMS).repeat_interleave(ATOMS)
    for name, options in variants.items():
        make = partial(network, FEATURES, 0, HIDDEN, n_layers=LAYERS, **options)
        crossed = {"batch_mask": graph} if "reflection_equiv" in options else {}
        pairs = {"edge_index": all_pairs()}
        others = {"edge_index": list(fully_connected(ATOMS, SYSTEMS))}
        yield Case(f"EGNN, {name}, masks", make, {**given, **pairs, **masks, **crossed}, ("h", "x"))
        yield Case(f"EGNN, {name}", make, {**given, **others, **crossed}, ("h", "x"))


EDM_VARIANTS = {
    "QM9's settings": {"attention": True, "tanh": True, "norm_constant": 1, "inv_sublayers": 1, "sin_embedding": False},
    "sinusoids": {"attention": True, "tanh": True, "sin_embedding": True},
    "means": {"aggregation_method": "mean", "normalization_factor": 1},
}


def edm() -> Iterator[Case]:
    """E(3) Equivariant Diffusion and GeoLDM: the network, and the dynamics around it."""
    network = importlib.import_module("egnn.egnn_new").EGNN
    yield from of_diffusion(network, movable=None, variants=EDM_VARIANTS)
    dynamics = importlib.import_module("egnn.models").EGNN_dynamics_QM9
    masks = masked_batch()
    inputs = {
        "t": torch.tensor(0.3, dtype=torch.float64),
        "xh": random(SYSTEMS, ATOMS, 3 + FEATURES),
        "node_mask": masks["node_mask"].reshape(SYSTEMS, ATOMS, 1),
        "edge_mask": masks["edge_mask"],
        "context": None,
    }
    make = partial(dynamics, FEATURES + 1, 0, n_dims=3, hidden_nf=HIDDEN, n_layers=LAYERS, attention=True, tanh=True)
    yield Case("EGNN_dynamics_QM9", make, inputs, ("xh",), method="_forward")


def difflinker() -> Iterator[Case]:
    module = importlib.import_module("src.egnn")
    yield from of_diffusion(module.EGNN, movable="linker_mask", variants=EDM_VARIANTS)
    masks = masked_batch()
    inputs = {
        "t": torch.tensor(0.3, dtype=torch.float64),
        "xh": random(SYSTEMS, ATOMS, 3 + FEATURES),
        "node_mask": masks["node_mask"].reshape(SYSTEMS, ATOMS, 1),
        "linker_mask": masks["movable"].reshape(SYSTEMS, ATOMS, 1),
        "edge_mask": masks["edge_mask"],
        "context": random(SYSTEMS, ATOMS, 1),
    }
    make = partial(
        module.Dynamics, 3, FEATURES, 1, hidden_nf=HIDDEN, n_layers=LAYERS, attention=True, tanh=True, centering=True
    )
    yield Case("Dynamics", make, inputs, ("xh", "context"))


def diffsbdd() -> Iterator[Case]:
    network = importlib.import_module("equivariant_diffusion.egnn_new").EGNN
    variants = {**EDM_VARIANTS, "cross products": {"attention": True, "tanh": True, "reflection_equiv": False}}
    yield from of_diffusion(network, movable="update_coords_mask", variants=variants)


def particles() -> Inputs:
    """Fully connected systems of charged particles with velocities, as in the N-body experiments."""
    edges = fully_connected(ATOMS, SYSTEMS)
    x = random(SYSTEMS * ATOMS, 3)
    charge = random(len(x), 1).sign()
    squared = (x[edges[0]] - x[edges[1]]).square().sum(1, keepdim=True)
    features = torch.cat((charge[edges[0]] * charge[edges[1]], squared), 1)
    vel = random(len(x), 3)
    return {"h": vel.norm(dim=1, keepdim=True), "x": x, "edges": list(edges), "vel": vel, "edge_attr": features}


def egnn() -> Iterator[Case]:
    system = importlib.import_module("n_body_system.model")
    clean = importlib.import_module("models.egnn_clean.egnn_clean").EGNN
    inputs = particles()
    sizes = {"in_node_nf": 1, "in_edge_nf": 2, "hidden_nf": HIDDEN, "n_layers": LAYERS}
    moving = {"recurrent": True, "norm_diff": True, "tanh": True}
    leaves = ("h", "x", "vel", "edge_attr")
    still, still_leaves = {name: value for name, value in inputs.items() if name != "vel"}, ("h", "x", "edge_attr")
    yield Case("EGNN_vel of n_body_system", partial(system.EGNN_vel, **sizes), inputs, leaves)
    yield Case("EGNN_vel, normed, tanh, recurrent", partial(system.EGNN_vel, **sizes, **moving), inputs, leaves)
    yield Case("EGNN of n_body_system", partial(system.EGNN, **sizes), still, still_leaves)
    yield Case("EGNN of egnn_clean", partial(clean, **sizes, out_node_nf=3), still, still_leaves)
    gated = {"attention": True, "tanh": True}
    yield Case("EGNN of egnn_clean, gated, tanh", partial(clean, **sizes, out_node_nf=3, **gated), still, still_leaves)


def clofnet() -> Iterator[Case]:
    module = importlib.import_module("newtonian.clof")
    inputs = particles() | {"n_nodes": ATOMS}
    sizes = {"in_node_nf": 1, "in_edge_nf": 2, "hidden_nf": HIDDEN, "n_layers": LAYERS}
    leaves = ("h", "x", "vel", "edge_attr")
    for name, options in {"": {}, ", tanh": {"tanh": True}, ", raw frames": {"norm_diff": False}}.items():
        yield Case(f"ClofNet_vel{name}", partial(module.ClofNet_vel, **sizes, **options), inputs, leaves)
    yield Case("ClofNet", partial(module.ClofNet, **sizes), inputs, leaves)
    yield Case("ClofNet_vel_gbf", partial(module.ClofNet_vel_gbf, **sizes), inputs, leaves)
    baseline = importlib.import_module("newtonian.egnn").EGNN_vel
    others = {name: value for name, value in inputs.items() if name != "n_nodes"}
    yield Case("EGNN_vel", partial(baseline, **sizes), others, leaves)


# A file that tells a program -> its cases. DiffSBDD has files of EDM's names, so it is asked for first.
PROGRAMS: dict[str, Callable[[], Iterator[Case]]] = {
    "equivariant_diffusion/egnn_new.py": diffsbdd,
    "egnn/egnn_new.py": edm,
    "src/egnn.py": difflinker,
    "newtonian/clof.py": clofnet,
    "n_body_system/model.py": egnn,
}


def cases_of(checkout: Path) -> Callable[[], Iterator[Case]]:
    """The cases of a checkout.

    Raises:
        ValueError: it is none of the programs.
    """
    found = next((cases for file, cases in PROGRAMS.items() if (checkout / file).exists()), None)
    if found is None:
        raise ValueError(f"{checkout} is no checkout of a known program: it has none of {', '.join(PROGRAMS)}.")
    return found


def run(case: Case) -> Result:
    """Compare a network with itself, replaced."""
    errors, report = {}, None
    for dtype in ALLOWED:
        model = network_of(case).to(dtype)
        plain = results(case, model, dtype)
        report = clof_ext.replace_layers(model)
        fused = results(case, model, dtype)
        outputs, gradients = (max(map(relative, some, truth)) for some, truth in zip(fused, plain, strict=True))
        errors[dtype] = outputs, gradients
    return Result(case.name, len(report.replaced), len(report.left), errors)


def network_of(case: Case) -> nn.Module:
    """The network with random weights, the same every time."""
    torch.manual_seed(SEED)
    # Some print their size when they are made.
    with redirect_stdout(StringIO()):
        network = case.make()
    for parameter in network.parameters():
        # The published heads start so small that positions hardly move.
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return network


def results(case: Case, model: nn.Module, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of a combination of them in the leaves and all weights."""
    inputs = {name: cast(value, dtype) for name, value in case.inputs.items()}
    for name in case.leaves:
        inputs[name].requires_grad_()
    # EGNN's and ClofNet's layers write into the positions that they are given.
    called = inputs | {name: inputs[name].clone() for name in case.leaves}
    returned = getattr(model, case.method)(**called)
    outputs = [returned] if isinstance(returned, Tensor) else list(returned)
    loss = sum((out * torch.linspace(0.5, 2, out.numel(), dtype=dtype).reshape(out.shape)).sum() for out in outputs)
    wanted = [*(inputs[name] for name in case.leaves), *model.parameters()]
    # Some weights of the published layers do nothing.
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return outputs, list(gradients)


def cast(value: object, dtype: torch.dtype) -> object:
    return value.detach().to(dtype, copy=True) if isinstance(value, Tensor) and value.is_floating_point() else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases of a checkout and print a line for each; the exit code is 1 if one does not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_programs", description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="folder of the unmodified program")
    checkout = parser.parse_args(arguments).checkout.resolve()
    try:
        cases = cases_of(checkout)
    except ValueError as error:
        parser.error(str(error))
    sys.path.insert(0, str(checkout))
    print(f"{'':40} replaced left   {'   '.join(str(dtype).removeprefix('torch.') for dtype in ALLOWED)}")
    found = []
    torch.manual_seed(SEED)
    for case in cases():
        found.append(run(case))
        print(found[-1])
    return 0 if all(result.agrees for result in found) else 1


if __name__ == "__main__":
    sys.exit(main())
