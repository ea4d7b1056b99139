"""``svae inspect``: what is in a data, model or result file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from svae_cli.cli.console import Console
from svae_cli.cli.options import Reading, Talking, expanded

SHORT = "What is in a file, and what is odd about it."
EXAMPLES = """
  svae inspect rec.h5                                  series, channels, gaps, warnings, cost of training
  svae inspect rec.svae                                settings, what was chosen and why, scores
  svae inspect rec.imputed.h5 --json
"""

_STEPS = 1400
_SECONDS_A_STEP = 0.02
_SECONDS_A_STATE_PAIR = 3e-4
_HELD_BYTES = 512_000_000

FileArg = Annotated[str, typer.Argument(metavar="FILE", help="Data, model or result; FILE:/dataset or - for data.")]


@expanded
def command(file: FileArg, *, reading: Reading, talking: Talking) -> None:
    """Say what is in a data, model or result file, what is odd about it, and what training on it would take."""
    console = talking.console()
    from svae_cli.files.kinds import kind_of

    kind = kind_of(file)
    if kind == "model":
        text, summary = _model(Path(file))
    elif kind == "checkpoint":
        text, summary = _checkpoint(Path(file))
    else:
        text, summary = _data(file, reading, console, kind)
    console.result(text, summary)


def _model(path: Path) -> tuple[str, dict[str, Any]]:
    from svae_cli.files.model_header import count_parameters, read_header

    header = read_header(path)
    best = max((row["valid"] for row in header.history if "valid" in row), default=None)
    parameters = count_parameters(path)
    summary = {
        "kind": "model",
        "settings": header.settings.to_json(),
        "channels": list(header.channels),
        "units": list(header.units),
        "inputs": list(header.inputs),
        "parameters": parameters,
        "best_validation": best,
        "reports": len(header.history),
        "choices": header.choices,
        "fingerprint": header.fingerprint,
    }
    lines = [
        f"model: {len(header.channels)} channels ({_some(header.channels)}), {parameters:,} parameters",
        f"posterior {header.settings.posterior}, latent states {header.settings.latent_dim}, "
        f"likelihood {header.settings.likelihood}, decoder {header.settings.decoder}",
    ]
    if best is not None:
        lines.append(f"best validation score: {best:.4f} nats per value, after {len(header.history)} reports")
    lines += [f"chosen: {name}: {reason}" for name, reason in header.choices.items()]
    return "\n".join(lines), summary


def _checkpoint(path: Path) -> tuple[str, dict[str, Any]]:
    from svae_cli.files.kinds import describe_checkpoint

    summary = {"kind": "checkpoint", **describe_checkpoint(path)}
    text = f"checkpoint: stage {summary['stage']}, step {summary['step']}, after {summary['seconds']:.0f} s of training"
    return f"{text}\ngo on with: svae train DATA -o {path.with_suffix('')} --resume", summary


def _data(spec: str, reading: Reading, console: Console, kind: str) -> tuple[str, dict[str, Any]]:
    from svae_cli.cli.opening import open_data
    from svae_cli.files.survey import describe, survey

    with open_data(spec, reading, console) as data:
        found = describe(data, survey(data))
    summary = {"kind": kind, **found}
    steps = found["steps"]
    span = f"{steps['max']}" if steps["min"] == steps["max"] else f"{steps['min']} to {steps['max']}"
    lines = [
        f"{kind}: {found['series']} series of {span} steps, {len(found['channels'])} channels, "
        f"{100 * found['missing']:.1f} % missing, {found['dtype']}{', counts' if found['counts'] else ''}"
    ]
    if found["time"]:
        time = found["time"]
        lines.append(f"time: every {time['step']:g} {time['units']}".rstrip())
    lines += _channel_lines(found["channels"])
    lines += [f"warning: {text}" for text in found["warnings"]]
    if kind == "data":
        summary["estimate"] = estimate = _estimate(found)
        cost = f"about {estimate['memory_gb']:.1f} GB of memory, some {estimate['minutes']:.0f} minutes on 2 CPU cores"
        lines.append(f"training: {cost}")
    return "\n".join(lines), summary


def _channel_lines(channels: list[dict[str, Any]], most: int = 40) -> list[str]:
    width = max(len(c["name"]) for c in channels[:most])
    lines = [
        f"  {c['name']:<{width}}  {100 * c['missing']:5.1f} % missing  {_range(c)} {c['unit']}".rstrip()
        for c in channels[:most]
    ]
    return lines + ([f"  and {len(channels) - most} more"] if len(channels) > most else [])


def _range(channel: dict[str, Any]) -> str:
    if channel["min"] is None:
        return "no values"
    return f"{channel['min']:.4g} to {channel['max']:.4g}, mean {channel['mean']:.4g}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")


def _estimate(found: dict[str, Any]) -> dict[str, float]:
    """Rough cost of training with default settings.

    Memory: jax and its buffers take about 0.7 GB; values are held twice as far as they are held at all. Time: some 1400
    steps, whose cost rises with the square of the number of latent states that training would choose.
    """
    values = found["steps"]["total"] * len(found["channels"])
    held = 2 * values * 8 if values * 8 <= _HELD_BYTES else _HELD_BYTES
    states = min(max(4, 2 * len(found["channels"])) + 4, max(2, found["steps"]["total"] // 20), 32)
    seconds = 20 + _STEPS * (_SECONDS_A_STEP + _SECONDS_A_STATE_PAIR * states**2)
    return {"memory_gb": round(0.7 + held / 1e9, 2), "minutes": round(max(1.0, seconds / 60), 1)}
