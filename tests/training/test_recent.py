"""A forecast looks at what is recent, and says what it would say of the whole past."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.models.build import linear_model
from svae_cli.models.fitted import FittedModel
from svae_cli.models.lags import LagRegression
from svae_cli.models.likelihoods import PoissonLikelihood
from svae_cli.prediction import recent
from tests.training.waves import CHANNELS, wave_model, waves, with_season

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


@pytest.mark.slow
def test_forecasts_are_those_of_the_whole_past_and_little_of_it_is_read(fitted, monkeypatch):
    """With a season, a regression and a check that looks back 16 horizons; a glitch is told by its own step."""
    monkeypatch.setattr(recent, "forgotten", lambda model: 512)
    fitted = with_season(fitted, 7)
    maps = 0.1 * np.random.default_rng(8).standard_normal((CHANNELS, 12, 4)).astype(np.float32)
    lags = LagRegression((jnp.asarray(maps),), jnp.full(1, 1.5, jnp.float32))
    model = eqx.tree_at(lambda m: m.lags, fitted.model, lags, is_leaf=lambda x: x is None)
    fitted, raw = replace(fitted, model=model), waves(1, 1600, seed=3)[0]
    raw[1550, 2] += 40
    raw[1520:1530, 4] = np.nan
    data, firsts = SeriesSet.from_arrays([raw]), []

    def fetch(index: int, start: int, stop: int) -> np.ndarray:
        firsts.append(start)
        return raw[start:stop]

    (found,) = prediction.forecast(fitted, replace(data, fetch=fetch), horizon=6)
    reach = 512 + 10 + 2 * 8 * 7 + 12 + 16 * 6
    assert min(firsts) == 1600 - 2 * 512  # where gaps are is looked up in blocks
    assert firsts[-1] == 1600 - reach
    assert found.ignored is not None
    np.testing.assert_array_equal(np.argwhere(found.ignored), [[1550, 2]])
    monkeypatch.setattr(recent, "forgotten", lambda model: 1600)
    (whole,) = prediction.forecast(fitted, data, horizon=6)
    np.testing.assert_allclose(found.mean, whole.mean, atol=2e-4 * float(np.min(whole.std)))
    np.testing.assert_allclose(found.std, whole.std, rtol=2e-4)


@pytest.mark.parametrize(
    ("gaps", "begin"),
    [
        ((), 500 - 50),
        (((slice(460, 490), 3),), 500 - 80),  # as many values of each channel
        (((slice(0, 410), 3), (slice(440, 500), 3)), 410),  # or all that there are
        (((slice(None), 3),), 500 - 50),  # none is none, however far one looks
        (((slice(100, 500), slice(None)),), 50),
    ],
)
def test_gaps_do_not_count_as_past(fitted, monkeypatch, gaps, begin):
    monkeypatch.setattr(recent, "forgotten", lambda model: 50)
    raw = np.ones((500, CHANNELS))
    for gap in gaps:
        raw[gap] = np.nan
    short = np.ones((20, CHANNELS))
    found = recent.recent(fitted.model, SeriesSet.from_arrays([raw, short]), 1)
    assert found.lengths == (500 - begin + 16, 20)


def test_series_of_one_length_keep_as_many_steps(fitted, monkeypatch):
    monkeypatch.setattr(recent, "forgotten", lambda model: 50)
    whole, gappy = np.ones((500, CHANNELS)), np.ones((500, CHANNELS))
    gappy[450:480, 2] = np.nan
    found = recent.recent(fitted.model, SeriesSet.from_arrays([whole, gappy]), 1)
    assert found.lengths == (96, 96)


def test_what_is_short_and_what_says_little_a_value_stays_as_it_is(fitted):
    long = SeriesSet.from_arrays([np.ones((30_000, CHANNELS))])
    assert recent.recent(fitted.model, long, 10).lengths < long.lengths
    counts = eqx.tree_at(lambda m: m.likelihood, fitted.model, PoissonLikelihood())
    frames = replace(long, channel_shape=(2, 5))
    short = long.between([0], [500])
    for model, data in ((fitted.model, short), (counts, long), (fitted.model, frames)):
        assert recent.recent(model, data, 10) is data


@pytest.mark.parametrize(("noise", "transition"), [(1e-3, 1.0), (1e-4, 1.0), (1e-4, 0.999)])
def test_a_filter_forgets_as_its_gain_says(noise, transition):
    """A level that moves a little in noise: the variance that its filter settles at is the root of a square."""
    model = linear_model(
        transition=np.full((1, 1), transition),
        noise_cov=np.full((1, 1), noise),
        loadings=np.ones((1, 1)),
        offset=np.zeros(1),
        noise_variance=np.ones(1),
        n_inputs=0,
        stable=False,
        dtype=np.dtype(np.float64),
    )
    step = float(model.dynamics.noise_cov.matrix[0, 0])
    half = (step + transition**2 - 1) / 2
    predicted = half + np.sqrt(half**2 + step)
    expected = np.log(1e-6) / np.log(transition / (1 + predicted))
    assert recent.forgotten(model) == pytest.approx(max(expected, 512), rel=2e-3)


def test_a_level_that_cannot_be_seen_is_never_forgotten(fitted):
    blind = eqx.tree_at(lambda m: m.decoder.loadings, fitted.model, jnp.zeros_like(fitted.model.decoder.loadings))
    stays = eqx.tree_at(lambda m: m.dynamics.transition, blind, jnp.eye(3, dtype=jnp.float32))
    assert recent.forgotten(stays) == 1 << 14


def test_a_forecast_is_checked_if_what_is_recent_is_not_too_much(fitted, monkeypatch):
    monkeypatch.setattr(recent, "forgotten", lambda model: 50)
    monkeypatch.setattr("svae_cli.prediction.self_check.CHECKED_VALUES", 1000)
    data = SeriesSet.from_arrays([np.ones((500, CHANNELS))])
    assert not prediction.is_checked(fitted.model, data)
    assert prediction.is_checked(fitted.model, data, horizon=3)
    assert not prediction.is_checked(fitted.model, data, horizon=4)
    assert prediction.is_checked(fitted.model, data, horizon=4, asked=True)
