"""How a network is trained: every number of it."""

from dataclasses import asdict, dataclass

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from .. import _check
from .networks import make_network
from .settings import Setting

SCHEDULES = ("step", "cosine")
# The published schedule multiplies the learning rate by this, this many times in a training.
STEP_FACTOR, STEPS = 0.9, 8


@dataclass(frozen=True)
class Recipe:
    """A network and its training. The defaults are the published ones, but for ``epochs``, see ``Setting``.

    Attributes:
        network, hidden_dim, n_layers: see ``make_network``.
        frame, attention, tanh, pair_features, moving_frame, external_field: see ``make_network``.
        epochs, batch_size, learning_rate, weight_decay: of AdamW on the mean squared error.
        schedule: ``"step"``: learning rate x 0.9 every epochs / 8; ``"cosine"``: falling to 0.
        validate_every: epochs between validations.
        average_decay: of an exponential moving average of the weights, per step; None: none.
        clip_norm: largest norm of the gradient; None: any.
        mirror: mirror each system in the origin with chance 1/2; not with gravity, which that would turn round. (A
            magnetic field stays: velocities turn round, and so does the Lorentz force.)
        all_frames: train on all pairs of frames ten apart, not on 30 and 40 alone: more of the same trajectories.
        seed: of the initial weights and the order of the systems.
    """

    network: str = "clofnet"
    hidden_dim: int = 64
    n_layers: int = 4
    frame: str = "soft"
    attention: bool = False
    tanh: bool = False
    pair_features: bool = False
    moving_frame: bool = False
    external_field: bool = False
    epochs: int = 400
    batch_size: int = 128
    learning_rate: float = 0.01
    weight_decay: float = 1e-12
    schedule: str = "step"
    validate_every: int = 5
    average_decay: float | None = None
    clip_norm: float | None = None
    mirror: bool = False
    all_frames: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check.one_of(self.schedule, SCHEDULES, "schedule")

    def make_network(self) -> nn.Module:
        names = ("frame", "attention", "tanh", "pair_features", "moving_frame", "external_field")
        options = {name: getattr(self, name) for name in names}
        return make_network(self.network, self.hidden_dim, self.n_layers, **options)

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        # One kernel for all weights: with many small ones the plain form takes a tenth of a training.
        return AdamW(network.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def make_schedule(self, optimizer: Optimizer) -> LRScheduler:
        if self.schedule == "cosine":
            return CosineAnnealingLR(optimizer, self.epochs)
        return StepLR(optimizer, max(self.epochs // STEPS, 1), STEP_FACTOR)

    def describe(self) -> dict:
        """Plain values, for files."""
        return asdict(self)


def published(law: Setting) -> Recipe:
    """The published recipe of a setting: ``Recipe`` with the number of epochs that the paper names."""
    return Recipe(epochs=law.epochs)


def best(law: Setting) -> Recipe:
    """What was found to have the lowest error on es5, see docs/newton.md, with the symmetries that the setting has."""
    return Recipe(
        epochs=law.best_epochs,
        schedule="cosine",
        average_decay=0.999,
        clip_norm=1.0,
        pair_features=True,
        mirror=not law.has_gravity,
        moving_frame=not law.has_magnetic_field,
        external_field=law.has_gravity or law.has_magnetic_field,
    )


RECIPES = {"published": published, "best": best}
