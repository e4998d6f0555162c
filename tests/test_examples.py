"""Every script that trains makes a config that trains; here with a small batch, in this process."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*(ROOT / "tuned_examples").glob("*/*.py"), *(ROOT / "examples").glob("own_*.py")])
SCRIPTS = [path for path in SCRIPTS if path.parent.name != "claims"]  # see reporting/test_claims.py
NEEDS = {
    "bimanual": "envpool",
    "football": "gfootball_engine",
    "knights": "supersuit",
    "magent": "magent2",
    "mamujoco": "gymnasium_robotics",
    "mpe_": "mpe2",
    "own_": "mpe2",
    "pistonball": "supersuit",
    "smax": "jaxmarl",
}

pytestmark = pytest.mark.usefixtures("ray_local")


def load(path):
    spec = importlib.util.spec_from_file_location(f"script_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_script_trains(path, caplog):
    if path.stem == "smacv2":
        pytest.skip("needs StarCraft II; tests/envs/test_smac_game.py trains it on a stand-in")
    for word, package in NEEDS.items():
        if word in path.stem:
            pytest.importorskip(package)
    script = load(path)
    config = script.make_config(script.parser.parse_args([]))
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=2)
    config.training(train_batch_size_per_learner=50, minibatch_size=None)
    family = config.capabilities.family
    if family == "decentralised":
        config.learners(agents_per_learner=None)
        if hasattr(config, "other_agents"):
            config.other_agents(model=False)  # as dear as all the rest
    if family != "on-policy":
        config.env_runners(rollout_fragment_length=25)
        config.training(
            training_intensity=2.0,
            num_steps_sampled_before_learning_starts=0,
            replay_buffer_config={"capacity": 1_000},
        )
    config.debugging(seed=0)
    algo = config.build_algo()
    result = algo.train()
    algo.stop()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 50
    logged = {"on-policy": "entropy", "off-policy": "loss", "decentralised": "critic_loss"}[family]
    for module in algo.config.layout.groups:
        assert np.isfinite(result["learners"][module][logged])
    assert not [r for r in caplog.records if "drift" in r.message]


def test_every_algorithm_has_a_script():
    from rllib_hetero import ALGORITHMS

    assert {name.lower() for name in ALGORITHMS} <= {path.parent.name for path in SCRIPTS}


def test_policies_of_small_battles_play_larger_ones(tmp_path, monkeypatch, capsys):
    pytest.importorskip("magent2")
    script = load(ROOT / "tuned_examples/f2a2isac/battle.py")
    config = script.make_config(script.parser.parse_args([]))
    algo = config.env_runners(num_envs_per_env_runner=1).build_algo()
    algo.save_to_path(tmp_path)
    algo.stop()
    arguments = ["play_battles.py", str(tmp_path), "--map-sizes", "20", "40", "--battles", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    load(ROOT / "examples/play_battles.py").main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[-2:]]
    for (size, won, ours, theirs), team in zip(rows, (12, 64), strict=True):
        assert int(size) == team
        assert 0 <= float(won) <= 1
        # Nobody has learnt to fight: some may die, and never all.
        assert 0 < float(ours) <= team and 0 < float(theirs) <= team


def test_everybody_in_a_battle_acts_on_its_own_view_by_its_own_policy(monkeypatch):
    script = load(ROOT / "examples/play_battles.py")
    team = SimpleNamespace(agents=("x", "y", "z"))
    views = {"x": [[0.0], [1.0]], "y": [[10.0], [11.0]], "z": [[20.0], [21.0]]}
    env = SimpleNamespace(
        team=team,
        observations={a: np.array(view) for a, view in views.items()},
        reset=lambda envs, seeds: None,
        episode_metrics=lambda envs: {"win_rate": np.array([0.0, 1.0])},
    )

    def step(actions):
        # Two policies, dealt out in turn: the first one's actions are 100 more.
        assert {a: x.tolist() for a, x in actions.items()} == {
            "x": [100, 101], "y": [10, 11], "z": [120, 121],
        }  # fmt: skip
        return SimpleNamespace(terminated=np.ones(2, bool), truncated=np.zeros(2, bool))

    env.step = step
    policies = SimpleNamespace(
        layout=SimpleNamespace(groups={"m": ["first", "other"], "n": ["second"]}),
        act_batch=lambda agents, x, **_: x[:, 0] + 100 * (agents[0] == "first"),
    )
    monkeypatch.setitem(script.ENVIRONMENTS, "magent", lambda env_config: env)
    assert script.play(policies, 20, battles=2, seed=0) == (3, {"win_rate": 0.5})
