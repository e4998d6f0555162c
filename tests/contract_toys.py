"""Small configs of every registered algorithm, and what is asked of what they have trained."""

import numpy as np
import pytest
import toys

from rllib_hetero import ALGORITHMS

# Two agents; both must choose their second action. Nothing else pays.
TOGETHER = [[0.0, 0.0], [0.0, 1.0]]


def config_for(
    name, env=toys.MatrixTeam, env_config=None, *, steps=80, updates=4, model=None, **training
):  # fmt: skip
    """A small config; an iteration is so many steps of 8 environments, and so many updates of
    those that learn from a replay. The defaults show what works, not what is learned.
    """
    config = ALGORITHMS[name].get_default_config()
    if is_on_policy(name):
        settings = on_policy(config, steps)
    else:
        settings = off_policy(config, steps, updates)
    if is_decentralised(name):
        settings, model = decentralised(config, settings, model, steps, updates)
    return (
        config.environment(env, env_config=env_config or {"payoff": TOGETHER, "length": 5})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .rl_module(model_config={"hidden_sizes": [32]} | stretches(config) | (model or {}))
        .training(**settings | training)
        .debugging(seed=0)
    )


def on_policy(config, steps):
    # Methods that take one step from each batch make it a long one.
    lr = 3e-3 if config.num_epochs > 1 else 2e-2
    return {"train_batch_size_per_learner": steps, "lr": lr, "entropy_coeff": 0.0}


def off_policy(config, steps, updates):
    """Settings of so many updates an iteration, but for the first, of which half is random."""
    config.env_runners(rollout_fragment_length=steps // 8)
    settings = {
        "train_batch_size_per_learner": 32,
        "training_intensity": updates * 32 / steps,
        "num_steps_sampled_before_learning_starts": steps // 2,
        "replay_buffer_config": {"capacity": 10_000},
        "lr": 3e-3, "critic_lr": 1e-2, "tau": 0.1, "gamma": 0.5,
    }  # fmt: skip
    if hasattr(config, "initial_alpha"):  # Little entropy: the best return is that of no entropy.
        settings |= {"initial_alpha": 0.02, "alpha_lr": None}
    if stretches(config):  # Neither random for long, nor with old targets.
        settings |= {"epsilon": 0.05, "target_network_update_freq": 1}
    return settings


def decentralised(config, settings, model, steps, updates):
    """All agents in this process, with small models of each other."""
    config.learners(agents_per_learner=None).other_agents(
        trajectories=8, trajectories_per_update=4, trajectory_length=4, history=2, batch_size=32,
        recent_steps=200, update_interval=8, memory_size=8, hidden_size=16,
    )  # fmt: skip
    settings["training_intensity"] /= 2  # Each agent makes these updates.
    if "temperature" in vars(config):
        settings["temperature"] = 0.02
    if hasattr(config, "lambda_"):  # What it learns from is what was done in this iteration.
        del settings["replay_buffer_config"]
        settings |= {"train_batch_size_per_learner": steps, "training_intensity": updates / 4}
        settings["num_steps_sampled_before_learning_starts"] = 0
    if "attention_size" in config.model_defaults:
        model = {"attention_size": 16} | (model or {})
    return settings, model


def stretches(config):
    """Of those that learn from stretches of episodes, how long they are."""
    return {"max_seq_len": 4} if hasattr(config, "sequences_per_update") else {}


def is_on_policy(name):
    return capabilities_of(name).family == "on-policy"


def is_decentralised(name):
    return capabilities_of(name).family == "decentralised"


def weights_of(algo):
    state = algo.learner_group.get_weights()
    return {(m, n): np.asarray(x) for m, part in state.items() for n, x in part.items()}


def refused(capable, config, setting):
    """Whether the algorithm says that it cannot; its error then names the setting."""
    if not capable:
        with pytest.raises(ValueError, match=setting):
            config.validate()
    return not capable


def capabilities_of(name):
    return ALGORITHMS[name].get_default_config().capabilities


def assert_finite_and_all_modules_changed(algo, before, after):
    assert all(np.isfinite(x).all() for x in after.values())
    modules = {m for m, _ in before}  # A sum of the agents' values has no parameters.
    assert set(algo.config.layout.groups) <= modules
    for module in modules:
        assert any(not np.array_equal(after[k], x) for k, x in before.items() if k[0] == module), (
            f"{module} did not change"
        )
