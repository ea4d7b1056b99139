"""``smooth`` against the dense joint Gaussian."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.inference import LinearGaussianPrior, Potential, kl_divergence, smooth
from tests.inference.problems import make_problem
from tests.oracles import dense_posterior


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("varying", [True, False])
def test_every_moment_is_the_dense_joints(steps, diagonal, varying):
    prior, precision, shift = make_problem(steps, steps, 3, diagonal=diagonal, varying=varying)
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    potentials = Potential(jnp.asarray(precision), jnp.asarray(shift))
    posterior = jax.jit(smooth)(LinearGaussianPrior.from_moments(**prior), potentials)
    np.testing.assert_allclose(posterior.log_normalizer, expected.log_normalizer, rtol=1e-9)
    np.testing.assert_allclose(posterior.means, expected.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(posterior.covariances, expected.covariances, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(posterior.cross_covariances, expected.cross_covariances, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(posterior.entropy(), expected.entropy, rtol=1e-9)
    np.testing.assert_allclose(kl_divergence(posterior, potentials), expected.kl, rtol=1e-8, atol=1e-10)


def test_samples_have_the_dense_joints_moments():
    prior, precision, shift = make_problem(0, 4, 2, diagonal=False, varying=False)
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    posterior = smooth(LinearGaussianPrior.from_moments(**prior), Potential(jnp.asarray(precision), jnp.asarray(shift)))
    count = 20000
    paths = np.asarray(posterior.sample(jr.key(0), count)).reshape(count, -1)
    cov = expected.cov.reshape(8, 8)
    spread = np.sqrt(np.diag(cov) / count)
    assert np.all(np.abs(paths.mean(0) - expected.mean.reshape(-1)) < 6 * spread)
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / count)
    assert np.all(np.abs(np.cov(paths.T) - cov) < 6 * error)
