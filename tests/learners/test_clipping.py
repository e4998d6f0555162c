"""What Adam steps on: the gradient as `grad_clip` and `grad_clip_by` leave it."""

import pytest
import torch
from toys import all_weights, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig, HATRPOConfig, MAPPOConfig
from rllib_hetero.learners.clipping import clip_gradients

LIMIT = 0.01


def gradients(cls=HAPPOConfig, **training):
    """(module id, gradients before clipping, gradients that Adam steps on) of each step."""
    config = small_config(cls, num_epochs=1, **training)
    learner, steps = make_learner(config), []
    clip = learner.postprocess_gradients_for_module

    def watched(*, module_id, module_gradients_dict, **kwargs):
        before = [p.grad.clone() for p in module_gradients_dict]
        out = clip(module_id=module_id, module_gradients_dict=module_gradients_dict, **kwargs)
        steps.append((module_id, before, []))
        return out

    def stepping(optimizer, *_):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        steps[-1][2].extend(p.grad.clone() for p in params if p.grad is not None)

    learner.postprocess_gradients_for_module = watched
    for module_id in learner.module.keys():  # noqa: SIM118
        for _, optimizer in learner.get_optimizers_for_module(module_id):
            optimizer.register_step_pre_hook(stepping)
    update(learner, sample(make_runner(config), learner))
    assert {m for m, *_ in steps} == {"a", "b", "c", "critic"}
    return steps


def by_value(before):
    return [g.clamp(-LIMIT, LIMIT) for g in before]


def by_norm(before):
    return [g * min(1.0, LIMIT / float(g.norm())) for g in before]


def by_global_norm(before):
    norm = float(torch.cat([g.flatten() for g in before]).norm())
    return [g * min(1.0, LIMIT / norm) for g in before]


@pytest.mark.parametrize(
    ("word", "clipped"),
    [("value", by_value), ("norm", by_norm), ("global_norm", by_global_norm)],
)
def test_each_word_clips_what_is_stepped_on(word, clipped):
    for module_id, before, after in gradients(grad_clip=LIMIT, grad_clip_by=word):
        expected = clipped(before)
        assert any(not torch.allclose(g, x) for g, x in zip(before, expected, strict=True))
        # RLlib's and torch's divisors have 1e-6 added to the norm.
        torch.testing.assert_close(after, expected, rtol=2e-4, atol=1e-9, msg=module_id)


@pytest.mark.parametrize("word", ["value", "norm", "global_norm"])
def test_a_large_limit_or_none_leaves_gradients_alone(word):
    for limit in (1e6, None):
        for _, before, after in gradients(grad_clip=limit, grad_clip_by=word):
            assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_a_module_may_have_a_limit_of_its_own():
    config = small_config(MAPPOConfig, num_epochs=1, sharing="none", grad_clip=None)
    config.rl_module(
        algorithm_config_overrides_per_module={
            "b": MAPPOConfig.overrides(grad_clip=LIMIT, grad_clip_by="value")
        }
    )
    config.validate()
    learner = make_learner(config)
    update(learner, sample(make_runner(config), learner))
    largest = {
        m: max(float(p.grad.abs().max()) for p in learner.module[m].parameters())
        for m in ("a", "b", "c", "critic")
    }
    assert largest.pop("b") == pytest.approx(LIMIT)
    assert min(largest.values()) > 2 * LIMIT


@pytest.mark.parametrize("word", ["value", "norm", "global_norm"])
def test_hatrpos_actors_step_by_their_threshold_and_its_critic_is_clipped(word):
    def trained(limit):
        config = small_config(HATRPOConfig, num_epochs=1, grad_clip=limit, grad_clip_by=word)
        learner = make_learner(config)
        # A step of length 1 along the gradient, so that its size can be seen.
        ((_, adam),) = learner.get_optimizers_for_module("critic")
        critic = [p for group in adam.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in critic]
        adam.step = lambda: [p.data.sub_(p.grad) for p in critic] and None
        update(learner, sample(make_runner(config), learner))
        moved = [p.detach() - x for p, x in zip(critic, before, strict=True)]
        return all_weights(learner), max(float(x.abs().max()) for x in moved)

    free, far = trained(None)
    held, near = trained(1e-4)
    for (m, name), x in free.items():
        if m != "critic":
            assert torch.equal(x, held[m, name]), (m, name)
    assert near <= 1.001e-4 < far


@pytest.mark.parametrize(
    ("setting", "value"), [("grad_clip", 0.0), ("grad_clip", -1.0), ("grad_clip_by", "l2")]
)
def test_what_cannot_be_meant_is_refused(setting, value):
    config = small_config(HAPPOConfig)
    setattr(config, setting, value)
    with pytest.raises(ValueError, match=f"config.training\\({setting}="):
        config.validate()


def test_an_unknown_word_of_a_modules_own_is_refused():
    with pytest.raises(ValueError, match="`grad_clip_by` is 'l2'"):
        clip_gradients([], 1.0, "l2")
