"""Questions to a trained model: imputations, forecasts, latent states and new series."""

from svae_cli.prediction.predict import encode, forecast, impute, sample, whole
from svae_cli.prediction.self_check import can_check, is_checked

__all__ = ["can_check", "encode", "forecast", "impute", "is_checked", "sample", "whole"]
