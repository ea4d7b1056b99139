"""What a trained model answers: imputations, forecasts, latent states and new series, in the data's own units.

Missing values, padding and the future are the same to the model: steps or channels without a potential. Series are
answered in batches of similar length, so that few shapes are compiled, and one after the other, so that a data set
larger than memory streams through.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError, UsageError
from svae_cli.inference import Potential, smooth
from svae_cli.models.fitted import FittedModel
from svae_cli.models.quantiles import predictive_quantiles
from svae_cli.models.svae import SVAE
from svae_cli.results import LatentPath, Prediction

_STEPS_AT_ONCE = 1 << 15  # steps (series times length) in a batch


def impute(
    fitted: FittedModel,
    data: SeriesSet,
    *,
    quantiles: tuple[float, ...] = (),
    samples: int = 0,
    reconstruct: bool = False,
    latents: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Prediction]:
    """Fill the gaps of every series, in order.

    Where a value was observed, ``mean``, ``quantiles`` and ``samples`` repeat it and ``std`` is 0, unless
    ``reconstruct`` asks for the model's own view there too. ``values`` always keeps observed values bit for bit.

    Args:
        fitted: the model.
        data: series with the model's channels.
        quantiles: levels between 0 and 1.
        samples: joint sample paths of each series.
        reconstruct: give the model's prediction at observed values as well.
        latents: add the posterior of the latent states.
        seed: of the samples.
        batch_size: series answered at once; None chooses by length.

    Raises:
        ModelError: the model does not fit the data.
        UsageError: a quantile level outside (0, 1).
    """
    fitted.check_fits(data)
    _check_levels(quantiles)
    ask = _Question(samples=samples, levels=quantiles, latents=latents)
    for index, answer in _answers(fitted, data, data.lengths, ask, seed, batch_size):
        raw = data.read(index)
        observed = ~np.isnan(raw)
        mean, std, levels, paths = answer.mean, answer.std, answer.quantiles, answer.samples
        if not reconstruct:
            mean, std = np.where(observed, raw, mean), np.where(observed, 0.0, std)
            levels = None if levels is None else np.where(observed[..., None], raw[..., None], levels)
            paths = None if paths is None else np.where(observed, raw, paths)
        yield Prediction(
            key=data.keys[index],
            mean=mean.astype(data.dtype),
            std=std.astype(data.dtype),
            quantiles=None if levels is None else levels.astype(data.dtype),
            samples=None if paths is None else paths.astype(data.dtype),
            values=np.where(observed, raw, answer.mean.astype(data.dtype)),
            observed=observed,
            latent_mean=answer.latent_mean,
            latent_cov=answer.latent_cov,
        )


def forecast(
    fitted: FittedModel,
    data: SeriesSet,
    *,
    horizon: int,
    origin: int | None = None,
    quantiles: tuple[float, ...] = (),
    samples: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Prediction]:
    """Predict ``horizon`` steps beyond the end of every series, or beyond ``origin``.

    Args:
        fitted: the model.
        data: series with the model's channels; known inputs must cover the horizon.
        horizon: steps to predict, 1 or more.
        origin: use only the first ``origin`` steps of each series (negative: counted from the end).
        quantiles: levels between 0 and 1.
        samples: joint sample paths over horizon and channels.
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
    ask = _Question(samples=samples, levels=quantiles, last=horizon)
    totals = tuple(n + horizon for n in data.lengths)
    for index, answer in _answers(fitted, data, totals, ask, seed, batch_size):
        yield Prediction(
            key=data.keys[index],
            mean=answer.mean.astype(data.dtype),
            std=answer.std.astype(data.dtype),
            quantiles=None if answer.quantiles is None else answer.quantiles.astype(data.dtype),
            samples=None if answer.samples is None else answer.samples.astype(data.dtype),
        )


def encode(
    fitted: FittedModel, data: SeriesSet, *, filtered: bool = False, batch_size: int | None = None
) -> Iterator[LatentPath]:
    """The latent states of every series given all its values, or given those up to each step.

    Args:
        fitted: the model.
        data: series with the model's channels.
        filtered: condition each step on its past and present only.
        batch_size: series answered at once; None chooses by length.

    Raises:
        ModelError: the model does not fit the data.
    """
    fitted.check_fits(data)
    ask = _Question(latents=True, filtered=filtered)
    for index, answer in _answers(fitted, data, data.lengths, ask, 0, batch_size):
        mean, cov = answer.latent_mean, answer.latent_cov
        if mean is None or cov is None:
            raise TypeError("Expected latent moments; got none")
        yield LatentPath(key=data.keys[index], mean=mean, cov=cov)


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


@dataclass(frozen=True)
class _Question:
    """What to compute for each series; hashable, so that it is part of what is compiled."""

    samples: int = 0
    levels: tuple[float, ...] = ()
    latents: bool = False
    filtered: bool = False
    last: int | None = None  # only so many steps at the end


@dataclass(frozen=True)
class _Answer:
    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray | None
    samples: np.ndarray | None
    latent_mean: np.ndarray | None
    latent_cov: np.ndarray | None


def _answers(
    fitted: FittedModel,
    data: SeriesSet,
    totals: tuple[int, ...],
    ask: _Question,
    seed: int,
    batch_size: int | None,
) -> Iterator[tuple[int, _Answer]]:
    """Answer series in order, neighbours of the same padded length together; ``totals`` counts the future too."""
    padded = [_padded_length(n, alike=len(set(totals)) == 1) for n in totals]
    first = 0
    while first < len(data):
        size = batch_size or max(1, min(64, _STEPS_AT_ONCE // padded[first]))
        stop = first
        while stop < len(data) and stop - first < size and padded[stop] == padded[first]:
            stop += 1
        size = size if len(data) > size else len(data)
        yield from _answer_batch(fitted, data, range(first, stop), totals, padded[first], size, ask, seed)
        first = stop


def _padded_length(length: int, *, alike: bool) -> int:
    """At most a quarter longer, and only four lengths an octave, so that ragged series compile few shapes."""
    if alike or length < 8:
        return length
    grain = 1 << max(length.bit_length() - 3, 0)
    return -(-length // grain) * grain


def _answer_batch(
    fitted: FittedModel,
    data: SeriesSet,
    rows: range,
    totals: tuple[int, ...],
    length: int,
    size: int,
    ask: _Question,
    seed: int,
) -> Iterator[tuple[int, _Answer]]:
    dtype = fitted.model.decoder.loadings.dtype
    values = np.zeros((size, length, data.n_channels), dtype)
    observed = np.zeros(values.shape, bool)
    inputs = np.zeros((size, length, data.n_inputs), dtype)
    starts = np.zeros(size, np.int32)
    for row, index in enumerate(rows):
        steps = data.lengths[index]
        raw = fitted.scaler.to_model(data.read(index).astype(np.float64))
        observed[row, :steps] = ~np.isnan(raw)
        values[row, :steps] = np.nan_to_num(raw)
        if data.n_inputs:
            inputs[row, : totals[index]] = data.read_inputs(index, 0, totals[index])
        starts[row] = 0 if ask.last is None else steps
    keys = jax.vmap(lambda i: jr.fold_in(jr.key(seed), i))(jnp.arange(rows.start, rows.start + size))
    series = tuple(jnp.asarray(a) for a in (values, observed, inputs, starts))
    found = jax.tree.map(np.asarray, _ask(fitted.model, (*series, keys), ask))
    for row, index in enumerate(rows):
        count = ask.last if ask.last is not None else totals[index]
        yield index, _in_data_units(fitted, jax.tree.map(lambda a, r=row, c=count: a[r, :c], found))


@eqx.filter_jit
def _ask(model: SVAE, series: tuple[Array, ...], ask: _Question) -> dict[str, Array]:
    return jax.vmap(lambda v, o, u, start, key: _ask_one(model, v, o, u, start, key, ask))(*series)


def _ask_one(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    start: Array,
    key: Key[Array, ""],
    ask: _Question,
) -> dict[str, Array]:
    """Everything that was asked for one series, time first, in model units."""
    if ask.filtered:
        state = model.filtered(values, observed, inputs)
        return {"latent_mean": state.mean, "latent_cov": state.cov}
    posterior = model.posterior(values, observed, inputs)
    cut = lambda a: a if ask.last is None else jax.lax.dynamic_slice_in_dim(a, start, ask.last)  # noqa: E731
    found: dict[str, Array] = {}
    if ask.latents:
        found |= {"latent_mean": posterior.means, "latent_cov": posterior.covariances}
    predictor = model.predictor_moments(posterior)
    mean, variance = model.likelihood.predictive_moments(*predictor)
    found |= {"mean": cut(mean), "std": cut(jnp.sqrt(variance))}
    path_key, noise_key, quantile_key = jr.split(key, 3)
    if ask.samples:
        states = posterior.sample(path_key, ask.samples)
        drawn = model.likelihood.sample(noise_key, jax.vmap(jax.vmap(model.decoder))(states))
        found["samples"] = cut(jnp.moveaxis(drawn, 0, 1))
    if ask.levels:
        levels = jnp.asarray(ask.levels, mean.dtype)
        found["quantiles"] = predictive_quantiles(
            model.likelihood, cut(predictor[0]), cut(predictor[1]), levels, quantile_key
        )
    return found


@eqx.filter_jit
def _draw(model: SVAE, inputs: Array, key: Key[Array, ""], steps: int, count: int) -> Array:
    """Paths from the prior, which is the posterior without potentials."""
    dim, dtype = model.dynamics.latent_dim, model.decoder.loadings.dtype
    nothing = Potential(precision=jnp.zeros((steps, dim), dtype), shift=jnp.zeros((steps, dim), dtype))
    path_key, noise_key = jr.split(key)
    states = smooth(model.dynamics.prior(inputs), nothing).sample(path_key, count)
    return model.likelihood.sample(noise_key, jax.vmap(jax.vmap(model.decoder))(states))


def _in_data_units(fitted: FittedModel, found: dict[str, np.ndarray]) -> _Answer:
    scaler = fitted.scaler
    up = {name: np.asarray(a, np.float64) for name, a in found.items() if not name.startswith("latent")}
    quantiles = up.get("quantiles")
    samples = up.get("samples")
    if quantiles is not None:
        quantiles = np.moveaxis(scaler.to_data(np.moveaxis(quantiles, -1, 0)), 0, -1)
    if samples is not None:
        samples = scaler.to_data(np.moveaxis(samples, 1, 0))
    empty = np.zeros((0, len(scaler.mean)))
    return _Answer(
        mean=scaler.to_data(up["mean"]) if "mean" in up else empty,
        std=scaler.spread_to_data(up["std"]) if "std" in up else empty,
        quantiles=quantiles,
        samples=samples,
        latent_mean=found.get("latent_mean"),
        latent_cov=found.get("latent_cov"),
    )


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
