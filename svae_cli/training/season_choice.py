"""Which season the memory has, and whether windows grow to see it twice."""

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.seasonality import Repetition, repetition, shorter_cycle
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError

USUAL_WINDOW = 200
"""Steps of a training window, at most, unless more are asked for."""

_LONGEST = 1440  # of a season, as minutes of a day: answers look 16 cycles to either side
_CYCLES_AROUND = 3  # that training looks at before and after its windows, of longer seasons
_REPEATS = 1.5  # change over a season, in units of the variance, below which it is worth looking so far

Seasons = tuple[tuple[float, ...], Repetition | None]
"""(periods that stand out of the spectrum, after how many steps the series repeat themselves if they do)."""


def predicts_by_itself(settings: Settings, data: SeriesSet) -> bool:
    """Whether what is left of each channel can have a say in its prediction, beside the shared states."""
    fits = settings.posterior == "svae" and settings.likelihood == "gaussian" and settings.objective == "predictive"
    return fits and not data.channel_shape


def _may_remember(settings: Settings, data: SeriesSet) -> bool:
    """Whether a season can have a say, as far as is known before sizes are."""
    if settings.posterior != "svae":
        return False
    gradient = settings.objective == "auto" and settings.prior_update == "gradient"
    return predicts_by_itself(settings.changed(objective="predictive") if gradient else settings, data)


def repetition_of(settings: Settings, data: SeriesSet, scaler: Scaler, periods: tuple[float, ...]) -> Repetition | None:
    """After how many steps the series repeat themselves, if they do."""
    if settings.season is not None or not _may_remember(settings, data):
        return None
    usual = min(USUAL_WINDOW, settings.window or max(data.lengths)) / 2
    found = repetition(data, scaler, periods, usual=usual, longest=_LONGEST)
    if found is None or found.steps <= usual or found.within:
        return found
    return found if found.change < _REPEATS else None


def margin_of(settings: Settings) -> int:
    """Steps before and after each training window that the memory of a season looks at, if windows see too little."""
    season, window = settings.season or 0, settings.window or 0
    return _CYCLES_AROUND * season if season > window / 2 else 0


def resolve_seasons(
    settings: Settings, data: SeriesSet, scaler: Scaler, seasons: Seasons, choices: dict[str, str]
) -> Settings:
    """The season that is remembered, and a shorter one within it.

    Args:
        settings: with a window.
        data: all of them.
        scaler: change of units.
        seasons: what was found in them.
        choices: the reasons are added to it.

    Raises:
        UsageError: a season is asked for that the series do not show twice.
    """
    settings = _resolve_season(settings, data, seasons, choices)
    return _resolve_short_season(settings, data, scaler, seasons, choices)


def _resolve_season(settings: Settings, data: SeriesSet, seasons: Seasons, choices: dict[str, str]) -> Settings:
    """After so many steps the series repeat themselves, unless others are asked for."""
    if settings.season and settings.season > max(data.lengths) / 2:
        raise UsageError(
            f"--season is {settings.season}, but the longest series has {max(data.lengths)} steps, "
            "less than two cycles",
            hint=f"--season {max(data.lengths) // 2} at most, or --season 0",
        )
    if settings.season is not None:
        return settings
    repeated = seasons[1]
    if repeated is None or not predicts_by_itself(settings, data):
        return settings.changed(season=0)
    why = f", {repeated.periods} periods" if repeated.periods > 1 else ""
    why += " in some channels" if repeated.within else ""
    choices["season"] = (
        f"{repeated.steps} steps{why}: the same phase of other cycles has a say in long gaps and forecasts"
    )
    return settings.changed(season=repeated.steps)


def _resolve_short_season(
    settings: Settings, data: SeriesSet, scaler: Scaler, seasons: Seasons, choices: dict[str, str]
) -> Settings:
    """Within a season that is longer than usual windows show, as a week, the shorter one that it is made of."""
    season, asked = settings.season or 0, settings.short_season
    if asked and asked > season / 2:
        hint = f"--short-season {season // 2} at most, or a longer --season" if season >= 4 else "--season STEPS"
        raise UsageError(
            f"--short-season is {asked}, but the season has {season} steps, less than two of it", hint=hint
        )
    if asked is not None:
        return settings
    periods, repeated = seasons
    if repeated is not None and repeated.steps == season and repeated.within:
        found = repeated.within
    else:
        found = shorter_cycle(data, scaler, periods, season=season) if season > USUAL_WINDOW / 2 else 0
    if found:
        choices["short_season"] = f"{found} steps: how far nearby cycles are off the season has a say as well"
    return settings.changed(short_season=found)
