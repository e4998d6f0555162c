"""Agents that come late, miss steps and return: what the runner makes of them."""

import numpy as np
import pytest
import torch
from ray.rllib.core import Columns
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from toys import CountingTeam, VisitingTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig, IQLConfig, MAPPOConfig, NetworkedACConfig, TeamError
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.policies import TeamPolicies
from rllib_hetero.runners.actions import action_transforms

AWAY = {"a": {2}, "b": {0, 1, 4}, "c": {2, 3, 5}}  # In step 2 nobody but b acts.
ALL_AWAY = {"a": {1, 4}, "b": {0, 1, 5}, "c": {1, 2, 3}}  # In step 1, nobody.
CASE = {"away": AWAY, "says": "c", "length": 7, "end": "alternate"}
L = 3


def config_of(cls=HAPPOConfig, env_config=CASE, memory="gru", kept="keep", runner=None, **settings):
    model = {"recurrent": memory, "max_seq_len": L}
    config = small_config(cls, VisitingTeam, env_config, num_envs=2, steps=10, model=model)
    config.multi_agent(absent_memory=kept, **settings)
    if runner is not None:
        config.env_runners(env_runner_cls=runner)
    config.validate()
    return config


def fragments_of(config, count=2):
    learner, runner = make_learner(config), make_runner(config)
    return learner, runner, [sample(runner, learner)[0] for _ in range(count)]


@pytest.mark.parametrize("away", [AWAY, ALL_AWAY], ids=["some", "all"])
def test_who_acts_is_recorded(away):
    """The environment refuses actions of others than those that are there."""
    config = config_of(env_config={**CASE, "away": away, "paid": True}, memory=None)
    _, _, fragments = fragments_of(config)
    clock = np.zeros(2, int)
    for f in fragments:
        for t in range(10):
            for e in range(2):
                for agent in "abc":
                    there = clock[e] not in away[agent]
                    assert f.active[agent][t, e, 0] == there
                    assert f.observations[agent][t, e, 0].any() == there
                    assert there or f.rewards[t, e, "abc".index(agent)] == 0.5
                over = bool(f.terminated[t, e] or f.truncated[t, e])
                assert over == (clock[e] == 6)
                clock[e] = 0 if over else clock[e] + 1
    assert any(f.terminated.any() for f in fragments) and any(f.truncated.any() for f in fragments)


@pytest.mark.parametrize("scheme", ["individual", "shared"])
def test_returns_are_those_of_all_rewards(scheme):
    """Nobody is there in every step, so that no agent's return is the team's."""
    case = {**CASE, "away": ALL_AWAY, "scheme": scheme, "paid": True, "end": "truncate"}
    config = config_of(env_config=case, memory=None)
    _, runner, fragments = fragments_of(config, 1)
    rewards = fragments[0].rewards[:7].astype(float)
    team = rewards[..., 0] if scheme == "shared" else rewards.sum(-1)
    metrics = runner.get_metrics()
    assert metrics["episode_return_max"].peek() == pytest.approx(team.sum(0).max(), rel=1e-5)
    assert metrics["episode_return_min"].peek() == pytest.approx(team.sum(0).min(), rel=1e-5)


class SlowMemory:
    """One agent at a time, seeing nothing of the steps in which it is away."""

    def __init__(self, runner):
        self.runner, self.layout = runner, runner.config.layout
        self.kept = self.layout.absent_memory == "keep"
        self.memory = {}

    def inputs(self, module, e, agent, row, there):
        if not there:
            if not self.kept:
                self.memory.pop((e, agent), None)
            return None
        before = self.memory.get((e, agent), initial_state(module))[None]
        batch = {Columns.OBS: torch.from_numpy(row)[None, None]}
        batch[Columns.STATE_IN] = unpack(before, module)
        with torch.no_grad():
            out = module.forward_inference(batch)
        self.memory[e, agent] = pack(out[Columns.STATE_OUT])[0]
        return out[Columns.ACTION_DIST_INPUTS][0, 0]

    def forget(self, e):
        self.memory = {k: x for k, x in self.memory.items() if k[0] != e}


def slow_inputs(runner, fragments):
    """(fragment, step, environment, module, agent's index) to distribution inputs."""
    slow, inputs = SlowMemory(runner), {}
    for i, f in enumerate(fragments):
        for t in range(len(f.valid)):
            for e in range(f.num_envs):
                for agent, (m, k) in slow.layout.slot_of.items():
                    row, there = f.observations[m][t, e, k], f.active[m][t, e, k]
                    out = slow.inputs(runner.module[m], e, agent, row, there)
                    if there:
                        inputs[i, t, e, m, k] = out
                if f.terminated[t, e] or f.truncated[t, e]:
                    slow.forget(e)
    return inputs


TWINS = {"agents": {"a": (3, "discrete"), "b": (2, "box"), "c": (3, "discrete")}, **CASE}


@pytest.mark.parametrize(
    ("kind", "kept", "sharing"),
    [("gru", "keep", "none"), ("gru", "reset", {"ac": "ac"}), ("lstm", "keep", {"ac": "ac"}),
     ("lstm", "reset", "none")],
)  # fmt: skip
def test_what_an_agent_remembers(kind, kept, sharing):
    """Acting, and the training pass over chunks of it, are as of an agent all by itself."""
    config = config_of(env_config=TWINS, memory=kind, kept=kept, parameter_sharing=sharing)
    learner, runner, fragments = fragments_of(config)
    slow = slow_inputs(runner, fragments)
    for (i, t, e, m, k), expected in slow.items():
        np.testing.assert_allclose(
            fragments[i].dist_inputs[m][t, e, k], expected, rtol=1e-4, atol=1e-5
        )
    other = config_of(env_config=TWINS, memory=kind, kept="keep" if kept == "reset" else "reset",
                      parameter_sharing=sharing)  # fmt: skip
    runner.config.layout = other.layout
    wrong = slow_inputs(runner, fragments)
    assert max(float((wrong[key] - x).abs().max()) for key, x in slow.items()) > 0.01

    gaps = {}
    note = learner.notes.add
    learner.notes.add = lambda m, name, value, **kw: (
        gaps.__setitem__(m, float(value)) if name == "sampler_logp_gap" else None,
        note(m, name, value, **kw),
    )
    update(learner, fragments)
    assert gaps.keys() == config.layout.groups.keys() and max(gaps.values()) < 1e-4


def test_exported_policies_remember_alike():
    for kept in ("keep", "reset"):
        config = config_of(env_config=TWINS, kept=kept)
        _, runner, (f, *_) = fragments_of(config)
        layout = config.layout
        limits = action_transforms(layout, normalize=False, clip=True)
        policies = TeamPolicies(
            layout, {m: runner.module[m] for m in layout.groups}, limits, list("abc"), "cpu"
        )
        expected = slow_inputs(runner, [f])
        for t in range(7):
            seen = {
                a: f.observations[m][t, 0, k]
                for a, (m, k) in layout.slot_of.items()
                if f.active[m][t, 0, k]
            }
            for a, u in policies.act(seen).items():
                inputs = expected[0, t, 0, a, 0]
                if a == "b":
                    np.testing.assert_allclose(u, inputs[: len(u)].clip(-1, 1), atol=1e-4)
                else:
                    assert u == int(inputs.argmax())


def test_callbacks_see_who_was_there():
    ended = []
    config = config_of(env_config={**CASE, "paid": True}, memory=None)
    config.callbacks(on_episode_end=lambda episode, **_: ended.append(episode))
    _, _, (f, *_) = fragments_of(config)
    assert len(ended) >= 2
    for e, episode in enumerate(ended[:2]):
        acted = episode.get_actions(env_steps=True, return_list=True)
        assert [set(x) for x in acted] == [{a for a in "abc" if t not in AWAY[a]} for t in range(7)]
        assert episode.get_return() == pytest.approx(f.rewards[:7, e].sum(), rel=1e-5)
        assert episode.rllib_episode().is_done


ALONE = {**CASE, "agents": {"a": (2, "discrete")}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config_of(IQLConfig, ALONE), "count as a death"),
        (lambda: config_of(NetworkedACConfig, ALONE, memory=None), "count as a death"),
        (lambda: config_of(kept="some"), "must be one of 'keep', 'reset'"),
        (lambda: config_of(memory=None, runner=MultiAgentEnvRunner), "team env runner only"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_where_agents_may_not_be_absent_the_messages_name_the_setting():
    class Undeclared(VisitingTeam):
        absences = False

    for away, message in (({"b": {0}}, "Missing after reset"), ({"b": {2}}, "left without an end")):
        case = {**CASE, "away": away, "says": ""}
        config = small_config(MAPPOConfig, Undeclared, case, num_envs=1)
        problem = make_runner(config).sample()[0].problem
        assert message in problem and "absences = True" in problem
    assert issubclass(TeamError, Exception) and not getattr(CountingTeam, "absences", False)
