"""Settings of the off-policy algorithms that cannot be meant: one clear error, from validate()."""

import math

import numpy as np
import pytest
import toys
from gymnasium.spaces import Box
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from rllib_hetero import (
    HADDPGConfig,
    HASACConfig,
    HATD3Config,
    IQLConfig,
    MAACConfig,
    MASACConfig,
    MATD3Config,
    QMIXConfig,
    TeamError,
    VDNConfig,
)


class Unbounded(toys.TargetTeam):
    """The second agent's actions have no bounds."""

    def __init__(self, config=None):
        super().__init__(config)
        self.action_spaces["p1"] = Box(-np.inf, np.inf, (2,), np.float32)


class Upwards(toys.TargetTeam):
    """The second agent's actions have lower bounds only."""

    def __init__(self, config=None):
        super().__init__(config)
        self.action_spaces["p1"] = Box(0.0, np.inf, (2,), np.float32)


def config(cls=HATD3Config, env=toys.TargetTeam, **training):
    settings = {
        "train_batch_size_per_learner": 32,
        "num_steps_sampled_before_learning_starts": 40,
        "replay_buffer_config": {"capacity": 400},
    }
    return (
        cls()
        .environment(env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=10)
        .training(**settings | training)
    )


def choosing(cls=QMIXConfig, **training):
    """Of stretches of 25 steps."""
    env = {"agents": {"p0": (2, "three"), "p1": (3, "discrete")}}
    settings = {"train_batch_size_per_learner": 100}
    return config(cls, toys.CountingTeam, **settings | training).environment(env_config=env)


CAPACITY = r"config\.training\(replay_buffer_config=\{'capacity': "


def held(capacity, **training):
    return lambda: config(replay_buffer_config={"capacity": capacity}, **training)


CASES = {
    "minibatch larger than the replay": (
        held(400, train_batch_size_per_learner=401),
        rf"401 transitions.*only 400.*{CAPACITY}.*config\.training\(train_batch_size_per_learner=",
    ),
    "minibatch of all learners larger than the replay": (
        lambda: held(400, train_batch_size_per_learner=201)().learners(num_learners=2),
        rf"402 transitions.*only 400.*{CAPACITY}.*config\.training\(train_batch_size_per_learner=",
    ),
    "n-step longer than the ring": (
        held(400, n_step=100),
        rf"`n_step` 100 need more than the 100 steps.*{CAPACITY}.*config\.training\(n_step=",
    ),
    "rollout longer than the ring": (
        held(39, num_steps_sampled_before_learning_starts=0),
        rf"room for 9 steps of each of the 4.*{CAPACITY}.*config\.env_runners\(rollout_fragment",
    ),
    "start after the replay has wrapped": (
        held(400, num_steps_sampled_before_learning_starts=401),
        rf"starts after 401 steps.*{CAPACITY}.*num_steps_sampled_before_learning_starts=",
    ),
    **{
        f"capacity {capacity!r}": (held(capacity), rf"capacity must be an integer.*{CAPACITY}")
        for capacity in (0, -1, 1e6, "x", True, None)
    },
    "unknown keys of the replay": (
        lambda: config(replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer"}),
        r"Unknown keys \['type'\] in config\.training\(replay_buffer_config=.*'capacity'",
    ),
    "no dict for the replay": (
        lambda: config(replay_buffer_config=1000),
        r"`replay_buffer_config` must be a dict.*'capacity'.*got 1000.*config\.training\(",
    ),
    **{
        f"{key} of the replay: {value!r}": (
            lambda key=key, value=value: config(
                replay_buffer_config={"capacity": 400, "alpha": 0.5, key: value}
            ),
            rf"`{key}` of the replay.*\[0, 1\], got .*config\.training\(replay_buffer_config=",
        )
        for key, value in [("alpha", 1.5), ("alpha", "x"), ("alpha", True), ("beta", -0.1)]
    },
    "stretches of episodes by priority": (
        lambda: (
            config(VDNConfig, toys.CountingTeam, replay_buffer_config={"alpha": 0.6})
            .environment(env_config={"agents": {"a": (3, "discrete"), "b": (4, "three")}})
            .rl_module(model_config={"max_seq_len": 5})
        ),
        r"drawn uniformly.*config\.training\(replay_buffer_config=\{'alpha': ",
    ),
    "larger than the memory": (
        held(10**12),
        rf"A full replay takes .* GiB of memory are free.*{CAPACITY}.*'folder'",
    ),
    "a word for replay_in_checkpoint": (
        lambda: config(replay_in_checkpoint="always"),
        r"`replay_in_checkpoint` is 'always', .* True or False or None.*config\.training\(",
    ),
    "overlap in one process": (
        lambda: config(overlap=True),
        r"`overlap`.*config\.env_runners\(num_env_runners=1\).*config\.training\(overlap=True\)",
    ),
    "a word for overlap": (
        lambda: config(overlap="always").env_runners(num_env_runners=1),
        r"`overlap` is 'always', but must be True or False.*config\.training\(overlap=",
    ),
    "minibatch_size": (
        lambda: config(minibatch_size=16),
        r"`minibatch_size` has no meaning.*config\.training\(train_batch_size_per_learner=",
    ),
    "whole episodes": (
        lambda: config().env_runners(batch_mode="complete_episodes"),
        r"fixed number of steps.*config\.env_runners\(batch_mode=",
    ),
    "length of a rollout left open": (
        lambda: config().env_runners(rollout_fragment_length="auto"),
        r"`rollout_fragment_length`.*'auto'.*config\.env_runners\(rollout_fragment_length=",
    ),
    "stock runner": (
        lambda: config().env_runners(env_runner_cls=MultiAgentEnvRunner),
        r"team env runner only.*config\.env_runners\(env_runner_cls=",
    ),
    **{
        f"{key} of {cls.__name__}": (
            lambda cls=cls, key=key: config(cls).rl_module(model_config={key: "gru"}),
            rf"Unknown keys \['{key}'\] in config\.rl_module\(model_config=",
        )
        for cls in (HADDPGConfig, HASACConfig)
        for key in ("recurrent", "critic_recurrent")
    },
    **{
        f"{env.__name__} actions of {cls.__name__}": (
            lambda cls=cls, env=env: config(cls, env),
            r"agent 'p1'.*no finite bounds.*tanh needs bounds.*Wrap the environment",
        )
        for cls in (HADDPGConfig, MATD3Config, HASACConfig, MASACConfig)
        for env in (Unbounded, Upwards)
    },
    **{
        f"{cls.__name__}: {name} = {value!r}": (
            lambda cls=cls, name=name, value=value: config(cls, **{name: value}),
            rf"`{name}` is .*, but must be an? .*config\.training\({name}=",
        )
        for cls, name, values in [
            (HADDPGConfig, "tau", (0, -0.1, 1.01, math.nan, "x", None)),
            (HADDPGConfig, "gamma", (-0.1, 1.1)),
            (HADDPGConfig, "n_step", (0, 1.5, True)),
            (HADDPGConfig, "training_intensity", (0, -2, None)),
            (HADDPGConfig, "num_steps_sampled_before_learning_starts", (-1, 0.5)),
            (HADDPGConfig, "target_network_update_freq", (0, 1.5)),
            (HADDPGConfig, "td_huber_delta", (0, -0.5)),
            (HADDPGConfig, "policy_delay", (0, 2.0)),
            (HADDPGConfig, "actor_num_epochs", (0,)),
            (HADDPGConfig, "gumbel_temperature", (0, -0.5)),
            (HADDPGConfig, "exploration_noise", (-0.1, "x", None, [], [[0, 0.1]])),
            (HADDPGConfig, "exploration_noise", ([[0, 0.1], [9, -0.1]], [[5, 0.1], [9, 0.1]])),
            (HATD3Config, "target_noise", (-0.1, "x")),
            (HATD3Config, "target_noise_clip", (-0.1, None)),
            (HASACConfig, "initial_alpha", (0, -0.5)),
            (HASACConfig, "alpha_lr", (-0.1, "x", [[0, 0.1]])),
            (HASACConfig, "target_entropy", ("x", None)),
            (HASACConfig, "target_entropy_fraction", (-0.1, 1.1)),
        ]
        for value in values
    },
    **{
        f"{kind} actions of {cls.__name__}": (
            lambda cls=cls, kind=kind: choosing(cls).environment(
                env_config={"agents": {"p0": (2, "discrete"), "p1": (3, kind)}}
            ),
            rf"agent 'p1'.*{word}.*Discrete",
        )
        for cls in (QMIXConfig, VDNConfig, IQLConfig, MAACConfig)
        for kind, word in (("box", "Box"), ("multi", "MultiDiscrete"))
    },
    **{
        f"{name} = {value!r} of a value decomposition": (
            lambda name=name, value=value: choosing(**{name: value}),
            rf"`{name}` .*must be .*config\.training\({name}=",
        )
        for name, values in [
            ("epsilon", (-0.1, 1.1, "x", None, [[0, 1.0], [9, 1.5]])),
            ("lambda_", (-0.1, 1.1, None)),
            ("double_q", (1, "x")),
        ]
        for value in values
    },
    **{
        f"nothing to train for {cls.__name__}": (
            lambda cls=cls: choosing(cls).multi_agent(policies_to_train=[]),
            r"names none.*nothing else to train.*\['p0', 'p1'\].*policies_to_train=\[",
        )
        for cls in (VDNConfig, IQLConfig)
    },
    "n-step of stretches": (
        lambda: choosing(n_step=3),
        r"TD\(lambda\).*config\.training\(n_step=3\).*config\.training\(lambda_=",
    ),
    "stretches longer than the ring": (
        lambda: (
            choosing()
            .rl_module(model_config={"max_seq_len": 101})
            .training(train_batch_size_per_learner=400)
        ),
        rf"`max_seq_len` 101 steps need more than the 100.*{CAPACITY}.*'max_seq_len'",
    ),
    "stretches longer than a minibatch": (
        lambda: choosing(train_batch_size_per_learner=24),
        r"24 transitions.*`max_seq_len` 25.*train_batch_size_per_learner=.*'max_seq_len'",
    ),
    "settings of the mixer without one": (
        lambda: choosing(VDNConfig).rl_module(model_config={"mixing_embed_dim": 8}),
        r"Unknown keys \['mixing_embed_dim'\] in config\.rl_module\(model_config=",
    ),
    "a critic that remembers": (
        lambda: choosing().rl_module(model_config={"critic_recurrent": "gru"}),
        r"Unknown keys \['critic_recurrent'\] in config\.rl_module\(model_config=",
    ),
    **{
        f"MAAC: {name} = {value!r}": (
            lambda name=name, value=value: choosing(MAACConfig, **{name: value}),
            rf"`{name}` .*must be .*config\.training\({name}=",
        )
        for name, values in [
            ("alpha", (-0.1, "x", None)),
            ("attention_reg", (-1,)),
            ("logit_reg", ("x",)),
            ("critic_weight_decay", (-1e-3,)),
            ("critic_grad_clip", (0, "x")),
            ("scale_attention_gradients", (1,)),
            ("standardize_rewards", ("yes",)),
        ]
        for value in values
    },
    "returns of standardised rewards": (
        lambda: choosing(MAACConfig, n_step=3),
        r"standardised one by one.*`n_step` 3.*config\.training\(n_step=.*standardize_rewards=",
    ),
    "heads that do not share the units evenly": (
        lambda: choosing(MAACConfig).rl_module(model_config={"attention_size": 30}),
        r"`attention_size` 30.*multiple of `num_attention_heads` 4.*config\.rl_module\(",
    ),
    "an actor of MAAC that remembers": (
        lambda: choosing(MAACConfig).rl_module(model_config={"recurrent": "gru"}),
        r"Unknown keys \['recurrent'\] in config\.rl_module\(model_config=",
    ),
    "noise of some modules only": (
        lambda: config(exploration_noise={"p0": 0.1}),
        r"`exploration_noise` names \['p0'\].*\['p0', 'p1'\].*config\.training\(exploration_noise=",
    ),
    "an order of another name": (
        lambda: config(update_order="sorted"),
        r"`update_order` is 'sorted'.*'random', 'cyclic'.*config\.training\(update_order=",
    ),
    **{
        f"{name} of all at once": (
            lambda name=name, value=value: config(MATD3Config, **{name: value}),
            rf"MATD3 updates all actors at once.*config\.training\(.*{name}=",
        )
        for name, value in (("update_order", "cyclic"), ("actor_num_epochs", 2))
    },
}


@pytest.mark.parametrize("case", CASES)
def test_settings(case):
    make, message = CASES[case]
    with pytest.raises((ValueError, TeamError), match=f"(?s){message}"):
        make().validate()


@pytest.mark.parametrize("cls", [HADDPGConfig, HATD3Config, HASACConfig, MASACConfig, MATD3Config])
def test_the_settings_around_are_good(cls):
    """The tests above fail for their own reasons."""
    config(cls).validate()


@pytest.mark.parametrize("cls", [QMIXConfig, VDNConfig, IQLConfig])
def test_the_settings_around_stretches_are_good(cls):
    choosing(cls).validate()


def test_a_mixer_may_be_trained_alone():
    choosing(QMIXConfig).multi_agent(policies_to_train=[]).validate()


def test_amounts_of_noise_may_differ_and_change():
    noise = {"p0": 0.1, "p1": [[0, 0.5], [1_000, 0.05]]}
    config(exploration_noise=noise, tau=1.0, target_network_update_freq=100).validate()
