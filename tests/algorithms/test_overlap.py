"""Sampling while updates are made: the same steps as by turns, by the policies of a sync ago."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from toys import CountingTeam

from rllib_hetero import HADDPGConfig

pytestmark = pytest.mark.usefixtures("ray_local")

# Runners are given the environment by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

RUNNERS, STEPS = 2, 10
BATCH = RUNNERS * STEPS


class Marked(CountingTeam):
    """A `CountingTeam` whose agent a sees where its episode's clock began, and the clock.

    No two episodes begin alike. Keys of the config beyond `CountingTeam`'s:
        folder: The first step of the second rollout makes the file "sampling" there, and waits
            for the file "updating".
    """

    def __init__(self, config=None):
        super().__init__(config)
        self.lived = 0

    def _observation(self, agent):
        if agent == "a":
            return np.array([self.start, self.t, 1.0], np.float32)
        return super()._observation(agent)

    def step(self, action_dict):
        if self.lived == STEPS:
            folder = Path(self.config["folder"])
            (folder / "sampling").touch()
            wait_for(folder / "updating")
        self.lived += 1
        return super().step(action_dict)


def wait_for(file):
    end = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < end, f"no {file.name}"
        time.sleep(0.01)


def config(**env_config):
    agents = {"a": (3, "box"), "b": (4, "discrete")}
    return (
        HADDPGConfig()
        .environment(Marked, env_config={"agents": agents, **env_config})
        .env_runners(
            num_env_runners=RUNNERS, num_envs_per_env_runner=1, rollout_fragment_length=STEPS,
            num_cpus_per_env_runner=0.5,
        )
        .training(
            overlap=True, lr=1e-2, exploration_noise=0.0, train_batch_size_per_learner=8,
            num_steps_sampled_before_learning_starts=BATCH, training_intensity=1.2,
            replay_buffer_config={"capacity": 400},
        )
        .evaluation(evaluation_interval=1, evaluation_duration=1)
        .rl_module(model_config={"hidden_sizes": [8]})
        .debugging(seed=2, log_level="ERROR")
    )  # fmt: skip


def learner_of(algo):
    return algo.learner_group._learner


def rows_of(algo):
    """All rows, (columns, rows, ...): what agent a saw, and did."""
    replay = learner_of(algo).replay
    batch = replay.take(np.arange(len(replay)), n_step=1, gamma=0.9)
    seen = batch.observations["a"][:, 0].unflatten(0, (RUNNERS, -1))
    return seen, batch.actions["a"][:, 0].unflatten(0, (RUNNERS, -1))


def assert_every_step_is_there_once(seen):
    """One whole episode of 5 steps after the other in each column, all of them unlike."""
    columns, steps = seen.shape[:2]
    clock = torch.arange(steps, dtype=torch.float32) % 5
    assert torch.equal(seen[..., 1], clock.expand(columns, -1))
    begun = seen[..., 0].unflatten(1, (-1, 5))
    assert torch.equal(begun, begun[..., :1].expand_as(begun))
    assert len(begun[..., 0].unique()) == columns * steps // 5


def train(algo, iterations):
    """The actor's state before the first, and after each."""
    states = [learner_of(algo).module["a"].get_state()]
    for _ in range(iterations):
        result = algo.train()
        assert np.isfinite(result["evaluation"]["env_runners"]["episode_return_mean"])
        states.append(learner_of(algo).module["a"].get_state())
    return states


def acted_as(algo, state, seen, actions):
    """Whether an actor of this state would do these actions."""
    learner = learner_of(algo)
    learner.module["a"].set_state(state)
    with torch.no_grad():
        wanted = learner.policy_outputs("a", seen)[..., :2]
    return torch.allclose(wanted, actions, atol=1e-5)


@pytest.fixture(scope="module")
def run(ray_local, tmp_path_factory):
    """A run of six iterations, its actor's states, and a checkpoint after three of them.

    Its first update waits until the next rollout has begun, and that for the update.
    """
    folder = tmp_path_factory.mktemp("signs")
    algo = config(folder=str(folder)).build_algo()
    update = algo.learner_group.update

    def updating(**kwargs):
        wait_for(folder / "sampling")
        (folder / "updating").touch()
        return update(**kwargs)

    algo.learner_group.update = updating
    states = train(algo, 3)
    path = algo.save_to_path(str(folder / "checkpoint"))
    states += train(algo, 3)[1:]
    yield SimpleNamespace(algo=algo, states=states, path=path, rows=rows_of(algo))
    algo.stop()


def test_no_step_is_lost_or_doubled(run):
    """By rollouts that begin before updates do, or the run would not be there."""
    seen, _ = run.rows
    assert seen.shape[:2] == (RUNNERS, 6 * STEPS)
    assert_every_step_is_there_once(seen)
    # 20 random steps; then 1.2 transitions a step, 8 to an update: 3 updates an iteration.
    assert learner_of(run.algo).num_updates == 15


def test_policies_lag_by_one_sync(run):
    seen, actions = run.rows
    for k in range(6):
        rows = slice(k * STEPS, (k + 1) * STEPS)
        as_after = [acted_as(run.algo, s, seen[:, rows], actions[:, rows]) for s in run.states]
        # By turns it is the policy after iteration k, the one before being number 0. Random
        # actions are nobody's; the first iteration makes no update.
        last = k - 1
        alike = [] if k == 0 else [0, 1] if last < 2 else [last]
        assert [i for i, same in enumerate(as_after) if same] == alike


@pytest.mark.parametrize("how", ["from_checkpoint", "in_place"])
def test_a_rollout_under_way_is_in_no_checkpoint_and_sampled_anew(run, how):
    """In place, what the run itself has under way is thrown away."""
    resumed = run.algo
    if how == "from_checkpoint":
        resumed = Algorithm.from_checkpoint(run.path)
    else:
        resumed.restore_from_path(run.path)
    before, _ = run.rows
    assert torch.equal(rows_of(resumed)[0], before[:, : 3 * STEPS])
    assert learner_of(resumed).num_updates == 6
    train(resumed, 2)
    seen = rows_of(resumed)[0]
    assert seen.shape[:2] == (RUNNERS, 5 * STEPS)
    assert_every_step_is_there_once(seen)
    assert torch.equal(seen[:, : 4 * STEPS], before[:, : 4 * STEPS])
    if how == "from_checkpoint":
        resumed.stop()
