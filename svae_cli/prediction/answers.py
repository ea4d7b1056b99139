"""What a trained model answers about one series after another: a batch at once, or a long one piece by piece."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt

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
_SHORTEST, _SHORT, _LONG = 32, 256, 4096  # steps
_MOST_AHEAD = 4096  # series that are looked through for those of one length
_FEW = 16  # series: they may come again, a few steps longer, and find what was compiled for them


def answers(
    fitted: FittedModel,
    data: SeriesSet,
    totals: tuple[int, ...],
    ask: Question,
    seed: int,
    batch_size: int | None,
) -> Iterator[tuple[int, int, Answer]]:
    """(series, first step, answer) in order; the first step counts from the first that was asked for.

    Series of the same padded length are answered together, a long series in pieces. The posteriors that need the
    whole series at once get it, however long it is.

    Args:
        fitted: the model.
        data: the series.
        totals: steps of each with the future.
        ask: the question.
        seed: of the samples.
        batch_size: series at once; None chooses by length.
    """
    piecewise = isinstance(fitted.model.recognition, PotentialRecognition)  # and padding is nothing to it
    alike = len(set(totals)) == 1 and (len(totals) > _FEW or totals[0] > _LONG or not piecewise)
    padded = [_padded_length(n, alike=alike) for n in totals]
    steps = _steps_at_once(fitted.model)
    most = min(64, max(1, _NUMBERS_AT_ONCE // numbers_kept(fitted.model))) if ask.check else 64
    sizes = [
        0 if piecewise and total > steps else batch_size or max(1, min(most, steps // n))
        for total, n in zip(totals, padded, strict=True)
    ]
    done: dict[int, Answer] = {}
    first = 0
    longest = max((n for n, size in zip(padded, sizes, strict=True) if size), default=1)
    ahead = min(_MOST_AHEAD, _NUMBERS_AT_ONCE // _numbers_of(fitted.model, ask, longest))
    for rows in _batches(padded, sizes, ahead):
        if sizes[rows[0]]:
            size = sizes[rows[0]] if len(data) > sizes[rows[0]] else len(data)
            done |= _answer_batch(fitted, data, rows, totals, padded[rows[0]], size, ask, seed)
        else:
            for start, answer in pieces.answer_in_pieces(fitted, data, rows[0], totals[rows[0]], ask, seed):
                yield rows[0], start, answer
            first += 1
        while first in done:
            yield first, 0, done.pop(first)
            first += 1


def _batches(padded: Sequence[int], sizes: Sequence[int], ahead: int) -> Iterator[list[int]]:
    """Series to be answered together, those that come first first; one by itself where the size is 0.

    A batch takes as long for few series as for many, so full ones are looked for.

    Args:
        padded: length of each series.
        sizes: of its batch.
        ahead: series that are looked through for those of one length; their answers wait for those before them.
    """
    taken = np.zeros(len(padded), bool)
    for first, size in enumerate(sizes):
        if taken[first]:
            continue
        rows = [first]
        for index in range(first + 1, min(first + max(ahead, size), len(padded))):
            if len(rows) >= size or not sizes[index]:
                break
            if padded[index] == padded[first] and not taken[index]:
                rows.append(index)
        taken[rows] = True
        yield rows


def _numbers_of(model: SVAE, ask: Question, steps: int) -> int:
    """Numbers in the answer about one series, about."""
    channels, states = model.decoder.loadings.shape
    latents = states * (states + 1) if ask.latents else 0
    return steps * (channels * (2 + len(ask.levels) + ask.samples) + latents)


def _steps_at_once(model: SVAE) -> int:
    """By what a step takes: a covariance, and with a network in the decoder all channels at 2 K points."""
    channels, states = model.decoder.loadings.shape
    numbers = states**2 if isinstance(model.decoder, LinearDecoder) else max(states**2, 2 * states * channels)
    return min(STEPS_AT_ONCE, max(pieces.PIECE, _NUMBERS_AT_ONCE // numbers))


def _padded_length(length: int, *, alike: bool) -> int:
    """At most a quarter longer, and only four lengths an octave, so that ragged series compile few shapes.

    Short ones take less time to be answered than a shape takes to be compiled: there are 32, 64, 128 and 256 of these.

    Args:
        length: of a series.
        alike: many series are as long, or a long one: its length is worth a shape.
    """
    if alike:
        return length
    if length <= _SHORT:
        return max(_SHORTEST, 1 << (length - 1).bit_length())
    grain = 1 << (length.bit_length() - 3)
    return -(-length // grain) * grain


def _answer_batch(
    fitted: FittedModel,
    data: SeriesSet,
    rows: Sequence[int],
    totals: tuple[int, ...],
    length: int,
    size: int,
    ask: Question,
    seed: int,
) -> dict[int, Answer]:
    """Of each row; a batch is filled up to ``size`` with series of which nothing is known."""
    dtype = fitted.model.decoder.loadings.dtype
    values = np.zeros((size, length, data.n_channels), dtype)
    observed = np.zeros(values.shape, bool)
    inputs = np.zeros((size, length, data.n_inputs), dtype)
    known_steps, numbers = np.zeros(size, np.int32), np.zeros(size, np.uint32)
    numbers[: len(rows)] = rows
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
    found = jax.tree.map(np.asarray, _ask(fitted.model, series, jr.key(seed), jnp.asarray(numbers), ask))
    ignored, given = found.pop("ignored", None), {}
    for row, index in enumerate(rows):
        count = ask.last if ask.last is not None else totals[index]
        without = None if ignored is None else ignored[row, : data.lengths[index]]
        given[index] = in_data_units(fitted, jax.tree.map(lambda a, r=row, c=count: a[r, :c], found), without)
    return given


@kept
def _ask(
    model: SVAE, series: tuple[Array, ...], key: Key[Array, ""], numbers: UInt[Array, " series"], ask: Question
) -> dict[str, Array]:
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(numbers)

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
    seen = Seen(values, observed, check=check, end=None if ask.last is None else steps)
    found = describe(model, predictor, states, seen, ask, rest, last=last) | latents
    return found | ({"ignored": given & ~observed} if ask.check else {})
