"""Off-policy runs with faults: what is kept of the replay, and what is never trained on."""

import contextlib
import logging
import os
import signal
import sys

import numpy as np
import pytest
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from toys import CountingTeam

from rllib_hetero import HATD3Config, TeamDataError
from rllib_hetero.replay import files

pytestmark = pytest.mark.usefixtures("ray_local")

# Remote runners are given the environment by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

ENVS, STEPS, WARM_UP = 2, 10, 40
BATCH = 8


class Fragile(CountingTeam):
    """A `CountingTeam` that raises in the `fails`-th step of its life, or gives a NaN reward.

    Its agent a sees where its episode's clock began, which no two episodes share, and the clock.
    The first process to find a file `crash` kills itself, in the third step of an episode.
    """

    lived = 0

    def _observation(self, agent):
        if agent == "a":
            return np.array([self.start, self.t, 0.0], np.float32)
        return super()._observation(agent)

    def step(self, action_dict):
        type(self).lived += 1
        if self.t == 2 and "crash" in self.config:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.config["crash"])
                os.kill(os.getpid(), signal.SIGKILL)
        if type(self).lived == self.config.get("fails"):
            raise RuntimeError("The simulator has crashed.")
        observations, rewards, *rest = super().step(action_dict)
        if type(self).lived == self.config.get("nan_reward"):
            rewards["a"] = float("nan")
        return observations, rewards, *rest


@pytest.fixture(autouse=True)
def new_life():
    Fragile.lived = 0


def config(**env_config):
    agents = {"a": (3, "box"), "b": (4, "discrete")}
    return (
        HATD3Config()
        .environment(Fragile, env_config={"agents": agents, **env_config})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVS, rollout_fragment_length=STEPS)
        .training(
            num_steps_sampled_before_learning_starts=WARM_UP,
            train_batch_size_per_learner=BATCH,
            training_intensity=2.0,
            replay_buffer_config={"capacity": 200},
        )
        .rl_module(model_config={"hidden_sizes": [8]})
        .debugging(seed=2, log_level="ERROR")
    )


def train(algo, iterations):
    for _ in range(iterations):
        algo.train()


def learner_of(algo):
    return algo.learner_group._learner


def test_updates_begin_after_the_warm_up_and_follow_from_the_steps():
    algo = config().build_algo()
    made = []
    for _ in range(5):
        algo.train()
        made.append(learner_of(algo).num_updates)
    algo.stop()
    # 20 steps an iteration; 2 transitions a step, 8 in a minibatch: 5 updates for 20 steps.
    assert made == [0, 0, 5, 10, 15]


def test_without_the_replay_a_resumed_run_fills_it_anew_and_says_so(tmp_path, caplog):
    algo = config().training(replay_in_checkpoint=False).build_algo()
    train(algo, 3)
    with caplog.at_level(logging.WARNING):
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
    assert "does not hold the replay" in caplog.text
    assert not (tmp_path / "checkpoint" / "replay").exists()
    algo.stop()

    caplog.clear()
    with caplog.at_level(logging.WARNING):
        resumed = Algorithm.from_checkpoint(path)
    assert f"{WARM_UP} steps are sampled with its policies" in caplog.text
    before = learner_of(resumed).num_updates
    assert before == 5 and len(learner_of(resumed).replay) == 0
    made = []
    for _ in range(3):
        resumed.train()
        made.append(learner_of(resumed).num_updates - before)
    resumed.stop()
    assert made == [0, 0, 5]


def test_a_disk_that_is_full_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    algo = config().build_algo()
    train(algo, 3)
    kept = algo.save_to_path(str(tmp_path / "kept"))
    held = len(learner_of(algo).replay)
    train(algo, 1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.ReplayFiles, "_write_arrays", full)
    with pytest.raises(OSError, match="No space left"):
        algo.save_to_path(str(tmp_path / "next"), previous=kept)
    monkeypatch.undo()
    algo.stop()
    resumed = Algorithm.from_checkpoint(kept)
    assert len(learner_of(resumed).replay) == held
    resumed.stop()


def test_a_nan_reward_is_never_trained_on():
    algo = config(nan_reward=75).build_algo()
    train(algo, 3)
    before, updates = learner_of(algo).get_state(), learner_of(algo).num_updates
    with pytest.raises(TeamDataError, match=r"NaN or infinite reward for agent 'a'"):
        algo.train()
    assert learner_of(algo).num_updates == updates
    assert len(learner_of(algo).replay) == 60  # of the three iterations before
    after = learner_of(algo).get_state()
    for name, x in before["rl_module"]["a"].items():
        np.testing.assert_array_equal(x, after["rl_module"]["a"][name])
    algo.stop()


def assert_no_row_joins_two_episodes(replay):
    """Returns where the episodes' clocks began, and the clocks, of all rows in order."""
    batch = replay.take(np.arange(len(replay)), n_step=1, gamma=0.9)
    begun, clock = batch.observations["a"][:, 0, 0], batch.observations["a"][:, 0, 1]
    assert batch.next_observations["a"][:, 0, 0].tolist() == begun.tolist()
    assert batch.next_observations["a"][:, 0, 1].tolist() == (clock + 1).tolist()
    rows = list(zip(begun.tolist(), clock.tolist(), strict=True))
    assert len(set(rows)) == len(rows)
    return begun.tolist(), clock.tolist()


def test_an_episode_that_a_crash_cut_is_whole_data_and_joins_no_other():
    algo = config(fails=53).fault_tolerance(restart_failed_sub_environments=True).build_algo()
    train(algo, 5)
    replay = learner_of(algo).replay
    assert len(replay) == 99  # the failed step is no row
    begun, _ = assert_no_row_joins_two_episodes(replay)
    assert len(set(begun)) > 15  # episodes of 5 steps, and the two halves of one
    algo.stop()


@pytest.mark.parametrize("overlap", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_runner_that_is_killed_costs_its_rollout_and_no_more(overlap, tmp_path):
    """Rollouts of 8 steps: at the end of each an episode of 5 is under way."""
    algo = (
        config(crash=str(tmp_path / "crash"))
        .env_runners(
            num_env_runners=2, num_envs_per_env_runner=1, rollout_fragment_length=8,
            num_cpus_per_env_runner=0.5,
        )
        .training(
            overlap=overlap, num_steps_sampled_before_learning_starts=16,
            replay_buffer_config={"capacity": 4000},
        )
        .fault_tolerance(delay_between_env_runner_restarts_s=0)
        .build_algo()
    )  # fmt: skip
    train(algo, 2)
    (tmp_path / "crash").touch()
    for _ in range(40):
        result = algo.train()
        if result["fault_tolerance"]["num_remote_worker_restarts"] == 1:
            break
    assert not (tmp_path / "crash").exists()
    before = len(learner_of(algo).replay), learner_of(algo).num_updates
    train(algo, 2)
    replay = learner_of(algo).replay
    assert len(replay) == before[0] + 2 * 16  # of both runners again
    assert learner_of(algo).num_updates == before[1] + 2 * 4
    begun, clock = assert_no_row_joins_two_episodes(replay)
    lengths = [begun.count(x) for x in dict.fromkeys(begun)]
    # The newest episode of each runner may be under way; one other was cut with its runner.
    assert sum(n < 5 for n in lengths) - 1 in (0, 1, 2) and max(lengths) == 5
    assert clock.count(0.0) == len(lengths)  # All begin at their beginning.
    algo.stop()
