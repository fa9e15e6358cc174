"""The training loop: what it computes, what it keeps, and that stopping changes nothing."""

import json

import pytest
import torch
from torch import nn

from clof_ext.training import FileError, Processes, Trainer, TrainingError, load, load_model
from clof_ext.training.average import moving_average

ALONE = Processes(0, 1, torch.device("cpu"))


class NoisyLine:
    """y = 3 x, learned from 12 noisy samples in batches of 4."""

    size, unit = 12, "sample"

    def __init__(self, processes=ALONE):
        self.processes = processes
        self.x = torch.linspace(-1, 1, 12)[:, None]

    def batches(self, generator):
        for numbers in torch.randperm(12, generator=generator).split(4):
            yield self.x[self.processes.share(numbers)]

    def loss(self, model, x):
        noise = 0.1 * torch.randn(len(x), 1)
        return (model(x) - 3 * x + noise).square().mean(), len(x)

    def validate(self, model):
        return (model(self.x) - 3 * self.x).square().mean().item()


def make_trainer(folder, *, epochs=6, schedule="step", processes=ALONE, task=None, config=None, **options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    schedules = {
        "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    }
    task = task or NoisyLine(processes)
    options = {"validate_every": 2, "seed": 5, **options}
    config = config or {"name": "line"}
    return Trainer(model, optimizer, schedules[schedule](), task, processes, folder, config, epochs, **options)


def without_times(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


OPTIONS = [{}, {"average_decay": 0.9}, {"schedule": "plateau", "validate_every": 1}, {"clip_norm": 0.1}]


@pytest.mark.parametrize("epochs", [6, 8])
@pytest.mark.parametrize("content", [None, b"x" * 50])
def test_a_training_without_its_best_network_says_so(tmp_path, content, epochs):
    make_trainer(tmp_path, epochs=6).fit()
    best = tmp_path / "best.safetensors"
    best.unlink() if content is None else best.write_bytes(content)
    with pytest.raises(FileError, match=r"best.safetensors (does not exist|is truncated).* Remove .* to train anew"):
        make_trainer(tmp_path, epochs=epochs).fit()


@pytest.mark.parametrize("options", OPTIONS)
def test_going_on_after_any_epoch_changes_nothing(tmp_path, options):
    whole = make_trainer(tmp_path / "whole", **options)
    history = whole.fit()
    for _ in range(3):
        stopped = make_trainer(tmp_path / "parts", **options)
        task_batches, epochs_left = stopped.task.batches, iter([True, True, False])

        def batches(generator, task_batches=task_batches, epochs_left=epochs_left):
            if not next(epochs_left):
                raise KeyboardInterrupt
            yield from task_batches(generator)

        stopped.task.batches = batches
        try:
            stopped.fit()
        except KeyboardInterrupt:
            continue
    assert without_times(stopped.history) == without_times(history)
    for a, b in zip(whole.model.parameters(), stopped.model.parameters(), strict=True):
        assert torch.equal(a, b)
    weights = [load_model(tmp_path / name / "best.safetensors").weights for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_finished_training_is_not_repeated(tmp_path):
    history = make_trainer(tmp_path).fit()
    assert make_trainer(tmp_path).fit() == history


def test_it_learns_and_writes_what_it_learned(tmp_path):
    trainer = make_trainer(tmp_path, epochs=40)
    history = trainer.fit()
    assert history[-1]["valid_loss"] < 0.1 * history[1]["valid_loss"]
    assert [row["epoch"] for row in history] == list(range(1, 41))
    assert all((row["valid_loss"] is None) == bool(row["epoch"] % 2) for row in history)
    assert history[0]["learning_rate"] == 0.05 and history[2]["learning_rate"] == 0.025
    best = load_model(tmp_path / "best.safetensors")
    assert best.config == {"name": "line"}
    assert best.metrics["valid_loss"] == min(row["valid_loss"] for row in history if row["valid_loss"] is not None)
    trainer.model.load_state_dict(best.weights)
    trainer.model.eval()
    assert trainer.task.validate(trainer.model) == best.metrics["valid_loss"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == history
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 41
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_the_average_is_what_is_validated_and_kept(tmp_path):
    trainer = make_trainer(tmp_path, average_decay=0.5, epochs=2)
    trainer.fit()
    state = load(tmp_path / "last.safetensors", "state of a training")
    best = load_model(tmp_path / "best.safetensors").weights
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(best[name], state["average"][f"module.{name}"])
        assert not torch.equal(best[name], value)


def test_the_average_forgets_the_first_weights_and_then_decays():
    update = moving_average(0.9)
    averaged = [torch.zeros(2)]
    update(averaged, [torch.ones(2)], torch.tensor(1))
    torch.testing.assert_close(averaged[0], torch.full((2,), 1 - 2 / 11))
    update(averaged, [torch.zeros(2)], torch.tensor(10_000))
    torch.testing.assert_close(averaged[0], torch.full((2,), 0.9 * (1 - 2 / 11)))


def test_clipping_bounds_a_step(tmp_path):
    trainer = make_trainer(tmp_path, clip_norm=1e-3)
    trainer._step(trainer.task.x)
    norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(1e-3))


def test_bfloat16_computes_in_bfloat16(tmp_path):
    dtypes = []
    trainer = make_trainer(tmp_path, bfloat16=True, epochs=1)
    trainer.model[2].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    trainer.fit()
    assert set(dtypes) == {torch.bfloat16}


def test_other_files_in_the_folder_are_refused(tmp_path):
    make_trainer(tmp_path, epochs=1).fit()
    with pytest.raises(FileError, match="is of another training: name was 'line', now 'curve', size was None, now 2"):
        make_trainer(tmp_path, epochs=1, config={"name": "curve", "size": 2}).fit()
    (tmp_path / "last.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(FileError, match=r"last.safetensors is truncated"):
        make_trainer(tmp_path, epochs=1).fit()


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    task = NoisyLine()
    task.x = task.x * float("nan")
    with pytest.raises(TrainingError, match="the loss of epoch 1 is nan"):
        make_trainer(tmp_path, task=task).fit()


def test_a_batch_must_divide():
    """What several processes compute, tests/newton/test_train.py compares."""
    with pytest.raises(ValueError, match="the number of processes must divide the batch of 5; got 2."):
        Processes(0, 2, torch.device("cpu")).share(torch.arange(5))
