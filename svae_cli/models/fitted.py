"""FittedModel: a trained model with all that is needed to use it on data in their own units."""

from dataclasses import dataclass, field, replace
from typing import Any

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet, TimeAxis
from svae_cli.errors import ModelError
from svae_cli.models.svae import SVAE


@dataclass(frozen=True)
class FittedModel:
    """A trained model, in memory; ``svae_cli.files.model_file`` saves and loads it.

    Attributes:
        model: the parameters.
        settings: fully resolved; with the sizes below they rebuild the model's structure.
        scaler: between the data's units and the model's.
        channels: names, in the order of the model's channels.
        units: physical unit of each channel, empty where unknown.
        channel_shape: frames: height, width (and colours); else empty.
        inputs: names of the known inputs.
        choices: what was chosen from the data and why, one sentence each, by the name of the setting.
        history: one record a validation round.
        split: which part was held out for validation.
        fingerprint: of the training data, so that a resumed run can tell whether they are the same.
        time: the training data's time grid, if they had one.
    """

    model: SVAE
    settings: Settings
    scaler: Scaler
    channels: tuple[str, ...]
    units: tuple[str, ...]
    channel_shape: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()
    choices: dict[str, str] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    split: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    time: TimeAxis | None = None

    @property
    def is_gaussian(self) -> bool:
        """Whether predictions are Gaussian in the data's units, so that mean and std are the whole of them."""
        return self.settings.likelihood == "gaussian" and self.scaler.warp is None

    def check_fits(self, data: SeriesSet) -> None:
        """Refuse data that the model was not made for.

        Raises:
            ModelError: other channels or inputs than the model's.
        """
        if data.n_channels != len(self.channels):
            raise ModelError(
                f"the model has {len(self.channels)} channels, the data have {data.n_channels}",
                where=data.source,
                hint="use data with the training data's channels, or name the dataset as FILE.h5:/path",
            )
        default = tuple(f"channel_{d}" for d in range(data.n_channels))
        if data.channels != self.channels and default not in (data.channels, self.channels):
            odd = next(d for d in range(data.n_channels) if data.channels[d] != self.channels[d])
            raise ModelError(
                f"channel {odd} is {data.channels[odd]!r} in the data, {self.channels[odd]!r} in the model",
                where=data.source,
                hint="put the channels into the model's order: svae inspect shows it",
            )
        if data.n_inputs != len(self.inputs):
            raise ModelError(
                f"the model takes {len(self.inputs)} known inputs, the data have {data.n_inputs}",
                where=data.source,
                hint="name the inputs' dataset with --inputs" if self.inputs else "leave --inputs out",
            )

    def with_model(self, model: SVAE) -> "FittedModel":
        """The same with other parameters."""
        return replace(self, model=model)
