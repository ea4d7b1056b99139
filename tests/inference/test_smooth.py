"""``smooth`` against the dense joint Gaussian."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.inference import LinearGaussianPrior, Potential, kl_divergence, log_normalizer, smooth
from tests.inference.problems import make_problem
from tests.oracles import dense_posterior


@pytest.mark.usefixtures("compiled_as_for_users")
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


def _score(arrays, precision, shift, method):
    """One number that hangs on everything a posterior gives."""
    p = smooth(LinearGaussianPrior(*arrays), Potential(precision, shift), method=method)
    parts = p.means, p.covariances, p.cross_covariances, p.filtered.mean, p.sample(jr.key(0), 2)
    return p.log_normalizer / 10 + sum(jnp.sum(jnp.sin(part)) for part in parts)


@pytest.mark.parametrize(
    ("k", "diagonal", "varying"),
    [
        (3, True, False),
        pytest.param(3, False, True, marks=pytest.mark.slow),
        pytest.param(13, False, False, marks=pytest.mark.slow),
    ],
)
def test_chunks_of_time_give_the_same_numbers_and_gradients(k, diagonal, varying):
    prior, precision, shift = make_problem(0, 33, k, diagonal=diagonal, varying=varying)
    args = tuple(jnp.asarray(x) for x in prior.values()), jnp.asarray(precision), jnp.asarray(shift)
    run = jax.jit(jax.value_and_grad(_score, argnums=(0, 1, 2)), static_argnums=3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
        run(*args, "parallel"),
        run(*args, "sequential"),
    )


@pytest.mark.parametrize("series", [3, 17])
def test_a_batch_is_its_series_one_by_one(series):
    problems = [make_problem(s, 33, 2, diagonal=False, varying=False) for s in range(series)]
    prior = LinearGaussianPrior.from_moments(**problems[0][0])
    potentials = Potential(*(jnp.stack([p[i] for p in problems]) for i in (1, 2)))
    batch = jax.jit(jax.vmap(smooth, in_axes=(None, 0)))(prior, potentials)
    single = jax.jit(lambda p: smooth(prior, p, method="sequential"))
    for i in range(series):
        one = single(jax.tree.map(lambda x, i=i: x[i], potentials))
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-10)


def test_zero_potentials_give_the_prior_and_padding_changes_nothing():
    prior, precision, shift = make_problem(5, 6, 3, diagonal=False, varying=False)
    model = LinearGaussianPrior.from_moments(**prior)
    zero = Potential(jnp.zeros((6, 3, 3)), jnp.zeros((6, 3)))
    nothing = smooth(model, zero)
    np.testing.assert_allclose(nothing.log_normalizer, 0, atol=1e-12)
    np.testing.assert_allclose(kl_divergence(nothing, zero), 0, atol=1e-12)
    short = smooth(model, Potential(jnp.asarray(precision), jnp.asarray(shift)))
    padded = Potential(jnp.pad(precision, ((0, 5), (0, 0), (0, 0))), jnp.pad(shift, ((0, 5), (0, 0))))
    longer = smooth(model, padded)
    np.testing.assert_allclose(longer.means[:6], short.means, atol=1e-12)
    np.testing.assert_allclose(longer.covariances[:6], short.covariances, atol=1e-12)
    np.testing.assert_allclose(log_normalizer(model, padded), short.log_normalizer, atol=1e-12)
