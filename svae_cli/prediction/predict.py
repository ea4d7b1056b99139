"""What a trained model answers: imputations, forecasts, latent states and new series, in the data's own units.

Missing values, padding and the future are the same to the model: steps or channels without a potential. Answers come
one after the other, a long series in pieces, so that a data set larger than memory streams through.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeVar

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError, UsageError
from svae_cli.inference import Potential, smooth
from svae_cli.models.fitted import FittedModel
from svae_cli.models.svae import SVAE
from svae_cli.prediction.answers import answers
from svae_cli.prediction.question import Question, Seen, sample_values
from svae_cli.prediction.recent import recent
from svae_cli.prediction.self_check import is_checked
from svae_cli.results import LatentPath, Prediction, join
from svae_cli.traced import kept


def impute(
    fitted: FittedModel,
    data: SeriesSet,
    *,
    quantiles: tuple[float, ...] = (),
    samples: int = 0,
    reconstruct: bool = False,
    latents: bool = False,
    self_check: bool | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Prediction]:
    """Fill the gaps of every series, in order; a long one comes in several pieces (see ``whole``).

    Where a value was observed, ``mean``, ``quantiles`` and ``samples`` repeat it and ``std`` is 0, unless
    ``reconstruct`` asks for the model's own view there too. ``values`` always keeps observed values bit for bit.

    Args:
        fitted: the model.
        data: series with the model's channels.
        quantiles: levels between 0 and 1.
        samples: joint sample paths of each series.
        reconstruct: give the model's prediction at observed values as well.
        latents: add the posterior of the latent states.
        self_check: let straight lines and those of other cycles have a say, and widen or narrow intervals, by how well
            known values of a series are filled in when hidden in gaps like its own (``prediction/gap_check.py``), and
            do not rely on known values that cannot be (``prediction/glitches.py``); None where there are no more than
            ``CHECKED_VALUES`` values.
        seed: of the samples.
        batch_size: series answered at once; None chooses by length.

    Raises:
        ModelError: the model does not fit the data.
        UsageError: a quantile level outside (0, 1).
    """
    fitted.check_fits(data)
    _check_levels(quantiles)
    check = is_checked(fitted.model, data, asked=self_check)
    ask = Question(samples=samples, levels=quantiles, latents=latents, check=check)
    for index, start, answer in answers(fitted, data, data.lengths, ask, seed, batch_size):
        raw = data.read(index, start, start + len(answer.mean))
        observed = ~np.isnan(raw)
        mean, std, levels, paths = answer.mean, answer.std, answer.quantiles, answer.samples
        if not reconstruct:
            mean, std = np.where(observed, raw, mean), np.where(observed, 0.0, std)
            levels = None if levels is None else np.where(observed[..., None], raw[..., None], levels)
            paths = None if paths is None else np.where(observed, raw, paths)
        yield Prediction(
            key=data.keys[index],
            start=start,
            mean=mean.astype(data.dtype),
            std=std.astype(data.dtype),
            quantiles=None if levels is None else levels.astype(data.dtype),
            samples=None if paths is None else paths.astype(data.dtype),
            values=np.where(observed, raw, answer.mean.astype(data.dtype)),
            observed=observed,
            latent_mean=answer.latent_mean,
            latent_cov=answer.latent_cov,
            ignored=answer.ignored,
        )


def forecast(
    fitted: FittedModel,
    data: SeriesSet,
    *,
    horizon: int,
    origin: int | None = None,
    quantiles: tuple[float, ...] = (),
    samples: int = 0,
    self_check: bool | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Prediction]:
    """Predict ``horizon`` steps beyond the end of every series, or beyond ``origin``; a long forecast in pieces.

    Of a long series only what is recent is looked at (``prediction/recent.py``).

    Args:
        fitted: the model.
        data: series with the model's channels; known inputs must cover the horizon.
        horizon: steps to predict, 1 or more.
        origin: use only the first ``origin`` steps of each series (negative: counted from the end).
        quantiles: levels between 0 and 1.
        samples: joint sample paths over horizon and channels.
        self_check: let other ways to go on have a say, and widen or narrow intervals, by how well the last known
            steps of a series were forecast from those before (``prediction/forecast_check.py``), and do not rely on
            known values that cannot be; None where there are no more than ``CHECKED_VALUES`` recent values.
        seed: of the samples.
        batch_size: series answered at once; None chooses by length.

    Raises:
        ModelError: the model does not fit the data.
        DataError: the known inputs end before the horizon does, or a series is shorter than the origin.
        UsageError: a horizon below 1, or a quantile level outside (0, 1).
    """
    fitted.check_fits(data)
    _check_levels(quantiles)
    if horizon < 1:
        raise UsageError(f"the horizon is {horizon}; expected 1 or more")
    if origin is not None:
        data = data.between([0] * len(data), [_origin(data, i, origin) for i in range(len(data))])
    _check_inputs(data, horizon)
    check = is_checked(fitted.model, data, asked=self_check, horizon=horizon)
    known, data = data.lengths, recent(fitted.model, data, horizon)
    ask = Question(samples=samples, levels=quantiles, last=horizon, check=check)
    totals = tuple(n + horizon for n in data.lengths)
    for index, start, answer in answers(fitted, data, totals, ask, seed, batch_size):
        before = known[index] - data.lengths[index] if start == 0 else 0
        yield Prediction(
            key=data.keys[index],
            start=start,
            mean=answer.mean.astype(data.dtype),
            std=answer.std.astype(data.dtype),
            quantiles=None if answer.quantiles is None else answer.quantiles.astype(data.dtype),
            samples=None if answer.samples is None else answer.samples.astype(data.dtype),
            ignored=None if answer.ignored is None else np.pad(answer.ignored, ((before, 0), (0, 0))),
        )


def encode(
    fitted: FittedModel, data: SeriesSet, *, filtered: bool = False, batch_size: int | None = None
) -> Iterator[LatentPath]:
    """The latent states of every series given all its values, or given those up to each step; long ones in pieces.

    Args:
        fitted: the model.
        data: series with the model's channels.
        filtered: condition each step on its past and present only.
        batch_size: series answered at once; None chooses by length.

    Raises:
        ModelError: the model does not fit the data.
    """
    fitted.check_fits(data)
    ask = Question(latents=True, filtered=filtered)
    for index, start, answer in answers(fitted, data, data.lengths, ask, 0, batch_size):
        mean, cov = answer.latent_mean, answer.latent_cov
        if mean is None or cov is None:
            raise TypeError("Expected latent moments; got none")
        yield LatentPath(key=data.keys[index], start=start, mean=mean, cov=cov)


Result = TypeVar("Result", Prediction, LatentPath)


def whole(results: Iterable[Result]) -> Iterator[Result]:
    """Join the pieces of long series: one result a series."""
    for _, pieces in groupby(results, key=_counter()):
        first, *more = list(pieces)
        yield join(first, more) if more else first


def _counter() -> Callable[[Prediction | LatentPath], int]:
    """Which series a result belongs to; keys alone may repeat."""
    current = -1

    def number(result: Prediction | LatentPath) -> int:
        nonlocal current
        current += result.start == 0
        return current

    return number


def sample(
    fitted: FittedModel, *, steps: int, count: int = 1, seed: int = 0, inputs: np.ndarray | None = None
) -> Float[np.ndarray, "series time channel"]:
    """New series drawn from the model, noise included.

    Args:
        fitted: the model.
        steps: length of each.
        count: how many.
        seed: of the draws.
        inputs: known inputs (time, input), if the model takes any.

    Raises:
        UsageError: fewer than 1 step or series, or inputs missing.
    """
    if steps < 1 or count < 1:
        raise UsageError(f"{count} series of {steps} steps; expected 1 or more of both")
    if fitted.inputs and inputs is None:
        raise UsageError(f"the model takes known inputs ({', '.join(fitted.inputs)}); give them for every step")
    dtype = fitted.model.decoder.loadings.dtype
    known = np.zeros((steps, 0)) if inputs is None else inputs
    drawn = _draw(fitted.model, jnp.asarray(known, dtype), jr.key(seed), steps, count)
    return fitted.scaler.to_data(np.asarray(drawn, np.float64))


@kept
def _draw(model: SVAE, inputs: Array, key: Key[Array, ""], steps: int, count: int) -> Array:
    """Paths from the prior, which is the posterior without potentials."""
    dim, dtype = model.dynamics.latent_dim, model.decoder.loadings.dtype
    nothing = Potential(precision=jnp.zeros((steps, dim), dtype), shift=jnp.zeros((steps, dim), dtype))
    path_key, noise_key = jr.split(key)
    states = smooth(model.dynamics.prior(inputs), nothing).sample(path_key, count)
    return sample_values(model, states, Seen.nothing(states.shape[1], len(model.decoder.offset), dtype), noise_key)


def _origin(data: SeriesSet, index: int, origin: int) -> int:
    length = data.lengths[index]
    stop = origin if origin >= 0 else length + origin
    if not 1 <= stop <= length:
        raise DataError(
            f"series {data.keys[index]!r} has {length} steps, the origin is {origin}",
            where=data.source,
            hint=f"an --origin between 1 and {min(data.lengths)}",
        )
    return stop


def _check_inputs(data: SeriesSet, horizon: int) -> None:
    if not data.n_inputs:
        return
    for key, steps, known in zip(data.keys, data.lengths, data.input_lengths, strict=True):
        # The input at a step acts on the transition out of it, so the last predicted step needs none.
        if known < steps + horizon - 1:
            raise DataError(
                f"the inputs of series {key!r} end at step {known}; the horizon needs {steps + horizon - 1}",
                where=data.source,
                hint="give known inputs for the steps to be predicted, or a shorter --horizon",
            )


def _check_levels(levels: tuple[float, ...]) -> None:
    for level in levels:
        if not 0 < level < 1:
            raise UsageError(f"the quantile level {level} is not between 0 and 1")
