"""The self-check of a series: channels hidden in turn, errors against variances, intervals put right."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.prediction import pieces
from svae_cli.prediction.self_check import GROUPS, SelfCheck, forecast_check, self_check
from svae_cli.training.fit import fit

pytestmark = pytest.mark.usefixtures("relaxed_promotion", "compiled_in_a_hurry")

CHANNELS = 10  # more than groups, so that some are hidden together


@pytest.fixture(scope="module")
def fitted() -> FittedModel:
    settings = Settings(
        latent_dim=3, window=40, linear_steps=10, em_steps=5, epochs=1, recognition="linear", decoder="linear", season=0
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        *_, last = fit(SeriesSet.from_arrays(list(_truth(8, 60, seed=1))), settings)
    return last.state.fitted


def _truth(series: int, steps: int, *, seed: int, noise: float = 0.1) -> np.ndarray:
    """Three slow waves of random phase, seen by all channels in noise."""
    rng, loadings = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(3, CHANNELS))
    phase = rng.uniform(0, 2 * np.pi, (series, 1, 3))
    waves = np.sin(np.arange(steps)[None, :, None] * np.array([0.11, 0.23, 0.37]) + phase)
    return waves @ loadings + noise * rng.standard_normal((series, steps, CHANNELS))


def _dropped(truth: np.ndarray) -> np.ndarray:
    """Channel 2 missing in the middle, channel 5 at single steps."""
    shown = truth.copy()
    shown[:, 10:40, 2] = np.nan
    shown[:, 3::9, 5] = np.nan
    return shown


def _in_model_units(fitted: FittedModel, raw: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    scaled = fitted.scaler.to_model(raw)
    return (
        jnp.asarray(np.nan_to_num(scaled), jnp.float32),
        jnp.asarray(~np.isnan(raw)),
        jnp.zeros((len(raw), 0), jnp.float32),
    )


@eqx.filter_jit
def _predicted(model, values, seen, inputs):
    """Mean and variance of every value given those that are seen."""
    predictor = model.predictor_moments(model.posterior(values, seen, inputs))
    return model.likelihood.predictive_moments(*model.informed(values, seen, predictor))


def test_ratio_and_variances_are_those_of_channels_hidden_one_group_after_another(fitted):
    values, observed, inputs = _in_model_units(fitted, _dropped(_truth(1, 50, seed=3))[0])
    found = self_check(fitted.model, values, observed, inputs)
    total, weights = 4.0, 4.0
    for channel in range(CHANNELS):
        seen = observed & (jnp.arange(CHANNELS) % GROUPS != channel % GROUPS)
        mean, variance = _predicted(fitted.model, values, seen, inputs)
        np.testing.assert_allclose(found.alone[:, channel], variance[:, channel], rtol=1e-4)
        known = np.asarray(observed[:, channel])
        square = np.asarray((values - mean) ** 2 / variance)[known, channel]
        weight = known.sum() / (known.sum() + 8)
        total, weights = total + weight * min(square.mean(), 9.0), weights + weight
    assert float(found.ratio) == pytest.approx(total / weights, rel=1e-4)


def test_a_forecasts_ratio_is_that_of_known_steps_forecast_from_those_before(fitted):
    values, observed, inputs = _in_model_units(fitted, _dropped(_truth(1, 50, seed=3))[0])
    observed = observed & (jnp.arange(50) < 43)[:, None]
    found = forecast_check(fitted.model, values, observed, inputs, start=jnp.asarray(43), horizon=10)
    total = 4.0
    for origin in (33, 23, 13, 3):
        seen = observed & (jnp.arange(50) < origin)[:, None]
        mean, variance = _predicted(fitted.model, values, seen, inputs)
        known = np.asarray(observed)[origin : origin + 10]
        square = np.asarray((values - mean) ** 2 / variance)[origin : origin + 10]
        total += np.mean([min(square[known[:, d], d].mean(), 9.0) for d in range(CHANNELS) if known[:, d].any()])
    assert total / 8 > 1
    assert float(found.ratio) == pytest.approx(total / 8, rel=2e-3)  # float32


def test_a_past_that_moved_more_than_training_widens_forecasts_and_leaves_means_alone(fitted):
    truth = _truth(6, 60, seed=4)
    shaken = truth + 1.5 * np.random.default_rng(5).standard_normal(truth.shape)
    widths = {}
    for name, data in (("as before", truth), ("shaken", shaken)):
        series = SeriesSet.from_arrays(list(data))
        checked = list(prediction.forecast(fitted, series, horizon=5))
        plain = list(prediction.forecast(fitted, series, horizon=5, self_check=False))
        for one, other in zip(checked, plain, strict=True):
            np.testing.assert_array_equal(one.mean, other.mean)
        widths[name] = np.mean([c.std / p.std for c, p in zip(checked, plain, strict=True)])
    assert widths["shaken"] > 1.3 * widths["as before"]


def test_forecasts_of_a_series_in_pieces_are_checked_by_its_last_piece(fitted, monkeypatch):
    truth = _truth(1, 120, seed=6)
    truth[:, 60:] += 1.5 * np.random.default_rng(5).standard_normal((1, 60, CHANNELS))
    last, whole = (SeriesSet.from_arrays([truth[0, start:]]) for start in (120 - 64, 0))
    (expected,) = prediction.forecast(fitted, last, horizon=5)
    (unchecked,) = prediction.forecast(fitted, last, horizon=5, self_check=False)
    monkeypatch.setattr(pieces, "PIECE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers._NUMBERS_AT_ONCE", 1)
    jax.clear_caches()
    found, plain = ([p.std for p in prediction.whole(prediction.forecast(fitted, whole, horizon=5, self_check=c))][0]
                    for c in (None, False))  # fmt: skip
    np.testing.assert_allclose(found / plain, expected.std / unchecked.std, rtol=1e-3)


def test_one_broken_channel_does_not_decide_alone_and_nothing_gets_narrower(fitted):
    values, observed, inputs = _in_model_units(fitted, _truth(1, 50, seed=3)[0])
    start = {"start": jnp.asarray(43), "horizon": 10}
    seen = observed & (jnp.arange(50) < 43)[:, None]
    sound = forecast_check(fitted.model, values, seen, inputs, **start)
    broken = forecast_check(fitted.model, values.at[:, 0].set(-100.0), seen.at[:30, 0].set(False), inputs, **start)
    assert float(broken.ratio) < float(sound.ratio) + 9 / CHANNELS
    sure = forecast_check(fitted.model, values, seen & False, inputs, **start)
    assert float(sure.ratio) == 1


def test_values_that_hang_on_other_channels_get_the_whole_factor_and_firmly_held_ones_hardly_any():
    check = SelfCheck(jnp.asarray(3.0), jnp.asarray([[4.0, 4.0, 4.0]]))
    np.testing.assert_allclose(check.factor(jnp.asarray([[4.0, 8.0, 0.4]])), [[3.0, 3.0, 1.02]], rtol=1e-6)


def test_sensors_that_came_apart_widen_the_gaps_and_leave_means_alone(fitted):
    truth = _truth(6, 50, seed=4)
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
    apart = _truth(1, 50, seed=4) + 0.8 * np.random.default_rng(5).standard_normal((1, 1, CHANNELS))
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
    truth = _truth(1, 128, seed=6)
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
