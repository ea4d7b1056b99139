"""Season memory against plain loops and Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.errors import UsageError
from svae_cli.models.season import CYCLES, Remembered, SeasonMemory

PERIOD, STEPS = 4, 43
SHARE, LEVEL_SHARE, USUAL = np.array([0.8, 0.3]), np.array([0.9, 0.6]), np.array([0.5, 2.0])


@pytest.fixture(name="memory")
def make_memory():
    return SeasonMemory.of(
        level_share=LEVEL_SHARE, share=SHARE, swing=USUAL, variance=USUAL, decay=0.5, few=0.4, doubt=3.0, period=PERIOD
    )


@pytest.fixture(name="series")
def make_series():
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS, 2)) + 1.0, rng.random((STEPS, 2)) < 0.6


def by_loops(values, observed, d):
    """What ``remember`` should find for one channel: estimate, weight and error of every step."""
    seen, y = observed[:, d], values[:, d]
    phase, around, weight = np.zeros(STEPS), np.zeros(STEPS), np.zeros(STEPS)
    near = [[i for i in range(STEPS) if abs(i - t) <= CYCLES * PERIOD] for t in range(STEPS)]
    for t in range(STEPS):
        around[t] = sum(y[i] for i in near[t] if seen[i]) / (sum(seen[i] for i in near[t]) + 3.0)
        total = 0.0
        for cycle in range(1, CYCLES + 1):
            for i in (t - cycle * PERIOD, t + cycle * PERIOD):
                if 0 <= i < STEPS and seen[i]:
                    weight[t] += 0.5 ** (cycle - 1)
                    total += 0.5 ** (cycle - 1) * y[i]
        phase[t] = total / weight[t] if weight[t] else around[t]
    base, swing = LEVEL_SHARE[d] * around, phase - around
    sure = np.where(seen, weight / (weight + 0.4), 0.0)
    estimate, error = np.zeros(STEPS), np.zeros(STEPS)
    for t in range(STEPS):
        top = sum(sure[i] * swing[i] * (y[i] - base[i]) for i in near[t]) + 3.0 * USUAL[d] * SHARE[d]
        share = np.clip(top / (sum(sure[i] * swing[i] ** 2 for i in near[t]) + 3.0 * USUAL[d]), 0, 1)
        estimate[t] = base[t] + share * swing[t]
    for t in range(STEPS):
        squares = sum(sure[i] * (y[i] - estimate[i]) ** 2 for i in near[t]) / USUAL[d]
        error[t] = (squares + 3.0) / (sum(sure[i] for i in near[t]) + 3.0)
    return estimate, weight, error


def test_what_is_remembered_is_what_loops_find(memory, series):
    found = memory.remember(*map(jnp.asarray, series))
    for d in range(2):
        for got, expected in zip(found, by_loops(*series, d), strict=True):
            np.testing.assert_allclose(got[:, d], expected, rtol=1e-10, atol=1e-10)


def test_hidden_values_say_nothing(memory, series):
    values, observed = series
    found = memory.remember(jnp.asarray(values), jnp.asarray(observed))
    other = memory.remember(jnp.asarray(np.where(observed, values, 99.0)), jnp.asarray(observed))
    for got, expected in zip(other, found, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_estimates_are_combined_as_independent_gaussians(memory):
    said = Remembered(*(jnp.full((1, 2), a) for a in (3.0, 0.8, 1.5)))
    mean, variance = memory.combine(jnp.full((1, 2), 1.0), jnp.full((1, 2), 0.7), said)
    v = USUAL * 1.5 * (1 + 0.4 / 0.8)
    np.testing.assert_allclose(variance[0], 1 / (1 / 0.7 + 1 / v), rtol=1e-12)
    np.testing.assert_allclose(mean[0], (1.0 / 0.7 + 3.0 / v) / (1 / 0.7 + 1 / v), rtol=1e-12)


def test_without_other_cycles_nothing_changes(memory, series):
    values, observed = (jnp.asarray(a[: PERIOD - 1]) for a in series)
    said = memory.remember(values, observed)
    assert np.all(np.asarray(said.weight) == 0)
    mean, variance = memory.combine(values, jnp.ones_like(values), said)
    np.testing.assert_array_equal(mean, values)
    np.testing.assert_array_equal(variance, 1.0)


def test_units_change_estimates_as_they_change_values(memory, series):
    values, observed = series
    offset, scale = np.array([100.0, -3.0]), np.array([20.0, 0.1])
    plain = memory.remember(jnp.asarray(values), jnp.asarray(observed))
    moved = memory.in_units(offset, scale)
    found = moved.remember(jnp.asarray(values * scale + offset), jnp.asarray(observed))
    np.testing.assert_allclose(found.mean, np.asarray(plain.mean) * scale + offset, rtol=1e-9)
    np.testing.assert_allclose(found.error, plain.error, rtol=1e-9)
    prior = np.asarray(plain.mean) + 1, np.full_like(plain.mean, 0.5)
    one = memory.combine(*map(jnp.asarray, prior), plain)
    other = moved.combine(jnp.asarray(prior[0] * scale + offset), jnp.asarray(prior[1] * scale**2), found)
    np.testing.assert_allclose(other[0], np.asarray(one[0]) * scale + offset, rtol=1e-9)
    np.testing.assert_allclose(other[1], np.asarray(one[1]) * scale**2, rtol=1e-9)


def test_gradients_are_finite_with_and_without_values(memory, series):
    values, observed = map(jnp.asarray, series)

    def total(memory, observed):
        said = memory.remember(values, observed)
        mean, variance = memory.combine(jnp.zeros_like(values), jnp.ones_like(values), said)
        return jnp.sum(mean**2 + jnp.log(variance))

    for seen in (observed, jnp.zeros_like(observed)):
        leaves = jax.tree.leaves(jax.grad(total)(memory, seen))
        assert all(np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize(
    "changes",
    [{"season": 1}, {"season": -3}, {"season": 12, "posterior": "rnn-mf"}, {"season": 12, "likelihood": "poisson"}],
)
def test_a_season_that_cannot_be_is_refused(changes):
    with pytest.raises(UsageError, match="season"):
        Settings(**changes)
