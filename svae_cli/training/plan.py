"""Plan: everything that training decides from the data before its first step, each choice with its reason."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from svae_cli.config import Settings
from svae_cli.data.fingerprint import fingerprint_of
from svae_cli.data.gaps import hide
from svae_cli.data.rank import signal_rank
from svae_cli.data.scaler import Scaler
from svae_cli.data.seasonality import detect_periods
from svae_cli.data.series import SeriesSet
from svae_cli.data.spikes import spike_limits, without_spikes
from svae_cli.data.windows import Batch, WindowReader
from svae_cli.errors import DataError, UsageError
from svae_cli.models.lags import LagRegression
from svae_cli.models.season import CYCLES, SeasonMemory
from svae_cli.training.glimpse import guess_likelihood, observed_share
from svae_cli.training.holding_out import hold_out
from svae_cli.training.lag_start import resolve_lags
from svae_cli.training.mean_change import mean_change
from svae_cli.training.optimism import optimism
from svae_cli.training.season_choice import (
    USUAL_WINDOW,
    margin_of,
    predicts_by_itself,
    repetition_of,
    resolve_seasons,
)
from svae_cli.training.season_start import SEASON_WINDOWS, season_of
from svae_cli.training.structure import MOST_STATES, Structure, resolve_states

_START_WINDOWS, _START_STEPS = 128, 25_600  # that the linear start is fitted to, at most
_MEMORY_VALUES, _MOST_MEMORY = 1 << 20, 1 << 23  # that the memory of a season is measured on, about, and at most
_VALID_WINDOWS, _VALID_STEPS = 64, 12_800
_VALID_FRAMES = 800  # where a step is a frame, fewer windows: decoding them takes most of a validation round
_STEPS_A_BATCH = 3072  # windows times steps, where windows without gaps share their covariances
_STEPS_WITH_GAPS = 1536  # where every window needs covariances of its own
_COMPLETE = 0.999  # share of values observed, to count as without gaps
_FULL_STEPS = 800
_NETWORK_STEPS = 500  # fewer carry no network
_NETWORK_VALUES = 20_000  # about the parameters that two networks of 64, 64 have
_FRAME_STATES = 12  # of frames, whose pixels say much the same
_LINEAR_STEPS = 600
_EFFORT = {"fast": 0.25, "default": 1.0, "thorough": 4.0}


@dataclass(frozen=True)
class Sizes:
    """The settings' numbers once they are resolved.

    Attributes:
        latent_dim: latent states K.
        window: steps in a window.
        batch_size: windows in a batch.
        linear_steps: length of the linear stage.
        full_steps: longest length of the full stage.
    """

    latent_dim: int
    window: int
    batch_size: int
    linear_steps: int
    full_steps: int


@dataclass(frozen=True)
class Plan:
    """What is trained on what.

    Attributes:
        settings: resolved: no None and no "auto" left, apart from ``time_limit``, and ``states`` that are to be chosen.
        sizes: its numbers.
        scaler: between the data's units and the model's.
        start_scaler: between the data's units and those of the linear start; differs for counts.
        windows: training windows.
        start_windows: the windows that EM runs on, in the linear start's units.
        season_windows: the windows that a season memory's trust is measured on, in the same units.
        linear_windows: training windows in the linear start's units.
        valid: validation windows in model units.
        valid_hidden: what validation hides of them.
        periods: seasonal periods, in steps.
        season: what other cycles say by themselves, in the linear start's units; None if they are not asked.
        lags: the regression on last values, if there is one.
        choices: the reasons.
        split: what is held out.
        fingerprint: of the data.
        data: the training part.
    """

    settings: Settings
    sizes: Sizes
    scaler: Scaler
    start_scaler: Scaler
    windows: WindowReader
    start_windows: Batch
    season_windows: Batch
    linear_windows: WindowReader
    valid: Batch
    valid_hidden: np.ndarray
    periods: tuple[float, ...]
    season: SeasonMemory | None
    lags: LagRegression | None
    choices: dict[str, str]
    split: dict[str, Any]
    fingerprint: str
    data: SeriesSet

    @cached_property
    def values_learned_from(self) -> float:
        """How many there are, about, of all channels together."""
        return max(observed_share(self.data) * sum(self.data.lengths) * self.data.n_channels, 1.0)

    @cached_property
    def optimism(self) -> float:
        """How much smaller errors are on what is learned from, as in ``SVAE``."""
        values = self.values_learned_from / self.data.n_channels
        dim, own = self.sizes.latent_dim, self.settings.states == "own"
        return optimism(latent_dim=dim, n_channels=self.data.n_channels, values=values, own=own)

    @cached_property
    def change(self) -> np.ndarray:
        """Each channel's mean change a step, in the linear start's units."""
        return mean_change(self.data, self.start_scaler)

    @cached_property
    def structure(self) -> Structure | None:
        """What of the linear-Gaussian model is free to move; None for everything."""
        if self.settings.states != "own":
            return None
        return Structure.own(self.data.n_channels, self.values_learned_from / self.data.n_channels)


def make_plan(data: SeriesSet, settings: Settings, valid: SeriesSet | None = None) -> Plan:
    """Split the data, measure them and resolve every open setting, but ``states`` where EM is to choose them.

    Args:
        data: all series to learn from.
        settings: what the user asked for.
        valid: series to validate on; without them a part of ``data`` is held out.

    Raises:
        DataError: too little data, or a channel that was never observed.
    """
    if not len(data) or max(data.lengths) < 3:
        raise DataError("no series has 3 steps or more", where=data.source)
    choices, fingerprint = {}, fingerprint_of(data)
    data, valid = _resolve_spikes(settings, data, valid, choices)
    train, held, split = (data, valid, {"kind": "given"}) if valid is not None else hold_out(data, settings, choices)
    if split["kind"] != "given":
        settings = settings.changed(split=split["kind"])
    settings = _resolve_likelihood(settings, train, choices)
    settings, start_scaler = _resolve_transform(settings, train, Scaler.measure(train), choices)
    raw = settings.standardize == "none" or settings.likelihood in ("poisson", "bernoulli")
    scaler = Scaler.identity(data.n_channels) if raw else start_scaler
    # Of all data: what is held out cuts long series into parts that may be shorter than a period.
    periods = detect_periods(data, start_scaler, longest=max(data.lengths) / 4)
    seasons = periods, repetition_of(settings, data, start_scaler, periods)
    settings = resolve_states(settings, train, periods, choices)
    settings, sizes, periods = _resolve_sizes(settings, train, start_scaler, periods, choices)
    settings = resolve_seasons(settings, data, start_scaler, seasons, choices)
    settings, lags = resolve_lags(_resolve_residual(settings, train, choices), train, start_scaler, choices)
    cut = partial(WindowReader, length=sizes.window, dtype=np.dtype(settings.precision), margin=margin_of(settings))
    linear, valid_windows = cut(train, start_scaler, margin=0), _validation_windows(cut(held, scaler))
    start_windows = _start_windows(linear, settings.seed, sizes.batch_size)
    return Plan(
        settings=settings,
        sizes=sizes,
        scaler=scaler,
        start_scaler=start_scaler,
        windows=cut(train, scaler),
        start_windows=start_windows,
        season_windows=_season_windows(start_windows, cut(train, start_scaler), settings.seed),
        linear_windows=linear,
        valid=valid_windows,
        valid_hidden=hide(valid_windows.observed, "mixed", 0.3, np.random.default_rng([settings.seed, 0x7A11D])),
        periods=periods,
        season=_memory(settings, train, start_scaler),
        lags=lags,
        choices=choices,
        split=split,
        fingerprint=fingerprint,
        data=train,
    )


def _memory(settings: Settings, train: SeriesSet, scaler: Scaler) -> SeasonMemory | None:
    """From windows with all that a memory reaches around them: two cycles cannot tell how far to trust the third.

    What is held out lies around some of them, but only what is learned from is to be predicted.
    """
    if not settings.season:
        return None
    cycles = _MOST_MEMORY // (2 * settings.season * train.n_channels) - 1
    margin = int(np.clip(cycles, 1, CYCLES)) * settings.season
    length = min(max(train.lengths), 2 * settings.season)
    count = int(np.clip(_MEMORY_VALUES // ((length + 2 * margin) * train.n_channels), 1, SEASON_WINDOWS))
    reader = WindowReader(train, scaler, length=length, dtype=np.dtype(settings.precision), margin=margin)
    windows = reader.draw(settings.seed, (1 << 30) + 1, count)
    return season_of(windows, period=settings.season, within=settings.short_season or 0, seed=settings.seed)


def _season_windows(start: Batch, reader: WindowReader, seed: int) -> Batch:
    """A few of those of the linear start; others with what lies around them, if that is asked for."""
    if not reader.margin:
        return start[slice(0, SEASON_WINDOWS)]
    steps = (reader.length + 2 * reader.margin) * reader.data.n_channels
    return reader.draw(seed, (1 << 30) + 2, int(np.clip(_MOST_MEMORY // steps, 4, SEASON_WINDOWS)))


def _start_windows(reader: WindowReader, seed: int, batch: int) -> Batch:
    count = min(_START_WINDOWS, max(16, _START_STEPS // reader.length), reader.n_starts)
    if reader.length > USUAL_WINDOW and count > batch:
        count -= count % batch  # equal batches of windows with the same gaps share their covariances
    return reader.draw(seed, 1 << 30, count)


def _validation_windows(reader: WindowReader) -> Batch:
    judged = _VALID_FRAMES if reader.data.channel_shape else _VALID_STEPS
    values = (reader.length + 2 * reader.margin) * reader.data.n_channels if reader.margin else 1
    enough = max(8, min(_VALID_WINDOWS, judged // reader.length, 4 * _MOST_MEMORY // values))
    return _enough(reader.spread(enough), enough)


def _enough(windows: Batch, enough: int) -> Batch:
    """Few windows are repeated, to be hidden in different ways: a score of few gaps would be a matter of luck."""
    times = max(1, enough // len(windows))
    rows = np.tile(np.arange(len(windows)), times)
    return Batch(*(a[rows] for a in windows.arrays), steps=windows.steps[rows])


def _resolve_spikes(
    settings: Settings, data: SeriesSet, valid: SeriesSet | None, choices: dict[str, str]
) -> tuple[SeriesSet, SeriesSet | None]:
    """Spikes as missing values where, spikes included, the values look continuous."""
    likelihood = guess_likelihood(data)[0] if settings.likelihood == "auto" else settings.likelihood
    if settings.spikes == "learn" or likelihood != "gaussian" or data.channel_shape:
        return data, valid
    limits, share = spike_limits(data)
    if share > 0:
        choices["spikes"] = f"skip: {share:.2%} of the values looked at are far from those before and after"
    return without_spikes(data, limits), None if valid is None else without_spikes(valid, limits)


def _resolve_likelihood(settings: Settings, data: SeriesSet, choices: dict[str, str]) -> Settings:
    if settings.likelihood == "auto":
        likelihood, why = guess_likelihood(data)
        choices["likelihood"] = f"{likelihood}: {why}"
        settings = settings.changed(likelihood=likelihood)
    return settings


def _resolve_transform(
    settings: Settings, data: SeriesSet, scaler: Scaler, choices: dict[str, str]
) -> tuple[Settings, Scaler]:
    """Bend skewed channels, where noise is Gaussian and its size not given in the data's units."""
    fits = settings.likelihood == "gaussian" and settings.standardize == "channel" and settings.noise is None
    if settings.transform == "power" and data.channel_shape:
        raise UsageError("frames are not bent", hint="--transform none")
    if settings.transform == "none" or not fits or data.channel_shape:
        return settings.changed(transform="none"), scaler
    scaler = scaler.warped(data)
    if scaler.warp is None:
        choices["transform"] = "none: the channels' noise is of one size at every level"
        return settings.changed(transform="none"), scaler
    powers, from_zero = scaler.warp.power[scaler.warp.bent], int(np.sum(scaler.warp.unit != 1))
    choices["transform"] = (
        f"power: {len(powers)} of {data.n_channels} channels move more at some levels than at others, "
        f"powers {powers.min():g} to {powers.max():g}"
        + (f"; {from_zero} counted from zero, as what multiplies is" if from_zero else "")
    )
    return settings.changed(transform="power"), scaler


def _resolve_sizes(
    settings: Settings,
    data: SeriesSet,
    scaler: Scaler,
    periods: tuple[float, ...],
    choices: dict[str, str],
) -> tuple[Settings, Sizes, tuple[float, ...]]:
    """Window, batch, latent dimension, steps, objective, networks; and the periods that fit the window."""
    window = settings.window
    if window is None:
        wish = int(4 * max(periods)) if periods else 100
        window = min(max(data.lengths), max(48, min(wish, USUAL_WINDOW)))
        why = (
            f"up to 4 of the longest period, {max(periods):.4g}" if periods else f"series of {max(data.lengths)} steps"
        )
        choices["window"] = f"{window} steps: {why}"
    periods = tuple(p for p in periods if p <= window / 1.5)
    if periods:
        choices["periods"] = f"{', '.join(f'{p:.4g}' for p in periods)} steps stand out of the spectrum"
    batch = settings.batch_size
    if batch is None:
        complete = observed_share(data) > _COMPLETE
        size = _STEPS_A_BATCH if complete else _STEPS_WITH_GAPS
        batch = int(np.clip(size // window, 8 if window <= USUAL_WINDOW or settings.window else 4, 64))
        choices["batch_size"] = f"{batch} windows, about {batch * window} steps" + (
            "" if complete else ", as the data have gaps"
        )
    dim = settings.latent_dim
    steps = sum(data.lengths)
    if dim is None:
        dim, why = _latent_dim(data, periods, scaler, counts=settings.likelihood in ("poisson", "bernoulli"))
        choices["latent_dim"] = f"{dim}: {why}, {len(periods)} periods, {steps} steps"
    per_epoch = max(1, round(steps / (batch * window)))
    epochs, effort = settings.epochs, _EFFORT[settings.preset]
    if epochs is None:
        epochs = max(1, round(effort * _FULL_STEPS / per_epoch))
        choices["epochs"] = f"{epochs} at most, {per_epoch} batches each"
    linear_steps = round(effort * _LINEAR_STEPS) if settings.linear_steps is None else settings.linear_steps
    sizes = Sizes(dim, window, batch, linear_steps, epochs * per_epoch)
    settings = settings.changed(
        window=window, batch_size=batch, latent_dim=dim, epochs=epochs, linear_steps=linear_steps
    )
    settings = _resolve_networks(settings, data, choices)
    return settings, sizes, periods


def _latent_dim(data: SeriesSet, periods: tuple[float, ...], scaler: Scaler, *, counts: bool) -> tuple[int, str]:
    """Two states a channel (value and slope) or a few for frames, and two pairs a period, as far as the steps carry.

    Of counts, which are mostly noise, two states for each direction that stands out of it.
    """
    if data.channel_shape:
        wish, why = _FRAME_STATES, "frames"
    elif counts:
        rank = signal_rank(data, scaler)
        wish, why = 2 * rank, f"{rank} directions of {data.n_channels} channels stand out of the noise"
    else:
        wish, why = 2 * data.n_channels, f"{data.n_channels} channels"
    affordable = max(2, sum(data.lengths) // 20)
    return int(min(max(4, wish) + 4 * len(periods), affordable, MOST_STATES)), why


def _resolve_networks(settings: Settings, data: SeriesSet, choices: dict[str, str]) -> Settings:
    steps, channels, frames = sum(data.lengths), data.n_channels, bool(data.channel_shape)
    enough = steps >= _NETWORK_STEPS and (frames or steps * channels >= _NETWORK_VALUES)
    kind = ("conv" if frames else "mlp") if enough else "linear"
    why = f"{kind}: {steps} {'frames' if frames else f'steps of {channels} channels'} to learn from"
    if settings.recognition == "auto":
        choices["recognition"] = why
        settings = settings.changed(recognition=kind)
    if settings.decoder == "auto":
        choices["decoder"] = why
        settings = settings.changed(decoder=kind)
    if "conv" in (settings.recognition, settings.decoder) and not frames:
        raise UsageError("the steps are not frames, so nothing can be convolved", hint="mlp or linear networks")
    if settings.objective == "auto":
        objective, why = "predictive", "the log predictive density of hidden values"
        if settings.posterior != "svae":
            objective, why = "elbo", f"what a posterior by networks alone, {settings.posterior}, is trained with"
        elif settings.prior_update == "closed-form":
            objective, why = "elbo", "what closed-form updates of the dynamics raise"
        settings = settings.changed(objective=objective)
        choices["objective"] = f"{objective}: {why}"
    if settings.mask_pattern == "auto":
        settings = settings.changed(mask_pattern="mixed")
        choices["mask_pattern"] = f"mixed, about {settings.mask_rate:.0%} hidden: points, windows, channels and tails"
    return settings


def _resolve_residual(settings: Settings, data: SeriesSet, choices: dict[str, str]) -> Settings:
    """Chains of their own where the shared states are too few to follow each channel."""
    if settings.residual_chains != "auto":
        return settings
    dim = settings.latent_dim or 1
    if not predicts_by_itself(settings, data) or dim >= 2 * data.n_channels:
        return settings.changed(residual_chains="off")
    choices["residual_chains"] = f"on: {dim} states for {data.n_channels} channels, so what is left of each may last"
    return settings.changed(residual_chains="on")
