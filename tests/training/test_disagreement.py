"""How far apart ways to go on are, beside a lottery among them that is drawn many times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.prediction.disagreement import apart, apart_in_all, weights
from svae_cli.prediction.self_check import Corrected, Errors
from tests.training.waves import wave_model, waves

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
        lottery = np.mean((drawn - answer) ** 2, axis=0)
        np.testing.assert_allclose(found[:, channel] / 1.5 + 0.25, lottery, rtol=0.01)  # half as much again, by trial


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


def _spoke(errors: Errors) -> jax.Array:
    return jnp.einsum("nwwc->wc", errors.of_ways) > 0


def _weights(errors: Errors, shares: list[list[float]], passes: float) -> np.ndarray:
    return np.asarray(weights(errors, _spoke(errors), jnp.asarray(shares), jnp.full(1, passes)))[:, 0]


def test_any_way_may_be_right_but_less_so_where_it_was_wrong():
    found = _weights(_errors(1.0, 4.0, 100.0, 1.0), [[0.4], [0.0], [0.3]], 4.0)
    right = np.array([1 / 4, 1 / 100, 0.0, 1.0])  # the last say has no way of its own; the model comes last
    given = np.array([0.4, 0.0, 0.3, 0.3])
    np.testing.assert_allclose(found, (given / 2 + right / right.sum() / 2)[:3], rtol=1e-5)


def test_the_say_close_by_does_not_bring_back_a_model_that_has_no_share():
    found = _weights(_errors(1000.0, 1.0, 1.0), [[1.0], [1.0]], 1000.0)
    np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-4)


def test_ways_that_said_nothing_have_no_weight_and_the_more_passes_the_more_the_shares_count():
    silent = jax.tree.map(jnp.zeros_like, _errors(1.0, 4.0, 4.0))._replace(counts=jnp.ones((8, 1)))
    np.testing.assert_array_equal(_weights(silent, [[0.0], [0.0]], 8.0), 0)
    few, many = (_weights(_errors(1.0, 4.0, 4.0), [[0.9], [0.0]], n)[0] for n in (1.0, 1000.0))
    assert few < 0.6
    assert many == pytest.approx(0.9, abs=0.01)


def test_where_nothing_was_asked_the_shares_are_all_that_is_known():
    nothing = jax.tree.map(jnp.zeros_like, _errors(1.0, 4.0, 4.0))
    np.testing.assert_allclose(_weights(nothing, [[0.3], [0.0]], 0.0), [0.3, 0.0], rtol=1e-6)


def test_however_wrong_a_way_is_it_adds_no_more_than_the_variance_that_it_doubts():
    """A model that is right beside one way that is far off: its weight falls as its distance grows."""
    for distance in (3.0, 30.0, 300.0):
        weight = _weights(_errors(1.0, distance**2, 1.0), [[0.0], [0.0]], 4.0)
        added = jnp.asarray([[[distance]], [[0.0]]])
        assert float(apart(jnp.asarray(weight)[:, None], jnp.zeros((2, 1)), added)[0, 0]) < 0.76


def test_errors_beyond_what_parts_the_ways_widen_the_promise_alone():
    more = jnp.asarray([[3.0], [3.0]])
    wider, narrower = (Corrected.of(jnp.zeros((2, 1)), jnp.ones((2, 1)), more, jnp.asarray([r])) for r in (10.0, 0.1))
    np.testing.assert_allclose(wider.variance, 10 + more)  # not 40: they were not apart when errors were so large
    np.testing.assert_allclose(wider.sure, 1)
    np.testing.assert_allclose(narrower.variance, 0.4 * jnp.ones((2, 1)), rtol=1e-6)
    np.testing.assert_allclose(narrower.sure, narrower.variance)


@pytest.mark.slow
def test_intervals_widen_where_the_ways_part(shared, monkeypatch):
    """A record whose last value and the model's mean say different things, beside the same without how far."""
    fitted, gone = wave_model(shared), waves(1, 84, seed=3)[0]
    gone[-6:] += 4 * gone.std(axis=0)
    series = SeriesSet.from_arrays([gone])
    parted = next(prediction.forecast(fitted, series, horizon=6))
    for name, nothing in (("apart", lambda _, shares, added: 0 * added[0]), ("apart_in_all", _no_distance)):
        monkeypatch.setattr(f"svae_cli.prediction.forecast_check.{name}", nothing)
    jax.clear_caches()
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 128)  # another program
    alone = next(prediction.forecast(fitted, series, horizon=6))
    np.testing.assert_allclose(parted.mean, alone.mean, rtol=1e-4)
    assert np.median(parted.std / alone.std) > 1.1


def _no_distance(weight, shares, of_ways):
    return 0 * of_ways[:, 0, 0]
