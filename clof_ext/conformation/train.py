"""Training of a score network on the conformers of a store."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..training import OptionError, Processes, Trainer, load_model
from .dataset import Conformers, split
from .losses import Perturbed, perturb, score_matching_loss
from .molecule import collate
from .noise import noise_levels
from .recipe import TrainingRecipe
from .score_network import ScoreNetwork
from .store import Store

# Conformers that are validated together.
VALIDATED = 128
VALIDATION_SEED = 1


@dataclass
class Denoising:
    """The task for the training loop: find the noise in perturbed conformers.

    Attributes:
        train, valid: conformers.
        processes: this process among all.
        batch_size: conformers of a batch over all processes; the last batch of an epoch is shorter where it does not
            divide them. What several processes cannot share evenly is left out of the epoch.
        sigmas: (L,) levels of noise in angstrom.
    """

    train: Conformers
    valid: Conformers
    processes: Processes
    batch_size: int
    sigmas: Tensor = field(default_factory=noise_levels)
    unit = "conformer"

    def __post_init__(self) -> None:
        if self.batch_size > len(self.train):
            raise OptionError(
                f"batch_size must be at most the {len(self.train)} training conformers; got {self.batch_size}."
            )

    @property
    def size(self) -> int:
        return len(self.train) // self.processes.count * self.processes.count

    def batches(self, generator: torch.Generator) -> Iterator[Perturbed]:
        order = torch.randperm(len(self.train), generator=generator)[: self.size]
        levels = torch.randint(len(self.sigmas), order.shape, generator=generator)
        for numbers, drawn in zip(order.split(self.batch_size), levels.split(self.batch_size), strict=True):
            mine, mine_drawn = self.processes.share(numbers), self.processes.share(drawn)
            yield self._perturbed(self.train, mine, mine_drawn)

    def loss(self, model: nn.Module, batch: Perturbed) -> tuple[Tensor, int]:
        losses = denoising_losses(model, batch)
        return losses.mean(), len(losses)

    def validate(self, model: nn.Module) -> float:
        """Mean over the validation conformers, each at one level of noise; the same levels and noise every time."""
        numbers = torch.arange(len(self.valid))
        total = torch.zeros(1, dtype=torch.float64, device=self.processes.device)
        for mine in numbers.tensor_split(self.processes.count)[self.processes.rank].split(VALIDATED):
            if len(mine):
                generator = torch.Generator().manual_seed(VALIDATION_SEED + int(mine[0]))
                batch = self._perturbed(self.valid, mine, mine % len(self.sigmas), generator)
                total += denoising_losses(model, batch).double().sum()
        return self.processes.total(total).item() / len(self.valid)

    def _perturbed(
        self, conformers: Conformers, numbers: Tensor, levels: Tensor, generator: torch.Generator | None = None
    ) -> Perturbed:
        molecules = collate([conformers[number] for number in numbers.tolist()]).to(self.processes.device)
        return perturb(molecules, self.sigmas[levels].to(self.processes.device), generator)


def denoising_losses(model: nn.Module, batch: Perturbed) -> Tensor:
    """Loss of each conformer of a batch, (G,)."""
    m = batch.molecules
    return score_matching_loss(model(batch.pos, m.atom_type, m.edge_index, m.edge_type, batch.sigma), batch)


@dataclass(frozen=True)
class Parts:
    """Molecules of a store, by number: to train on, to validate on, and to test on; nobody is in two parts."""

    train: list[int]
    valid: list[int]
    test: list[int]


def parts_of(num_molecules: int, held_out: int, seed: int) -> Parts:
    """Hold out ``held_out`` molecules for the test, and as many for validation.

    Raises:
        OptionError: no molecule would be left to train on, or none is held out.
    """
    if not 0 < 2 * held_out < num_molecules:
        raise OptionError(f"held_out must be at least 1 and below half of {num_molecules} molecules; got {held_out}.")
    rest, test = split(num_molecules, held_out, seed)
    train, valid = split(len(rest), held_out, seed)
    return Parts(rest[train].tolist(), rest[valid].tolist(), test.tolist())


def train(
    data: Path,
    folder: Path,
    recipe: TrainingRecipe,
    *,
    held_out: int | None = None,
    valid: Path | None = None,
    processes: Processes | None = None,
    bfloat16: bool = False,
) -> list[dict]:
    """Train a score network; go on where the folder holds an unfinished training of the same recipe.

    Args:
        data: a store of molecules.
        folder: for checkpoints, metrics and the plot, see ``training.Trainer``.
        recipe: network and training.
        held_out: molecules kept for the test, and as many for validation; see ``parts_of``.
        valid: in its place, a store of molecules to validate on: all of ``data`` are then trained on.
        processes: this process among all, see ``training.processes``; alone on the CPU if None.
        bfloat16: compute under autocast.

    Returns:
        The history, see ``training.Trainer``.

    Raises:
        FileError: a sentence about a file that is missing, damaged or of another training.
        TrainingError: the loss is not finite.
        OptionError: a batch that does not fit data or processes, too few molecules to hold any out, or not one of
            held_out and valid.
    """
    processes = processes or Processes(0, 1, torch.device("cpu"))
    store = Store(data)
    sets, origin = _training_sets(store, held_out, valid, recipe.seed)
    torch.manual_seed(recipe.seed)
    network = recipe.make_network().to(processes.device)
    optimizer = recipe.make_optimizer(network)
    task = Denoising(*sets, processes, recipe.batch_size, network.sigmas.detach().cpu())
    config = {**recipe.describe(), "bfloat16": bfloat16, **origin}
    return Trainer(
        network,
        optimizer,
        recipe.make_schedule(optimizer),
        task,
        processes,
        folder,
        config,
        recipe.epochs,
        validate_every=recipe.validate_every,
        seed=recipe.seed,
        average_decay=recipe.average_decay,
        clip_norm=recipe.clip_norm,
        bfloat16=bfloat16,
    ).fit()


def _training_sets(
    store: Store, held_out: int | None, valid: Path | None, seed: int
) -> tuple[tuple[Conformers, Conformers], dict]:
    """Conformers to train and to validate on, and the values that describe them."""
    if (held_out is None) == (valid is None):
        raise OptionError("either held_out or valid must be given, and not both.")
    if valid is None:
        parts = parts_of(len(store), held_out, seed)
        sets = Conformers(store, parts.train), Conformers(store, parts.valid)
        return sets, {"held_out": held_out, "data": store.settings}
    other = Store(valid)
    return (Conformers(store), Conformers(other)), {"held_out": 0, "data": store.settings, "valid": other.settings}


def held_out_of(store: Store, config: dict) -> list[int]:
    """Molecules of a store, by number, that the training of this config held out; all where it held out none.

    Raises:
        OptionError: the training was on another store.
    """
    if not config["held_out"]:
        return list(range(len(store)))
    if store.settings != config["data"]:
        raise OptionError(f"{store.path} is not the store that was trained on, so none of it was held out; see --all.")
    return parts_of(len(store), config["held_out"], config["seed"]).test


def load_network(path: Path) -> tuple[ScoreNetwork, dict]:
    """A trained network from ``best.safetensors``, and the config that it was trained with.

    Raises:
        FileError: a sentence about a file that is missing, damaged or of another kind.
    """
    model = load_model(path)
    sizes = {name: model.config[name] for name in ("hidden_dim", "heads", "dropout")}
    network = ScoreNetwork(**sizes)
    network.load_state_dict(model.weights)
    return network.eval(), model.config
