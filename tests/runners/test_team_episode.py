"""What callbacks may do with the episode that they are given, besides asking it."""

import numpy as np
import pytest
import runner_toys as toys
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from rllib_hetero import HAPPOConfig
from rllib_hetero.runners import history, tally


def sampled(env_config, steps=24, **settings):
    """(the fragment, the episodes that were created, in order); two environments."""
    episodes = []
    config = toys.small(HAPPOConfig(), toys.ScriptedTeam, env_config).callbacks(
        on_episode_created=lambda episode, **_: episodes.append(episode)
    )
    runner = toys.make_runner(config.update_from_dict(settings))
    return runner.sample(num_timesteps=steps)[0], episodes


def test_a_kept_episode_remembers_its_end():
    """Also when the environment has long gone on with the next one."""
    f, episodes = sampled({"ends": "alternate"})
    assert len(episodes) == 6
    for i, episode in enumerate(episodes[:4]):
        number, e = divmod(i, 2)
        seen = np.stack(episode.get_observations()["b"])
        np.testing.assert_array_equal(seen[:5], f.observations["b"][5 * number :, e, 0][:5])
        assert len(seen) == 6 and seen[-1, 2] == -5  # The scripted clock, in the final one.
        rllib = episode.rllib_episode()
        assert isinstance(rllib, MultiAgentEpisode) and rllib is episode.rllib_episode()
        assert (rllib.is_terminated, rllib.is_truncated) == (number == 1, number == 0)
        assert rllib.id_ == episode.id_
        assert rllib.get_return() == pytest.approx(f.rewards[5 * number :, e][:5].sum(), rel=1e-5)


def test_an_episode_lost_to_a_failure_ends_before_it():
    case = {"fail": "step", "fail_at": (0, 0, 2), "fail_key": "team_episode"}
    f, (lost, *_) = sampled(case, restart_failed_sub_environments=True)
    assert not f.valid[2, 0]
    assert [x[2] for x in lost.get_observations(agent_ids="b")["b"]] == [0, -1, -2]
    np.testing.assert_allclose(lost.get_rewards()["b"], f.rewards[:2, 0, 1])


def test_what_is_handed_out_is_a_copy():
    f, (episode, *_) = sampled({})
    before = f.observations["a"].copy(), f.actions["a"].copy()
    for x in (*episode.get_observations()["a"], *episode.get_actions()["a"]):
        x += 100.0
    np.testing.assert_array_equal(f.observations["a"], before[0])
    np.testing.assert_array_equal(f.actions["a"], before[1])


def test_temporary_data_lives_as_long_as_the_episode():
    _, (episode, other, *_) = sampled({})
    episode.add_temporary_timestep_data("heights", 1.5)
    episode.add_temporary_timestep_data("heights", 2.5)
    assert episode.get_temporary_timestep_data("heights") == [1.5, 2.5]
    with pytest.raises(KeyError, match="heights"):
        other.get_temporary_timestep_data("heights")
    episode.custom_data["peak"] = 2.5
    assert other.custom_data == {}


def test_steps_are_read_only_when_asked_for(monkeypatch):
    """With a callback that counts alone, no episode of RLlib's is made."""
    monkeypatch.setattr(history, "MultiAgentEpisode", None)
    _, (episode, *_) = sampled({})
    assert episode.agent_ids == set("abc") and episode.module_for("a") == "a"

    # Without any callback, not even this is.
    monkeypatch.setattr(tally, "TeamEpisode", None)
    runner = toys.make_runner(toys.small(HAPPOConfig(), toys.ScriptedTeam))
    assert runner.sample(num_timesteps=24)[0].problem is None
