"""Off-policy inputs in units of their own deviation: whose rows count, when, and for which nets."""

import copy

import numpy as np
import pytest
import torch
from off_policy_toys import off_policy_config, update
from ray.rllib.algorithms.algorithm import Algorithm
from toys import CountingTeam, MaskedTeam, make_learner, make_runner, sample

from rllib_hetero import (
    HAD3QNConfig,
    HADDPGConfig,
    HASACConfig,
    HATD3Config,
    IQLConfig,
    MADDPGConfig,
    MASACConfig,
    MATD3Config,
    QMIXConfig,
    VDNConfig,
    load_policies,
)
from rllib_hetero.layout import CRITIC
from rllib_hetero.learners.off_policy import input_statistics
from rllib_hetero.learners.off_policy.input_statistics import InputStatistics
from rllib_hetero.modules.input_norm import RunningNorm, running_norms

UNLIKE = {"a": (3, "box"), "b": (4, "discrete"), "c": (3, "box")}
CHOOSING = {"a": (2, "three"), "b": (3, "discrete"), "c": (2, "three")}
REMEMBERING = {"max_seq_len": 3, "recurrent": "gru"}
CASES = {
    "haddpg": (HADDPGConfig, UNLIKE, {}),
    "hatd3": (HATD3Config, UNLIKE, {}),
    "hasac": (HASACConfig, UNLIKE, {}),
    "maddpg": (MADDPGConfig, UNLIKE, {}),
    "matd3": (MATD3Config, UNLIKE, {}),
    "masac": (MASACConfig, UNLIKE, {}),
    "had3qn": (HAD3QNConfig, CHOOSING, {}),
    "had3qn, actions as inputs": (HAD3QNConfig, CHOOSING, {"joint_critic": "one_hot"}),
    "qmix": (QMIXConfig, CHOOSING, {"target_network_update_freq": 1, "model": REMEMBERING}),
    "vdn": (VDNConfig, CHOOSING, {"target_network_update_freq": 1, "model": {"max_seq_len": 3}}),
    "iql": (IQLConfig, CHOOSING, {"target_network_update_freq": 1, "model": REMEMBERING}),
}
PAIR = {"pair": ["a", "c"]}


def config_of(case, *, norm=True, env=None, masks=False):
    cls, agents, settings = CASES[case]
    settings = dict(settings)
    model = {"hidden_sizes": [8], "input_norm": norm} | settings.pop("model", {})
    return off_policy_config(
        cls, MaskedTeam if masks else CountingTeam,
        {"agents": agents, "end": "alternate", "dies": {"b": 2}} | (env or {}),
        model=model, sharing=PAIR, **settings,
    )  # fmt: skip


def statistics_of(learner):
    """Module id to its norms."""
    modules = {m: learner.module[m].unwrapped() for m in learner.module.keys()}  # noqa: SIM118
    return {m: norms for m, module in modules.items() if (norms := running_norms(module))}


def parameters_of(learner):
    return [p for m in sorted(learner.module.keys()) for p in learner.module[m].parameters()]


def in_units(x, norm):
    """Rows (..., d) as a network that normalises sees them."""
    mean, variance = (t.numpy()[: x.shape[-1]] for t in (norm.mean, norm.variance))
    return ((x - mean) / np.sqrt(variance + 1e-5)).astype(np.float32)


def normalised(fragment, norms):
    """The fragment with everything that is seen in units of given deviations."""
    out = copy.deepcopy(fragment)
    for seen in (out.observations, out.last_observations, out.finals.observations):
        for m in seen:
            seen[m] = in_units(seen[m], norms[m][0])
    if CRITIC in norms:
        state = norms[CRITIC][0]
        out.state, out.last_state = in_units(out.state, state), in_units(out.last_state, state)
        out.finals.state = in_units(out.finals.state, state)
    return out


@pytest.mark.parametrize("case", CASES)
def test_every_network_and_target_normalises_what_the_replay_keeps_raw(case, monkeypatch):
    """It learns what one without the setting learns from numbers that were normalised before.

    The index of agents that share a module is not kept by the replay, which appends it itself.
    """
    plain = make_learner(config_of(case, norm=False, env={"state": True}, masks=True))
    learner = make_learner(config_of(case, env={"state": True}, masks=True))
    runner = make_runner(learner.config)
    rounds = [sample(runner, learner) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    norms = statistics_of(learner)
    assert set(norms) - {CRITIC} == set(learner.config.layout.groups)
    for m, (first, *others) in norms.items():
        first.mean.normal_(generator=generator)
        first.variance.uniform_(0.3, 3.0, generator=generator)
        if m != CRITIC and m == "pair":
            first.mean[-2:], first.variance[-2:] = 0.0, 1.0 - 1e-5
        for norm in others:
            norm.load_state_dict(first.state_dict())
    for p, q in zip(parameters_of(learner), parameters_of(plain), strict=True):
        p.data.copy_(q.data)
    before = [p.detach().clone() for p in parameters_of(plain)]
    monkeypatch.setattr(InputStatistics, "add", lambda *_: None)
    for fragments in rounds:
        update(plain, [normalised(f, norms) for f in fragments], 4)
        update(learner, fragments, 4)
    moved = 0
    for p, q, b in zip(parameters_of(learner), parameters_of(plain), before, strict=True):
        torch.testing.assert_close(p, q, atol=2e-5, rtol=1e-4)
        moved += float((q - b).detach().abs().max()) > 1e-3
    assert moved > len(before) / 2


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("case", ["hasac", "qmix"])
def test_they_are_those_of_all_that_was_sampled_each_row_once(case, state):
    learner = make_learner(config_of(case, env={"state": state}))
    runner, seen = make_runner(learner.config), []
    for updates in (0, 5):  # However often rows are drawn.
        fragments = sample(runner, learner)
        update(learner, fragments, updates)
        seen += fragments
    layout = learner.config.layout
    rows = {
        m: [f.observations[m][f.active[m] & f.valid[..., None]] for f in seen]
        for m in layout.groups
    }
    dead = sum(int((~f.active["b"]).sum()) for f in seen)
    assert dead > 10
    places = [(layout.slot_of[a], size) for a, (size, _) in CASES[case][1].items()]
    rows[CRITIC] = [
        (f.state if state else np.concatenate(
            [f.observations[m][..., k, :size] for (m, k), size in places], -1
        ))[f.valid]
        for f in seen
    ]  # fmt: skip
    norms = statistics_of(learner)
    assert norms.keys() == rows.keys()
    for m, of_module in norms.items():
        x = np.concatenate(rows[m]).astype(np.float64)
        for norm in of_module:
            assert norm.rows == len(x)
            np.testing.assert_allclose(norm.mean, x.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(norm.variance, x.var(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norms["pair"][0].mean[-2:], torch.full((2,), 0.5))
    assert len(norms["b"][0].mean) == CASES[case][1]["b"][0]


def test_failed_steps_and_what_the_dead_are_shown_count_for_nothing():
    learner = make_learner(config_of("hasac", env={"state": True}))
    (fragment,) = sample(make_runner(learner.config), learner)
    fragment = copy.deepcopy(fragment)
    fragment.observations["b"][~fragment.active["b"]] = np.nan
    fragment.valid[3, 1] = False
    for x in (*fragment.observations.values(), fragment.state):
        x[3, 1] = np.nan
    learner._statistics.add([fragment], lambda m: m != "pair")
    norms = statistics_of(learner)
    living = fragment.active["b"] & fragment.valid[..., None]
    assert norms["b"][0].rows == living.sum() < living.size
    assert norms[CRITIC][0].rows == fragment.valid.sum() == fragment.valid.size - 1
    for m in ("b", CRITIC):
        assert torch.isfinite(norms[m][0].mean).all()
    # Whose module is not trained goes on seeing what it was trained on.
    assert norms["pair"][0].rows == 0


@pytest.mark.parametrize("case", CASES)
def test_a_target_has_the_statistics_of_its_network(case):
    learner = make_learner(config_of(case, env={"state": True}))
    found = 0
    for m in learner.module.keys():  # noqa: SIM118
        norms = [
            (name, part)
            for name, part in learner.module[m].named_modules(remove_duplicate=False)
            if isinstance(part, RunningNorm)
        ]
        own = [part for name, part in norms if "target" not in name]
        targets = [part for name, part in norms if "target" in name]
        assert all(any(part is norm for norm in own) for part in targets), m
        found += len(targets)
    assert found


def test_a_module_that_is_not_trained_keeps_its_statistics():
    config = config_of("hasac", env={"state": True}).copy(copy_frozen=False)
    config.multi_agent(policies_to_train=["b"])
    config.validate()
    learner = make_learner(config)
    update(learner, sample(make_runner(config), learner), 1)
    rows = {m: float(norms[0].rows) for m, norms in statistics_of(learner).items()}
    assert rows["pair"] == 0 < rows["b"] < rows[CRITIC]


def test_learners_count_the_rows_of_all_in_one_message(monkeypatch):
    learner = make_learner(config_of("hasac", env={"state": True}))
    start, layout = learner.module, learner.config.layout
    (fragment,) = sample(make_runner(learner.config), learner)
    together, one, two = (copy.deepcopy(start) for _ in range(3))

    def count(module, envs, total):
        modules = {m: module[m].unwrapped() for m in module.keys()}  # noqa: SIM118
        sent = []
        monkeypatch.setattr(
            input_statistics, "sum_over_learners", lambda x: total(sent.append(x) or x)
        )
        InputStatistics(layout, modules).add([fragment.select(envs)], lambda _: True)
        (message,) = sent
        return message, {m: running_norms(modules[m])[0].state_dict() for m in modules}

    _, expected = count(together, range(3), lambda x: x)
    others, _ = count(copy.deepcopy(start), range(1), lambda x: x)
    message, first = count(one, range(1, 3), lambda x: x + others)
    _, second = count(two, range(1), lambda x: x + message)
    for m, norm in expected.items():
        for name, x in norm.items():
            torch.testing.assert_close(first[m][name], x)
            assert torch.equal(first[m][name], second[m][name])


def everything(algo):
    learner = algo.learner_group._learner
    return {
        (m, name): x.clone()
        for m in learner.module.keys()  # noqa: SIM118
        for name, x in learner.module[m].state_dict().items()
    }


@pytest.mark.parametrize("case", ["hatd3", "qmix"])
def test_they_go_to_runners_checkpoints_and_policies(case, ray_local, tmp_path):
    config = config_of(case, env={"length": 4, "end": "truncate", "dies": {}})
    algo = config.copy(copy_frozen=False).training(
        num_steps_sampled_before_learning_starts=24
    ).build_algo()  # fmt: skip
    for _ in range(3):
        algo.train()
    path = algo.save_to_path(tmp_path / "checkpoint")
    saved = everything(algo)
    rows = {m: float(x) for (m, k), x in saved.items() if k.endswith(".rows")}
    assert rows == {"pair": 144.0, "b": 72.0, CRITIC: 72.0}
    runner = algo.env_runner
    for m in config.layout.groups:
        (own,) = running_norms(runner.module[m])
        (theirs,) = running_norms(algo.learner_group._learner.module[m].unwrapped())
        assert own.rows == theirs.rows > 0 and torch.equal(own.mean, theirs.mean)

    # Policies act as the runner does, on the numbers as the environment gives them.
    policies = load_policies(path)
    (fragment,) = runner.sample(explore=False)
    layout = config.layout
    for e in range(3):
        policies.reset()
        for t in range(4):
            seen = {
                a: fragment.observations[m][t, e, k, : layout.team.row_spaces[a].shape[0]]
                for a, (m, k) in layout.slot_of.items()
            }
            for a, action in policies.act(seen, explore=False).items():
                m, k = layout.slot_of[a]
                np.testing.assert_allclose(
                    np.ravel(action), np.ravel(fragment.actions[m][t, e, k]), atol=1e-5
                )
    # The runner has gone on by a sample that nobody has asked for: both start from the file.
    algo.stop()
    runs = []
    for _ in range(2):
        resumed = Algorithm.from_checkpoint(path)
        now = everything(resumed)
        assert now.keys() == saved.keys() and all(torch.equal(x, saved[k]) for k, x in now.items())
        resumed.train()
        runs.append(everything(resumed))
        resumed.stop()
    assert all(torch.equal(x, runs[1][k]) for k, x in runs[0].items())
    assert not all(torch.equal(x, saved[k]) for k, x in runs[0].items())
