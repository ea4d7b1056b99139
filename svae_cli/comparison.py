"""Scores of the model and the baselines as rows, and what the rows say in words."""

from dataclasses import replace
from typing import Any

from svae_cli import metrics
from svae_cli.data.scaler import Scaler
from svae_cli.holdout import MODEL, Held

_LEVEL = 0.01  # a difference in CRPS below this share is not worth a word


def score_rows(
    held: Held, label: dict[str, Any], *, scaler: Scaler, channels: tuple[str, ...], likelihood: str | None
) -> list[dict[str, Any]]:
    """One row a method: over all channels in standard and in natural units, then for each channel in natural units.

    All methods are scored by quantiles if the model's distributions are.

    Args:
        held: the values and what was said about them.
        label: what the rows begin with.
        scaler: between the data's units and standard ones.
        channels: the channels' names.
        likelihood: density behind the negative log likelihood; None leaves that out.
    """
    shift, scale = scaler.mean[held.channel], scaler.std[held.channel]
    standard = Held(
        (held.truth - shift) / scale,
        held.channel,
        {method: p.scaled(shift, scale) for method, p in held.predictions.items()},
    )
    rows = _scored(standard, {**label, "scale": "standard", "channel": "all"}, likelihood)
    rows += _scored(held, {**label, "scale": "natural", "channel": "all"}, likelihood)
    for d, name in enumerate(channels):
        chosen = held.channel == d
        if chosen.any():
            rows += _scored(held.at(chosen), {**label, "scale": "natural", "channel": name}, likelihood)
    return rows


def _scored(held: Held, label: dict[str, Any], likelihood: str | None) -> list[dict[str, Any]]:
    by_quantiles = held.predictions[MODEL].quantiles is not None
    rows = []
    for method, predicted in held.predictions.items():
        same = replace(predicted, quantiles=predicted.levels()) if by_quantiles else predicted
        row = {**label, "method": method, "n": int(held.truth.size)}
        row |= metrics.score(held.truth, same, likelihood=likelihood)
        if likelihood == "poisson" and held.truth.any():
            row["bits_per_spike"] = metrics.bits_per_spike(predicted.mean, held.truth, channel=held.channel)
        rows.append(row)
    best = min((row["crps"] for row in rows if row["method"] != MODEL), default=None)
    for row in rows:
        row["crps_skill"] = 1 - row["crps"] / best if best else None
    return rows


def in_words(rows: list[dict[str, Any]]) -> list[str]:
    """Who is best over all, in which channels a baseline is better, and whether the intervals hold."""
    overall = {row["method"]: row for row in rows if row["channel"] == "all" and row["scale"] == "standard"}
    model = overall.pop(MODEL)
    where = _where(model)
    words = []
    if overall:
        best = min(overall.values(), key=lambda row: row["crps"])
        words.append(_comparison(where, model, best))
        words += _lost_channels(where, rows)
    cover = model["cov90"]
    # The values of counts are few, so that the narrowest interval with 90 % can hold nearly all of them.
    if cover < 0.85 or (cover > 0.95 and "bits_per_spike" not in model):
        words.append(
            f"{where}: the 90 % intervals cover {100 * cover:.0f} % of the values; they are "
            f"{'too narrow' if cover < 0.9 else 'wider than they need to be'}."
        )
    return words


def _where(row: dict[str, Any]) -> str:
    if row["task"] == "forecast":
        return f"Forecasts of {row['horizon']} steps"
    if row["pattern"] == "target":
        return "Imputation, against the given true values"
    return f"Imputation, pattern {row['pattern']}, {100 * row['rate']:.0f} % hidden"


def _comparison(where: str, model: dict[str, Any], best: dict[str, Any]) -> str:
    ours, theirs, name = model["crps"], best["crps"], best["method"]
    if ours < theirs * (1 - _LEVEL):
        share = 100 * (1 - ours / theirs)
        return (
            f"{where}: {MODEL} is best, CRPS {ours:.3g}, {share:.0f} % below the best baseline ({name} {theirs:.3g})."
        )
    if ours <= theirs * (1 + _LEVEL):
        return f"{where}: {MODEL} is level with the baseline {name}, CRPS {ours:.3g} and {theirs:.3g}."
    return f"{where}: the baseline {name} would have been better, CRPS {theirs:.3g} against {ours:.3g} of {MODEL}."


def _lost_channels(where: str, rows: list[dict[str, Any]]) -> list[str]:
    """The channels in which a baseline beats the model, with its name."""
    channels = list(dict.fromkeys(row["channel"] for row in rows if row["channel"] != "all"))
    lost = []
    for channel in channels:
        scores = {row["method"]: row["crps"] for row in rows if row["channel"] == channel}
        ours = scores.pop(MODEL)
        best = min(scores, key=lambda method: scores[method])
        if scores[best] < ours * (1 - _LEVEL):
            lost.append(f"{channel} ({best})")
    if not lost or len(channels) == 1:
        return []
    shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [f"{where}: in {len(lost)} of {len(channels)} channels a baseline would have been better: {shown}."]
