"""Samplers on distributions whose score is known, and the chains that make conformers."""

import math

import pytest
import torch
from torch import Tensor

from clof_ext.conformation import generate as chains
from clof_ext.conformation.generate import Watch, generate
from clof_ext.conformation.noise import SIGMA_BEGIN, noise_levels
from clof_ext.conformation.sampling import SAMPLERS, Langevin, Solver
from clof_ext.conformation.score_network import ScoreNetwork
from tests.conformation.made import ETHANE, WATER, molecule

MEAN, WIDTH = 0.5, 0.4


def gaussian_score(pos: Tensor, sigma: float) -> Tensor:
    """Of N(MEAN, WIDTH^2) in each coordinate, with noise."""
    return (MEAN - pos) / (WIDTH**2 + sigma**2)


def draw(sampler, n_points: int = 1500, score=gaussian_score) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return sampler.run(
        score, lambda: torch.randn(n_points, 3, generator=generator, dtype=torch.float64), lambda pos: pos
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_give_a_gaussian_from_its_score(name: str):
    sampler = SAMPLERS[name](noise_levels())
    samples = draw(sampler)
    n = samples.numel()
    # Four standard errors; what the flow keeps of a start that is not centred on the mean; the width that steps of a
    # fiftieth of the variance add to Langevin's.
    assert abs(samples.mean().item() - MEAN) < 4 * WIDTH / math.sqrt(n) + MEAN * WIDTH / SIGMA_BEGIN
    assert abs(samples.std().item() / WIDTH - 1) < 4 / math.sqrt(2 * n) + 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_are_counted_right(name: str):
    sampler, calls = SAMPLERS[name](noise_levels()), []
    draw(sampler, 1, lambda pos, sigma: calls.append(sigma) or gaussian_score(pos, sigma))
    assert len(calls) == sampler.calls
    assert calls == sorted(calls, reverse=True)


def test_the_solvers_need_a_tenth_of_the_published_calls():
    calls = {name: make(noise_levels()).calls for name, make in SAMPLERS.items()}
    assert 10 * calls["solver"] <= calls["langevin"] and 10 * calls["ode"] <= calls["langevin"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_walk_down_the_levels_of_the_network(name: str):
    sigmas, seen = noise_levels(3.0, 0.2, 7), []
    draw(SAMPLERS[name](sigmas), 1, lambda pos, sigma: seen.append(sigma) or gaussian_score(pos, sigma))
    assert (seen[0], seen[-1]) == pytest.approx((3.0, 0.2))
    if name in ("langevin", "predictor-corrector"):
        assert sorted(set(seen), reverse=True) == sigmas.tolist()


def test_the_probability_flow_is_of_second_order():
    """The flow of a Gaussian scales distances from its mean by the ratio of the widths."""
    errors = []
    for n_levels in (40, 80):
        sigmas = noise_levels(n_levels=n_levels)
        begin, end = (math.hypot(WIDTH, sigmas[k].item()) for k in (0, -1))
        start = draw(Solver(sigmas, stochastic=False), 5, lambda pos, sigma: -pos / sigma**2)
        assert start.abs().max() < 1e-9, "a point at the origin must be found exactly"
        noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        # The last level is left by a whole step to the mean of the clean positions.
        last = MEAN + (sigmas[0] * noise - MEAN) * end / begin
        exact = last + sigmas[-1].item() ** 2 * gaussian_score(last, sigmas[-1].item())
        errors.append((draw(Solver(sigmas, stochastic=False), 5) - exact).abs().max().item())
    assert errors[1] < errors[0] / 3


def test_langevin_scales_down_long_scores():
    sampler = Langevin(torch.tensor([0.01]), steps=1, step_size=1.0, largest_score=2.0)
    steps = draw(sampler, 4, lambda pos, sigma: torch.full_like(pos, 1e6)) - draw(
        sampler, 4, lambda pos, sigma: torch.zeros_like(pos)
    )
    assert torch.allclose(steps.norm(dim=1), torch.tensor(2.0, dtype=torch.float64))
    assert torch.isfinite(steps).all()


def test_a_predictor_moves_between_the_levels_only():
    one_level = Langevin(torch.tensor([0.01]), steps=3)
    assert torch.equal(draw(one_level), draw(Langevin(torch.tensor([0.01]), steps=3, predictor=True)))
    two = torch.tensor([1.0, 0.01])
    assert not torch.equal(draw(Langevin(two, steps=3)), draw(Langevin(two, steps=3, predictor=True)))


def test_a_predictor_takes_scores_of_any_length():
    sampler = Langevin(torch.tensor([2.0, 0.5]), steps=0, predictor=True, largest_score=1.0)

    def score(pos, sigma):
        return (1e4 - pos) / sigma

    start = draw(Langevin(torch.tensor([2.0]), steps=0), 4)
    # Once, at the upper level: half of 2^2 - 0.5^2.
    assert torch.allclose(draw(sampler, 4, score), start + 1.875 * score(start, 2.0), rtol=1e-14, atol=0)


SHORT = Solver(noise_levels(n_levels=5))


def water_and_ethane():
    return [molecule(WATER), molecule(ETHANE)]


def small_network() -> ScoreNetwork:
    torch.manual_seed(0)
    return ScoreNetwork(16, heads=2)


def test_a_seed_gives_the_same_conformers():
    molecules = water_and_ethane()
    first, again, other = (
        generate(small_network(), molecules, [3, 2], SHORT, seed=seed, progress=False)[0] for seed in (1, 1, 2)
    )
    assert [molecule.num_conformers for molecule in first] == [3, 2]
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one.positions, two.positions)
        assert not torch.equal(one.positions, three.positions)
        assert one.positions.mean(1).abs().max() < 1e-5


def test_batches_hold_whole_chains_and_all_of_them():
    molecules = water_and_ethane()
    made, report = generate(small_network(), molecules, [4, 5], SHORT, batch_atoms=7, progress=False)
    assert [molecule.num_conformers for molecule in made] == [4, 5]
    # Four waters, two to a batch, and five ethanes, one to a batch.
    assert report.calls == 7 * SHORT.calls
    assert (report.chains, report.restarted, report.failed) == (9, 0, 0)


@pytest.mark.parametrize("disease", [math.nan, math.inf, 1e9])
def test_broken_chains_are_run_again_and_counted(disease: float, monkeypatch):
    """The second chain of the first run gets a disease; the others must not notice."""
    runs = []
    healthy = chains.score_of

    def infected(network, batch):
        runs.append(batch.num_graphs)
        score = healthy(network, batch)
        if len(runs) > 1:
            return score
        sick = (batch.batch == 1)[:, None]
        return lambda pos, sigma: score(pos, sigma).masked_fill(sick, disease)

    molecules = water_and_ethane()
    well, _ = generate(small_network(), molecules, [3, 0], SHORT, progress=False)
    monkeypatch.setattr(chains, "score_of", infected)
    made, report = generate(small_network(), molecules, [3, 0], SHORT, progress=False)
    assert runs == [3, 1]
    assert (report.restarted, report.failed) == (1, 0)
    assert torch.equal(made[0].positions[[0, 2]], well[0].positions[[0, 2]])
    assert torch.isfinite(made[0].positions).all()
    assert made[0].positions[1].abs().max() > 0


def test_chains_that_always_fail_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(chains, "score_of", lambda network, batch: lambda pos, sigma: pos * math.nan)
    made, report = generate(small_network(), water_and_ethane(), [2, 1], SHORT, progress=False)
    assert [molecule.num_conformers for molecule in made] == [0, 0]
    assert (report.chains, report.restarted, report.failed) == (3, 9, 3)


def test_a_watch_holds_broken_chains_at_the_origin():
    watch = Watch(torch.tensor([0, 0, 1]), torch.zeros(2, dtype=torch.bool))
    assert torch.equal(watch(torch.ones(3, 3)), torch.ones(3, 3))
    pos = torch.ones(3, 3)
    pos[1, 2] = -2 * chains.FARTHEST
    assert torch.equal(watch(pos), torch.tensor([[0.0], [0.0], [1.0]]).expand(3, 3))
    assert torch.equal(watch(torch.ones(3, 3))[:2], torch.zeros(2, 3))


def test_wrong_counts_are_named():
    with pytest.raises(ValueError, match="counts must have a number for each of the 2 molecules; got 1"):
        generate(small_network(), water_and_ethane(), [1], SHORT, progress=False)
