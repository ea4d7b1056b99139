"""What wrong values cost, in what is learned from and in what is asked about, and what svae saves of it.

    python -m benchmarks.spikes [--data nyc_weather,swiss_rivers] [--preset fast] [--rate 0.002] [--out FILE.json]

Two values in a thousand are moved by 5 to 12 of their channel's standard deviations, up or down. The first 80 % of
each series are learned from, as they are or with spikes; of the last 20 %, in stretches of 96 steps, a tenth of the
values is hidden and filled in. Scores are mean absolute errors in standard deviations of the channel, and the share of
the true values inside 90 % intervals; hidden values themselves are never spikes.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np

from svae_cli import prediction
from svae_cli.baselines import fill
from svae_cli.cli.compiled import compile_sooner
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.training.fit import fit

SAMPLES = Path(__file__).parent.parent / "sample_data"
STRETCH, HIDDEN, STRETCHES = 96, 0.1, 40
LEARNED = {"clean": "skip", "spikes skipped": "skip", "spikes learned": "learn"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="nyc_weather,swiss_rivers", help="of sample_data, comma-separated")
    parser.add_argument("--preset", default="default", choices=("fast", "default", "thorough"))
    parser.add_argument("--rate", type=float, default=0.002, help="share of values that are spikes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the numbers go as JSON, too")
    options = parser.parse_args()
    compile_sooner()  # as the program does
    rows = []
    for name in options.data.split(","):
        rows += compare(name, options)
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps({"preset": options.preset, "rate": options.rate, "rows": rows}, indent=1))


def compare(name: str, options: argparse.Namespace) -> list[dict]:
    """The rows of one data set."""
    with h5py.File(SAMPLES / f"{name}.h5") as file:
        values = file["data"][...].astype(np.float64)
    values = values if values.ndim == 3 else values[None]
    cut, size = int(0.8 * values.shape[1]), np.nanstd(values, axis=(0, 1))
    rng = np.random.default_rng(options.seed)
    early = values[:, :cut]
    learned = {"clean": early, "spikes skipped": with_spikes(early, size, options.rate, rng)}
    learned["spikes learned"] = learned["spikes skipped"]
    starts = np.linspace(cut, values.shape[1] - STRETCH, STRETCHES // len(values)).astype(int)
    truth = np.stack([series[s : s + STRETCH] for series in values for s in starts])
    hidden = (rng.random(truth.shape) < HIDDEN) & ~np.isnan(truth)
    clean = np.where(hidden, np.nan, truth)
    shown = {"clean": clean, "spikes": with_spikes(clean, size, options.rate, rng)}
    rows = [{"data": name, "learned": "(straight line)", **line_scores(truth, hidden, shown, size)}]
    for how, series in learned.items():
        settings = Settings(preset=options.preset, seed=options.seed, spikes=LEARNED[how])
        *_, last = fit(SeriesSet.from_arrays(list(series)), settings)
        rows.append({"data": name, "learned": how, **model_scores(last.state.fitted, truth, hidden, shown, size)})
    return rows


def with_spikes(values: np.ndarray, size: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """The same values, some of them moved far."""
    moved = values + rng.choice([-1.0, 1.0], values.shape) * rng.uniform(5.0, 12.0, values.shape) * size
    return np.where(rng.random(values.shape) < rate, moved, values)


def line_scores(truth: np.ndarray, hidden: np.ndarray, shown: dict[str, np.ndarray], size: np.ndarray) -> dict:
    """Of a straight line over each gap."""
    none, scores = np.zeros(truth.shape[-1]), {}
    for about, values in shown.items():
        mean = np.stack([fill(series, "linear", means=none) for series in values])
        scores[about] = {"mae": float(np.mean((np.abs(mean - truth) / size)[hidden]))}
    return scores


def model_scores(
    fitted: FittedModel, truth: np.ndarray, hidden: np.ndarray, shown: dict[str, np.ndarray], size: np.ndarray
) -> dict:
    """Of a model, with the self-check and without."""
    scores = {}
    for about, values in shown.items():
        for check in (True, False):
            found = list(
                prediction.impute(fitted, SeriesSet.from_arrays(list(values)), quantiles=(0.05, 0.95), self_check=check)
            )
            mean, inside = np.stack([p.mean for p in found]), np.stack([p.quantiles for p in found])
            covered = (truth >= inside[..., 0]) & (truth <= inside[..., 1])
            scores[about if check else f"{about}, no check"] = {
                "mae": float(np.mean((np.abs(mean - truth) / size)[hidden])),
                "cov90": float(np.mean(covered[hidden])),
            }
    return scores


def table(rows: list[dict]) -> str:
    """Markdown."""
    columns = ("clean", "clean, no check", "spikes", "spikes, no check")
    lines = [f"| data | learned from | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for row in rows:
        cells = [row.get(c, {}) for c in columns]
        said = [" ".join(f"{cell[k]:.3f}" for k in ("mae", "cov90") if k in cell) for cell in cells]
        lines.append(f"| {row['data']} | {row['learned']} | {' | '.join(said)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
