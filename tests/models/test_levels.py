"""Unit roots: which estimated levels become random walks, and what that does to the dynamics."""

from dataclasses import replace

import numpy as np
import pytest

from svae_cli.models.dynamics import Covariance, Dynamics
from svae_cli.models.levels import count_unit_roots, with_own_unit_roots, with_unit_roots


def _dynamics(transition, bias=None, *, stable=False):
    k = len(transition)
    return Dynamics.from_moments(
        initial_mean=np.zeros(k),
        initial_cov=np.eye(k),
        transition=np.asarray(transition, float),
        bias=np.zeros(k) if bias is None else np.asarray(bias, float),
        input_matrix=np.zeros((k, 0)),
        noise_cov=0.1 * np.eye(k),
        dtype=np.dtype(np.float64),
        stable=stable,
    )


_FIRST_OF_TWO = np.eye(4, 8)  # a level and a slope of four channels


def _own_dynamics(blocks, bias=0.0, noise=None):
    """A level and a slope a channel, first all levels."""
    width = len(blocks)
    transition, cov = np.zeros((2 * width, 2 * width)), 0.1 * np.eye(2 * width) if noise is None else noise
    for d, block in enumerate(blocks):
        transition[np.ix_((d, width + d), (d, width + d))] = block
    dynamics = _dynamics(transition, bias=bias * np.ones(2 * width))
    return replace(dynamics, noise_cov=Covariance.from_matrix(cov))


def _rotation(angle, modulus):
    return modulus * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _mixed(rng, *blocks):
    """Block-diagonal dynamics in another basis."""
    size = sum(len(b) for b in blocks)
    whole, at = np.zeros((size, size)), 0
    for block in blocks:
        whole[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    basis = rng.standard_normal((size, size)) + 2 * np.eye(size)
    return basis @ whole @ np.linalg.inv(basis)


def test_slow_levels_become_random_walks_and_nothing_else_moves():
    rng = np.random.default_rng(0)
    blocks = np.diag([0.999, 0.997]), _rotation(2 * np.pi / 24, 0.9995), np.diag([0.8])
    before = _dynamics(_mixed(rng, *blocks), bias=rng.standard_normal(5))
    after = with_unit_roots(before, steps=3000, window=100)
    expected = np.array([1.0, 1.0, *np.linalg.eigvals(blocks[1]), 0.8])
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(after.matrix)), np.sort_complex(expected), atol=1e-8, rtol=0
    )
    assert count_unit_roots(before) == 0
    assert count_unit_roots(after) == 2
    # Without a pull, what the bias adds along the levels would be drift.
    value, left = np.linalg.eig(np.asarray(after.matrix).T)
    levels = left[:, np.abs(value - 1) < 1e-8].real
    np.testing.assert_allclose(levels.T @ np.asarray(after.bias), 0, atol=1e-6)


def test_own_levels_are_tested_one_by_one_and_nothing_else_moves():
    """Returning levels stay so, however many walks there are beside them."""
    kept = np.array([0.999, 0.985, 0.998, 0.985])
    blocks = [np.array([[a, 0.2], [0.0, 0.6]]) for a in kept]
    before = _own_dynamics(blocks, bias=0.1)
    after = with_own_unit_roots(before, _FIRST_OF_TWO, np.zeros(4), steps=2000, window=100)
    roots = [np.linalg.eigvals(np.asarray(after.matrix)[np.ix_((d, 4 + d), (d, 4 + d))]).max() for d in range(4)]
    np.testing.assert_allclose(roots, [1, 0.985, 1, 0.985], atol=1e-12)
    away = np.asarray(after.matrix) - np.asarray(before.matrix)
    assert np.abs(away[[1, 3, 5, 7]]).max() == 0
    np.testing.assert_array_equal(np.asarray(after.bias)[[1, 3, 5, 7]], 0.1)


def test_one_channel_that_cannot_be_moved_does_not_keep_others_from_it():
    blocks = [np.array([[0.999, 1.0], [0.0, 0.997]]), *[np.array([[0.999, 0.2], [0.0, 0.6]])] * 3]
    before = _own_dynamics(blocks)
    after = with_own_unit_roots(before, _FIRST_OF_TWO, np.zeros(4), steps=1000, window=100)
    assert np.array_equal(np.diag(np.asarray(after.matrix))[:4] > 0.9999, [False, True, True, True])


def test_walks_drift_as_far_as_it_is_beyond_doubt():
    """In the channel's own values, whatever the loading of its walk."""
    loadings = 2.0 * _FIRST_OF_TWO
    dynamics = _own_dynamics([np.array([[0.999, 0.2], [0.0, 0.6]])] * 4)
    noise = (1 + (0.2 / 0.4) ** 2) * 0.1  # of a walk, the slope's included
    chance = np.sqrt(4 * noise / 400)  # of a channel's mean change
    change = chance * np.array([0.0, 1.9, -4.0, 20.0])
    after = with_own_unit_roots(dynamics, loadings, change, steps=400, window=50)
    state = np.zeros(8)
    for _ in range(300):
        before, state = state, np.asarray(after.matrix) @ state + np.asarray(after.bias)
    surely = np.array([0, 0, 1 - 4 / 16, 1 - 4 / 400])
    np.testing.assert_allclose(loadings @ (state - before), surely * change, rtol=1e-3, atol=1e-9)
    again = with_own_unit_roots(after, loadings, change, steps=400, window=50)
    np.testing.assert_allclose(again.bias, after.bias, atol=1e-9)


@pytest.mark.parametrize("steps", [60, 300])
def test_estimated_walks_without_drift_seldom_get_one(steps):
    """Least squares on simulated walks, where many seem to return."""
    rng, walks, drifting = np.random.default_rng(2), 0, 0
    for _ in range(200):
        path = np.cumsum(rng.standard_normal(steps))
        design = np.c_[np.ones(steps - 1), path[:-1]]
        (bias, kept), (left,), *_ = np.linalg.lstsq(design, path[1:], rcond=None)
        dynamics = _own_dynamics([np.diag([kept, 0.5])], bias=np.array([bias, 0]), noise=left / (steps - 3) * np.eye(2))
        change = (path[-1] - path[0]) / (steps - 1)
        after = with_own_unit_roots(dynamics, np.array([[1.0, 0.0]]), np.array([change]), steps=steps, window=40)
        walks += count_unit_roots(after)
        drifting += abs(float(after.bias[0])) > 0 and count_unit_roots(after)
    assert walks > 50
    assert drifting <= 14  # of 200: two standard errors are 4.6 %


@pytest.mark.parametrize(
    ("steps", "window", "count"),
    [(1_000, 100, 1), (100_000, 100, 0), (1_000, 1_000, 0)],
    ids=["short record", "long record tells it from 1", "a window sees the return"],
)
def test_the_record_decides(steps, window, count):
    dynamics = with_unit_roots(_dynamics(np.diag([0.995, 0.3])), steps=steps, window=window)
    assert count_unit_roots(dynamics) == count


def test_stable_dynamics_are_left_alone():
    dynamics = _dynamics(np.diag([0.9999, 0.5]), stable=True)
    assert with_unit_roots(dynamics, steps=100, window=50) is dynamics


def test_eigenvectors_that_are_nearly_alike_are_left_alone():
    dynamics = _dynamics([[0.999, 1.0], [0.0, 0.997]])
    assert with_unit_roots(dynamics, steps=1_000, window=100) is dynamics


def test_the_bound_holds_for_random_walks_and_rejects_returning_levels():
    """Least squares on simulated records: three random walks are found as such, levels of 20 steps are not."""
    rng = np.random.default_rng(0)
    kept = {1.0: 0, 0.95: 0}
    for persistence in kept:
        for _ in range(100):
            noise = rng.standard_normal((800, 3))
            path = np.zeros_like(noise)
            for t in range(1, len(noise)):
                path[t] = persistence * path[t - 1] + noise[t]
            design = np.c_[np.ones(len(path) - 1), path[:-1]]
            estimate = np.linalg.lstsq(design, path[1:], rcond=None)[0][1:].T
            kept[persistence] += count_unit_roots(with_unit_roots(_dynamics(estimate), steps=800, window=10)) == 3
    assert kept[1.0] >= 85
    assert kept[0.95] <= 15
