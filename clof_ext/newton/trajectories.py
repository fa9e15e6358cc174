"""Simulated data sets in files: one for each split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..training import FileError, OptionError, load, save
from .dataset import FRAMES_AHEAD, INPUT_FRAME, Samples, make_samples
from .settings import Setting, setting
from .simulate import simulate

KIND = "set of trajectories"
# Published sizes.
SIZES = {"train": 3000, "valid": 2000, "test": 2000}
# The paper's systems have seeds below a million, which its program draws by this seed, for one split after the other.
PUBLISHED_SEED = 43
PUBLISHED_SEEDS = 1_000_000
PUBLISHED_ORDER = ("valid", "test", "train")
# Raised when ``simulate`` comes to give other trajectories: 1 had no walls, and longer springs, at the start.
SIMULATION = 2


@dataclass(frozen=True)
class Parameters:
    """What a set of trajectories was simulated from; equal parameters give equal trajectories.

    Attributes:
        setting: its name.
        first_seed: of the first system; each further one has the next seed. Of the paper's systems the number of
            those before the first.
        n_systems, n_steps, sample_every: see ``simulate``.
        published: the paper's systems, with its seeds and rounded as its program rounds.
        simulation: version of the simulation; this program makes ``SIMULATION`` and reads any.
    """

    setting: str
    first_seed: int
    n_systems: int
    n_steps: int = 5000
    sample_every: int = 100
    published: bool = False
    simulation: int = SIMULATION

    @property
    def seeds(self) -> Sequence[int]:
        """Of the systems, in their order."""
        end = self.first_seed + self.n_systems
        if not self.published:
            return range(self.first_seed, end)
        return np.random.RandomState(PUBLISHED_SEED).randint(PUBLISHED_SEEDS, size=end)[self.first_seed :]


@dataclass(frozen=True)
class Trajectories:
    """A simulated set.

    Attributes:
        parameters: what it was simulated from.
        loc, vel: (S, T, n, 3) float32 positions and velocities, T frames.
        charges: (S, n) float32.
    """

    parameters: Parameters
    loc: Tensor
    vel: Tensor
    charges: Tensor

    @property
    def setting(self) -> Setting:
        return setting(self.parameters.setting)

    def to(self, device: torch.device | str) -> "Trajectories":
        return Trajectories(self.parameters, self.loc.to(device), self.vel.to(device), self.charges.to(device))

    def samples(self) -> Samples:
        """Inputs and targets of the task, see ``make_samples``. Raises OptionError if there are too few frames."""
        needed = INPUT_FRAME + FRAMES_AHEAD + 1
        if self.loc.shape[1] < needed:
            raise OptionError(
                f"the task needs trajectories of {needed} frames; got {self.loc.shape[1]}: simulate more steps."
            )
        return make_samples(self.loc, self.vel, self.charges)


def simulate_trajectories(parameters: Parameters) -> Trajectories:
    """Simulate in float64 and round to float32, in which networks are trained."""
    p = parameters
    law = setting(p.setting)
    lengths = {"n_steps": p.n_steps, "sample_every": p.sample_every}
    backend = "reference" if p.published else None
    arrays = simulate(law.kind, law.n_particles, p.seeds, **lengths, backend=backend)
    return Trajectories(p, *(array.float() for array in arrays))


def split_parameters(
    name: str, sizes: dict[str, int], first_seed: int = 0, *, published: bool = False, **lengths: int
) -> dict[str, Parameters]:
    """Parameters of each split. The splits' seeds follow each other, those of the paper in its order."""
    parameters = {}
    for split in sorted(sizes, key=PUBLISHED_ORDER.index) if published else sizes:
        parameters[split] = Parameters(name, first_seed, sizes[split], published=published, **lengths)
        first_seed += sizes[split]
    return parameters


def split_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.safetensors"


def make_data_set(folder: Path, splits: dict[str, Parameters], tell: Callable[[str], None]) -> None:
    """Simulate each split and write its file; those that are there with the same parameters stay.

    A file of an older version of the simulation holds other trajectories, and so has other parameters.

    Args:
        folder: for the files, ``train.safetensors`` and so on.
        splits: parameters by the name of the split.
        tell: is called with a line about each split.

    Raises:
        FileError: a file is there that holds something else, or is damaged.
    """
    for split, parameters in splits.items():
        path = split_path(folder, split)
        if path.exists():
            found = load_trajectories(path).parameters
            if found != parameters:
                raise FileError(f"{path} holds {found}; expected {parameters}. Remove it, or choose another folder.")
            tell(f"{path}: complete, left as it is")
            continue
        save_trajectories(path, simulate_trajectories(parameters))
        tell(f"{path}: {parameters.n_systems} systems")


def save_trajectories(path: Path, trajectories: Trajectories) -> None:
    """Write a set to one compressed file."""
    t = trajectories
    save(
        path, {"parameters": vars(t.parameters), "loc": t.loc, "vel": t.vel, "charges": t.charges}, KIND, compress=True
    )


def load_trajectories(path: Path) -> Trajectories:
    """Read a set. Raises FileError with a sentence that names the file."""
    content = load(path, KIND)
    # The first version did not say its number.
    return Trajectories(Parameters(**{"simulation": 1} | content.pop("parameters")), **content)


def join(sets: list[Samples]) -> Samples:
    """One set of samples from several."""
    names = ("pos", "vel", "charges", "target")
    return Samples(*(torch.cat([getattr(samples, name) for samples in sets]) for name in names))
