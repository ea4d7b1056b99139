"""Gaussian densities and Gaussian potentials over a latent path, one per time step."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Gaussian(eqx.Module):
    """Independent descriptions of x_t ~ N(mean_t, cov_t), one a step."""

    mean: Float[Array, "*time latent"]
    cov: Float[Array, "*time latent latent"]


class Potential(eqx.Module):
    """log psi_t(x) = shift_t'x - 1/2 x' precision_t x: what one step's observations say about its state.

    Attributes:
        precision: symmetric and positive SEMI-definite, or its diagonal alone (the fast path). Zero precision with
            zero shift says nothing: a missing step, padding and the future are exactly that.
        shift: precision times mean, where the precision is not singular.
    """

    precision: Float[Array, "time latent latent"] | Float[Array, "time latent"]
    shift: Float[Array, "time latent"]

    @property
    def diagonal(self) -> bool:
        """True where ``precision`` holds diagonals only."""
        return self.precision.ndim == self.shift.ndim

    def expected_log(self, means: Float[Array, "time latent"], covariances: Float[Array, "time latent latent"]):
        """sum_t E[log psi_t(x_t)] under x_t ~ N(means_t, covariances_t)."""
        linear = jnp.sum(self.shift * means)
        if self.diagonal:
            second = jnp.diagonal(covariances, axis1=-2, axis2=-1) + means**2
        else:
            second = covariances + means[..., :, None] * means[..., None, :]
        return linear - jnp.sum(self.precision * second) / 2
