"""Agents in actors of their own: the same numbers, by reference; and what happens when one is lost.

Networks are toys, so that what takes time is Ray's processes.
"""

import os
import signal
import time
from pathlib import Path

import agent_toys
import psutil
import pytest
import ray
import torch
from agent_toys import FOUR, Loop, arrays_in, members_of, toy_config
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_hetero import load_policies
from rllib_hetero.learners.agents.seats import ActorSeat

PATIENCE_S = 300
EIGHT = {a: (2, "discrete") for a in "abcdefgh"}


class Recording(ActorSeat):
    """Keeps what the driver sends and reads."""

    log: list

    def ask(self, method, *args):
        self.log.append(args)
        super().ask(method, *args)

    def read(self):
        answer = super().read()
        self.log.append(answer)
        return answer


@pytest.fixture(scope="module")
def actors(ray_local):
    ray.cloudpickle.register_pickle_by_value(agent_toys)
    yield
    ray.cloudpickle.unregister_pickle_by_value(agent_toys)


@pytest.fixture(scope="module")
def loop(actors, tmp_path_factory):
    """Four actors, which keep their state after every iteration."""
    Recording.log = []
    strike = tmp_path_factory.mktemp("strike")
    config = toy_config(env_config={"strike": str(strike)})
    loop = Loop(config.fault_tolerance(agent_snapshot_interval=1), Recording, by_reference=True)
    loop.strike = strike
    yield loop
    loop.group.shutdown()


def states(loop, folder):
    missing, _ = loop.group.save(str(folder), None)
    assert not missing
    return {m: torch.load(folder / "agents" / f"{m}.pt", weights_only=False) for m in FOUR}


def kill(metrics, member):
    os.kill(int(metrics[member]["pid"]), signal.SIGKILL)


def run_until(loop, wanted):
    """Iterations until the metrics are as they should; those of each of them."""
    history, start = [], time.monotonic()
    while not history or not wanted(history[-1]):
        assert time.monotonic() - start < PATIENCE_S, history[-1][None]
        history.append(loop.run())
        time.sleep(0.05)
    return history


def all_learn(metrics):
    return metrics[None]["live_peers"] == len(metrics) - 1 == 4 and metrics[None]["last_edges"] == 6


def test_actors_give_the_numbers_of_one_process(loop, tmp_path):
    config = toy_config(host=None, env_config=loop.config.env_config)
    alone = Loop(config)
    for both in (loop, alone):
        both.run(3)
        (tmp_path / str(both is loop)).mkdir()
    mine = states(loop, tmp_path / "True")
    assert mine.keys() == members_of(alone).keys()
    for m, member in members_of(alone).items():
        other = member.get_state()
        assert torch.equal(mine[m]["x"], other["x"])
        assert torch.equal(mine[m]["y"], other["y"])
        assert mine[m]["rewards"] == other["rewards"]
        assert torch.equal(mine[m]["consensus"]["multiplier"], other["consensus"]["multiplier"])


def test_the_driver_is_handed_references_only(loop):
    loop.run()
    assert len(loop.group.crew.seats) == 4
    assert not list(arrays_in(Recording.log))
    assert not list(arrays_in([loop.deals, loop.group._policies]))


def test_one_of_four_is_killed_and_comes_back_with_its_own_state(loop):
    before = run_until(loop, all_learn)[-1]
    kill(before, "b")
    history = run_until(loop, lambda metrics: metrics[None]["live_peers"] == 3)
    # Both ends of its edges are gone: the other three have all edges among themselves.
    assert history[-1][None]["last_edges"] == 3
    assert "b" not in history[-1]
    history = run_until(loop, all_learn)
    for metrics in history[:-1]:
        assert metrics[None]["last_edges"] in (3, 6)
    after = history[-1]
    assert after[None]["agent_learner_restarts"] == before[None]["agent_learner_restarts"] + 1
    assert after["b"]["pid"] != before["b"]["pid"]
    assert after["b"]["updates"] > before["b"]["updates"]
    # Multipliers began anew together: their sum is zero, up to float64's rounding.
    assert after[None]["multiplier_sum"] < 1e-12
    residuals = [loop.run()[None]["consensus_residual"] for _ in range(20)]
    assert residuals[-1] < residuals[0]


def test_without_a_state_of_its_own_it_starts_from_a_neighbours_shared_part(loop):
    before = run_until(loop, all_learn)[-1]
    kill(before, "c")
    (Path(loop.group.crew.snapshots) / "c.pt").unlink()
    after = run_until(loop, lambda m: all_learn(m) and m["c"]["pid"] != before["c"]["pid"])[-1]
    assert after["c"]["updates"] < before["c"]["updates"]
    # Where the others are, not at its first value of 0.
    assert abs(after["c"]["x"] - after["a"]["x"]) < 0.5 * abs(after["a"]["x"])


def test_the_others_do_not_wait_for_a_slow_one(loop, monkeypatch):
    before = run_until(loop, all_learn)[-1]
    monkeypatch.setattr(loop.group.config, "peer_timeout_s", 1.0)
    (loop.strike / "d").write_text("10")
    late = run_until(loop, lambda metrics: "d" not in metrics)[-1]
    assert late[None]["late_answers_lifetime"] > before[None]["late_answers_lifetime"]
    assert late[None]["num_updates_lifetime"] > before[None]["num_updates_lifetime"]
    monkeypatch.undo()
    after = run_until(loop, all_learn)[-1]
    assert after["d"]["pid"] == before["d"]["pid"]
    assert after["d"]["updates"] < after[None]["num_updates_lifetime"]
    assert after[None]["multiplier_sum"] < 1e-12


def test_one_that_may_not_start_again_stays_away(loop, monkeypatch):
    before = run_until(loop, all_learn)[-1]
    monkeypatch.setattr(loop.group.config, "max_agent_learner_restarts", 0)
    kill(before, "a")
    metrics = run_until(loop, lambda metrics: metrics[None]["live_peers"] == 3)[-1]
    metrics = loop.run(5)
    assert metrics[None]["live_peers"] == 3
    assert metrics[None]["agent_learner_restarts"] == before[None]["agent_learner_restarts"]


def test_a_resumed_run_is_the_uninterrupted_one(actors, tmp_path):
    """All of it: algorithm, checkpoint, runners; in this process, which is quick."""
    whole = toy_config(host=None, interval=(2, 1)).build_algo()
    for _ in range(3):
        whole.train()
    path = whole.save_to_path(str(tmp_path / "checkpoint"))
    again = Algorithm.from_checkpoint(path)
    assert load_policies(path).agents == whole.config.layout.team.agents
    for algo in (whole, again):
        results = [algo.train() for _ in range(3)][-1]
        algo.last = results["learners"]
    hosts = [algo.learner_group.crew.seats[0]._host for algo in (whole, again)]
    for a, b in zip(*(host._members.values() for host in hosts), strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
        assert a.rewards == b.rewards and a.updates == b.updates
    for m, x in whole.learner_group.get_weights().items():
        y = again.learner_group.get_weights([m])[m]
        assert all((x[k] == y[k]).all() for k in x)
    for algo in (whole, again):
        algo.stop()


@pytest.mark.slow
def test_two_of_eight_are_killed(actors):
    loop = Loop(toy_config(EIGHT, topology="ring", extra_edges=0.3), ActorSeat, by_reference=True)
    before = run_until(loop, lambda m: m[None]["live_peers"] == 8 and len(m) == 9)[-1]
    for member in "bg":
        kill(before, member)
    run_until(loop, lambda m: m[None]["live_peers"] == 6)
    after = run_until(loop, lambda m: m[None]["live_peers"] == 8 and len(m) == 9)[-1]
    assert after[None]["agent_learner_restarts"] == 2
    residuals = [loop.run()[None]["consensus_residual"] for _ in range(30)]
    assert residuals[-1] < residuals[0]
    loop.group.shutdown()


@pytest.mark.slow
def test_twenty_kills_leave_nothing_behind(actors):
    config = toy_config().fault_tolerance(agent_snapshot_interval=1)
    loop = Loop(config, ActorSeat, by_reference=True)
    metrics = run_until(loop, all_learn)[-1]
    me = psutil.Process()
    free, files = ray.available_resources()["CPU"], me.num_fds()
    for k in range(20):
        kill(metrics, "abcd"[k % 4])
        run_until(loop, lambda m: m[None]["live_peers"] == 3)
        metrics = run_until(loop, all_learn)[-1]
    assert metrics[None]["agent_learner_restarts"] == 20
    assert ray.available_resources()["CPU"] == pytest.approx(free)
    assert me.num_fds() <= files + 20
    hosts = [p for p in psutil.process_iter(["name"]) if "Host" in (p.info["name"] or "")]
    assert len(hosts) <= 8  # these four, and at most as many of another group
    assert len(list(Path(loop.group.crew.snapshots).iterdir())) == 4
    loop.group.shutdown()
    assert not Path(loop.group.crew.snapshots).exists()
