"""Many small matrices at once, in the two memory layouts that XLA turns into fast loops on CPU.

A *lane* is one independent chain: a series of the batch, or a chunk of one. Arrays may carry a leading time axis.
``First`` holds matrices as (time, lane, K, K): products become batched matrix multiplications, which pay above K of
about 12. ``Last`` holds them as (time, block, K, K, lane) with blocks of 16 lanes, a vector register wide: products are
elementwise products and one sum, so that a block stays in the first-level cache; several times faster for
small K. An operand that all lanes share has lane (and block) axes of length 1.

Cholesky factors and their inverses are written out row by row (left-looking) over the lanes in both layouts: each row
is one fused loop that ends in a division, which XLA does not fuse into its many readers. LAPACK, called once a matrix,
is 4 to 8 times slower for K of 5 to 16 (see docs/message-passing.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import slice_in_dim
from jaxtyping import Array, Float

FACTOR_BLOCK = 16
LANE_BLOCK = 16
LAST_LIMIT = 12


class Factored(NamedTuple):
    """A positive definite matrix W = upper' upper.

    Attributes:
        upper: triangular factor.
        inverse: upper'^-1, lower triangular; W^-1 = inverse' inverse.
        log_det: of W.
    """

    upper: Array
    inverse: Array
    log_det: Array


@jax.jit
def _factor_rows(w: Float[Array, "block K K lane"], floor: Float[Array, "block K lane"]) -> Factored:
    """Left-looking Cholesky and inverse, lanes last; a pivot below ``floor`` is raised to it."""
    size = w.shape[1]
    uppers, inverses, roots = [], [], []
    unit = jnp.eye(size, dtype=w.dtype)
    triangle = jnp.triu(jnp.ones((size, size), w.dtype))
    for k in range(size):
        upper = w[:, k]
        inverse = jnp.broadcast_to(unit[k][None, :, None], upper.shape)
        for j in range(k):
            factor = slice_in_dim(uppers[j], k, k + 1, axis=1)
            upper = upper - factor * uppers[j]
            inverse = inverse - factor * inverses[j]
        pivot = slice_in_dim(upper, k, k + 1, axis=1)
        root = jnp.sqrt(jnp.maximum(pivot, slice_in_dim(floor, k, k + 1, axis=1)))
        uppers.append(upper * triangle[k][None, :, None] / root)
        inverses.append(inverse / root)
        roots.append(root)
    log_det = 2 * jnp.sum(jnp.log(jnp.concatenate(roots, axis=1)), axis=1)
    return Factored(jnp.stack(uppers, axis=1), jnp.stack(inverses, axis=1), log_det)


def _summed_products(a, b):
    """The product of (..., K, K, lane) matrices: all elementwise products, and one sum.

    XLA turns the sum into vector loops over the lanes, and computes it once however often its result is read.
    """
    return jnp.sum(a[..., :, :, None, :] * b[..., None, :, :, :], axis=-3)


def block_lanes(x):
    """(lane, ...) -> (block, ..., lane) in blocks of LANE_BLOCK; the last is filled up with copies."""
    lanes = x.shape[0]
    if lanes <= LANE_BLOCK:
        return jnp.moveaxis(x, 0, -1)[None]
    x = jnp.pad(x, [(0, -lanes % LANE_BLOCK)] + [(0, 0)] * (x.ndim - 1), mode="edge")
    return jnp.moveaxis(x.reshape(-1, LANE_BLOCK, *x.shape[1:]), 1, -1)


def unblock_lanes(x, lanes: int):
    """The inverse of ``block_lanes``."""
    x = jnp.moveaxis(x, -1, 1)
    return x.reshape(-1, *x.shape[2:])[:lanes]


def _settled(x):
    """The same array, computed before anything reads it: XLA fuses nothing across a conditional.

    A product fused into the transpose after it runs through memory in the transpose's order, 4 times slower.
    """
    corner = x[(0,) * x.ndim]
    return jax.lax.cond(corner == corner, lambda x: x, lambda x: -x, x)


class First:
    """Matrices (time, lane, K, K), vectors (time, lane, K), scalars (time, lane)."""

    @staticmethod
    def enter(x):
        """From (lane, time, ...)."""
        return jnp.swapaxes(x, 0, 1)

    @staticmethod
    def leave(x, lanes: int):
        """To (lane, time, ...)."""
        del lanes
        return jnp.swapaxes(x, 0, 1)

    @staticmethod
    def t(a):
        """Transpose."""
        return jnp.swapaxes(a, -1, -2)

    @classmethod
    def mm(cls, a, b):
        """Matrix product; a shared right or left operand makes one large multiplication."""
        if b.shape[-3] == 1 and (a.shape[-3] > 1 or a.ndim > 3):
            inner, columns = b.shape[-2:]
            if b.ndim == 3 or b.shape[0] == 1:
                return (a.reshape(-1, inner) @ b.reshape(inner, columns)).reshape(*a.shape[:-1], columns)
            steps, lanes, rows = b.shape[0], a.shape[1], a.shape[2]
            tall = jnp.broadcast_to(a, (steps, *a.shape[1:])).reshape(steps, lanes * rows, inner)
            return (tall @ b[:, 0]).reshape(steps, lanes, rows, columns)
        if a.shape[-3] == 1 and (b.shape[-3] > 1 or b.ndim > 3):
            return cls.t(cls.mm(cls._turned(b), cls.t(a)))
        return a @ b

    @staticmethod
    def _turned(a):
        """Transpose, multiplied by an opaque 1 so that XLA does not fold it into a multiplication, which is slower."""
        one = 1 + 0 * a[..., :1, :1]
        return jnp.swapaxes(a, -1, -2) * one

    @classmethod
    def tm(cls, a, b):
        """Product a'b."""
        return cls.mm(cls._turned(a), b)

    @staticmethod
    def mv(a, x):
        """Matrix times vector."""
        if a.shape[-3] == 1:
            if a.ndim == 3 or a.shape[0] == 1:
                k = x.shape[-1]
                return (x.reshape(-1, k) @ a.reshape(k, k).T).reshape(x.shape)
            return x @ jnp.swapaxes(a[:, 0], -1, -2)
        return jnp.sum(a * x[..., None, :], axis=-1)

    @staticmethod
    def outer(x, y):
        """Column x times row y'."""
        return x[..., :, None] * y[..., None, :]

    @staticmethod
    def columns(a, d):
        """Matrix a times diag(d)."""
        return a * d[..., None, :]

    @staticmethod
    def diagonal(a):
        """The diagonal of a."""
        return jnp.diagonal(a, axis1=-2, axis2=-1)

    @staticmethod
    def eye(size, dtype):
        """One shared identity."""
        return jnp.eye(size, dtype=dtype)[None]

    @staticmethod
    def dot(x, y):
        """Inner product."""
        return jnp.sum(x * y, axis=-1)

    @staticmethod
    def scaled(s, a):
        """Scalar times matrix, a scalar a lane."""
        return s[..., None, None] * a

    @staticmethod
    def scaled_vector(s, x):
        """Scalar times vector, a scalar a lane."""
        return s[..., None] * x

    @classmethod
    def factor(cls, w, floor=None) -> Factored:
        """Cholesky of (lane, K, K), in blocks of up to FACTOR_BLOCK."""
        size = w.shape[-1]
        if floor is None:
            floor = pivot_floor(cls.diagonal(w))
        if size <= FACTOR_BLOCK:
            small = _factor_rows(block_lanes(w), block_lanes(floor))
            return Factored(*(unblock_lanes(x, len(w)) for x in small))
        half = -(-size // 2)
        a = cls.factor(w[:, :half, :half], floor[:, :half])
        corner = a.inverse @ w[:, :half, half:]
        b = cls.factor(w[:, half:, half:] - cls.tm(corner, corner), floor[:, half:])
        cross = -(b.inverse @ cls.tm(corner, a.inverse))
        bottom = jnp.pad(b.upper, ((0, 0), (0, 0), (half, 0)))
        upper = jnp.concatenate([jnp.concatenate([a.upper, corner], 2), bottom], 1)
        top = jnp.pad(a.inverse, ((0, 0), (0, 0), (0, size - half)))
        inverse = jnp.concatenate([top, jnp.concatenate([cross, b.inverse], 2)], 1)
        return Factored(upper, inverse, a.log_det + b.log_det)


class Last:
    """Matrices (time, block, K, K, lane), vectors (time, block, K, lane), scalars (time, block, lane)."""

    @staticmethod
    def enter(x):
        """From (lane, time, ...)."""
        return jnp.swapaxes(block_lanes(x), 0, 1)

    @staticmethod
    def leave(x, lanes: int):
        """To (lane, time, ...), dropping what filled up the last block."""
        if x.ndim == 5 and x.size:
            x = _settled(x)
        return unblock_lanes(jnp.swapaxes(x, 0, 1), lanes)

    @staticmethod
    def t(a):
        """Transpose."""
        return jnp.swapaxes(a, -2, -3)

    @staticmethod
    def mm(a, b):
        """Matrix product."""
        return _summed_products(a, b)

    @classmethod
    def tm(cls, a, b):
        """Product a'b."""
        return cls.mm(cls.t(a), b)

    @staticmethod
    def mv(a, x):
        """Matrix times vector."""
        return jnp.sum(a * x[..., None, :, :], axis=-2)

    @staticmethod
    def outer(x, y):
        """Column x times row y'."""
        return x[..., :, None, :] * y[..., None, :, :]

    @staticmethod
    def columns(a, d):
        """Matrix a times diag(d)."""
        return a * d[..., None, :, :]

    @staticmethod
    def diagonal(a):
        """The diagonal of a."""
        return jnp.moveaxis(jnp.diagonal(a, axis1=-3, axis2=-2), -1, -2)

    @staticmethod
    def eye(size, dtype):
        """One shared identity."""
        return jnp.eye(size, dtype=dtype)[None, ..., None]

    @staticmethod
    def dot(x, y):
        """Inner product."""
        return jnp.sum(x * y, axis=-2)

    @staticmethod
    def scaled(s, a):
        """Scalar times matrix, a scalar a lane."""
        return s[..., None, None, :] * a

    @staticmethod
    def scaled_vector(s, x):
        """Scalar times vector, a scalar a lane."""
        return s[..., None, :] * x

    @classmethod
    def factor(cls, w, floor=None) -> Factored:
        """Cholesky of (block, K, K, lane)."""
        return _factor_rows(w, pivot_floor(cls.diagonal(w)) if floor is None else floor)


Layout = type[First] | type[Last]


def pivot_floor(diagonal):
    """Smallest pivot that rounding lets one believe in: a share of the diagonal entry that it began as."""
    info = jnp.finfo(diagonal.dtype)
    return jnp.maximum(4 * info.eps * diagonal, info.tiny * 1e6)


def layout_for(latent_dim: int) -> Layout:
    """The faster layout for matrices of this size, from measurements.

    Not at 8 states: jaxlib 0.9 crashes while it compiles some of these loops (seen with 50 steps and 10 lanes).
    """
    return Last if latent_dim <= LAST_LIMIT and latent_dim != 8 else First


def symmetric(layout: Layout, a):
    """(a + a') / 2."""
    return (a + layout.t(a)) / 2
