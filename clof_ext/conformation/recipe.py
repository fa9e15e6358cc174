"""How a score network is trained: every number of it."""

from dataclasses import asdict, dataclass, replace

from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .score_network import ScoreNetwork


@dataclass(frozen=True)
class TrainingRecipe:
    """A score network and its training. The defaults are the published ones, but for ``epochs``.

    Attributes:
        hidden_dim, heads, dropout: of ``ScoreNetwork``.
        epochs: at most; none is published.
        batch_size: conformers, over all processes.
        learning_rate: of Adam; multiplied by ``plateau_factor`` where the validation loss has not fallen for
            ``plateau_patience`` validations, down to ``smallest_learning_rate``.
        validate_every: epochs between validations.
        average_decay: of an exponential moving average of the weights, per step; None: none.
        clip_norm: largest norm of the gradient; None: any.
        seed: of the initial weights, the order of the conformers and the noise.
    """

    hidden_dim: int = 288
    heads: int = 8
    dropout: float = 0.1
    epochs: int = 500
    batch_size: int = 128
    learning_rate: float = 1e-3
    plateau_factor: float = 0.6
    plateau_patience: int = 10
    smallest_learning_rate: float = 1e-4
    validate_every: int = 1
    average_decay: float | None = None
    clip_norm: float | None = None
    seed: int = 0

    def make_network(self) -> ScoreNetwork:
        return ScoreNetwork(self.hidden_dim, heads=self.heads, dropout=self.dropout)

    def make_optimizer(self, network: ScoreNetwork) -> Optimizer:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return Adam(trained, self.learning_rate, fused=True)

    def make_schedule(self, optimizer: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(
            optimizer, factor=self.plateau_factor, patience=self.plateau_patience, min_lr=self.smallest_learning_rate
        )

    def describe(self) -> dict:
        """Plain values, for files."""
        return asdict(self)


PUBLISHED = TrainingRecipe()
# For a few hundred molecules on a CPU: a smaller network, smaller batches, averaged weights; see docs/conformations.md.
SMALL = replace(
    PUBLISHED, hidden_dim=96, dropout=0.0, batch_size=32, average_decay=0.999, clip_norm=5.0, validate_every=5
)
RECIPES = {"published": PUBLISHED, "small": SMALL}
