"""Blocks made of other blocks: channels side by side, absent channels, and stretches of a longer recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svae_cli.files.readers.source import Block


@dataclass(frozen=True)
class AbsentBlock:
    """Channels that were not recorded: missing at every step."""

    count: int
    steps: int
    step_shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Missing values."""
        return np.full((stop - start, *self.step_shape), np.nan, self.dtype)


@dataclass(frozen=True)
class JoinedBlock:
    """Blocks of the same series with different channels.

    Attributes:
        parts: the blocks.
        order: which of the joined channels comes first, second, ...; None keeps the order of the parts.
    """

    parts: Sequence[Block]
    order: Sequence[int] | None = None

    @property
    def count(self) -> int:
        """Series in the block."""
        return self.parts[0].count

    @property
    def steps(self) -> int:
        """Steps of each."""
        return self.parts[0].steps

    @property
    def step_shape(self) -> tuple[int, ...]:
        """All channels."""
        return (sum(int(np.prod(part.step_shape)) for part in self.parts),)

    @property
    def dtype(self) -> np.dtype:
        """The widest of the parts' types."""
        return np.result_type(*{part.dtype for part in self.parts})

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps of one series, all channels side by side."""
        values = np.concatenate([part.read(row, start, stop) for part in self.parts], axis=1)
        return values if self.order is None else values[:, list(self.order)]


@dataclass(frozen=True)
class Stretch:
    """Steps ``first`` to ``last`` of a block with one series."""

    block: Block
    first: int
    last: int
    count: int = 1

    @property
    def steps(self) -> int:
        """Steps of the stretch."""
        return self.last - self.first

    @property
    def step_shape(self) -> tuple[int, ...]:
        """As of the whole."""
        return self.block.step_shape

    @property
    def dtype(self) -> np.dtype:
        """As of the whole."""
        return self.block.dtype

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps counted from the beginning of the stretch."""
        return self.block.read(0, self.first + start, self.first + stop)
