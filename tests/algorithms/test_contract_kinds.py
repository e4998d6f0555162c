"""What every registered algorithm does with every kind of observation and action: takes or refuses.

Of what it takes it is given as many kinds at once as one team has agents for. That each of them
arrives whole, in the fragment and at the environment, is in `test_kinds.py`.
"""

import functools
import re

import numpy as np
import pytest
from contract_toys import (
    assert_finite_and_all_modules_changed,
    capabilities_of,
    config_for,
    weights_of,
)
from kinds_toys import PICTURED, KindsTeam, team

from rllib_hetero import ALGORITHMS, load_policies

every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))


def kinds_config(name, env_config, model=None):
    """One iteration of it is 8 steps of 8 environments, with their episodes' ends."""
    seen = {*env_config["observations"].values(), env_config.get("state")}
    nets = {"conv_filters": [[4, 3, 3]], "conv_features": 8} if seen & PICTURED else {}
    return config_for(name, KindsTeam, env_config, steps=64, model=nets | (model or {}))


def memory_of(name):
    of_critic = "critic_recurrent" in ALGORITHMS[name].get_default_config().model_defaults
    memory = {"recurrent": "gru", "max_seq_len": 3}
    return memory | ({"critic_recurrent": "lstm"} if of_critic else {})


ONE_CHOICE = r"agent 'a'.* a Discrete \(starting at 0\)"
# Teams of two that are alike, with one kind each that not everybody takes: who does, and in which
# words the others refuse it.
KINDS = {
    "numbers": (team("vector vector", "plane plane"), lambda c: "Box" in c.actions, ONE_CHOICE),
    "several choices": (
        team("vector vector", "chosen chosen"),
        lambda c: "MultiDiscrete" in c.actions,
        ONE_CHOICE,
    ),
    "choices and numbers": (
        team("vector vector", "mixed mixed"),
        lambda c: "Box" in c.actions and c.family == "on-policy",
        rf"{ONE_CHOICE}|agent 'a': its actions are both choices and numbers",
    ),
    "pictures": (
        team("mixed mixed", "shifted shifted"),
        lambda c: c.pictures and not c.autoregressive,
        "pictures.*supersuit",
    ),
    "pictures of numbers": (
        team("heights heights", "shifted shifted"),
        lambda c: c.pictures,
        "pictures.*supersuit",
    ),
    "masks": (
        team("numbers numbers", "shifted shifted", "ab", state="numbers"),
        lambda c: c.action_masks,
        "mask",
    ),
    "unlike": (
        team("multi binary", "discrete shifted"),
        lambda c: c.unequal_spaces,
        "unequal spaces",
    ),
}


@every_algorithm
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_taken_or_refused_in_words(name, kind):
    env_config, takes, words = KINDS[kind]
    config = kinds_config(name, env_config)
    if takes(capabilities_of(name)):
        config.validate()
    else:
        with pytest.raises(ValueError, match=rf"(?s){words}"):
            config.validate()


def refusal(name, actions):
    """The words; none where the algorithm takes the actions of a team of two."""
    try:
        kinds_config(name, team("vector vector", actions)).validate()
    except ValueError as error:
        return str(error)
    return None


GENERAL = ("HAPPO", "MAPPO", "HASAC", "MASAC", "HADDPG", "HATD3", "MADDPG", "MATD3")
"""Algorithms of which some take whatever a team does."""


@functools.cache
def who_takes(actions):
    return {name for name in GENERAL if refusal(name, actions) is None}


@every_algorithm
@pytest.mark.parametrize(
    "actions", ["mixed mixed", "discrete mixed", "chosen plane", "endless box"]
)
def test_who_refuses_actions_names_those_who_take_them(name, actions):
    words = refusal(name, actions)
    if words is None:
        assert set(capabilities_of(name).actions) > {"Discrete"}
    else:
        named = re.search(r"Algorithms for the actions of this team: (.*)\.$", words)
        assert set(named[1].split(", ")) == who_takes(actions) >= {"HAPPO", "MAPPO"}


def most_kinds(c):
    """A team whose agents see and do as much as an algorithm of these capabilities takes."""
    if not c.unequal_spaces:
        return team("numbers " * 3, "shifted " * 3, "abc", state="numbers")
    picture = "heights" if c.autoregressive else "mixed" if c.pictures else "multi"
    if "Box" not in c.actions:
        actions, masked = "shifted discrete shifted discrete", "ac"
    elif c.family == "on-policy":
        actions, masked = "mixed multi chosen plane", "abc"
    else:
        actions, masked = "multi moved chosen plane", "ac"
    return team(f"{picture} binary numbers counts", actions, masked, state=picture)


def other_kinds(config):
    """Another for those that have a memory, which runs over gaps where agents may be absent."""
    c = config.capabilities
    picture = "heights" if c.autoregressive else "frames"
    actions = "scalar whole binary" if "Box" in c.actions else "discrete shifted discrete"
    return team(f"discrete {picture} grid", actions, absences=not config.returns_end_with_lives)


@every_algorithm
def test_it_trains_and_its_policies_act(name, tmp_path, ray_local):
    trains_and_acts(kinds_config(name, most_kinds(capabilities_of(name))), tmp_path)


@pytest.mark.parametrize("name", [n for n in sorted(ALGORITHMS) if capabilities_of(n).recurrent])
def test_it_remembers_them(name, tmp_path, ray_local):
    kinds = other_kinds(ALGORITHMS[name].get_default_config())
    trains_and_acts(kinds_config(name, kinds, memory_of(name)), tmp_path)


def trains_and_acts(config, folder):
    algo = config.build_algo()
    before = weights_of(algo)
    result = algo.train()
    assert_finite_and_all_modules_changed(algo, before, weights_of(algo))
    for module, logged in result["learners"].items():
        numbers = {k: float(x) for k, x in logged.items() if np.isscalar(x)}
        assert numbers and all(np.isfinite(x) for x in numbers.values()), (module, numbers)
    policies = load_policies(algo.save_to_path(str(folder)))
    algo.stop()
    env = KindsTeam(config.env_config)
    observations, _ = env.reset(seed=1)
    for _ in range(3):  # It takes no actions but those of its spaces, and that are allowed.
        observations, *_ = env.step(policies.act(observations))
