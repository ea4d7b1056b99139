"""Which season the memory has, and whether windows grow to see it twice."""

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.seasonality import Repetition, repetition
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError

USUAL_WINDOW = 200
"""Steps of a training window, at most, unless a season needs more."""

_LONGEST_WINDOW = 1344  # that is chosen to see two cycles of a season: weeks of quarters of an hour
_SEEN_AGAIN = 1.5  # cycles of it that windows must have, where the data are cut into pieces shorter than two
_REPEATS = 1.0  # change over a season, in units of the variance, below which it is worth a longer window

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


def repetition_of(
    settings: Settings, data: SeriesSet, scaler: Scaler, periods: tuple[float, ...], *, piece: int
) -> Repetition | None:
    """After how many steps the series repeat themselves, if they do, and if windows may be long enough to see it."""
    if settings.season is not None or not _may_remember(settings, data):
        return None
    window = settings.window or min(piece, _LONGEST_WINDOW)
    longest = min(window / _SEEN_AGAIN, _LONGEST_WINDOW / 2)
    found = repetition(data, scaler, periods, usual=min(USUAL_WINDOW, window) / 2, longest=longest)
    return found if found is not None and found.change < _REPEATS else None


def resolve_season(
    settings: Settings,
    data: SeriesSet,
    seasons: Seasons,
    choices: dict[str, str],
) -> Settings:
    """The longest period of which a window sees most of two cycles, so that training can tell what it is worth."""
    if settings.season and settings.season > (settings.window or 0) / 2:
        raise UsageError(
            f"--season is {settings.season}, but training windows have {settings.window} steps, less than two cycles",
            hint=f"--window {2 * settings.season}, if the series are that long, or --season 0",
        )
    if settings.season is not None:
        return settings
    periods, repeated = seasons
    window = settings.window or 0
    season, why = max((round(p) for p in periods if 2 <= round(p) <= window / 2), default=0), ""
    if repeated is not None and repeated.steps <= window / _SEEN_AGAIN:
        season, why = repeated.steps, f", {repeated.periods} periods" if repeated.periods > 1 else ""
    if not season or not predicts_by_itself(settings, data):
        return settings.changed(season=0)
    choices["season"] = f"{season} steps{why}: the same phase of other cycles has a say in long gaps and forecasts"
    return settings.changed(season=season)
