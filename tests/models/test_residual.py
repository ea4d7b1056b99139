"""Residual chains against dense Gaussian algebra, and joined over pieces."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.models.residual import ResidualChains

STEPS = 12
PERSISTENCE, SHARE, NOISE = np.array([0.9, 0.4]), np.array([0.8, 0.3]), np.array([2.0, 0.5])


@pytest.fixture(name="case")
def make_case():
    rng = np.random.default_rng(0)
    chains = ResidualChains.of(jnp.asarray(PERSISTENCE), jnp.asarray(SHARE))
    return chains, rng.standard_normal((STEPS, 2)), rng.random((STEPS, 2)) < 0.6


def dense(d, residuals, observed):
    """Posterior moments of one channel's chain by conditioning its joint Gaussian."""
    lag = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS)))
    prior = SHARE[d] * NOISE[d] * PERSISTENCE[d] ** lag
    seen = np.flatnonzero(observed[:, d])
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + (1 - SHARE[d]) * NOISE[d] * np.eye(len(seen)))
    return gain @ residuals[seen, d], prior - gain @ prior[seen]


def test_smoothing_equals_dense_conditioning(case):
    chains, residuals, observed = case
    shift, certainty = chains.smooth(residuals, observed, jnp.log(NOISE))
    for d in range(2):
        mean, cov = dense(d, residuals, observed)
        np.testing.assert_allclose(shift[:, d], mean, atol=1e-10)
        np.testing.assert_allclose(certainty[:, d], SHARE[d] * NOISE[d] - np.diag(cov), atol=1e-10)


def test_samples_have_the_posteriors_moments(case):
    chains, residuals, observed = case
    noise = jr.normal(jr.key(0), (STEPS, 40_000, 2))
    drawn = np.asarray(chains.sample(noise, residuals, observed, jnp.log(NOISE)))
    for d in range(2):
        mean, cov = dense(d, residuals, observed)
        np.testing.assert_allclose(drawn[:, :, d].mean(axis=1), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(drawn[:, :, d]), cov, atol=0.04)


def test_nothing_observed_adds_nothing(case):
    chains, residuals, observed = case
    shift, certainty = chains.smooth(residuals, np.zeros_like(observed), jnp.log(NOISE))
    np.testing.assert_allclose(shift, 0, atol=1e-12)
    np.testing.assert_allclose(certainty, 0, atol=1e-12)


def test_what_is_known_is_never_more_than_the_noise(case):
    chains, residuals, observed = case
    _, certainty = chains.smooth(residuals, np.ones_like(observed), jnp.log(NOISE))
    assert np.all(np.asarray(certainty) > 0)
    assert np.all(np.asarray(certainty) < SHARE * NOISE)
