"""Optimizer: one jitted gradient step of each stage."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from svae_cli.data.gaps import hide
from svae_cli.data.windows import Batch, Prefetched
from svae_cli.models.likelihoods import noise_floor
from svae_cli.models.network import LAYERS
from svae_cli.models.svae import SVAE
from svae_cli.precision import full_precision
from svae_cli.training.batched import summed_gradients
from svae_cli.training.dynamics_update import ClosedFormDynamics, Stepping
from svae_cli.training.objective import hidden_log_density, log_evidence
from svae_cli.training.plan import Plan

Objective = Callable[..., Array]
"""(model, values, observed, inputs, hidden, key, around, step) of one window to nats, higher is better."""

Scored = Callable[[Array, Array], Array]
"""(observed, hidden) to the values that the objective is about."""

_LINEAR_RATE = 5e-3
_FINAL_RATE = 0.02  # of the peak
_WARM_UP = 20
_GROUPS = 4


class Optimizer:
    """Adam with clipped gradients, a short warm-up and a cosine decay over ``steps``.

    Args:
        plan: data and settings.
        objective: its sum over the windows of a batch is raised.
        scored: what that sum is divided by the number of.
        steps: length of the schedule.
        rates: peak learning rates of (networks, everything else).
        trainable: picks the parts of the model that learn.
        hiding: whether windows are masked.
    """

    def __init__(
        self,
        plan: Plan,
        objective: Objective,
        scored: Scored,
        *,
        steps: int,
        rates: tuple[float, float],
        trainable: Callable[[SVAE], Any],
        hiding: bool,
    ):
        self.steps = steps
        self._plan = plan
        self._hiding = hiding
        self._trainable = trainable
        schedules = [
            optax.warmup_cosine_decay_schedule(0.0, r, min(_WARM_UP, steps // 5), max(steps, 2), r * _FINAL_RATE)
            for r in rates
        ]
        self._transform = optax.chain(
            optax.clip_by_global_norm(plan.settings.clip_norm),
            optax.partition(
                {name: optax.adam(s, b2=0.99) for name, s in zip(("network", "rest"), schedules, strict=True)},
                _labels,
            ),
        )
        self._jitted = jax.jit(full_precision(self._update_leaves), static_argnames=("structure", "groups"))
        self._objective, self._scored = objective, scored
        # The linear stage has standardised units, the full one those of the model, which may be the data's own.
        unit = plan.start_scaler.std / plan.scaler.std if hiding else np.ones(plan.data.n_channels)
        self._floor = jnp.asarray(noise_floor(plan.data.n_channels) * unit**2)
        self._windows = plan.windows if hiding else plan.linear_windows
        self._drawn = Prefetched(self._draw)

    def start(self, model: SVAE) -> Any:
        """The optimiser's arrays before its first step."""
        return self._transform.init(eqx.filter(model, self._trainable(model)))

    def step(self, model: SVAE, arrays: Any, step: int) -> tuple[SVAE, Any, float]:
        """One step on the batch that belongs to it; the objective is that of the model before the step."""
        batch, hidden, groups = self.drawn(step)
        leaves, structure = jax.tree.flatten((model, arrays))
        data = (*batch.arrays, hidden, np.asarray(step))
        leaves, value = self._jitted(leaves, data, structure=structure, groups=groups)
        model, arrays = jax.tree.unflatten(structure, leaves)
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

    def _update_leaves(self, leaves, data, structure, groups):
        """One update of flat arrays: equinox's jit takes 2 ms a step to pass a hundred of them in modules."""
        model, arrays = jax.tree.unflatten(structure, leaves)
        model, arrays, value = self._update(model, arrays, *data, groups=groups)
        return jax.tree.leaves((model, arrays)), value

    def _update(self, model, arrays, values, observed, inputs, around, hidden, step, groups):
        key = jr.fold_in(jr.key(self._plan.settings.seed), step)
        parameters, rest = eqx.partition(model, self._trainable(model))

        def of_window(parameters, values, observed, inputs, hidden, key, around):
            model = eqx.combine(parameters, rest)
            return self._objective(model, values, observed, inputs, hidden, key, around, step)

        windows = (values, observed, inputs, hidden, jr.split(key, len(values)), around)
        total, gradient = summed_gradients(of_window, parameters, *windows, groups=groups)
        count = jnp.maximum(jnp.sum(self._scored(observed, hidden)), 1)
        gradient = jax.tree.map(lambda g: -g / count, gradient)
        updates, arrays = self._transform.update(gradient, arrays, parameters)
        model = eqx.combine(eqx.apply_updates(parameters, updates), rest)
        if not self._hiding or self._plan.settings.noise is None:
            model = _project(model, self._floor)
        return model, arrays, total / count


def linear_optimizer(plan: Plan) -> Optimizer:
    """Exact marginal likelihood of the linear-Gaussian model; recognition stays exact."""

    def objective(model, values, observed, inputs, hidden, key, around, step):
        return log_evidence(model, values, observed, inputs)

    def trainable(model):
        frozen = jax.tree.map(lambda _: False, model.recognition)
        return eqx.tree_at(lambda m: m.recognition, jax.tree.map(eqx.is_inexact_array, model), frozen)

    return Optimizer(
        plan,
        objective,
        _observed,
        steps=plan.sizes.linear_steps,
        rates=(_LINEAR_RATE, _LINEAR_RATE),
        trainable=trainable,
        hiding=False,
    )


def masked_optimizer(plan: Plan) -> Stepping:
    """The masked objective of the full model: the bound, or the predictive density of what is hidden."""
    settings = plan.settings
    by_gradient = settings.prior_update == "gradient"

    def predictive(model, values, observed, inputs, hidden, key, around, step):
        return hidden_log_density(model, values, observed, inputs, hidden, key, around)

    def bound(model, values, observed, inputs, hidden, key, around, step):
        part = model.elbo(values, observed, hidden, inputs, key)
        weight = jnp.minimum(1.0, (step + 1) / settings.kl_warmup) if settings.kl_warmup else 1.0
        return part.log_likelihood - weight * part.kl

    def trainable(model):
        learned = jax.tree.map(eqx.is_inexact_array, model)
        if model.lags is not None:
            learned = eqx.tree_at(lambda m: m.lags, learned, jax.tree.map(lambda _: False, model.lags))
        if settings.noise is not None:
            learned = eqx.tree_at(lambda m: m.likelihood, learned, jax.tree.map(lambda _: False, model.likelihood))
        if not by_gradient:
            learned = eqx.tree_at(lambda m: m.dynamics, learned, jax.tree.map(lambda _: False, model.dynamics))
        return learned

    optimizer = Optimizer(
        plan,
        *((bound, _observed) if settings.objective == "elbo" else (predictive, jnp.logical_and)),
        steps=plan.sizes.full_steps,
        rates=(settings.learning_rate, settings.prior_learning_rate),
        trainable=trainable,
        hiding=True,
    )
    if by_gradient:
        return optimizer
    sizes = {"latent_dim": plan.sizes.latent_dim, "n_inputs": plan.data.n_inputs}
    return ClosedFormDynamics(optimizer, optimizer.drawn, **sizes, seed=settings.seed)


def _observed(observed: Array, hidden: Array) -> Array:
    """The bound and the evidence score what was hidden as well."""
    del hidden
    return observed


def _labels(parameters: Any) -> Any:
    """Call the leaves of networks "network", all others "rest"."""
    is_network = lambda node: isinstance(node, LAYERS)  # noqa: E731
    name = lambda node: jax.tree.map(lambda _: "network" if is_network(node) else "rest", node)  # noqa: E731
    return jax.tree.map(name, parameters, is_leaf=is_network)


def _project(model: SVAE, floor: Array) -> SVAE:
    """Keep noise variances above their floor, one a channel."""
    log_variance = getattr(model.likelihood, "log_variance", None)
    if log_variance is None:
        return model
    log_floor = jnp.log(floor).astype(log_variance.dtype)
    return eqx.tree_at(lambda m: m.likelihood.log_variance, model, jnp.maximum(log_variance, log_floor))
