"""Residual chains: what is left of each channel after the shared states, as a first-order autoregression of its own.

With fewer states than channels, much of a channel is its own business and lasts: a slowly drifting offset, a local
level. Part of the noise's variance is taken to be such a chain. Given the shared states' posterior means, each
channel's chain is smoothed by itself, which is one step of coordinate ascent for a posterior q(x) q(r) (docs/model.md).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MOST_LASTING = 0.998  # the largest persistence: a memory of 500 steps, so that a long series can be cut


class ResidualChains(eqx.Module):
    """r_{t+1} = rho r_t + noise in each channel, of variance ``share`` times the channel's noise variance.

    Attributes:
        logit_persistence: of rho / 0.998.
        logit_share: of the share of the noise's variance that lasts.
    """

    logit_persistence: Float[Array, " channel"]
    logit_share: Float[Array, " channel"]

    @property
    def persistence(self) -> Float[Array, " channel"]:
        """rho, from 0 to 0.998."""
        return _MOST_LASTING * jax.nn.sigmoid(self.logit_persistence)

    @property
    def share(self) -> Float[Array, " channel"]:
        """Share of the noise's variance, from 0 to 1."""
        return jax.nn.sigmoid(self.logit_share)

    def smooth(
        self,
        residuals: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        log_variance: Float[Array, " channel"],
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """What the chains add to the predicted mean of each value, and take from its variance.

        Args:
            residuals: values less their predicted means, where observed.
            observed: which values may be used.
            log_variance: of the noise, the chains' part included.
        """
        scale = jnp.exp(0.5 * log_variance)
        filtered = self._filter(residuals / scale[None, :], observed)
        rho, share = self.persistence, self.share

        def back(after: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple]:
            (mean_after, var_after), (mean, var) = after, step
            predicted = rho**2 * var + (1 - rho**2) * share
            gain = rho * var / predicted
            smoothed = mean + gain * (mean_after - rho * mean), var + gain**2 * (var_after - predicted)
            return smoothed, smoothed

        last = (filtered[0][-1], filtered[1][-1])
        before = (filtered[0][:-1], filtered[1][:-1])
        _, (means, variances) = jax.lax.scan(back, last, before, reverse=True)
        means = jnp.concatenate([means, last[0][None]])
        variances = jnp.concatenate([variances, last[1][None]])
        return means * scale[None, :], (share[None, :] - variances) * scale[None, :] ** 2

    def sample(
        self,
        noise: Float[Array, "time sample channel"],
        residuals: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        log_variance: Float[Array, " channel"],
    ) -> Float[Array, "time sample channel"]:
        """Joint paths of the chains, made of standard normal ``noise``; see ``smooth``.

        The path at a step depends on the noise there and after it, so the same noise gives the same paths however a
        series is cut.
        """
        scale = jnp.exp(0.5 * log_variance)
        means, variances = self._filter(residuals / scale[None, :], observed)
        rho, share = self.persistence, self.share

        def back(after: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            mean, var, drawn = step
            gain = rho * var / (rho**2 * var + (1 - rho**2) * share)
            deviation = jnp.sqrt(jnp.maximum(var * (1 - gain * rho), 0.0))
            here = mean[None] + gain[None] * (after - (rho * mean)[None]) + deviation[None] * drawn
            return here, here

        last = means[-1][None] + jnp.sqrt(variances[-1])[None] * noise[-1]
        _, path = jax.lax.scan(back, last, (means[:-1], variances[:-1], noise[:-1]), reverse=True)
        return jnp.concatenate([path, last[None]]) * scale[None, None, :]

    def _filter(self, residuals: Array, observed: Array) -> tuple[Array, Array]:
        """Filtered means and variances in units of the noise's standard deviation."""
        rho, share = self.persistence, self.share

        def forth(predicted: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple]:
            (mean, var), (value, seen) = predicted, step
            gain = jnp.where(seen, var / (var + 1 - share), 0.0)
            mean, var = mean + gain * jnp.where(seen, value - mean, 0.0), (1 - gain) * var
            return (rho * mean, rho**2 * var + (1 - rho**2) * share), (mean, var)

        first = (jnp.zeros_like(share), share)
        return jax.lax.scan(forth, first, (residuals, observed))[1]

    @classmethod
    def of(cls, persistence: Array, share: Array) -> "ResidualChains":
        """Chains of given persistence, below 0.998, and share, both inside (0, 1)."""
        logit = lambda p: jnp.log(p) - jnp.log1p(-p)  # noqa: E731
        return cls(logit_persistence=logit(persistence / _MOST_LASTING), logit_share=logit(share))
