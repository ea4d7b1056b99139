"""Forecasts of random walks in bent channels: the mean does not drift away from the median for their sake."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.data.series import SeriesSet
from svae_cli.models.dynamics import Covariance, Dynamics
from svae_cli.models.fitted import FittedModel
from svae_cli.prediction import answers, pieces
from svae_cli.prediction.predict import forecast, impute, whole
from tests.test_prediction import SCALER, WARP, make_fitted, series

pytestmark = pytest.mark.usefixtures("relaxed_promotion")  # the check counts in 32 bits

HORIZON = 12
BENT = replace(SCALER, warp=WARP)  # the first of two channels


def dynamics(transition: np.ndarray, noise: np.ndarray | float = 0.1) -> Dynamics:
    dim = len(transition)
    return Dynamics.from_moments(
        initial_mean=np.zeros(dim),
        initial_cov=np.eye(dim),
        transition=transition,
        bias=np.zeros(dim),
        input_matrix=np.zeros((dim, 0)),
        noise_cov=noise * np.eye(dim),
        dtype=np.dtype(np.float64),
    )


def following(*roots: float) -> FittedModel:
    """A model whose first channel is its first state and noise, and so on."""
    fitted = make_fitted(season=0, residual_chains="off")
    model = eqx.tree_at(
        lambda m: (m.dynamics, m.decoder.loadings, m.decoder.offset),
        replace(fitted.model, season=None, residual=None),
        (dynamics(np.diag(roots)), jnp.eye(2, 3), jnp.zeros(2)),
    )
    return replace(fitted, model=model, scaler=BENT)


def beyond_median(fitted: FittedModel, **asked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of the bent channel of a forecast, in standardised units: the mean beyond the median, and as Gaussian moments."""
    found = next(forecast(fitted, series(40), horizon=HORIZON, quantiles=(0.05, 0.5, 0.95), **asked))
    middle = BENT.to_model(found.quantiles[:, :, 1])
    spread = (BENT.to_model(found.quantiles[:, :, 2]) - BENT.to_model(found.quantiles[:, :, 0])) / (2 * 1.6448536)
    mean, std = BENT.moments_to_data(middle, spread)
    np.testing.assert_allclose(found.std, std, rtol=1e-5)  # what is told of a walk is as wide as ever
    return (found.mean - found.quantiles[:, :, 1])[:, 0], (mean - found.quantiles[:, :, 1])[:, 0]


@pytest.mark.parametrize("self_check", [False, True])
def test_the_mean_of_a_walk_keeps_its_distance_from_the_median(self_check):
    found, gaussian = beyond_median(following(1.0, 0.5, 0.3), self_check=self_check)
    assert gaussian[-1] > 1.5 * gaussian[0] > 0  # the wider, the farther
    np.testing.assert_allclose(found, found[0], rtol=0.15)  # the slope of the bend is another at another median
    assert np.all(found > 0)  # noise and the level's doubt at the origin stay


@pytest.mark.parametrize("root", [0.5, 0.98])
def test_what_returns_has_the_mean_of_its_distribution(root):
    found, gaussian = beyond_median(following(root, 1.0, 1.0), self_check=False)
    np.testing.assert_allclose(found, gaussian, rtol=0.02)


def test_a_walk_in_pieces_is_forecast_as_if_at_once(monkeypatch):
    fitted, data = following(1.0, 0.5, 0.3), SeriesSet.from_arrays([series(29).read(0)], channels=("a", "b"))
    expected = next(forecast(fitted, data, horizon=HORIZON, self_check=False))
    monkeypatch.setattr(answers, "STEPS_AT_ONCE", 10)
    monkeypatch.setattr(pieces, "PIECE", 8)
    (found,) = whole(forecast(fitted, data, horizon=HORIZON, self_check=False))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-8)


def test_gaps_of_a_walk_have_the_mean_of_their_distribution():
    """They are between known values: there is nowhere to drift to."""
    fitted, data = following(1.0, 0.5, 0.3), series(40)
    found = next(impute(fitted, data, quantiles=(0.05, 0.5, 0.95), self_check=False))
    spread = np.diff(BENT.to_model(np.moveaxis(found.quantiles[:, :, ::2], -1, 0)), axis=0)[0] / (2 * 1.6448536)
    mean, _ = BENT.moments_to_data(BENT.to_model(found.quantiles[:, :, 1]), spread)
    np.testing.assert_allclose(found.mean, np.where(found.observed, data.read(0), mean), rtol=1e-6)


def test_what_wanders_is_the_projection_on_the_unit_roots():
    rng = np.random.default_rng(0)
    basis, turn = rng.normal(size=(6, 6)), 2 * np.pi / 24
    blocks = np.diag([1.0, 1.0, 0.9, -1.0, 0.0, 0.0])
    blocks[4:, 4:] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    noise = basis[:, :4] @ basis[:, :4].T + 0.1 * np.eye(6)
    given = replace(dynamics(basis @ blocks @ np.linalg.inv(basis)), noise_cov=Covariance.from_matrix(noise))
    onto = basis @ np.diag([1.0, 1.0, 0, 0, 0, 0]) @ np.linalg.inv(basis)
    expected = onto @ np.asarray(given.noise_cov.matrix) @ onto.T
    np.testing.assert_allclose(given.wander, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("transition", [[[1.0, 1.0], [0.0, 1.0]], [[1.1, 0.0], [0.0, 0.5]]])
def test_slopes_that_wander_and_states_that_explode_give_finite_answers(transition):
    block = np.eye(3)
    block[:2, :2] = transition
    fitted = following(1.0, 1.0, 1.0)
    fitted = replace(fitted, model=eqx.tree_at(lambda m: m.dynamics, fitted.model, dynamics(block)))
    found = next(forecast(fitted, series(40), horizon=HORIZON, quantiles=(0.5,), self_check=False))
    assert np.isfinite(found.mean).all()
    assert np.all(np.abs(found.mean - found.quantiles[..., 0]) < 0.5 * found.std)
