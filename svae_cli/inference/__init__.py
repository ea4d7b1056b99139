"""Exact inference in a linear-Gaussian chain: arrays in, arrays out; no files, no networks."""

from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.long import LongPosterior, Piece, PiecePosterior, filter_piece, smooth_long, smooth_piece
from svae_cli.inference.prior import LinearGaussianPrior
from svae_cli.inference.sharded import smooth_sharded
from svae_cli.inference.smooth import Posterior, kl_divergence, log_normalizer, sample, smooth

__all__ = [
    "Gaussian",
    "LinearGaussianPrior",
    "LongPosterior",
    "Piece",
    "PiecePosterior",
    "Posterior",
    "Potential",
    "filter_piece",
    "kl_divergence",
    "log_normalizer",
    "sample",
    "smooth",
    "smooth_long",
    "smooth_piece",
    "smooth_sharded",
]
