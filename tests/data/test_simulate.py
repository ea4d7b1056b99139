"""Simulators: the laws they promise, against closed forms and independent integrations."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from svae_cli.data.simulate import KINDS, options_of, simulate
from svae_cli.data.simulate.lds import System, draw_system, log_likelihood
from svae_cli.data.simulate.lorenz_spikes import lorenz
from svae_cli.data.simulate.nascar import drive
from svae_cli.data.simulate.pendulum import SIDE, render, swing
from svae_cli.errors import UsageError


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_agree_and_more_series_leave_the_first_alone(kind):
    def made(series=4, seed=1):
        return simulate(kind, series=series, steps=12, seed=seed)

    first = made()
    assert first.data.shape[:2] == (4, 12)
    assert first.data.dtype == np.float32
    assert np.isfinite(first.data).all()
    np.testing.assert_array_equal(first.data, made().data)
    np.testing.assert_array_equal(first.data, made(series=6).data[:4])
    assert (first.data != made(seed=2).data).any()
    assert (first.data[0] != first.data[1]).any()
    assert first.attributes["kind"] == kind
    assert first.attributes["seed"] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gaps", ["block", "point", "tail"])
def test_gaps_hide_and_the_complete_series_is_kept(kind, gaps):
    holed = simulate(kind, series=5, steps=20, seed=1, gaps=gaps, gap_rate=0.25)
    plain = simulate(kind, series=5, steps=20, seed=1)
    missing = np.isnan(holed.data)
    assert 0.1 < missing.mean() < 0.4
    np.testing.assert_array_equal(holed.truth["data"], plain.data)
    np.testing.assert_array_equal(holed.data[~missing], plain.data[~missing])
    if plain.data.ndim == 4:
        assert (missing == missing[:, :, :1, :1]).all()


def test_unknown_kinds_and_options_and_impossible_numbers_are_refused():
    with pytest.raises(UsageError, match="unknown kind 'noise'"):
        simulate("noise", series=1, steps=1, seed=0)
    with pytest.raises(UsageError, match="lds has no option --speed") as caught:
        simulate("lds", series=1, steps=1, seed=0, speed=1)
    assert "--latent-dim" in caught.value.hint
    for kind, options in (
        ("lds", {"latent_dim": 0}),
        ("lds", {"size": "huge"}),
        ("lorenz-spikes", {"channels": 0}),
        ("pendulum", {"pixel_noise": -1.0}),
        ("nascar", {"emission_noise": -1.0}),
        ("bouncing-ball", {"noise": -1.0}),
    ):
        with pytest.raises(UsageError):
            simulate(kind, series=1, steps=1, seed=0, **options)
    with pytest.raises(UsageError, match="0 series"):
        simulate("lds", series=0, steps=1, seed=0)
    assert options_of("bouncing-ball") == {"noise": 0.05}


def dense_log_likelihood(system: System, values: np.ndarray) -> float:
    """The joint Gaussian of all observed values, written out."""
    steps, width = len(values), len(system.initial_mean)
    powers = [np.linalg.matrix_power(system.dynamics, k) for k in range(steps)]
    noise = system.dynamics_noise * np.eye(width)
    cov = np.zeros((steps, width, steps, width))
    for s in range(steps):
        for t in range(steps):
            cov[s, :, t] = sum(powers[s - k] @ noise @ powers[t - k].T for k in range(min(s, t) + 1))
    mean = np.stack([p @ system.initial_mean for p in powers]) @ system.emission.T + system.offset
    joint = np.einsum("di,sitj,ej->sdte", system.emission, cov, system.emission).reshape(mean.size, mean.size)
    joint += system.emission_noise * np.eye(mean.size)
    seen = ~np.isnan(values.ravel())
    return stats.multivariate_normal(mean.ravel()[seen], joint[np.ix_(seen, seen)]).logpdf(values.ravel()[seen])


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_likelihood_of_an_lds_is_that_of_the_dense_gaussian(missing):
    rng = np.random.default_rng(0)
    system = draw_system(3, 4, 0.1, 0.5, rng)
    data = rng.normal(size=(5, 7, 4))
    data[rng.random(data.shape) < missing] = np.nan
    data[0, 3] = np.nan
    expected = [dense_log_likelihood(system, values) for values in data]
    np.testing.assert_allclose(log_likelihood(system, data), expected, rtol=1e-10)


def test_an_lds_states_its_exact_likelihood_also_with_gaps():
    for gaps in ("none", "channel"):
        made = simulate("lds", series=3, steps=8, seed=4, size="small", gaps=gaps, gap_rate=0.3)
        parts = ("dynamics", "dynamics_noise", "initial_mean", "emission", "offset", "emission_noise")
        system = System(*(made.truth[name] for name in parts))
        expected = [dense_log_likelihood(system, values.astype(float)) for values in made.data]
        np.testing.assert_allclose(made.truth["log_likelihood"], expected, rtol=1e-8)
        values = np.isfinite(made.data).sum()
        np.testing.assert_allclose(made.attributes["log_likelihood_per_value"], np.sum(expected) / values, rtol=1e-8)


def test_an_lds_rotates_slowly_in_one_plane():
    system = draw_system(5, 2, 1.0, 1.0, np.random.default_rng(1))
    angles = np.sort(np.angle(np.linalg.eigvals(system.dynamics)))
    np.testing.assert_allclose(angles, [-np.pi / 20, 0, 0, 0, np.pi / 20], atol=1e-7)
    np.testing.assert_allclose(system.dynamics @ system.dynamics.T, np.eye(5), atol=1e-12)


def test_an_lds_follows_its_own_equations():
    made = simulate(
        "lds", series=400, steps=6, seed=2, latent_dim=2, channels=3, dynamics_noise=0.5, emission_noise=2.0
    )
    latents = made.truth["latents"]
    shocks = latents[:, 1:] - latents[:, :-1] @ made.truth["dynamics"].T
    errors = made.data - latents @ made.truth["emission"].T - made.truth["offset"]
    for noise, variance in ((shocks, 0.5), (errors, 2.0)):
        size = noise.size
        assert abs(noise.mean()) < 5 * np.sqrt(variance / size)
        np.testing.assert_allclose(noise.var(), variance, rtol=5 * np.sqrt(2 / size))


def test_lorenz_paths_agree_with_scipy():
    start = np.array([[1.0, 2.0, 20.0], [-5.0, -4.0, 28.0]])
    paths = lorenz(start, 60, 0.01)

    def slope(t, s):
        return [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]

    for path, s in zip(paths, start, strict=True):
        exact = solve_ivp(slope, (0, 0.6), s, t_eval=np.arange(60) * 0.01, rtol=1e-10, atol=1e-10).y.T
        np.testing.assert_allclose(path, exact, atol=1e-4)


def test_spikes_are_poisson_with_the_stated_rates():
    made = simulate("lorenz-spikes", series=400, steps=20, seed=3, trials=200, channels=5)
    rates = made.truth["rates"]
    assert made.truth["condition"].tolist() == [0] * 200 + [1] * 200
    np.testing.assert_allclose(made.truth["latents"].mean((0, 1)), 0, atol=2)
    log_rates = np.minimum(0.1 * np.exp(made.truth["latents"] @ made.truth["loadings"].T), 1.0)
    np.testing.assert_allclose(rates, log_rates, rtol=1e-4)
    counts = made.data.reshape(2, 200, 20, 5)
    z = (counts.mean(1) - rates) / np.sqrt(rates / 200)
    assert abs(z).max() < 6
    np.testing.assert_allclose((z**2).mean(), 1, atol=6 * np.sqrt(2 / z.size))
    assert (counts == counts.round()).all()


def test_small_swings_of_the_pendulum_are_damped_cosines():
    angles, velocities = swing(np.array([1e-3]), np.zeros((1, 100)))
    time = 0.05 * np.arange(100)
    damping, natural = 0.15, 9.81 * 3
    beat = np.sqrt(natural - damping**2)
    exact = 1e-3 * np.exp(-damping * time) * (np.cos(beat * time) + damping / beat * np.sin(beat * time))
    np.testing.assert_allclose(angles[0], exact, atol=3e-6)
    np.testing.assert_allclose(velocities[0, 2:-2], np.gradient(exact, time)[2:-2], atol=6e-4)


def test_large_swings_of_the_pendulum_agree_with_scipy():
    angles, velocities = swing(np.array([2.5]), np.zeros((1, 40)))
    path = solve_ivp(
        lambda t, s: [s[1], -3 * (9.81 * np.sin(s[0]) + 0.1 * s[1])],
        (0, 2),
        [2.5, 0.0],
        t_eval=0.05 * np.arange(40),
        rtol=1e-10,
        atol=1e-10,
    )
    np.testing.assert_allclose(angles[0], path.y[0], atol=2e-3)
    np.testing.assert_allclose(velocities[0], path.y[1], atol=2e-2)


def test_frames_show_the_rod():
    angles = np.array([0.0, 0.7, np.pi / 2, 2.0, -2.5])
    fine = (np.arange(SIDE * 16) + 0.5) / 16 - SIDE / 2
    x, y = fine[None, None, :], fine[None, :, None]
    s, c = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    along, beside = x * s + y * c, x * c - y * s
    inside = (along >= 0) & (along <= 45 / 128 * SIDE) & (np.abs(beside) <= 4 / 128 * SIDE)
    exact = inside.reshape(5, SIDE, 16, SIDE, 16).mean((2, 4))
    frames = render(angles)
    assert np.abs(frames - exact).max() < 0.15
    np.testing.assert_allclose(frames.sum((1, 2)), exact.sum((1, 2)), rtol=0.02)
    np.testing.assert_allclose(frames[0], exact[0], atol=0.03)


def test_pixels_have_the_stated_noise():
    made = simulate("pendulum", series=2, steps=30, seed=5, pixel_noise=0.3)
    noise = made.data - np.stack([render(a) for a in made.truth["angle"].astype(float)])
    np.testing.assert_allclose(noise.std(), 0.3, rtol=0.02)
    assert abs(noise.mean()) < 5 * 0.3 / np.sqrt(noise.size)


def test_the_car_goes_round_clockwise_and_uses_all_four_states():
    quiet = np.zeros((1, 600, 4)), np.zeros((1, 600, 2))
    path, states = drive(np.array([[0.0, 1.5]]), *quiet)
    assert set(states[0]) == {0, 1, 2, 3}
    assert np.abs(path).max() < 6
    x, y = path[0].T
    swept = np.diff(np.unwrap(np.arctan2(y, x)))
    assert swept.mean() < 0
    assert -np.sum(swept) / (2 * np.pi) > 4
    upper = states[0] == 2
    np.testing.assert_allclose(np.diff(path[0], axis=0)[upper[:-1]], np.tile([0.1, 0.0], (upper[:-1].sum(), 1)))


def test_the_ball_stays_between_the_walls_at_constant_speed():
    made = simulate("bouncing-ball", series=20, steps=400, seed=6)
    position, velocity = made.truth["position"], made.truth["velocity"]
    assert np.abs(position).max() <= 1
    np.testing.assert_allclose(np.abs(velocity), np.abs(velocity[:, :1]).repeat(400, 1), rtol=1e-6)
    moved = np.abs(np.diff(position, axis=1))
    straight = velocity[:, 1:] == velocity[:, :-1]
    np.testing.assert_allclose(moved[straight], (0.1 * np.abs(velocity[:, 1:]))[straight], atol=1e-6)
    assert (moved <= 0.1 * np.abs(velocity[:, 1:]) + 1e-6).all()
    assert (~straight).any()
    np.testing.assert_allclose((made.data[..., 0] - position).std(), 0.05, rtol=0.05)
