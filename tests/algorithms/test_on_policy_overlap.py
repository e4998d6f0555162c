"""Sampling while the critic is fitted: the same numbers as by turns, to the last bit."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from test_off_policy_faults import Fragile
from test_overlap import wait_for
from toys import CountingTeam

from rllib_hetero import COMAConfig, HAPPOConfig, HATRPOConfig
from rllib_hetero.algorithms.rollouts_ahead import Rollout, RolloutsAhead
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

# Runners are given the environment by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

AGENTS = {"a": (3, "box"), "b": (4, "discrete")}
CHOOSING = {"a": (3, "discrete"), "b": (4, "discrete")}


class Signing(CountingTeam):
    """A `CountingTeam` that says when it is stepped: it makes the file "sampling" in `folder`."""

    def step(self, action_dict):
        if self.config.get("folder"):
            (Path(self.config["folder"]) / "sampling").touch()
        return super().step(action_dict)


def config(family=HAPPOConfig, *, runners=2, agents=AGENTS, env=Signing, **env_config):
    """Rollouts of 8 steps, episodes of 5: at the end of each rollout an episode is under way."""
    return (
        family()
        .environment(env, env_config={"agents": agents, **env_config})
        .env_runners(
            num_env_runners=runners, num_envs_per_env_runner=1, num_cpus_per_env_runner=0.5
        )
        .training(
            train_batch_size_per_learner=8 * max(1, runners), num_epochs=2, minibatch_size=5,
            lr=[[0, 1e-2], [100, 1e-3]], critic_lr=[[0, 1e-2], [100, 1e-3]],
        )
        .rl_module(model_config={"hidden_sizes": [8]})
        .evaluation(evaluation_interval=1, evaluation_duration=1)
        .debugging(seed=2, log_level="ERROR")
    )  # fmt: skip


def weights_of(algo):
    return copy.deepcopy(algo.get_weights())


def told(result):
    """What an iteration reports, without what no two runs have alike: times."""
    own = {k: v for k, v in result["learners"].items() if k != "__all_modules__"}
    steps = {k: v for k, v in result["env_runners"].items() if "step" in k or "episode" in k}
    steps = {k: v for k, v in steps.items() if "timer" not in k and "duration" not in k}
    return own, steps, result["evaluation"]["env_runners"]["episode_return_mean"]


def assert_same(a, b):
    if isinstance(a, tuple | list):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if "throughput" not in str(key):
                assert_same(a[key], b[key])
    else:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def train(algo, iterations):
    return [(told(algo.train()), weights_of(algo)) for _ in range(iterations)]


@pytest.fixture(scope="module")
def runs(ray_local, tmp_path_factory):
    """Five iterations by turns and five that overlap, each with a checkpoint after three."""
    found = {}
    for overlap in (False, True):
        folder = tmp_path_factory.mktemp("signs")
        algo = config(folder=str(folder)).training(overlap=overlap).build_algo()
        if overlap:
            expect_sampling(algo, folder / "sampling")
        seen = train(algo, 3)
        path = algo.save_to_path(str(folder / "checkpoint"))
        seen += train(algo, 2)
        found[overlap] = SimpleNamespace(algo=algo, seen=seen, path=path)
    yield found
    for run in found.values():
        run.algo.stop()


def expect_sampling(algo, sign):
    """The second half of an update waits until runners have begun their next rollout."""
    learner = algo.learner_group._learner
    begin, finish = learner._begin, learner.finish_update

    def beginning(**kwargs):
        sign.unlink(missing_ok=True)
        return begin(**kwargs)

    def finishing():
        wait_for(sign)
        return finish()

    learner._begin, learner.finish_update = beginning, finishing


def test_the_numbers_are_those_of_taking_turns(runs):
    """By rollouts that begin before the critic is fitted, or the runs would not be there."""
    for by_turns, overlapped in zip(runs[False].seen, runs[True].seen, strict=True):
        assert_same(by_turns, overlapped)
    assert runs[True].seen[0][0][1]["num_env_steps_sampled_lifetime"] == 16


def test_a_resumed_run_goes_on_as_one_that_takes_turns(runs):
    """A rollout was under way at the checkpoint, and is sampled anew."""
    first = Algorithm.from_checkpoint(runs[False].path)
    second = runs[True].algo
    second.restore_from_path(runs[True].path)  # in place: another rollout is under way now
    for by_turns, overlapped in zip(train(first, 2), train(second, 2), strict=True):
        assert_same(by_turns, overlapped)
    first.stop()


@pytest.mark.slow
def test_remote_learners_hand_out_the_actors_first(runs):
    """Two of them, each with one of the two environments."""
    seen = []
    for overlap in (False, True):
        algo = (
            config().learners(num_learners=2, num_cpus_per_learner=0.5)
            .training(overlap=overlap, train_batch_size_per_learner=8)
            .build_algo()
        )  # fmt: skip
        seen.append(train(algo, 3))
        algo.stop()
    for by_turns, overlapped in zip(*seen, strict=True):
        assert_same(by_turns, overlapped)


@pytest.mark.slow
def test_whole_episodes_take_further_rounds(runs):
    """A round of one episode of each runner is 10 steps, and a batch 16."""
    seen = []
    for overlap in (False, True):
        algo = (
            config()
            .env_runners(batch_mode="complete_episodes")
            .training(overlap=overlap)
            .build_algo()
        )
        seen.append(train(algo, 3))
        algo.stop()
    for by_turns, overlapped in zip(*seen, strict=True):
        assert_same(by_turns, overlapped)
    assert seen[1][0][0][1]["num_env_steps_sampled_lifetime"] == 20


@pytest.mark.slow
def test_a_runner_that_is_killed_costs_a_round_and_no_more(ray_local, tmp_path):
    algo = (
        config(crash=str(tmp_path / "crash"), env=Fragile)
        .training(overlap=True)
        .fault_tolerance(delay_between_env_runner_restarts_s=0)
        .build_algo()
    )
    train(algo, 2)
    (tmp_path / "crash").touch()
    for _ in range(40):
        result = algo.train()
        assert result["env_runners"]["num_env_steps_sampled"] >= 15  # always a batch, or nearly
        if result["fault_tolerance"]["num_remote_worker_restarts"] == 1:
            break
    assert not (tmp_path / "crash").exists()
    for _ in range(2):
        assert algo.train()["env_runners"]["num_env_steps_sampled"] == 16  # of both runners again
    algo.stop()


# ---- the learner's two halves --------------------------------------------------------------------


@pytest.mark.parametrize("family", [HAPPOConfig, HATRPOConfig])
def test_two_halves_are_one_update(family):
    settings = config(family, runners=0)
    settings.validate()
    fragments = TeamEnvRunner(config=settings, worker_index=0).sample()
    learners = []
    for _ in range(2):
        torch.manual_seed(0)
        spec = settings.get_multi_rl_module_spec()
        learners.append(settings.learner_class(config=settings, module_spec=spec))
        learners[-1].build()
    whole, halved = learners
    assert_same(whole.get_state()["rl_module"], halved.get_state()["rl_module"])
    for steps in (8, 16):
        given = {
            "training_data": TeamTrainingData(episodes=fragments),
            "timesteps": {"num_env_steps_sampled_lifetime": steps},
            "num_epochs": 2,
        }
        expected = whole.update(**given)
        critic = halved.get_state()["rl_module"]["critic"]
        assert halved.update(actors_only=True, **given) == steps // 8
        between = halved.get_state()["rl_module"]
        for m, state in whole.get_state()["rl_module"].items():
            assert_same(between[m], critic if m == "critic" else state)
        found = halved.finish_update()
        assert_same(learned(whole), learned(halved))
        assert found.keys() == expected.keys()
        for m in ("a", "b", "critic"):
            assert_same(values(found[m]), values(expected[m]))


def learned(learner):
    state = learner.get_state()
    return state["rl_module"], state["optimizer"]


def values(stats):
    return {name: stat.peek() for name, stat in stats.items()}


# ---- which policies sampled ----------------------------------------------------------------------


class Runners:
    """A group of one runner, which does at once what it is asked for, or `late`."""

    def __init__(self, seq_no):
        self.runner = SimpleNamespace(
            _weights_seq_no=seq_no, get_progress=dict, get_metrics=dict, sample=lambda **_: ["new"]
        )
        self.late, self.done = False, []

    def healthy_env_runner_ids(self):
        return [1]

    def foreach_env_runner_async(self, function, **kwargs):
        self.done.append((1, function(self.runner)))

    def fetch_ready_async_reqs(self, **kwargs):
        if self.late:
            return []
        done, self.done = self.done, []
        return done


def test_only_the_policies_that_were_asked_for_sample():
    runners = Runners(seq_no=3)
    ahead = RolloutsAhead(runners, None)
    ahead.policy = 4  # Its weights have not arrived.
    ahead.ask()
    assert ahead.take() == []
    runners.runner._weights_seq_no = 4
    ahead.ask()
    assert ahead.take() == [Rollout(["new"], {}, {}, 4)]


def test_a_late_rollout_of_earlier_policies_is_thrown_away():
    runners = Runners(seq_no=3)
    ahead = RolloutsAhead(runners, None)
    ahead.policy, runners.late = 3, True
    ahead.ask()
    assert ahead.take() == []
    ahead.policy = runners.runner._weights_seq_no = 4
    ahead.ask()  # It is still at the last one.
    runners.late = False
    assert ahead.take() == []
    ahead.ask()
    assert [rollout.policy for rollout in ahead.take()] == [4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: config(runners=0), r"processes of their own.*num_env_runners=1"),
        (lambda: config(COMAConfig, agents=CHOOSING), r"COMA's critic is fitted before"),
        (
            lambda: config().env_runners(env_runner_cls=MultiAgentEnvRunner),
            r"team env runner.*overlap=True",
        ),
    ],
)
def test_where_nothing_could_overlap_it_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        settings().training(overlap=True).validate()
