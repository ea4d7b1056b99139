"""How much smaller errors are on what was learned from: known from the size of a model and of its data alone."""

import numpy as np
import pytest

from svae_cli.training.optimism import optimism


def test_of_much_data_nothing_and_of_next_to_none_four_times():
    assert optimism(latent_dim=16, n_channels=8, values=1e7) == pytest.approx(1.0, abs=1e-4)
    assert optimism(latent_dim=4, n_channels=1, values=10) == optimism(latent_dim=4, n_channels=1, values=0) == 4.0


def test_states_cost_and_channels_share_them():
    one = [optimism(latent_dim=k, n_channels=1, values=200) for k in (1, 2, 4, 8)]
    assert one == sorted(one)
    shared = [optimism(latent_dim=8, n_channels=d, values=200) for d in (1, 4, 8, 64)]
    assert shared == sorted(shared, reverse=True)
    assert shared[-1] == pytest.approx((200 + 2 * 9) / (200 - 2 * 9), rel=0.02)  # 8 loadings and an offset are its own


@pytest.mark.parametrize(("order", "length"), [(1, 30), (2, 60), (4, 200)])
def test_autoregressions_of_what_does_not_change_are_less_optimistic(order, length):
    """They are better there, but by less than this, as white noise goes on as it began."""
    rng, horizon, inside, outside = np.random.default_rng(order), 6, [], []
    for _ in range(400):
        values = rng.standard_normal(2 * length)
        past = np.stack([values[order - 1 - k : -1 - k] for k in range(order)] + [np.ones(2 * length - order)], axis=1)
        weights = np.linalg.lstsq(past[: length - order], values[order:length], rcond=None)[0]
        for squares, origins in (
            (inside, range(order, length - horizon)),
            (outside, range(length, 2 * length - horizon)),
        ):
            for origin in origins:
                last = list(values[origin - order : origin])
                for _ in range(horizon):
                    last.append(float(np.dot(weights, [*last[: -order - 1 : -1], 1.0])))
                squares.append(np.mean((values[origin : origin + horizon] - last[order:]) ** 2))
    assert 1 < np.mean(outside) / np.mean(inside) < optimism(latent_dim=order, n_channels=1, values=length)
