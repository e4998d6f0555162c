"""Fragments of the team env runner in the replay: failures, restarts, ends and deaths."""

import uuid

import numpy as np
import runner_toys as toys
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.replay import JointReplay


def make_runner(case):
    """Its environment 0 fails once, in its second episode."""
    case = {**case, "fail": "step", "fail_at": (0, 1, 1), "fail_key": uuid.uuid4().hex}
    config = toys.small(HAPPOConfig(), ScriptedTeam, case, num_envs=2)
    config.update_from_dict({"restart_failed_sub_environments": True})
    return toys.make_runner(config)


def test_every_transition_is_of_one_episode():
    """The environment shows its index, its episode and the step to agent a, who does not die."""
    case = {
        "agents": {"a": 4, "b": 5, "c": 5}, "dies": {"b": 3, "c": 5}, "state": True,
        "lengths": [5, 3, 8], "ends": "alternate",
    }  # fmt: skip
    runner, replay, failures = make_runner(case), None, 0
    for i, steps in enumerate((3, 1, 4, 2, 7, 1, 1, 5, 9, 2, 6)):
        if i == 6:
            runner = make_runner(case)
        (fragment,) = runner.sample(num_timesteps=2 * steps)
        if replay is None:
            layout = runner.config.layout
            replay = JointReplay(layout, capacity=2 * 30, num_columns=2)
        if i != 4:  # a fragment that gets lost
            replay.add(fragment)
        assert fragment.problem is None
        failures += (~fragment.valid).sum()
        for n_step in (1, 3):
            batch = replay.take(np.arange(len(replay)), n_step, gamma=0.5)
            goes_on = batch.discount > 0
            steps_made = (-batch.discount[goes_on].log2()).numpy().round()
            before = batch.observations["a"][goes_on, 0].numpy()
            after = batch.next_observations["a"][goes_on, 0].numpy()
            assert len(before) and (steps_made <= n_step).all()
            assert np.array_equal(before[:, :2], after[:, :2])  # index and episode
            assert np.array_equal(before[:, 2] - after[:, 2], steps_made)  # minus the step
            # The state has them too: (index, episode, step, ...).
            state, follows = batch.state[goes_on].numpy(), batch.next_state[goes_on].numpy()
            assert np.array_equal(state[:, :2], follows[:, :2])
            assert np.array_equal(state[:, 2] + steps_made, follows[:, 2])
            # Who is dead after its step: b from step 3 on, c from step 5.
            for agent, dies in (("b", 3), ("c", 5)):
                alive = batch.next_active[agent][goes_on, 0].numpy()
                assert np.array_equal(alive, follows[:, 2] < dies)
                seen = batch.next_observations[agent][goes_on, 0].numpy()
                assert not seen[~alive].any() and seen[alive].any(1).all()
    assert len(replay) == replay.capacity and failures == 2
