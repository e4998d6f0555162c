"""The learners' replay in a checkpoint: read by as many learners as there are now."""

from types import SimpleNamespace

import numpy as np
import pyarrow.fs
import pytest
import torch
from off_policy_toys import off_policy_config
from toys import make_runner

from rllib_hetero import HADDPGConfig
from rllib_hetero.algorithms.off_policy.replay_files import restore_replay, save_replay
from rllib_hetero.replay import JointReplay
from rllib_hetero.replay.homes import blocks

NUM_ENVS = 5


class Group:
    """So many learners, of which only the replays exist."""

    def __init__(self, config, num_learners):
        self.learners = [
            SimpleNamespace(
                rank=rank, columns=columns, config=config,
                replay=JointReplay(
                    config.layout, capacity=20 * len(columns), num_columns=len(columns)
                ),
            )
            for rank, columns in enumerate(blocks(config.num_envs, num_learners))
        ]  # fmt: skip

    def __len__(self):
        return len(self.learners)

    def foreach_learner(self, call):
        results = [call(learner) for learner in self.learners]
        return [SimpleNamespace(ok=True, get=lambda r=r: r) for r in results]

    def add(self, fragment):
        for learner in self.learners:
            learner.replay.add(fragment.select(learner.columns))

    def rows(self):
        """Every row of all learners, one behind the other."""
        batches = [x.replay.take(np.arange(len(x.replay)), 3, 0.9) for x in self.learners]
        return [
            torch.cat([getattr(b, name) for b in batches])
            for name in ("state", "next_state", "rewards", "discount")
        ]


@pytest.fixture(scope="module")
def sampled():
    config = off_policy_config(
        HADDPGConfig,
        env_config={"agents": {"a": (3, "box"), "b": (4, "discrete")}, "end": "alternate"},
        num_envs=NUM_ENVS,
    )
    runner = make_runner(config)
    return config, [runner.sample()[0] for _ in range(4)]


@pytest.mark.parametrize("remote", [False, True], ids=["a folder", "a bucket"])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2), (2, 1)])
def test_columns_are_dealt_to_the_learners_of_today(sampled, tmp_path, before, after, remote):
    config, fragments = sampled
    wrote, reads = Group(config, before), Group(config, after)
    for fragment in fragments:
        wrote.add(fragment)
    filesystem, path = None, str(tmp_path)
    if remote:  # Files are copied to and from it.
        filesystem = pyarrow.fs.SubTreeFileSystem(path, pyarrow.fs.LocalFileSystem())
        path = "checkpoint"
    assert save_replay(wrote, path, filesystem, None)
    assert restore_replay(reads, path, filesystem)
    rows = wrote.rows()
    assert len(rows[0]) == NUM_ENVS * 20
    for x, y in zip(rows, reads.rows(), strict=True):
        assert torch.equal(x, y)


def test_without_a_replay_of_these_environments_nothing_is_read(sampled, tmp_path):
    config, fragments = sampled
    group = Group(config, 2)
    assert not restore_replay(group, str(tmp_path))
    other = config.copy(copy_frozen=False)
    other.env_runners(num_envs_per_env_runner=4)
    wrote = Group(other, 2)
    wrote.add(fragments[0].select(range(4)))
    assert save_replay(wrote, str(tmp_path), None, None)
    assert not restore_replay(group, str(tmp_path))
    assert all(len(learner.replay) == 0 for learner in group.learners)
