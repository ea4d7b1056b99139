"""Fitting: the linear start, the objective and the training loop."""
