"""Trained policies without Ray: saved by an algorithm, loaded and used by anyone."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runner_toys as toys
import torch
from gymnasium.spaces import Discrete
from pyarrow.fs import LocalFileSystem
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPO, HAPPOConfig, TeamError, TeamPolicies, load_policies
from rllib_hetero.algorithms.checkpoint import export_policies
from rllib_hetero.functional import distribution_for
from rllib_hetero.reporting import record_episode, video
from rllib_hetero.reporting.evaluation import evaluate
from rllib_hetero.reporting.films import Films
from rllib_hetero.runners.actions import action_transform

MIXED = {"agents": {"a": 3, "b": 4, "c": 4}, "actions": {"b": "discrete", "c": "multi"}}
SHARED = {"agents": {"a": 4, "b": 4, "c": 4}}
UNEVEN = {"agents": {"a": 4, "b": 4, "c": 4}, "actions": {"a": "uneven"}}
GROUPED = {
    "agents": dict(zip(np.array([3, 7, 11]), (3, 4, 4), strict=True)),  # ids of numpy's
    "actions": {7: "discrete", 11: "discrete"},
}
CASES = {
    "HAPPO": ("HAPPO", MIXED, "none", {}),
    "MAPPO, shared": ("MAPPO", SHARED, "full", {}),
    "HAPPO, a group of integers": ("HAPPO", GROUPED, {"pair": [7, 11]}, {}),
    "MAPPO, shared, no index": ("MAPPO", SHARED, "full", {"agent_index": False}),
    "normalized": ("HAPPO", UNEVEN, "none", {"normalize_actions": True}),
    "uneven": ("HAPPO", UNEVEN, "none", {}),
    "unclipped": ("HAPPO", SHARED, "none", {"clip_actions": False}),
}


@pytest.fixture(scope="module")
def saved(ray_local, tmp_path_factory):
    """Each case, trained and saved: (the algorithm, the checkpoint's folder)."""
    algos = {}
    for case, (name, env_config, sharing, settings) in CASES.items():
        config = toys.small(toys.CONFIGS[name](), env_config=env_config)
        config.multi_agent(parameter_sharing=sharing).update_from_dict(settings)
        # Numbers of numpy's are no reason that a checkpoint cannot be written after training.
        given = {"hidden_sizes": [np.int64(16)], "actor_head_gain": np.float32(0.5)}
        algo = config.training(lr=0.05).rl_module(model_config=given).build_algo()
        algo.train()
        algos[case] = algo, algo.save_to_path(tmp_path_factory.mktemp("checkpoint"))
    yield algos
    for algo, _ in algos.values():
        algo.stop()


def observations_of(algo, num=20, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {a: s.shape[0] for a, s in algo.config.layout.team.observation_spaces.items()}
    return [
        {a: rng.normal(0, 3, n).astype(np.float32) for a, n in sizes.items()} for _ in range(num)
    ]


def greedy(algo, observations):
    """The algorithm's own modules' most likely actions, ready for the environment."""
    layout, actions = algo.config.layout, {}
    for agent, x in observations.items():
        m, k = layout.slot_of[agent]
        n = layout.index_size(m)
        row = np.concatenate([x, np.eye(n)[k]]) if n else x
        with torch.no_grad():
            out = algo.get_module(m).forward_inference(
                {Columns.OBS: torch.as_tensor(row, dtype=torch.float32)[None]}
            )
        space = layout.action_space(m)
        mode = distribution_for(space).mode(out[Columns.ACTION_DIST_INPUTS]).numpy()[0]
        actions[agent] = action_transform(
            space, normalize=algo.config.normalize_actions, clip=algo.config.clip_actions
        )(mode)
    return actions


def assert_equal_actions(a, b):
    assert a.keys() == b.keys()
    for agent in a:
        np.testing.assert_allclose(a[agent], b[agent], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": {"a": 3, "b": 4}}, "agents lack c"),
        ({"agents": {"a": 3, "b": 4, "c": 5}}, r"shape of agent 'c' is \(5,\), not \(4,\)"),
        ({"actions": {"b": "multi", "c": "multi"}}, r"'b' is MultiDisc.*, not Discrete\(4\)"),
        ({"poison": "observation"}, "infinite observation for agent 'c', in step 3 of the episode"),
        ({"poison": "reward"}, "infinite reward for agent 'c', in step 2 of the episode"),
    ],
    ids=str,
)
def test_what_they_were_not_trained_on_is_not_played(saved, changes, message):
    policies = load_policies(saved["HAPPO"][1])
    assert evaluate(policies, ScriptedTeam, MIXED, episodes=1).lengths == [5]
    assert evaluate(policies, ScriptedTeam, MIXED | {"state": True}, episodes=1).lengths == [5]
    with pytest.raises(TeamError, match=message):
        evaluate(policies, ScriptedTeam, MIXED | changes, episodes=1)


@pytest.mark.parametrize("case", CASES)
def test_acts_as_the_algorithm_does(saved, case):
    algo, path = saved[case]
    policies = load_policies(path)
    assert isinstance(policies, TeamPolicies)
    assert policies.agents == algo.config.layout.team.agents
    spread = []
    for observations in observations_of(algo):
        actions = policies.act(observations)
        assert_equal_actions(actions, greedy(algo, observations))
        spread.append(np.concatenate([np.ravel(u) for u in actions.values()]))
    assert np.std(spread, axis=0).max() > 0.01  # not all alike


@pytest.mark.parametrize("case", ["HAPPO", "normalized", "uneven"])
def test_actions_are_ready_for_the_environment(saved, case):
    algo, path = saved[case]
    policies = load_policies(path)
    policies.seed(0)
    spaces = algo.config.layout.team.action_spaces
    for observations in observations_of(algo):
        for explore in (False, True):
            for agent, u in policies.act(observations, explore=explore).items():
                assert spaces[agent].contains(u), agent
                assert (type(u) is int) == isinstance(spaces[agent], Discrete)


def test_unclipped_actions_may_leave_the_space(saved):
    policies = load_policies(saved["unclipped"][1])
    policies.seed(0)
    drawn = [policies.act(x, explore=True)["a"] for x in observations_of(saved["unclipped"][0])]
    assert np.abs(drawn).max() > 0.5


def test_sampling_is_repeatable_from_a_seed(saved):
    algo, path = saved["HAPPO"]
    policies = load_policies(path)

    def drawn(seed):
        policies.seed(seed)
        return [
            np.concatenate([np.ravel(u) for u in policies.act(x, explore=True).values()])
            for x in observations_of(algo)
        ]

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    greedy_actions = [np.ravel(policies.act(x)["a"]) for x in observations_of(algo)]
    assert not np.allclose([x[:2] for x in drawn(1)], greedy_actions)


# ---- action masks and memories --------------------------------------------------------------

KINDS = {
    "masked": ({"actions": {"b": "discrete", "c": "multi"}, "masked": "bc"}, "none", None),
    "gru": (SHARED, {"pair": ["a", "b"]}, "gru"),
    "masked, lstm": (
        {**SHARED, "actions": dict.fromkeys("abc", "multi"), "masked": "abc", "dies": {"b": 3}},
        "full",
        "lstm",
    ),
}


@pytest.fixture(scope="module")
def exported(ray_local, tmp_path_factory):
    """Each kind, saved without a training: (the algorithm, the checkpoint's folder)."""
    algos = {}
    for kind, (env_config, sharing, recurrent) in KINDS.items():
        config = toys.small(toys.CONFIGS["HAPPO"](), env_config=env_config, num_envs=1)
        config.multi_agent(parameter_sharing=sharing).rl_module(
            model_config={"hidden_sizes": [16], "actor_head_gain": 0.5, "recurrent": recurrent}
        )
        algo = config.build_algo()
        folder = str(tmp_path_factory.mktemp("checkpoint"))
        export_policies(algo, folder, LocalFileSystem())
        algos[kind] = algo, folder
    yield algos
    for algo, _ in algos.values():
        algo.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_acts_as_the_runner_does(exported, kind):
    """Step by step through whole episodes of the environment, greedily."""
    algo, path = exported[kind]
    policies, runner = load_policies(path), algo.env_runner
    (f,) = runner.sample(num_timesteps=10, explore=False, force_reset=True)
    assert np.flatnonzero(f.truncated[:, 0]).tolist() == [4, 9]
    layout = runner.config.layout
    for t in range(10):
        if t % 5 == 0:
            policies.reset()
        observations, expected = {}, {}
        for agent, (m, k) in layout.slot_of.items():
            if not f.active[m][t, 0, k]:
                continue
            size = layout.team.observation_spaces[agent].shape[0]
            x = f.observations[m][t, 0, k, :size]
            if agent in layout.team.masked:
                mask = f.action_masks[m][t, 0, k].astype(np.int8)
                x = {"observations": x, "action_mask": mask}
            observations[agent] = x
            expected[agent] = runner._transforms[agent](f.actions[m][t, 0, k])
        assert_equal_actions(policies.act(observations), expected)


def test_memories_last_until_the_reset(exported):
    algo, path = exported["gru"]
    policies = load_policies(path)
    (observations,) = observations_of(algo, num=1)
    first, second = (policies.act(observations) for _ in range(2))
    assert not np.allclose(first["a"], second["a"], atol=1e-6)
    policies.reset()
    assert_equal_actions(policies.act(observations), first)
    # Agents that share a module remember by themselves.
    policies.reset()
    policies.act({"b": observations["b"]})
    assert_equal_actions(policies.act({"a": observations["a"]}), {"a": first["a"]})


def test_forbidden_actions_are_not_drawn(exported):
    _, path = exported["masked"]
    policies = load_policies(path)
    policies.seed(0)
    x, rng = {"a": np.ones(3), "b": np.ones(5), "c": np.ones(5)}, np.random.default_rng(0)
    for _ in range(50):
        b, c = rng.permutation([1, 1, 0, 0]), np.array([0, 1, 1, 0, 1])
        actions = policies.act(
            {
                "a": x["a"],
                "b": {"observations": x["b"], "action_mask": b},
                "c": {"observations": x["c"], "action_mask": c.astype(bool)},
            },
            explore=True,
        )
        assert b[actions["b"]] and actions["c"][0] in (1, 2) and actions["c"][1] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones(5), "'c' was trained with action masks.*'observations' and 'action_mask'"),
        ({"observations": np.ones(5)}, "'c' was trained with action masks"),
        (
            {"observations": np.ones(5), "action_mask": np.ones(4)},
            r"'c' has shape \(4,\), trained on \(5,\)",
        ),
        (
            {"observations": np.ones(5), "action_mask": [1, 1, 1, 0, 0]},
            "mask of agent 'c' allows nothing",
        ),
        ({"observations": np.ones(4), "action_mask": np.ones(5)}, r"'c' has shape \(4,\)"),
    ],
)
def test_broken_masks(exported, given, message):
    with pytest.raises(TeamError, match=message):
        load_policies(exported["masked"][1]).act({"c": given})


def test_masked_agents_are_written(exported):
    for kind, masked in {"masked": ["b", "c"], "gru": [], "masked, lstm": ["a", "b", "c"]}.items():
        folder = Path(exported[kind][1]) / "policies"
        assert json.loads((folder / "team.json").read_text())["masked"] == masked


def test_films_and_demos_forget_before_each_episode(exported, monkeypatch):
    algo, path = exported["masked, lstm"]
    policies, calls = load_policies(path), []
    monkeypatch.setattr(type(policies), "reset", lambda self: calls.append("reset"))
    monkeypatch.setattr(video, "_writer", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(video, "play_episode", lambda act, env, **_: calls.append("play") or 0.0)
    record_episode(policies, None, Path(path) / "none.gif")
    assert calls == ["reset", "play"]
    # Random actions heed the masks: the toy refuses others.
    monkeypatch.undo()
    env = ScriptedTeam(algo.config.env_config)
    for seed in range(3):
        video.play_episode(video.random_actions(env, seed=seed), env, seed=seed)


def test_samples_follow_the_policy(saved):
    algo, path = saved["HAPPO"]
    policies = load_policies(path)
    policies.seed(0)
    (observations,) = observations_of(algo, num=1)
    m = algo.get_module("b")
    with torch.no_grad():
        x = torch.from_numpy(observations["b"])[None]
        probs = m.forward_inference({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS].softmax(-1)[0]
    drawn = [policies.act({"b": observations["b"]}, explore=True)["b"] for _ in range(2000)]
    counts = np.bincount(drawn, minlength=4) / 2000
    assert (np.abs(counts - probs.numpy()) < 5 * np.sqrt(0.25 / 2000)).all()


def test_some_of_the_agents(saved):
    """An agent that has died is simply left out; lists are observations too."""
    algo, path = saved["MAPPO, shared"]
    policies = load_policies(path)
    (observations,) = observations_of(algo, num=1)
    everyone = policies.act(observations)
    one = policies.act({"c": observations["c"].tolist()})
    assert_equal_actions(one, {"c": everyone["c"]})


@pytest.mark.parametrize("case", ["MAPPO, shared", "MAPPO, shared, no index", "normalized"])
def test_a_batch_is_acted_on_as_its_rows_are(saved, case):
    algo, path = saved[case]
    policies = load_policies(path)
    steps = observations_of(algo)
    shared = "shared" in policies.layout.groups
    agents = ["c", "a", "c", "b"] if shared else ["b"] * 4
    rows = np.stack([x[a] for x, a in zip(steps, agents, strict=False)])
    actions = policies.act_batch(agents, rows)
    assert actions.shape == (4, 2)
    for u, x, a in zip(actions, rows, agents, strict=True):
        np.testing.assert_allclose(u, policies.act({a: x})[a], atol=1e-5)
    # Samples: those of the policies' own generator, or of the given one.
    policies.seed(3)
    drawn = policies.act_batch(agents, rows, explore=True)
    same = policies.act_batch(agents, rows, explore=True, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(drawn, same)
    assert not np.allclose(drawn, actions, atol=1e-3)
    space = algo.config.layout.team.action_spaces["b"]
    assert all(space.contains(u) for u in drawn)


@pytest.mark.parametrize(
    ("kind", "agents", "size", "message"),
    [
        ("gru", ["a", "b"], 4, "are recurrent; let them act with act"),
        ("gru", ["a", "c"], 4, r"agents of one module, these are of \['c', 'pair'\]"),
        ("gru", [], 4, "agents of one module"),
        ("masked", ["b"], 5, "have action masks"),
        ("masked", ["x"], 5, "Unknown agent 'x'"),
        ("masked", ["a", "a"], 2, r"shape \(2, 2\); \(2, 3\) is needed"),
    ],
)
def test_what_cannot_be_a_batch(exported, kind, agents, size, message):
    with pytest.raises(TeamError, match=message):
        load_policies(exported[kind][1]).act_batch(agents, np.zeros((len(agents), size)))


SCRIPT = """
import json, pickle, sys
import _pickle

def forbidden(*args, **kwargs):
    raise AssertionError("something was unpickled")

class Unpickler:
    def __init__(self, *args, **kwargs):
        forbidden()

pickle.load = pickle.loads = _pickle.load = _pickle.loads = forbidden
import numpy as np
from rllib_hetero import load_policies
import torch
pickle.load = pickle.loads = _pickle.load = _pickle.loads = forbidden
pickle.Unpickler = pickle._Unpickler = _pickle.Unpickler = Unpickler

path, observations = sys.argv[1], json.loads(sys.argv[2])
policies = load_policies(path)
actions = [
    {a: np.asarray(u).tolist() for a, u in policies.act(x).items()} for x in observations
]
import ray
assert not ray.is_initialized()
try:
    pickle.loads(b"")
except AssertionError:
    print(json.dumps(actions))
"""


def test_policies_behind_connectors_are_written_and_refused(ray_local, tmp_path, caplog):
    def normalized(env, spaces, device):
        return MeanStdFilter(multi_agent=True)

    config = toys.small(
        HAPPOConfig(),
        env_config=SHARED,
        env_runner_cls=MultiAgentEnvRunner,
        env_to_module_connector=normalized,
    )
    algo = config.build_algo()
    assert "`load_policies` will refuse" in caplog.text
    path = algo.save_to_path(tmp_path)  # What was trained is not lost.
    algo.stop()
    with pytest.raises(TeamError, match=r"config.env_runners\(env_to_module_connector=...\).*code"):
        load_policies(path)
    with pytest.raises(TeamError, match=r"--video-every.*env_to_module_connector"):
        Films(config, 1)
    # What the message says.
    restored = HAPPO.from_checkpoint(path)
    assert "MeanStdFilter" in str([*restored.env_runner._env_to_module])
    assert np.isfinite(restored.evaluate()["env_runners"]["episode_return_mean"])
    restored.stop()


def test_a_module_with_two_passes_acts_by_the_one_that_is_meant(tmp_path):
    discrete = {"agents": {"a": 4}, "actions": {"a": "discrete"}}
    config = toys.small(HAPPOConfig(), env_config=discrete)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=toys.TwoPasses, model_config={}))
    algo = config.build_algo()
    policies = load_policies(algo.save_to_path(tmp_path), trusted=True)
    layer = algo.get_module("a").layer
    algo.stop()
    for x in observations_of(algo, num=5):
        with torch.no_grad():
            logits = layer(torch.from_numpy(x["a"]))
        rows = x["a"][None].repeat(2, 0)
        for explore, best in ((False, logits.argmax()), (True, logits.argmin())):
            assert policies.act(x, explore=explore)["a"] == best
            assert policies.act_batch(["a", "a"], rows, explore=explore).tolist() == [best] * 2


def test_what_cannot_be_written_is_told_and_refused(saved, tmp_path, caplog, monkeypatch):
    algo, _ = saved["HAPPO"]
    spec = algo.config.get_multi_rl_module_spec(inference_only=True)
    spec.rl_module_specs["b"].model_config = {"activation": torch.tanh, "n": 3}
    monkeypatch.setattr(type(algo.config), "get_multi_rl_module_spec", lambda *_, **__: spec)
    for _ in range(2):
        export_policies(algo, str(tmp_path), LocalFileSystem())
    assert caplog.text.count("model_config of 'b'.activation cannot be written") == 1
    with pytest.raises(TeamError, match=r"lack model_config of 'b'\.activation: what is no plain"):
        load_policies(tmp_path)


def test_weights_that_do_not_fit_are_an_error_of_one_kind(saved, tmp_path):
    shutil.copytree(Path(saved["HAPPO"][1]) / "policies", tmp_path / "policies")
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "policies" / "b.pt")
    with pytest.raises(TeamError, match=r"weights of the module 'b'.*do not fit.*head.weight"):
        load_policies(tmp_path)


def test_neither_ray_nor_pickle(saved):
    algo, path = saved["HAPPO"]
    observations = observations_of(algo, num=5)
    given = json.dumps([{a: x.tolist() for a, x in row.items()} for row in observations])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for actions, row in zip(json.loads(done.stdout), observations, strict=True):
        assert_equal_actions(actions, greedy(algo, row))


def test_what_is_written(saved):
    """Plain JSON, and weights that torch reads without unpickling objects; no critic."""
    _, path = saved["HAPPO, a group of integers"]
    folder = Path(path) / "policies"
    assert {p.name for p in folder.iterdir()} == {"team.json", "3.pt", "pair.pt"}
    team = json.loads((folder / "team.json").read_text())
    assert team["agents"] == [3, 7, 11] and team["groups"]["pair"] == [7, 11]
    weights = torch.load(folder / "pair.pt", weights_only=True)
    assert weights["body.0.weight"].shape == (16, 6)


@pytest.mark.parametrize(
    "name",
    [
        "rllib_hetero.cli:main",  # a command
        "rllib_hetero.checking:check_env",  # a function
        "rllib_hetero.team:Team",  # a class of another kind
        "rllib_hetero.team:nothing",
    ],
)
def test_a_strangers_file_names_modules_only(saved, tmp_path, name):
    _, path = saved["MAPPO, shared"]
    for file in (Path(path) / "policies").iterdir():
        (tmp_path / "policies").mkdir(exist_ok=True)
        (tmp_path / "policies" / file.name).write_bytes(file.read_bytes())
    description = tmp_path / "policies" / "team.json"
    team = json.loads(description.read_text())
    for module in team["modules"].values():
        module["class"] = name
    description.write_text(json.dumps(team))
    with pytest.raises(TeamError, match="is no RLModule"):
        load_policies(tmp_path)
