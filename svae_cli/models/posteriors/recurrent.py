"""The nonlinear autoregressive posterior: a stochastic recurrent unit that is fed with its own samples.

q(x_t | x_1..t-1) is Gaussian with a mean and a covariance read off the state of a gated recurrent unit, which takes the
previous sample and features of the whole series. q(x) as a whole has no closed form: paths stand for it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import LinearGaussianPrior
from svae_cli.models.frames import FrameEncoder
from svae_cli.models.network import Network
from svae_cli.models.posteriors.chain import Chain, divergence
from svae_cli.models.posteriors.families import Conditional, SequenceEncoder, last_observed
from svae_cli.models.posteriors.features import BidirectionalGRU

PATHS = 64  # that moments are taken from, where nothing else is asked for


class _Paths(eqx.Module):
    """Sampled states with the Gaussians they were drawn from."""

    states: Float[Array, "time sample state"]
    means: Float[Array, "time sample state"]
    factors: Float[Array, "time sample state state"]
    expected: Float[Array, "time sample state"]  # by the prior, from the state before


class RecurrentFamily(eqx.Module):
    """q(x_t | x_1..t-1) = N(mean(h_t), L(h_t) L(h_t)') with h_t = GRU(h_{t-1}; x_{t-1}, features_t).

    After the last observed step q goes on as the prior does.

    Attributes:
        encoder: to features.
        cell: the stochastic unit.
        conditional: heads to mean and factor.
    """

    encoder: SequenceEncoder
    cell: eqx.nn.GRUCell
    conditional: Conditional

    def posterior(
        self,
        prior: LinearGaussianPrior,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
        *,
        key: Key[Array, ""],
        paths: int,
    ) -> "PathPosterior":
        """The posterior, its moments from ``paths`` paths; the other arguments are those of ``ChainFamily.chain``."""
        last = last_observed(observed)
        drawer = _Drawer(
            cell=self.cell,
            conditional=self.conditional,
            features=self.encoder(values, observed, inputs, last),
            reference=Chain.of_prior(prior, len(values)),
            inside=jnp.arange(len(values)) <= last,
        )
        return PathPosterior.of(drawer, key, paths)

    @classmethod
    def build(cls, step: Network | FrameEncoder, width: int, latent_dim: int, key: Key[Array, ""]) -> "RecurrentFamily":
        """A family with random networks; arguments as for ``ChainFamily.build``."""
        first, second, third = jr.split(key, 3)
        along = BidirectionalGRU(width, first)
        return cls(
            encoder=SequenceEncoder(step=step, along=along),
            cell=eqx.nn.GRUCell(latent_dim + along.n_out, width, key=second),
            conditional=Conditional(width, latent_dim, (width,), third),
        )


class _Drawer(eqx.Module):
    """Draws paths of one series."""

    cell: eqx.nn.GRUCell
    conditional: Conditional
    features: Float[Array, "time feature"]
    reference: Chain
    inside: Bool[Array, " time"]

    def draw(self, key: Key[Array, ""], n: int) -> _Paths:
        steps, dim = self.reference.bias.shape
        dtype = self.features.dtype
        noise = jr.normal(key, (steps, n, dim), dtype)

        def step(carry: tuple[Array, Array], row: tuple[Array, Array, Chain, Array]):
            hidden, states = carry
            features, shock, chain, inside = row
            seen = jnp.concatenate([states, jnp.broadcast_to(features, (n, len(features)))], axis=-1)
            hidden = jax.vmap(self.cell)(seen, hidden)
            mean, factor = jax.vmap(self.conditional)(hidden)
            expected = states @ chain.dynamics.T + chain.bias[None, :]
            mean = jnp.where(inside, mean, expected)
            factor = jnp.where(inside, factor, chain.factor[None])
            states = mean + jnp.einsum("nij,nj->ni", factor, shock)
            return (hidden, states), _Paths(states, mean, factor, expected)

        start = jnp.zeros((n, self.cell.hidden_size), dtype), jnp.zeros((n, dim), dtype)
        return jax.lax.scan(step, start, (self.features, noise, self.reference, self.inside))[1]


class PathPosterior(eqx.Module):
    """q(x) by its paths.

    Attributes:
        paths: joint draws of the states.
        means: E[x_t], the mean of the conditional means.
        covariances: Cov(x_t): the mean of the conditional covariances and the covariance of the conditional means.
        kl: KL(q || p), averaged over the paths: exact given each path's past, so unbiased and of low variance.
    """

    paths: Float[Array, "sample time state"]
    means: Float[Array, "time state"]
    covariances: Float[Array, "time state state"]
    kl: Float[Array, ""]
    drawer: _Drawer

    @classmethod
    def of(cls, drawer: _Drawer, key: Key[Array, ""], n: int) -> "PathPosterior":
        """From ``n`` new paths."""
        drawn = drawer.draw(key, n)
        means = jnp.mean(drawn.means, axis=1)
        away = drawn.means - means[:, None]
        within = jnp.einsum("tnij,tnkj->tik", drawn.factors, drawn.factors) / n
        error = drawn.means - drawn.expected
        each = jax.vmap(divergence, in_axes=(None, 1, 1))
        return cls(
            paths=jnp.moveaxis(drawn.states, 0, 1),
            means=means,
            covariances=within + jnp.einsum("tni,tnj->tij", away, away) / n,
            kl=jnp.mean(each(drawer.reference, drawn.factors, error[..., :, None] * error[..., None, :])),
            drawer=drawer,
        )

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "sample time state"]:
        """New joint paths, differentiable."""
        return jnp.moveaxis(self.drawer.draw(key, n).states, 0, 1)
