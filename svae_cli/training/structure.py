"""Structure: which entries of a linear-Gaussian model are free, which are drawn to one, and which are zero for good."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.training.season_choice import predicts_by_itself

_RETURN = 0.1  # of what moves a level in a step: what one a standard deviation away returns by (docs/tried.md)


@dataclass(frozen=True, eq=False)
class Structure:
    """Masks of what may be other than zero.

    Attributes:
        transition: of A.
        lasting: those of A that are drawn to one.
        noise: of Q; blocks of states that depend on each other.
        loadings: of C.
    """

    transition: Bool[np.ndarray, "state state"]
    lasting: Bool[np.ndarray, "state state"]
    noise: Bool[np.ndarray, "state state"]
    loadings: Bool[np.ndarray, "channel state"]

    @classmethod
    def own(cls, n_channels: int) -> "Structure":
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


def resolve_states(settings: Settings, data: SeriesSet) -> Settings:
    """Shared ones where nothing else is asked for.

    Raises:
        UsageError: states of their own, and something that these cannot be combined with.
    """
    if settings.states != "own":
        return settings.changed(states="shared")
    if not may_have_own_states(settings, data):
        raise UsageError(
            "states of their own need Gaussian noise, the svae posterior, the predictive objective, a linear start",
            hint="--states shared",
        )
    dim = 2 * data.n_channels
    if settings.latent_dim not in (None, dim):
        raise UsageError(
            f"--latent-dim is {settings.latent_dim}; {data.n_channels} channels have {dim} states of their own",
            hint="leave it out, or --states shared",
        )
    return settings.changed(latent_dim=dim)


def may_have_own_states(settings: Settings, data: SeriesSet) -> bool:
    """Whether a level and a slope for each channel can be what the model begins with."""
    by_gradient = settings.start == "linear" and settings.prior_update == "gradient"
    if settings.objective == "auto" and settings.posterior == "svae":
        settings = settings.changed(objective="predictive" if by_gradient else "elbo")
    return by_gradient and predicts_by_itself(settings, data)
