"""What the throughput benchmark runs: the published networks on batches of simulated charged particles."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from clof_ext import newton
from clof_ext.bench.published import ClofNet_vel, EGNN_vel

from .diffusion import EDM

# Inputs of a node (|v|) and of an edge (q_i q_j, |x_i - x_j|^2).
NODE_DIM, EDGE_DIM = 1, 2
# As in the prediction task, but no further than its target, frame 40 counted from 0.
SAMPLE_EVERY = 100
SIMULATED_STEPS = SAMPLE_EVERY * (newton.dataset.INPUT_FRAME + newton.dataset.FRAMES_AHEAD + 1) + 1
WEIGHT_SEED = 0


@dataclass(frozen=True)
class Case:
    """A published network and the number of particles in each system."""

    network: type[nn.Module]
    n_particles: int


CASES = {
    "clofnet-20": Case(ClofNet_vel, 20),
    "clofnet-5": Case(ClofNet_vel, 5),
    "egnn-20": Case(EGNN_vel, 20),
    "egnn-5": Case(EGNN_vel, 5),
    "edm-18": Case(EDM, 18),
}


# Half precision is missing: under autocast the published ClofNet takes the root of a rounded 1 - cos^2 and gives nan.
DTYPES = {"float32": torch.float32, "float64": torch.float64}
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """Sizes and efforts of a run.

    Attributes:
        hidden, n_layers: of the networks.
        n_systems: systems in a batch.
        dtype: of weights and inputs, a name in DTYPES.
        device: one of DEVICES.
        seconds: time that each measurement is repeated for.
        repeats: the fewest repeats of a measurement.
    """

    hidden: int = 64
    n_layers: int = 4
    n_systems: int = 128
    dtype: str = "float32"
    device: str = "cpu"
    seconds: float = 1.5
    repeats: int = 9


class Predictor(nn.Module):
    """A published network that gets a copy of the positions, because some write into theirs.

    The copy is made inside the module so that ``torch.compile`` sees it: without it the backward pass of its EGNN_vel
    fails.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: Tensor | int) -> Tensor:
        return self.network(**{**inputs, "x": inputs["x"].clone()})


class Workload:
    """A case at given settings: its batch, its network, and the two calls that are measured.

    Attributes:
        inputs: the floating inputs, (h, x, vel, edge_attr), by the names that the published networks use.
    """

    def __init__(self, case: Case, settings: Settings) -> None:
        self.case, self.settings = case, settings
        self.dtype, self.device = DTYPES[settings.dtype], torch.device(settings.device)
        seeds = range(settings.n_systems)
        trajectories = newton.simulate(
            "charged", case.n_particles, seeds, n_steps=SIMULATED_STEPS, sample_every=SAMPLE_EVERY
        )
        samples = newton.make_samples(*trajectories, dtype=self.dtype)
        edge_index = newton.fully_connected(case.n_particles, settings.n_systems)
        batch = newton.make_batch(samples, slice(None), edge_index)
        self.edge_index, self.target = edge_index.to(self.device), batch.target.to(self.device)
        inputs = {"h": batch.h, "x": batch.pos, "vel": batch.vel, "edge_attr": batch.edge_attr}
        self.inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        self.options = {"n_nodes": case.n_particles} if case.network is ClofNet_vel else {}

    def in_float64(self) -> "Workload":
        """The same inputs, exactly, for a network in float64."""
        exact = copy.copy(self)
        exact.dtype, exact.target = torch.float64, self.target.double()
        exact.inputs = {name: tensor.double() for name, tensor in self.inputs.items()}
        return exact

    @property
    def num_nodes(self) -> int:
        return len(self.target)

    @property
    def num_edges(self) -> int:
        return self.edge_index.shape[1]

    def make_predictor(self) -> Predictor:
        """The published network, with the same random weights every time."""
        torch.manual_seed(WEIGHT_SEED)
        network = self.case.network(NODE_DIM, EDGE_DIM, self.settings.hidden, self.settings.n_layers)
        return Predictor(network).to(self.device, self.dtype)

    def predict(self, predictor: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """(N, 3) predicted positions."""
        return predictor(**inputs, edges=self.edge_index, **self.options)

    def loss(self, prediction: Tensor) -> Tensor:
        return mse_loss(prediction, self.target)


def forward(workload: Workload, predictor: nn.Module) -> None:
    """Prediction without gradients."""
    with torch.no_grad():
        workload.predict(predictor, workload.inputs)


def forward_backward(workload: Workload, predictor: nn.Module) -> None:
    """Prediction, and gradients of the mean squared error in all weights: a training step without its update."""
    predictor.zero_grad(set_to_none=True)
    workload.loss(workload.predict(predictor, workload.inputs)).backward()


PASSES = {"forward": forward, "forward+backward": forward_backward}
