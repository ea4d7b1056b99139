"""What a trained model answers about one series after another: a batch at once, or a long one piece by piece."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from svae_cli.data.series import SeriesSet
from svae_cli.models.decoder import LinearDecoder
from svae_cli.models.fitted import FittedModel
from svae_cli.models.recognition import PotentialRecognition
from svae_cli.models.svae import SVAE
from svae_cli.prediction import pieces
from svae_cli.prediction.forecast_check import ForecastPasses
from svae_cli.prediction.gap_check import GapPasses
from svae_cli.prediction.looks import looked_at
from svae_cli.prediction.question import Answer, Question, Seen, describe, in_data_units, latent_moments
from svae_cli.prediction.self_check import numbers_kept
from svae_cli.traced import kept

STEPS_AT_ONCE = 1 << 15  # steps (series times length) in a batch, at most; a longer series is answered in pieces
_NUMBERS_AT_ONCE = 1 << 23  # in the largest array of a batch: 32 MB in float32, of which some twenty are alive at once


def answers(
    fitted: FittedModel,
    data: SeriesSet,
    totals: tuple[int, ...],
    ask: Question,
    seed: int,
    batch_size: int | None,
) -> Iterator[tuple[int, int, Answer]]:
    """(series, first step, answer) in order; the first step counts from the first that was asked for.

    Neighbours of the same padded length are answered together, a long series in pieces. The posteriors that need the
    whole series at once get it, however long it is.

    Args:
        fitted: the model.
        data: the series.
        totals: steps of each with the future.
        ask: the question.
        seed: of the samples.
        batch_size: series at once; None chooses by length.
    """
    padded = [_padded_length(n, alike=len(set(totals)) == 1) for n in totals]
    piecewise = isinstance(fitted.model.recognition, PotentialRecognition)
    steps = _steps_at_once(fitted.model)
    most = min(64, max(1, _NUMBERS_AT_ONCE // numbers_kept(fitted.model))) if ask.check else 64
    first = 0
    while first < len(data):
        if piecewise and totals[first] > steps:
            for start, answer in pieces.answer_in_pieces(fitted, data, first, totals[first], ask, seed):
                yield first, start, answer
            first += 1
            continue
        size = batch_size or max(1, min(most, steps // padded[first]))
        stop = first
        while stop < len(data) and stop - first < size and padded[stop] == padded[first]:
            stop += 1
        size = size if len(data) > size else len(data)
        for index, answer in _answer_batch(fitted, data, range(first, stop), totals, padded[first], size, ask, seed):
            yield index, 0, answer
        first = stop


def _steps_at_once(model: SVAE) -> int:
    """By what a step takes: a covariance, and with a network in the decoder all channels at 2 K points."""
    channels, states = model.decoder.loadings.shape
    numbers = states**2 if isinstance(model.decoder, LinearDecoder) else max(states**2, 2 * states * channels)
    return min(STEPS_AT_ONCE, max(pieces.PIECE, _NUMBERS_AT_ONCE // numbers))


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
    ask: Question,
    seed: int,
) -> Iterator[tuple[int, Answer]]:
    dtype = fitted.model.decoder.loadings.dtype
    values = np.zeros((size, length, data.n_channels), dtype)
    observed = np.zeros(values.shape, bool)
    inputs = np.zeros((size, length, data.n_inputs), dtype)
    known_steps = np.zeros(size, np.int32)
    for row, index in enumerate(rows):
        steps = data.lengths[index]
        raw = fitted.scaler.to_model(data.read(index).astype(np.float64))
        observed[row, :steps] = ~np.isnan(raw)
        values[row, :steps] = np.nan_to_num(raw)
        if data.n_inputs:
            # The last step's inputs act on no step that is asked for; the file may end before them.
            known = data.read_inputs(index, 0, min(totals[index], data.input_lengths[index]))
            inputs[row, : len(known)] = known
        known_steps[row] = steps
    series = tuple(jnp.asarray(a) for a in (values, observed, inputs, known_steps))
    found = jax.tree.map(np.asarray, _ask(fitted.model, series, jr.key(seed), np.uint32(rows.start), ask))
    ignored = found.pop("ignored", None)
    for row, index in enumerate(rows):
        count = ask.last if ask.last is not None else totals[index]
        without = None if ignored is None else ignored[row, : data.lengths[index]]
        yield index, in_data_units(fitted, jax.tree.map(lambda a, r=row, c=count: a[r, :c], found), without)


@kept
def _ask(
    model: SVAE, series: tuple[Array, ...], key: Key[Array, ""], first: np.uint32, ask: Question
) -> dict[str, Array]:
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(first + jnp.arange(len(series[0]), dtype=jnp.uint32))

    def of(one: tuple[Array, ...], own: Key[Array, ""]) -> dict[str, Array]:
        values, observed, inputs, steps = one
        return _ask_one(model, values, observed, inputs, steps, own, ask)

    return jax.vmap(of)(series, keys)


def _ask_one(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    steps: Array,
    key: Key[Array, ""],
    ask: Question,
) -> dict[str, Array]:
    """Everything that was asked for one series of so many known steps, time first, in model units."""
    if ask.filtered:
        state = model.filtered(values, observed, inputs)
        return {"latent_mean": state.mean, "latent_cov": state.cov}
    given, check, predictor = observed, None, None
    if ask.check:
        ahead = None if ask.last is None else ForecastPasses(model, values, steps, ask.last)
        passes = GapPasses(model, values, steps) if ahead is None else ahead
        observed, check, predictor = looked_at(model, values, given, inputs, passes)
    path_key, rest = jr.split(key)
    states, latents = None, {}
    if predictor is None or ask.samples or ask.latents:
        posterior = model.posterior(values, observed, inputs)
        predictor = predictor or model.predictor_moments(posterior)
        states = posterior.sample(path_key, ask.samples) if ask.samples else None
        latents = latent_moments(posterior) if ask.latents else {}
    last = (steps, ask.last) if ask.last is not None else None
    seen = Seen(values, observed, check=check)
    found = describe(model, predictor, states, seen, ask, rest, last=last) | latents
    return found | ({"ignored": given & ~observed} if ask.check else {})
