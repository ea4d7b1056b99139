"""What both kinds of self-check share: how errors become a ratio, and what is left of a model that is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.prediction.disagreement import weights
from svae_cli.prediction.forecast_check import _shares
from svae_cli.prediction.self_check import Errors, _simplex, shrunk

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


def test_larger_errors_count_by_the_arithmetic_mean_and_smaller_ones_by_the_geometric():
    means, to = np.array([5.0, 1.5, 1.0, 0.5, 0.01]), 1.2
    found = shrunk(jnp.asarray(means), jnp.asarray(8.0), jnp.asarray(to), doubt=3.0)
    wider, narrower = (4 * to + 8 * means) / 12, (to**12 * means**8) ** (1 / 20)
    np.testing.assert_allclose(found, np.where(means > to, wider, narrower), rtol=1e-5)
    np.testing.assert_allclose(shrunk(jnp.asarray(means), jnp.asarray(0.0), jnp.asarray(to)), to, rtol=1e-6)


def test_a_ratio_changes_smoothly_and_is_never_nothing():
    near = shrunk(jnp.asarray([0.9999, 1.0, 1.0001]), jnp.asarray(8.0), jnp.asarray(1.0))
    np.testing.assert_allclose(near, 1, atol=1e-4)
    twice = shrunk(jnp.zeros(1), jnp.asarray(8.0), shrunk(jnp.zeros(1), jnp.asarray(8.0), jnp.asarray(1.0)))
    np.testing.assert_allclose(twice, 1e-3, rtol=1e-6)


def test_what_was_calm_once_narrows_little_however_often_it_is_seen():
    eight, one = jnp.asarray(8.0), jnp.asarray(1.0)
    calm, told = jnp.asarray([0.3, 1e-4]), {"doubt": 3.0}
    once, often = (shrunk(calm, eight, jnp.ones(2), independent=n, **told) for n in (one, eight))
    np.testing.assert_allclose(often, [0.3**0.4, 1e-3**0.4], rtol=1e-5)
    np.testing.assert_allclose(once, [0.3**0.4, 1e-3 ** (1 / 13)], rtol=1e-5)


def test_shares_are_all_tenths_and_none_comes_first():
    found = _simplex(3)
    assert len(found) == 286 == len(set(map(tuple, found)))
    np.testing.assert_array_equal(found[0], 0)
    assert found.sum(axis=1).max() == pytest.approx(1)


@pytest.mark.parametrize("lost", [20.0, 100.0])
def test_of_a_model_that_is_lost_next_to_nothing_stays_at_any_step(lost):
    """Models whose forecasts leave by so many standard deviations, beside a last value that is right but for noise."""
    rng = np.random.default_rng(0)
    known = np.linspace(0.2, 1.0, 10)[:, None] * np.ones(2)  # how little the model knows of a step
    passes = []
    for _ in range(8):
        noise = rng.standard_normal((10, 2))
        added = lost * known + noise  # to be added for the last value
        says = [added * known, added, np.zeros((10, 2)), added * (1 - known) ** 2]
        arrays = map(jnp.asarray, (lost * known, np.ones((10, 2)), np.stack(says)))
        passes.append(Errors.of(*arrays, jnp.ones((10, 2), bool), period=1).in_all())
    errors = jax.tree.map(lambda *leaves: jnp.stack(leaves), *passes)
    shares = np.asarray(_shares(errors, jnp.asarray(1.0), jnp.asarray(0.0), None))
    taken = known * shares[0] + shares[1] + (1 - known) ** 2 * shares[3]
    assert taken.max() <= 1 + 1e-6  # not beyond the last value
    assert taken.min() > 0.9
    spoke = jnp.asarray([[True], [True], [False], [True]]).repeat(2, axis=1)
    weight = np.asarray(weights(errors, spoke, jnp.asarray(shares), jnp.full(2, 8.0), again=1))
    assert weight[:2].sum(axis=0) == pytest.approx(np.ones(2), abs=0.02)  # any way may be right, but none that is lost
