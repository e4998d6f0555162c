"""Replay of joint transitions for off-policy algorithms. Nothing here imports Ray."""

from rllib_hetero.replay.batches import JointBatch, JointSequences
from rllib_hetero.replay.draws import own, uniform
from rllib_hetero.replay.joint_replay import JointReplay

__all__ = ["JointBatch", "JointReplay", "JointSequences", "own", "uniform"]
