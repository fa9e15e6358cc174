"""Statistics of timings, peak memory, and files that are whole or not there."""

import time

import pytest
import torch

from benchmarks.files import replace_between
from clof_ext.bench import memory
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.timing import interleave, interleave_batches, summarize
from clof_ext.training import replace_file

CPU = torch.device("cpu")
MIB = 2**20


def test_median_and_quartiles():
    timing = summarize([5.0, 1.0, 2.0, 4.0, 100.0])
    assert (timing.lower, timing.median, timing.upper, timing.repeats) == (2.0, 4.0, 5.0, 5)


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = interleave(calls, seconds=0, repeats=3, device=CPU)
    assert "".join(order) == "abcabcabc"
    assert [timing.repeats for timing in timings.values()] == [3, 3, 3]


def test_rounds_fill_the_time_asked_for():
    timings = interleave({"nap": lambda: time.sleep(0.002)}, seconds=0.05, repeats=2, device=CPU)
    assert 2 < timings["nap"].repeats <= 25
    assert timings["nap"].median >= 0.002


def test_processor_time_leaves_waiting_out():
    nap = {"nap": lambda: time.sleep(0.02)}
    timings = interleave(nap, seconds=0, repeats=3, device=CPU, clock=time.process_time)
    assert timings["nap"].upper < 0.01


def test_batches_share_the_time_of_their_calls():
    """Batches fill the time asked for, and what comes once a batch is spread over its calls."""
    batches = []

    def batch_time(call, count):
        batches.append((call(), count))
        return 1e-3 * call() * count + 1e-4

    calls = {"one": lambda: 1, "four": lambda: 4}
    timings = interleave_batches(calls, seconds=0, repeats=3, batch_time=batch_time, batch_seconds=1e-2)
    assert batches == [(1, 1), (4, 1)] + 3 * [(1, 10), (4, 3)]
    assert (timings["one"].calls, timings["four"].calls) == (10, 3)
    assert timings["one"].median == pytest.approx(1.01e-3)


def test_peak_counts_what_lives_at_one_time():
    def call():
        first = torch.empty(3 * MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first, second
        return torch.empty(4 * MIB, dtype=torch.uint8)

    assert peak_bytes(call, CPU) == 5 * MIB


def test_peak_counts_what_backward_keeps():
    x = torch.ones(MIB // 4, requires_grad=True)
    kept = peak_bytes(lambda: x.exp().exp().exp().sum().backward(), CPU)
    assert 3 * MIB <= kept < 6 * MIB


def test_peak_of_events_that_the_profiler_lost_is_measured_again(monkeypatch):
    found = iter([[], [3, -1, 4, -6]])
    monkeypatch.setattr(memory, "_allocations", lambda call: next(found))
    assert peak_bytes(lambda: None, CPU) == 6


def test_a_call_that_allocates_nothing_has_no_peak():
    assert peak_bytes(lambda: None, CPU) == 0


def test_a_failed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "result.txt"
    replace_file(path, lambda beside: beside.write_text("old"))

    def fail(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["result.txt"]


def test_text_between_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<a>\nold\n</a>\nafter\n")
    for text in ("new", "newer"):
        replace_between(page, "<a>", "</a>", text)
        assert page.read_text() == f"before\n<a>\n{text}\n</a>\nafter\n"
