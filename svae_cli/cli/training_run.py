"""A training seen from outside: what it will do, how it goes, the files it leaves, and how it ends on a signal."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from svae_cli.cli.console import Console, ProgressLine
from svae_cli.cli.opening import input_paths
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import Interrupted, NumericalError, OutputError, UsageError
from svae_cli.files.survey import describe, survey

if TYPE_CHECKING:
    from svae_cli.models.svae import SVAE
    from svae_cli.training.fit import Progress, Report, TrainState

_MODEL_EVERY = 10.0
_QUICK_VALUES = 50_000_000
_EXTENDABLE = ("epochs", "time_limit")


@dataclass
class Run:
    """The files and the voice of one training.

    Attributes:
        target: where the model goes; the checkpoint lies beside it.
        force: an existing model may be replaced.
        log: where each report goes as a line of JSON, or None.
        checkpoint_every: seconds between checkpoints.
        console: where to talk.
        again: the command that goes on after an interruption.
        then: the commands that the model is for.
    """

    target: Path
    force: bool
    log: Path | None
    checkpoint_every: float
    console: Console
    again: str
    then: str
    _described: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint beside the model."""
        return self.target.with_name(self.target.name + ".ckpt")

    def check(self, *, data: str, validation: str | None, resume: bool) -> None:
        """Refuse before any work what could not be written.

        Raises:
            OutputError: the model or a checkpoint exists, or cannot be written.
            UsageError: a stream as target.
        """
        from svae_cli.files.atomic import check_target

        if str(self.target) == "-":
            raise UsageError("a model is written several times and cannot go to standard output", hint="-o MODEL.svae")
        inputs = input_paths(data, *([validation] if validation else []))
        check_target(self.target, force=self.force or resume, inputs=inputs)
        if self.checkpoint.exists() and not (self.force or resume):
            raise OutputError(
                f"{self.checkpoint} exists: a training of this model was interrupted",
                hint="--resume goes on with it, --force starts anew",
            )
        if self.log is not None:
            check_target(self.log, force=self.force or resume, inputs=inputs)

    def resumed_settings(self, asked: Settings, *, explicit: set[str]) -> Settings:
        """The checkpoint's settings, with only epochs and time limit taken from the command line.

        Raises:
            UsageError: there is no checkpoint, or an explicit option contradicts it.
        """
        from svae_cli.files.checkpoint import read_asked

        if not self.checkpoint.exists():
            raise UsageError(f"{self.checkpoint} does not exist: nothing to resume", hint="leave --resume out")
        stored = read_asked(self.checkpoint).settings
        wanted, held = asked.to_json(), stored.to_json()
        for name in sorted(explicit & set(held) - set(_EXTENDABLE)):
            if wanted[name] != held[name]:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} {wanted[name]} contradicts the checkpoint, which was begun with {held[name]}",
                    where=str(self.checkpoint),
                    hint=f"leave {flag} out, or start anew with --force",
                )
        return stored.changed(**{name: getattr(asked, name) for name in _EXTENDABLE if name in explicit})

    def describe(self, data: SeriesSet, validation: SeriesSet | None, settings: Settings, *, resume: bool) -> None:
        """Say what the data are, what is asked for and what would be chosen, without training.

        Raises:
            DataError: infinite values, damaged data, or too few of them.
            UsageError: settings that do not go together, or not with the data.
        """
        found = describe(data, survey(data))
        steps = found["steps"]
        span = f"{steps['max']}" if steps["min"] == steps["max"] else f"{steps['min']} to {steps['max']}"
        self.console.say(
            f"{data.source}: {len(data)} series of {span} steps, {data.n_channels} channels, "
            f"{100 * found['missing']:.1f} % missing"
        )
        for text in found["warnings"]:
            self.console.warn(text)
        from svae_cli.files.checkpoint import load_checkpoint
        from svae_cli.training.plan import make_plan

        state = load_checkpoint(self.checkpoint, data, settings, valid=validation) if resume else None
        plan = make_plan(data, settings, valid=validation) if state is None else state.plan
        for name, reason in plan.choices.items():
            self.console.say(f"{name}: {reason}")
        asked = {k: v for k, v in settings.to_json().items() if v != Settings().to_json()[k]}
        record = {"data": found, "settings": plan.settings.to_json(), "choices": plan.choices}
        self.console.result(
            f"would {'train' if state is None else 'go on with'} {self.target}" + (f" with {asked}" if asked else ""),
            {"output": str(self.target), **record},
        )

    def fit(self, data: SeriesSet, validation: SeriesSet | None, settings: Settings, *, resume: bool) -> None:
        """Train to the end, or to a signal; the model file always holds the best so far.

        Raises:
            Interrupted: a signal came; the checkpoint is saved.
            NumericalError: the loss left the finite numbers; the last good model is saved.
        """
        from svae_cli.files.checkpoint import load_checkpoint
        from svae_cli.training.fit import fit

        self._say_data(data)
        if not resume:
            self.checkpoint.unlink(missing_ok=True)  # of an earlier training, which --force gave up
        state = load_checkpoint(self.checkpoint, data, settings, valid=validation) if resume else None
        saved = Saved(self, settings)
        with stop_signals() as stop, self._open_log(resume=resume) as log, ProgressLine(self.console) as line:
            try:
                for progress in fit(data, settings, valid=validation, state=state):
                    state = progress.state
                    self._report(progress, line, log)
                    saved.keep(state)
                    if stop.number is not None:
                        break
            except NumericalError:
                if state is not None:
                    saved.save(state, finished=False)
                raise
            if state is None:
                raise UsageError("the training has no step to take", hint="more --epochs, or a longer --time-limit")
            # A signal after the last step leaves a checkpoint of a finished training: resuming it only ends it.
            saved.save(state, finished=stop.number is None)
        if stop.number is not None:
            raise Interrupted("interrupted; all work is saved", signal_number=stop.number, hint=self.again)
        self._close(state)

    def _say_data(self, data: SeriesSet) -> None:
        """Size and, where looking takes no time, the missing share and what is odd."""
        low, high = min(data.lengths), max(data.lengths)
        span = f"{high}" if low == high else f"{low} to {high}"
        said = f"{data.source}: {len(data)} series of {span} steps, {data.n_channels} channels"
        if sum(data.lengths) * data.n_channels <= _QUICK_VALUES:
            found = survey(data)
            said += f", {100 * found.missing_share:.1f} % missing"
            for text in found.warnings(data.channels):
                self.console.say(f"note: {text}")
        self.console.say(said)

    def _report(self, progress: "Progress", line: ProgressLine, log: TextIO | None) -> None:
        report = progress.report
        for name, reason in progress.state.plan.choices.items():
            if self._described.get(name) != reason:  # the first time all of them, later what is decided on the way
                self._described[name] = reason
                self.console.say(f"{name}: {reason}")
        if report.warning:
            self.console.warn(report.warning)
        line.show(report.stage, report.step, report.steps, _scores(report))
        if log is not None:
            log.write(json.dumps(asdict(report), default=lambda number: number.item()) + "\n")
            log.flush()

    @contextmanager
    def _open_log(self, *, resume: bool) -> Iterator[TextIO | None]:
        if self.log is None:
            yield None
            return
        with self.log.open("a" if resume else "w", encoding="utf-8") as log:
            yield log

    def _close(self, state: "TrainState") -> None:
        judged = f"best validation score {state.best_score:.4f}" if state.history else "not validated yet"
        self.console.say(f"done in {state.seconds:.0f} s, {judged}")
        self._say_found(state)
        self.console.say(f"next: {self.then}")
        summary = {
            "model": str(self.target),
            "best_score": state.best_score,
            "seconds": state.seconds,
            "coverage": _coverage(state),
            "settings": state.plan.settings.to_json(),
            "choices": state.plan.choices,
        }
        self.console.result(str(self.target), summary)

    def _say_found(self, state: "TrainState") -> None:
        """Whether intervals can be trusted, and what forecasts rest on."""
        from svae_cli.models.levels import count_unit_roots

        if (coverage := _coverage(state)) is not None:
            self.console.say(f"90 % intervals hold {100 * coverage:.0f} % of the hidden validation values")
        dynamics = state.best.dynamics
        if walks := count_unit_roots(dynamics):
            self.console.say(f"{walks} of {dynamics.latent_dim} states are random walks: no pull to a mean stood out")


def _coverage(state: "TrainState") -> float | None:
    """Of the validation round that the best model is from; None of counts, whose intervals are not Gaussian."""
    if state.plan.settings.likelihood in ("poisson", "bernoulli"):
        return None
    return next((record["coverage"] for record in reversed(state.history) if record["best"]), None)


class Saved:
    """Writes the model and the checkpoint now and then, and at the end."""

    def __init__(self, run: Run, asked: Settings):
        self._run = run
        self._asked = asked
        self._written: SVAE | None = None
        self._model_at = time.monotonic()
        self._checkpoint_at = time.monotonic()

    def keep(self, state: "TrainState") -> None:
        """Write what is due."""
        now, beginning = time.monotonic(), state.stage == "em" and state.step < state.plan.settings.em_steps
        fresh = state.best is not self._written and not beginning  # what EM begins with is no result
        if fresh and now - self._model_at >= _MODEL_EVERY:
            self._model(state)
            self._model_at = now
        if now - self._checkpoint_at >= self._run.checkpoint_every:
            self._checkpoint(state)
            self._checkpoint_at = now

    def save(self, state: "TrainState", *, finished: bool) -> None:
        """Write the model, and the checkpoint if the training is not finished; a finished one needs none."""
        self._model(state)
        if finished:
            self._run.checkpoint.unlink(missing_ok=True)
        else:
            self._checkpoint(state)

    def _model(self, state: "TrainState") -> None:
        from svae_cli.files.model_file import save_model

        save_model(self._run.target, state.fitted, force=True)
        self._written = state.best

    def _checkpoint(self, state: "TrainState") -> None:
        from svae_cli.files.checkpoint import save_checkpoint

        save_checkpoint(self._run.checkpoint, state, self._asked)


def _scores(report: "Report") -> str:
    parts = [f"train {report.train:.4f}"] if report.train is not None else []
    parts += [f"validation {report.valid.score:.4f}"] if report.valid is not None else []
    parts += [f"{report.remaining:.0f} s left"] if report.remaining is not None else []
    return "  ".join(parts)


class Stop:
    """Which signal asked to stop, if any."""

    number: int | None = None


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request to stop after this step; a second SIGINT quits at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.number = number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
