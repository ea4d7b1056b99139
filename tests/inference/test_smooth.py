"""``smooth`` against the dense joint Gaussian."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.inference import LinearGaussianPrior, Potential, kl_divergence, smooth
from tests.oracles import dense_posterior

jax.config.update("jax_enable_x64", True)  # noqa: FBT003


def _problem(seed, steps, k, *, diagonal, varying):
    rng = np.random.default_rng(seed)
    lead = (steps - 1,) if varying else ()

    def spd(*shape):
        root = rng.normal(size=(*shape, k, k)) / np.sqrt(k)
        return root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(k)

    prior = {
        "initial_mean": rng.normal(size=k),
        "initial_cov": spd(),
        "dynamics": rng.normal(size=(*lead, k, k)) / np.sqrt(k),
        "bias": rng.normal(size=(*lead, k)),
        "noise_cov": spd(*lead),
    }
    precision = rng.gamma(1.0, size=(steps, k)) if diagonal else spd(steps) - 0.1 * np.eye(k)
    seen = rng.random(steps) < 0.7
    precision = precision * seen.reshape(-1, *[1] * (precision.ndim - 1))
    return prior, precision, rng.normal(size=(steps, k)) * seen[:, None]


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("varying", [True, False])
def test_every_moment_is_the_dense_joints(steps, diagonal, varying):
    prior, precision, shift = _problem(steps, steps, 3, diagonal=diagonal, varying=varying)
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
    prior, precision, shift = _problem(0, 4, 2, diagonal=False, varying=False)
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    posterior = smooth(LinearGaussianPrior.from_moments(**prior), Potential(jnp.asarray(precision), jnp.asarray(shift)))
    count = 20000
    paths = np.asarray(posterior.sample(jr.key(0), count)).reshape(count, -1)
    cov = expected.cov.reshape(8, 8)
    spread = np.sqrt(np.diag(cov) / count)
    assert np.all(np.abs(paths.mean(0) - expected.mean.reshape(-1)) < 6 * spread)
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / count)
    assert np.all(np.abs(np.cov(paths.T) - cov) < 6 * error)
