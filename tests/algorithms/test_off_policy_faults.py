"""Off-policy runs with faults: what is kept of the replay, and what is never trained on."""

import logging

import numpy as np
import pytest
from ray.rllib.algorithms.algorithm import Algorithm
from toys import CountingTeam

from rllib_hetero import HATD3Config, TeamDataError
from rllib_hetero.replay import files

pytestmark = pytest.mark.usefixtures("ray_local")

ENVS, STEPS, WARM_UP = 2, 10, 40
BATCH = 8


class Fragile(CountingTeam):
    """A `CountingTeam` that raises in the `fails`-th step of its life, or gives a NaN reward.

    Its agent a sees where its episode's clock began, which no two episodes share, and the clock.
    """

    lived = 0

    def _observation(self, agent):
        if agent == "a":
            return np.array([self.start, self.t, 0.0], np.float32)
        return super()._observation(agent)

    def step(self, action_dict):
        type(self).lived += 1
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


def test_an_episode_that_a_crash_cut_is_whole_data_and_joins_no_other():
    algo = config(fails=53).fault_tolerance(restart_failed_sub_environments=True).build_algo()
    train(algo, 5)
    replay = learner_of(algo).replay
    assert len(replay) == 99  # the failed step is no row
    batch = replay.take(np.arange(len(replay)), n_step=1, gamma=0.9)
    begun, clock = batch.observations["a"][:, 0, 0], batch.observations["a"][:, 0, 1]
    assert len(set(begun.tolist())) > 15  # episodes of 5 steps, and the two halves of one
    assert batch.next_observations["a"][:, 0, 0].tolist() == begun.tolist()
    assert batch.next_observations["a"][:, 0, 1].tolist() == (clock + 1).tolist()
    algo.stop()
