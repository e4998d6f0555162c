"""HAA2C and MAA2C: the unclipped objective, in turn and at once."""

import copy

import numpy as np
import pytest
import torch
from toys import SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAA2CConfig, MAA2CConfig

EQUAL = {"agents": {a: (3, "box") for a in "abc"}}
# Steps so large that a clip of 0.2 would bind.
LARGE = {"lr": 5e-3, "num_epochs": 4}


class SlowUnclipped(SlowTeam):
    """HARL's Algorithm 5: the mean of M r, over several mini-epochs."""

    def _actor_step(self, m, obs, act, old, adv, alive, correction):
        actor = self.actors[m]
        if not alive.any():
            return
        ratio = torch.exp(actor.log_prob(obs, act) - old)
        self.furthest = max(getattr(self, "furthest", 0.0), float((ratio - 1).abs().max()))
        objective = correction * adv * ratio + self.c.entropy_coeff * actor.entropy(obs)
        self._step(m, actor, -(objective * alive).sum() / alive.sum())


def run(cls, env=None, *, order=None, sharing="none", updates=2, **training):
    settings = LARGE | training
    if order is not None:
        settings["update_order"] = order
    config = small_config(cls, env_config=env, **settings)
    config.multi_agent(parameter_sharing=sharing)
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowUnclipped(learner), SlowTeam(learner)
    for _ in range(updates):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=order)
    moved = before.differences(learner)
    for m in {*slow.actors, "critic"}:
        assert max(x for (module, _), x in moved.items() if module == m) > 1e-2
    assert slow.furthest > 0.3
    slow.assert_same(learner)
    return slow, learner


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize(
    "env", [{}, {"dies": {"b": 3}, "end": "alternate"}, {"state": True, "scheme": "shared"}]
)
def test_haa2c_is_algorithm_5(env, minibatch_size):
    slow, _ = run(HAA2CConfig, env, order=["c", "a", "b"], minibatch_size=minibatch_size)
    assert slow.corrections["b"].std() > 0.05


def test_haa2c_on_one_network():
    env = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box")}}
    run(HAA2CConfig, env, order=["c", "b", "a"], sharing={"twins": ["a", "c"]})


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("sharing", ["auto", "none"])
@pytest.mark.parametrize("env", [EQUAL, {**EQUAL, "dies": {"a": 2}, "state": True}])
def test_maa2c_is_all_at_once_without_correction(env, sharing, minibatch_size):
    slow, _ = run(MAA2CConfig, env, sharing=sharing, minibatch_size=minibatch_size)
    assert len(slow.actors) == (1 if sharing == "auto" else 3)


def test_maa2c_with_unequal_agents():
    run(MAA2CConfig)


@pytest.mark.parametrize("cls", [HAA2CConfig, MAA2CConfig])
@pytest.mark.parametrize("kind", ["box", "discrete", "multi"])
def test_one_agent_and_one_epoch_is_the_policy_gradient(cls, kind):
    # grad of the mean of A log pi, one step of Adam.
    env = {"agents": {"only": (3, kind)}}
    config = small_config(cls, env_config=env, num_epochs=1, entropy_coeff=0.0)
    config.multi_agent(parameter_sharing="none")
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    slow = SlowTeam(learner)
    actor = copy.deepcopy(slow.actors["only"])
    fragments = sample(runner, learner)
    rows = slow.rows(fragments)
    advantages, _, _ = slow.estimate(rows)
    obs = slow.actor_input("only", [r.obs["only"] for r in rows])
    act = torch.tensor(np.array([r.act["only"] for r in rows]))
    optimizer = torch.optim.Adam(actor.parameters(), lr=config.lr, eps=config.adam_epsilon)
    (-(advantages * actor.log_prob(obs, act)).mean()).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in actor.parameters()))
    assert norm < config.grad_clip
    optimizer.step()
    update(learner, fragments)
    theirs = dict(learner.module["only"].named_parameters())
    for name, p in actor.weights().items():
        torch.testing.assert_close(theirs[name].detach(), p, rtol=0, atol=2e-5)
    assert (theirs["head.weight"] - slow.actors["only"].weights()["head.weight"]).abs().max() > 5e-4


@pytest.mark.parametrize("cls", [HAA2CConfig, MAA2CConfig])
def test_a_policy_clip_is_refused(cls):
    with pytest.raises(ValueError, match="clip_param"):
        small_config(cls, clip_param=0.2)


def test_nothing_is_said_of_a_clip():
    config = small_config(HAA2CConfig)
    learner, runner = make_learner(config), make_runner(config)
    noted, inner = set(), learner.notes.add

    def watched(module_id, name, *args, **kwargs):
        noted.add(name)
        return inner(module_id, name, *args, **kwargs)

    learner.notes.add = watched
    update(learner, sample(runner, learner))
    assert {"entropy", "mean_kl", "correction_mean"} <= noted
    assert "clip_fraction" not in noted


def test_a_ratio_that_is_lost_to_underflow_leaves_the_divergence_finite():
    # Nothing holds an unclipped policy back: exp(-200) is 0 in single precision.
    learner = make_learner(small_config(HAA2CConfig))
    dist, inputs = learner._dists["b"], torch.zeros(6, 4)
    actions = torch.zeros(6, dtype=torch.int64)
    rows = {
        "actions": actions,
        "action_dist_inputs": inputs,
        "action_logp": dist.log_prob(inputs, actions) + 200.0,
        "advantages": torch.ones(6),
        "active": torch.ones(6),
        "total": torch.tensor(6.0),
    }
    change = learner.policy_change("b", rows, inputs)
    assert (change.ratio == 0.0).all()
    learner._note_change("b", learner.config, rows, change)
    (kl,) = learner.notes._added["b"]["mean_kl", "sum"]
    assert float(kl) == pytest.approx(199.0)
