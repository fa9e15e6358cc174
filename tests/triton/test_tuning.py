"""Which candidate is launched, and what is remembered of it: without a GPU, by a clock that the tests turn."""

import json
from contextlib import contextmanager

import pytest
import torch

from clof_ext.triton import tuning

CANDIDATES = ("slow", "fast", "broken")
TIMES = {"slow": 2.0, "fast": 1.0}
GPU = torch.device("cuda")


@contextmanager
def in_use(device):
    """In the place of ``torch.cuda.device``."""
    Runs.device = device
    yield
    Runs.device = None


class Runs:
    """Calls of candidates, and their times; the third fails as kernels do that need too much shared memory."""

    device = None

    def __init__(self):
        self.calls = []

    def __call__(self, candidate):
        assert Runs.device == GPU
        self.calls.append(candidate)
        if candidate == "broken":
            raise RuntimeError("out of resource: shared memory")

    def milliseconds(self, run):
        run()
        return TIMES[self.calls[-1]]

    def fastest(self, candidates=CANDIDATES, device=GPU, key=("tf32", 128)):
        return tuning.fastest(
            "backward", dict(zip(("products", "H"), key)), candidates, self, device, self.milliseconds
        )


@pytest.fixture
def runs(monkeypatch, tmp_path) -> Runs:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(tuning.ENVIRONMENT, "1")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", in_use)
    tuning._choices.cache_clear()
    yield Runs()
    tuning._choices.cache_clear()


def test_the_fastest_that_works_is_chosen_once(runs):
    assert runs.fastest() == "fast"
    assert runs.calls == list(CANDIDATES)
    assert runs.fastest() == "fast"
    assert runs.calls == list(CANDIDATES)


def test_another_process_finds_the_choice(runs):
    runs.fastest()
    tuning._choices.cache_clear()
    later = Runs()
    assert later.fastest() == "fast" and later.calls == []
    assert later.fastest(key=("half", 128)) == "fast" and later.calls == list(CANDIDATES)


def test_a_candidate_that_is_no_more_is_chosen_anew(runs):
    runs.fastest()
    assert runs.fastest(candidates=("slow", "broken")) == "slow"


@pytest.mark.parametrize("reason", ["off", "cpu", "one candidate", "capturing", "nothing works"])
def test_the_default_where_nothing_may_be_timed(runs, monkeypatch, reason):
    candidates, device = CANDIDATES, GPU
    if reason == "off":
        monkeypatch.setenv(tuning.ENVIRONMENT, "0")
    elif reason == "cpu":
        device = torch.device("cpu")
    elif reason == "one candidate":
        candidates = ("broken",)
    elif reason == "capturing":
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    else:
        candidates = ("broken", "broken too")
        monkeypatch.setattr(runs, "milliseconds", lambda run: runs("broken"))
    assert runs.fastest(candidates, device) == candidates[0]
    assert not tuning.path().exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1, "checksum": 0, "choices": {}}', '{"format": 99}'])
def test_a_damaged_file_is_written_anew(runs, caplog, damage):
    tuning.path().parent.mkdir(parents=True)
    tuning.path().write_text(damage)
    assert runs.fastest() == "fast"
    assert "tiles are chosen anew" in caplog.text
    document = json.loads(tuning.path().read_text())
    assert list(document["choices"].values()) == ["'fast'"]


def test_a_changed_choice_is_noticed(runs, caplog):
    runs.fastest()
    tuning.path().write_text(tuning.path().read_text().replace("'fast'", "'slow'"))
    tuning._choices.cache_clear()
    assert Runs().fastest() == "fast"
    assert "damaged" in caplog.text


def test_where_nothing_can_be_written_the_choice_lasts_as_long_as_the_process(runs, caplog):
    tuning.path().parent.parent.joinpath("clof_ext").write_text("a file where the folder should be")
    assert runs.fastest() == "fast"
    assert "cannot be written" in caplog.text
    runs.calls.clear()
    assert runs.fastest() == "fast" and runs.calls == []
