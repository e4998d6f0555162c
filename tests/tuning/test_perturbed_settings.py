"""Settings that population-based training changes are what the next update is made with."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import ray
from ray import tune
from ray.rllib.utils.metrics import ALL_MODULES

from rllib_hetero import HAPPO, BPPOConfig, HAPPOConfig, HATRPOConfig, MAPPOConfig
from rllib_hetero.algorithms.on_policy.happo import HAPPOLearner
from rllib_hetero.layout import CRITIC
from rllib_hetero.tuning import Plan, make_study

pytestmark = pytest.mark.usefixtures("ray_local")

# Trials are given `Recording` by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

BATCH = 40


def on_game(cls=HAPPOConfig, **training):
    return (
        cls()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=BATCH, num_epochs=1, **training)
        .rl_module(model_config={"hidden_sizes": [8]})
        .debugging(seed=1, log_level="ERROR")
    )


def after_a_restore(before, after, tmp_path):
    """An algorithm with the second config and the first one's checkpoint."""
    first = before.build_algo()
    first.train()
    path = first.save_to_path(tmp_path / "checkpoint")
    first.stop()
    second = after.build_algo()
    second.restore_from_path(path)
    return second


def rates(algo):
    """Module to the learning rate of its optimiser."""
    learner = algo.learner_group._learner
    return {
        m: optimizer.param_groups[0]["lr"]
        for m in sorted(learner.module._rl_modules)
        for _, optimizer in learner.get_optimizers_for_module(m)
    }


def rates_of_the_next_update(algo):
    """The rates with which optimisers step in one iteration."""
    learner, used = algo.learner_group._learner, set()
    for m in sorted(learner.module._rl_modules):
        for _, optimizer in learner.get_optimizers_for_module(m):
            optimizer.register_step_pre_hook(
                lambda o, *_, m=m: used.add((m, o.param_groups[0]["lr"]))
            )
    algo.train()
    return used


@pytest.mark.parametrize("cls", [HAPPOConfig, HATRPOConfig, MAPPOConfig, BPPOConfig])
def test_the_first_update_after_a_restore_has_the_new_rate(cls, tmp_path):
    after = on_game(cls, lr=1e-3, critic_lr=2e-3, adam_epsilon=1e-8)
    algo = after_a_restore(on_game(cls, lr=1e-5, critic_lr=1e-5), after, tmp_path)
    optimizer = algo.learner_group._learner.get_optimizers_for_module(CRITIC)[0][1]
    assert optimizer.param_groups[0]["eps"] == 1e-8
    assert optimizer.state_dict()["state"]  # the moments are the checkpoint's
    used = rates_of_the_next_update(algo)
    algo.stop()
    assert (CRITIC, 2e-3) in used
    actors = {rate for m, rate in used if m != CRITIC}
    assert actors == (set() if cls is HATRPOConfig else {1e-3})  # HATRPO's have no optimiser


def test_a_new_schedule_goes_on_at_the_checkpoints_steps(tmp_path):
    # 40 steps are sampled at the checkpoint: a tenth of the way.
    after = on_game(lr=[[0, 1e-3], [400, 0.0]])
    algo = after_a_restore(on_game(lr=[[0, 1e-4], [400, 0.0]]), after, tmp_path)
    assert rates(algo) == pytest.approx(dict.fromkeys(rates(algo), 9e-4))
    used = rates_of_the_next_update(algo)
    algo.stop()
    assert sorted(rate for _, rate in used) == pytest.approx([9e-4] * len(used)) and used


class Recording(HAPPOLearner):
    """Logs what its steps are made with, read where it is used."""

    def _update(self, batch):
        for m in batch:
            for _, optimizer in self.get_optimizers_for_module(m):
                self.note("lr", optimizer.param_groups[0]["lr"])
        return super()._update(batch)

    def surrogate(self, change, config):
        self.note("clip_param", config.clip_param)
        return super().surrogate(change, config)

    def objective(self, change, config, rows):
        self.note("entropy_coeff", config.entropy_coeff)
        return super().objective(change, config, rows)

    def note(self, name, value):
        for reduce in ("min", "max"):
            self.metrics.log_value((ALL_MODULES, f"{reduce}_{name}"), value, reduce=reduce)


def test_a_restored_trial_trains_with_its_own_settings(tmp_path):
    """What Tune does with a perturbed trial: a new process, its config as a dict, a restore."""
    before = {"lr": 1e-5, "clip_param": 0.1, "entropy_coeff": 0.01}
    after = {"lr": 1e-3, "clip_param": 0.3, "entropy_coeff": 0.05}
    config = on_game(**before)
    config.learners(learner_class=Recording)
    first = HAPPO(config=config.to_dict())
    first.train()
    first.save(str(tmp_path))
    first.stop()
    second = HAPPO(config={**config.to_dict(), **after})
    second.restore(str(tmp_path))
    result = second.train()
    second.stop()
    assert result["training_iteration"] == 2
    used = result["learners"][ALL_MODULES]
    for name, value in after.items():
        assert (used[f"min_{name}"], used[f"max_{name}"]) == pytest.approx((value, value)), name


@pytest.mark.slow
def test_a_population_trains_with_what_was_perturbed(tmp_path):
    config = on_game()
    config.learners(learner_class=Recording)
    # A trial takes all CPUs: the two take turns, so that each result meets the other's score.
    config.resources(num_cpus_for_main_process=4)
    space = {
        "lr": tune.loguniform(1e-4, 1e-2), "clip_param": tune.uniform(0.05, 0.3),
        "entropy_coeff": tune.uniform(0.001, 0.1),
    }  # fmt: skip
    plan = Plan(num_samples=2, env_steps=3 * BATCH, scheduler="pbt")
    result = make_study([config], plan, tmp_path, space=space).fit()
    assert [trial.error for trial in result.trials] == [None, None]
    changed = 0
    for trial in result.trials:
        lines = Path(trial.folder, "result.json").read_text().splitlines()
        settings = []
        for row in map(json.loads, lines):
            used = row["learners"][ALL_MODULES]
            settings.append({name: row["config"][name] for name in space})
            for name in space:
                wanted = pytest.approx(row["config"][name], rel=1e-6)
                assert used[f"min_{name}"] == wanted, (row["training_iteration"], name)
                assert used[f"max_{name}"] == wanted, (row["training_iteration"], name)
        changed += sum(a != b for a, b in itertools.pairwise(settings))
        assert trial.setting == settings[-1]
    assert changed  # something was perturbed
