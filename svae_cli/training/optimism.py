"""How much smaller a model's errors are on what it learned from than on what is to come, by its size alone.

Akaike, "Fitting autoregressive models for prediction" (Annals of the Institute of Statistical Mathematics, 1969): with
k numbers fitted to n values, squared errors of the next step are (n + k) / n of the noise's variance where nothing was
learned from, and (n - k) / n where it was. That is of records that go on as they began. Few do: of 34 short ones twice
as many numbers explain better what was lost (docs/trials.md).
"""

_MOST = 4.0
_RECORDS_CHANGE = 2.0  # times as many numbers


def optimism(*, latent_dim: int, n_channels: int, values: float, own: bool = False) -> float:
    """Squared errors of forecasts of what was not learned from, relative to those of what was; 1 to 4.

    Args:
        latent_dim: K. A channel has K loadings and an offset, and its part of the dynamics: their gains or, where that
            is fewer, of their noise, which is all that a change of coordinates leaves.
        n_channels: D.
        values: learned from, of each channel.
        own: each channel has its own of the states, K / D, and no other says anything of its future.
    """
    if own:
        latent_dim, n_channels = latent_dim // n_channels, 1
    of_dynamics = min(latent_dim, latent_dim * (latent_dim + 1) / (2 * n_channels))
    numbers = _RECORDS_CHANGE * (latent_dim + of_dynamics + 1)
    left = values - numbers
    return min((values + numbers) / left, _MOST) if left > 0 else _MOST
