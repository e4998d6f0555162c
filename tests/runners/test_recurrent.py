"""Recurrent policies: what the runner stores is what a slow replay of the episodes gives."""

import uuid

import numpy as np
import pytest
import runner_toys as toys
import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam
from toys import MemoryTeam

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.memory import initial_state, pack, state_size, unpack
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner

L = 4
MIXED = {"a": "box", "b": "discrete", "c": "multi"}
EQUAL = {"a": 4, "b": 4, "c": 4}


def runner_of(env_config=None, kind="gru", *, env=ScriptedTeam, sharing="none", spec=None, **more):
    config = toys.small(HAPPOConfig(), env, env_config, num_envs=more.pop("num_envs", 2))
    config.multi_agent(parameter_sharing=sharing)
    model = {"hidden_sizes": [16, 9], "actor_head_gain": 0.5, "recurrent": kind, "max_seq_len": L}
    config.rl_module(model_config=model)
    if spec is not None:
        config.rl_module(rl_module_spec=spec, model_config={"max_seq_len": L})
    config.fault_tolerance(restart_failed_sub_environments=True).update_from_dict(more)
    config.validate()
    torch.manual_seed(0)
    return toys.make_runner(config, weights=toys.actor_weights(toys.make_modules(config)))


class Replay:
    """One step after another, agent by agent, with the modules' own forward pass."""

    def __init__(self, runner):
        self.modules, self.layout = runner.module, runner.config.layout
        self.states = {}  # (environment, agent) to its packed state
        self.failed = set()  # (step, environment)

    def check(self, fragment):
        """Compares the inputs that a distribution had, and the stored states; returns how many."""
        compared = 0
        for e in range(fragment.num_envs):
            begun = (e, self.layout.team.agents[0]) in self.states
            assert fragment.continues[e] == begun
            for t in range(len(fragment.valid)):
                if (t, e) in self.failed:  # the episode was cut in the row before
                    continue
                for m, agents in self.layout.groups.items():
                    for k, agent in enumerate(agents):
                        compared += self._step(fragment, t, e, m, k, agent)
                if fragment.terminated[t, e] or fragment.truncated[t, e]:
                    self._forget(e)
        return compared

    def _forget(self, e):
        self.states = {key: s for key, s in self.states.items() if key[0] != e}

    def _step(self, f, t, e, m, k, agent):
        module = self.modules[m]
        x = torch.from_numpy(f.observations[m][t, e, k])
        size = state_size(module)
        state = self.states.get((e, agent), initial_state(module))
        if not size:
            assert m not in f.states
            out = module.forward_inference({Columns.OBS: x[None]})
            inputs = out[Columns.ACTION_DIST_INPUTS][0]
        else:
            if t % L == 0 and f.active[m][t, e, k]:
                stored = f.states[m][t // L, e, k]
                np.testing.assert_allclose(stored, state, rtol=1e-4, atol=1e-4)
            batch = {Columns.OBS: x[None, None], Columns.STATE_IN: unpack(state[None], module)}
            out = module.forward_inference(batch)
            inputs = out[Columns.ACTION_DIST_INPUTS][0, 0]
            state = pack(out[Columns.STATE_OUT])[0].detach()
        self.states[e, agent] = state
        if not f.active[m][t, e, k]:
            return 0
        stored = f.dist_inputs[m][t, e, k]
        allowed = np.ones(len(stored), bool)
        if m in f.action_masks:  # An epsilon lies behind the values that are masked.
            mask = f.action_masks[m][t, e, k]
            allowed[: len(mask)] = mask
        np.testing.assert_allclose(stored[allowed], inputs.detach()[allowed], rtol=1e-4, atol=1e-4)
        return 1


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize(
    ("case", "sharing"),
    [
        ({"actions": MIXED}, "none"),
        ({"actions": MIXED, "dies": {"b": 2}, "ends": "alternate"}, "none"),
        ({"agents": EQUAL, "lengths": [3, 7]}, "none"),  # one stack
        ({"agents": EQUAL, "lengths": [3, 7], "dies": {"c": 2}}, "full"),
        ({"agents": EQUAL, "masked": "bc", "actions": MIXED | {"b": "multi"}}, {"bc": "bc"}),
    ],
    ids=str,
)
def test_fragments_equal_a_replay(case, sharing, kind):
    """Over two calls, of which the second begins within an episode and within a sequence."""
    runner = runner_of(case, kind, sharing=sharing)
    replay = Replay(runner)
    units = 9 if kind == "gru" else 18
    for steps in (9, 12):
        (f,) = runner.sample(num_timesteps=2 * steps)
        assert f.problem is None
        for m, agents in runner.config.layout.groups.items():
            assert f.states[m].shape == (-(-steps // L), 2, len(agents), units)
            assert f.states[m].dtype == np.float32
        assert replay.check(f) == f.agent_steps()
    assert f.continues.any() and np.abs(f.states[m]).max() > 0.01


def unequal_modules():
    """Of one stack: unequal kinds and sizes, one of them without a memory."""
    models = {"a": ("gru", 4), "b": ("lstm", 3), "c": (None, None)}
    return MultiRLModuleSpec(
        rl_module_specs={
            m: RLModuleSpec(
                module_class=TeamActor,
                model_config={"hidden_sizes": [8], "recurrent": kind, "recurrent_size": size},
            )
            for m, (kind, size) in models.items()
        }
    )


def test_modules_with_memories_of_unequal_size():
    runner = runner_of({"agents": EQUAL}, spec=unequal_modules())
    assert runner.config.layout.stacks == (("a", "b", "c"),)
    replay = Replay(runner)
    for steps in (7, 6):
        (f,) = runner.sample(num_timesteps=2 * steps)
        assert {m: x.shape[-1] for m, x in f.states.items()} == {"a": 4, "b": 6}
        assert replay.check(f) == f.agent_steps()


def test_after_a_failure_the_memory_is_new():
    case = {"fail": "step", "fail_at": (0, 1, 2), "fail_key": uuid.uuid4().hex}
    runner = runner_of(case)
    replay = Replay(runner)
    replay.failed = {(7, 0)}
    (f,) = runner.sample(num_timesteps=24)
    assert np.argwhere(~f.valid).tolist() == [[7, 0]]
    assert replay.check(f) == f.agent_steps()
    assert (f.states["a"][2, 0] == 0).all() and (f.states["a"][2, 1] != 0).any()


def test_evaluation_and_fresh_resets():
    runner = runner_of({"lengths": [3, 7], "ends": "terminate"})
    runner.sample(num_timesteps=8)
    for _ in range(2):  # every call starts afresh
        fragments = runner.sample(num_episodes=3, explore=False)
        replay = Replay(runner)
        for f in fragments:
            replay.check(f)
    (f,) = runner.sample(num_timesteps=8, force_reset=True)
    assert not f.continues.any() and (f.states["a"][0] == 0).all()
    runner.set_state(runner.get_state())  # gives up the episodes under way
    (f,) = runner.sample(num_timesteps=8)
    assert Replay(runner).check(f) == f.agent_steps()


def test_rollouts_are_numbered():
    runner = runner_of(num_envs=3)
    first, second = (runner.sample(num_timesteps=6)[0] for _ in range(2))
    assert first.source == (0, 0) and second.source == (0, 1)
    assert first.continues.tolist() == [False] * 3 and second.continues.tolist() == [True] * 3
    part = second.select(range(1, 3)).select(range(1, 2))
    assert part.source == (0, 1) and part.first_env == 2
    assert part.continues.tolist() == [True]
    assert np.array_equal(part.states["b"], second.states["b"][:, 2:])


def test_feed_forward_teams_have_no_states():
    (f,) = runner_of(kind=None).sample(num_timesteps=8)
    assert f.states == {} and f.action_masks == {} and f.continues.tolist() == [False, False]


def test_a_memory_can_be_used():
    """The toy's best policy answers with what it saw first: with a memory alone."""
    runner = runner_of({"length": 3}, env=MemoryTeam)
    (f,) = runner.sample(num_timesteps=2 * 9, explore=False)
    first = f.observations["a"][::3, :, 0, 0]
    assert set(np.unique(first)) == {-1.0, 1.0} and (f.observations["a"][2::3, :, 0, 0] == 0).all()
    answers = [f.dist_inputs["a"][2::3][first == bit] for bit in (-1.0, 1.0)]
    assert all(np.allclose(x, x[0], rtol=1e-4, atol=1e-4) for x in answers)
    assert not np.allclose(answers[0][0], answers[1][0], atol=1e-3)
    assert f.rewards.max() <= 2.0 and (f.rewards[f.terminated].sum() == f.rewards.sum())


# ---- what is refused ------------------------------------------------------------------------


def test_the_stock_runner_has_no_memory():
    config = toys.small(HAPPOConfig(), env_runner_cls=MultiAgentEnvRunner)
    with pytest.raises(ValueError, match=r"team env runner only.*env_runners\(env_runner_cls"):
        config.rl_module(model_config={"recurrent": "gru"}).validate()
    config = toys.small(HAPPOConfig(), ScriptedTeam, {"agents": EQUAL},
                        env_runner_cls=MultiAgentEnvRunner)  # fmt: skip
    config.rl_module(rl_module_spec=unequal_modules()).validate()
    with pytest.raises(TeamError, match=r"\['a', 'b'\] keep a state.*team env runner only"):
        StockTeamEnvRunner(config=config, worker_index=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"recurrent": "rnn"}, r"'rnn', .*; None, 'gru' or 'lstm'.*model_config=\{'recurrent'"),
        ({"critic_recurrent": "rnn"}, r"'rnn'.*model_config=\{'critic_recurrent'"),
        ({"recurrent_size": 0}, r"`recurrent_size` is 0, .* or None.*'recurrent_size'"),
        ({"max_seq_len": 0}, r"`max_seq_len` is 0, .*model_config=\{'max_seq_len'"),
    ],
)
def test_settings_are_checked(model, message):
    config = toys.small(HAPPOConfig())
    with pytest.raises(ValueError, match=message):
        config.rl_module(model_config=model).validate()


def test_length_of_sequences():
    config = toys.small(HAPPOConfig())
    assert config.max_seq_len == 10  # RLlib's name; HARL's length
    assert config.rl_module(model_config={"max_seq_len": 7}).max_seq_len == 7
