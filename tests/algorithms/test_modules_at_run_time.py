"""Who has which module stays for a run; opponents that are earlier copies; settings that move."""

import numpy as np
import pytest
import runner_toys as toys
from gymnasium.spaces import Box
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPOConfig, HATD3Config, MAPPOConfig, TeamError
from rllib_hetero.learners.schedules import scheduled

SIDES = {"us": ["a", "b"], "them": ["c", "d"]}


def two_sides():
    config = toys.small(MAPPOConfig(), env_config={"agents": dict.fromkeys("abcd", 4)})
    return config.multi_agent(parameter_sharing=SIDES, policies_to_train=["us"])


def weights_of(algo, m):
    return {n: x.clone() for (k, n), x in toys.parameters(algo).items() if k == m}


def same(a, b):
    return all((a[n] == b[n]).all() for n in a)


def test_an_opponent_is_an_earlier_copy(ray_local):
    """The recipe that `add_module` names."""
    algo = two_sides().build_algo()
    for call in (algo.add_module, algo.remove_module):
        with pytest.raises(TeamError, match=r"parameter_sharing=.*'us'.*policies_to_train=.*set_w"):
            call("them")
    before = weights_of(algo, "them")
    algo.train()
    assert same(before, weights_of(algo, "them"))
    algo.set_weights({"them": algo.get_weights(["us"])["us"]})
    copied = weights_of(algo, "us")
    assert same(copied, weights_of(algo, "them")) and not same(before, copied)
    runner = dict(algo.env_runner.module["them"].named_parameters())
    assert all((runner[n] == copied[n]).all() for n in runner)
    algo.train()
    assert same(copied, weights_of(algo, "them")) and not same(copied, weights_of(algo, "us"))
    algo.stop()


def test_a_mapping_that_looks_at_the_episode():
    config = toys.small(HAPPOConfig()).multi_agent(
        policies={"p", "q"},
        policy_mapping_fn=lambda agent, episode, **_: "pq"[episode.id_ % 2],
    )
    with pytest.raises(TeamError, match=r"raised AttributeError for the agent 'a'.*without an ep"):
        config.validate()


# ---- entropy ----------------------------------------------------------------------------------


def test_scheduled():
    points = [[0, 0.1], [100, 0.0]]
    assert [scheduled(points, t) for t in (0, 50, 100, 500)] == pytest.approx([0.1, 0.05, 0, 0])
    assert scheduled(0.3, 7) == 0.3


def losses(coeff):
    """Of agent a in three iterations of 20 steps, at a learning rate of 0."""
    algo = toys.small(HAPPOConfig()).training(lr=0.0, entropy_coeff=coeff).build_algo()
    found = [algo.train()["learners"]["a"] for _ in range(3)]
    algo.stop()
    return np.array([x["loss"] for x in found]), np.array([x["entropy"] for x in found])


def test_the_entropy_bonus_follows_its_schedule(ray_local):
    """At 20, 40 and 60 steps of a schedule that ends at 40; weights do not move."""
    (plain, entropy), (with_bonus, _) = losses(0.0), losses([[0, 0.2], [40, 0.0]])
    # Sums of 20 float32 terms of about 1.
    np.testing.assert_allclose(plain - with_bonus, entropy * [0.1, 0.0, 0.0], atol=1e-5)
    assert abs(entropy[0]) > 0.1


@pytest.mark.parametrize("bad", [-0.1, "x", [[0, 0.1]], [[5, 0.1], [9, 0.0]], [[0, 0.1], [9, -1]]])
def test_bad_schedules(bad):
    with pytest.raises(ValueError, match=r"`entropy_coeff` is .* must be .*entropy_coeff="):
        toys.small(HAPPOConfig()).training(entropy_coeff=bad).validate()


# ---- wide actions -----------------------------------------------------------------------------


class Wide(ScriptedTeam):
    def __init__(self, config=None):
        super().__init__(config)
        self.action_spaces["b"] = Box(-10.0, 10.0, (1,), np.float32)


def test_actions_that_reach_far_are_warned_about(caplog):
    toys.small(HAPPOConfig(), Wide).validate()
    assert "['b'] reach far from 0" in caplog.text and "normalize_actions=True" in caplog.text
    caplog.clear()
    toys.small(HAPPOConfig(), Wide).environment(normalize_actions=True).validate()
    toys.small(HAPPOConfig()).validate()
    config = HATD3Config().environment(Wide).training(replay_buffer_config={"capacity": 20_000})
    config.validate()  # it draws within the bounds
    assert "reach far" not in caplog.text
