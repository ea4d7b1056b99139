"""The prior over latent paths: a linear-Gaussian Markov chain, held by its moments."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class LinearGaussianPrior(eqx.Module):
    """x_1 ~ N(initial_mean, initial_cov); x_{t+1} = dynamics_t x_t + bias_t + N(0, noise_cov_t).

    ``dynamics``, ``bias`` and ``noise_cov`` are constant, or have a leading axis of the T-1 transitions. Known inputs
    enter as a bias that varies in time.
    """

    initial_mean: Float[Array, " latent"]
    initial_cov: Float[Array, "latent latent"]
    dynamics: Float[Array, "*transition latent latent"]
    bias: Float[Array, "*transition latent"]
    noise_cov: Float[Array, "*transition latent latent"]

    @classmethod
    def from_moments(cls, *, initial_mean, initial_cov, dynamics, bias, noise_cov) -> "LinearGaussianPrior":
        """From anything that converts to arrays; see the class for the shapes."""
        return cls(*(jnp.asarray(x) for x in (initial_mean, initial_cov, dynamics, bias, noise_cov)))

    @property
    def latent_dim(self) -> int:
        """Number of latent states K."""
        return self.initial_mean.shape[-1]

    def transitions(self, count: int):
        """(dynamics, bias, noise_cov), each with a leading axis of ``count`` transitions."""
        k = self.latent_dim
        return (
            jnp.broadcast_to(self.dynamics, (count, k, k)),
            jnp.broadcast_to(self.bias, (count, k)),
            jnp.broadcast_to(self.noise_cov, (count, k, k)),
        )
