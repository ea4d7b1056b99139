"""Likelihoods against SciPy and against plain quadrature."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, optimize, stats

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


@pytest.mark.parametrize(
    ("value", "offset", "spread"), [(0, -3.0, 1.0), (4, -3.0, 1.0), (2, 0.5, 1e-4), (900, 1.0, 5.0)]
)
def test_count_anchor_expands_the_log_probability_at_its_most_probable_predictor(value, offset, spread):
    likelihood, values = PoissonLikelihood(), jnp.array([[float(value)]])
    anchor = likelihood.anchor(values, jnp.array([offset]), jnp.array([spread]))
    precision, pseudo = float(jnp.exp(anchor.log_precision[0, 0])), float(anchor.pseudo[0, 0])

    def negative_posterior(z):
        return np.exp(z) - value * z + (z - offset) ** 2 / (2 * spread)

    best = optimize.minimize_scalar(negative_posterior, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}).x

    def log_prob(z):
        return likelihood.log_prob(values[0], jnp.array([z]))[0]

    np.testing.assert_allclose(precision, np.exp(best), rtol=1e-4)
    np.testing.assert_allclose(-jax.grad(jax.grad(log_prob))(best), precision, rtol=1e-4)
    np.testing.assert_allclose(jax.grad(log_prob)(best), precision * (pseudo - (best - offset)), rtol=1e-3, atol=1e-4)


def test_derivatives_of_the_count_anchor_equal_finite_differences():
    def pseudo(offset, spread):
        anchor = PoissonLikelihood().anchor(jnp.array([[3.0]]), offset[None], spread[None])
        return anchor.pseudo[0, 0] + 2 * anchor.log_precision[0, 0]

    check_grads(pseudo, (jnp.array(-1.3), jnp.array(0.7)), order=1, modes=["rev"], rtol=1e-6)


def test_binary_anchor_is_a_bound_that_touches():
    likelihood, offset, spread = BernoulliLikelihood(), 0.4, 1.7
    anchor = likelihood.anchor(jnp.array([[1.0]]), jnp.array([offset]), jnp.array([spread]))
    precision, pseudo = float(jnp.exp(anchor.log_precision[0, 0])), float(anchor.pseudo[0, 0]) + offset
    z = np.linspace(-6, 6, 1201)
    gap = np.asarray(likelihood.log_prob(jnp.ones_like(z), jnp.asarray(z))) + 0.5 * precision * (z - pseudo) ** 2
    touching = np.sqrt(offset**2 + spread)
    assert abs(abs(z[np.argmin(gap)]) - touching) < 0.02
    np.testing.assert_allclose(np.interp([-touching, touching], z, gap), gap.min(), atol=1e-4)


def test_count_quantiles_invert_the_mixtures_distribution_function():
    mean, variance = jnp.array([[0.3, -2.0]]), jnp.array([[0.25, 0.5]])
    levels = jnp.array([0.05, 0.5, 0.95])
    found = np.asarray(predictive_quantiles(PoissonLikelihood(), mean, variance, levels))[0]
    for d in range(2):
        weight = stats.norm(float(mean[0, d]), float(variance[0, d]) ** 0.5)
        for q, level in enumerate(levels):
            count = found[d, q]
            reached, before = (
                integrate.quad(lambda z, k, w: stats.poisson(np.exp(z)).cdf(k) * w.pdf(z), -8, 6, args=(k, weight))[0]
                for k in (count, count - 1)
            )
            assert before < level <= reached + 1e-6


def test_quantiles_of_counts_beyond_4096_are_normal_and_join_on():
    mean, variance = jnp.log(jnp.array([[3900.0, 4300.0, 50_000.0]])), jnp.full((1, 3), 1e-8)
    levels = jnp.array([0.05, 0.5, 0.95])
    found = np.asarray(predictive_quantiles(PoissonLikelihood(), mean, variance, levels))[0]
    expected = stats.poisson(np.array([[3900.0], [4300.0], [50_000.0]])).ppf(np.asarray(levels)[None])
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert np.all(np.diff(found, axis=1) > 0)


@pytest.mark.parametrize("freedom", [2.2, 5.0, 60.0, 3000.0])
def test_heavy_tailed_quantiles_invert_the_distribution_function_of_predictor_and_noise(freedom):
    scale, variances = 0.7, np.array([0.0, 1e-3, 0.4, 2.0, 300.0])
    likelihood = StudentTLikelihood(jnp.full(5, 2 * np.log(scale)), jnp.full(5, np.log(freedom - 2)))
    levels = np.array([0.001, 0.05, 0.3, 0.5, 0.9, 0.999])
    mean = jnp.arange(5.0)[None]
    found = np.asarray(predictive_quantiles(likelihood, mean, jnp.asarray(variances)[None], jnp.asarray(levels)))[0]
    nodes = np.linspace(-9, 9, 20_001)
    weights = stats.norm.pdf(nodes)
    for d, variance in enumerate(variances):
        away = (found[d] - d)[:, None] - np.sqrt(variance) * nodes
        reached = stats.t(freedom).cdf(away / scale) @ weights / weights.sum()
        assert np.all(np.abs(reached - levels) < 0.01 * np.minimum(levels, 1 - levels))
