"""The kernel multiplies matrices in full precision whatever the default is, also in gradients taken elsewhere."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from problems import make_problem

from svae_cli.inference import LinearGaussianPrior, Potential, sample, smooth

STATES = 17  # enough for matrices to be multiplied rather than added up lane by lane


@pytest.mark.parametrize("method", ["sequential", "parallel"])
def test_products_keep_all_bits_of_their_factors(method):
    moments, precision, shift = make_problem(0, 40, STATES, diagonal=False, varying=False)

    def score(moments, precision, shift):
        potentials = Potential(precision, shift)
        posterior = smooth(LinearGaussianPrior.from_moments(**moments), potentials, method=method)
        paths = sample(LinearGaussianPrior.from_moments(**moments), potentials, jr.key(0), 2, method=method)
        crossed = jnp.sum(posterior.cross_covariances)
        return (
            posterior.log_normalizer
            + jnp.sum(posterior.means)
            + jnp.sum(posterior.covariances)
            + crossed
            + jnp.sum(paths)
        )

    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (moments, precision, shift))
    program = jax.jit(jax.grad(score, argnums=(0, 1, 2))).lower(*single).as_text()
    products = re.findall(r"stablehlo\.dot.*", program)
    assert len(products) > 10
    assert [p for p in products if "precision = [HIGHEST, HIGHEST]" not in p] == []
