"""Simple ways to go on from an origin: last values, last seasons, their drift, exponential smoothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.prediction.continuations import Continuations, drift
from svae_cli.prediction.own_season import OwnSeason
from svae_cli.prediction.smoothing import smoothed
from tests.training.ways_by_loops import drift_by_loops, smoothed_by_loops

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


def test_a_channel_never_seen_and_a_phase_never_seen():
    values = jnp.asarray([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [4.0, 9.0]])
    observed = jnp.asarray([[True, False], [False, False], [True, False], [False, False]])
    ways = Continuations.of(values, observed, jnp.asarray(4), OwnSeason(2), 3)
    # Phase 0 was seen as 3 and 1, phase 1 never: there the last value, 3.
    np.testing.assert_allclose(ways.table[..., 0], [[3.0, 3.0], [3.0, 3.0], [2.0, 3.0]])
    beyond = ways.beyond(jnp.zeros((3, 2)), jnp.arange(3))
    np.testing.assert_allclose(beyond[..., 0], [[3.0, 3.0, 3.0], [3.0, 3.0, 3.0], [2.0, 3.0, 2.0]])
    np.testing.assert_array_equal(beyond[..., 1], 0)


def test_the_last_value_drifts_on_where_no_random_walk_would_have():
    """A trend keeps most of its slope, gaps or not; most random walks, which drift by chance, nothing."""
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(400, 60))
    walks, trends = changes.cumsum(axis=0), (0.1 * changes + 0.3).cumsum(axis=0)
    trends += 1e3  # a level says nothing of a slope
    seen = rng.random((400, 60)) < 0.7
    assert np.mean(np.asarray(drift(jnp.asarray(walks), jnp.asarray(seen), 1)) == 0) > 0.85
    np.testing.assert_allclose(drift(jnp.asarray(trends), jnp.asarray(seen), 1), 0.3, rtol=0.15)
    for nothing in (np.zeros((400, 60), bool), np.arange(400)[:, None] == np.full(60, 7)):
        np.testing.assert_array_equal(drift(jnp.asarray(trends), jnp.asarray(nothing), 1), 0)


def test_a_drift_goes_on_from_the_last_value_however_long_ago_that_was():
    line = jnp.asarray(2.0 * np.arange(60.0)[:, None])
    observed = jnp.arange(60)[:, None] < 40
    ways = Continuations.of(line, observed, jnp.asarray(50), OwnSeason(None), 10)
    np.testing.assert_allclose(ways.beyond(jnp.zeros((10, 1)), jnp.arange(10))[0], line[50:], rtol=1e-5)


def test_seasons_go_on_from_a_level_that_has_drifted():
    """Years that grow: each month of the last year, and of the last three, is moved to the years ahead."""
    season = np.array([0.0, 3.0, -2.0, 5.0, 1.0])
    record = jnp.asarray(0.4 * np.arange(60.0) + np.tile(season, 12))[:, None]
    observed = (jnp.arange(60) % 11 != 3)[:, None]
    ways = Continuations.of(record, observed, jnp.asarray(40), OwnSeason(5), 20)
    ahead = ways.beyond(jnp.zeros((20, 1)), jnp.arange(20))
    np.testing.assert_allclose(ahead[1:], np.broadcast_to(record[40:], (2, 20, 1)), rtol=1e-5)
    walk = jnp.asarray(np.random.default_rng(1).normal(size=(60, 40)).cumsum(axis=0))
    slopes = np.asarray(drift(walk, jnp.ones((60, 40), bool), 5))
    assert np.mean(slopes == 0) > 0.7
    np.testing.assert_array_equal(drift(walk, jnp.ones((60, 40), bool), 30), 0)  # too few seasons to tell


@pytest.mark.parametrize("period", [None, 7])
def test_smoothing_is_that_of_loops_over_choices_and_steps(period):
    rng = np.random.default_rng(4)
    raw = rng.normal(size=(70, 3)).cumsum(axis=0) + 3 * np.sin(2 * np.pi * np.arange(70) / 7)[:, None]
    raw[rng.random((70, 3)) < 0.1] = np.nan
    raw[:60, 2] = np.nan
    observed = np.isfinite(raw)
    args = jnp.asarray(np.nan_to_num(raw)), jnp.asarray(observed & (np.arange(70) < 55)[:, None]), jnp.asarray(55)
    slope = jnp.asarray([drift_by_loops(raw[:55, d], period) if d < 2 else 0.0 for d in range(3)])
    found = smoothed(*args, period or 1, slope, 9)
    np.testing.assert_array_equal(found.known, [True, True, False])
    np.testing.assert_allclose(found.ahead[:, :2], smoothed_by_loops(raw[:55, :2], period, 9), rtol=2e-3, atol=2e-3)
    assert bool(jnp.all(jnp.isfinite(found.ahead)))


def test_smoothing_goes_on_with_what_repeats_itself_exactly():
    """A season on a line, with an even number of phases and gaps: there is nothing to be wrong about."""
    season = np.array([0.0, 3.0, -2.0, 5.0, 1.0, 7.0])
    record = np.tile(season, 14)[:, None] + 0.3 * np.arange(84.0)[:, None]
    seen = (np.arange(84) % 11 != 3)[:, None] & (np.arange(84) < 60)[:, None]
    found = smoothed(jnp.asarray(record), jnp.asarray(seen), jnp.asarray(60), 6, jnp.asarray([0.3]), 24)
    np.testing.assert_allclose(found.ahead, record[60:], atol=0.1)
