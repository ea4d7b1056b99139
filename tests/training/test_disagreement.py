"""How far apart ways to go on are, beside a lottery among them that is drawn many times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.prediction.disagreement import apart, apart_in_all, weights
from svae_cli.prediction.self_check import Errors
from tests.training.waves import CHANNELS, wave_model, waves

pytestmark = pytest.mark.usefixtures("relaxed_promotion")

WEIGHT = np.array([[0.5, 0.1], [0.2, 0.0], [0.1, 0.3]])
SHARES = np.array([[0.3, 0.0], [0.2, 0.5], [0.0, 0.5]])


def test_the_variance_of_a_lottery_is_what_ways_promise_and_how_far_they_are_from_the_answer():
    rng = np.random.default_rng(0)
    added = rng.standard_normal((3, 5, 2))
    found = np.asarray(apart(*map(jnp.asarray, (WEIGHT, SHARES, added))))
    for channel in range(2):
        won = rng.choice(4, size=400_000, p=[*WEIGHT[:, channel], 1 - WEIGHT[:, channel].sum()])
        said = np.concatenate([added[..., channel], np.zeros((1, 5))])  # the model adds nothing
        answer = SHARES[:, channel] @ added[..., channel]
        drawn = said[won] + 0.5 * rng.standard_normal((len(won), 1))
        np.testing.assert_allclose(found[:, channel] + 0.25, np.mean((drawn - answer) ** 2, axis=0), rtol=0.01)


def test_sums_of_products_say_the_same_as_the_steps_themselves():
    rng = np.random.default_rng(1)
    own, added = rng.standard_normal((12, 2)), rng.standard_normal((3, 12, 2))
    variance, asked = rng.uniform(0.5, 2.0, (12, 2)), rng.random((12, 2)) < 0.7
    one = Errors.of(*map(jnp.asarray, (own, variance, added, asked)), period=1)
    of_ways = jnp.stack([one.of_ways, 2 * one.of_ways])
    found = apart_in_all(jnp.asarray(WEIGHT), jnp.asarray(SHARES), of_ways)[:, 0]
    far = apart(*map(jnp.asarray, (WEIGHT, SHARES, added)))
    expected = np.sum(np.where(asked, far / variance, 0), axis=0)
    np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-5)


def _errors(own: float, *ways: float, passes: int = 8) -> Errors:
    """Of one channel: the model's, and those of ways that are in no relation to them."""
    count = len(ways)
    squares = np.array(ways) + own  # of what ways add, which takes the model's errors away and puts theirs there
    of_ways = np.full((count, count), own) + np.diag(squares - own)
    parts = np.full((1, 1), own), np.full((1, count, 1), own), of_ways[None, ..., None], np.ones((1, 1))
    return Errors(*(jnp.asarray(np.repeat(part, passes, axis=0), jnp.float32) for part in parts))


def test_any_way_may_be_right_but_less_so_where_it_was_wrong():
    passes = jnp.full(1, 4.0)
    found = np.asarray(weights(_errors(1.0, 4.0, 100.0, 1.0), jnp.asarray([[0.4], [0.0], [0.7]]), passes))[:, 0]
    right = np.array([1 / 2, 1 / 10, 0.0, 1.0])  # the last say has no way of its own; the model comes last
    given = np.array([0.4, 0.0, 0.7, 0.0]) / 1.1
    np.testing.assert_allclose(found, (given / 2 + right / right.sum() / 2)[:3], rtol=1e-5)


def test_ways_that_said_nothing_have_no_weight_and_the_more_passes_the_more_the_shares_count():
    silent = jax.tree.map(jnp.zeros_like, _errors(1.0, 4.0, 4.0))
    nothing = weights(silent, jnp.zeros((2, 1)), jnp.zeros(1))
    np.testing.assert_array_equal(nothing, 0)
    shares = jnp.asarray([[0.9], [0.0]])
    few, many = (float(weights(_errors(1.0, 4.0, 4.0), shares, jnp.full(1, n))[0, 0]) for n in (1.0, 1000.0))
    assert few < 0.6
    assert many == pytest.approx(0.9, abs=0.01)


def test_intervals_widen_where_the_ways_part(shared):
    """A record that comes to where it has not been: its last value and the model's mean say different things."""
    fitted, known = wave_model(shared), waves(1, 84, seed=3)[0]
    gone = known.copy()
    gone[-6:] += 4 * known.std(axis=0)
    widths = {}
    for name, record in (("as before", known), ("gone", gone)):
        series = SeriesSet.from_arrays([record])
        checked, plain = (next(prediction.forecast(fitted, series, horizon=6, self_check=c)) for c in (None, False))
        widths[name] = checked.std / plain.std
    assert np.all(widths["gone"].mean(axis=0) > widths["as before"].mean(axis=0))
    assert widths["gone"].shape == (6, CHANNELS)
