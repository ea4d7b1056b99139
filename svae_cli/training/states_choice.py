"""Whether channels share their states or have their own: where that predicts held-out values clearly better.

Shared states find what channels have in common, and need many steps to tell it from chance; a record that leaves the
range it was in shows it. Within that range they fill gaps better, so only records of which next to nothing is missing
are asked (``resolve_states``). The question is answered after EM, by the score that the full model is chosen by.
"""

from dataclasses import replace

import numpy as np

from svae_cli.models.svae import SVAE
from svae_cli.training.plan import Plan
from svae_cli.training.starts import as_judged, full_from
from svae_cli.training.validation import validate

_CLEARLY = 0.9  # times the errors: few held-out values tell no smaller differences


def with_shared_states(plan: Plan, reason: str) -> Plan:
    """The question of ``plan`` answered."""
    return replace(plan, settings=plan.settings.changed(states="shared"), choices=plan.choices | {"states": reason})


def with_own_states(plan: Plan, reason: str) -> Plan:
    """The question of ``plan`` answered. These states follow each channel, so nothing is left that would last."""
    dim = 2 * plan.data.n_channels
    settings = plan.settings.changed(states="own", latent_dim=dim, residual_chains="off")
    choices = {k: v for k, v in plan.choices.items() if k != "residual_chains"}
    choices |= {"latent_dim": f"{dim}: two for each of {plan.data.n_channels} channels", "states": reason}
    return replace(plan, settings=settings, sizes=replace(plan.sizes, latent_dim=dim), choices=choices)


def choose_states(plan: Plan, shared: SVAE, own: SVAE | None) -> tuple[Plan, SVAE]:
    """The plan without its question, and the one of two linear models that it goes on with.

    Args:
        plan: whose ``states`` are to be chosen.
        shared: as EM left it.
        own: likewise; None where EM was lost.
    """
    candidate = with_own_states(plan, "")
    shared_error, own_error = _error(plan, shared), np.inf if own is None else _error(candidate, own)
    leave = f"leave errors of {shared_error:.3g} in held-out values, a level and a slope a channel {own_error:.3g}"
    reason = f"{plan.sizes.latent_dim} shared ones {leave}"
    if own is None or not own_error < _CLEARLY * shared_error:
        return with_shared_states(plan, f"shared: {reason}"), shared
    return with_own_states(plan, f"own: {reason}"), own


def _error(plan: Plan, linear: SVAE) -> float:
    """In held-out values, under the full model as EM leaves it; infinite where its predictions are lost."""
    model = as_judged(plan, full_from(plan, linear))
    error = -validate(model, plan.valid, plan.valid_hidden, batch_size=plan.sizes.batch_size).score
    return error if np.isfinite(error) else np.inf
