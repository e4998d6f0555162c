"""Episodes that end within one rollout: logged together, as if each had been logged by itself."""

import numpy as np
import pytest
import runner_toys as toys
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPOConfig

NAMES = (
    "episode_len_mean", "episode_return_mean", "episode_return_min", "episode_return_max",
    "episode_len_min", "episode_len_max", "agent_episode_returns_mean",
    "module_episode_returns_mean", "agent_steps",
)  # fmt: skip


SINGLE = (*NAMES[:6], "num_episodes")


def runner_of(window, *, runners=0, each=False):
    env = {"lengths": [1, 3, 2, 4], "ends": "alternate", "dies": {"b": 2}}
    config = toys.small(HAPPOConfig(), ScriptedTeam, env, num_envs=3)
    config.reporting(metrics_num_episodes_for_smoothing=window)
    config.validate()
    config = config.copy(copy_frozen=False)
    config.num_env_runners = runners
    weights = toys.actor_weights(toys.make_modules(config))
    runner = toys.make_runner(config, weights=weights, worker_index=min(runners, 1))
    if each:
        runner._finished = LoggedEach(runner)
    return runner


class LoggedEach:
    """By RLlib's own method, at the end of each episode."""

    def __init__(self, runner):
        self.runner = runner

    def add(self, envs, tally, metrics):
        team = self.runner.config.layout.team
        for e in envs:
            returns = dict(zip(team.agents, tally.agent_returns[e].tolist(), strict=True))
            steps = dict(zip(team.agents, tally.agent_steps[e].tolist(), strict=True))
            modules = {
                m: sum(returns[a] for a in members)
                for m, members in self.runner.config.layout.groups.items()
            }
            (total,) = tally.team_returns([e])
            self.runner._log_episode_metrics(tally.lengths[e], total, 1.0, returns, modules, steps)
            self.runner.metrics.log_value("num_episodes", 1, reduce="sum")
            self.runner.metrics.log_value("num_episodes_lifetime", 1, reduce="lifetime_sum")

    def log(self, metrics):
        pass


def results_of(runner, calls):
    """What reaches the algorithm, over all calls; as numbers by name."""
    root = MetricsLogger(root=True)
    for steps in calls:
        runner.sample(num_timesteps=3 * steps)
        root.aggregate([runner.get_metrics()], key="runners")
    return root.reduce()["runners"]


def flat(x, stem=""):
    if isinstance(x, dict):
        return {k: v for name, y in x.items() for k, v in flat(y, f"{stem}/{name}").items()}
    return {stem: float(x)}


@pytest.mark.parametrize(("window", "runners"), [(1, 0), (5, 0), (5, 2), (100, 2)], ids=str)
@pytest.mark.parametrize("calls", [[40], [20, 1, 3, 9]], ids=str)
def test_metrics_are_those_of_logging_each(calls, window, runners):
    one = results_of(runner_of(window, runners=runners), calls)
    two = results_of(runner_of(window, runners=runners, each=True), calls)
    for name in NAMES:
        a, b = flat(one[name]), flat(two[name])
        assert a.keys() == b.keys()
        for k, x in a.items():
            assert x == pytest.approx(b[k], rel=1e-6), (name, k)
    for name in ("num_episodes", "num_episodes_lifetime"):
        assert float(one[name]) == float(two[name]) > 0


def test_window_and_counts_by_hand():
    runner = runner_of(4)
    (f,) = runner.sample(num_timesteps=3 * 40)
    results = results_of_once(runner)
    ends = [(t, e) for t in range(40) for e in range(3) if (f.terminated | f.truncated)[t, e]]
    assert len(ends) > 40
    lengths, returns, begin = [], [], [0, 0, 0]
    for t, e in ends:
        lengths.append(t + 1 - begin[e])
        returns.append(f.rewards[begin[e] : t + 1, e].sum())
        begin[e] = t + 1
    assert results["num_episodes"] == len(ends)
    assert results["episode_len_mean"] == pytest.approx(np.mean(lengths[-4:]))
    assert results["episode_return_mean"] == pytest.approx(np.mean(returns[-4:]), rel=1e-5)
    assert results["episode_return_min"] == pytest.approx(min(returns[-4:]), rel=1e-5)
    assert results["episode_return_max"] == pytest.approx(max(returns[-4:]), rel=1e-5)
    assert min(returns) < min(returns[-4:]) or max(returns) > max(returns[-4:])


def results_of_once(runner):
    root = MetricsLogger(root=True)
    root.aggregate([runner.get_metrics()], key="runners")
    results = root.reduce()["runners"]
    return {name: float(x) for name, x in results.items() if name in SINGLE}


def test_only_the_window_is_logged(monkeypatch):
    runner, logged = runner_of(4), []
    inner = MetricsLogger.log_value

    def log_value(self, key, value, **settings):
        logged.extend([value] if key == "episode_return_mean" else [])
        inner(self, key, value, **settings)

    monkeypatch.setattr(MetricsLogger, "log_value", log_value)
    runner.sample(num_timesteps=3 * 40)
    assert len(logged) == 4
    runner.sample(num_timesteps=3)
    assert len(logged) < 8  # those of before are not logged again


def test_no_episode_no_metrics():
    env = {"lengths": [50]}
    runner = toys.make_runner(toys.small(HAPPOConfig(), ScriptedTeam, env))
    runner.sample(num_timesteps=8)
    results = results_of_once(runner)
    assert not results


class Scored(ScriptedTeam):
    """Won if the episode is longer than two steps."""

    def episode_metrics(self):
        return {"win_rate": float(self.t > 2), "last_step": self.t}


@pytest.mark.parametrize("window", [4, 100])
def test_metrics_of_the_environment_are_means_over_episodes(window):
    config = toys.small(HAPPOConfig(), Scored, {"lengths": [1, 3, 2, 4]}, num_envs=3)
    config.reporting(metrics_num_episodes_for_smoothing=window)
    runner = toys.make_runner(config)
    (f,) = runner.sample(num_timesteps=3 * 20)
    results = runner.get_metrics()
    root = MetricsLogger(root=True)
    root.aggregate([results], key="runners")
    results = root.reduce()["runners"]
    over = f.terminated | f.truncated
    begin, lengths = [0, 0, 0], []
    for t, e in np.argwhere(over).tolist():
        lengths.append(t + 1 - begin[e])
        begin[e] = t + 1
    lengths = np.array(lengths[-window:])
    assert float(results["last_step"]) == pytest.approx(lengths.mean())
    assert float(results["win_rate"]) == pytest.approx((lengths > 2).mean())
    assert 0 < (lengths > 2).mean() < 1
