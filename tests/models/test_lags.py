"""Lag regression: one step after the other as by hand, and bounded."""

import jax.numpy as jnp
import numpy as np

from svae_cli.models.lags import LagRegression, steps_ahead


def test_what_is_continued_is_the_map_of_what_was_and_then_of_itself():
    rng = np.random.default_rng(0)
    maps, past = 0.1 * rng.standard_normal((2, 5, 3)), rng.standard_normal((5, 2))
    found = LagRegression(jnp.asarray(maps), jnp.ones(())).continued(jnp.asarray(past), 7)
    series = [*past]
    for _ in range(3):
        before = np.array(series[-5:])
        series += [before[-1] + [(before - before[-1])[:, c] @ maps[c, :, a] for c in range(2)] for a in range(3)]
    np.testing.assert_allclose(found, series[5:12], rtol=1e-5)


def test_without_weights_the_last_value_goes_on():
    regression = LagRegression.unknown(2, 30)
    assert (regression.lags, regression.ahead) == (30, steps_ahead(30)) == (30, 24)
    past = jnp.arange(60.0).reshape(30, 2)
    np.testing.assert_array_equal(regression.continued(past, 50), jnp.tile(past[-1], (50, 1)))


def test_a_map_that_grows_without_bound_is_held_near_the_known_values():
    maps = jnp.zeros((1, 2, 1)).at[0, 0, 0].set(-3.0)  # three times the last change, again and again
    found = LagRegression(maps, jnp.ones(())).continued(jnp.asarray([[0.0], [1.0]]), 200)
    assert float(jnp.max(found)) == 2.0
    assert bool(jnp.all(jnp.isfinite(found)))


def test_what_is_before_the_record_is_its_first_cycle():
    regression = LagRegression.unknown(1, 8)
    values = jnp.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [99.0]])
    found = regression.last(values, jnp.asarray(5), 3)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 2, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(regression.last(values, jnp.asarray(5), 1)[:, 0], [0, 0, 0, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(regression.last(values, jnp.asarray(0), 1)[:, 0], np.zeros(8))
