"""fit: the training loop, as a generator that yields its state after every step; it prints and saves nothing.

Stages, each starting where the one before ended:

    em        EM on the linear-Gaussian model, from the closed-form start
    em-own    the same with states of each channel's own, where the plan asks which are better; the better goes on
    linear    Adam on the exact marginal likelihood of the linear-Gaussian model
    full      Adam on the masked objective of the full model, validated as it goes; the best model is kept. The
              dynamics may follow the states' expected statistics instead

Every random choice is a function of (seed, stage, step), so a state is all that is needed to go on exactly.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import NumericalError
from svae_cli.models.build import with_potentials
from svae_cli.models.fitted import FittedModel
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.svae import SVAE
from svae_cli.training.dynamics_update import Stepping
from svae_cli.training.em import em_step
from svae_cli.training.optimizer import linear_optimizer, masked_optimizer
from svae_cli.training.own_start import own_start
from svae_cli.training.plan import Plan, make_plan
from svae_cli.training.starts import as_judged, full_from, random_start, start_of
from svae_cli.training.states_choice import choose_states, with_own_states, with_shared_states
from svae_cli.training.validation import Validation, validate

STAGES = ("em", "em-own", "linear", "full")
_ROUNDS = 20  # validation rounds a stage
_TIME_TO_ASK = 0.25  # of the time limit: where EM took more, states are shared
_MOST_LEFT_OUT = 10  # steps in a row, in one run, whose objective is not finite: a batch may be lost, a model not


@dataclass(frozen=True)
class Report:
    """What happened in one step.

    Attributes:
        stage: one of ``STAGES``.
        step: steps of this stage that are done.
        steps: steps of this stage in all.
        train: the objective on the step's batch, nats per value, higher is better; None in EM.
        valid: scores on the validation windows, in validation rounds only.
        best: this round's model is the best so far.
        seconds: training time, earlier runs that were resumed included.
        remaining: estimated seconds to the end of the last stage; None before that can be said.
        warning: what the user should hear, or empty.
    """

    stage: str
    step: int
    steps: int
    train: float | None
    valid: Validation | None
    best: bool
    seconds: float
    remaining: float | None
    warning: str = ""


@dataclass(frozen=True)
class TrainState:
    """All that training needs to go on from here.

    Attributes:
        plan: what follows from data and settings alone.
        stage: one of ``STAGES``, or "done".
        step: steps of the stage that are done.
        model: the current model.
        optimizer: the optimiser's arrays; None in EM.
        aside: in stage "em-own" the linear model that EM was done with; None elsewhere.
        best: the best full model so far.
        best_score: its validation score: the bound where that is what is trained (stage "linear" of Gaussian noise,
            and where training hides nothing), else ``Validation.score``.
        stale: validation rounds since.
        history: one record a validation round.
        seconds: training time so far, the plan included.
    """

    plan: Plan
    stage: str
    step: int
    model: SVAE
    optimizer: Any
    aside: SVAE | None
    best: SVAE
    best_score: float
    stale: int
    history: tuple[dict[str, Any], ...]
    seconds: float

    @property
    def fitted(self) -> FittedModel:
        """The best model so far, ready to use."""
        plan = self.plan
        return FittedModel(
            model=self.best,
            settings=plan.settings,
            scaler=plan.scaler,
            channels=plan.data.channels,
            units=plan.data.units,
            channel_shape=plan.data.channel_shape,
            inputs=plan.data.inputs,
            choices=plan.choices,
            history=self.history,
            split=plan.split,
            fingerprint=plan.fingerprint,
            time=plan.data.time,
        )


@dataclass(frozen=True)
class Progress:
    """A step's report and the state after it."""

    report: Report
    state: TrainState


def fit(
    data: SeriesSet, settings: Settings, *, valid: SeriesSet | None = None, state: TrainState | None = None
) -> Iterator[Progress]:
    """Train; the last yielded state holds the best model.

    Args:
        data: the series to learn from.
        settings: what was asked for; None and "auto" are resolved from the data.
        valid: series to validate on; by default a part of ``data`` is held out.
        state: go on from here instead of from the start; the same data and settings are expected.

    Raises:
        DataError: the data cannot be trained on.
        NumericalError: the objective left the finite numbers; the last yielded state holds the best model so far.
    """
    clock = _Clock(settings.time_limit, 0.0)
    if state is None:
        state = initial_state(make_plan(data, settings, valid))
    else:
        clock = _Clock(state.plan.settings.time_limit, state.seconds)
    if state.stage == "em":
        state = yield from _run_em(state, clock)
    if state.stage == "em-own":
        state = yield from _run_own_em(state, clock)
    if state.stage == "linear":
        state = yield from _run_linear(state, clock)
    if state.stage == "full":
        yield from _run_full(state, clock)


def initial_state(plan: Plan) -> TrainState:
    """The state before the first step."""
    settings = plan.settings
    if settings.start == "linear":
        return _state(plan, "em", start_of(plan))
    return _state(plan, "full", full_from(plan, random_start(plan)))


def _state(plan: Plan, stage: str, model: SVAE) -> TrainState:
    best = model if stage == "full" else full_from(plan, model)
    return TrainState(
        plan=plan,
        stage=stage,
        step=0,
        model=model,
        optimizer=None,
        aside=None,
        best=best,
        best_score=-np.inf,
        stale=0,
        history=(),
        seconds=0.0,
    )


class _Clock:
    """Training time over several runs, whether it is up, and how much is left to go."""

    def __init__(self, limit: float | None, spent: float):
        self._begin = time.monotonic() - spent
        self._limit = limit
        self._stage = ""
        self._first = (0, 0.0)

    def spent(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self._begin

    @property
    def share(self) -> float:
        """Of the time limit, what is spent; 0 without one."""
        return 0.0 if self._limit is None else self.spent() / self._limit

    @property
    def is_up(self) -> bool:
        """True when the time limit has passed."""
        return self.share > 1

    def remaining(self, state: TrainState, steps: int, later: int) -> float | None:
        """Estimated seconds to the end: the stage's own pace, and later steps at three times its cost.

        The first step of a stage is not counted, as it compiles; before the second one nothing can be said.
        """
        now = self.spent()
        if state.stage != self._stage:
            self._stage, self._first = state.stage, (state.step, now)
            return None
        done = state.step - self._first[0]
        if state.stage in ("em", "em-own") or done < 2:
            return None
        pace = (now - self._first[1]) / done
        left = pace * (steps - state.step + 3 * later)
        return left if self._limit is None else max(0.0, min(left, self._limit - now))


def _run_em(state: TrainState, clock: _Clock) -> Generator[Progress, None, TrainState]:
    """However short the time is, one step is taken: there is a model then."""
    plan, steps = state.plan, state.plan.settings.em_steps
    while state.step < steps and (state.step == 0 or not clock.is_up):
        model = em_step(state.model, plan.start_windows, batch_size=plan.sizes.batch_size, structure=plan.structure)
        if not _is_finite(model):
            raise NumericalError(
                f"EM left the finite numbers in iteration {state.step + 1}",
                hint="--precision float64, or a smaller --latent-dim",
            )
        state = replace(state, model=model, step=state.step + 1, seconds=clock.spent())
        if state.step == steps or clock.is_up:
            state = replace(state, best=full_from(plan, model))
        yield _progress(state, clock, steps, None, None, best=False)
    if plan.settings.states != "auto":
        return _begin_linear(state, plan, state.model)
    if clock.share > _TIME_TO_ASK:
        return _begin_linear(state, with_shared_states(plan, "shared: too little time to try others"), state.model)
    own = own_start(plan.start_windows, stable=plan.settings.stable)
    return replace(state, stage="em-own", step=0, model=own, aside=state.model)


def _run_own_em(state: TrainState, clock: _Clock) -> Generator[Progress, None, TrainState]:
    """EM with states of their own, and the choice; the best model is that of shared ones until then."""
    shared, plan = state.aside, with_own_states(state.plan, "")
    if shared is None:
        raise ValueError("Expected the linear model that EM was done with")
    steps, own = plan.settings.em_steps, state.model
    while state.step < steps and _is_finite(own):
        if clock.is_up:
            return state
        own = em_step(own, plan.start_windows, batch_size=plan.sizes.batch_size, structure=plan.structure)
        state = replace(state, model=own, step=state.step + 1, seconds=clock.spent())
        yield _progress(state, clock, steps, None, None, best=False)
    plan, model = choose_states(state.plan, shared, own if _is_finite(own) else None)
    if model is not shared:
        state = replace(state, best=full_from(plan, model))
    return _begin_linear(state, plan, model)


def _begin_linear(state: TrainState, plan: Plan, model: SVAE) -> TrainState:
    arrays = linear_optimizer(plan).start(model)
    return replace(state, plan=plan, stage="linear", step=0, model=model, optimizer=arrays, aside=None)


def _run_linear(state: TrainState, clock: _Clock) -> Generator[Progress, None, TrainState]:
    plan = state.plan
    optimizer = linear_optimizer(plan)
    state = yield from _descend(state, clock, optimizer, lambda model: full_from(plan, model))
    # The full model starts from the best round of the linear one, and has to beat it by its own measure.
    return replace(state, stage="full", step=0, model=state.best, optimizer=None, best_score=-np.inf, stale=0)


def _run_full(state: TrainState, clock: _Clock) -> Iterator[Progress]:
    optimizer = masked_optimizer(state.plan)
    if state.optimizer is None:
        state = replace(state, optimizer=optimizer.start(state.model))
    state = yield from _descend(state, clock, optimizer, lambda model: model)
    return replace(state, stage="done")


def _descend(
    state: TrainState, clock: _Clock, optimizer: Stepping, as_full: Callable[[SVAE], SVAE]
) -> Generator[Progress, None, TrainState]:
    """Steps with validation rounds between, until the stage's steps, its patience or the time is used up."""
    plan = state.plan
    every, left_out = max(1, optimizer.steps // _ROUNDS), 0
    if state.step == 0:
        state, _, _ = _validation_round(state, as_full(state.model), None)
    while state.step < optimizer.steps and state.stale <= plan.settings.patience and not (clock.is_up or _lost(state)):
        model, arrays, objective = optimizer.step(state.model, state.optimizer, state.step)
        left_out, warning = 0 if np.isfinite(objective) else left_out + 1, ""
        if left_out:
            problem = f"the objective or its gradient became {objective} in step {state.step + 1}"
            if state.stage == "linear":
                yield _left_early(state, clock, optimizer.steps, problem)
                return state
            model, arrays, objective, warning = _without_batch(state, problem, left_out)
        state = replace(state, model=model, optimizer=arrays, step=state.step + 1, seconds=clock.spent())
        valid, best = None, False
        if state.step % every == 0 or state.step == optimizer.steps:
            state, valid, best = _validation_round(state, as_full(model), objective)
            if _lost(state):
                yield _left_early(state, clock, optimizer.steps, f"predictions are not finite after step {state.step}")
                continue
        yield _progress(state, clock, optimizer.steps, objective, valid, best=best, warning=warning)
    return state


def _without_batch(state: TrainState, problem: str, left_out: int) -> tuple[SVAE, Any, None, str]:
    """(model, arrays, objective, warning) where a step is left out, unless too many were; one warning a row."""
    if left_out == _MOST_LEFT_OUT:
        raise NumericalError(
            f"{problem} of stage 'full', as in the {left_out - 1} before",
            hint="a smaller --learning-rate, or --precision float64; the best model so far is kept",
        )
    warning = f"{problem} of stage 'full'; what its batch says is left out" if left_out == 1 else ""
    return state.model, state.optimizer, None, warning


def _lost(state: TrainState) -> bool:
    """Whether the linear stage has run out of float32; told by its record, so that a resumed run knows it too."""
    return state.stage == "linear" and bool(state.history) and not np.isfinite(state.history[-1]["score"])


def _left_early(state: TrainState, clock: _Clock, steps: int, problem: str) -> Progress:
    """The linear stage ends before its time: a start that is less good than it could be, but a start."""
    warning = f"{problem} of stage 'linear'; training goes on from the best round before"
    return _progress(state, clock, steps, None, None, best=False, warning=warning)


def _validation_round(state: TrainState, model: SVAE, objective: float | None) -> tuple[TrainState, Validation, bool]:
    plan = state.plan
    model = as_judged(plan, model)
    # Other families begin with random networks, which say nothing about the linear model: its own posterior judges it.
    judged = with_potentials(model) if state.stage == "linear" else model
    valid = validate(judged, plan.valid, plan.valid_hidden, batch_size=plan.sizes.batch_size)
    # What is trained on its bound alone is judged by it; else a model is judged by how it predicts what is hidden.
    # Of counts and binary values the linear stage does not raise the bound, only that of a Gaussian stand-in.
    exact = state.stage == "linear" and isinstance(model.likelihood, GaussianLikelihood)
    score = valid.elbo if exact or plan.settings.mask_pattern == "none" else valid.score
    best = score > state.best_score and bool(np.isfinite(valid.score))
    record = {
        "stage": state.stage,
        "step": state.step,
        "train": objective,
        "elbo": valid.elbo,
        "score": valid.score,
        "coverage": valid.coverage,
        "best": best,
    }
    state = replace(
        state,
        best=model if best else state.best,
        best_score=score if best else state.best_score,
        stale=0 if best else state.stale + 1,
        history=(*state.history, record),
    )
    return state, valid, best


def _progress(
    state: TrainState,
    clock: _Clock,
    steps: int,
    objective: float | None,
    valid: Validation | None,
    *,
    best: bool,
    warning: str = "",
) -> Progress:
    later = state.plan.sizes.full_steps if state.stage == "linear" else 0
    report = Report(
        stage=state.stage,
        step=state.step,
        steps=steps,
        train=objective,
        valid=valid,
        best=best,
        seconds=state.seconds,
        remaining=clock.remaining(state, steps, later),
        warning=warning,
    )
    return Progress(report=report, state=state)


def _is_finite(model: SVAE) -> bool:
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return all(bool(np.isfinite(leaf).all()) for leaf in leaves)


__all__ = ["Progress", "Report", "Settings", "TrainState", "fit", "initial_state"]
