"""Inputs in units of their own deviation: whose rows count, when they do, and who acts on them."""

from types import SimpleNamespace

import numpy as np
import pytest
import runner_toys as toys
import torch
from kinds_toys import KindsTeam, team
from ray.rllib.core import Columns
from toys import make_learner, make_runner, sample, small_config, update

from rllib_hetero import A2POConfig, BPPOConfig, HAPPOConfig, MAPPOConfig, load_policies
from rllib_hetero.connectors.running_returns import RunningReturns
from rllib_hetero.layout import CRITIC
from rllib_hetero.modules.input_norm import running_norms

UNLIKE = {"agents": {"a": 3, "b": 4, "c": 4}, "actions": {"b": "discrete", "c": "multi"}}
ALIKE = {"agents": {"a": 4, "b": 4, "c": 4}}


def trained(config, env_config, iterations=2, **model):
    """An algorithm, and the fragments that it learnt from."""
    config = toys.small(config, env_config=env_config).training(lr=0.02)
    config.rl_module(model_config={"hidden_sizes": [8], "input_norm": True} | model)
    algo = config.build_algo()
    runner, fragments = algo.env_runner, []
    sample = runner.sample

    def remember(**kwargs):
        got = sample(**kwargs)
        fragments.extend(got)
        return got

    runner.sample = remember
    results = [algo.train() for _ in range(iterations)]
    return algo, fragments, results


def norms(algo, module):
    unwrapped = algo.learner_group._learner.module[module].unwrapped()
    return running_norms(unwrapped.networks if module == CRITIC else unwrapped.body)


@pytest.mark.parametrize("config_class", [HAPPOConfig, A2POConfig])
def test_they_are_those_of_all_that_was_seen(ray_local, config_class):
    algo, fragments, results = trained(config_class(), UNLIKE)
    algo.stop()
    for m in "abc":
        (norm,) = norms(algo, m)
        living = [f.observations[m][f.active[m] & f.valid[..., None]] for f in fragments]
        x = np.concatenate(living).astype(np.float64)
        assert norm.rows == len(x)
        np.testing.assert_allclose(norm.mean, x.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(norm.variance, x.var(0), rtol=1e-4, atol=1e-6)
        # The policy that is trained is the one that sampled: the statistics wait for the end.
        assert all(r["learners"][m]["sampler_logp_gap"] < 1e-4 for r in results)
    (norm,) = norms(algo, CRITIC)
    assert norm.rows == sum(f.valid.sum() for f in fragments)


def test_a_shared_policy_and_agents_in_sequence(ray_local):
    """What sharing and sequence put behind an observation: an index counts, a context does not."""
    algo, fragments, _ = trained(MAPPOConfig().multi_agent(parameter_sharing="full"), ALIKE, 1)
    algo.stop()
    (norm,) = norms(algo, "shared")
    assert norm.rows == 3 * sum(f.valid.sum() for f in fragments)
    torch.testing.assert_close(norm.mean[-3:], torch.full((3,), 1 / 3))
    algo, fragments, results = trained(BPPOConfig(), UNLIKE, 2)
    algo.stop()
    for m, size in {"a": 3, "b": 4, "c": 4}.items():
        (norm,) = norms(algo, m)
        assert len(norm.mean) == size
        assert all(r["learners"][m]["sampler_logp_gap"] < 1e-4 for r in results)


def test_they_stay_where_nobody_is_trained_and_with_the_policy(ray_local, tmp_path):
    algo, fragments, _ = trained(HAPPOConfig().multi_agent(policies_to_train=["a", "c"]), UNLIKE)
    assert norms(algo, "a")[0].rows > 0
    assert norms(algo, "b")[0].rows == 0
    runner = algo.env_runner.module["a"]
    assert torch.equal(running_norms(runner.body)[0].mean, norms(algo, "a")[0].mean)
    algo.evaluate()
    assert norms(algo, "a")[0].rows == sum(f.valid.sum() for f in fragments)

    policies = load_policies(algo.save_to_path(tmp_path / "c"))
    module = algo.learner_group._learner.module["a"]
    seen = fragments[-1].observations["a"][0, 0, 0]
    with torch.no_grad():
        out = module.forward_inference({Columns.OBS: torch.from_numpy(seen)[None]})
    space = algo.config.layout.team.action_spaces["a"]
    mean = out[Columns.ACTION_DIST_INPUTS][0, : len(space.low)].numpy()
    others = {m: fragments[-1].observations[m][0, 0, 0] for m in "bc"}
    np.testing.assert_allclose(
        policies.act({"a": seen, **others}, explore=False)["a"],
        mean.clip(space.low, space.high),
        atol=1e-6,
    )
    algo.stop()


def test_with_scaled_rewards_their_unit_does_not_matter(ray_local):
    weights = []
    for unit in (1.0, 1000.0):
        config = toys.small(HAPPOConfig(), env_config=UNLIKE).training(lr=0.01, num_epochs=2)
        algo = config.training(reward_scaling=True, value_norm=False).build_algo()
        sample = algo.env_runner.sample

        def in_unit(sample=sample, unit=unit, **kwargs):
            fragments = sample(**kwargs)
            for fragment in fragments:
                fragment.rewards *= unit
            return fragments

        algo.env_runner.sample = in_unit
        algo.train()
        algo.train()
        algo.stop()
        module = algo.learner_group._learner.module
        assert module[CRITIC].unwrapped().return_norm.rows == 40
        weights.append(module["a"].state_dict() | module[CRITIC].unwrapped().networks.state_dict())
    for name, x in weights[0].items():
        torch.testing.assert_close(x, weights[1][name], atol=2e-4, rtol=1e-3)


def test_returns_so_far_against_a_walk():
    """Over fragments that follow and one that does not, ends, and a step that failed."""
    rng, gamma = np.random.default_rng(0), 0.9
    running, carried = RunningReturns(gamma), [0.0, 0.0]
    for number in (0, 1, 3):
        rewards = rng.normal(size=(6, 2))
        over = rng.random((6, 2)) < 0.2
        valid = rng.random((6, 2)) > 0.1
        fragment = SimpleNamespace(
            terminated=over, truncated=np.zeros((6, 2), bool), valid=valid, num_envs=2,
            source=(1, number), first_env=4, continues=np.array([True, number != 1]),
        )  # fmt: skip
        found = running.of(fragment, rewards)
        for e in range(2):
            g = carried[e] if number < 3 and fragment.continues[e] else 0.0
            for t in range(6):
                if not valid[t, e]:
                    g = 0.0
                    continue
                g = gamma * g + rewards[t, e]
                assert found[t, e] == pytest.approx(g)
                if over[t, e]:
                    g = 0.0
            carried[e] = g


def test_parts_have_layers_of_their_own_behind_it():
    """Against numpy: the rows' statistics, and what the parts' layers are then given."""
    env_config = team("numbers vector numbers", "box discrete plane")
    config = small_config(
        HAPPOConfig, KindsTeam, env_config, num_envs=2, steps=6,
        model={"input_norm": True, "part_hidden_sizes": [5]},
    )  # fmt: skip
    learner, runner = make_learner(config), make_runner(config)
    (fragment,) = sample(runner, learner)
    update(learner, [fragment])
    rows = {m: fragment.observations[m][fragment.valid][:, 0] for m in "abc"}
    rows[CRITIC] = np.concatenate([rows[m] for m in "abc"], -1)
    # "far" is a choice of 3 and a number, "near" two numbers, as gymnasium sorts a Dict's keys.
    own = [(0, 3), (3, 4), (4, 6)]
    parts = {"a": own, CRITIC: [*own, (6, 9), *[(9 + i, 9 + k) for i, k in own]]}
    for m, places in parts.items():
        module = learner.module[m].unwrapped()
        norm, encoder = (module.networks[0] if m == CRITIC else module).body[:2]
        x = rows[m].astype(np.float64)
        assert norm.rows == len(x) and x.shape[-1] == places[-1][1]
        np.testing.assert_allclose(norm.mean, x.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(norm.variance, x.var(0), rtol=1e-4, atol=1e-6)
        normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        normal = torch.from_numpy(normal.clip(-10.0, 10.0)).float()
        layers = {i: e for e, ks in zip(encoder.encoders, encoder._alike, strict=True) for i in ks}
        with torch.no_grad():
            expected = [layers[k](normal[:, i:j]) for k, (i, j) in enumerate(places)]
            torch.testing.assert_close(
                encoder(norm(torch.from_numpy(rows[m]))), torch.cat(expected, -1),
                atol=1e-4, rtol=1e-4,
            )  # fmt: skip
    # In the critic, "a" and "c" see things of one kind: their layers are the same, and each has a
    # place of its own in the statistics.
    assert [layers[k] is layers[k + 4] for k in range(3)] == [True] * 3
