"""Structure: which entries of a linear-Gaussian model are free, which are drawn to one, and which are zero for good."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.training.glimpse import observed_share

MOST_STATES = 26  # the cost of a step grows with the cube
_MOST_VALUES = 100_000  # that are learned from
_COMPLETE = 0.95  # of the values, at least: of fewer it is the gaps that will be asked, and these are within the range
_FITTING = {
    "posterior": ("svae",),
    "start": ("linear",),
    "prior_update": ("gradient",),
    "objective": ("auto", "predictive"),
}
_RETURN = 0.1  # of what moves a level in a step: what one a standard deviation away returns by (docs/trials.md)


@dataclass(frozen=True, eq=False)
class Structure:
    """Masks of what may be other than zero.

    Attributes:
        transition: of A.
        lasting: those of A that are drawn to one.
        noise: of Q; blocks of states that depend on each other.
        loadings: of C.
        steps: that are learned from, beside which ``pull`` is worth what it says: EM counts a step as often as its
            windows have it. None where each is counted once.
    """

    transition: Bool[np.ndarray, "state state"]
    lasting: Bool[np.ndarray, "state state"]
    noise: Bool[np.ndarray, "state state"]
    loadings: Bool[np.ndarray, "channel state"]
    steps: float | None = None

    @classmethod
    def own(cls, n_channels: int, steps: float | None = None) -> "Structure":
        """A level and a slope for each channel, first all levels, then all slopes.

        No channel's past says anything of another's future; what moves levels at the same step is correlated, and so is
        what moves slopes ("seemingly unrelated time series equations": Harvey, "Forecasting, Structural Time Series
        Models and the Kalman Filter", 1989, section 8.2). What a level keeps of itself is drawn to all (``pull``).
        """
        channel = np.arange(2 * n_channels) % n_channels
        level = np.arange(2 * n_channels) < n_channels
        return cls(
            transition=channel[:, None] == channel,
            lasting=np.diag(level),
            noise=level[:, None] == level,
            loadings=np.arange(n_channels)[:, None] == channel,
            steps=steps,
        )

    def pull(self, variance: Float[Any, " state"]) -> Float[Any, "state state"]:
        """Precision of a Gaussian prior of mean 1 on the entries of A that are ``lasting``, 0 (none) for others.

        A record of few steps makes levels look as if they returned to its mean (Dickey and Fuller, 1979). Levels have a
        standard deviation of about 1; what one so far from its mean returns by in a step has one of a tenth of what
        moves it anyway, as in Litterman, "Forecasting with Bayesian vector autoregressions" (Journal of Business and
        Economic Statistics, 1986).

        Args:
            variance: the diagonal of Q, in NumPy or JAX, as the answer.
        """
        return self.lasting / (_RETURN**2 * variance[:, None])


def resolve_states(
    settings: Settings, data: SeriesSet, periods: tuple[float, ...], choices: dict[str, str]
) -> Settings:
    """What is asked for; "auto" stays where the question is worth asking after EM, and is shared states elsewhere.

    Args:
        settings: with what is known before sizes are.
        data: what is learned from.
        periods: that stand out; shared states turn with them, a level and a slope have no room for a season.
        choices: gets what is asked, if anything.

    Raises:
        UsageError: states of their own, and something that these cannot be combined with.
    """
    dim, values = 2 * data.n_channels, sum(data.lengths) * data.n_channels
    if settings.states == "auto":
        free = settings.latent_dim is None and settings.residual_chains == "auto"
        fits = 2 < dim <= MOST_STATES and not periods and _against_own_states(settings, data) is None
        if not (free and fits and values < _MOST_VALUES and observed_share(data) > _COMPLETE):
            return settings.changed(states="shared")
        choices["states"] = "auto: shared ones are compared with a level and a slope a channel after EM"
        return settings
    if settings.states == "shared":
        return settings
    if (reason := _against_own_states(settings, data)) is not None:
        raise UsageError(f"states of their own do not go with {reason}", hint="--states shared")
    if settings.latent_dim not in (None, dim):
        raise UsageError(
            f"--latent-dim is {settings.latent_dim}; {data.n_channels} channels have {dim} states of their own",
            hint="leave it out, or --states shared",
        )
    return settings.changed(latent_dim=dim)


def _against_own_states(settings: Settings, data: SeriesSet) -> str | None:
    """Why a level and a slope for each channel cannot be what the model begins with; None if they can."""
    if data.channel_shape:
        return "frames"
    if settings.likelihood != "gaussian":
        return f"{settings.likelihood} values"
    for name, fitting in _FITTING.items():
        if (asked := getattr(settings, name)) not in fitting:
            return f"--{name.replace('_', '-')} {asked}"
    return None
