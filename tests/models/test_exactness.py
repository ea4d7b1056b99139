"""The linear-Gaussian case has a closed answer: the dense joint Gaussian of states and observations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svae_cli.config import Settings
from svae_cli.inference import kl_divergence
from svae_cli.models.build import full_model, linear_model
from svae_cli.training.objective import hidden_log_density, log_evidence
from tests.oracles import dense_prior

SIZES = [(1, 1, 1), (7, 3, 2), (16, 2, 5)]  # steps, latent states, channels


def random_model(rng, dim, width, n_inputs=0, dtype=np.float64):
    root = rng.normal(size=(dim, dim))
    transition = 0.95 * np.linalg.qr(root)[0]
    noise = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    model = linear_model(
        transition=transition,
        noise_cov=noise @ noise.T + 0.1 * np.eye(dim),
        loadings=rng.normal(size=(width, dim)),
        offset=rng.normal(size=width),
        noise_variance=rng.gamma(2.0, 0.3, size=width) + 0.05,
        n_inputs=n_inputs,
        stable=False,
        dtype=np.dtype(dtype),
    )
    bias = jnp.asarray(rng.normal(size=dim), dtype)
    mean = jnp.asarray(rng.normal(size=dim), dtype)
    inputs = jnp.asarray(rng.normal(size=(dim, n_inputs)), dtype)
    return eqx.tree_at(
        lambda m: (m.dynamics.bias, m.dynamics.initial_mean, m.dynamics.input_matrix), model, (bias, mean, inputs)
    )


def joint_observation(model, steps, inputs=None):
    """Mean (T*D,) and covariance (T*D, T*D) of all observations, in float64."""
    prior = model.dynamics.prior(jnp.zeros((steps, 0)) if inputs is None else inputs)
    mean, cov = dense_prior(
        *(np.asarray(a, np.float64) for a in (prior.initial_mean, prior.initial_cov, prior.dynamics)),
        np.asarray(prior.bias, np.float64),
        np.asarray(prior.noise_cov, np.float64),
        steps,
    )
    lift = np.kron(np.eye(steps), np.asarray(model.decoder.loadings, np.float64))
    noise = np.tile(np.exp(np.asarray(model.likelihood.log_variance, np.float64)), steps)
    offset = np.tile(np.asarray(model.decoder.offset, np.float64), steps)
    return lift @ mean + offset, lift @ cov @ lift.T + np.diag(noise)


def gaussian_log_density(value, mean, cov):
    residual = value - mean
    return -0.5 * (
        len(value) * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1] + residual @ np.linalg.solve(cov, residual)
    )


def random_window(rng, steps, width, share):
    values = rng.normal(size=(steps, width))
    return values, rng.random((steps, width)) < share


bound = jax.jit(lambda m, v, o, u: m.elbo(v, o, jnp.zeros_like(o), u, jr.key(0)))
evidence = jax.jit(log_evidence)


@pytest.mark.parametrize("steps_dim_width", SIZES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.3, 0.8, 1.0]))
def test_bound_is_the_marginal_likelihood_with_any_gaps(steps_dim_width, seed, share):
    steps, dim, width = steps_dim_width
    rng = np.random.default_rng(seed)
    model = random_model(rng, dim, width)
    values, observed = random_window(rng, steps, width, share)
    mean, cov = joint_observation(model, steps)
    seen = observed.ravel()
    exact = gaussian_log_density(values.ravel()[seen], mean[seen], cov[np.ix_(seen, seen)])
    inputs = np.zeros((steps, 0))
    terms = bound(model, np.where(observed, values, 7.0), observed, inputs)
    np.testing.assert_allclose(terms.log_likelihood - terms.kl, exact, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(evidence(model, values, observed, inputs), exact, rtol=1e-8, atol=1e-8)
    assert int(terms.count) == seen.sum()
    assert terms.kl >= -1e-9


@pytest.mark.parametrize("seed", range(5))
def test_float32_bound_is_within_a_ten_thousandth(seed):
    rng = np.random.default_rng(seed)
    model = random_model(rng, 3, 4, dtype=np.float32)
    values, observed = random_window(rng, 30, 4, 0.7)
    mean, cov = joint_observation(model, 30)
    seen = observed.ravel()
    exact = gaussian_log_density(values.astype(np.float32).ravel()[seen], mean[seen], cov[np.ix_(seen, seen)])
    terms = bound(model, values.astype(np.float32), observed, np.zeros((30, 0), np.float32))
    np.testing.assert_allclose(terms.log_likelihood - terms.kl, exact, rtol=1e-4)


def test_known_inputs_move_the_states():
    rng = np.random.default_rng(3)
    model = random_model(rng, 2, 3, n_inputs=2)
    values, observed = random_window(rng, 9, 3, 0.8)
    inputs = rng.normal(size=(9, 2))
    mean, cov = joint_observation(model, 9, jnp.asarray(inputs))
    seen = observed.ravel()
    exact = gaussian_log_density(values.ravel()[seen], mean[seen], cov[np.ix_(seen, seen)])
    np.testing.assert_allclose(evidence(model, values, observed, inputs), exact, rtol=1e-9)


def test_predictive_density_of_hidden_values_is_that_of_the_conditional():
    rng = np.random.default_rng(4)
    model = random_model(rng, 3, 2)
    values, observed = random_window(rng, 8, 2, 0.9)
    hidden = observed & (rng.random(observed.shape) < 0.4)
    mean, cov = joint_observation(model, 8)
    seen, target = (observed & ~hidden).ravel(), hidden.ravel()
    gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[np.ix_(seen, target)]).T
    centre = mean[target] + gain @ (values.ravel()[seen] - mean[seen])
    spread = np.diag(cov[np.ix_(target, target)] - gain @ cov[np.ix_(seen, target)])
    exact = np.sum(-0.5 * (np.log(2 * np.pi * spread) + (values.ravel()[target] - centre) ** 2 / spread))
    found = jax.jit(hidden_log_density)(model, values, observed, np.zeros((8, 0)), hidden, jr.key(0))
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_masked_bound_is_below_the_evidence():
    rng = np.random.default_rng(5)
    model = random_model(rng, 3, 2)
    values, observed = random_window(rng, 8, 2, 0.9)
    hidden = rng.random(observed.shape) < 0.4
    terms = jax.jit(lambda m: m.elbo(values, observed, hidden, np.zeros((8, 0)), jr.key(0)))(model)
    assert terms.log_likelihood - terms.kl < evidence(model, values, observed, np.zeros((8, 0)))


def test_missing_values_have_no_influence_and_no_gradient():
    rng = np.random.default_rng(6)
    asked = Settings(recognition="mlp", decoder="mlp", likelihood="gaussian", hidden=(5,))
    model = full_model(random_model(rng, 3, 2), asked, mean=np.zeros(2), std=np.ones(2))
    model = jax.tree.map(lambda p: p + 0.1 if np.issubdtype(p.dtype, np.floating) else p, model)
    values, observed = random_window(rng, 8, 2, 0.5)
    inputs = np.zeros((8, 0))

    def total(v):
        terms = model.elbo(v, observed, jnp.zeros_like(observed), inputs, jr.key(0))
        return terms.log_likelihood - terms.kl

    total = jax.jit(jax.value_and_grad(total))
    value, gradient = total(jnp.asarray(values))
    assert np.all(np.isfinite(gradient))
    assert np.all(np.asarray(gradient)[~observed] == 0)
    assert np.all(np.asarray(gradient)[observed] != 0)
    assert value == total(jnp.asarray(np.where(observed, values, -1e6)))[0]


def test_nothing_observed_gives_the_prior_back():
    rng = np.random.default_rng(7)
    model = random_model(rng, 3, 2)
    values, inputs = np.zeros((6, 2)), np.zeros((6, 0))
    nothing = np.zeros((6, 2), bool)
    posterior = jax.jit(lambda m: m.posterior(values, nothing, inputs))(model)
    potentials = model.potentials(jnp.asarray(values), jnp.asarray(nothing))
    mean, cov = dense_prior(*jax.tree.leaves(model.dynamics.prior(inputs)), 6)
    np.testing.assert_allclose(posterior.means.ravel(), mean, atol=1e-12)
    blocks = np.stack([cov[3 * t : 3 * t + 3, 3 * t : 3 * t + 3] for t in range(6)])
    np.testing.assert_allclose(posterior.covariances, blocks, atol=1e-12)
    np.testing.assert_allclose(kl_divergence(posterior, potentials), 0.0, atol=1e-12)


def test_full_model_begins_exactly_as_its_linear_start():
    rng = np.random.default_rng(8)
    linear = random_model(rng, 3, 4)
    asked = Settings(recognition="mlp", decoder="mlp", likelihood="gaussian", hidden=(6, 5))
    full = full_model(linear, asked, mean=np.zeros(4), std=np.ones(4))
    values, observed = random_window(rng, 10, 4, 0.7)
    inputs = np.zeros((10, 0))
    moments = jax.jit(
        lambda model: model.likelihood.predictive_moments(
            *model.predictor_moments(model.posterior(values, observed, inputs))
        )
    )
    ours, theirs = moments(full), moments(linear)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
