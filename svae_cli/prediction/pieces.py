"""Answers about one long series, piece by piece and in order, in the memory of one piece.

Three sweeps: forwards, to know the state that enters each piece given all before; backwards, to know the state after
each piece given everything (and the sampled ones, which must join up); forwards again, to answer. Each piece is read
from the file in each sweep.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from svae_cli.data.series import SeriesSet
from svae_cli.inference import Gaussian, LinearGaussianPrior, PiecePosterior, filter_piece, smooth_piece
from svae_cli.models.fitted import FittedModel
from svae_cli.models.season import Remembered, SeasonMemory
from svae_cli.models.svae import SVAE
from svae_cli.precision import compiled, full_precision
from svae_cli.prediction.forecast_check import ForecastCheck, forecast_check
from svae_cli.prediction.gap_check import GapCheck, gap_check
from svae_cli.prediction.glitches import without_glitches
from svae_cli.prediction.question import Answer, Question, Seen, describe, in_data_units, latent_moments

PIECE = 1 << 12
"""Steps of a piece."""

Stretch = tuple[Array, Array, Array]
"""(values, observed, inputs) of a piece in model units; steps beyond the end are not observed."""


def answer_in_pieces(
    fitted: FittedModel, data: SeriesSet, index: int, total: int, ask: Question, seed: int
) -> Iterator[tuple[int, Answer]]:
    """(first step, answer) of consecutive pieces, counted from the first step that was asked for.

    Args:
        fitted: a model with potentials, of which a piece's depend on that piece alone.
        data: where the series is.
        index: which one.
        total: its steps with the future.
        ask: the question.
        seed: of the samples.
    """
    first = 0 if ask.last is None else total - ask.last
    run = _Run(fitted, data, index, total, ask, jr.fold_in(jr.key(seed), index))
    if ask.check:
        run = replace(run, glitches=run.find_glitches())
    begin = first // PIECE
    chains = fitted.model.residual is not None and not ask.filtered
    entering, end = run.forwards(max(begin - chains, 0))
    leaving = run.backwards(entering, end)
    beside = _Beside(run, entering, leaving) if chains else None
    for number in range(begin, run.count):
        start = number * PIECE
        low, high = max(first - start, 0), min(total - start, PIECE)
        sides = beside.of(number) if beside is not None else (None, None)
        found = jax.tree.map(np.asarray, run.answer(number, entering[number], leaving[number], sides))
        ignored = run.ignored(start + low, start + high) if ask.check else None
        yield start + low - first, in_data_units(fitted, {name: a[low:high] for name, a in found.items()}, ignored)


class _End(eqx.Module):
    """The state after a piece given the whole series, and the sampled ones, of which there may be none."""

    state: Gaussian
    sampled: Float[Array, "sample latent"]


@dataclass(frozen=True)
class _Run:
    fitted: FittedModel
    data: SeriesSet
    index: int
    total: int
    ask: Question
    key: Key[Array, ""]
    glitches: Int[np.ndarray, "glitch 2"] = field(default_factory=lambda: np.zeros((0, 2), int))  # (step, channel)

    @property
    def count(self) -> int:
        return -(-self.total // PIECE)

    def find_glitches(self) -> Int[np.ndarray, "glitch 2"]:
        """Where known values cannot be: a piece is long enough to be looked at as if it were all there is."""
        known, found = self.data.lengths[self.index], [np.zeros((0, 2), int)]
        for start in range(0, known, PIECE):
            begin = max(min(start, known - PIECE), 0)  # the last piece needs a past, too
            places = np.argwhere(_ignored(self.fitted.model, self._from(begin, known))) + (begin, 0)
            found.append(places[places[:, 0] >= start])
        return np.concatenate(found)

    def ignored(self, start: int, stop: int) -> Bool[np.ndarray, "known channel"]:
        """Which values are glitches between two steps, of a forecast those before it, with its first piece."""
        known = self.data.lengths[self.index]
        if self.ask.last is not None:
            start, stop = (0, known) if start == self.total - self.ask.last else (known, known)
        mask = np.zeros((stop - start, self.data.n_channels), bool)
        inside = self.glitches[(self.glitches[:, 0] >= start) & (self.glitches[:, 0] < stop)]
        mask[inside[:, 0] - start, inside[:, 1]] = True
        return mask

    def forwards(self, first: int) -> tuple[dict[int, Gaussian], Gaussian]:
        """(the state that enters each piece from ``first`` on given all before, the state after the last piece)."""
        prior = self.fitted.model.dynamics
        state = Gaussian(prior.initial_mean, prior.initial_cov.matrix)
        entering = {}
        for number in range(self.count):
            if number >= first:
                entering[number] = state
            state = _enter_next(self.fitted.model, state, self._stretch(number))
        return entering, state

    @full_precision
    def backwards(self, entering: dict[int, Gaussian], end: Gaussian) -> dict[int, _End]:
        """What follows each of the pieces whose entering states are given."""
        drawn = jr.multivariate_normal(self.key, end.mean, end.cov, (self.ask.samples,), method="svd")
        leaving = {self.count - 1: _End(end, drawn)}
        for number in range(self.count - 1, min(entering), -1):
            stretch = self._stretch(number)
            leaving[number - 1] = _begin(
                self.fitted.model, entering[number], leaving[number], stretch, self._key(number), self.ask
            )
        return leaving

    def answer(self, number: int, entering: Gaussian, leaving: _End, sides: tuple[Any, Any]) -> dict[str, Array]:
        stretch, season = self._stretch(number), self.fitted.model.season
        said = None if season is None else self._remembered(season, number)
        check = None
        if self.ask.check and self.ask.last is not None:
            check = self._checked_ahead(number, self.ask.last)
        elif self.ask.check:  # a piece is long enough to be checked as if it were all there is
            check = _gaps_checked(self.fitted.model, stretch, jnp.asarray(min(self.total - number * PIECE, PIECE)))
        end = None if self.ask.last is None else jnp.asarray(self.data.lengths[self.index] - number * PIECE)
        beside = (*sides, said, check, end)
        return _answer_piece(self.fitted.model, entering, leaving, stretch, beside, self._key(number), self.ask)

    def _checked_ahead(self, number: int, horizon: int) -> ForecastCheck:
        """The check of a piece's forecasts by the last ``PIECE`` known steps."""
        known = self.data.lengths[self.index]
        begin = max(known - PIECE, 0)
        found = _forecasts_checked(self.fitted.model, self._from(begin, known), jnp.asarray(known - begin), horizon)
        return found._replace(start=jnp.asarray(known - number * PIECE))

    def _remembered(self, season: SeasonMemory, number: int) -> Remembered:
        """What the cycles around a piece and in it say of its values."""
        reach = season.reach
        values, observed = self._between(number * PIECE - reach, (number + 1) * PIECE + reach)
        return jax.tree.map(lambda a: a[reach : reach + PIECE], _remember(season, values, observed))

    def residuals(self, number: int, entering: Gaussian, leaving: _End) -> tuple[Array, Array, Array]:
        """(residuals, observed, key of their noise) of a piece."""
        stretch = self._stretch(number)
        return (*_residuals(self.fitted.model, entering, leaving, stretch), _noise_key(self._key(number)))

    def _key(self, number: int) -> Key[Array, ""]:
        return jr.fold_in(self.key, number)

    def _stretch(self, number: int) -> Stretch:
        """One piece from the file, filled up to full length."""
        start = number * PIECE
        return self._from(start, start + PIECE)

    def _from(self, start: int, stop: int) -> Stretch:
        """So many steps as a piece has; inputs are read up to ``stop``, or as far as there are any."""
        data = self.data
        inputs = np.zeros((PIECE, data.n_inputs), self.fitted.model.decoder.loadings.dtype)
        if data.n_inputs:
            known = data.read_inputs(self.index, start, min(start + PIECE, stop, data.input_lengths[self.index]))
            inputs[: len(known)] = known
        return (*self._between(start, start + PIECE), jnp.asarray(inputs))

    def _between(self, start: int, stop: int) -> tuple[Array, Array]:
        """(values, observed) from ``start`` to ``stop`` in model units; nothing is observed outside the series."""
        values = np.full((stop - start, self.data.n_channels), np.nan)
        first, last = max(start, 0), min(stop, self.data.lengths[self.index])
        if last > first:
            raw = self.data.read(self.index, first, last).astype(np.float64)
            values[first - start : last - start] = self.fitted.scaler.to_model(raw)
        steps, channels = self.glitches.T
        inside = (steps >= start) & (steps < stop)
        values[steps[inside] - start, channels[inside]] = np.nan
        observed = jnp.asarray(~np.isnan(values))
        return jnp.asarray(np.nan_to_num(values), self.fitted.model.decoder.loadings.dtype), observed


class _Beside:
    """The residuals on either side of the pieces of a run, asked for in order; each is found once."""

    def __init__(self, run: _Run, entering: dict[int, Gaussian], leaving: dict[int, _End]):
        self._run, self._entering, self._leaving = run, entering, leaving
        self._found: dict[int, tuple[Array, Array, Array]] = {}

    def of(self, number: int) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
        """Of the pieces before and after; beyond the ends nothing is observed."""
        self._found = {n: found for n, found in self._found.items() if n >= number - 1}
        return self._of(number - 1), self._of(number + 1)

    def _of(self, number: int) -> tuple[Array, Array, Array]:
        if number not in self._entering:
            inside = self._of(min(max(number, min(self._entering)), max(self._entering)))
            return jnp.zeros_like(inside[0]), jnp.zeros_like(inside[1]), inside[2]
        if number not in self._found:
            self._found[number] = self._run.residuals(number, self._entering[number], self._leaving[number])
        return self._found[number]


def _noise_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key that ``describe`` draws a piece's observation noise with."""
    _, rest = jr.split(key)
    return jr.split(rest)[0]


def _prior(model: SVAE, entering: Gaussian, inputs: Array) -> LinearGaussianPrior:
    """The chain of a piece and the state after it."""
    prior = model.dynamics.prior(jnp.concatenate([inputs, inputs[-1:]]))
    return LinearGaussianPrior(entering.mean, entering.cov, prior.dynamics, prior.bias, prior.noise_cov)


def _smooth(model: SVAE, entering: Gaussian, leaving: _End, stretch: Stretch) -> PiecePosterior:
    values, observed, inputs = stretch
    potentials = model.potentials(values, observed)
    return smooth_piece(_prior(model, entering, inputs), potentials, leaving.state)


@compiled
def _enter_next(model: SVAE, entering: Gaussian, stretch: Stretch) -> Gaussian:
    values, observed, inputs = stretch
    potentials = model.potentials(values, observed)
    return filter_piece(_prior(model, entering, inputs), potentials)[0]


@compiled
def _begin(
    model: SVAE, entering: Gaussian, leaving: _End, stretch: Stretch, key: Key[Array, ""], ask: Question
) -> _End:
    """The first state of a piece, which follows the piece before."""
    posterior = _smooth(model, entering, leaving, stretch)
    first = Gaussian(posterior.means[0], posterior.covariances[0])
    if not ask.samples:
        return _End(first, leaving.sampled)
    return _End(first, posterior.sample(jr.split(key)[0], ask.samples, leaving.sampled)[:, 0])


@compiled
def _remember(season: SeasonMemory, values: Array, observed: Array) -> Remembered:
    return season.remember(values, observed)


@compiled
def _ignored(model: SVAE, stretch: Stretch) -> Array:
    values, observed, inputs = stretch
    return observed & ~without_glitches(model, values, observed, inputs)


@compiled
def _gaps_checked(model: SVAE, stretch: Stretch, steps: Array) -> GapCheck:
    return gap_check(model, *stretch, steps=steps)


@compiled
def _forecasts_checked(model: SVAE, stretch: Stretch, start: Array, horizon: int) -> ForecastCheck:
    return forecast_check(model, *stretch, start=start, horizon=horizon)


@compiled
def _residuals(model: SVAE, entering: Gaussian, leaving: _End, stretch: Stretch) -> tuple[Array, Array]:
    values, observed, _ = stretch
    middle, _ = model.predictor_moments(_smooth(model, entering, leaving, stretch))
    return jnp.where(observed, values - middle, 0.0), observed


@compiled
def _answer_piece(
    model: SVAE,
    entering: Gaussian,
    leaving: _End,
    stretch: Stretch,
    beside: tuple[Any, Any, Remembered | None, GapCheck | ForecastCheck | None, Array | None],
    key: Key[Array, ""],
    ask: Question,
) -> dict[str, Array]:
    posterior = _smooth(model, entering, leaving, stretch)
    if ask.filtered:
        return {"latent_mean": posterior.filtered.mean, "latent_cov": posterior.filtered.cov}
    path_key, rest = jr.split(key)
    states = posterior.sample(path_key, ask.samples, leaving.sampled) if ask.samples else None
    moments = model.predictor_moments(posterior)
    found = describe(model, moments, states, Seen(*stretch[:2], *beside), ask, rest)
    return found | (latent_moments(posterior) if ask.latents else {})
