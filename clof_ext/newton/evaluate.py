"""What trained networks achieve: errors, rollouts, equivariance, speed."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..training import FileError, TrainedModel, load_model
from .dataset import FRAMES_AHEAD, Samples, make_samples
from .prediction import predict_samples, system_errors
from .recipe import Recipe
from .systems import TIME_STEP
from .trajectories import Trajectories

BEST_FILE = "best.safetensors"
BOOTSTRAP_SAMPLES = 2000
# Ends of the 95 % interval.
QUANTILES = (0.025, 0.975)
TIMED_RUNS = 5
SEED = 0


@dataclass(frozen=True)
class Errors:
    """Squared errors over the systems of a set; each system's is the mean over its particles' coordinates.

    Attributes:
        mean: the published figure.
        low, high: 95 % interval of the mean, by bootstrap over systems.
        median: of the systems' errors; close encounters, which are few, hardly move it.
    """

    mean: float
    low: float
    high: float
    median: float


def load_network(path: Path) -> tuple[nn.Module, TrainedModel]:
    """A trained network in evaluation mode, and what its file says about it.

    Args:
        path: a file that a training wrote, or the training's folder, whose best network is taken.

    Raises:
        FileError: a sentence that names the file.
    """
    path = path / BEST_FILE if path.is_dir() else path
    trained = load_model(path)
    try:
        network = recipe_of(trained).make_network()
        network.load_state_dict(trained.weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} holds no network of this task that this clof_ext knows ({error}).") from None
    return network.eval(), trained


def recipe_of(trained: TrainedModel) -> Recipe:
    """The recipe that a network was trained with; an older file lacks newer options, which have their defaults."""
    return Recipe(**{name: value for name, value in trained.config.items() if name in Recipe.__dataclass_fields__})


def summarise(errors: Tensor) -> Errors:
    """Mean, its interval, and median of (S,) errors of systems."""
    errors = errors.double().cpu()
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randint(len(errors), (BOOTSTRAP_SAMPLES, len(errors)), generator=generator)
    low, high = errors[drawn].mean(1).quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    return Errors(errors.mean().item(), low, high, errors.median().item())


@torch.no_grad()
def prediction_errors(network: nn.Module, samples: Samples) -> Errors:
    """Errors of the positions at the target frame, over S systems; see ``predict_samples``."""
    return summarise(system_errors(network, samples))


@torch.no_grad()
def equivariance_error(network: nn.Module, samples: Samples) -> float:
    """Largest difference between a turned and moved prediction and the prediction of turned and moved systems.

    In units of the largest predicted displacement; float32's rounding is some 1e-6. The rotation is random, without a
    reflection.
    """
    generator = torch.Generator().manual_seed(SEED)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    rotation = (rotation * torch.linalg.det(rotation)).to(samples.pos)
    shift = torch.randn(3, generator=generator).to(samples.pos)
    predicted = predict_samples(network, samples)
    turned = replace(samples, pos=samples.pos @ rotation.T + shift, vel=samples.vel @ rotation.T)
    difference = predict_samples(network, turned) - (predicted @ rotation.T + shift)
    return (difference.abs().max() / (predicted - samples.pos).abs().max()).item()


@torch.no_grad()
def microseconds_per_system(network: nn.Module, samples: Samples) -> float:
    """Time of a prediction, graphs included: the fastest of some runs over all samples."""
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        # Reading a number waits for a GPU.
        predict_samples(network, samples).sum().item()
        times.append(time.perf_counter() - start)
    return min(times) / len(samples) * 1e6


@torch.no_grad()
def rollout(network: nn.Module, trajectories: Trajectories) -> dict[int, Errors]:
    """Apply a network again and again, from the first frame to the last that a multiple of ten frames reaches.

    The network gives positions alone; the next velocities are the mean ones of the time between. (On true
    trajectories that is closer than 2 (x' - x) / T - v, which close encounters spoil.)

    Args:
        network: on the device of the trajectories.
        trajectories: with more than ten frames.

    Returns:
        Errors of the positions by the number of the frame.
    """
    t = trajectories
    interval = FRAMES_AHEAD * t.parameters.sample_every * TIME_STEP
    samples = make_samples(t.loc, t.vel, t.charges, input_frame=0)
    errors = {}
    for frame in range(FRAMES_AHEAD, t.loc.shape[1], FRAMES_AHEAD):
        pos = predict_samples(network, samples)
        errors[frame] = summarise((pos - t.loc[:, frame]).square().mean((1, 2)))
        samples = replace(samples, pos=pos, vel=(pos - samples.pos) / interval)
    return errors
