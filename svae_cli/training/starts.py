"""Starts: linear-Gaussian models that training may begin with, full models that begin as these, what is judged."""

import equinox as eqx
import numpy as np

from svae_cli.models.build import full_model, linear_model
from svae_cli.models.levels import with_own_unit_roots, with_unit_roots
from svae_cli.models.svae import SVAE
from svae_cli.training.linear_start import linear_start
from svae_cli.training.own_start import own_start
from svae_cli.training.plan import Plan
from svae_cli.training.residual_start import residual_start
from svae_cli.training.season_start import season_start


def start_of(plan: Plan) -> SVAE:
    """The linear model that EM begins with."""
    if plan.settings.states == "own":
        return own_start(plan.start_windows, stable=plan.settings.stable)
    dim = plan.sizes.latent_dim
    return linear_start(plan.start_windows, plan.periods, latent_dim=dim, stable=plan.settings.stable)


def random_start(plan: Plan) -> SVAE:
    """A linear model of small random loadings and slowly decaying states, for comparison with the linear start."""
    settings, rng = plan.settings, np.random.default_rng([plan.settings.seed, 0x57A27])
    dim, width = plan.sizes.latent_dim, plan.data.n_channels
    return linear_model(
        transition=0.9 * np.eye(dim),
        noise_cov=0.19 * np.eye(dim),
        loadings=rng.standard_normal((width, dim)) / np.sqrt(dim),
        offset=np.zeros(width),
        noise_variance=np.ones(width),
        n_inputs=plan.data.n_inputs,
        stable=settings.stable,
        dtype=np.dtype(settings.precision),
    )


def full_from(plan: Plan, linear: SVAE) -> SVAE:
    """The full model that begins as ``linear``, in model units."""
    scaler, settings, residual, season = plan.start_scaler, plan.settings, None, None
    if settings.residual_chains == "on":
        residual = residual_start(linear, plan.start_windows, seed=settings.seed)
    if plan.season is not None:
        with_chains = eqx.tree_at(lambda m: m.residual, linear, residual, is_leaf=lambda leaf: leaf is None)
        season = season_start(with_chains, plan.season, plan.season_windows, seed=settings.seed)
    return full_model(
        linear,
        settings,
        mean=scaler.mean,
        std=scaler.std,
        channel_shape=plan.data.channel_shape,
        residual=residual,
        season=season,
        lags=plan.lags,
        optimism=plan.optimism,
    )


def as_judged(plan: Plan, model: SVAE) -> SVAE:
    """What is judged and kept, and begins the next stage; within a stage training goes on from the estimates."""
    if not plan.settings.unit_roots or plan.settings.likelihood in ("poisson", "bernoulli"):
        return model
    here = {"steps": sum(plan.data.lengths), "window": plan.sizes.window}
    if plan.settings.states == "own":
        dynamics = with_own_unit_roots(model.dynamics, np.asarray(model.decoder.loadings), plan.change, **here)
    else:
        dynamics = with_unit_roots(model.dynamics, **here)
    return eqx.tree_at(lambda m: m.dynamics, model, dynamics)
