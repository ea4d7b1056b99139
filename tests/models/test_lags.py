"""Lag regression: one step after the other as by hand, and bounded."""

import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.models.lags import LagRegression, lags_of_maps, steps_ahead


def _one(maps: np.ndarray) -> LagRegression:
    return LagRegression((jnp.asarray(maps),), jnp.ones(1))


def test_what_is_continued_is_the_map_of_what_was_and_then_of_itself():
    rng = np.random.default_rng(0)
    maps, past = 0.1 * rng.standard_normal((2, 5, 3)), rng.standard_normal((5, 2))
    found = _one(maps).continued(jnp.asarray(past), jnp.asarray(5), 7)
    series = [*past]
    for _ in range(3):
        before = np.array(series[-5:])
        series += [before[-1] + [(before - before[-1])[:, c] @ maps[c, :, a] for c in range(2)] for a in range(3)]
    np.testing.assert_allclose(found, series[5:12], rtol=1e-5)


def test_without_weights_the_last_value_goes_on():
    regression = LagRegression.unknown(2, 30, 0)
    assert (regression.lags, regression.ahead) == (30, steps_ahead(30)) == (30, 24)
    past = jnp.arange(60.0).reshape(30, 2)
    np.testing.assert_array_equal(regression.continued(past, jnp.asarray(30), 50), jnp.tile(past[-1], (50, 1)))


def test_a_map_that_grows_without_bound_is_held_near_the_known_values():
    maps = jnp.zeros((1, 2, 1)).at[0, 0, 0].set(-3.0)  # three times the last change, again and again
    found = _one(maps).continued(jnp.asarray([[0.0], [1.0]]), jnp.asarray(2), 200)
    assert float(jnp.max(found)) == 2.0
    assert bool(jnp.all(jnp.isfinite(found)))


def test_what_is_before_the_record_is_its_first_cycle():
    regression = LagRegression.unknown(1, 8, 0)
    values = jnp.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [99.0]])
    found = regression.last(values, jnp.asarray(5), 3)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 2, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(regression.last(values, jnp.asarray(5), 1)[:, 0], [0, 0, 0, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(regression.last(values, jnp.asarray(0), 1)[:, 0], np.zeros(8))


@pytest.mark.parametrize(
    ("lags", "season", "expected"),
    [
        (672, 24, [672, 336, 168, 72, 24]),
        (104, 52, [104, 52]),
        (48, 0, [48, 24]),
        (20, 0, [20]),
        (672, 672, [672]),
        (100, 24, [100, 48, 24]),
    ],
)
def test_maps_look_back_half_as_far_and_half_of_that_by_whole_seasons(lags, season, expected):
    assert lags_of_maps(lags, season) == expected
    assert [m.shape[1] for m in LagRegression.unknown(1, lags, season).maps] == expected
    assert lags_of_maps(expected[-1], season) == expected[-1:]


def test_the_map_asked_is_the_one_that_looks_back_farthest_on_what_is_known():
    rng = np.random.default_rng(1)
    maps = tuple(jnp.asarray(0.1 * rng.standard_normal((2, lags, 4))) for lags in (16, 8, 4))
    regression = LagRegression(maps, jnp.ones(3))
    known = jnp.asarray([0, 3, 4, 7, 8, 15, 16, 99])
    np.testing.assert_array_equal([regression.fitting(k) for k in known], [2, 2, 2, 2, 1, 1, 0, 0])
    np.testing.assert_allclose([regression.covered(k) for k in known], [0, 0.75, 1, 1, 1, 1, 1, 1])
    past = jnp.asarray(rng.standard_normal((16, 2)))
    for steps, own in ((20, 0), (9, 1), (5, 2), (2, 2)):
        alone = LagRegression(maps[own : own + 1], jnp.ones(1))
        expected = alone.continued(past[16 - alone.lags :], jnp.asarray(steps), 4)
        np.testing.assert_allclose(regression.continued(past, jnp.asarray(steps), 4), expected, atol=1e-6)
