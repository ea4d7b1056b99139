"""How far apart ways to go on are: uncertainty that no single one of them knows of.

Where a model and other ways to go on part, all but one of them are wrong, by more than the model's variance knows of.
Taking each way's weight for the probability that it is the right one, the mean square of what is to come about the
answer is that variance and the mean square of the ways about it (Draper, "Assessment and propagation of model
uncertainty", Journal of the Royal Statistical Society B, 1995). Records that go on otherwise than they began are
farther from it than that.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from svae_cli.prediction.self_check import PRIOR, Errors

_FARTHER = 1.5  # times (docs/trials.md)
_RIGHT = 1e-5  # mean squared errors over variances, and relative to the model's; below is rounding


def weights(
    errors: Errors,
    spoke: Bool[Array, "say channel"],
    shares: Float[Array, "say channel"],
    passes: Float[Array, " channel"],
    again: int | None = None,
) -> Float[Array, "say channel"]:
    """How likely each say is to be right; the rest of 1 is the model's.

    The shares, as far as there were passes to find them; to these are added ``PRIOR`` passes in which any way could be
    right, the more the smaller its errors by itself: as the inverse of their mean square (Bates and Granger, 1969). The
    last say, of the last value close by, is no way of its own: it takes of the model's weight what is left of it.

    Args:
        errors: by pass, over the whole season.
        spoke: says that ever added anything.
        shares: of each say in the answer; all but the last are 1 in all at most.
        passes: independent ones.
        again: the say that is the way of the first one again: of the two the better one is a way; None without.
    """
    rest = jnp.maximum(1 - jnp.sum(shares[:-1], axis=0, keepdims=True), 0.0)
    close = jnp.minimum(shares[-1:], rest)
    given = jnp.concatenate([shares[:-1], close, rest - close])
    often = jnp.sum(errors.counts > 0, axis=0)
    by_way = errors.own[:, None] - 2 * errors.with_ways + jnp.einsum("nwwc->nwc", errors.of_ways)
    alone = jnp.concatenate([by_way, errors.own[:, None]], axis=1) / jnp.maximum(errors.counts, 1)[:, None]
    mean = jnp.sum(alone, axis=0) / jnp.maximum(often, 1)
    if again is not None:
        better = mean[again] < mean[0]
        spoke = spoke.at[0].set(spoke[0] & ~better).at[again].set(spoke[again] & better)
    ways = jnp.concatenate([spoke.at[-1].set(False), jnp.ones_like(spoke[:1])])
    right = jnp.where(ways, 1 / jnp.maximum(mean, _RIGHT * (1 + mean[-1:])), 0.0)
    any_way = jnp.where(often > 0, right / jnp.sum(right, axis=0), given)
    return ((passes * given + PRIOR * any_way) / (passes + PRIOR))[:-1]


def apart(
    weight: Float[Array, "say channel"], shares: Float[Array, "say channel"], added: Float[Array, "say time channel"]
) -> Float[Array, "time channel"]:
    """What it adds to the variance of the answer that ways, the model among them, are away from it.

    Args:
        weight: of each say; the rest of 1 is the model's.
        shares: of each say in the answer.
        added: what each say adds to the model.
    """
    moved = jnp.einsum("wc,wtc->tc", shares, added)
    model = jnp.maximum(1 - jnp.sum(weight, axis=0), 0.0)
    return _FARTHER * (jnp.einsum("wc,wtc->tc", weight, (added - moved) ** 2) + model * moved**2)


def apart_in_all(
    weight: Float[Array, "say channel"],
    shares: Float[Array, "say channel"],
    of_ways: Float[Array, "pass say say *part channel"],
) -> Float[Array, "pass *part channel"]:
    """The same, summed: from sums of products of what two says add."""
    alone = jnp.einsum("wc,nww...c->n...c", weight, of_ways)
    both = jnp.einsum("wc,vc,nvw...c->n...c", weight, shares, of_ways)
    moved = jnp.einsum("vc,nvw...c,wc->n...c", shares, of_ways, shares)
    return _FARTHER * jnp.maximum(alone - 2 * both + moved, 0.0)
