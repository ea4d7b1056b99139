"""Settings of a model and of its training: the one source of defaults. A field that is None is chosen from the data."""

from dataclasses import dataclass, fields, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from svae_cli.errors import UsageError

RecognitionKind = Literal["auto", "linear", "mlp", "conv"]
DecoderKind = Literal["auto", "linear", "mlp", "conv"]
LikelihoodKind = Literal["auto", "gaussian", "poisson", "bernoulli", "student-t"]
PosteriorKind = Literal["svae", "rnn-mf", "rnn-ar-linear", "rnn-ar", "tcn"]
MaskPattern = Literal["auto", "none", "mixed", "window", "point", "channel", "tail"]
SplitKind = Literal["auto", "series", "time"]
Standardization = Literal["channel", "none"]
TransformKind = Literal["auto", "power", "none"]
SpikeKind = Literal["skip", "learn"]
StartKind = Literal["linear", "random"]
ObjectiveKind = Literal["auto", "elbo", "predictive"]
PriorUpdate = Literal["gradient", "closed-form"]
ResidualKind = Literal["auto", "on", "off"]
StatesKind = Literal["auto", "shared", "own"]
Preset = Literal["fast", "default", "thorough"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is trained and how, apart from the data.

    The model file keeps a fully resolved copy: no None and no "auto" is left in it.

    Attributes:
        latent_dim: latent states K; None lets the linear start choose.
        states: "shared" ones may load on any channel and follow from any other; "own" are a level and a slope for each
            channel, joined by what moves them at the same step alone; "auto" takes these where they predict held-out
            values clearly better, and asks where values are not too many and next to none is missing.
        hidden: widths of the hidden layers of the networks.
        recognition: network from observations to potentials.
        decoder: network from latent states to observations.
        likelihood: distribution of an observation given the latent state.
        posterior: family of the approximate posterior; "svae" is the paper's.
        residual_chains: what is left of each channel lasts, as an autoregression of its own; "auto" where there are
            fewer than two states a channel.
        season: steps of the cycle whose earlier and later rounds are remembered, channel by channel, for long gaps and
            forecasts; 0 remembers none, None takes the longest period that stands out of the data's spectrum.
        short_season: steps of a shorter cycle within the season, whose deviations from it are remembered; 0 remembers
            none, None takes one that stands out where the season is long.
        lags: last values of each channel that a regression with a say in forecasts looks back on; 0 for no regression,
            None chooses, and takes none where it does not beat the simple ways.
        stable: hold the dynamics' largest singular value at 1 or below.
        unit_roots: of continuous data, levels whose return to a mean cannot be told from none are random walks.
        window: steps in a training window; None chooses from the series' lengths.
        batch_size: windows in a batch; None chooses.
        epochs: longest training of the full model, in passes over the data; None chooses from the data's size.
        em_steps: EM iterations of the linear start.
        linear_steps: gradient steps of the linear start on its exact likelihood; None chooses.
        learning_rate: of the networks.
        prior_learning_rate: of everything else: dynamics, linear parts, noise.
        prior_update: how the full model's dynamics learn: by gradient, or by closed-form updates from the expected
            sufficient statistics of the latent states (with the bound as objective).
        patience: validation rounds without improvement before training stops.
        objective: of the full model: "elbo" is the paper's bound with masking, "predictive" the log predictive density
            of the hidden values.
        mask_pattern: which part of a window is hidden from recognition while it is still scored (section 5 of
            docs/model.md).
        mask_rate: share of the values hidden.
        noise: standard deviation of Gaussian observation noise in the data's units, kept fixed; None learns it, one a
            channel.
        start: "linear" begins with the best linear-Gaussian model, "random" with nothing.
        standardize: "channel" trains on values with mean 0 and standard deviation 1 a channel.
        transform: "power" bends skewed channels by Yeo and Johnson's transform, each as far as the data ask for it, so
            that noise is of one size at every level; "auto" does so for series with Gaussian noise of unknown size.
        spikes: "skip" treats values of a moment that are far from those before and after as missing, where the
            values look continuous and are no frames (``data/spikes.py``); "learn" learns from them too.
        val_fraction: share of the data held out to choose the stopping time.
        split: hold out whole series, or stretches in time of each (of a short series its last part).
        clip_norm: gradients with a larger global norm are scaled down to it.
        kl_warmup: steps over which the weight of the KL term rises from 0 to 1.
        precision: float32 or float64 arithmetic.
        preset: how much work the chosen numbers of steps are: "fast" a quarter of the default, "thorough" four times.
        seed: every random choice follows from it.
        time_limit: seconds after which training stops with the best model so far; None has no limit.
    """

    latent_dim: int | None = None
    states: StatesKind = "auto"
    hidden: tuple[int, ...] = (64, 64)
    recognition: RecognitionKind = "auto"
    decoder: DecoderKind = "auto"
    likelihood: LikelihoodKind = "auto"
    posterior: PosteriorKind = "svae"
    residual_chains: ResidualKind = "auto"
    season: int | None = None
    short_season: int | None = None
    lags: int | None = None
    stable: bool = False
    unit_roots: bool = True
    window: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    em_steps: int = 15
    linear_steps: int | None = None
    learning_rate: float = 2e-3
    prior_learning_rate: float = 1e-3
    prior_update: PriorUpdate = "gradient"
    patience: int = 16
    objective: ObjectiveKind = "auto"
    mask_pattern: MaskPattern = "auto"
    mask_rate: float = 0.3
    noise: float | None = None
    start: StartKind = "linear"
    standardize: Standardization = "channel"
    transform: TransformKind = "auto"
    spikes: SpikeKind = "skip"
    val_fraction: float = 0.1
    split: SplitKind = "auto"
    clip_norm: float = 10.0
    kl_warmup: int = 0
    precision: Literal["float32", "float64"] = "float32"
    preset: Preset = "default"
    seed: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_posterior()
        self._check_noise()

    def _check_numbers(self) -> None:
        for name in ("latent_dim", "window", "batch_size", "epochs", "linear_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{_flag(name)} is {value}; expected 1 or more")
        if not all(width >= 1 for width in self.hidden):
            raise UsageError(f"--hidden is {','.join(map(str, self.hidden))}; expected widths of 1 or more")
        if "conv" in (self.recognition, self.decoder) and not self.hidden:
            raise UsageError("convolutional networks need a width; --hidden is empty")
        if self.season is not None and (self.season < 0 or self.season == 1):
            raise UsageError(f"--season is {self.season}; expected 2 steps or more, or 0 for none")
        if self.short_season is not None and (self.short_season < 0 or self.short_season == 1):
            raise UsageError(f"--short-season is {self.short_season}; expected 2 steps or more, or 0 for none")
        if self.lags is not None and self.lags < 0:
            raise UsageError(f"--lags is {self.lags}; expected 1 step or more, or 0 for none")
        if not 0 <= self.mask_rate < 1:
            raise UsageError(f"--mask-rate is {self.mask_rate}; expected 0 up to, not including, 1")
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction is {self.val_fraction}; expected between 0 and 1")
        for name in ("learning_rate", "prior_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{_flag(name)} is {getattr(self, name)}; expected more than 0")

    def _check_posterior(self) -> None:
        if self.posterior != "svae" and not self.hidden:
            raise UsageError(f"--posterior {self.posterior} needs a width; --hidden is empty")
        if self.posterior != "svae" and self.objective == "predictive":
            raise UsageError(
                "the predictive objective trains a prior by its own smoothing",
                hint=f"--objective elbo with --posterior {self.posterior}",
            )
        if self.prior_update == "closed-form" and self.objective == "predictive":
            raise UsageError(
                "closed-form updates of the dynamics raise the bound, not the predictive objective",
                hint="--objective elbo, or --prior-update gradient",
            )
        by_bound = self.objective == "elbo" or self.prior_update == "closed-form"
        for asked, what, hint in (
            (self.residual_chains == "on", "residual chains need", "--residual-chains off"),
            (bool(self.season), "the memory of a season needs", "--season 0"),
            (bool(self.lags), "a regression on last values needs", "--lags 0"),
        ):
            if asked and (self.posterior != "svae" or by_bound or not self._may_be_gaussian):
                raise UsageError(f"{what} Gaussian noise, the svae posterior and the predictive objective", hint=hint)

    def _check_noise(self) -> None:
        if self.noise is not None and not self.noise > 0:
            raise UsageError(f"--noise is {self.noise}; expected more than 0")
        if self.noise is not None and not self._may_be_gaussian:
            raise UsageError(f"--noise is of Gaussian observations; the likelihood is {self.likelihood}")
        fixed = self.standardize == "none" or self.noise is not None
        if self.transform == "power" and (fixed or not self._may_be_gaussian):
            raise UsageError(
                "a power transform needs standardised channels with Gaussian noise that is learned",
                hint="--transform none",
            )

    @property
    def _may_be_gaussian(self) -> bool:
        return self.likelihood in ("auto", "gaussian")

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, as the model file and ``--json`` show it."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Settings":
        """The inverse of ``to_json``; unknown names and values of a wrong type are errors.

        Raises:
            UsageError: a name that is not a setting, or a value that it cannot have.
        """
        types = get_type_hints(cls)
        if unknown := sorted(set(plain) - set(types)):
            raise UsageError(f"unknown setting {unknown[0]!r}", hint=f"one of {', '.join(sorted(types))}")
        given: dict[str, Any] = {}
        for name, value in plain.items():
            given[name] = tuple(value) if isinstance(value, list) else value
            if not _accepts(types[name], given[name]):
                raise UsageError(f"the setting {name!r} cannot be {value!r}")
        return cls(**given)

    def changed(self, **changes: Any) -> "Settings":
        """A copy with some fields replaced."""
        return replace(self, **changes)


def _accepts(kind: Any, value: Any) -> bool:
    """Whether a plain value has one of the few types that settings have."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_accepts(arguments[0], v) for v in value)
    if origin is UnionType:
        return any(_accepts(one, value) for one in arguments)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
