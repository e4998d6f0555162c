"""Replay of joint transitions for off-policy algorithms. Nothing here imports Ray."""

from rllib_hetero.replay.batches import JointBatch, JointHistory, JointSequences
from rllib_hetero.replay.draws import stratified, uniform
from rllib_hetero.replay.joint_replay import JointReplay
from rllib_hetero.replay.memory import bytes_needed, check_memory, free_memory
from rllib_hetero.replay.priorities import importance_weights

__all__ = [
    "JointBatch",
    "JointHistory",
    "JointReplay",
    "JointSequences",
    "bytes_needed",
    "check_memory",
    "free_memory",
    "importance_weights",
    "stratified",
    "uniform",
]
