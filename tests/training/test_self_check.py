"""The self-check of a series: channels hidden in turn, errors against variances, intervals put right."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.prediction import pieces
from svae_cli.prediction.self_check import GROUPS, SelfCheck, self_check
from tests.training.waves import CHANNELS, in_model_units, predicted, wave_model, waves

pytestmark = pytest.mark.usefixtures("relaxed_promotion", "compiled_in_a_hurry")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


def _dropped(truth: np.ndarray) -> np.ndarray:
    """Channel 2 missing in the middle, channel 5 at single steps."""
    shown = truth.copy()
    shown[:, 10:40, 2] = np.nan
    shown[:, 3::9, 5] = np.nan
    return shown


def test_ratio_and_variances_are_those_of_channels_hidden_one_group_after_another(fitted):
    values, observed, inputs = in_model_units(fitted, _dropped(waves(1, 50, seed=3))[0])
    found = self_check(fitted.model, values, observed, inputs)
    total, weights = 4.0, 4.0
    for channel in range(CHANNELS):
        seen = observed & (jnp.arange(CHANNELS) % GROUPS != channel % GROUPS)
        mean, variance = predicted(fitted.model, values, seen, inputs)
        np.testing.assert_allclose(found.alone[:, channel], variance[:, channel], rtol=1e-4)
        known = np.asarray(observed[:, channel])
        square = np.asarray((values - mean) ** 2 / variance)[known, channel]
        weight = known.sum() / (known.sum() + 8)
        total, weights = total + weight * min(square.mean(), 9.0), weights + weight
    assert float(found.ratio) == pytest.approx(total / weights, rel=1e-4)


def test_values_that_hang_on_other_channels_get_the_whole_factor_and_firmly_held_ones_hardly_any():
    check = SelfCheck(jnp.asarray(3.0), jnp.asarray([[4.0, 4.0, 4.0]]))
    mean, variance = jnp.asarray([[1.0, 2.0, 3.0]]), jnp.asarray([[4.0, 8.0, 0.4]])
    found = check.corrected(mean, variance)
    np.testing.assert_array_equal(found[0], mean)
    np.testing.assert_allclose(found[1] / variance, [[3.0, 3.0, 1.02]], rtol=1e-6)


def test_sensors_that_came_apart_widen_the_gaps_and_leave_means_alone(fitted):
    truth = waves(6, 50, seed=4)
    apart = truth + 0.8 * np.random.default_rng(5).standard_normal((6, 1, CHANNELS))
    widths = {}
    for name, data in (("as before", truth), ("apart", apart)):
        series = SeriesSet.from_arrays(list(_dropped(data)))
        checked = list(prediction.impute(fitted, series))
        plain = list(prediction.impute(fitted, series, self_check=False))
        for one, other in zip(checked, plain, strict=True):
            np.testing.assert_array_equal(one.mean, other.mean)
        widths[name] = np.mean([c.std[15:35, 2] / p.std[15:35, 2] for c, p in zip(checked, plain, strict=True)])
    assert widths["apart"] > 1.3
    assert 0.7 < widths["as before"] < 1.2


def test_quantiles_and_paths_have_the_checked_width(fitted):
    apart = waves(1, 50, seed=4) + 0.8 * np.random.default_rng(5).standard_normal((1, 1, CHANNELS))
    series = SeriesSet.from_arrays(list(_dropped(apart)))
    found = next(prediction.impute(fitted, series, quantiles=(0.05, 0.95), samples=4000))
    width = found.quantiles[15:35, 2, 1] - found.quantiles[15:35, 2, 0]
    np.testing.assert_allclose(width, 2 * 1.6448536 * found.std[15:35, 2], rtol=1e-3)
    np.testing.assert_allclose(found.samples[:, 15:35, 2].std(axis=0), found.std[15:35, 2], rtol=0.08)


def test_a_series_in_pieces_is_checked_piece_by_piece(fitted, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers._NUMBERS_AT_ONCE", 1)
    jax.clear_caches()
    truth = waves(1, 128, seed=6)
    truth[:, 64:] += 0.8 * np.random.default_rng(5).standard_normal((1, 1, CHANNELS))
    truth[:, [10, 11, 12, 90, 91, 92], 2] = np.nan
    series = SeriesSet.from_arrays(list(truth))
    parts = list(prediction.impute(fitted, series))
    plain = list(prediction.impute(fitted, series, self_check=False))
    assert [p.start for p in parts] == [0, 64]
    wider = [
        np.nanmean(np.where(c.std > 0, c.std / np.where(p.std > 0, p.std, 1), np.nan))
        for c, p in zip(parts, plain, strict=True)
    ]
    assert wider[0] < 1.1 < wider[1]


def test_large_data_are_checked_only_when_asked(fitted, monkeypatch):
    series = SeriesSet.from_arrays([np.zeros((50, CHANNELS))])
    assert prediction.is_checked(fitted.model, series)
    monkeypatch.setattr("svae_cli.prediction.self_check.CHECKED_VALUES", 499)
    assert not prediction.is_checked(fitted.model, series)
    assert prediction.is_checked(fitted.model, series, asked=True)
    assert not prediction.is_checked(
        eqx.tree_at(lambda m: m.decoder.offset, fitted.model, jnp.zeros(1)), series, asked=True
    )
