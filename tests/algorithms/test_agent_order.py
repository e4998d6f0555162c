"""The order of agents is the checkpoint's, whatever order an environment lists them in later."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runner_toys as toys
from runner_toys import DriftBatch, ScriptedTeam

from rllib_hetero import HAPPO, HAPPOConfig, TeamError
from rllib_hetero.runners.reordered import ReorderedTeamEnv

AGENTS = {"a": 3, "b": 5, "c": 5}


class AnyOrder(ScriptedTeam):
    """Lists its agents as the process would that hashes them in `order`, as RLlib's wrapper of
    PettingZoo does. What happens goes by the agents' names."""

    order = ("a", "b", "c")

    def __init__(self, config=None):
        super().__init__(config)
        self.possible_agents = list(self.order)

    def reward(self, agent):
        return float("abc".index(agent) + self.last[agent])

    def _observation(self, agent):
        x = super()._observation(agent)
        x[1] = "abc".index(agent)  # not the number of the episode: a restored one starts at 0
        return x


@pytest.fixture
def another_process(monkeypatch):
    def hash_differently():
        monkeypatch.setattr(AnyOrder, "order", ("c", "a", "b"))

    return hash_differently


def config(**kwargs):
    config = toys.small(HAPPOConfig(), AnyOrder, {"lengths": [5]}, **kwargs)
    return config.multi_agent(parameter_sharing={"pair": ["b", "c"]}).training(
        update_order="cyclic"
    )


@pytest.mark.parametrize("how", ["from_checkpoint", "restore_from_path", "set_state"])
def test_a_restored_run_goes_on_with_the_agents_it_had(ray_local, tmp_path, another_process, how):
    algo = config().build_algo()
    algo.train()
    path, state = algo.save_to_path(tmp_path), algo.get_state()
    algo.train()
    another_process()
    if how == "from_checkpoint":
        restored = HAPPO.from_checkpoint(path)
    else:
        restored = config().build_algo()
        assert restored.config.layout.team.agents == ("c", "a", "b")
        if how == "set_state":
            restored.set_state(state)
        else:
            restored.restore_from_path(path)
    assert restored.config.layout.team.agents == ("a", "b", "c")
    assert restored.config.layout.groups["pair"] == ("b", "c")
    restored.train()
    assert toys.equal(toys.parameters(algo), toys.parameters(restored))
    if how == "from_checkpoint":
        # A freshly built one, whose order is another, cannot take a part alone.
        fresh = config().build_algo()
        with pytest.raises(TeamError, match=r"another order.*without component="):
            fresh.restore_from_path(path, component="learner_group")
        fresh.stop()
    for x in (algo, restored):
        x.stop()


@pytest.mark.slow
def test_a_process_that_hashes_otherwise_acts_as_the_one_that_trained(tmp_path):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]

    def told(what, seed):
        ended = subprocess.run(
            [sys.executable, "-c", f"import hashed_team as t; t.main({what!r}, {str(tmp_path)!r})"],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    (order, actions), (another_order, same_actions) = told("train", 1), told("restore", 2)
    assert order != another_order and set(order) == set(another_order)
    assert len(actions) == 5 and same_actions == actions
    first = actions[0]
    assert first["north"] != first["south"]  # what they see is alike: the index is read


def test_a_checkpoint_of_other_agents_is_refused(ray_local, tmp_path):
    algo = config().build_algo()
    path = algo.save_to_path(tmp_path)
    algo.stop()
    other = toys.small(HAPPOConfig(), env_config={"agents": {"a": 3, "x": 5}}).build_algo()
    with pytest.raises(TeamError, match=r"team \['a', 'b', 'c'\].*agents are \['a', 'x'\]"):
        other.restore_from_path(path)
    other.stop()


def test_another_environment_has_an_order_of_its_own(another_process):
    settings = config()
    settings.validate()
    another_process()
    settings.validate()
    assert settings.layout.team.agents == ("a", "b", "c")
    settings.environment(AnyOrder)
    settings.validate()
    assert settings.layout.team.agents == ("c", "a", "b")


class OtherOrder(DriftBatch):
    """A batched environment whose agents are in the reverse order; the second one's alone die."""

    def __init__(self, env_config):
        super().__init__({"num_envs": 1} | dict(env_config))
        agents = tuple(reversed(self.team.agents))
        self.team = type(self.team)(agents, self.team.observation_spaces, self.team.action_spaces)

    def step(self, actions):
        outcome = super().step(actions)
        self.active[:, 1] = self.t < 3  # left's column here
        return outcome._replace(rewards=outcome.rewards[:, ::-1])


def test_columns_of_batched_environments_are_matched_by_name():
    """A remote runner, or an evaluation, may find the agents in another order."""
    settings = toys.small(HAPPOConfig(), OtherOrder)
    settings.validate()
    right_left = toys.make_runner(settings)
    settings = settings.copy(copy_frozen=False).environment(DriftBatch)
    settings.validate()
    settings.env = OtherOrder
    left_right = toys.make_runner(settings)
    assert isinstance(left_right.env, ReorderedTeamEnv)
    left_right.module.set_state(right_left.module.get_state())
    ours, theirs = (r.sample(num_timesteps=12)[0] for r in (left_right, right_left))
    assert (ours.rewards == theirs.rewards[..., ::-1]).all() and ours.rewards.any()
    for m in ("left", "right"):
        assert (ours.observations[m] == theirs.observations[m]).all()
        assert (ours.active[m] == theirs.active[m]).all()
    assert not ours.active["left"].all() and ours.active["right"].all()
