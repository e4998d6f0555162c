"""Trackers of a run, for `run_training(track=[...])`: TensorBoard, Weights & Biases, MLflow."""

from rllib_hetero.reporting.tracking.following import TRACKERS, Tracking

__all__ = ["TRACKERS", "Tracking"]
