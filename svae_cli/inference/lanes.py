"""Many small matrices at once, in the two memory layouts that XLA turns into fast loops on CPU.

A *lane* is one independent chain: a series of the batch, or a chunk of one. Arrays may carry a leading time axis.
``First`` holds matrices as (time, lane, K, K): products become batched matrix multiplications, which pay above K of
about 15. ``Last`` holds them as (time, block, K, K, lane) with blocks of 16 lanes, a vector register wide: products are
elementwise products and one sum, so that a block stays in the first-level cache; several times faster for
small K. An operand that all lanes share has lane (and block) axes of length 1.

Cholesky factors are written out row by row (left-looking) in both layouts, with the right-hand sides of the triangular
system that is to be solved beside each row, so that the solution costs no further step: each row is one fused loop that
ends in a division, which XLA does not fuse into its many readers. LAPACK, called once a matrix, is 4 to 8 times slower
for K of 5 to 16 (see docs/message-passing.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import slice_in_dim
from jaxtyping import Array, Float

FACTOR_BLOCK = 16
LANE_BLOCK = 16
LAST_LIMIT = 15


class Factored(NamedTuple):
    """A positive definite matrix W = upper' upper.

    Attributes:
        upper: triangular factor.
        solved: upper'^-1 times the right-hand side; with the identity there, W^-1 = solved' solved.
        log_det: of W.
    """

    upper: Array
    solved: Array
    log_det: Array


@jax.jit
def _factor_last(
    w: Float[Array, "block K K lane"], rhs: Float[Array, "block K column lane"], floor: Float[Array, "block K lane"]
) -> Factored:
    """Left-looking Cholesky and forward substitution, lanes last; a pivot below ``floor`` is raised to it."""
    size = w.shape[1]
    uppers, solved, roots = [], [], []
    triangle = jnp.triu(jnp.ones((size, size), w.dtype))
    for k in range(size):
        upper, right = w[:, k], rhs[:, k]
        for j in range(k):
            factor = slice_in_dim(uppers[j], k, k + 1, axis=1)
            upper = upper - factor * uppers[j]
            right = right - factor * solved[j]
        pivot = slice_in_dim(upper, k, k + 1, axis=1)
        root = jnp.sqrt(jnp.maximum(pivot, slice_in_dim(floor, k, k + 1, axis=1)))
        uppers.append(upper * triangle[k][None, :, None] / root)
        solved.append(right / root)
        roots.append(root)
    log_det = 2 * jnp.sum(jnp.log(jnp.concatenate(roots, axis=1)), axis=1)
    return Factored(jnp.stack(uppers, axis=1), jnp.stack(solved, axis=1), log_det)


@jax.jit
def _rows_first(wide: Float[Array, "lane K width"], floor: Float[Array, "lane K"]):
    """([upper | solved], roots of the pivots) of [w | right-hand sides]: whole rows fill the vector registers."""
    size = wide.shape[1]
    kept = jnp.triu(jnp.ones(wide.shape[1:], wide.dtype))
    rows, roots = [], []
    for k in range(size):
        row = wide[:, k]
        for above in rows:
            row = row - above[:, k : k + 1] * above
        root = jnp.sqrt(jnp.maximum(row[:, k : k + 1], floor[:, k : k + 1]))
        rows.append(row * kept[k][None] / root)
        roots.append(root)
    return jnp.stack(rows, axis=1), jnp.concatenate(roots, axis=1)


def _factor_first(wide: Float[Array, "lane K width"], floor: Float[Array, "lane K"]):
    """As ``_rows_first``: the upper half by rows, its share taken from the lower half by a product, then that half."""
    size = wide.shape[1]
    if size <= FACTOR_BLOCK:
        return _rows_first(wide, floor)
    half = -(-size // 2)
    top, top_roots = _factor_first(wide[:, :half], floor[:, :half])
    corner, rest = top[:, :, half:size], top[:, :, half:]
    low, low_roots = _factor_first(wide[:, half:, half:] - jnp.swapaxes(corner, 1, 2) @ rest, floor[:, half:])
    low = jnp.pad(low, ((0, 0), (0, 0), (half, 0)))
    return jnp.concatenate([top, low], axis=1), jnp.concatenate([top_roots, low_roots], axis=1)


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
        if a.shape[-3] == 1 and b.ndim > 3:
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

    @classmethod
    def mt(cls, a, b):
        """Product ab'."""
        return cls.mm(a, cls.t(b))

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
    def largest(x):
        """The largest entry of each vector."""
        return jnp.max(x, axis=-1)

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
    def factor(cls, w, rhs) -> Factored:
        """Cholesky of (lane, K, K), and the solution for right-hand sides of as many lanes or one."""
        size = w.shape[-1]
        rhs = jnp.broadcast_to(rhs, (*w.shape[:-1], rhs.shape[-1]))
        both, roots = _factor_first(jnp.concatenate([w, rhs], axis=2), pivot_floor(cls.diagonal(w)))
        return Factored(both[..., :size], both[..., size:], 2 * jnp.sum(jnp.log(roots), axis=1))


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

    @classmethod
    def mt(cls, a, b):
        """Product ab'."""
        return cls.mm(a, cls.t(b))

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
    def largest(x):
        """The largest entry of each vector."""
        return jnp.max(x, axis=-2)

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
    def factor(cls, w, rhs) -> Factored:
        """Cholesky of (block, K, K, lane), and the solution for right-hand sides of as many lanes or one."""
        return _factor_last(w, jnp.broadcast_to(rhs, w.shape), pivot_floor(cls.diagonal(w)))


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
