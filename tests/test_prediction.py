"""Answers of a model with known parameters: units, gaps, horizons, batches."""

from dataclasses import fields, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.warp import Warp
from svae_cli.errors import DataError, ModelError, UsageError
from svae_cli.models.build import full_model
from svae_cli.models.fitted import FittedModel
from svae_cli.models.residual import ResidualChains
from svae_cli.models.season import SeasonMemory
from svae_cli.prediction import answers, pieces
from tests.models.test_exactness import joint_observation, random_model

# Exactly the model's answers; what checks make of them is tested in training/test_*_check.py.
impute = partial(prediction.impute, self_check=False)
forecast = partial(prediction.forecast, self_check=False)
SCALER = Scaler(mean=np.array([10.0, -5.0]), std=np.array([2.0, 0.5]))
WARP = Warp(
    np.array([0.2, 1.0]),
    -np.full(2, 9.0),
    np.full(2, 9.0),
    np.array([0.1, 0.0]),
    np.array([0.8, 1.0]),
    np.zeros(2),
    np.ones(2),
)
RESOLVED = Settings(latent_dim=3, recognition="linear", decoder="linear", likelihood="gaussian", precision="float64")


SEASON = SeasonMemory.of(
    level_share=np.array([0.9, 0.5]),
    share=np.array([0.8, 0.6]),
    swing=np.array([1.0, 0.5]),
    variance=np.array([0.6, 0.3]),
    decay=0.5,
    few=0.5,
    doubt=2.0,
    period=3,
)
CHAINS = ResidualChains.of(jnp.array([0.2, 0.1]), jnp.array([0.9, 0.4]))


def make_fitted(n_inputs=0, **changes):
    asked = RESOLVED.changed(**changes)
    linear = random_model(np.random.default_rng(0), 3, 2, n_inputs=n_inputs)
    model = full_model(linear, asked, mean=np.ones(2), std=np.ones(2), residual=CHAINS, season=SEASON)
    names = tuple(f"u{i}" for i in range(n_inputs))
    scaler = SCALER if asked.likelihood == "gaussian" else Scaler.identity(2)
    return FittedModel(model, asked, scaler, ("a", "b"), ("m", ""), inputs=names)


@pytest.fixture(scope="module")
def fitted():
    return make_fitted()


def series(*lengths, seed=1, share=0.8):
    rng = np.random.default_rng(seed)
    arrays = []
    for n in lengths:
        values = SCALER.to_data(rng.normal(size=(n, 2)))
        values[rng.random(values.shape) > share] = np.nan
        arrays.append(values)
    return SeriesSet.from_arrays(arrays, channels=("a", "b"))


def conditional(model, values, extra=0):
    """Mean and std of every value given the observed ones, dense, in model units."""
    steps = len(values) + extra
    mean, cov = joint_observation(model, steps)
    flat = np.concatenate([SCALER.to_model(values), np.full((extra, 2), np.nan)]).ravel()
    seen = ~np.isnan(flat)
    gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[seen]).T
    centre = mean + gain @ (flat[seen] - mean[seen])
    spread = np.sqrt(np.maximum(np.diag(cov - gain @ cov[seen]), 0))
    return centre.reshape(steps, 2), spread.reshape(steps, 2)


def test_gaps_get_the_conditional_distribution_and_observed_values_stay(fitted):
    data = series(9)
    (found,) = impute(fitted, data, quantiles=(0.05, 0.5))
    raw = data.read(0)
    gap = np.isnan(raw)
    mean, std = conditional(fitted.model, raw)
    np.testing.assert_allclose(found.mean[gap], SCALER.to_data(mean)[gap], rtol=1e-9)
    np.testing.assert_allclose(found.std[gap], (std * SCALER.std)[gap], rtol=1e-8)
    np.testing.assert_allclose(found.quantiles[gap][:, 0], (found.mean - 1.6448536269514722 * found.std)[gap])
    assert np.array_equal(found.values[~gap], raw[~gap])
    assert np.array_equal(found.mean[~gap], raw[~gap])
    assert np.all(found.std[~gap] == 0)
    assert np.array_equal(found.observed, ~gap)


def test_ragged_series_are_answered_alone_as_in_company(fitted):
    data = series(9, 12, 5, 33)
    together = list(impute(fitted, data, reconstruct=True))
    for i in range(len(data)):
        (alone,) = impute(fitted, data.subset([i]), reconstruct=True)
        np.testing.assert_allclose(together[i].mean, alone.mean, rtol=1e-9)
        np.testing.assert_allclose(together[i].std, alone.std, rtol=1e-9)
        assert together[i].key == str(i)


def test_series_of_one_padded_length_are_answered_together_and_come_in_order():
    padded = [32, 64, 32, 999, 32, 64, 32, 32, 64]
    sizes = [2, 2, 2, 0, 2, 2, 2, 2, 2]
    assert list(answers._batches(padded, sizes, 9)) == [[0, 2], [1], [3], [4, 6], [5, 8], [7]]
    assert list(answers._batches(padded, sizes, 2)) == [[0], [1], [2], [3], [4], [5], [6, 7], [8]]


def test_short_ragged_series_take_few_shapes_and_series_alike_their_own():
    assert {answers._padded_length(n, alike=False) for n in range(1, 257)} == {32, 64, 128, 256}
    assert [answers._padded_length(n, alike=False) for n in (257, 300, 5000)] == [320, 320, 5120]
    assert answers._padded_length(9, alike=True) == 9


def test_a_series_that_has_grown_finds_what_was_compiled_for_it_before(fitted, monkeypatch):
    shapes, asked = [], answers._ask
    monkeypatch.setattr(
        answers, "_ask", lambda model, series, *rest: shapes.append(series[0].shape) or asked(model, series, *rest)
    )
    for steps in (40, 47, 50):
        list(forecast(fitted, series(steps), horizon=4))
    assert set(shapes) == {(1, 64, 2)}
    shapes.clear()
    list(forecast(fitted, series(*[40] * 20), horizon=4))
    assert shapes == [(20, 44, 2)]


def test_forecast_is_the_dense_conditional_of_the_future(fitted):
    data = series(9)
    (found,) = forecast(fitted, data, horizon=4)
    mean, std = conditional(fitted.model, data.read(0), extra=4)
    np.testing.assert_allclose(found.mean, SCALER.to_data(mean[-4:]), rtol=1e-9)
    np.testing.assert_allclose(found.std, (std * SCALER.std)[-4:], rtol=1e-9)


def test_origin_forgets_what_comes_later(fitted):
    data = series(12)
    (cut,) = forecast(fitted, data, horizon=3, origin=-3)
    (short,) = forecast(fitted, data.between([0], [9]), horizon=3)
    np.testing.assert_allclose(cut.mean, short.mean)


def test_sample_paths_have_the_predictive_moments_and_neighbours_correlate(fitted):
    data = series(9)
    (found,) = forecast(fitted, data, horizon=4, samples=4000)
    error = 6 * found.std / np.sqrt(4000)
    assert np.all(np.abs(found.samples.mean(axis=0) - found.mean) < error)
    np.testing.assert_allclose(found.samples.std(axis=0), found.std, rtol=0.1)
    _, cov = joint_observation(fitted.model, 13)
    flat = np.concatenate([SCALER.to_model(data.read(0)), np.full((4, 2), np.nan)]).ravel()
    seen = ~np.isnan(flat)
    rest = cov - cov[:, seen] @ np.linalg.solve(cov[np.ix_(seen, seen)], cov[seen])
    drawn = SCALER.to_model(found.samples).reshape(4000, -1)
    np.testing.assert_allclose(np.cov(drawn.T), rest[-8:, -8:], atol=0.15 * rest[-8:, -8:].max())


def test_imputed_paths_repeat_what_was_observed(fitted):
    data = series(9)
    (found,) = impute(fitted, data, samples=3)
    raw = data.read(0)
    for path in found.samples:
        assert np.array_equal(path[~np.isnan(raw)], raw[~np.isnan(raw)])
    assert len(np.unique(found.samples[:, np.isnan(raw)], axis=0)) == 3


def test_same_seed_same_paths(fitted):
    data = series(9)
    first, again, other = (next(forecast(fitted, data, horizon=2, samples=2, seed=s)).samples for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_filtered_states_know_only_the_past(fitted):
    data = series(9)
    (full,) = prediction.encode(fitted, data, filtered=True)
    (part,) = prediction.encode(fitted, data.between([0], [5]), filtered=True)
    np.testing.assert_allclose(full.mean[:5], part.mean, rtol=1e-9)
    (smoothed,) = prediction.encode(fitted, data)
    np.testing.assert_allclose(smoothed.cov[-1], full.cov[-1], rtol=1e-8)
    assert np.all(np.trace(smoothed.cov, axis1=1, axis2=2) <= np.trace(full.cov, axis1=1, axis2=2) + 1e-9)


def test_counts_have_whole_quantiles_and_positive_means():
    fitted = make_fitted(likelihood="poisson")
    counts = np.random.default_rng(0).poisson(3.0, size=(9, 2)).astype(float)
    counts[3] = np.nan
    data = SeriesSet.from_arrays([counts], channels=("a", "b"))
    (found,) = impute(fitted, data, quantiles=(0.1, 0.9), samples=2)
    assert np.all(found.mean >= 0)
    assert np.array_equal(found.quantiles[3], np.round(found.quantiles[3]))
    assert np.array_equal(found.samples, np.round(found.samples))


def test_a_power_transform_carries_quantiles_moments_and_paths_over(fitted):
    """Model units are Gaussian: quantiles are theirs, bent; moments and joint paths must agree with them."""
    bent = replace(fitted, scaler=replace(SCALER, warp=WARP))
    data = series(30)
    flat = SeriesSet.from_arrays([bent.scaler.to_data(SCALER.to_model(data.read(0)))])
    levels = tuple(np.linspace(0.005, 0.995, 100))
    ours = next(impute(bent, flat, quantiles=levels, samples=4000))
    plain = next(impute(fitted, data, quantiles=levels))
    gap = ~plain.observed
    expected = bent.scaler.to_data(SCALER.to_model(np.moveaxis(plain.quantiles, -1, 0)))
    np.testing.assert_allclose(np.moveaxis(ours.quantiles, -1, 0)[:, gap], expected[:, gap], rtol=1e-5)
    np.testing.assert_array_equal(ours.values[ours.observed], flat.read(0)[ours.observed])
    error = 6 * ours.std[gap] / 4000**0.5
    assert (np.abs(ours.samples.mean(axis=0) - ours.mean)[gap] < error).all()
    np.testing.assert_allclose(ours.samples.std(axis=0)[gap], ours.std[gap], rtol=0.15)


def test_drawn_series_have_the_marginal_moments(fitted):
    drawn = prediction.sample(fitted, steps=3, count=4000)
    mean, cov = joint_observation(fitted.model, 3)
    np.testing.assert_allclose(
        SCALER.to_model(drawn).mean(axis=0).ravel(), mean, atol=6 * np.sqrt(np.diag(cov).max() / 4000)
    )


def test_known_inputs_must_cover_the_horizon():
    fitted = make_fitted(n_inputs=1)
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(6, 2)), rng.normal(size=(8, 1))
    data = SeriesSet.from_arrays([values], inputs=[known], channels=("a", "b"))
    (two,) = forecast(fitted, data, horizon=2)
    assert two.mean.shape == (2, 2)
    with pytest.raises(DataError, match="the inputs of series '0' end at step 8; the horizon needs 9"):
        list(forecast(fitted, data, horizon=4))


def test_what_does_not_fit_is_refused(fitted):
    wide = SeriesSet.from_arrays([np.zeros((5, 3))])
    with pytest.raises(ModelError, match="the model has 2 channels, the data have 3"):
        list(impute(fitted, wide))
    renamed = SeriesSet.from_arrays([np.zeros((5, 2))], channels=("a", "c"))
    with pytest.raises(ModelError, match="channel 1 is 'c' in the data, 'b' in the model"):
        list(impute(fitted, renamed))
    with pytest.raises(UsageError, match="the horizon is 0"):
        list(forecast(fitted, series(5), horizon=0))
    with pytest.raises(UsageError, match="the quantile level 1.5"):
        list(impute(fitted, series(5), quantiles=(1.5,)))
    with pytest.raises(DataError, match="has 5 steps, the origin is 9"):
        list(forecast(fitted, series(5), horizon=1, origin=9))


def test_answers_do_not_depend_on_parameters_of_other_type(fitted):
    assert fitted.model.decoder.loadings.dtype == jnp.float64


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(answers, "STEPS_AT_ONCE", 10)
    monkeypatch.setattr(pieces, "PIECE", 8)


def long_series(n_inputs, ahead=0):
    inputs = [np.random.default_rng(2).normal(size=(29 + max(ahead - 1, 0), n_inputs))] if n_inputs else None
    return SeriesSet.from_arrays([series(29).read(0)], inputs=inputs, channels=("a", "b"))


@pytest.mark.parametrize(
    ("n_inputs", "chains", "season"),
    [*(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, "off", 0), (1, "off", 3))), (0, "on", 3)],
)
def test_a_long_series_is_answered_in_pieces_as_if_at_once(n_inputs, chains, season, request):
    fitted = make_fitted(n_inputs=n_inputs, residual_chains=chains, season=season)
    ask = {
        "impute": lambda: impute(fitted, long_series(n_inputs), quantiles=(0.1, 0.9), latents=True),
        "forecast": lambda: forecast(fitted, long_series(n_inputs, 12), horizon=12),
        "encode": lambda: prediction.encode(fitted, long_series(n_inputs)),
        "filter": lambda: prediction.encode(fitted, long_series(n_inputs), filtered=True),
    }
    at_once = {name: next(run()) for name, run in ask.items()}
    request.getfixturevalue("small_pieces")
    for name, run in ask.items():
        found = list(run())
        assert [p.start for p in found] == {"forecast": [0, 3, 11]}.get(name, [0, 8, 16, 24])
        (joined,) = prediction.whole(found)
        for field in fields(joined):
            got, expected = (getattr(x, field.name) for x in (joined, at_once[name]))
            if isinstance(expected, np.ndarray):
                # Chains look one piece ahead and one back, here of 8 steps.
                close = {"rtol": 1e-8, "atol": 1e-10} if chains == "off" else {"atol": 1e-5}
                np.testing.assert_allclose(got, expected, **close, err_msg=f"{name} {field.name}")
            else:
                assert got == expected


def test_sample_paths_join_up_across_pieces(fitted, small_pieces):
    data = long_series(0).between([0], [20])
    (found,) = prediction.whole(impute(fitted, data, samples=4000, reconstruct=True))
    _, cov = joint_observation(fitted.model, 20)
    noise = np.diag(np.tile(np.exp(np.asarray(fitted.model.likelihood.log_variance)), 20))
    seen = ~np.isnan(data.read(0).ravel())
    signal = (cov - noise)[:, seen]
    expected = cov - signal @ np.linalg.solve(cov[np.ix_(seen, seen)], signal.T)
    drawn = SCALER.to_model(found.samples).reshape(4000, -1)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.12 * expected.max())
    error = 6 * found.std / np.sqrt(4000)
    assert np.all(np.abs(found.samples.mean(axis=0) - found.mean) < error)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_sample_paths_with_residual_chains_have_the_predictive_moments_and_join_up(in_pieces, request):
    fitted = make_fitted(residual_chains="on")
    data = long_series(0)
    if in_pieces:
        request.getfixturevalue("small_pieces")
    (found,) = prediction.whole(forecast(fitted, data, horizon=12, samples=4000))
    error = 6 * found.std / np.sqrt(4000)
    assert np.all(np.abs(found.samples.mean(axis=0) - found.mean) < error)
    np.testing.assert_allclose(found.samples.std(axis=0), found.std, rtol=0.1)
    white = replace(fitted, model=replace(fitted.model, residual=None))
    (without,) = prediction.whole(forecast(white, data, horizon=12, samples=4000))

    def neighbours(samples):
        drawn = samples[:, 1:, 0] - samples.mean(axis=0)[1:, 0], samples[:, :-1, 0] - samples.mean(axis=0)[:-1, 0]
        return np.mean(drawn[0] * drawn[1], axis=0)

    lasting = 0.2 * 0.9 * np.exp(float(fitted.model.likelihood.log_variance[0])) * SCALER.std[0] ** 2
    np.testing.assert_allclose(neighbours(found.samples) - neighbours(without.samples), lasting, atol=6 * lasting)
    assert np.mean(neighbours(found.samples) - neighbours(without.samples)) == pytest.approx(lasting, rel=0.5)


def test_sample_paths_with_a_season_have_the_predictive_moments(small_pieces):
    fitted = make_fitted(season=3)
    data = long_series(0)
    (found,) = prediction.whole(forecast(fitted, data, horizon=12, samples=4000))
    assert np.all(np.abs(found.samples.mean(axis=0) - found.mean) < 6 * found.std / np.sqrt(4000))
    np.testing.assert_allclose(found.samples.std(axis=0), found.std, rtol=0.1)
    without = replace(fitted, model=replace(fitted.model, season=None))
    (plain,) = prediction.whole(forecast(without, data, horizon=12))
    assert np.all(found.std < plain.std)
    assert not np.allclose(found.mean, plain.mean)


def test_drawn_series_have_lasting_residuals():
    fitted = make_fitted(residual_chains="on")
    white = replace(fitted, model=replace(fitted.model, residual=None))
    drawn, without = (SCALER.to_model(prediction.sample(f, steps=6, count=20_000)) for f in (fitted, white))
    np.testing.assert_allclose(drawn.var(axis=(0, 1)), without.var(axis=(0, 1)), rtol=0.03)
