"""Whether channels share their states or have their own: where that predicts held-out values clearly better.

Shared states find what channels have in common, and need many steps to tell it from chance; a record that leaves the
range it was in shows it. Within that range they fill gaps better, so only records of which next to nothing is missing
are asked. The question is answered after EM, by the score that the full model is chosen by.
"""

from dataclasses import replace

import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.training.em import em_step
from svae_cli.training.plan import MOST_STATES, Plan, make_plan
from svae_cli.training.starts import as_judged, full_from, start_of
from svae_cli.training.structure import may_have_own_states
from svae_cli.training.validation import validate

_MOST_VALUES = 100_000  # that are learned from
_COMPLETE = 0.95  # of the values, at least: of fewer it is the gaps that will be asked, and these are within the range
_CLEARLY = 0.9  # times the errors: few held-out values tell no smaller differences


def choose_plan(data: SeriesSet, settings: Settings, valid: SeriesSet | None = None) -> Plan:
    """``make_plan``, with states of their own where they are clearly better and nothing else is asked for.

    Raises:
        DataError: as for ``make_plan``.
        UsageError: likewise.
    """
    plan = make_plan(data, settings, valid)
    dim, values = 2 * plan.data.n_channels, sum(plan.data.lengths) * plan.data.n_channels
    complete = plan.values_learned_from > _COMPLETE * values
    asked = settings.states == "auto" and settings.latent_dim is None and settings.residual_chains == "auto"
    fits = 2 < dim <= MOST_STATES and may_have_own_states(plan.settings, plan.data)
    if not (asked and fits and complete and values < _MOST_VALUES):
        return plan
    own = _with_own_states(plan, dim)
    shared_score, own_score = (_score(p) for p in (plan, own))
    own_wins = own_score > _CLEARLY * shared_score
    leave = f"leave errors of {-shared_score:.3g} in held-out values, a level and a slope a channel {-own_score:.3g}"
    reason = f"{'own' if own_wins else 'shared'}: {plan.sizes.latent_dim} shared ones {leave}"
    chosen = own if own_wins else plan
    return replace(chosen, choices=chosen.choices | {"states": reason})


def _with_own_states(plan: Plan, dim: int) -> Plan:
    """They follow each channel, so nothing is left that would last."""
    settings = plan.settings.changed(states="own", latent_dim=dim, residual_chains="off")
    choices = {k: v for k, v in plan.choices.items() if k != "residual_chains"}
    choices["latent_dim"] = f"{dim}: two for each of {plan.data.n_channels} channels"
    return replace(plan, settings=settings, sizes=replace(plan.sizes, latent_dim=dim), choices=choices)


def _score(plan: Plan) -> float:
    """Of held-out values under the full model as EM leaves it, higher is better; none where EM is lost."""
    model, size = start_of(plan), plan.sizes.batch_size
    for _ in range(plan.settings.em_steps):
        model = em_step(model, plan.start_windows, batch_size=size, structure=plan.structure)
        if not np.isfinite(np.asarray(model.dynamics.transition)).all():
            return -np.inf
    return validate(as_judged(plan, full_from(plan, model)), plan.valid, plan.valid_hidden, batch_size=size).score
