"""What the experiments share: the families, a training with its learning curve, and tables."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import NumericalError
from svae_cli.models.fitted import FittedModel
from svae_cli.training.fit import fit

_TRIAL = (5, 30)  # steps between which the pace is taken, before the first validation round
FAMILIES = ("svae", "rnn-mf", "rnn-ar-linear", "rnn-ar", "tcn")


@dataclass(frozen=True)
class Trained:
    """A trained model and how it got there.

    Attributes:
        fitted: the best model.
        curve: (step, seconds, validation bound in model units), one a validation round of the full stage; seconds are
            counted from the start of the full stage.
        seconds: of the whole training, compilation included.
        failure: what stopped it early, or None.
    """

    fitted: FittedModel
    curve: list[tuple[int, float, float]]
    seconds: float
    failure: str | None


def train(data: SeriesSet, valid: SeriesSet, settings: Settings) -> Trained:
    """Train to the end; a training that leaves the finite numbers gives its best model and says so."""
    begin, start, curve, state, failure = time.monotonic(), None, [], None, None
    try:
        for progress in fit(data, settings, valid=valid):
            report, state = progress.report, progress.state
            if report.stage == "full":
                start = report.seconds if start is None else start
                if report.valid is not None:
                    curve.append((report.step, round(report.seconds - start, 2), report.valid.elbo))
    except NumericalError as problem:
        failure = str(problem).splitlines()[0]
    assert state is not None
    return Trained(fitted=state.fitted, curve=curve, seconds=time.monotonic() - begin, failure=failure)


def steps_in(data: SeriesSet, valid: SeriesSet, settings: Settings, seconds: float | None) -> int:
    """How many steps of the full stage fit into ``seconds``, at the pace of its first ones once they are compiled."""
    assert seconds is not None
    trial = settings.changed(epochs=epochs_for(data, settings, 4000), em_steps=1, linear_steps=1)
    marks: dict[int, float] = {}
    for progress in fit(data, trial, valid=valid):
        report = progress.report
        if report.stage == "full":
            marks[report.step] = report.seconds
            if report.step == _TRIAL[1]:
                break
    pace = (marks[_TRIAL[1]] - marks[_TRIAL[0]]) / (_TRIAL[1] - _TRIAL[0])
    return max(1, round(seconds / pace))


def epochs_for(data: SeriesSet, settings: Settings, steps: int) -> int:
    """Epochs that make up ``steps`` batches."""
    assert settings.batch_size is not None
    assert settings.window is not None
    per_epoch = max(1, round(sum(data.lengths) / (settings.batch_size * settings.window)))
    return max(1, round(steps / per_epoch))


def model_inputs(fitted: FittedModel, values: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Values (series, time, channel) with NaN for gaps as the model takes them: values, observed, no inputs."""
    scaled = fitted.scaler.to_model(np.asarray(values, np.float64))
    dtype = fitted.model.decoder.loadings.dtype
    observed = ~np.isnan(scaled)
    filled = jnp.asarray(np.nan_to_num(scaled), dtype)
    return filled, jnp.asarray(observed), jnp.zeros((*values.shape[:2], 0), dtype)


def bound_per_value(fitted: FittedModel, values: np.ndarray, *, samples: int, seed: int = 0) -> float:
    """The evidence lower bound of complete series in nats per value, in the data's units."""

    @eqx.filter_jit
    def bounds(model, seen, observed, inputs, keys):
        def one(v, o, u, key):
            terms = model.elbo(v, o, jnp.zeros_like(o), u, key, samples=samples)
            return terms.log_likelihood - terms.kl

        return jax.vmap(one)(seen, observed, inputs, keys)

    found, count = 0.0, 0
    for first in range(0, len(values), 50):
        piece = values[first : first + 50]
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), first), len(piece))
        seen, observed, inputs = model_inputs(fitted, piece)
        found += float(np.sum(bounds(fitted.model, seen, observed, inputs, keys)))
        count += int(np.sum(observed))
    return found / count - float(np.mean(np.log(fitted.scaler.std)))


def spread(numbers: Iterable[float], digits: int = 3) -> str:
    """Mean and, of several numbers, their standard deviation."""
    kept = [n for n in numbers if n is not None and np.isfinite(n)]
    if not kept:
        return "-"
    mean = f"{np.mean(kept):.{digits}f}"
    return mean if len(kept) < 2 else f"{mean} ± {np.std(kept, ddof=1):.{digits}f}"


def grouped(runs: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs of the same name but for the seed after the last bar."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        groups.setdefault(name.rpartition("|")[0], []).append(run)
    return groups


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
