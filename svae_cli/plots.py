"""Pictures: PNG, SVG or PDF by matplotlib, which is imported here alone, or characters for a terminal without it."""

from pathlib import Path

import numpy as np

from svae_cli.errors import UsageError
from svae_cli.files.atomic import STDOUT, replacing, writing
from svae_cli.files.pictures import Panel, Picture

_INCHES_A_PANEL = 1.9
_WIDTH = 72
_HEIGHT = 8


def draw(picture: Picture, target: Path, *, force: bool) -> None:
    """Draw a picture into a file by the ending of its name; ``-`` writes PNG to standard output.

    Equal pictures are equal bytes.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: the file is refused or cannot be written.
    """
    try:
        import matplotlib
    except ImportError as problem:
        raise UsageError("pictures need matplotlib", hint="pip install 'svae-cli[plot]', or leave -o out") from problem
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    kind = "png" if target == STDOUT else target.suffix.lower().lstrip(".")
    stamps = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    count = len(picture.panels)
    figure = Figure(figsize=(9, 0.8 + _INCHES_A_PANEL * count), layout="constrained")
    figure.suptitle(picture.title)
    for axes, panel in zip(figure.subplots(count, 1, squeeze=False)[:, 0], picture.panels, strict=True):
        _draw_panel(axes, panel)
    with (
        replacing(target, force=force) as temporary,
        writing(target),
        matplotlib.rc_context({"svg.hashsalt": "svae"}),
    ):
        figure.savefig(temporary, format=kind, metadata=stamps[kind])


def _draw_panel(axes, panel: Panel) -> None:
    if panel.low is not None and panel.high is not None:
        axes.fill_between(panel.x, panel.low, panel.high, alpha=0.25, linewidth=0, color="C0", label="90 % interval")
    if panel.mean is not None:
        axes.plot(panel.x, panel.mean, linewidth=1, color="C0", label="mean")
    if panel.observed is not None:
        style = {"linewidth": 0.8} if panel.mean is None else {"linestyle": "none"}
        axes.plot(panel.x, panel.observed, marker=".", markersize=2.5, color="0.2", label="observed", **style)
    axes.set_ylabel(panel.title)
    axes.set_xlabel(panel.x_label)
    if panel.mean is not None and panel.observed is not None:
        axes.legend(loc="upper right", fontsize="x-small", ncols=3)


def as_text(picture: Picture) -> str:
    """The picture in characters: ``o`` observed, ``*`` the mean, ``:`` its 90 % interval."""
    return "\n\n".join([picture.title, *(_text_panel(panel) for panel in picture.panels)])


def _text_panel(panel: Panel) -> str:
    layers = [(":", panel.low), (":", panel.high), ("*", panel.mean), ("o", panel.observed)]
    curves = [(mark, _resampled(values)) for mark, values in layers if values is not None]
    known = np.concatenate([values[np.isfinite(values)] for _, values in curves])
    if not known.size:
        return f"{panel.title}: no values"
    low, high = float(known.min()), float(known.max())
    canvas = [[" "] * len(curves[0][1]) for _ in range(_HEIGHT)]
    for mark, values in curves:
        for column, value in enumerate(values):
            if np.isfinite(value):
                share = (value - low) / (high - low) if high > low else 0.5
                canvas[_HEIGHT - 1 - round(share * (_HEIGHT - 1))][column] = mark
    labels = [f"{high:10.4g}", *[" " * 10] * (_HEIGHT - 2), f"{low:10.4g}"]
    lines = [f"{label} |{''.join(row).rstrip()}" for label, row in zip(labels, canvas, strict=True)]
    span = f"{panel.x[0]:g} to {panel.x[-1]:g}"
    return "\n".join([f"{panel.title}   ({panel.x_label} {span})", *lines])


def _resampled(values: np.ndarray) -> np.ndarray:
    """At most ``_WIDTH`` values: each the first finite one of its stretch."""
    pieces = np.array_split(values, min(_WIDTH, len(values)))
    return np.array([next((v for v in piece if np.isfinite(v)), np.nan) for piece in pieces])
