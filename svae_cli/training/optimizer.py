"""Optimizer: one jitted gradient step of each stage."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Key

from svae_cli.data.gaps import hide
from svae_cli.data.windows import Batch, Prefetched
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.likelihoods import noise_floor
from svae_cli.models.network import LAYERS
from svae_cli.models.svae import SVAE
from svae_cli.traced import kept
from svae_cli.training.batched import summed_gradients
from svae_cli.training.dynamics_update import ClosedFormDynamics, Stepping
from svae_cli.training.objective import hidden_log_density, log_evidence
from svae_cli.training.plan import Plan
from svae_cli.training.structure import Structure

_LINEAR_RATE = 5e-3
_FINAL_RATE = 0.02  # of the peak
_WARM_UP = 20
_GROUPS = 4

Windows = tuple[ArrayLike, ...]
"""(values, observed, inputs, around, hidden) of a batch."""


@dataclass(frozen=True)
class Recipe:
    """What makes one step, but for the model, the data and the step's number: what its compiled program depends on.

    Attributes:
        objective: what is raised: "evidence", the exact marginal likelihood of a linear-Gaussian model, nothing hidden;
            or of the full model "elbo", the bound, or "predictive", the density of what is hidden.
        kl_warmup: steps over which the bound's weight of the divergence rises.
        steps: length of the schedule.
        rates: peak learning rates of (networks, everything else).
        clip_norm: largest norm of a gradient.
        learns_noise: the likelihood's parameters move.
        learns_dynamics: the prior's parameters move.
        own_states: they keep the structure of a level and a slope for each channel.
    """

    objective: str
    kl_warmup: int
    steps: int
    rates: tuple[float, float]
    clip_norm: float
    learns_noise: bool
    learns_dynamics: bool
    own_states: bool

    @property
    def transform(self) -> optax.GradientTransformation:
        """Adam with clipped gradients, a short warm-up and a cosine decay."""
        steps = self.steps
        schedules = [
            optax.warmup_cosine_decay_schedule(0.0, r, min(_WARM_UP, steps // 5), max(steps, 2), r * _FINAL_RATE)
            for r in self.rates
        ]
        network, rest = (optax.adam(schedule, b2=0.99) for schedule in schedules)
        moved = optax.partition({"network": network, "rest": rest}, _labels)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), moved)

    def trainable(self, model: SVAE) -> Any:
        """True for the parts of the model that learn."""
        held = {
            "recognition": self.objective == "evidence",  # stays exact
            "lags": model.lags is not None,
            "optimism": True,
            "likelihood": not self.learns_noise,
            "dynamics": not self.learns_dynamics,
        }
        learned = jax.tree.map(eqx.is_inexact_array, model)
        for name in (name for name, is_held in held.items() if is_held):
            nothing = jax.tree.map(lambda _: False, getattr(model, name))
            learned = eqx.tree_at(lambda m, name=name: getattr(m, name), learned, nothing)
        return learned

    def of_window(
        self,
        model: SVAE,
        step: Array,
        values: Array,
        observed: Array,
        inputs: Array,
        around: Array,
        hidden: Array,
        key: Key[Array, ""],
    ) -> Array:
        """The objective of one window in nats, higher is better."""
        if self.objective == "evidence":
            return log_evidence(model, values, observed, inputs)
        if self.objective == "predictive":
            return hidden_log_density(model, values, observed, inputs, hidden, key, around)
        part = model.elbo(values, observed, hidden, inputs, key)
        weight = jnp.minimum(1.0, (step + 1) / self.kl_warmup) if self.kl_warmup else 1.0
        return part.log_likelihood - weight * part.kl

    def scored(self, observed: Array, hidden: Array) -> Array:
        """The values that the objective is about: the bound and the evidence score what was hidden as well."""
        return observed & hidden if self.objective == "predictive" else observed


class Optimizer:
    """Gradient steps on the batches that belong to them.

    Args:
        plan: data and settings.
        recipe: of a step.
    """

    def __init__(self, plan: Plan, recipe: Recipe):
        self.steps = recipe.steps
        self._plan, self._recipe = plan, recipe
        self._hiding = recipe.objective != "evidence"
        self._key = jr.key(plan.settings.seed)
        # The linear stage has standardised units, the full one those of the model, which may be the data's own.
        unit = plan.start_scaler.std / plan.scaler.std if self._hiding else np.ones(plan.data.n_channels)
        self._floor = np.asarray(noise_floor(plan.data.n_channels) * unit**2)
        self._share = np.asarray(
            1 / plan.values_learned_from
        )  # of what is known beforehand, in the objective of a value
        self._windows = plan.windows if self._hiding else plan.linear_windows
        self._drawn = Prefetched(self._draw)

    def start(self, model: SVAE) -> Any:
        """The optimiser's arrays before its first step."""
        return self._recipe.transform.init(eqx.filter(model, self._recipe.trainable(model)))

    def step(self, model: SVAE, arrays: Any, step: int) -> tuple[SVAE, Any, float]:
        """One step on the batch that belongs to it; the objective is that of the model before the step."""
        batch, hidden, groups = self.drawn(step)
        windows = (*batch.arrays, hidden)
        here = (self._floor, self._share, self._key, np.asarray(step))
        leaves, value = _updated(self._recipe, model, arrays, windows, *here, groups=groups)
        model, arrays = jax.tree.unflatten(jax.tree.structure((model, arrays)), leaves)
        return model, arrays, float(value)

    def drawn(self, step: int) -> tuple[Batch, np.ndarray, int]:
        """What the step learns from: a batch, what is hidden of it, and how many groups of alike windows it has."""
        return self._drawn.of_step(step)

    def _draw(self, step: int) -> tuple[Batch, np.ndarray, int]:
        """(batch, what is hidden of it, groups of alike windows) that belong to a step."""
        batch = self._windows.draw(self._plan.settings.seed, step, self._plan.sizes.batch_size)
        return batch, self._hidden(batch, step), self._groups(batch)

    def _hidden(self, batch: Batch, step: int) -> np.ndarray:
        """What is hidden from recognition."""
        settings = self._plan.settings
        if not self._hiding or settings.mask_pattern in ("none", "auto"):
            return np.zeros_like(batch.observed)
        rng = np.random.default_rng([settings.seed, step, 0x41DE])
        rate = rng.uniform(0.1, 1.0) * min(0.95, 2 * settings.mask_rate)
        groups = self._groups(batch)
        if not groups:
            return hide(batch.observed, settings.mask_pattern, rate, rng)
        masks = hide(batch.observed[:groups], settings.mask_pattern, rate, rng)
        return np.repeat(masks, len(batch) // groups, axis=0)

    def _groups(self, batch: Batch) -> int:
        """Windows that are alike share their masks in a few groups: cheaper, and less noisy than one mask for all.

        Only message passing has covariances to share, and with frames they are not what costs time: XLA's convolutions
        take twice as long within the loop over groups (CPU).
        """
        settings = self._plan.settings
        if not batch.alike or (self._hiding and (settings.posterior != "svae" or settings.decoder == "conv")):
            return 0
        return max(g for g in range(1, _GROUPS + 1) if len(batch) % g == 0) if self._hiding else 1


@kept
def _updated(
    recipe: Recipe,
    model: SVAE,
    arrays: Any,
    windows: Windows,
    floor: ArrayLike,
    share: ArrayLike,
    key: Key[Array, ""],
    step: ArrayLike,
    *,
    groups: int,
) -> tuple[list[Array], Array]:
    """The leaves of the next (model, arrays of the optimiser); the objective a value, NaN without a finite gradient."""
    values, observed, inputs, around, hidden = map(jnp.asarray, windows)
    parameters, rest = eqx.partition(model, recipe.trainable(model))

    def of_window(parameters, values, observed, inputs, hidden, key, around):
        model = eqx.combine(parameters, rest)
        return recipe.of_window(model, jnp.asarray(step), values, observed, inputs, around, hidden, key)

    keys = jr.split(jr.fold_in(key, jnp.asarray(step)), len(values))
    total, gradient = summed_gradients(
        of_window, parameters, values, observed, inputs, hidden, keys, around, groups=groups
    )
    count = jnp.maximum(jnp.sum(recipe.scored(observed, hidden)), 1)
    gradient: Any = jax.tree.map(lambda g: -g / count, gradient)
    if recipe.own_states:
        gradient = _within(Structure.own(values.shape[-1]), gradient, model.dynamics, jnp.asarray(share, values.dtype))
    finite = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)])
    value = jnp.where(jnp.all(finite), total / count, jnp.nan)
    updates, arrays = recipe.transform.update(gradient, arrays, parameters)
    model = eqx.combine(eqx.apply_updates(parameters, updates), rest)
    if recipe.learns_noise:
        model = _project(model, jnp.asarray(floor))
    return jax.tree.leaves((model, arrays)), value


def linear_optimizer(plan: Plan) -> Optimizer:
    """Exact marginal likelihood of the linear-Gaussian model; recognition stays exact."""
    recipe = Recipe(
        objective="evidence",
        kl_warmup=0,
        steps=plan.sizes.linear_steps,
        rates=(_LINEAR_RATE, _LINEAR_RATE),
        clip_norm=plan.settings.clip_norm,
        learns_noise=True,
        learns_dynamics=True,
        own_states=plan.settings.states == "own",
    )
    return Optimizer(plan, recipe)


def masked_optimizer(plan: Plan) -> Stepping:
    """The masked objective of the full model: the bound, or the predictive density of what is hidden."""
    settings = plan.settings
    recipe = Recipe(
        objective="elbo" if settings.objective == "elbo" else "predictive",
        kl_warmup=settings.kl_warmup,
        steps=plan.sizes.full_steps,
        rates=(settings.learning_rate, settings.prior_learning_rate),
        clip_norm=settings.clip_norm,
        learns_noise=settings.noise is None,
        learns_dynamics=settings.prior_update == "gradient" and settings.states != "own",
        own_states=settings.states == "own",
    )
    optimizer = Optimizer(plan, recipe)
    if settings.prior_update == "gradient":
        return optimizer
    sizes = {"latent_dim": plan.sizes.latent_dim, "n_inputs": plan.data.n_inputs}
    return ClosedFormDynamics(optimizer, optimizer.drawn, **sizes, seed=settings.seed)


def _labels(parameters: Any) -> Any:
    """Call the leaves of networks "network", all others "rest"."""
    is_network = lambda node: isinstance(node, LAYERS)  # noqa: E731
    name = lambda node: jax.tree.map(lambda _: "network" if is_network(node) else "rest", node)  # noqa: E731
    return jax.tree.map(name, parameters, is_leaf=is_network)


def _within(structure: Structure, gradient: SVAE, dynamics: Dynamics, share: Array) -> SVAE:
    """Without what would move entries that are zero for good, and with what draws levels to ones that last.

    Q is block diagonal as its factor is.
    """
    loadings = jnp.where(structure.loadings, gradient.decoder.loadings, 0.0)
    gradient = eqx.tree_at(lambda m: m.decoder.loadings, gradient, loadings)
    if gradient.dynamics.transition is None:  # held
        return gradient
    pull = structure.pull(jnp.diag(dynamics.noise_cov.matrix)) * (dynamics.transition - structure.lasting) * share
    moved = jnp.where(structure.transition, gradient.dynamics.transition, 0.0) + pull
    lower = jnp.where(structure.noise, gradient.dynamics.noise_cov.lower, 0.0)
    return eqx.tree_at(lambda m: (m.dynamics.transition, m.dynamics.noise_cov.lower), gradient, (moved, lower))


def _project(model: SVAE, floor: Array) -> SVAE:
    """Keep noise variances above their floor, one a channel."""
    log_variance = getattr(model.likelihood, "log_variance", None)
    if log_variance is None:
        return model
    log_floor = jnp.log(floor).astype(log_variance.dtype)
    return eqx.tree_at(lambda m: m.likelihood.log_variance, model, jnp.maximum(log_variance, log_floor))
