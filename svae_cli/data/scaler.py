"""Scaler: the per-channel change of units between the data's own and the model's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from svae_cli.data.series import SeriesSet
from svae_cli.data.warp import Warp, choose_warp
from svae_cli.errors import DataError

_BLOCK = 65536  # steps read at once, so that a file larger than memory can be measured
_CONSTANT = 1e-9  # a spread below this share of the mean is rounding; small units alone (1e-12 A) are not
_LOOKED_AT = 1 << 14  # steps that the warp is chosen by, at most
_PIECE = 256  # consecutive ones


@dataclass(frozen=True)
class Scaler:
    """Model units are ``(value - mean) / std``, bent where channels are skewed.

    Attributes:
        mean: in the data's units.
        std: in the data's units, positive.
        warp: from standardised values to model units; None if they are the same.
    """

    mean: Float[np.ndarray, " channel"]
    std: Float[np.ndarray, " channel"]
    warp: Warp | None = None

    def to_model(self, values: Float[np.ndarray, "*n channel"]) -> Float[np.ndarray, "*n channel"]:
        """The data's units to the model's; NaN stays NaN."""
        standard = (values - self.mean) / self.std
        return standard if self.warp is None else self.warp.forward(standard)

    def to_data(self, values: Float[np.ndarray, "*n channel"]) -> Float[np.ndarray, "*n channel"]:
        """The model's units to the data's: of values, sample paths and quantiles."""
        standard = values if self.warp is None else self.warp.inverse(values)
        return standard * self.std + self.mean

    def moments_to_data(
        self, mean: Float[np.ndarray, "*n channel"], std: Float[np.ndarray, "*n channel"]
    ) -> tuple[Float[np.ndarray, "*n channel"], Float[np.ndarray, "*n channel"]]:
        """Means and standard deviations of Gaussians in the model's units to those in the data's."""
        if self.warp is not None:
            mean, std = self.warp.moments(mean, std)
        return mean * self.std + self.mean, std * self.std

    def warped(self, data: SeriesSet) -> "Scaler":
        """The same with the warp that goes with the data, chosen by up to 16384 steps in stretches of 256."""
        pieces = [(piece - self.mean) / self.std for piece in _stretches(data) if len(piece)]
        return replace(self, warp=choose_warp(pieces, zero=-self.mean / self.std))

    @classmethod
    def identity(cls, n_channels: int) -> "Scaler":
        """The scaler that changes nothing, for counts and for ``--standardize none``."""
        return cls(mean=np.zeros(n_channels), std=np.ones(n_channels))

    @classmethod
    def measure(cls, data: SeriesSet) -> "Scaler":
        """Mean and standard deviation of each channel's observed values, in float64, reading block by block.

        A channel that is constant gets a standard deviation of 1.

        Raises:
            DataError: a channel without any observed value, or with values whose squares are not finite.
        """
        count, mean, squares = (np.zeros(data.n_channels) for _ in range(3))
        for block in _blocks(data):
            seen = ~np.isnan(block)
            n = seen.sum(axis=0)
            centre = np.where(seen, block, 0.0).sum(axis=0) / np.maximum(n, 1)
            total = np.maximum(count + n, 1)
            with np.errstate(over="ignore", invalid="ignore"):  # looked at below
                spread = (np.where(seen, block - centre, 0.0) ** 2).sum(axis=0)
                squares += spread + (centre - mean) ** 2 * count * n / total  # Chan et al. (1979), pairwise update
            mean += (centre - mean) * n / total
            count += n
        if not count.all():
            empty = [data.channels[d] for d in np.flatnonzero(count == 0)]
            raise DataError(
                f"channel {empty[0]!r} has no observed value in the training part"
                + (f" (like {len(empty) - 1} more)" if len(empty) > 1 else ""),
                where=data.source,
                hint="leave the channel out of the file, or train on a part where it was recorded",
            )
        if not np.isfinite(squares).all():
            raise DataError(
                f"channel {data.channels[int(np.argmin(np.isfinite(squares)))]!r} has values too large to scale",
                where=data.source,
                hint="--missing-value X if they stand for gaps",
            )
        std = np.sqrt(squares / count)
        return cls(mean=mean, std=np.where(std > _CONSTANT * np.abs(mean), std, 1.0))


def _stretches(data: SeriesSet) -> Iterator[Float[np.ndarray, "time channel"]]:
    """Stretches spread over the series, or all there is if that is less."""
    ends = np.cumsum(data.lengths)
    if ends[-1] <= _LOOKED_AT:
        yield from (data.read(i).astype(np.float64) for i in range(len(data)))
        return
    count = -(-_LOOKED_AT // min(_PIECE, int(ends[-1]) // len(data) + 1))
    for at in np.linspace(0, ends[-1], count, endpoint=False).astype(int):
        index = int(np.searchsorted(ends, at, side="right"))
        start = max(0, min(int(at - ends[index] + data.lengths[index]), data.lengths[index] - _PIECE))
        yield data.read(index, start, min(start + _PIECE, data.lengths[index])).astype(np.float64)


def _blocks(data: SeriesSet) -> Iterator[Float[np.ndarray, "time channel"]]:
    for i, length in enumerate(data.lengths):
        for start in range(0, length, _BLOCK):
            yield data.read(i, start, min(start + _BLOCK, length)).astype(np.float64)
