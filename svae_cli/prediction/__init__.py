"""Questions to a trained model: imputations, forecasts, latent states and new series."""

from svae_cli.prediction.predict import encode, forecast, impute, sample, whole

__all__ = ["encode", "forecast", "impute", "sample", "whole"]
