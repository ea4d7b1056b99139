"""Many small matrices at once, in the two memory layouts that XLA turns into fast loops on CPU.

A *lane* is one independent chain: a series of the batch, or a chunk of one. Arrays may carry a leading time axis.
``First`` holds matrices as (time, lane, K, K): products become batched matrix multiplications, which pay from K of
about 8. ``Last`` holds them as (time, K, K, lane): products are written out as sums of elementwise products over the
lanes, which is far faster for tiny K. A shared operand has a lane axis of length 1.

Cholesky factors and their inverses are written out row by row (left-looking) over the lanes in both layouts: each row
is one fused loop that ends in a division, which XLA does not fuse into its many readers. LAPACK, called once a matrix,
is 4 to 8 times slower for K of 5 to 16 (see docs/message-passing.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FACTOR_BLOCK = 16
LAST_LIMIT = 7


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
def _factor_rows(w: Float[Array, "K K lane"], floor: Float[Array, "K lane"]) -> Factored:
    """Left-looking Cholesky and inverse, lanes last; a pivot below ``floor`` is raised to it."""
    size = w.shape[0]
    uppers, inverses, roots = [], [], []
    eye = jnp.eye(size, dtype=w.dtype)
    for k in range(size):
        upper, inverse = w[k, k:], None
        for j in range(k):
            factor = uppers[j][k - j : k - j + 1]
            upper = upper - factor * uppers[j][k - j :]
            inverse = -factor * inverses[j] if inverse is None else inverse - factor * inverses[j]
        unit = jnp.broadcast_to(eye[k][:, None], w.shape[1:])
        inverse = unit if inverse is None else inverse + unit
        root = jnp.sqrt(jnp.maximum(upper[:1], floor[k : k + 1]))
        uppers.append(upper / root)
        inverses.append(inverse / root)
        roots.append(root)
    rows = [jnp.pad(row, ((k, 0), (0, 0))) for k, row in enumerate(uppers)]
    return Factored(jnp.stack(rows), jnp.stack(inverses), 2 * jnp.sum(jnp.log(jnp.concatenate(roots)), axis=0))


class First:
    """Matrices (time, lane, K, K), vectors (time, lane, K), scalars (time, lane)."""

    lane_axis, matrix_axes = -3, (-2, -1)

    @staticmethod
    def enter(x):
        """From (lane, time, ...)."""
        return jnp.swapaxes(x, 0, 1)

    leave = enter

    @staticmethod
    def lanes(x) -> int:
        """Number of lanes of a matrix."""
        return x.shape[-3]

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
            return cls.t(cls.mm(cls.t(b), cls.t(a)))
        return a @ b

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
        """X y'."""
        return x[..., :, None] * y[..., None, :]

    @staticmethod
    def rows(d, a):
        """diag(d) a."""
        return d[..., :, None] * a

    @staticmethod
    def columns(a, d):
        """A diag(d)."""
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
        """X'y."""
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
            small = _factor_rows(jnp.moveaxis(w, 0, -1), floor.T)
            return Factored(jnp.moveaxis(small.upper, -1, 0), jnp.moveaxis(small.inverse, -1, 0), small.log_det)
        half = -(-size // 2)
        a = cls.factor(w[:, :half, :half], floor[:, :half])
        corner = a.inverse @ w[:, :half, half:]
        b = cls.factor(w[:, half:, half:] - cls.t(corner) @ corner, floor[:, half:])
        cross = -(b.inverse @ (cls.t(corner) @ a.inverse))
        upper = jnp.concatenate(
            [jnp.concatenate([a.upper, corner], 2), jnp.pad(b.upper, ((0, 0), (0, 0), (half, 0)))], 1
        )
        top = jnp.pad(a.inverse, ((0, 0), (0, 0), (0, size - half)))
        inverse = jnp.concatenate([top, jnp.concatenate([cross, b.inverse], 2)], 1)
        return Factored(upper, inverse, a.log_det + b.log_det)


class Last:
    """Matrices (time, K, K, lane), vectors (time, K, lane), scalars (time, lane)."""

    lane_axis, matrix_axes = -1, (-3, -2)

    @staticmethod
    def enter(x):
        """From (lane, time, ...)."""
        return jnp.moveaxis(x, 0, -1)

    @staticmethod
    def leave(x):
        """To (lane, time, ...)."""
        return jnp.moveaxis(x, -1, 0)

    @staticmethod
    def lanes(x) -> int:
        """Number of lanes of a matrix."""
        return x.shape[-1]

    @staticmethod
    def t(a):
        """Transpose."""
        return jnp.swapaxes(a, -2, -3)

    @staticmethod
    def mm(a, b):
        """Matrix product as a written-out sum."""
        total = a[..., :, 0, None, :] * b[..., None, 0, :, :]
        for k in range(1, b.shape[-3]):
            total = total + a[..., :, k, None, :] * b[..., None, k, :, :]
        return total

    @staticmethod
    def mv(a, x):
        """Matrix times vector."""
        total = a[..., :, 0, :] * x[..., 0, None, :]
        for k in range(1, x.shape[-2]):
            total = total + a[..., :, k, :] * x[..., k, None, :]
        return total

    @staticmethod
    def outer(x, y):
        """X y'."""
        return x[..., :, None, :] * y[..., None, :, :]

    @staticmethod
    def rows(d, a):
        """diag(d) a."""
        return d[..., :, None, :] * a

    @staticmethod
    def columns(a, d):
        """A diag(d)."""
        return a * d[..., None, :, :]

    @staticmethod
    def diagonal(a):
        """The diagonal of a."""
        return jnp.stack([a[..., k, k, :] for k in range(a.shape[-2])], axis=-2)

    @staticmethod
    def eye(size, dtype):
        """One shared identity."""
        return jnp.eye(size, dtype=dtype)[..., None]

    @staticmethod
    def dot(x, y):
        """X'y."""
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
        """Cholesky of (K, K, lane)."""
        return _factor_rows(w, pivot_floor(cls.diagonal(w)) if floor is None else floor)


Layout = type[First] | type[Last]


def pivot_floor(diagonal):
    """Smallest pivot that rounding lets one believe in: a share of the diagonal entry that it began as."""
    info = jnp.finfo(diagonal.dtype)
    return jnp.maximum(4 * info.eps * diagonal, info.tiny * 1e6)


def layout_for(latent_dim: int) -> Layout:
    """The faster layout for matrices of this size, from measurements."""
    return Last if latent_dim <= LAST_LIMIT else First


def join_time(*parts):
    """Concatenate in time; an axis that only some parts share is broadcast."""
    shape = jnp.broadcast_shapes(*(x.shape[1:] for x in parts))
    return jnp.concatenate([jnp.broadcast_to(x, (x.shape[0], *shape)) for x in parts])


def append_zero(x):
    """One more time step, of zeros."""
    return jnp.pad(x, [(0, 1)] + [(0, 0)] * (x.ndim - 1))


def symmetric(layout: Layout, a):
    """(a + a') / 2."""
    return (a + layout.t(a)) / 2


def summed_like(x, like):
    """Sum x over time, keeping the axis, if ``like`` is constant in time. Lanes are never summed: vmap does that."""
    return jnp.sum(x, axis=0, keepdims=True) if like.shape[0] == 1 and x.shape[0] != 1 else x


def product_like(layout: Layout, a, b, like):
    """a'b, summed over time if ``like`` is constant in time."""
    return summed_like(layout.mm(layout.t(a), b), like)


def outer_like(layout: Layout, x, y, like):
    """X y', summed over time if ``like`` is constant in time."""
    return summed_like(layout.outer(x, y), like)
