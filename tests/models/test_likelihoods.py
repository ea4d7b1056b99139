"""Likelihoods against SciPy and against plain quadrature."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import integrate, stats

from svae_cli.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    StudentTLikelihood,
)
from svae_cli.models.quantiles import predictive_quantiles

VARIANCE, FREEDOM = 0.7, 5.0
CASES = {
    "gaussian": (GaussianLikelihood(jnp.log(jnp.array([VARIANCE]))), 0.4, lambda z: stats.norm(z, VARIANCE**0.5)),
    "poisson": (PoissonLikelihood(), 3.0, lambda z: stats.poisson(np.exp(z))),
    "bernoulli": (BernoulliLikelihood(), 1.0, lambda z: stats.bernoulli(1 / (1 + np.exp(-z)))),
    "student-t": (
        StudentTLikelihood(jnp.log(jnp.array([VARIANCE])), jnp.log(jnp.array([FREEDOM - 2]))),
        0.4,
        lambda z: stats.t(FREEDOM, z, VARIANCE**0.5),
    ),
}
MEAN, SPREAD = 0.3, 0.25


def density(frozen, value):
    return (
        frozen.logpmf(value)
        if hasattr(frozen, "logpmf") and frozen.dist.name in ("poisson", "bernoulli")
        else (frozen.logpdf(value))
    )


def over_predictor(function):
    weight = stats.norm(MEAN, SPREAD**0.5)
    return integrate.quad(lambda z: function(z) * weight.pdf(z), MEAN - 6, MEAN + 6, epsabs=1e-12)[0]


@pytest.mark.parametrize("name", CASES)
def test_log_prob_is_scipys(name):
    likelihood, value, reference = CASES[name]
    found = likelihood.log_prob(jnp.array([value]), jnp.array([MEAN]))
    np.testing.assert_allclose(found, density(reference(MEAN), value), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_expectation_over_a_gaussian_predictor(name):
    likelihood, value, reference = CASES[name]
    found = likelihood.expected_log_prob(jnp.array([value]), jnp.array([MEAN]), jnp.array([SPREAD]))
    np.testing.assert_allclose(found, over_predictor(lambda z: density(reference(z), value)), rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_predictive_density_and_moments(name):
    likelihood, value, reference = CASES[name]
    mean, variance = jnp.array([MEAN]), jnp.array([SPREAD])
    found = likelihood.predictive_log_prob(jnp.array([value]), mean, variance)
    np.testing.assert_allclose(found, np.log(over_predictor(lambda z: np.exp(density(reference(z), value)))), rtol=1e-6)
    first = over_predictor(lambda z: reference(z).mean())
    second = over_predictor(lambda z: reference(z).var() + reference(z).mean() ** 2)
    centre, spread = likelihood.predictive_moments(mean, variance)
    np.testing.assert_allclose(centre, first, rtol=1e-6)
    np.testing.assert_allclose(spread, second - first**2, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_stated_moments(name):
    likelihood, _, _ = CASES[name]
    predictor = jnp.full((200_000, 1), MEAN)
    drawn = np.asarray(likelihood.sample(jr.key(1), predictor))
    variance = float(likelihood.variance(jnp.array([MEAN]))[0])
    error = 6 * np.sqrt(variance / len(drawn))
    assert abs(drawn.mean() - float(likelihood.mean(jnp.array([MEAN]))[0])) < error
    assert drawn.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("name", ["poisson", "bernoulli"])
def test_anchor_is_the_second_order_expansion(name):
    likelihood, value, _ = CASES[name]
    usual = 0.2
    anchor = likelihood.anchor(jnp.ones((1, 1)), jnp.array([usual]))
    precision = jnp.exp(anchor.log_precision[0])
    pseudo = anchor.scale[0] * value - anchor.offset[0]

    def log_prob(z):
        return likelihood.log_prob(jnp.array([value]), jnp.array([usual]) + z)[0]

    np.testing.assert_allclose(jax.grad(log_prob)(0.0), precision * pseudo, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.grad(log_prob))(0.0), -precision, rtol=1e-6)


def test_count_quantiles_invert_the_mixtures_distribution_function():
    mean, variance = jnp.array([[0.3, -2.0]]), jnp.array([[0.25, 0.5]])
    levels = jnp.array([0.05, 0.5, 0.95])
    found = np.asarray(predictive_quantiles(PoissonLikelihood(), mean, variance, levels, jr.key(0)))[0]
    for d in range(2):
        weight = stats.norm(float(mean[0, d]), float(variance[0, d]) ** 0.5)
        for q, level in enumerate(levels):
            count = found[d, q]
            reached, before = (
                integrate.quad(lambda z, k, w: stats.poisson(np.exp(z)).cdf(k) * w.pdf(z), -8, 6, args=(k, weight))[0]
                for k in (count, count - 1)
            )
            assert before < level <= reached + 1e-6
