"""The value normaliser's statistics are part of every state and checkpoint."""

import pytest
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from toys import make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig, MAPPOConfig
from rllib_hetero.modules.value_norm import ValueNorm

NAMES = ["mean", "variance", "weight"]


def trained_learner(cls=HAPPOConfig):
    learner = make_learner(small_config(cls))
    runner = make_runner(learner.config)
    for _ in range(2):
        update(learner, sample(runner, learner))
    return learner


def statistics(learner):
    normalizer = learner.module["critic"].normalizer
    return {n: getattr(normalizer, n).clone() for n in NAMES}


def test_statistics_are_buffers_and_no_parameters():
    norm = ValueNorm()
    norm.update(torch.tensor([4.0, 12.0, 50.0]))
    assert list(norm.state_dict()) == NAMES
    assert not list(norm.parameters())  # No optimiser must touch them.
    # RLlib restores weights in single precision: in another, a restored run would differ.
    assert all(x.dtype == torch.float32 for x in norm.state_dict().values())


@pytest.mark.parametrize("device", ["meta", torch.float16, "cpu"])
def test_moves_keep_them_in_the_state_dict(device):
    moved = ValueNorm().to(device)
    assert list(moved.state_dict()) == NAMES
    for name in NAMES:
        assert moved.state_dict()[name].device == getattr(moved, name).device
    if device == "meta":
        assert moved.mean.device.type == "meta"


def test_state_dict_restores_the_scale():
    norm = ValueNorm()
    norm.update(torch.tensor([4.0, 12.0, 50.0]))
    other = ValueNorm()
    x = torch.tensor([1.0, -2.0])
    assert not torch.equal(other.normalize(x), norm.normalize(x))
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other.normalize(x), norm.normalize(x))
    assert torch.equal(other.denormalize(x), norm.denormalize(x))
    # Mean 3, variance 3.5, by hand.
    assert norm.normalize(torch.tensor(3.0 + 3.5**0.5)) == pytest.approx(1.0, rel=1e-4)


def test_updates_change_them_in_place():
    # `state_dict` and what a learner broadcasts are these very tensors.
    norm = ValueNorm()
    before = [getattr(norm, n) for n in NAMES]
    norm.update(torch.tensor([4.0, 12.0, 50.0]))
    assert all(getattr(norm, n) is x for n, x in zip(NAMES, before, strict=True))


@pytest.mark.parametrize("cls", [HAPPOConfig, MAPPOConfig])
def test_learner_state_holds_them_and_restores_them(cls):
    learner = trained_learner(cls)
    saved = statistics(learner)
    assert saved != statistics(make_learner(small_config(cls)))
    state = learner.get_state()
    in_state = state[COMPONENT_RL_MODULE]["critic"]
    assert {f"normalizer.{n}" for n in NAMES} <= set(in_state)

    other = make_learner(small_config(cls))
    other.set_state(state)
    assert statistics(other) == saved


def test_checkpoint_on_disk_holds_them(tmp_path):
    learner = trained_learner()
    saved = statistics(learner)
    learner.save_to_path(tmp_path)
    other = make_learner(small_config(HAPPOConfig))
    assert statistics(other) != saved
    other.restore_from_path(tmp_path)
    assert statistics(other) == saved
    # And they are not overwritten by the next forward pass.
    update(other, sample(make_runner(other.config), other))
    assert statistics(other)["weight"] > saved["weight"]
