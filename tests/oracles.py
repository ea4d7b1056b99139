"""Independent references in NumPy float64: the chain as ONE dense Gaussian over all its steps."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DenseChain:
    """The joint posterior over (x_1, ..., x_T), flattened to T*K.

    Attributes: log_normalizer; mean (T, K); cov (T, K, T, K); entropy; kl (from the prior).
    """

    log_normalizer: float
    mean: np.ndarray
    cov: np.ndarray
    entropy: float
    kl: float

    @property
    def covariances(self) -> np.ndarray:
        """(T, K, K)."""
        return np.stack([self.cov[t, :, t] for t in range(len(self.mean))])

    @property
    def cross_covariances(self) -> np.ndarray:
        """(T-1, K, K): Cov(x_t, x_{t+1})."""
        k = self.mean.shape[1]
        pairs = [self.cov[t, :, t + 1] for t in range(len(self.mean) - 1)]
        return np.stack(pairs) if pairs else np.zeros((0, k, k))


def dense_prior(initial_mean, initial_cov, dynamics, bias, noise_cov, steps):
    """Mean (T*K,) and covariance (T*K, T*K) of the prior, by x = F (all noises) + constant."""
    k = len(initial_mean)
    a = np.broadcast_to(dynamics, (max(steps - 1, 0), k, k))
    b = np.broadcast_to(bias, (max(steps - 1, 0), k))
    q = np.broadcast_to(noise_cov, (max(steps - 1, 0), k, k))
    mean, rows, noise = [np.asarray(initial_mean)], [np.eye(k, k * steps)], np.zeros((k * steps, k * steps))
    noise[:k, :k] = initial_cov
    for t in range(steps - 1):
        mean.append(a[t] @ mean[-1] + b[t])
        rows.append(a[t] @ rows[-1] + np.eye(k, k * steps, k * (t + 1)))
        noise[k * (t + 1) : k * (t + 2), k * (t + 1) : k * (t + 2)] = q[t]
    lift = np.concatenate(rows)
    return np.concatenate(mean), lift @ noise @ lift.T


def dense_posterior(initial_mean, initial_cov, dynamics, bias, noise_cov, precision, shift) -> DenseChain:
    """Condition the dense prior on potentials: precision (T, K, K) or (T, K), shift (T, K)."""
    steps, k = shift.shape
    prior_mean, prior_cov = dense_prior(initial_mean, initial_cov, dynamics, bias, noise_cov, steps)
    j = np.zeros((steps * k, steps * k))
    for t in range(steps):
        block = np.diag(precision[t]) if precision[t].ndim == 1 else precision[t]
        j[t * k : (t + 1) * k, t * k : (t + 1) * k] = block
    h = shift.reshape(-1)
    eye = np.eye(steps * k)
    gain = eye + prior_cov @ j
    cov = np.linalg.solve(gain, prior_cov)
    cov = (cov + cov.T) / 2
    residual = h - j @ prior_mean
    mean = prior_mean + cov @ residual
    log_det = np.linalg.slogdet(gain)[1]
    log_z = -log_det / 2 + residual @ cov @ residual / 2 + h @ prior_mean - prior_mean @ j @ prior_mean / 2
    prior_entropy = (steps * k * (1 + np.log(2 * np.pi)) + np.linalg.slogdet(prior_cov)[1]) / 2
    expected = h @ mean - (np.sum(j * cov) + mean @ j @ mean) / 2
    return DenseChain(
        log_normalizer=float(log_z),
        mean=mean.reshape(steps, k),
        cov=cov.reshape(steps, k, steps, k),
        entropy=float(prior_entropy - log_det / 2),
        kl=float(expected - log_z),
    )
