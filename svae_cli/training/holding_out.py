"""Holding out: which part of the data is held out, to tell when training has done enough."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError

Split = tuple[SeriesSet, SeriesSet, dict[str, Any]]
"""(what is learned from, what is held out, a record of that)."""

_STRETCHES = 5
_SHORTEST_STRETCH = 100  # steps
_OTHER_WAYS = 8  # to choose the series that are held out, if one leaves nothing of a channel
_LOOK = 1024  # steps


def hold_out(data: SeriesSet, settings: Settings, choices: dict[str, str]) -> Split:
    """Whole series held out where there are enough of them, else stretches in time of each.

    Of several ways the first that leaves something of every channel to learn from.

    Args:
        data: all series.
        settings: what was asked for.
        choices: the reason is added to it, if the kind was open.

    Raises:
        DataError: too little data to hold out a part.
    """
    kind = settings.split
    if kind == "auto":
        kind = "series" if len(data) >= 10 else "time"
        choices["split"] = f"{kind}: {len(data)} series" + ("" if kind == "series" else ", so the last part of each")
    ways = list(_by_series(data, settings) if kind == "series" else _by_time(data, settings))
    chosen = next((way for way in ways if _sees_every_channel(way[0])), ways[0])
    parts = chosen[2]["held_out"]
    if settings.split == "auto" and kind == "time" and len(parts) > len(data):
        choices["split"] = f"time: {len(data)} series, so {len(parts)} stretches spread over time"
    elif settings.split == "auto" and kind == "time" and chosen is not ways[0]:
        choices["split"] = f"time: {len(data)} series, so a part of each that leaves something of every channel"
    return chosen


def _by_series(data: SeriesSet, settings: Settings) -> Iterator[Split]:
    if len(data) < 2:
        raise DataError("one series cannot be split by series", where=data.source, hint="svae train --split time")
    order = np.random.default_rng([settings.seed, 0x5B117]).permutation(len(data))
    count = min(max(1, round(settings.val_fraction * len(data))), len(data) - 1)
    for turn in range(min(_OTHER_WAYS, len(data))):
        held, kept = sorted(np.roll(order, turn)[:count].tolist()), sorted(np.roll(order, turn)[count:].tolist())
        record = {"kind": "series", "held_out": [data.keys[i] for i in held]}
        yield data.subset(kept), data.subset(held), record


def _by_time(data: SeriesSet, settings: Settings) -> Iterator[Split]:
    for early in (0.0, 1.0, 0.5):
        stretches = [_stretches(n, settings.val_fraction, early) for n in data.lengths]
        if max((stop - start for part in stretches for start, stop in part), default=0) < 2:
            raise DataError(
                "the series are too short to hold out a part of them",
                where=data.source,
                hint="raise --val-fraction, or give other series with --val FILE",
            )
        held = [(i, start, stop) for i, part in enumerate(stretches) for start, stop in part]
        kept = [(i, *ends) for i, part in enumerate(stretches) for ends in _between(part, data.lengths[i])]
        yield _cut(data, kept), _cut(data, held), {"kind": "time", "held_out": [list(part) for part in held]}


def _sees_every_channel(data: SeriesSet) -> bool:
    """Whether each channel has a value; reads no further than it takes to know."""
    seen = np.zeros(data.n_channels, bool)
    for i, length in enumerate(data.lengths):
        for start in range(0, length, _LOOK):
            seen |= (~np.isnan(data.read(i, start, min(start + _LOOK, length)))).any(axis=0)
            if seen.all():
                return True
    return False


def _stretches(length: int, share: float, early: float = 0.0) -> list[tuple[int, int]]:
    """What is held out of a series: up to five stretches spread evenly; of a short series its last part.

    Data drift, and the newest tell most of what is to come, so they are learned from (docs/numbers.md).

    Args:
        length: of the series.
        share: of it that is held out.
        early: how much earlier: 0 to 1 for as far as there is room, to the beginning or the stretch before.
    """
    total = max(1, round(share * length)) if length > 1 else 0
    count = int(np.clip(total // _SHORTEST_STRETCH, 1, _STRETCHES))
    if count == 1:
        start = round((1 - early) * (length - total))
        return [(start, start + total)] if 2 <= total <= length - 2 else []
    each = total // count
    room = length // count - each
    starts = [round((i + 0.5) * length / count) - each // 2 - round(early * room / 2) for i in range(count)]
    return [(start, start + each) for start in starts]


def _between(held: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The stretches that are not held out."""
    edges = [0, *(edge for part in held for edge in part), length]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if stop > start]


def _cut(data: SeriesSet, parts: list[tuple[int, int, int]]) -> SeriesSet:
    """(series, start, stop) as series of their own."""
    return data.subset([i for i, _, _ in parts]).between([a for _, a, _ in parts], [b for _, _, b in parts])
