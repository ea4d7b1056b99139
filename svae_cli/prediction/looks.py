"""All looks at a series in one loop: for glitches, for the check of the answers, and for the answers themselves.

Each look asks for a posterior, given other values. In one loop it is compiled once, not once for each of the three.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from svae_cli.models.svae import SVAE
from svae_cli.prediction.glitches import Doubts
from svae_cli.prediction.self_check import LOOKS, PASSES, Conclusion, Moments, Passes, predicted

_Before = tuple[Doubts, Bool[Array, "time channel"], Moments]  # the last of the predictor


def looked_at(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    passes: Passes[Conclusion],
) -> tuple[Bool[Array, "time channel"], Conclusion, Moments]:
    """Values without glitches; the check, given these; posterior moments of the predictor, given all of these.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count.
        inputs: known inputs.
        passes: of the check.
    """

    def look(before: _Before, number: Array) -> tuple[_Before, object]:
        doubts, known, _ = before
        early, place = number < LOOKS, number - LOOKS
        seen = jnp.where(early, doubts.seen(observed, number), passes.seen(known, place))
        predictor, moments = predicted(model, jnp.where(early, doubts.values, values), seen, inputs)
        doubts = jax.lax.cond(early, lambda: doubts.after(observed & ~seen, moments), lambda: doubts)
        known = jax.lax.cond(number == LOOKS - 1, lambda: doubts.cleared(observed), lambda: known)
        return (doubts, known, predictor), passes.judged(known, place, seen, moments)

    first = Doubts.none(values), observed, (jnp.zeros_like(values), jnp.zeros_like(values))
    (_, known, predictor), found = jax.lax.scan(look, first, jnp.arange(LOOKS + PASSES + 1))
    return known, passes.concluded(known, jax.tree.map(lambda a: a[LOOKS:], found)), predictor
