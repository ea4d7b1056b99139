"""The linear start: a linear-Gaussian model read off the data in closed form, before EM improves it.

Periods that stand out of the spectrum become pairs of states that rotate; what is left is explained by the principal
components of neighbouring steps. The blocks are only a start: all of A and Q are free from then on.
"""

import numpy as np
from jaxtyping import Bool, Float

from svae_cli.data.windows import Batch
from svae_cli.models.build import linear_model
from svae_cli.models.svae import SVAE

_DAMPING = 0.999  # of a rotation, per step
_ROTATION_NOISE = 1e-3
_PAIR_SHARE = 0.03  # of a period's energy, to be worth a pair of states
_MAX_PAIRS = 3
_NOISE_FLOOR = 0.02  # smallest noise variance to start from, in standardised units


def linear_start(windows: Batch, periods: tuple[float, ...], *, latent_dim: int, stable: bool = False) -> SVAE:
    """A linear-Gaussian SVAE with ``latent_dim`` states, to be improved by EM.

    Args:
        windows: training windows in model units.
        periods: seasonal periods in steps; they take up to three pairs of states each, as long as enough are left.
        latent_dim: K.
        stable: hold the dynamics' largest singular value at 1 or below.
    """
    filled = fill_gaps(windows.values.astype(np.float64), windows.observed)
    # Seasons say little of a value between two others: half of the states, or one a channel, are kept for the rest.
    kept = min(filled.shape[-1], -(-latent_dim // 2), max(latent_dim - 2, 0))
    blocks, rest = _rotations(filled, periods, latent_dim - kept)
    transition, noise, loadings = _components(rest, latent_dim - sum(len(b[0]) for b in blocks))
    blocks.append((transition, noise, loadings))
    explained = sum(np.sum(c**2, axis=1) for _, _, c in blocks)
    variance = np.maximum(filled.reshape(-1, filled.shape[-1]).var(axis=0) - explained, _NOISE_FLOOR)
    return linear_model(
        transition=_block_diagonal([b[0] for b in blocks]),
        noise_cov=_block_diagonal([b[1] for b in blocks]),
        loadings=np.concatenate([b[2] for b in blocks], axis=1),
        offset=filled.mean(axis=(0, 1)),
        noise_variance=variance,
        n_inputs=windows.inputs.shape[-1],
        stable=stable,
        dtype=windows.values.dtype,
    )


def fill_gaps(
    values: Float[np.ndarray, "window time channel"], observed: Bool[np.ndarray, "window time channel"]
) -> Float[np.ndarray, "window time channel"]:
    """Linear interpolation in time within each window; a channel with nothing to go by is left at 0."""
    filled = np.where(observed, values, 0.0)
    step = np.arange(values.shape[1])
    partial = observed.any(axis=1) & ~observed.all(axis=1)
    for w, d in zip(*np.nonzero(partial), strict=True):
        seen = observed[w, :, d]
        filled[w, :, d] = np.interp(step, step[seen], values[w, seen, d])
    return filled


def _rotations(filled: np.ndarray, periods: tuple[float, ...], room: int) -> tuple[list, np.ndarray]:
    """Rotating pairs of states for the periods, and the values with the parts of those taken out that have any.

    A window's periodic part has one complex amplitude a channel; the leading right singular vectors of (window,
    channel) amplitudes are the patterns across channels that the pairs load on.
    """
    if not periods:
        return [], filled
    count, length, width = filled.shape
    angle = 2 * np.pi * np.arange(length)[:, None] / np.asarray(periods)
    design = np.concatenate([np.ones((length, 1)), np.cos(angle), np.sin(angle)], axis=1)
    flat = filled.transpose(1, 0, 2).reshape(length, -1)
    coefficients = np.linalg.lstsq(design, flat, rcond=None)[0]
    coefficients[0] = 0.0
    n = len(periods)
    amplitude = (coefficients[1 : 1 + n] - 1j * coefficients[1 + n :]).reshape(n, count, width)
    patterns = [np.linalg.svd(a, full_matrices=False)[1:] for a in amplitude]
    pairs = _pairs([strength for strength, _ in patterns], room // 2)
    left = np.flatnonzero(pairs == 0)  # to the rest, as no pair holds them
    coefficients[np.concatenate([1 + left, 1 + n + left])] = 0.0
    blocks = []
    for period, (strength, right), count_of in zip(periods, patterns, pairs, strict=True):
        cos, sin = _DAMPING * np.cos(2 * np.pi / period), _DAMPING * np.sin(2 * np.pi / period)
        for r in range(count_of):
            pattern = right[r].conj() * strength[r] / np.sqrt(2 * count)
            loadings = np.stack([pattern.real, pattern.imag], axis=1)
            blocks.append((np.array([[cos, -sin], [sin, cos]]), _ROTATION_NOISE * np.eye(2), loadings))
    return blocks, filled - (design @ coefficients).reshape(length, count, width).transpose(1, 0, 2)


def _pairs(strengths: list[np.ndarray], room: int) -> np.ndarray:
    """How many pairs of states each period gets, the first as many as it is worth, as long as there is room."""
    found = np.zeros(len(strengths), int)
    for at, strength in enumerate(strengths):
        worth = int(np.sum(strength**2 > _PAIR_SHARE * np.sum(strength**2)))
        found[at] = min(worth, _MAX_PAIRS, room - found.sum())
    return found


def _components(rest: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dynamics of the leading principal components of (this step, the step before), each of unit variance."""
    width = rest.shape[-1]
    if dim == 0:
        return np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((width, 0))
    lags = max(2, int(np.ceil(dim / width)))
    # Windows too short to show so many lags go on with their last value: this is where EM begins, no more.
    rest = np.pad(rest, ((0, 0), (0, max(0, lags + 1 - rest.shape[1])), (0, 0)), mode="edge")
    length = rest.shape[1] - lags + 1
    stacked = np.concatenate([rest[:, lags - 1 - j : lags - 1 - j + length] for j in range(lags)], axis=-1)
    variances, axes = np.linalg.eigh(np.cov(stacked.reshape(-1, stacked.shape[-1]).T).reshape(lags * width, -1))
    variances, axes = np.maximum(variances[::-1][:dim], 1e-4), axes[:, ::-1][:, :dim]
    states = stacked @ (axes / np.sqrt(variances))
    now, then = states[:, 1:].reshape(-1, dim), states[:, :-1].reshape(-1, dim)
    transition = np.linalg.solve(then.T @ then + 1e-3 * len(then) * np.eye(dim), then.T @ now).T
    transition /= max(1.0, np.abs(np.linalg.eigvals(transition)).max() / _DAMPING)
    error = now - then @ transition.T
    noise = error.T @ error / len(error) + 1e-3 * np.eye(dim)
    return transition, noise, axes[:width] * np.sqrt(variances)


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    size = sum(len(b) for b in blocks)
    whole, at = np.zeros((size, size)), 0
    for block in blocks:
        whole[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return whole
