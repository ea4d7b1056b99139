"""A forecast looks at what is recent, and says what it would say of the whole past."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.models.lags import LagRegression
from svae_cli.prediction import recent
from tests.training.waves import CHANNELS, wave_model, waves, with_season

pytestmark = pytest.mark.usefixtures("relaxed_promotion", "compiled_in_a_hurry")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


def test_forecasts_are_those_of_the_whole_past_and_little_of_it_is_read(fitted, monkeypatch):
    """With a season, a regression and a check that looks back 16 horizons; a glitch is told by its own step."""
    monkeypatch.setattr(recent, "FORGOTTEN", 100)
    fitted = with_season(fitted, 7)
    maps = 0.1 * np.random.default_rng(8).standard_normal((CHANNELS, 12, 4)).astype(np.float32)
    lags = LagRegression((jnp.asarray(maps),), jnp.full(1, 1.5, jnp.float32))
    model = eqx.tree_at(lambda m: m.lags, fitted.model, lags, is_leaf=lambda x: x is None)
    fitted, raw = replace(fitted, model=model), waves(1, 900, seed=3)[0]
    raw[850, 2] += 40
    raw[820:830, 4] = np.nan
    data, firsts = SeriesSet.from_arrays([raw]), []

    def fetch(index: int, start: int, stop: int) -> np.ndarray:
        firsts.append(start)
        return raw[start:stop]

    (found,) = prediction.forecast(fitted, replace(data, fetch=fetch), horizon=6)
    reach = 100 + 10 + 2 * 8 * 7 + 12 + 16 * 6
    assert min(firsts) == 900 - reach
    assert found.ignored is not None
    np.testing.assert_array_equal(np.argwhere(found.ignored), [[850, 2]])
    monkeypatch.setattr(recent, "FORGOTTEN", 900)
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
    monkeypatch.setattr(recent, "FORGOTTEN", 50)
    raw = np.ones((500, CHANNELS))
    for gap in gaps:
        raw[gap] = np.nan
    short = np.ones((20, CHANNELS))
    found = recent.recent(fitted.model, SeriesSet.from_arrays([raw, short]), 1)
    assert found.lengths == (500 - begin + 16, 20)


def test_what_is_short_stays_as_it_is(fitted):
    data = SeriesSet.from_arrays([np.ones((500, CHANNELS))])
    assert recent.recent(fitted.model, data, 10) is data


def test_a_forecast_is_checked_if_what_is_recent_is_not_too_much(fitted, monkeypatch):
    monkeypatch.setattr(recent, "FORGOTTEN", 50)
    monkeypatch.setattr("svae_cli.prediction.self_check.CHECKED_VALUES", 1000)
    data = SeriesSet.from_arrays([np.ones((500, CHANNELS))])
    assert not prediction.is_checked(fitted.model, data)
    assert prediction.is_checked(fitted.model, data, horizon=3)
    assert not prediction.is_checked(fitted.model, data, horizon=4)
