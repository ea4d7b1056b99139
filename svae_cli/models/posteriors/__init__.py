"""The posteriors that the SVAE's is compared with: same prior and decoder, networks instead of message passing."""

from svae_cli.models.posteriors.chain import Chain, ChainPosterior
from svae_cli.models.posteriors.families import ChainFamily
from svae_cli.models.posteriors.recurrent import PathPosterior, RecurrentFamily

__all__ = ["Chain", "ChainFamily", "ChainPosterior", "PathPosterior", "RecurrentFamily"]
