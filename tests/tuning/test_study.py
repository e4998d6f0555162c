"""What is planned, what is refused before Ray starts, and how lost steps are counted."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune.search import Searcher

from rllib_hetero import ALGORITHMS, HAPPOConfig, MAPPOConfig
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.tuning import Plan, make_study
from rllib_hetero.tuning.progress import Progress, lost_env_steps
from rllib_hetero.tuning.searchers import OverSeeds

LR = {"lr": tune.loguniform(1e-4, 1e-3)}


def on_game(cls=HAPPOConfig, **env_config):
    return (
        cls()
        .environment("matrix_game", env_config={"game": "climbing", **env_config})
        .env_runners(num_env_runners=0)
        .training(train_batch_size_per_learner=100)
    )


@pytest.fixture
def anything_is_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


# ---- the searches -------------------------------------------------------------------------------


def test_one_search_for_each_algorithm_and_task(anything_is_installed, tmp_path):
    configs = [on_game(c, **e) for c in (HAPPOConfig, MAPPOConfig) for e in ({}, {"length": 5})]
    study = make_study(configs, Plan(seeds=(1, 2), num_samples=3), tmp_path, space=LR)
    assert [s.name for s in study.searches] == [
        "happo-matrix-game-climbing", "happo-matrix-game-climbing-length-5",
        "mappo-matrix-game-climbing", "mappo-matrix-game-climbing-length-5",
    ]  # fmt: skip
    assert study.searches[1].task == "climbing (length=5)"
    # 3 settings with each of 2 seeds.
    assert study.searches[0].tune_config().num_samples == 3
    assert study.searches[0].param_space().seed == {"grid_search": [1, 2]}


def test_populations_of_seeds_do_not_mix(anything_is_installed, tmp_path):
    plan = Plan(seeds=(4, 5), num_samples=8, scheduler="pbt")
    study = make_study([on_game()], plan, tmp_path, space=LR)
    assert [s.name for s in study.searches] == [
        "happo-matrix-game-climbing-s4", "happo-matrix-game-climbing-s5",
    ]  # fmt: skip
    assert [s.param_space().seed for s in study.searches] == [4, 5]


def test_no_more_trials_at_once_than_asked_for(tmp_path):
    plan = Plan(num_samples=3, max_concurrent=2)
    search = make_study([on_game()], plan, tmp_path, space=LR).searches[0].tune_config().search_alg
    space = {"lr": LR["lr"]}
    search.add_configurations(
        tune.Experiment("e", lambda config: None, config=space, num_samples=3)
    )
    first, second = search.next_trial(), search.next_trial()
    assert first.config != second.config
    assert search.next_trial() is None and not search.is_finished()
    search.on_trial_complete(first.trial_id)
    assert search.next_trial() is not None


def test_a_restored_search_is_given_its_space_again(tmp_path, monkeypatch):
    """Tune does not save it; see tests/tuning/test_tune_command.py for what follows."""
    given = {}
    monkeypatch.setattr(tune.Tuner, "can_restore", lambda path: True)
    monkeypatch.setattr(tune.Tuner, "restore", lambda *args, **kwargs: given.update(kwargs))
    search = make_study([on_game()], Plan(num_samples=2), tmp_path, space=LR).searches[0]
    search.tuner()
    assert given["param_space"].to_dict().keys() == search.param_space().to_dict().keys()
    assert given["param_space"].lr is LR["lr"]


def test_default_spaces_without_what_is_fixed(tmp_path):
    study = make_study([on_game()], Plan(num_samples=2), tmp_path, fixed={"lr", "gamma"})
    assert set(study.searches[0].space) == {"clip_param", "entropy_coeff", "num_epochs"}


def test_what_is_given_to_tune_is_not_validated(tmp_path):
    config = on_game()
    make_study([config], Plan(num_samples=2), tmp_path)
    assert config.layout is None and config.update_order_seed is None


@pytest.mark.parametrize(
    ("plan", "space", "message"),
    [
        ({"scheduler": "ahsa"}, None, "`scheduler` is 'ahsa'; it may be None, 'asha', 'pbt'"),
        ({"search": "grid"}, None, "`search` is 'grid'"),
        ({"mode": "most"}, None, "`mode` is 'most'"),
        ({"seeds": ()}, None, "`seeds` must be different"),
        ({"seeds": (1, 1)}, None, "`seeds` must be different"),
        ({"num_samples": 0}, None, "at least 1"),
        ({"num_samples": 2}, {}, "Nothing is searched, so `num_samples` must be 1"),
        ({"scheduler": "pbt"}, {}, "nothing for PBT or Optuna"),
        ({"scheduler": "pbt"}, None, "PBT needs a population"),
        ({"scheduler": "pbt", "search": "optuna", "num_samples": 2}, None, "draws its settings"),
        ({"scheduler": "asha", "search": "optuna", "seeds": (1, 2)}, None, "early stops"),
        ({}, {"clip_param": tune.uniform(-2, -1)}, "`clip_param` is -1"),
        ({}, {"clip_parm": tune.uniform(0, 1)}, "clip_parm"),
    ],
)
def test_what_does_not_go_together(plan, space, message, tmp_path):
    with pytest.raises(TeamError, match=message):
        make_study([on_game()], Plan(**plan), tmp_path, space=space)


def test_the_same_task_twice_is_refused(tmp_path):
    with pytest.raises(TeamError, match="given twice: happo-matrix-game-climbing"):
        make_study([on_game(), on_game()], Plan(), tmp_path)


def test_missing_packages_are_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[optuna\]"):
        make_study([on_game()], Plan(search="optuna"), tmp_path)
    with pytest.raises(MissingExtraError, match=r"rllib_hetero\[report\]"):
        make_study([on_game()], Plan(seeds=(1, 2)), tmp_path)


def test_a_folder_is_only_gone_on_with_by_the_same_study(tmp_path):
    study = make_study([on_game()], Plan(num_samples=2), tmp_path, space=LR)
    study.check_folder(resume=False)
    study.check_folder(resume=True)  # there is nothing yet: it begins
    (tmp_path / "study.json").write_text(json.dumps(study._record(), default=repr))
    study.check_folder(resume=True)
    with pytest.raises(TeamError, match="holds a search already"):
        study.check_folder(resume=False)
    other = make_study([on_game()], Plan(num_samples=3), tmp_path, space=LR)
    with pytest.raises(TeamError, match="other settings: num_samples"):
        other.check_folder(resume=True)
    wider = make_study([on_game()], Plan(num_samples=2), tmp_path)
    with pytest.raises(TeamError, match="other settings: spaces"):
        wider.check_folder(resume=True)
    longer = make_study([on_game().training(gamma=0.5)], Plan(num_samples=2), tmp_path, space=LR)
    with pytest.raises(TeamError, match="other settings: configs"):
        longer.check_folder(resume=True)


# ---- seeds of suggestions -----------------------------------------------------------------------


class Counter(Searcher):
    """Suggests 0, 1, 2, ...; keeps what it is told."""

    def __init__(self):
        super().__init__(metric="return", mode="max")
        self.count, self.told = 0, {}

    def suggest(self, trial_id):
        self.count += 1
        return {"lr": self.count - 1}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told[trial_id] = result


def test_a_suggestion_is_tried_with_every_seed_and_told_once():
    searcher = Counter()
    over = OverSeeds(searcher, [7, 8])
    suggested = {name: over.suggest(name) for name in "abcd"}
    assert suggested == {
        "a": {"lr": 0, "seed": 7}, "b": {"lr": 0, "seed": 8},
        "c": {"lr": 1, "seed": 7}, "d": {"lr": 1, "seed": 8},
    }  # fmt: skip
    over.on_trial_result("a", {})  # no episode has ended yet
    over.on_trial_complete("b", {"return": 4.0})
    assert not searcher.told
    # As after the driver was killed: Tune saves the wrapper and the searcher apart.
    again = OverSeeds(searcher, [7, 8])
    again.set_state(over.get_state())
    again.on_trial_complete("a", {"return": 1.0})
    assert searcher.told == {"a": {"return": 2.5}}


# ---- lost steps ---------------------------------------------------------------------------------


def result(steps, sampled=100, value=1.0):
    runners = {"num_env_steps_sampled": sampled, "episode_return_mean": value}
    return {"num_env_steps_sampled_lifetime": steps, "env_runners": runners}


def follow(progress, *all_steps, trial="t1"):
    for steps in all_steps:
        progress.on_trial_result(0, [], SimpleNamespace(trial_id=trial), result(steps))


def test_lost_steps_outlive_the_driver(tmp_path, capsys):
    def new():
        progress = Progress(
            tmp_path / "a.json", 1000, "env_runners/episode_return_mean", count_lost=True
        )
        progress.setup()
        return progress

    follow(new(), 100, 200, 300)
    driver = new()  # the checkpoint was at 200: 300 had been reached
    follow(driver, 300, 400)
    assert lost_env_steps(tmp_path / "a.json") == 100
    assert "goes on from 200 steps, 100 are trained again" in capsys.readouterr().out
    follow(driver, 100, trial="t2")
    follow(driver, 100, trial="t2")  # failed before its first checkpoint
    follow(driver, 500)
    assert lost_env_steps(tmp_path / "a.json") == 200
    assert not list(tmp_path.glob("*.new"))


def test_a_line_for_every_tenth(tmp_path, capsys):
    progress = Progress(
        tmp_path / "a.json", 1000, "env_runners/episode_return_mean", count_lost=False
    )
    progress.setup()
    follow(progress, 50, 110, 150, 400, 1000)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == [
        "110/1,000", "400/1,000", "1,000/1,000",
    ]  # fmt: skip
    follow(progress, 500)  # PBT: another one's weights
    assert lost_env_steps(tmp_path / "a.json") == 0


def test_the_example_is_planned_by_every_method(anything_is_installed, tmp_path):
    from test_examples import ROOT, load

    script = load(ROOT / "tuned_examples" / "tune" / "climbing.py")
    for method in script.METHODS:
        args = script.parser.parse_args(["--method", method, "--out", str(tmp_path / method)])
        study = script.study_of(args)
        assert study.searches and set(args.algo) <= set(ALGORITHMS)
        assert method in (study.plan.scheduler, study.plan.search)
