"""Gradients against automatic differentiation of the dense joint, in every order of ``vmap`` and ``grad``."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.inference import LinearGaussianPrior, Potential, kl_divergence, log_normalizer, sample, scans, smooth
from tests.inference.problems import make_problem


def _dense(arrays, precision, shift):
    """(log Z, means, joint covariance) as plain jax: x = lift @ noises + constant, conditioned at once."""
    m1, q1, a, b, q = arrays
    steps, k = shift.shape
    a, b, q = (jnp.broadcast_to(x, (steps - 1, *shape)) for x, shape in ((a, (k, k)), (b, (k,)), (q, (k, k))))
    mean, rows = [m1], [jnp.eye(k, k * steps)]
    for t in range(steps - 1):
        mean.append(a[t] @ mean[-1] + b[t])
        rows.append(a[t] @ rows[-1] + jnp.eye(k, k * steps, k * (t + 1)))
    lift, mean = jnp.concatenate(rows), jnp.concatenate(mean)
    noise = jax.scipy.linalg.block_diag(*((x + x.T) / 2 for x in (q1, *q)))
    cov = lift @ noise @ lift.T
    blocks = [jnp.diag(j) if j.ndim == 1 else (j + j.T) / 2 for j in precision]
    j, h = jax.scipy.linalg.block_diag(*blocks), shift.reshape(-1)
    gain = jnp.eye(steps * k) + cov @ j
    posterior = jnp.linalg.solve(gain, cov)
    residual = h - j @ mean
    log_z = residual @ posterior @ residual / 2 + h @ mean - mean @ j @ mean / 2 - jnp.linalg.slogdet(gain)[1] / 2
    return log_z, (mean + posterior @ residual).reshape(steps, k), posterior.reshape(steps, k, steps, k)


def _dense_score(arrays, precision, shift, weights):
    log_z, mean, cov = _dense(arrays, precision, shift)
    marginal = jnp.stack([cov[t, :, t] for t in range(len(mean))])
    cross = jnp.stack([cov[t, :, t + 1] for t in range(len(mean) - 1)])
    return _weighted(log_z, mean, marginal, cross, weights)


def _weighted(log_z, mean, marginal, cross, weights):
    w0, w1, w2 = weights
    return jnp.tanh(log_z / 50) + jnp.sum(w0 * mean) + jnp.sum(w1 * marginal) + jnp.sum(w2 * cross)


def _score(arrays, precision, shift, weights):
    p = smooth(LinearGaussianPrior(*arrays), Potential(precision, shift))
    return _weighted(p.log_normalizer, p.means, p.covariances, p.cross_covariances, weights)


def _case(seed, steps, k, *, diagonal, varying):
    prior, precision, shift = make_problem(seed, steps, k, diagonal=diagonal, varying=varying)
    rng = np.random.default_rng(seed)
    weights = tuple(rng.normal(size=s) for s in ((steps, k), (steps, k, k), (steps - 1, k, k)))
    return tuple(jnp.asarray(x) for x in prior.values()), jnp.asarray(precision), jnp.asarray(shift), weights


def _compare(got, expected, rtol=1e-8):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1.0, float(jnp.max(jnp.abs(b)))))


@pytest.mark.parametrize(
    ("steps", "k", "diagonal", "varying"),
    [(4, 3, True, True), (4, 3, False, False), (3, 9, False, True), (3, 18, True, False)],
)
def test_gradients_with_respect_to_everything_are_the_dense_joints(steps, k, diagonal, varying):
    arrays, precision, shift, weights = _case(0, steps, k, diagonal=diagonal, varying=varying)
    expected = jax.jit(jax.grad(_dense_score, argnums=(0, 1, 2)))(arrays, precision, shift, weights)
    got = jax.jit(jax.grad(_score, argnums=(0, 1, 2)))(arrays, precision, shift, weights)
    _compare(got, expected)


def _stack(cases):
    return jax.tree.map(lambda *x: jnp.stack(x), *cases)


@pytest.mark.parametrize("k", [2, 8])
def test_vmap_and_grad_commute(k):
    cases = [_case(s, 4, k, diagonal=False, varying=False) for s in range(3)]
    arrays, weights = cases[0][0], cases[0][3]
    precision, shift = _stack([c[1:3] for c in cases])

    def total(arrays, precision, shift):
        return sum(_dense_score(arrays, precision[i], shift[i], weights) for i in range(3))

    def batched(arrays, precision, shift):
        return jnp.sum(jax.vmap(_score, in_axes=(None, 0, 0, None))(arrays, precision, shift, weights))

    expected = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(arrays, precision, shift)
    _compare(jax.jit(jax.grad(batched, argnums=(0, 1, 2)))(arrays, precision, shift), expected)
    single = jax.vmap(jax.grad(_score, argnums=(0, 1, 2)), in_axes=(None, 0, 0, None))
    arrays_bar, *rest = jax.jit(single)(arrays, precision, shift, weights)
    _compare((jax.tree.map(lambda x: x.sum(0), arrays_bar), *rest), expected)


def test_a_precision_that_all_series_share_gives_the_same_numbers():
    cases = [_case(s, 4, 3, diagonal=False, varying=False) for s in range(3)]
    arrays, precision, _, weights = cases[0]
    shift = jnp.stack([c[2] for c in cases])

    def shared(arrays, precision, shift):
        return jnp.sum(jax.vmap(_score, in_axes=(None, None, 0, None))(arrays, precision, shift, weights))

    def apart(arrays, precision, shift):
        return sum(_score(arrays, precision, shift[i], weights) for i in range(3))

    got = jax.jit(jax.value_and_grad(shared, argnums=(0, 1, 2)))(arrays, precision, shift)
    _compare(got, jax.jit(jax.value_and_grad(apart, argnums=(0, 1, 2)))(arrays, precision, shift))


def test_nested_vmaps_over_priors_and_series():
    cases = [_case(s, 3, 2, diagonal=True, varying=False) for s in range(3)]
    priors, weights = _stack([c[0] for c in cases[:2]]), cases[0][3]
    precision, shift = _stack([c[1:3] for c in cases])

    def table(score):
        inner = jax.vmap(score, in_axes=(None, 0, 0, None))
        return jax.vmap(inner, in_axes=(0, None, None, None))(priors, precision, shift, weights)

    def nested(priors):
        inner = jax.vmap(_score, in_axes=(None, 0, 0, None))
        return jnp.sum(jax.vmap(inner, in_axes=(0, None, None, None))(priors, precision, shift, weights) ** 2)

    def dense(priors):
        inner = jax.vmap(_dense_score, in_axes=(None, 0, 0, None))
        return jnp.sum(jax.vmap(inner, in_axes=(0, None, None, None))(priors, precision, shift, weights) ** 2)

    _compare(jax.jit(table, static_argnums=0)(_score), jax.jit(table, static_argnums=0)(_dense_score))
    _compare(jax.jit(jax.grad(nested))(priors), jax.jit(jax.grad(dense))(priors))


@pytest.mark.parametrize("k", [2, 8])
def test_sample_paths_have_the_derivative_that_finite_differences_see(k):
    arrays, precision, shift, weights = _case(3, 4, k, diagonal=False, varying=True)
    key = jr.key(0)

    def score(scale):
        prior = LinearGaussianPrior(*(x * scale for x in arrays))
        return jnp.sum(weights[0][None] * sample(prior, Potential(precision * scale, shift * scale), key, 2) ** 2)

    got = jax.jit(jax.grad(score))(1.0)
    run, width = jax.jit(score), 1e-5
    np.testing.assert_allclose(got, (run(1 + width) - run(1 - width)) / (2 * width), rtol=1e-7)


def test_log_normalizer_gradients_are_the_expected_statistics():
    arrays, precision, shift, _ = _case(1, 5, 3, diagonal=False, varying=False)
    prior = LinearGaussianPrior(*arrays)
    p = smooth(prior, Potential(precision, shift))
    bar_j, bar_h = jax.grad(lambda j, h: log_normalizer(prior, Potential(j, h)), argnums=(0, 1))(precision, shift)
    _compare(bar_h, p.means)
    _compare(bar_j, -(p.covariances + p.means[:, :, None] * p.means[:, None, :]) / 2)


@pytest.mark.parametrize("much", [0.1, 1e-17], ids=["at once", "in parts"])
def test_second_derivatives_of_the_kl_divergence(much, monkeypatch):
    monkeypatch.setattr(scans, "_MUCH", much)
    arrays, precision, shift, _ = _case(2, 3, 1, diagonal=True, varying=False)
    prior = LinearGaussianPrior(*arrays)

    def kl(x):
        potentials = Potential(precision * x[0], shift * x[1])
        return kl_divergence(smooth(prior, potentials), potentials)

    def dense(x):
        log_z, mean, cov = _dense(arrays, precision * x[0], shift * x[1])
        second = jnp.stack([jnp.diag(cov[t, :, t]) for t in range(3)]) + mean**2
        return jnp.sum(shift * x[1] * mean) - jnp.sum(precision * x[0] * second) / 2 - log_z

    x = jnp.array([1.1, 0.9])
    _compare(jax.jit(jax.jacrev(jax.grad(kl)))(x), jax.jit(jax.hessian(dense))(x))
