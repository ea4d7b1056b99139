"""Unit roots: which estimated levels become random walks, and what that does to the dynamics."""

from dataclasses import replace

import numpy as np
import pytest

from svae_cli.models.dynamics import Covariance, Dynamics
from svae_cli.models.levels import count_unit_roots, with_unit_roots


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


def test_levels_that_climb_beyond_doubt_go_on_climbing_and_others_do_not():
    rng = np.random.default_rng(1)
    turning, still = _rotation(2 * np.pi / 24, 0.98), np.diag([0.998, 0.999])
    transition = _mixed(rng, still, turning)
    for climb, found in ((1e-3, 0.0), (0.5, 1.0)):
        before, mean = _dynamics(transition, bias=climb * rng.standard_normal(4)), np.zeros(4)
        for _ in range(49):
            mean = np.asarray(before.matrix) @ mean + np.asarray(before.bias)
        after = with_unit_roots(before, steps=400, window=50, drifts=True)
        assert count_unit_roots(after) == 2
        value, left = np.linalg.eig(np.asarray(after.matrix).T)
        levels = left[:, np.abs(value - 1) < 1e-6].real.T
        np.testing.assert_allclose(levels @ np.asarray(after.bias), found * levels @ mean / 49, rtol=1e-4, atol=1e-6)
        again = with_unit_roots(after, steps=400, window=50, drifts=True)
        np.testing.assert_allclose(levels @ np.asarray(again.bias), levels @ np.asarray(after.bias), atol=1e-5)


def test_random_walks_without_drift_seldom_get_one():
    """Of simulated records; a drift of a third of a deviation a step is found in nearly all."""
    rng, found = np.random.default_rng(2), {0.0: 0, 0.3: 0}
    for climb in found:
        for _ in range(200):
            steps = climb + rng.standard_normal((150, 2))
            dynamics = _dynamics(np.eye(2), bias=steps.mean(axis=0))
            noise = Covariance.from_matrix(np.eye(2))
            after = with_unit_roots(replace(dynamics, noise_cov=noise), steps=150, window=100, drifts=True)
            found[climb] += bool(np.any(np.abs(np.asarray(after.bias)) > 1e-9))
    assert 2 <= found[0.0] <= 20
    assert found[0.3] >= 190


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
