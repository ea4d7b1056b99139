"""Season memory against plain loops and Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.errors import UsageError
from svae_cli.models import season
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
        for got, expected in zip(found[:3], by_loops(*series, d), strict=True):
            np.testing.assert_allclose(got[:, d], expected, rtol=1e-10, atol=1e-10)


def test_hidden_values_say_nothing(memory, series):
    values, observed = series
    found = memory.remember(jnp.asarray(values), jnp.asarray(observed))
    other = memory.remember(jnp.asarray(np.where(observed, values, 99.0)), jnp.asarray(observed))
    for got, expected in zip(other[:3], found[:3], strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.fixture(name="both")
def make_both(memory):
    """A cycle of two steps within that of four, of other parameters."""
    short = SeasonMemory.of(
        level_share=SHARE, share=LEVEL_SHARE, swing=USUAL, variance=USUAL / 3, decay=0.6, few=0.2, doubt=1.0, period=2
    )
    return memory.with_within(short)


def within_longer(model, series, inside):
    """What is said inside of a longer series, and of the window with the longer series around it."""
    values, observed = series
    around = np.where(observed, values, np.nan)
    around[inside] = 99.0  # what is known of the window itself is said by the other arguments
    found = model.remember(*(jnp.asarray(a[inside]) for a in series), jnp.asarray(around))
    return model.remember(jnp.asarray(values), jnp.asarray(observed)), found


def test_what_lies_around_a_window_says_as_much_as_within_a_longer_one(memory, series):
    inside = slice(16, 27)
    longer, found = within_longer(memory, series, inside)
    for got, expected in zip(found[:3], longer[:3], strict=True):
        np.testing.assert_allclose(got, expected[inside], rtol=1e-12, atol=1e-12)


def test_a_shorter_cycle_looks_around_as_many_of_its_own(both, series):
    inside, near = slice(16, 27), slice(16 - 16 // PERIOD * 2, 27 + 16 // PERIOD * 2)
    longer, found = within_longer(both, series, inside)
    for got, expected in zip(found[:3], longer[:3], strict=True):
        np.testing.assert_allclose(got, expected[inside], rtol=1e-12, atol=1e-12)
    foreseen = both.foresees(longer, jnp.asarray(series[1]))
    off = jnp.where(series[1], series[0] - longer.mean, 0.0)
    beside = both.within.remember(off[near], (series[1] & foreseen)[near])
    kept = slice(inside.start - near.start, inside.stop - near.start)
    np.testing.assert_allclose(found.within.mean, (longer.mean[near] + beside.mean)[kept], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.within.error, beside.error[kept], rtol=1e-12, atol=1e-12)


def test_a_shorter_cycle_remembers_what_the_longer_one_did_not_foresee(memory, both, series):
    values, observed = series
    observed = observed & (np.arange(STEPS) % PERIOD > 0)[:, None] | (np.arange(STEPS) == 8)[:, None]
    found, longer = (m.remember(jnp.asarray(values), jnp.asarray(observed)) for m in (both, memory))
    for got, expected in zip(found[:3], longer[:3], strict=True):
        np.testing.assert_array_equal(got, expected)
    foreseen = np.asarray(longer.weight) > 0
    assert foreseen.any()
    assert not foreseen[observed].all()
    off = np.where(observed, values - np.asarray(longer.mean), 0.0)
    beside = both.within.remember(jnp.asarray(off), jnp.asarray(observed & foreseen))
    np.testing.assert_allclose(found.within.mean, longer.mean + beside.mean, rtol=1e-12)
    np.testing.assert_array_equal(found.within.weight, np.where(foreseen, beside.weight, 0.0))
    start = jnp.zeros_like(longer.mean), jnp.ones_like(longer.mean)
    one = both.within.combine(*memory.combine(*start, longer), found.within)
    for got, expected in zip(both.combine(*start, found), one, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("known", [PERIOD - 1, 2 * PERIOD, 20])
def test_steps_of_which_nothing_is_known_change_nothing(both, series, known):
    values, observed = (a[:known] for a in series)
    found = both.remember(jnp.asarray(values), jnp.asarray(observed))
    longer = [np.pad(a, ((0, 30), (0, 0))) for a in (values, observed)]
    for got, expected in zip(
        jax.tree.leaves(both.remember(*map(jnp.asarray, longer))), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_allclose(got[:known], expected, rtol=1e-12, atol=1e-12)


def test_many_cycles_are_summed_by_shifts_to_the_same(memory, series, monkeypatch):
    found = memory.remember(*map(jnp.asarray, series))
    monkeypatch.setattr(season, "_MOST_ROWS", 3)
    for got, expected in zip(memory.remember(*map(jnp.asarray, series))[:3], found[:3], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_where_no_longer_cycle_was_seen_at_all_the_shorter_one_goes_on_alone(both, series):
    values, observed = (jnp.asarray(a[: PERIOD - 1]) for a in series)
    found = both.remember(values, jnp.ones_like(observed))
    assert np.all(np.asarray(found.weight) == 0)
    assert np.any(np.asarray(found.within.weight) > 0)
    half = both.remember(*map(jnp.asarray, (series[0], np.arange(STEPS)[:, None] < [PERIOD - 1, 0])))
    assert np.all(np.asarray(half.within.weight[:, 1]) == 0)


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


@pytest.mark.parametrize("cycles", ["memory", "both"])
def test_units_change_estimates_as_they_change_values(cycles, series, request):
    memory, (values, observed) = request.getfixturevalue(cycles), series
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


@pytest.mark.parametrize("cycles", ["memory", "both"])
def test_gradients_are_finite_with_and_without_values(cycles, series, request):
    memory, (values, observed) = request.getfixturevalue(cycles), map(jnp.asarray, series)

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
