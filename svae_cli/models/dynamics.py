"""Dynamics: the learnable parameters of the linear-Gaussian prior over latent states."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.inference import LinearGaussianPrior
from svae_cli.precision import full_precision

COVARIANCE_FLOOR = 1e-5
_FORGOTTEN = 1e-4  # by which each power of A counts less than the one before where their mean is taken


class Covariance(eqx.Module):
    """A positive definite matrix by construction: factor factor' + 1e-5 I.

    The floor keeps noise from vanishing along some direction, which a likelihood can ask for (a clock never errs) and
    float32 cannot invert. Latent states are of unit size, so a step's noise has at least 0.3 % of that. The factor is
    lower triangular, its diagonal kept as the logarithm.

    Attributes:
        log_diagonal: logarithm of the factor's diagonal.
        lower: the entries below the diagonal; the rest of this square array is ignored.
    """

    log_diagonal: Float[Array, " state"]
    lower: Float[Array, "state state"]

    @property
    @full_precision
    def matrix(self) -> Float[Array, "state state"]:
        """The covariance itself."""
        factor = jnp.tril(self.lower, -1) + jnp.diag(jnp.exp(self.log_diagonal))
        return factor @ factor.T + COVARIANCE_FLOOR * jnp.eye(len(factor), dtype=factor.dtype)

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "state state"]) -> "Covariance":
        """The parameters of a given matrix; eigenvalues below twice the floor are raised to that."""
        values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
        above = np.maximum(values - COVARIANCE_FLOOR, COVARIANCE_FLOOR)
        factor = np.linalg.cholesky((vectors * above) @ vectors.T)
        dtype = matrix.dtype
        return cls(
            log_diagonal=jnp.asarray(np.log(np.diag(factor)), dtype), lower=jnp.asarray(np.tril(factor, -1), dtype)
        )


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

    @property
    @full_precision
    def wander(self) -> Float[Array, "state state"]:
        """Covariance of what a step adds and what never returns: M Q M', M the mean of A's powers.

        Over ever more of them it tends to the projection on the unit roots (mean ergodic theorem); what turns or
        returns is averaged out. Abel's mean, whose weights fade by a ten-thousandth a power, is one inverse. Large
        where slopes wander, too.
        """
        identity = jnp.eye(self.latent_dim, dtype=self.transition.dtype)
        mean = jnp.linalg.solve(identity - (1 - _FORGOTTEN) * self.matrix, _FORGOTTEN * identity)
        return mean @ self.noise_cov.matrix @ mean.T

    @full_precision
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
        initial_mean: Float[np.ndarray, " state"],
        initial_cov: Float[np.ndarray, "state state"],
        transition: Float[np.ndarray, "state state"],
        bias: Float[np.ndarray, " state"],
        input_matrix: Float[np.ndarray, "state input"],
        noise_cov: Float[np.ndarray, "state state"],
        dtype: np.dtype,
        stable: bool = False,
    ) -> "Dynamics":
        """The parameters that give the stated moments."""
        return cls(
            initial_mean=jnp.asarray(initial_mean, dtype),
            initial_cov=Covariance.from_matrix(np.asarray(initial_cov, dtype)),
            transition=jnp.asarray(transition, dtype),
            bias=jnp.asarray(bias, dtype),
            input_matrix=jnp.asarray(input_matrix, dtype),
            noise_cov=Covariance.from_matrix(np.asarray(noise_cov, dtype)),
            stable=stable,
        )
