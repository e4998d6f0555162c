"""How the off-policy families explore in the runner, and in exported policies."""

from types import SimpleNamespace

import numpy as np
import pytest
import runner_toys as toys
import torch
from gymnasium.spaces import Box, Discrete
from pyarrow.fs import LocalFileSystem
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam
from test_recurrent import Replay
from toys import is_allowed

from rllib_hetero import HAPPOConfig, TeamError, load_policies
from rllib_hetero.algorithms.checkpoint import export_policies
from rllib_hetero.functional import Density, SquashedGaussian
from rllib_hetero.modules.deterministic_actor import DeterministicActor
from rllib_hetero.modules.q_network import QNetwork
from rllib_hetero.modules.squashed_actor import SquashedActor

MIXED = {"a": "box", "b": "discrete", "c": "multi"}
DISCRETE = dict.fromkeys("abc", "discrete")
EQUAL = {"a": 4, "b": 4, "c": 4}


class Deterministic(HAPPOConfig):
    """Any algorithm of the family: runners know no more of it."""

    policy_family = "deterministic"
    actor = DeterministicActor


class Squashed(HAPPOConfig):
    policy_family = "squashed"
    actor = SquashedActor


class Greedy(HAPPOConfig):
    policy_family = "greedy"
    actor = QNetwork


# Family, environment, sharing, keys of the actors.
CASES = {
    "deterministic": (Deterministic, {"actions": MIXED, "dies": {"b": 2}}, "none", {}),
    "deterministic, shared": (Deterministic, {"agents": EQUAL}, {"bc": "bc"}, {}),
    "deterministic, masked": (Deterministic, {"actions": MIXED, "masked": "bc"}, "none", {}),
    "squashed": (Squashed, {"actions": MIXED, "masked": "c"}, "none", {}),
    "squashed, shared": (Squashed, {"agents": EQUAL}, "full", {}),
    "greedy": (Greedy, {"actions": DISCRETE, "masked": "bc"}, "none", {"dueling": True}),
    "greedy, shared": (Greedy, {"agents": EQUAL, "actions": DISCRETE}, "full", {}),
    "greedy, gru": (
        Greedy,
        {"actions": DISCRETE, "masked": "ab", "agents": EQUAL, "dies": {"c": 3}},
        {"ab": "ab"},
        {"recurrent": "gru", "recurrent_size": 6},
    ),
}


def config_of(case, *, num_envs=2, **settings):
    cls, env_config, sharing, model = CASES[case]
    config = toys.small(cls(), ScriptedTeam, env_config, num_envs=num_envs)
    model = {"hidden_sizes": [16], "max_seq_len": 4, **model}
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=cls.actor, model_config=model),
        model_config={"max_seq_len": 4},
    )
    config.multi_agent(parameter_sharing=sharing).update_from_dict(settings)
    config.validate()
    return config


def modules_of(config, amount):
    """The actors as a learner has them: far from their start, exploring by this amount."""
    torch.manual_seed(0)
    modules = config.get_multi_rl_module_spec().build()
    for m in config.layout.groups:
        for p in modules[m].parameters():
            p.data += 0.3 * torch.randn_like(p)
        if modules[m].exploration is not None:
            modules[m].exploration.fill_(amount)
    return modules


def runner_of(case, amount=0.3, *, blind=False, **kwargs):
    """A runner that was sent these actors' weights as learners send them.

    Blind actors give the same outputs, near 0, whatever they see.
    """
    config = config_of(case, **kwargs)
    modules = modules_of(config, amount)
    for m in config.layout.groups:
        if blind:
            modules[m].head.weight.data.zero_()
    sent = modules.get_state(inference_only=True)
    weights = {m: sent[m] for m in config.layout.groups}
    assert not [n for state in weights.values() for n in state if "target" in n]
    return toys.make_runner(config, weights=weights)


def executed(runner, agent):
    """(T, E, ...) what the environments got from an agent; NaN where it was dead."""
    columns = []
    for env in runner.env.envs:
        like = next(u[agent] for _, _, u in env.log if agent in u)
        nothing = np.full(np.shape(like), np.nan)
        columns.append([np.asarray(u.get(agent, nothing), np.float64) for _, _, u in env.log])
    return np.stack(columns, 1)


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_fragments_hold_what_was_executed_and_what_it_was_drawn_from(case, explore):
    """The modules' own outputs, masked; actions within the space, as the environment got them."""
    runner = runner_of(case, normalize_actions=explore)  # Neither of which is to play a part.
    layout, team = runner.config.layout, runner.config.layout.team
    (f,) = runner.sample(num_timesteps=24, explore=explore)
    assert f.problem is None
    if case != "greedy, gru":  # Its outputs are replayed below.
        for m in layout.groups:
            out = (
                runner.module[m]
                .forward_inference({Columns.OBS: torch.from_numpy(f.observations[m])})[
                    Columns.ACTION_DIST_INPUTS
                ]
                .numpy()
            )
            if m in f.action_masks:
                allowed = out[..., : f.action_masks[m].shape[-1]]
                allowed[~f.action_masks[m]] = np.finfo(np.float32).min
            np.testing.assert_allclose(f.dist_inputs[m], out, rtol=1e-4, atol=1e-5)
    with_density = {m for m in layout.groups if isinstance(layout.distribution(m), Density)}
    assert set(f.log_probs) == with_density
    for agent, (m, k) in layout.slot_of.items():
        dist, alive = layout.distribution(m), f.active[m][:, :, k]
        inputs, actions = f.dist_inputs[m][:, :, k], f.actions[m][:, :, k]
        got = executed(runner, agent)
        np.testing.assert_array_equal(got[alive], actions[alive])
        assert np.isnan(got[~alive]).all()
        assert all(team.action_spaces[agent].contains(u) for u in actions[alive])
        if agent in team.masked:
            for t, e in np.argwhere(alive):
                mask = f.action_masks[m][t, e, k]
                assert is_allowed(team.action_spaces[agent], mask, actions[t, e])
        greedy = dist.act(inputs, None)
        assert np.array_equal(actions, greedy) == (not explore)
        if m in with_density:
            x, u = torch.from_numpy(inputs), torch.from_numpy(actions)
            log_probs = dist.log_prob(x, u).numpy()
            np.testing.assert_allclose(f.log_probs[m][:, :, k], log_probs, rtol=1e-5)


def test_each_familys_densities():
    """Choices have probabilities in any family but the greedy one; noisy actions have none."""
    kinds = {"deterministic": {"b", "c"}, "squashed": {"a", "b", "c"}, "greedy": set()}
    for case, expected in kinds.items():
        (f,) = runner_of(case).sample(num_timesteps=4)
        assert set(f.log_probs) == expected
        assert set(f.select(range(1)).log_probs) == expected


# What is drawn.


def test_noise_has_the_scale_that_the_learner_set():
    """Standard deviation 0.1 in units of half the range, which is 0.5: independent everywhere."""
    runner = runner_of("deterministic, shared", 0.1, num_envs=5, blind=True)
    (f,) = runner.sample(num_timesteps=1500)
    means = np.concatenate([f.dist_inputs[m][..., :-1] for m in ("a", "bc")], 2)
    assert (np.abs(means) < 0.25).all()  # Five deviations from the bounds: nothing is clipped.
    assert all((f.dist_inputs[m][..., -1] == np.float32(0.1)).all() for m in ("a", "bc"))
    z = (np.concatenate([f.actions[m] for m in ("a", "bc")], 2) - means) / 0.05
    assert abs(z.mean()) < 5 / z.size**0.5 and abs(z.std() - 1) < 5 / (2 * z.size) ** 0.5
    for one, other in (
        (z[:, 0], z[:, 1]),  # environments
        (z[:, :, 0], z[:, :, 1]),  # agents
        (z[:, :, 1], z[:, :, 2]),  # agents of one module
        (z[:-1], z[1:]),  # steps
        (z[..., 0], z[..., 1]),  # components
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / one.size**0.5


def test_a_scale_of_zero_and_an_epsilon_of_zero_are_greedy():
    for case in ("deterministic, shared", "greedy"):
        runner = runner_of(case, 0.0)
        (f,) = runner.sample(num_timesteps=20, explore=True)
        for m in f.actions:
            dist = runner.config.layout.distribution(m)
            assert np.array_equal(f.actions[m], dist.act(f.dist_inputs[m], None))


@pytest.mark.parametrize("epsilon", [0.25, 1.0])
def test_epsilon_is_drawn_for_each_environment_agent_and_step(epsilon):
    runner = runner_of("greedy", epsilon, num_envs=4)
    (f,) = runner.sample(num_timesteps=3000)
    off = {}
    for m in f.actions:
        dist = runner.config.layout.distribution(m)
        best = dist.act(f.dist_inputs[m], None)[..., 0]
        allowed = np.ones((*best.shape, 4), bool)
        if m in f.action_masks:
            allowed = f.action_masks[m][..., 0, :]
        off[m] = f.actions[m][..., 0] != best
        # Exploring picks the best choice again with probability 1 / allowed.
        p = epsilon * (1 - 1 / allowed.sum(-1))
        error = 5 * np.sqrt((p * (1 - p)).sum()) / p.size
        assert abs(off[m].mean() - p.mean()) < error
        counts = np.bincount(f.actions[m].ravel(), minlength=4)
        assert (counts > 0).sum() == 4
    moves = np.stack(list(off.values()), -1).astype(float)  # (T, E, agents)
    for one, other in (
        (moves[:, 0], moves[:, 1]),
        (moves[..., 0], moves[..., 1]),
        (moves[:-1], moves[1:]),
    ):
        # Masks change with the clock and so does p: up to a twentieth of it is common to all.
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05 + 5 / one.size**0.5


def test_squashed_samples_spread_as_their_density_says():
    runner = runner_of("squashed, shared", num_envs=4, blind=True)
    (f,) = runner.sample(num_timesteps=2000)
    (m,) = f.actions
    dist = runner.config.layout.distribution(m)
    assert dist == SquashedGaussian((-0.5, -0.5), (0.5, 0.5))
    mean, log_std = np.split(f.dist_inputs[m], 2, -1)
    z = (np.arctanh(f.actions[m] / 0.5) - mean) * np.exp(-log_std)
    assert np.isfinite(z).all() and np.abs(log_std).max() < 0.7
    assert abs(z.mean()) < 5 / z.size**0.5 and abs(z.std() - 1) < 5 / (2 * z.size) ** 0.5


def test_noise_follows_from_the_seed_and_the_number_of_the_call():
    def two_calls(**kwargs):
        runner = runner_of("deterministic, shared", **kwargs)
        return [runner.sample(num_timesteps=10)[0].actions["a"] for _ in range(2)]

    first, again, other = two_calls(), two_calls(), two_calls(seed=4)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[0], other[0])


# Warm-up.


def warm(case, *, num_timesteps=40, **kwargs):
    runner = toys.make_runner(config_of(case, **kwargs))
    return runner.sample(num_timesteps=num_timesteps, random_actions=True)[0]


@pytest.mark.parametrize("case", ["deterministic", "squashed", "greedy", "greedy, gru"])
def test_warm_up_is_repeatable_from_the_seed_and_differs_everywhere_else(case):
    one, same, other = warm(case), warm(case), warm(case, seed=4)
    assert one.problem is None
    for m, actions in one.actions.items():
        assert np.array_equal(actions, same.actions[m])
        assert not np.array_equal(actions, other.actions[m])
        steps = actions.reshape(*actions.shape[:3], -1)
        assert not np.array_equal(steps[:, 0], steps[:, 1])  # environments
        assert (steps.std(0) > 0).all()  # steps
        if steps.shape[2] > 1:
            assert not np.array_equal(steps[:, :, 0], steps[:, :, 1])  # agents


def test_warm_up_goes_on_from_call_to_call():
    runner = toys.make_runner(config_of("deterministic"))
    one, two = (runner.sample(num_timesteps=10, random_actions=True)[0] for _ in range(2))
    assert not np.array_equal(one.actions["a"], two.actions["a"])


def test_warm_up_is_uniform_within_bounds_and_masks():
    """Box: moments of a uniform number; choices: equal shares of what the mask allows."""
    f = warm("squashed", num_timesteps=800)
    x = f.actions["a"] / 0.5  # Uniform on [-1, 1].
    assert np.abs(x).max() <= 1.0
    assert abs(x.mean()) < 5 * (1 / 3 / x.size) ** 0.5
    # Var(x^2) = 1/5 - 1/9.
    assert abs((x**2).mean() - 1 / 3) < 5 * ((1 / 5 - 1 / 9) / x.size) ** 0.5
    f = warm("greedy", num_timesteps=800)
    for m in "bc":
        mask, actions = f.action_masks[m][..., 0, :], f.actions[m][..., 0]
        expected = mask / mask.sum(-1, keepdims=True)
        chosen = np.eye(4)[actions]
        assert (chosen <= mask).all()
        error = 5 * np.sqrt((expected * (1 - expected)).sum((0, 1))) / actions.size
        assert (np.abs((chosen - expected).mean((0, 1))) <= error).all()


def test_the_environment_gets_the_random_actions_as_they_are():
    runner = toys.make_runner(config_of("deterministic"))
    (f,) = runner.sample(num_timesteps=20, random_actions=True)
    got, alive = executed(runner, "a"), f.active["a"][:, :, 0]
    np.testing.assert_array_equal(got[alive], f.actions["a"][:, :, 0][alive])


# Recurrent values.


def test_recurrent_values_equal_a_replay():
    runner = runner_of("greedy, gru")
    replay = Replay(runner)
    for steps in (9, 12):  # The second begins within an episode and within a sequence.
        (f,) = runner.sample(num_timesteps=2 * steps)
        assert f.problem is None
        assert f.states["ab"].shape == (-(-steps // 4), 2, 2, 6)
        assert replay.check(f) == f.agent_steps()
    assert np.abs(f.states["ab"]).max() > 0.01


# Exported policies.


def exported(case, amount, folder):
    """A checkpoint's policies, written from a learner's modules without an algorithm."""
    config = config_of(case, num_envs=1)
    modules = modules_of(config, amount)

    def get_state(*, components, inference_only):
        names = [c.split("/")[-1] for c in components]
        state = modules.get_state(inference_only=inference_only)
        return {COMPONENT_LEARNER: {COMPONENT_RL_MODULE: {m: state[m] for m in names}}}

    algo = SimpleNamespace(
        config=config,
        learner_group=SimpleNamespace(get_state=get_state),
        training_iteration=0,
    )
    export_policies(algo, str(folder), LocalFileSystem())
    weights = {m: modules[m].get_state(inference_only=True) for m in config.layout.groups}
    return load_policies(folder), toys.make_runner(config, weights=weights)


@pytest.mark.parametrize("case", CASES)
def test_loaded_policies_act_as_the_runner_does(case, tmp_path):
    """Greedily, through whole episodes; exploring, they leave it and stay within the space."""
    policies, runner = exported(case, 0.5, tmp_path)
    (f,) = runner.sample(num_timesteps=10, explore=False, force_reset=True)
    layout = runner.config.layout
    left = dict.fromkeys(layout.team.agents, 0)
    policies.seed(0)
    for explore in (False, True):
        for t in range(10):
            if t % 5 == 0:
                policies.reset()
            observations, expected = {}, {}
            for agent, (m, k) in layout.slot_of.items():
                if not f.active[m][t, 0, k]:
                    continue
                x = f.observations[m][t, 0, k, : layout.team.observation_spaces[agent].shape[0]]
                if agent in layout.team.masked:
                    mask = f.action_masks[m][t, 0, k]
                    x = {"observations": x, "action_mask": mask.astype(np.int8)}
                observations[agent], expected[agent] = x, f.actions[m][t, 0, k]
            actions = policies.act(observations, explore=explore)
            for agent, u in actions.items():
                space = layout.team.action_spaces[agent]
                assert space.contains(u)
                if agent in layout.team.masked:
                    assert is_allowed(space, observations[agent]["action_mask"], u)
                if explore:
                    left[agent] += not np.allclose(u, expected[agent], atol=1e-4)
                else:
                    np.testing.assert_allclose(u, expected[agent], atol=1e-5)
    assert all(count > 0 for count in left.values())


def test_loaded_policies_explore_by_the_amount_that_was_saved(tmp_path):
    policies, _ = exported("deterministic, shared", 0.1, tmp_path)
    policies.seed(1)
    rows = np.zeros((4000, 4), np.float32)
    greedy = policies.act_batch(["b"] * 4000, rows)
    assert (np.abs(greedy) < 0.25).all()  # Not clipped below.
    z = (policies.act_batch(["b"] * 4000, rows, explore=True) - greedy) / 0.05
    assert abs(z.mean()) < 5 / z.size**0.5 and abs(z.std() - 1) < 5 / (2 * z.size) ** 0.5


# Refusals.


class Spaces(ScriptedTeam):
    """A team whose agent b has the action space of the config."""

    def __init__(self, config=None):
        super().__init__()
        self.action_spaces = dict(self.action_spaces, b=config["space"])
        if config.get("all"):
            self.action_spaces = dict.fromkeys(self.action_spaces, config["space"])


UNBOUNDED = Box(np.float32([-np.inf, 0]), np.float32([1, 1]))


@pytest.mark.parametrize(
    ("cls", "space", "match"),
    [
        (Deterministic, UNBOUNDED, "agent 'b'.*tanh needs bounds.*Wrap the environment.*HAPPO"),
        (Squashed, UNBOUNDED, "agent 'b'.*tanh needs bounds.*Wrap the environment.*HAPPO"),
        (Squashed, Box(np.float32([0, 1]), np.float32([1, 1])), "agent 'b'.*without room"),
        (Greedy, toys.ACTIONS["multi"], "agent 'a'.*Discrete.*HASAC, MASAC, HADDPG, HATD3"),
        (Greedy, Discrete(4), "agent 'a'.*Box.*HASAC, MASAC, HADDPG, HATD3"),
    ],
)
def test_spaces_without_a_distribution_are_refused_early(cls, space, match):
    config = toys.small(cls(), Spaces, {"space": space, "all": space is toys.ACTIONS["multi"]})
    with pytest.raises(TeamError, match=match):
        config.validate()


@pytest.mark.parametrize("cls", [Deterministic, Squashed, Greedy])
def test_the_stock_runner_is_refused(cls):
    env_config = {"actions": DISCRETE}
    config = toys.small(cls(), ScriptedTeam, env_config, env_runner_cls=MultiAgentEnvRunner)
    with pytest.raises(ValueError, match=r"explores.*remove config\.env_runners\(env_runner_cls"):
        config.validate()
