"""The comparison posteriors against dense Gaussian algebra, and the laws that all of them keep."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.inference import Potential, kl_divergence, smooth
from svae_cli.models.build import full_model, linear_model, with_potentials
from svae_cli.models.posteriors import Chain, ChainPosterior
from tests.oracles import dense_prior

CHAINS = ("rnn-mf", "rnn-ar-linear", "tcn")
FAMILIES = (*CHAINS, "rnn-ar")
STEPS, DIM, WIDTH, INPUTS = 6, 2, 3, 1


@eqx.filter_jit
def infer(model, values, observed, inputs):
    return model.infer(values, observed, inputs)


@eqx.filter_jit
def draw(posterior, key):
    return posterior.sample(key, 20_000)


def random_linear(rng):
    noise = rng.normal(size=(DIM, DIM))
    model = linear_model(
        transition=0.9 * np.linalg.qr(rng.normal(size=(DIM, DIM)))[0],
        noise_cov=noise @ noise.T + 0.2 * np.eye(DIM),
        loadings=rng.normal(size=(WIDTH, DIM)),
        offset=rng.normal(size=WIDTH),
        noise_variance=rng.gamma(2.0, 0.3, size=WIDTH) + 0.05,
        n_inputs=INPUTS,
        stable=False,
        dtype=np.dtype(np.float64),
    )
    found = jnp.asarray(rng.normal(size=(DIM, INPUTS))), jnp.asarray(rng.normal(size=DIM))
    return eqx.tree_at(lambda m: (m.dynamics.input_matrix, m.dynamics.bias), model, found)


def family(kind, seed=0, **changes):
    """A model whose networks are random throughout, also where they would start at zero."""
    rng = np.random.default_rng(seed)
    asked = Settings(posterior=kind, recognition="mlp", decoder="linear", likelihood="gaussian", hidden=(6, 8))
    model = full_model(random_linear(rng), asked.changed(**changes), mean=np.zeros(WIDTH), std=np.ones(WIDTH))
    stirred = jax.tree.map(
        lambda a: a + 0.3 * rng.normal(size=a.shape) if eqx.is_inexact_array(a) else a, model.recognition
    )
    return eqx.tree_at(lambda m: m.recognition, model, stirred)


def window(seed=1, share=0.7, steps=STEPS):
    rng = np.random.default_rng(seed)
    values, inputs = rng.normal(size=(steps, WIDTH)), rng.normal(size=(steps, INPUTS))
    observed = rng.random((steps, WIDTH)) < share
    observed[-1, 0] = True
    return values, observed, inputs


def dense_of(chain):
    """Mean and covariance of all states of a chain, flattened."""
    q = np.asarray(chain.factor) @ np.swapaxes(chain.factor, 1, 2)
    return dense_prior(
        np.asarray(chain.bias[0]), q[0], np.asarray(chain.dynamics[1:]), np.asarray(chain.bias[1:]), q[1:], STEPS
    )


def dense_of_prior(prior):
    return dense_prior(*(np.asarray(a) for a in jax.tree.leaves(prior)), STEPS)


def dense_kl(mean, cov, other_mean, other_cov):
    gain = np.linalg.solve(other_cov, cov)
    away = other_mean - mean
    return 0.5 * (np.trace(gain) - len(mean) + away @ np.linalg.solve(other_cov, away) - np.linalg.slogdet(gain)[1])


@pytest.mark.parametrize("kind", CHAINS)
def test_moments_and_divergence_are_those_of_the_dense_gaussian(kind):
    model = family(kind)
    values, observed, inputs = window()
    found = infer(model, values, observed, inputs)
    mean, cov = dense_of(found.posterior.chain)
    np.testing.assert_allclose(found.posterior.means.ravel(), mean, atol=1e-12)
    blocks = [cov[i : i + DIM, i : i + DIM] for i in range(0, STEPS * DIM, DIM)]
    np.testing.assert_allclose(found.posterior.covariances, blocks, atol=1e-12)
    exact = dense_kl(mean, cov, *dense_of_prior(model.dynamics.prior(inputs)))
    np.testing.assert_allclose(found.kl, exact, rtol=1e-9)
    assert found.kl > 0.1


def test_divergence_agrees_with_message_passing_on_its_own_posterior():
    """The smoother's posterior, written as a chain forward in time, has the divergence that the potentials give."""
    model = family("svae")
    rng = np.random.default_rng(3)
    prior = model.dynamics.prior(rng.normal(size=(STEPS, INPUTS)))
    potentials = Potential(rng.gamma(1.0, size=(STEPS, DIM)), rng.normal(size=(STEPS, DIM)))
    smoothed = smooth(prior, potentials)
    cov, cross = np.asarray(smoothed.covariances), np.asarray(smoothed.cross_covariances)
    dynamics = np.zeros_like(cov)
    dynamics[1:] = np.stack([np.linalg.solve(c, x).T for c, x in zip(cov[:-1], cross, strict=True)])
    before = np.concatenate([np.zeros((1, DIM, DIM)), cov[:-1]])
    factor = np.linalg.cholesky(cov - dynamics @ before @ np.swapaxes(dynamics, 1, 2))
    means = np.asarray(smoothed.means)
    bias = means - np.einsum("tij,tj->ti", dynamics, np.concatenate([np.zeros((1, DIM)), means[:-1]]))
    chain = ChainPosterior.of(Chain(*map(jnp.asarray, (dynamics, bias, factor))))
    np.testing.assert_allclose(chain.kl_from(prior), kl_divergence(smoothed, potentials), rtol=1e-9)


@pytest.mark.parametrize("kind", ["rnn-ar-linear", "rnn-ar"])
def test_sampled_moments_are_the_stated_ones(kind):
    model = family(kind)
    posterior = infer(model, *window()).posterior
    states = np.asarray(draw(posterior, jr.key(5)))
    deviation = np.sqrt(np.diagonal(posterior.covariances, axis1=1, axis2=2))
    # The recurrent family's own moments are those of 64 paths.
    few = 64 if kind == "rnn-ar" else len(states)
    assert np.all(np.abs(states.mean(0) - posterior.means) < 6 * deviation / np.sqrt(few))
    spread = np.einsum("sti,stj->tij", states - states.mean(0), states - states.mean(0)) / len(states)
    allowed = 6 * deviation[:, :, None] * deviation[:, None, :] * np.sqrt(2 / few)
    assert np.all(np.abs(spread - posterior.covariances) < allowed)


def test_divergence_of_the_recurrent_family_is_the_expected_log_ratio():
    """Given its paths, against densities written out in NumPy."""
    model = family("rnn-ar")
    values, observed, inputs = window()
    prior = model.dynamics.prior(inputs)
    found = model.recognition.posterior(prior, values, observed, inputs, key=jr.key(2), paths=4000)
    drawn = found.drawer.draw(jr.key(3), 4000)
    reference = found.drawer.reference

    def log_density(states, means, factors):
        white = np.linalg.solve(factors, (states - means)[..., None])[..., 0]
        log_det = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)
        return (-0.5 * white**2).sum(-1) - log_det - DIM / 2 * np.log(2 * np.pi)

    states = np.asarray(drawn.states)
    before = np.concatenate([np.zeros((1, *states.shape[1:])), states[:-1]])
    expected = np.einsum("tij,tnj->tni", reference.dynamics, before) + np.asarray(reference.bias)[:, None]
    ratio = log_density(states, np.asarray(drawn.means), np.asarray(drawn.factors)) - log_density(
        states, expected, np.broadcast_to(np.asarray(reference.factor)[:, None], drawn.factors.shape)
    )
    total = ratio.sum(0)
    error = 6 * total.std() / np.sqrt(len(total))
    assert error < 0.2 * abs(total.mean())
    assert abs(found.kl - total.mean()) < 2 * error


@pytest.mark.parametrize("kind", FAMILIES)
def test_beyond_the_last_observation_the_prior_goes_on(kind):
    model = family(kind)
    values, observed, inputs = window()
    observed[3:] = False
    observed[2] = True
    posterior = infer(model, values, observed, inputs).posterior
    prior = model.dynamics.prior(inputs)
    mean, cov = posterior.means[2], posterior.covariances[2]
    bias = np.broadcast_to(prior.bias, (STEPS - 1, DIM))
    for t in range(3, STEPS):
        mean = prior.dynamics @ mean + bias[t - 1]
        cov = prior.dynamics @ cov @ prior.dynamics.T + prior.noise_cov
        if kind in CHAINS:
            np.testing.assert_allclose(posterior.means[t], mean, atol=1e-12)
            np.testing.assert_allclose(posterior.covariances[t], cov, atol=1e-12)
        else:
            assert np.all(np.abs(posterior.means[t] - mean) < 6 * np.sqrt(np.diag(cov) / 64))


@pytest.mark.parametrize("kind", ["rnn-ar-linear", "rnn-ar"])
def test_nothing_observed_gives_the_prior_back(kind):
    model = family(kind)
    values, _, inputs = window()
    found = infer(model, values, np.zeros((STEPS, WIDTH), bool), inputs)
    np.testing.assert_allclose(found.kl, 0.0, atol=1e-12)
    if kind in CHAINS:
        mean, _ = dense_of_prior(model.dynamics.prior(inputs))
        np.testing.assert_allclose(found.posterior.means.ravel(), mean, atol=1e-12)


@pytest.mark.parametrize("kind", FAMILIES)
def test_padding_changes_nothing(kind):
    model = family(kind)
    values, observed, inputs = window()
    plain = infer(model, values, observed, inputs)
    longer = [np.concatenate([a, np.zeros((2, a.shape[1]), a.dtype)]) for a in (values, observed, inputs)]
    padded = infer(model, *longer)
    if kind in CHAINS:
        np.testing.assert_allclose(padded.posterior.means[:STEPS], plain.posterior.means, atol=1e-12)
        np.testing.assert_allclose(padded.kl, plain.kl, rtol=1e-10)
    else:  # other random numbers: the features that they are drawn with are the same
        features = padded.posterior.drawer.features[:STEPS]
        np.testing.assert_allclose(features, plain.posterior.drawer.features, atol=1e-12)


@pytest.mark.parametrize("kind", ["rnn-ar-linear", "rnn-ar", "tcn"])
def test_hidden_values_have_no_influence_and_every_parameter_learns(kind):
    model = family(kind)
    values, observed, inputs = window()
    hidden = np.zeros_like(observed)
    hidden[2] = True

    def bound(model, seen):
        terms = model.elbo(seen, observed, hidden, inputs, jr.key(0))
        return terms.log_likelihood - terms.kl

    @eqx.filter_jit
    def gradients(model, seen):
        by_model = eqx.filter_grad(bound)(model, seen)
        by_values = jax.grad(lambda s: model.infer(s, observed & ~hidden, inputs).kl)(seen)
        return by_model, by_values

    by_model, by_values = gradients(model, jnp.asarray(values))
    visible = observed & ~hidden
    assert np.all(np.asarray(by_values)[~visible] == 0)
    assert np.all(np.asarray(by_values)[visible] != 0)
    paths, _ = jax.tree_util.tree_flatten_with_path(by_model)
    for path, leaf in paths:
        assert np.all(np.isfinite(leaf)), path
        assert np.any(leaf != 0) or path[0].name == "optimism", path  # which follows from sizes alone


@pytest.mark.parametrize("kind", ["rnn-ar-linear", "rnn-ar"])
def test_bound_is_below_the_evidence(kind):
    model = family(kind)
    values, observed, inputs = window(share=1.0)
    nothing = np.zeros_like(observed)

    @eqx.filter_jit
    def bounds(model, keys):
        terms = jax.vmap(lambda key: model.elbo(values, observed, nothing, inputs, key))(keys)
        exact = with_potentials(model).elbo(values, observed, nothing, inputs, keys[0])
        return terms.log_likelihood - terms.kl, exact.log_likelihood - exact.kl

    found, evidence = bounds(model, jr.split(jr.key(0), 32))
    assert np.mean(found) < evidence


def test_filtered_states_do_not_look_ahead():
    model = family("rnn-ar-linear")
    values, observed, inputs = window()
    run = eqx.filter_jit(lambda *a: model.filtered(*a))
    found = run(values, observed, inputs)
    changed = np.where(np.arange(STEPS)[:, None] > 2, values + 5.0, values)
    again = run(changed, observed, inputs)
    np.testing.assert_array_equal(again.mean[:3], found.mean[:3])
    assert np.all(again.mean[3:] != found.mean[3:])
    last = infer(model, values, observed, inputs).posterior
    np.testing.assert_allclose(found.mean[-1], last.means[-1], atol=1e-12)


def test_with_potentials_is_the_exact_posterior_of_the_linear_model():
    rng = np.random.default_rng(0)
    linear = random_linear(rng)
    asked = Settings(posterior="rnn-mf", recognition="mlp", decoder="mlp", likelihood="gaussian", hidden=(6, 8))
    model = with_potentials(full_model(linear, asked, mean=np.zeros(WIDTH), std=np.ones(WIDTH)))
    ours, exact = infer(model, *window()), infer(linear, *window())
    np.testing.assert_allclose(ours.posterior.means, exact.posterior.means, atol=1e-12)
    np.testing.assert_allclose(ours.kl, exact.kl, atol=1e-12)
