"""Dynamics: the learnable parameters of the linear-Gaussian prior over latent states."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from svae_cli.inference import LinearGaussianPrior


class Covariance(eqx.Module):
    """A positive definite matrix by construction: a Cholesky factor whose diagonal is kept as its logarithm.

    Attributes:
        log_diagonal: logarithm of the factor's diagonal.
        lower: the entries below the diagonal; the rest of this square array is ignored.
    """

    log_diagonal: Float[Array, " state"]
    lower: Float[Array, "state state"]

    @property
    def factor(self) -> Float[Array, "state state"]:
        """The lower triangular Cholesky factor."""
        return jnp.tril(self.lower, -1) + jnp.diag(jnp.exp(self.log_diagonal))

    @property
    def matrix(self) -> Float[Array, "state state"]:
        """The covariance itself."""
        return self.factor @ self.factor.T

    @classmethod
    def from_matrix(cls, matrix: Float[Array, "state state"]) -> "Covariance":
        """The parameters of a given positive definite matrix."""
        factor = jnp.linalg.cholesky(matrix)
        return cls(log_diagonal=jnp.log(jnp.diag(factor)), lower=jnp.tril(factor, -1))


class Dynamics(eqx.Module):
    """x_1 ~ N(m_1, Q_1) and x_{t+1} = A x_t + B u_t + b + noise, noise ~ N(0, Q); docs/model.md, section 1.

    Attributes:
        initial_mean: m_1.
        initial_cov: Q_1.
        transition: A, as a free matrix; ``stable`` decides what is done with it.
        bias: b.
        input_matrix: B; no columns without inputs.
        noise_cov: Q.
        stable: if True, A is divided by its largest singular value where that exceeds 1.
    """

    initial_mean: Float[Array, " state"]
    initial_cov: Covariance
    transition: Float[Array, "state state"]
    bias: Float[Array, " state"]
    input_matrix: Float[Array, "state input"]
    noise_cov: Covariance
    stable: bool = eqx.field(static=True, default=False)

    @property
    def latent_dim(self) -> int:
        """Latent states, K."""
        return self.transition.shape[0]

    @property
    def matrix(self) -> Float[Array, "state state"]:
        """A as it is used, after the stability constraint."""
        if not self.stable:
            return self.transition
        return self.transition / jnp.maximum(1.0, jnp.linalg.norm(self.transition, ord=2))

    def prior(self, inputs: Float[Array, "time input"]) -> LinearGaussianPrior:
        """The prior over the states of one series.

        Args:
            inputs: u_t, the known inputs; row t acts on the step from t to t+1, so the last row is not used.
        """
        bias = self.bias
        if self.input_matrix.shape[1]:
            bias = self.bias[None, :] + inputs[:-1] @ self.input_matrix.T
        return LinearGaussianPrior(
            initial_mean=self.initial_mean,
            initial_cov=self.initial_cov.matrix,
            dynamics=self.matrix,
            bias=bias,
            noise_cov=self.noise_cov.matrix,
        )

    @classmethod
    def from_moments(
        cls,
        *,
        initial_mean: Float[Array, " state"],
        initial_cov: Float[Array, "state state"],
        transition: Float[Array, "state state"],
        bias: Float[Array, " state"],
        input_matrix: Float[Array, "state input"],
        noise_cov: Float[Array, "state state"],
        stable: bool = False,
    ) -> "Dynamics":
        """The parameters that give the stated moments."""
        return cls(
            initial_mean=initial_mean,
            initial_cov=Covariance.from_matrix(initial_cov),
            transition=transition,
            bias=bias,
            input_matrix=input_matrix,
            noise_cov=Covariance.from_matrix(noise_cov),
            stable=stable,
        )
