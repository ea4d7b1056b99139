"""How far apart ways to go on are: uncertainty that no single one of them knows of.

A model may be sure, and so may a straight line, each as much as it was right before. Where they part, one of them is
wrong, and that is beyond what either promises. Taking each way's weight for the probability that it is the right one,
the variance of what is to come is what they promise on average, and how far they are from the answer (the law of total
variance; Draper, "Assessment and propagation of model uncertainty", Journal of the Royal Statistical Society B, 1995).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from svae_cli.prediction.self_check import PRIOR, Errors

_RIGHT = 1e-6  # mean squared errors over variances; below, one way is as right as another


def weights(
    errors: Errors, shares: Float[Array, "say channel"], passes: Float[Array, " channel"]
) -> Float[Array, "say channel"]:
    """How likely each say is to be right; the rest of 1 is the model's.

    The shares, as far as there were passes to find them; to these are added ``PRIOR`` passes in which any way could be
    right, the more the smaller its errors by itself: as the inverse of their root mean square.

    Args:
        errors: by pass, over the whole season; the last say, of the last value close by, is no way of its own.
        shares: of each say in the answer.
        passes: independent ones.
    """
    often = jnp.sum(errors.counts > 0, axis=0)
    by_way = errors.own[:, None] - 2 * errors.with_ways + jnp.einsum("nwwc->nwc", errors.of_ways)
    alone = jnp.concatenate([by_way, errors.own[:, None]], axis=1) / jnp.maximum(errors.counts, 1)[:, None]
    mean = jnp.sum(alone, axis=0) / jnp.maximum(often, 1)
    spoke = jnp.einsum("nwwc->wc", errors.of_ways) > 0
    spoke = jnp.concatenate([spoke.at[-1].set(False), jnp.ones_like(spoke[:1])])
    any_way = _of_one(jnp.where(spoke, 1 / jnp.sqrt(jnp.maximum(mean, _RIGHT)), 0.0))
    given = _of_one(jnp.concatenate([shares, jnp.maximum(1 - jnp.sum(shares, axis=0, keepdims=True), 0.0)]))
    return ((passes * given + PRIOR * any_way) / (passes + PRIOR))[:-1]


def apart(
    weight: Float[Array, "say channel"], shares: Float[Array, "say channel"], added: Float[Array, "say time channel"]
) -> Float[Array, "time channel"]:
    """Mean squared distance of the ways, the model among them, from the answer.

    Args:
        weight: of each say; the rest of 1 is the model's.
        shares: of each say in the answer.
        added: what each say adds to the model.
    """
    moved = jnp.einsum("wc,wtc->tc", shares, added)
    model = jnp.maximum(1 - jnp.sum(weight, axis=0), 0.0)
    return jnp.einsum("wc,wtc->tc", weight, (added - moved) ** 2) + model * moved**2


def apart_in_all(
    weight: Float[Array, "say channel"],
    shares: Float[Array, "say channel"],
    of_ways: Float[Array, "pass say say *part channel"],
) -> Float[Array, "pass *part channel"]:
    """The same, summed: from sums of products of what two says add."""
    alone = jnp.einsum("wc,nww...c->n...c", weight, of_ways)
    both = jnp.einsum("wc,vc,nvw...c->n...c", weight, shares, of_ways)
    moved = jnp.einsum("vc,nvw...c,wc->n...c", shares, of_ways, shares)
    return jnp.maximum(alone - 2 * both + moved, 0.0)


def _of_one(parts: Float[Array, "way channel"]) -> Float[Array, "way channel"]:
    return parts / jnp.sum(parts, axis=0)
