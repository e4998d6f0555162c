"""Runs a training and reports on it: progress, curves, checkpoints, videos.

`run_training` trains and writes, `resume_training` goes on with its folder;
`rllib_hetero.reporting.curve` draws several runs into one picture, also from the command line;
`record_episode` films trained policies.
"""

from rllib_hetero.reporting.resume import resume_training
from rllib_hetero.reporting.run import RunResult, run_training
from rllib_hetero.reporting.video import play_episode, record_episode

__all__ = ["RunResult", "play_episode", "record_episode", "resume_training", "run_training"]
