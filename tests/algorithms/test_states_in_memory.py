"""States that RLlib hands around in memory, of algorithms whose driver is to see none of agents."""

import pytest
from agent_toys import FOUR, toy_config

from rllib_hetero.errors import TeamError


def test_no_state_of_agents_passes_through_memory(ray_local):
    algo = toy_config(host=None).build_algo()
    algo.train()
    with pytest.raises(TeamError, match=r"save_to_path.*restore_from_path.*not_components="):
        algo.get_state()
    rest = algo.get_state(not_components="learner_group")
    policies = algo.get_state("learner_group/learner/rl_module")
    assert policies["learner_group"]["learner"]["rl_module"].keys() == FOUR.keys()
    algo.train()
    counters = {"learner_group": algo.learner_group.get_state()}
    for state in (policies, rest | counters):
        with pytest.raises(TeamError, match=r"save_to_path.*restore_from_path.*set_state"):
            algo.set_state(state)
    with pytest.raises(TeamError, match="set_weights"):
        algo.set_weights(algo.get_weights())
    with pytest.raises(TeamError, match="restore_from_path"):
        algo.learner_group.set_weights(algo.get_weights())
    assert algo.iteration == 2
    algo.set_state(rest)
    assert algo.iteration == 1
    algo.stop()
