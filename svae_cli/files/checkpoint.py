"""Checkpoints: everything that training needs to go on exactly where it stopped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError, ModelError, UsageError
from svae_cli.files import safe
from svae_cli.files.atomic import replacing
from svae_cli.files.sink import new_hdf5
from svae_cli.files.tree import read_tree, write_tree
from svae_cli.models.build import skeleton
from svae_cli.models.svae import SVAE
from svae_cli.training.fit import STAGES, TrainState
from svae_cli.training.optimizer import linear_optimizer, masked_optimizer
from svae_cli.training.plan import Plan, make_plan
from svae_cli.training.states_choice import with_own_states, with_shared_states

FORMAT = "svae-checkpoint-1"
_CHOSEN = ("states", "latent_dim", "window", "batch_size", "linear_steps", "season", "short_season", "lags")
_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class Asked:
    """What the training was begun with.

    Attributes:
        settings: as the user gave them, before anything was chosen from the data.
        fingerprint: of the data.
        given_validation: whether the validation data came from another file.
    """

    settings: Settings
    fingerprint: str
    given_validation: bool


def save_checkpoint(path: Path, state: TrainState, asked: Settings) -> None:
    """Write a checkpoint in place of an older one; it appears whole or not at all.

    Args:
        path: the checkpoint.
        state: what to go on from.
        asked: the settings as the user gave them; with the data, the plan follows from them.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path, force=True) as temporary, new_hdf5(temporary, path) as (file, _):
        file.attrs["svae_format"] = FORMAT
        file.attrs["settings"] = json.dumps(asked.to_json(), sort_keys=True)
        file.attrs["fingerprint"] = state.plan.fingerprint
        file.attrs["given_validation"] = int(state.plan.split.get("kind") == "given")
        file.attrs["powers"] = json.dumps(_powers(state.plan))
        file.attrs["chosen"] = json.dumps(_chosen(state.plan), sort_keys=True)
        file.attrs["states"] = state.plan.choices.get("states", "")
        file.attrs["stage"] = state.stage
        file.attrs["step"] = state.step
        file.attrs["best_score"] = state.best_score
        file.attrs["stale"] = state.stale
        file.attrs["seconds"] = state.seconds
        file.create_dataset("history", data=json.dumps(state.history, default=_plain), dtype=_TEXT)
        write_tree(file.create_group("model"), state.model)
        write_tree(file.create_group("best"), state.best)
        if state.aside is not None:
            write_tree(file.create_group("aside"), state.aside)
        if state.optimizer is not None:
            write_tree(file.create_group("optimizer"), state.optimizer)


def read_asked(path: Path) -> Asked:
    """What the training of a checkpoint was begun with.

    Raises:
        ModelError: the file is not a checkpoint, or is damaged.
    """
    with safe.open_file(path, name=str(path), error=ModelError) as file:
        return _asked(file, str(path))


def load_checkpoint(path: Path, data: SeriesSet, asked: Settings, *, valid: SeriesSet | None) -> TrainState:
    """The state to go on from.

    Args:
        path: the checkpoint.
        data: the same data as before.
        asked: its settings, with epochs or time limit extended if wished.
        valid: the same validation data as before, if some were given.

    Raises:
        ModelError: the file is not a checkpoint, or is damaged.
        DataError: the data are not those that the training was begun with.
    """
    with safe.open_file(path, name=str(path), error=ModelError) as file:
        begun = _asked(file, str(path))
        if begun.given_validation and valid is None:
            raise DataError("the training was begun with validation data of its own", hint="--val FILE as before")
        if valid is not None and not begun.given_validation:
            raise DataError("the training was begun without --val", hint="leave --val out")
        chosen = _json(safe.attribute(file, "chosen") or "{}", dict, str(path))
        plan = _answered(make_plan(data, asked, valid), chosen.get("states"), str(safe.attribute(file, "states") or ""))
        if plan.fingerprint != begun.fingerprint:
            raise DataError(
                "these are not the data that the training was begun with",
                where=data.source,
                hint="give the same data, or start anew with --force",
            )
        if _json(safe.attribute(file, "powers") or "[]", list, str(path)) != _powers(plan):
            raise ModelError(
                "the training was begun in other units: this svae, or this machine, bends other channels",
                where=str(path),
                hint="start anew with --force",
            )
        _require_same(chosen, _chosen(plan), str(path))
        return _state(file, plan, str(path))


def _answered(plan: Plan, states: Any, reason: str) -> Plan:
    """Whether states are shared is asked in training, not by the plan: a checkpoint has the answer, if there is one."""
    if plan.settings.states != "auto" or states not in ("shared", "own"):
        return plan
    return (with_own_states if states == "own" else with_shared_states)(plan, reason)


def _require_same(before: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Another version may choose other windows or seasons from the same data: its steps would not be those before."""
    if not before:
        raise ModelError("the training was begun by an older svae", where=where, hint="start anew with --force")
    differing = [
        f"{name.replace('_', '-')} {before.get(name, 'unknown')}, now {value}"
        for name, value in now.items()
        if before.get(name, "unknown") != value
    ]
    if differing:
        raise ModelError(
            f"the training was begun by an svae that chooses otherwise: {'; '.join(differing)}",
            where=where,
            hint="start anew with --force",
        )


def _chosen(plan: Plan) -> dict[str, Any]:
    """What versions may choose differently from the same data and options."""
    return {name: getattr(plan.settings, name) for name in _CHOSEN}


def _powers(plan: Plan) -> list[float]:
    """Of the channels' transform, or nothing: chosen from the data, but in steps, so that rounding may move one."""
    warp = plan.start_scaler.warp
    if warp is None:
        return []
    units = warp.unit[warp.unit != 1]  # and with these what they are counted from
    return warp.power.tolist() + [float(f"{unit:.3g}") for unit in units]


def _state(file: h5py.File, plan: Plan, where: str) -> TrainState:
    stage, step, stale = (safe.attribute(file, name) for name in ("stage", "step", "stale"))
    score, seconds = safe.attribute(file, "best_score"), safe.attribute(file, "seconds")
    numbers = (
        isinstance(step, int) and isinstance(stale, int) and isinstance(score, float) and isinstance(seconds, float)
    )
    asked = stage == "em-own"
    if stage not in STAGES or not numbers or (asked and plan.settings.states != "auto"):
        raise ModelError("the checkpoint is damaged", where=where, hint="start anew with --force")
    full, linear = _skeleton(plan, plan.settings), _linear_skeleton(plan)
    like = full if stage == "full" else _linear_skeleton(with_own_states(plan, "")) if asked else linear
    model = _tree(file, "model", like, where)
    optimizer: Any = None
    if stage in ("linear", "full"):
        chosen = masked_optimizer(plan) if stage == "full" else linear_optimizer(plan)
        optimizer = _tree(file, "optimizer", chosen.start(model), where)
    return TrainState(
        plan=plan,
        stage=stage,
        step=step,
        model=model,
        optimizer=optimizer,
        aside=_tree(file, "aside", linear, where) if asked else None,
        best=_tree(file, "best", full, where),
        best_score=score,
        stale=stale,
        history=_history(file, where),
        seconds=seconds,
    )


def _linear_skeleton(plan: Plan) -> SVAE:
    settings = plan.settings.changed(
        recognition="linear",
        decoder="linear",
        likelihood="gaussian",
        posterior="svae",
        residual_chains="off",
        season=0,
        short_season=0,
        lags=0,
    )
    return _skeleton(plan, settings)


def _skeleton(plan: Plan, settings: Settings) -> SVAE:
    data = plan.data
    return skeleton(settings, n_channels=data.n_channels, n_inputs=data.n_inputs, channel_shape=data.channel_shape)


def _tree(file: h5py.File, name: str, like: Any, where: str) -> Any:
    group = safe.follow(file, name, error=ModelError)
    if not isinstance(group, h5py.Group):
        raise ModelError(f"{name} is missing", where=where, hint="start anew with --force")
    return read_tree(group, like, where=where)


def _history(file: h5py.File, where: str) -> tuple[dict[str, Any], ...]:
    node = safe.follow(file, "history", error=ModelError)
    if not isinstance(node, h5py.Dataset) or node.shape != ():
        raise ModelError("history is missing", where=where, hint="start anew with --force")
    safe.check_dataset(node, error=ModelError)
    return tuple(_json(safe.as_text(safe.read(node, error=ModelError).item()), list, where))


def _asked(file: h5py.File, where: str) -> Asked:
    if safe.attribute(file, "svae_format") != FORMAT:
        raise ModelError("not a checkpoint of this svae", where=where, hint="start anew with --force")
    plain = _json(safe.attribute(file, "settings"), dict, where)
    try:
        settings = Settings.from_json(plain)
    except (UsageError, TypeError) as problem:
        raise ModelError(f"its settings make no sense: {str(problem).splitlines()[0]}", where=where) from problem
    return Asked(
        settings=settings,
        fingerprint=str(safe.attribute(file, "fingerprint") or ""),
        given_validation=bool(safe.attribute(file, "given_validation")),
    )


def _plain(number: Any) -> Any:
    """NumPy's numbers as Python's; the text of a float64 gives back the same float64."""
    return number.item()


def _json(text: Any, kind: type, where: str) -> Any:
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as problem:
        raise ModelError("the checkpoint is damaged", where=where, hint="start anew with --force") from problem
    if not isinstance(value, kind):
        raise ModelError("the checkpoint is damaged", where=where, hint="start anew with --force")
    return value
