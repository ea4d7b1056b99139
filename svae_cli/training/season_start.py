"""The season memory to start from: regression on the same phase of other cycles, then trust by a grid."""

from functools import partial
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.data.gaps import hide
from svae_cli.data.windows import Batch
from svae_cli.models.season import Remembered, SeasonMemory
from svae_cli.models.svae import SVAE, gaussian_noise
from svae_cli.traced import kept

_DECAY = (0.3, 0.5, 0.7)  # of the weight from one cycle to the next, tried
_FEW = 0.5  # of a nearest cycle: so much seen doubles the variance
_DOUBT = 0.5  # cycles
_RIDGE = 1e-3
_TRUST = (0.25, 0.5, 1.0, 2.0, 4.0, 16.0)  # factors of the variance; the last all but forgets
_GAIN = (0.7, 1.0, 1.4, 2.0)
_AS_IF = 200  # hidden values that the average of all channels counts like
SEASON_WINDOWS = 48
"""Windows that trust is measured on, at most."""

_SHARES = (0.02, 0.98)
_LEAST_VARIANCE = 1e-3


def season_of(windows: Batch, *, period: int, within: int, seed: int) -> SeasonMemory:
    """The memory of the smallest error by itself: least squares of hidden values on what other cycles say of them.

    Args:
        windows: of training data in standardised units, with what lies around them as far as the memory reaches.
        period: steps of a cycle.
        within: steps of a shorter one whose deviations from that are remembered; 0 if there is none.
        seed: of what is hidden of them.
    """
    observed = ~np.isnan(windows.around)
    values = np.where(observed, windows.around, 0.0).astype(windows.values.dtype)
    margin = (windows.around.shape[1] - windows.values.shape[1]) // 2
    hidden = np.pad(_hidden(windows, seed), ((0, 0), (margin, margin), (0, 0)))
    memory = _of_least_error(values, observed, hidden, period)
    if not within:
        return memory
    said, foreseen = map(np.asarray, _estimates(memory, jnp.asarray(values), jnp.asarray(observed & ~hidden)))
    deviations = np.where(observed, values - said, 0.0).astype(values.dtype)
    return memory.with_within(_of_least_error(deviations, observed & foreseen, hidden, within))


def _of_least_error(values: np.ndarray, observed: np.ndarray, hidden: np.ndarray, period: int) -> SeasonMemory:
    found = [_regression(values, observed, hidden, decay, period) for decay in _DECAY]
    return min(found, key=lambda memory: float(jnp.mean(memory.log_variance)))


def season_start(linear: SVAE, memory: SeasonMemory, windows: Batch, *, seed: int) -> SeasonMemory:
    """The same memory, trusted as much as goes best with a linear-Gaussian model.

    A channel's trust counts with what it says itself and a little with the average of all, so that few data do not
    decide by chance.

    Args:
        linear: the linear-Gaussian model, in standardised units, with its residual chains if it has any.
        memory: of the same units.
        windows: training windows in the same units.
        seed: of what is hidden of them.
    """
    arrays = tuple(map(jnp.asarray, (*windows.arrays, _hidden(windows, seed))))
    alone = _trusted(linear, memory.with_within(None), arrays)
    return alone if memory.within is None else _trusted(linear, alone.with_within(memory.within), arrays)


def _trusted(linear: SVAE, memory: SeasonMemory, arrays: tuple[Array, ...]) -> SeasonMemory:
    """The best of a grid, of the shortest cycle's trust."""
    observed, hidden = arrays[1], arrays[-1]
    grid = np.log(np.array(list(product(_TRUST, _GAIN))))
    scores = np.asarray(_scores(linear, memory, arrays, jnp.asarray(grid, arrays[0].dtype)), np.float64)
    pooled = scores.sum(axis=1, keepdims=True) / max(1, int(jnp.sum(hidden & observed)))
    return _trusting(memory, jnp.asarray(grid[np.argmax(scores + _AS_IF * pooled, axis=0)], arrays[0].dtype))


def _hidden(windows: Batch, seed: int) -> np.ndarray:
    return hide(windows.observed, "mixed", 0.4, np.random.default_rng([seed, 0x5EA50]))


def _regression(
    values: np.ndarray, observed: np.ndarray, hidden: np.ndarray, decay: float, period: int
) -> SeasonMemory:
    """Least squares of hidden values on what other cycles say of them, a channel at a time."""
    made = partial(SeasonMemory.of, decay=decay, few=_FEW, doubt=_DOUBT * period, period=period)
    half = np.full(values.shape[-1], 0.5)
    # What a memory looks at does not depend on what it makes of it.
    blank = made(level_share=half, share=half, swing=half, variance=half).astype(values.dtype)
    said = _features(blank, jnp.asarray(values), jnp.asarray(observed & ~hidden))
    phase, around, weight = (np.asarray(a, np.float64) for a in said)
    counts = np.where(hidden & observed, weight / (weight + _FEW), 0.0)
    design = np.stack([around, phase - around], axis=-1)
    left = np.einsum("wtd,wtdi,wtdj->dij", counts, design, design) + _RIDGE * np.eye(2)
    right = np.einsum("wtd,wtdi,wtd->di", counts, design, values) + _RIDGE
    shares = np.clip(np.linalg.solve(left, right[..., None])[..., 0], *_SHARES)
    error = (values - np.einsum("wtdi,di->wtd", design, shares)) ** 2
    # A pseudo-value of unit variance, so that a channel without any hidden value has a variance too.
    usual = lambda a: (np.sum(counts * a, axis=(0, 1)) + 1.0) / (np.sum(counts, axis=(0, 1)) + 1.0)  # noqa: E731
    return made(
        level_share=shares[:, 0],
        share=shares[:, 1],
        swing=np.maximum(usual(design[..., 1] ** 2), _LEAST_VARIANCE),
        variance=np.maximum(usual(error), _LEAST_VARIANCE),
    ).astype(values.dtype)


@kept
def _features(memory: SeasonMemory, values: Array, observed: Array) -> tuple[Array, Array, Array]:
    return jax.vmap(memory.features)(values, observed)


@kept
def _estimates(memory: SeasonMemory, values: Array, observed: Array) -> tuple[Array, Array]:
    said = jax.vmap(memory.remember)(values, observed)
    return said.mean, jax.vmap(memory.foresees)(said, observed)


def _trusting(memory: SeasonMemory, choice: Array) -> SeasonMemory:
    """With log factors (channel or 1, 2) of the variance and of the gain, of the shortest cycle."""
    if memory.within is not None:
        return memory.with_within(_trusting(memory.within, choice))
    changed = (memory.log_variance + choice[:, 0], memory.log_gain + choice[:, 1])
    return eqx.tree_at(lambda m: (m.log_variance, m.log_gain), memory, changed)


@kept
def _scores(
    linear: SVAE, memory: SeasonMemory, windows: tuple[Array, ...], grid: Array
) -> Float[Array, "choice channel"]:
    """Log predictive density of the hidden values, summed."""
    noise = jnp.exp(gaussian_noise(linear))[None, :]

    def estimates(v: Array, o: Array, u: Array, around: Array, h: Array) -> tuple[tuple[Array, Array], Remembered]:
        seen = o & ~h
        alone = linear.with_residual(v, seen, linear.predictor_moments(linear.posterior(v, seen, u)))
        return alone, memory.remember(v, seen, around)

    both = jax.vmap(estimates)(*windows)

    def one(choice: Array) -> Array:
        trusted = _trusting(memory, choice[None])

        def window(v: Array, o: Array, h: Array, alone: tuple[Array, Array], said: Remembered) -> Array:
            centre, total = trusted.combine(alone[0], alone[1] + noise, said)
            density = linear.likelihood.predictive_log_prob(jnp.where(o, v, 0.0), centre, total - noise)
            return jnp.where(h & o, density, 0.0)

        values, observed, _, _, hidden = windows
        return jnp.sum(jnp.asarray(jax.vmap(window)(values, observed, hidden, *both)), axis=(0, 1))

    return jnp.asarray(jax.lax.map(one, grid))
