"""The Python interface: NumPy in, NumPy out.

import svae_cli
model = svae_cli.fit(values)                  # (series, time, channel), NaN = missing
filled = model.impute(values)[0].values       # first series, gaps filled
ahead = model.forecast(values, horizon=24)[0]
ahead.mean, ahead.std                         # (24, channel)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae_cli import prediction
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.models.fitted import FittedModel
from svae_cli.results import LatentPath, Prediction
from svae_cli.training.fit import Report
from svae_cli.training.fit import fit as _fit

Values = np.ndarray | Sequence[np.ndarray] | SeriesSet
"""(series, time, channel), one (time, channel), or a list of the latter with any lengths; NaN where missing."""


class Model:
    """A trained model.

    Attributes:
        fitted: parameters, settings, scaler, history; see ``FittedModel``.
    """

    def __init__(self, fitted: FittedModel):
        self.fitted = fitted

    def impute(self, values: Values, **options: Any) -> list[Prediction]:
        """Fill the gaps; options as in ``svae_cli.prediction.impute``."""
        return list(prediction.whole(prediction.impute(self.fitted, as_series(values), **options)))

    def forecast(self, values: Values, *, horizon: int, **options: Any) -> list[Prediction]:
        """Predict beyond the end; options as in ``svae_cli.prediction.forecast``."""
        return list(prediction.whole(prediction.forecast(self.fitted, as_series(values), horizon=horizon, **options)))

    def encode(self, values: Values, *, filtered: bool = False) -> list[LatentPath]:
        """Posterior latent states of each series."""
        return list(prediction.whole(prediction.encode(self.fitted, as_series(values), filtered=filtered)))

    def sample(self, *, steps: int, count: int = 1, seed: int = 0) -> np.ndarray:
        """New series, (count, steps, channel)."""
        return prediction.sample(self.fitted, steps=steps, count=count, seed=seed)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a ``.svae`` file; an existing file is refused without ``force``."""
        from svae_cli.files.model_file import save_model

        save_model(Path(path), self.fitted, force=force)


def load(path: str | Path) -> Model:
    """A model from its ``.svae`` file.

    Raises:
        ModelError: the file is not a model, or is damaged.
    """
    from svae_cli.files.model_file import load_model

    return Model(load_model(Path(path)))


def fit(
    values: Values,
    *,
    valid: Values | None = None,
    on_report: Callable[[Report], None] | None = None,
    **settings: Any,
) -> Model:
    """Train on arrays; settings as in ``svae_cli.config.Settings``.

    Args:
        values: what to learn from.
        valid: what to validate on; by default a part of ``values``.
        on_report: called after every step.
        **settings: ``latent_dim=8, seed=1`` and so on.

    Raises:
        DataError: the values cannot be trained on.
        NumericalError: training left the finite numbers.
    """
    held_out = None if valid is None else as_series(valid)
    state = None
    for progress in _fit(as_series(values), Settings(**settings), valid=held_out):
        state = progress.state
        if on_report is not None:
            on_report(progress.report)
    if state is None:
        raise DataError("training took no step", hint="raise epochs or linear_steps")
    return Model(state.fitted)


def as_series(values: Values) -> SeriesSet:
    """Arrays as a SeriesSet; a SeriesSet as itself.

    Raises:
        DataError: not 2 or 3 dimensions, or infinite values.
    """
    if isinstance(values, SeriesSet):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = [values]
    arrays = [np.asarray(v) for v in values]
    for i, array in enumerate(arrays):
        if array.ndim != 2:
            raise DataError(f"series {i} has shape {array.shape}; expected (time, channel)")
        if np.isinf(array).any():
            raise DataError(f"series {i} has {int(np.isinf(array).sum())} infinite values", hint="use NaN for missing")
    return SeriesSet.from_arrays(arrays)
