"""Where agents that update at once harm each other, and those that update in turn do not.

Both learners take the same large step from the same sampled batch; only the correction differs.
"""

import numpy as np
import pytest
import torch
from toys import MatrixTeam, ProductTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig, MAPPOConfig

# HARL, JMLR 2024, Example 1: whoever moves alone gains, and both together lose.
PAYOFF = [[0.0, 2.0], [2.0, -1.0]]


def one_update(cls, env, env_config, start, *, seed, **training):
    """Both policies before and after one update, as (mean or P(0)) of each agent."""
    config = small_config(
        cls,
        env,
        env_config,
        num_envs=50,
        steps=20,
        entropy_coeff=0.0,
        gamma=0.0,
        grad_clip=None,
        **training,
    )
    config.debugging(seed=seed)
    config.rl_module(
        model_config={"hidden_sizes": [8], "layer_norm": False, "actor_head_gain": 0.0}
    )
    config.multi_agent(parameter_sharing="none")
    config.validate()
    learner, runner = make_learner(config, stir=False), make_runner(config)
    for agent, x in zip(("p0", "p1"), start, strict=True):
        head = learner.module[agent].head
        with torch.no_grad():
            head.bias[0] = x
    update(learner, sample(runner, learner))
    return [outputs(learner, agent) for agent in ("p0", "p1")]


def outputs(learner, agent):
    with torch.no_grad():
        return learner.module[agent]._forward({"obs": torch.ones(1, 1)})["action_dist_inputs"][0]


def matrix_return(p, q):
    """The expected payoff of the joint policy that plays 0 with these probabilities."""
    return float(np.array([p, 1 - p]) @ np.array(PAYOFF) @ np.array([q, 1 - q]))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_example_1_of_harl(seed):
    p = 0.7
    logit = float(np.log(p / (1 - p)))
    large = {"lr": 0.05, "num_epochs": 40, "clip_param": 5.0}
    kwargs = {"env_config": {"payoff": PAYOFF}, "start": (logit, logit), "seed": seed, **large}
    before = matrix_return(p, p)
    after = {}
    for cls in (HAPPOConfig, MAPPOConfig):
        probabilities = [float(x.softmax(-1)[0]) for x in one_update(cls, MatrixTeam, **kwargs)]
        after[cls] = matrix_return(*probabilities)
    # Near the argmax: the worst joint action for one, the best for the other.
    assert after[MAPPOConfig] < -0.8 < before
    assert after[HAPPOConfig] > 1.8 > before


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_differentiable_product_game(seed):
    start = (0.12, -0.12)
    large = {"lr": 0.05, "num_epochs": 20, "clip_param": 5.0}
    kwargs = {"env_config": {}, "start": start, "seed": seed, **large}
    after = {}
    for cls in (HAPPOConfig, MAPPOConfig):
        means = [float(x[0]) for x in one_update(cls, ProductTeam, **kwargs)]
        after[cls] = means[0] * means[1]  # the expected reward: the noise is independent
    before = start[0] * start[1]
    # At once: both cross zero and are of opposite signs again, further apart.
    assert after[MAPPOConfig] < 2 * before < 0
    # In turn: the second follows to where the first has gone.
    assert after[HAPPOConfig] > 0 > before
