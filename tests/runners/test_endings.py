"""Episodes that an environment does not end as it should: ended where plain, and said once."""

import numpy as np
import pytest
import runner_toys as toys
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import DriftBatch, ScriptedTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.runners.endings import end_without_all


class FlagsOnly(ScriptedTeam):
    """Every agent's own flag is set, `"__all__"` never."""

    def step(self, action_dict):
        *rest, terminateds, truncateds, infos = super().step(action_dict)
        terminateds["__all__"] = truncateds["__all__"] = False
        return *rest, terminateds, truncateds, infos


class NoFinal(ScriptedTeam):
    """Agents a and b are not in the observations of the step that cuts the episode."""

    def step(self, action_dict):
        observations, *rest = super().step(action_dict)
        if self.t == self.length:
            observations = {"c": observations["c"]}
        return observations, *rest


def runner(env, env_config, cls=None):
    config = toys.small(HAPPOConfig(), env, env_config)
    if cls is not None:
        config.env_runners(env_runner_cls=cls)
    config.validate()
    return config, toys.make_runner(config, config.env_runner_cls)


def fragment(env, env_config, cls, steps=20):
    config, made = runner(env, env_config, cls)
    samples = made.sample(num_timesteps=steps)
    if cls is not None:
        samples = [fragment_from_episodes(samples, config.layout)]
    return samples[0], made


RUNNERS = pytest.mark.parametrize("cls", [None, MultiAgentEnvRunner], ids=["team", "stock"])


@RUNNERS
@pytest.mark.parametrize(
    ("case", "end"),
    [
        ({"ends": "truncate"}, "truncated"),
        ({"ends": "terminate"}, "terminated"),
        # Whoever is left is cut: what it would have had is bootstrapped.
        ({"ends": "truncate", "dies": {"b": 2, "c": 5}}, "truncated"),
        ({"dies": {"a": 5, "b": 3, "c": 5}, "lengths": [99]}, "terminated"),
    ],
    ids=["cut", "ended", "some dead", "all dead"],
)
def test_where_all_parts_end_the_episode_does(caplog, cls, case, end):
    caplog.set_level("WARNING")
    found, made = fragment(FlagsOnly, case, cls)
    assert found.problem is None
    ends = {"truncated": found.truncated, "terminated": found.terminated}
    episodes = 4
    assert ends.pop(end).sum() == episodes and not ends.popitem()[1].any()
    assert made.get_metrics()["num_episodes"].peek() == episodes
    told = [r for r in caplog.records if "'__all__' is False" in r.getMessage()]
    assert 1 <= len(told) <= 2  # once for each environment of the stock runner


def test_a_cut_without_final_observations_is_said_once(caplog):
    """RLlib's stock runner refuses it."""
    caplog.set_level("WARNING")
    found, _ = fragment(NoFinal, {}, None)
    assert found.truncated.sum() == 4
    (told,) = [r.getMessage() for r in caplog.records]
    assert "without final observations of ['a', 'b']" in told
    assert not np.concatenate([found.finals.active["a"], found.finals.active["b"]]).any()
    assert found.finals.active["c"].all()


def test_whole_episodes_are_not_spoken_of(caplog):
    caplog.set_level("WARNING")
    fragment(ScriptedTeam, {"ends": "alternate", "dies": {"b": 2}}, None)
    assert not caplog.records


class GoesOn(DriftBatch):
    """Natively batched; all its agents are gone after 3 steps, and the episode is not over."""

    def step(self, actions):
        outcome = super().step(actions)
        self.active[:] = (self.t < 3)[:, None]
        return outcome


def test_batched_environments_must_say_it():
    _, made = runner(GoesOn, {})
    problem = made.sample(num_timesteps=12)[0].problem
    assert "No agent is active in step 3 of the fragment, sub-environment 0" in problem
    assert "Set `terminated`" in problem


def test_end_without_all():
    yes, no = {"a": True, "b": True}, {}
    assert end_without_all(["a", "b"], yes, no) == "terminated"
    assert end_without_all(["a", "b"], no, yes) == "truncated"
    assert end_without_all(["a", "b"], yes, yes) == "terminated"
    assert end_without_all(["a", "b"], {"a": True}, {"b": True}) == "truncated"
    assert end_without_all(["a", "b"], {"a": True}, no) is None
    assert end_without_all(["b"], {"b": True}, no) == "terminated"
