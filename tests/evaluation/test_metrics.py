"""Scores against scoringrules, closed forms and hand counts."""

import numpy as np
import pytest
import scoringrules
from scipy import stats

from svae_cli import metrics
from svae_cli.errors import NumericalError
from svae_cli.metrics import LEVELS, Predictive


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    return rng.normal(size=400), rng.normal(size=400), rng.gamma(2.0, size=400)


def test_gaussian_crps_equals_scoringrules(case):
    truth, mean, std = case
    np.testing.assert_allclose(
        metrics.crps_gaussian(mean, std, truth), scoringrules.crps_normal(truth, mean, std), rtol=1e-12, atol=1e-14
    )


def test_gaussian_crps_of_a_point_is_the_absolute_error():
    truth, mean = np.array([0.0, 1.0, -3.0]), np.array([0.0, 1.5, 4.0])
    np.testing.assert_allclose(metrics.crps_gaussian(mean, np.zeros(3), truth), np.abs(truth - mean), atol=1e-90)


def test_sample_crps_equals_scoringrules_fair_estimator(case):
    truth, mean, std = case
    samples = mean + std * np.random.default_rng(0).normal(size=(30, 400))
    expected = scoringrules.crps_ensemble(truth, samples, m_axis=0, estimator="fair")
    np.testing.assert_allclose(metrics.crps_samples(samples, truth), expected, rtol=1e-10)


def test_quantile_crps_equals_scoringrules_on_an_even_grid(case):
    truth, mean, std = case
    levels = np.arange(1, 20) / 20
    quantiles = mean[:, None] + std[:, None] * stats.norm.ppf(levels)
    expected = (
        scoringrules.crps_quantile(truth, quantiles, levels) * 19 / 20
    )  # it divides by 19, the grid's step is 1/20
    np.testing.assert_allclose(metrics.crps_quantiles(quantiles, levels, truth), expected, rtol=1e-12)


def test_quantile_crps_approaches_the_closed_form(case):
    truth, mean, std = case
    quantiles = mean[:, None] + std[:, None] * stats.norm.ppf(LEVELS)
    close = metrics.crps_quantiles(quantiles, LEVELS, truth).mean()
    exact = metrics.crps_gaussian(mean, std, truth).mean()
    assert 0.985 * exact < close < exact


def test_negative_log_likelihoods_equal_scipy(case):
    truth, mean, std = case
    np.testing.assert_allclose(
        metrics.negative_log_likelihood(mean, std, truth), -stats.norm.logpdf(truth, mean, std), rtol=1e-12
    )
    counts, rates = np.random.default_rng(1).poisson(2.0, 50), np.linspace(0.1, 5, 50)
    np.testing.assert_allclose(
        metrics.negative_log_likelihood(rates, rates, counts, likelihood="poisson"),
        -stats.poisson.logpmf(counts, rates),
    )
    coins, shares = counts > 1, np.linspace(0.1, 0.9, 50)
    np.testing.assert_allclose(
        metrics.negative_log_likelihood(shares, shares, coins * 1.0, likelihood="bernoulli"),
        -stats.bernoulli.logpmf(coins, shares),
    )


def test_right_distributions_have_nominal_coverage_and_flat_pit():
    rng = np.random.default_rng(5)
    mean, std = rng.normal(size=40_000), rng.gamma(2.0, size=40_000)
    truth = mean + std * rng.normal(size=40_000)
    predicted = Predictive(mean, std)
    scores = metrics.score(truth, predicted)
    for percent in metrics.INTERVALS:
        share = percent / 100
        assert abs(scores[f"cov{percent}"] - share) < 5 * np.sqrt(share * (1 - share) / 40_000)
        z = stats.norm.ppf(0.5 + share / 2)
        np.testing.assert_allclose(scores[f"width{percent}"], 2 * z * std.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics.pit(truth, predicted), 0.1, atol=5 * np.sqrt(0.09 / 40_000))


def test_narrow_intervals_give_a_u_shaped_pit():
    truth = np.random.default_rng(5).normal(size=2000)
    shares = metrics.pit(truth, Predictive(np.zeros(2000), np.full(2000, 0.3)))
    np.testing.assert_allclose(shares.sum(), 1.0)
    expected = np.diff([0.0, *stats.norm.cdf(0.3 * stats.norm.ppf(np.arange(1, 10) / 10)), 1.0])
    np.testing.assert_allclose(shares, expected, atol=0.05)


def test_point_scores_by_hand():
    scores = metrics.score(np.array([1.0, 2.0, -3.0]), Predictive(np.array([2.0, 2.0, 0.0]), np.ones(3)))
    np.testing.assert_allclose([scores["mae"], scores["rmse"], scores["mre"]], [4 / 3, np.sqrt(10 / 3), 4 / 6])


def test_scores_from_quantiles_of_a_gaussian_equal_those_of_its_moments(case):
    truth, mean, std = case
    moments = Predictive(mean, std)
    through = metrics.score(truth, Predictive(mean, std, moments.levels()))
    for name, value in metrics.score(truth, moments).items():
        np.testing.assert_allclose(through[name], value, rtol=2e-2 if name == "crps" else 1e-12)


def test_scaling_scales_the_errors(case):
    truth, mean, std = case
    predicted = Predictive(mean, std, Predictive(mean, std).levels())
    shift, scale = np.full(400, 3.0), np.full(400, 0.25)
    small = metrics.score((truth - shift) / scale, predicted.scaled(shift, scale))
    big = metrics.score(truth, predicted)
    for name in ("mae", "rmse", "crps", "width90"):
        np.testing.assert_allclose(small[name], 4 * big[name], rtol=1e-10)
    np.testing.assert_allclose(small["cov90"], big["cov90"])


@pytest.mark.parametrize("broken", ["mean", "std", "quantiles", "truth"])
def test_a_nan_is_an_error_not_a_score(broken):
    parts = {"truth": np.ones(4), "mean": np.ones(4), "std": np.ones(4), "quantiles": np.ones((4, len(LEVELS)))}
    parts[broken].flat[2] = np.nan
    with pytest.raises(NumericalError, match="not finite"):
        metrics.score(parts["truth"], Predictive(parts["mean"], parts["std"], parts["quantiles"]))


def test_a_negative_deviation_and_no_values_are_errors():
    with pytest.raises(NumericalError, match="negative"):
        metrics.score(np.ones(2), Predictive(np.ones(2), np.array([1.0, -1.0])))
    with pytest.raises(NumericalError, match="no value"):
        metrics.score(np.ones(0), Predictive(np.ones(0), np.ones(0)))


def test_bits_per_spike_against_poisson_log_likelihoods():
    rng = np.random.default_rng(2)
    rates = rng.gamma(2.0, size=(6, 30, 4))
    counts = rng.poisson(rates).astype(float)
    null = np.broadcast_to(counts.mean((0, 1)), counts.shape)
    gain = stats.poisson.logpmf(counts, rates).sum() - stats.poisson.logpmf(counts, null).sum()
    np.testing.assert_allclose(metrics.bits_per_spike(rates, counts), gain / counts.sum() / np.log(2), rtol=1e-10)
    assert abs(metrics.bits_per_spike(null, counts)) < 1e-12


def test_bits_per_spike_leaves_missing_bins_out():
    rng = np.random.default_rng(2)
    rates, counts = rng.gamma(2.0, size=(50, 3)), rng.poisson(1.0, size=(50, 3)).astype(float)
    holes = counts.copy()
    holes[30:] = np.nan
    np.testing.assert_allclose(metrics.bits_per_spike(rates, holes), metrics.bits_per_spike(rates[:30], counts[:30]))
    with pytest.raises(NumericalError, match="no spike"):
        metrics.bits_per_spike(rates, np.zeros((50, 3)))
    with pytest.raises(NumericalError, match="not finite"):
        metrics.bits_per_spike(rates * np.nan, counts)
