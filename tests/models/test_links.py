"""Linear models carried over to log rates and log odds: the moments of the data are kept."""

import numpy as np
import pytest

from svae_cli.models.dynamics import Dynamics
from svae_cli.models.links import log_link, logit_link, signal_variance

RHO, CHANNELS = 0.9, 3
LOADINGS = np.array([[0.6], [-0.3], [0.05]])


@pytest.fixture(name="dynamics")
def make_dynamics():
    one = np.ones((1, 1))
    return Dynamics.from_moments(
        initial_mean=np.zeros(1),
        initial_cov=2.5 * one,
        transition=RHO * one,
        bias=np.zeros(1),
        input_matrix=np.zeros((1, 0)),
        noise_cov=2.5 * (1 - RHO**2) * one,
        dtype=np.dtype(np.float64),
    )


def test_signal_variance_is_that_of_the_stationary_chain(dynamics):
    np.testing.assert_allclose(signal_variance(dynamics, LOADINGS), 2.5 * LOADINGS[:, 0] ** 2, rtol=1e-4)


def test_rates_keep_mean_and_variance(dynamics):
    mean, std = np.array([0.05, 2.0, 11.0]), np.array([0.3, 1.5, 4.0])
    link = log_link(dynamics, LOADINGS, mean, std)
    np.testing.assert_allclose(np.exp(link.offset + link.spread / 2), mean, rtol=1e-6)
    asked = std**2 * signal_variance(dynamics, LOADINGS)
    np.testing.assert_allclose(mean**2 * np.expm1(link.spread), asked, rtol=1e-6)
    carried = LOADINGS * link.slope[:, None]
    np.testing.assert_allclose(signal_variance(dynamics, carried), link.spread, rtol=1e-4)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_odds_keep_mean_and_variance_up_to_a_limit(dynamics, share):
    mean = np.full(CHANNELS, share)
    std = np.sqrt(mean * (1 - mean))
    link = logit_link(dynamics, LOADINGS, mean, std)
    draws = np.random.default_rng(0).standard_normal(400_000)
    for d in range(CHANNELS):
        p = 1 / (1 + np.exp(-(link.offset[d] + np.sqrt(link.spread[d]) * draws)))
        assert p.mean() == pytest.approx(share, rel=0.01)
        if link.spread[d] < 8.9:
            assert p.var() == pytest.approx(signal_variance(dynamics, LOADINGS)[d] * std[d] ** 2, rel=0.02)
    assert link.spread[0] == pytest.approx(9.0, rel=1e-3)  # the linear model explains 90 %
    assert link.spread[2] < 8.9


def test_a_channel_without_events_or_without_loadings_gives_finite_numbers(dynamics):
    for link in (log_link, logit_link):
        found = link(dynamics, np.zeros((CHANNELS, 1)), np.zeros(CHANNELS), np.ones(CHANNELS))
        assert all(np.isfinite(a).all() for a in (found.slope, found.offset, found.spread))
        assert (found.spread > 0).all()
