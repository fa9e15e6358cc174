"""The simulated trajectories: the published ones, the laws of physics, and the same bits on every machine."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import clof_ext
from clof_ext import _backends
from clof_ext.newton import LAWS, initial_systems, simulate
from clof_ext.newton.reference import total_force
from clof_ext.newton.systems import FORCE_LIMIT, TIME_STEP, _reflected

ROOT = Path(__file__).parents[2]
GOLDEN_FOLDERS = (ROOT.parent / "shared" / "golden", ROOT / "tests" / "golden")
GOLDEN = ("charged5", "charged20", "gravity5", "gravity20", "lorentz5", "lorentz20")
TOLERANCE = 1e-10
# Frame, for each of the seeds 1 to 4, at which rounding has grown to 1e-9 in the chaotic systems of lorentz20.
CHAOS = {"lorentz20": (18, 29, 38, 49)}
CHAOS_TOLERANCE = 1e-9
# Of NumPy with OpenBLAS on CPUs with AVX-512.
PUBLISHED_ROUNDING = "9ed256d64e73e824"
# Seeds of 5 charged particles that never come nearer to each other than 0.8: no force is clipped.
CALM_SEEDS = (14, 15, 24, 30, 39)

compiled = pytest.param(
    "cpu", marks=pytest.mark.skipif(_backends.binary() is None, reason="the compiled extension is missing")
)
backends = pytest.mark.parametrize("backend", ["reference", compiled])


def golden(name):
    folder = next(folder for folder in GOLDEN_FOLDERS if folder.exists())
    with np.load(folder / f"sim_{name}.npz") as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        loc, vel = (torch.from_numpy(arrays[key]).transpose(2, 3) for key in ("loc", "vel"))
        return meta, loc, vel, torch.from_numpy(arrays["charges"])[..., 0]


def simulated(meta, backend):
    options = {"n_steps": meta["T"], "sample_every": meta["sample_freq"], "backend": backend}
    return simulate(meta["simulation"], meta["n"], meta["seeds"], **options)


@backends
@pytest.mark.parametrize("name", GOLDEN)
def test_published_trajectories(name, backend):
    meta, loc, vel, charges = golden(name)
    ours = simulated(meta, backend)
    assert ours[0].shape == loc.shape and ours[0].dtype == torch.float64
    assert torch.equal(ours[2], charges)
    tolerance = CHAOS_TOLERANCE if name in CHAOS else TOLERANCE
    for system, end in enumerate(CHAOS.get(name, (49, 49, 49, 49))):
        torch.testing.assert_close(ours[0][system, :end], loc[system, :end], rtol=0, atol=tolerance)
        # A velocity is a force of up to 100 away from the position that causes it.
        torch.testing.assert_close(ours[1][system, :end], vel[system, :end], rtol=0, atol=10 * tolerance)


def rounding_of_numpy():
    """A checksum of products of matrices and of powers, which libraries and vector instructions round differently."""
    random, found = np.random.RandomState(0), hashlib.sha256()
    for n in (5, 20):
        pos = random.randn(2000, 3, n)
        products = np.matmul(pos.transpose(0, 2, 1), pos)
        found.update(products.tobytes() + np.power(np.abs(products), 1.5).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_reference_gives_the_published_bits(name):
    if rounding_of_numpy() != PUBLISHED_ROUNDING:
        pytest.skip("NumPy on this machine rounds products or powers otherwise than where the arrays were made")
    meta, loc, vel, _ = golden(name)
    ours = simulated(meta, "reference")
    assert torch.equal(ours[0], loc) and torch.equal(ours[1], vel)


@pytest.mark.parametrize("kind", LAWS)
def test_the_reference_leaves_initial_states_alone(kind):
    systems, again = (initial_systems(kind, 5, range(3)) for _ in range(2))
    clof_ext.newton.reference.simulate(LAWS[kind], systems, 11, 5)
    for name, value in vars(systems).items():
        np.testing.assert_array_equal(value, getattr(again, name))


@pytest.mark.parametrize("kind", LAWS)
def test_the_force_of_the_reference(kind):
    law, systems = LAWS[kind], initial_systems(kind, 6, range(40))
    pos, vel = systems.pos, systems.vel
    d = pos[:, :, None] - pos[:, None]
    weight = systems.coupling
    if law.inverse_square:
        weight = weight / ((d**2).sum(-1) + 1e-6) ** 1.5
    magnetic = systems.charges[..., None] * np.cross(vel, law.magnetic_field)
    force = (weight[..., None] * d).sum(2) + law.gravity + magnetic
    coordinates_first = pos.transpose(0, 2, 1), vel.transpose(0, 2, 1)
    found = total_force(law, *coordinates_first, systems.charges, systems.coupling).transpose(0, 2, 1)
    np.testing.assert_allclose(found, np.clip(force, -100, 100), rtol=1e-9, atol=1e-11)


@pytest.mark.skipif(_backends.binary() is None, reason="the compiled extension is missing")
@pytest.mark.parametrize("instruction_set", _backends.binary().instruction_sets() if _backends.binary() else [])
@pytest.mark.parametrize("n_systems", [1, 7, 9])
@pytest.mark.parametrize("kind", LAWS)
def test_every_instruction_set_gives_the_same_bits(kind, n_systems, instruction_set):
    def run():
        return simulate(kind, 6, range(n_systems), n_steps=1000, sample_every=90, backend="cpu")

    binary = _backends.binary()
    binary.select_instruction_set(instruction_set)
    try:
        ours = run()
    finally:
        binary.select_instruction_set(binary.instruction_sets()[-1])
    for tensor, expected in zip(ours, run(), strict=True):
        assert torch.equal(tensor, expected)


@pytest.mark.skipif(_backends.binary() is None, reason="the compiled extension is missing")
@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("kind", LAWS)
def test_the_kernel_agrees_with_the_reference_until_encounters(kind, n):
    def run(backend):
        return simulate(kind, n, range(9), n_steps=101, sample_every=25, backend=backend)

    for tensor, expected in zip(run("cpu"), run("reference"), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-10)


@pytest.mark.skipif(_backends.binary() is None, reason="the compiled extension is missing")
@pytest.mark.parametrize("name", ["vel", "charges", "coupling"])
def test_the_kernel_refuses_arrays_that_do_not_fit(name):
    arrays = {key: torch.from_numpy(value) for key, value in vars(initial_systems("charged", 5, range(3))).items()}
    law = {"inverse_square": True, "gravity": (0, 0, 0), "magnetic_field": (0, 0, 0), "time_step": 1e-3}
    options = law | {"softening": 1e-6, "force_limit": 100, "num_steps": 3, "sample_every": 1}
    with pytest.raises(RuntimeError, match=rf"{name} must have shape \(3, .*; got \(3, 4.*"):
        torch.ops.clof_ext.newton_simulate(**arrays | {name: arrays[name][:, :4]}, **options)
    with pytest.raises(RuntimeError, match="num_steps must be more than sample_every, .* got 3 and 3."):
        torch.ops.clof_ext.newton_simulate(**arrays, **options | {"sample_every": 3})
    with pytest.raises(RuntimeError, match="gravity must have 3 components; got 2."):
        torch.ops.clof_ext.newton_simulate(**arrays, **options | {"gravity": (0.0, 0.0)})


@backends
def test_a_system_depends_on_its_seed_alone(backend):
    def run(seeds):
        return simulate("gravity", 5, seeds, n_steps=300, sample_every=100, backend=backend)

    many = run([*range(300), 5])
    for tensor, alone in zip(many, run([5]), strict=True):
        assert torch.equal(tensor[5], alone[0]) and torch.equal(tensor[300], alone[0])
        assert tensor[6:7].ne(alone).any()


@pytest.mark.parametrize("seeds", [range(2, 5), (2, 3, 4), np.arange(2, 5), torch.arange(2, 5)], ids=type)
def test_seeds_in_any_sequence(seeds):
    expected = simulate("charged", 2, [2, 3, 4], n_steps=3, sample_every=1)
    for tensor, other in zip(simulate("charged", 2, seeds, n_steps=3, sample_every=1), expected, strict=True):
        assert torch.equal(tensor, other)


def test_initial_states_are_those_of_the_global_legacy_generator():
    systems = initial_systems("charged", 7, [3, 11])
    np.random.seed(11)
    charges = np.random.choice([-1.0, 1.0], size=(7, 1), p=[0.5, 0.5])
    pos = np.random.randn(3, 7) * (7 / 5) ** (1 / 3)
    vel = np.random.randn(3, 7)
    assert np.array_equal(systems.charges[1], charges[:, 0])
    assert np.array_equal(systems.pos[1], pos.T)
    np.testing.assert_allclose(systems.vel[1], vel.T / np.linalg.norm(vel.T, axis=1, keepdims=True) / 2, rtol=1e-14)


def test_walls_reflect_initial_positions_beyond_them():
    for seed, system in zip(range(40), initial_systems("charged", 20, range(40)).pos, strict=True):
        random = np.random.RandomState(seed)
        random.choice([-1.0, 1.0], size=20, p=[0.5, 0.5])
        drawn = random.randn(3, 20).T * 4 ** (1 / 3)
        expected = np.where(drawn > 5, 10 - drawn, np.where(drawn < -5, -10 - drawn, drawn))
        assert np.array_equal(system, expected)
    assert abs(drawn).max() < 5 < abs(np.random.RandomState(17).randn(3, 70)[:, 10:]).max() * 4 ** (1 / 3)


def test_velocities_beyond_the_walls_point_inwards():
    random = np.random.RandomState(0)
    pos, vel = random.uniform(-9, 9, (2, 3, 50))
    reflected_pos, reflected_vel = _reflected(pos, vel)
    assert abs(reflected_pos).max() <= 5
    assert np.array_equal(reflected_vel[pos > 5], -abs(vel[pos > 5])) and (vel[pos > 5] > 0).any()
    assert np.array_equal(reflected_vel[pos < -5], abs(vel[pos < -5])) and (vel[pos < -5] < 0).any()
    assert np.array_equal(reflected_vel[abs(pos) <= 5], vel[abs(pos) <= 5])


# A coordinate that is drawn beyond a wall: position and velocity after 100 steps, by the published program.
BEYOND_WALLS = [
    ("charged", 17, 1, 7, 4.673586679750555, -0.1656441601162887),
    ("lorentz", 20, 0, 7, -4.904054473267542, 0.3370278470847332),
    ("gravity", 23, 2, 11, 4.9225330169547, -0.17611321519706918),
]


@backends
@pytest.mark.parametrize(("kind", "seed", "axis", "particle", "position", "velocity"), BEYOND_WALLS)
def test_published_trajectories_of_reflected_particles(kind, seed, axis, particle, position, velocity, backend):
    loc, vel, _ = simulate(kind, 20, [seed], n_steps=101, backend=backend)
    assert loc[0, 0, particle, axis].item() == pytest.approx(position, abs=1e-10)
    assert vel[0, 0, particle, axis].item() == pytest.approx(velocity, abs=1e-9)


def test_springs_are_symmetric_and_join_about_half_of_the_pairs():
    springs = initial_systems("springs", 10, range(50)).coupling
    assert set(np.unique(springs)) == {-0.1, 0.0}
    assert np.array_equal(springs, springs.transpose(0, 2, 1))
    assert not springs.diagonal(axis1=1, axis2=2).any()
    # 2250 pairs: three standard deviations are 0.03.
    assert abs((springs != 0).sum() / (50 * 90) - 0.5) < 0.03


# Positions of the first two particles after 100 steps, by the published program.
PUBLISHED_SPRINGS = {
    1: [
        [0.29877447085688674, -0.5508864812589337, 0.39954981643997695],
        [-0.04770409753929275, -0.46837135970542604, -0.07962644238133985],
    ],
    3: [
        [-0.3583887603288049, 0.11460284227786219, -1.0522174665370783],
        [0.49127212094240774, -0.23192674965792212, 0.41990948018297164],
    ],
}


@backends
def test_published_springs(backend):
    loc, _, _ = simulate("springs", 5, list(PUBLISHED_SPRINGS), n_steps=101, backend=backend)
    expected = torch.tensor(list(PUBLISHED_SPRINGS.values()), dtype=torch.float64)
    torch.testing.assert_close(loc[:, 0, :2], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [5, 20])
def test_springs_start_with_one_spread_whatever_their_number(n):
    assert initial_systems("springs", n, range(100)).pos.std() == pytest.approx(0.5, rel=0.05)


@backends
@pytest.mark.parametrize("kind", ["charged", "springs"])
def test_momentum_is_conserved(kind, backend):
    _, vel, _ = simulate(kind, 5, CALM_SEEDS, backend=backend)
    momentum = vel.sum(2)
    torch.testing.assert_close(momentum, momentum[:, :1].expand_as(momentum), rtol=0, atol=1e-12)
    assert vel.sub(vel[:, :1]).abs().max() > 0.1


@backends
def test_gravity_accelerates_the_centre_of_mass(backend):
    _, vel, _ = simulate("gravity", 5, [1], n_steps=1001, sample_every=500, backend=backend)
    change = (vel[0, 1] - vel[0, 0]).mean(0)
    torch.testing.assert_close(change, torch.tensor([0, 0, 0.5 * 0.098], dtype=torch.float64), rtol=0, atol=1e-12)


@backends
def test_a_magnetic_field_turns_the_velocity_of_a_lone_charge(backend):
    _, vel, charges = simulate("lorentz", 1, [4], n_steps=5000, sample_every=100, backend=backend)
    axis = torch.ones(3, dtype=torch.float64) / 3**0.5
    along = vel[0, :, 0] @ axis
    across = vel[0, :, 0] - along[:, None] * axis
    torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-12)
    # An explicit step lengthens what it turns by (1 + (B dt)^2)^(1/2).
    torch.testing.assert_close(across.norm(dim=1), across[0].norm().expand(49), rtol=2e-3, atol=0)
    # 100 steps turn by -q |B| 0.1, right-handed about B.
    angle = torch.atan2(torch.linalg.cross(across[0], across[1]) @ axis, across[0] @ across[1])
    torch.testing.assert_close(angle, -charges[0, 0] * 0.75**0.5 * 0.1, rtol=1e-4, atol=0)


def potential(loc, charges):
    i, j = torch.triu_indices(loc.shape[2], loc.shape[2], 1)
    distance = ((loc[:, :, i] - loc[:, :, j]).square().sum(-1) + 1e-6).sqrt()
    return (charges[:, None, i] * charges[:, None, j] / distance).sum(-1)


@backends
def test_energy_is_kept_without_close_encounters(backend):
    loc, vel, charges = simulate("charged", 5, CALM_SEEDS, backend=backend)
    kinetic = 0.5 * vel.square().sum((-1, -2))
    energy = kinetic + potential(loc, charges)
    assert (energy - energy[:, :1]).abs().max() < 2e-3
    assert (kinetic.amax(1) - kinetic.amin(1) > 0.8).all()


@backends
def test_forces_are_clipped(backend):
    # Encounters of 20 particles: every one of the published systems reaches the limit.
    _, vel, _ = simulate("charged", 20, [1], sample_every=1, backend=backend)
    acceleration = vel[0].diff(dim=0) / TIME_STEP
    assert acceleration.abs().max().item() == pytest.approx(FORCE_LIMIT, rel=1e-9)


def test_coincident_particles_feel_no_force():
    pos = np.ones((1, 3, 2))
    coupling = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    force = total_force(LAWS["charged"], pos, np.zeros_like(pos), np.ones((1, 2)), coupling)
    assert np.array_equal(force, np.zeros((1, 3, 2)))


@pytest.mark.parametrize(("n_steps", "frames"), [(101, 1), (200, 1), (201, 2)])
def test_number_of_frames(n_steps, frames):
    loc, vel, charges = simulate("springs", 3, [0, 1], n_steps=n_steps, backend="reference")
    assert loc.shape == vel.shape == (2, frames, 3, 3)
    assert charges.shape == (2, 3) and not charges.any()


def test_the_forced_backend_runs(monkeypatch):
    def refuse():
        raise AssertionError("the compiled module was asked for")

    monkeypatch.setattr(_backends, "binary", refuse)
    with clof_ext.backend("reference"):
        simulate("charged", 2, [0], n_steps=2, sample_every=1)


def test_a_missing_binary_means_the_reference(monkeypatch):
    monkeypatch.setattr(_backends, "binary", lambda: None)
    simulate("charged", 2, [0], n_steps=2, sample_every=1)
    with pytest.raises(RuntimeError, match="'cpu' cannot run simulate here: the compiled extension is missing"):
        simulate("charged", 2, [0], n_steps=2, sample_every=1, backend="cpu")


WRONG = [
    ({"kind": "strings"}, ValueError, "kind must be one of 'charged', 'gravity', 'lorentz', 'springs'; got 'strings'."),
    ({"n_particles": 0}, ValueError, "n_particles must be at least 1; got 0."),
    ({"n_particles": 5.0}, TypeError, "n_particles must be an integer; got float."),
    ({"seeds": []}, ValueError, "seeds must hold at least one seed; got none."),
    ({"seeds": [0, -1]}, ValueError, r"seeds\[1\] must be at least 0; got -1."),
    ({"seeds": [2**32]}, ValueError, r"seeds\[0\] must be below 2\*\*32; got 4294967296."),
    ({"seeds": torch.zeros(0, dtype=torch.int64)}, ValueError, "seeds must hold at least one seed; got none."),
    ({"seeds": torch.tensor(3)}, TypeError, "seeds must be a sequence of integers; got the number 3."),
    ({"seeds": torch.rand(2)}, TypeError, r"seeds\[0\] must be an integer; got float."),
    ({"seeds": [0.5]}, TypeError, r"seeds\[0\] must be an integer; got float."),
    ({"sample_every": 0}, ValueError, "sample_every must be at least 1; got 0."),
    ({"n_steps": 100}, ValueError, "n_steps must be at least 101; got 100."),
    ({"n_steps": True}, TypeError, "n_steps must be an integer; got bool."),
    ({"backend": "gpu"}, ValueError, "backend must be one of .*; got 'gpu'."),
    ({"backend": "triton"}, RuntimeError, "backend 'triton' cannot run simulate: it runs on the CPU"),
]


@pytest.mark.parametrize(("change", "error", "sentence"), WRONG)
def test_wrong_arguments_are_named(change, error, sentence):
    with pytest.raises(error, match=sentence):
        simulate(**{"kind": "charged", "n_particles": 5, "seeds": [0]} | change)
