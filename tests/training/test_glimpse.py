"""What is looked at before training: kinds of numbers and shares that a record's beginning does not tell."""

import numpy as np
import pytest

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.training.glimpse import guess_likelihood, observed_share
from svae_cli.training.mean_change import mean_change


def test_a_dry_beginning_makes_no_events():
    rain = np.zeros((5000, 1))
    rain[2000:] = np.random.default_rng(0).gamma(0.5, 3.0, size=(3000, 1))
    assert guess_likelihood(SeriesSet.from_arrays([rain]))[0] == "gaussian"
    assert guess_likelihood(SeriesSet.from_arrays([np.round(rain / 30)[:1000]]))[0] == "bernoulli"


def test_gaps_that_come_late_count():
    values = np.ones((4000, 2))
    values[2000:] = np.nan
    assert observed_share(SeriesSet.from_arrays([values])) == pytest.approx(0.5, abs=0.05)


def test_mean_change_is_from_the_first_known_value_to_the_last_over_all_series():
    rising, falling = 0.5 * np.arange(3000.0), -1.0 * np.arange(100.0)
    values = [np.stack([a, np.full(len(a), np.nan)], axis=1) for a in (rising, falling)]
    values[0][:10, 0] = values[1][95:, 0] = np.nan
    found = mean_change(SeriesSet.from_arrays(values), Scaler.identity(2))
    np.testing.assert_allclose(found, [(0.5 * 2989 - 94) / (2989 + 94), 0.0])
