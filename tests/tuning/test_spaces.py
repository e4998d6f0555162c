"""Search spaces: what can be written, what PBT makes of them, and that algorithms accept them."""

import pytest
from ray import tune
from ray.tune.search.sample import Categorical, LogUniform

from rllib_hetero import ALGORITHMS, HAPPO
from rllib_hetero.errors import TeamError
from rllib_hetero.tuning.spaces import SPACES, Within, mutations, parse_space, search_space


def test_ranges_are_read():
    space = parse_space(
        ["lr=loguniform(1e-4, 1e-2)", "gamma = uniform(0.9, 0.99)", "num_epochs=[5, 10]",
         "critic_num_epochs=randint(1, 4)", "grad_clip=[3e-1, null]"]
    )  # fmt: skip
    assert (space["lr"].lower, space["lr"].upper) == (1e-4, 1e-2)
    assert isinstance(space["lr"].get_sampler(), LogUniform)
    assert not isinstance(space["gamma"].get_sampler(), LogUniform)
    assert space["num_epochs"].categories == [5, 10]
    assert {space["critic_num_epochs"].sample() for _ in range(100)} == {1, 2, 3}
    assert space["grad_clip"].categories == [0.3, None]


@pytest.mark.parametrize(
    "text",
    ["lr", "lr=", "=[1]", "lr=5e-4", "lr=[]", "lr=uniform(1)", "lr=uniform(2, 1)",
     "lr=normal(0, 1)", "lr=loguniform(0, 1)", "lr=uniform(a, b)",
     "lr=randint(0.5, 3)", "lr={a: 1}"],
)  # fmt: skip
def test_what_is_no_range_is_refused(text):
    with pytest.raises(TeamError, match="says no range"):
        parse_space([text])


def test_a_setting_given_twice_is_refused():
    with pytest.raises(TeamError, match="'lr' is given twice"):
        parse_space(["lr=[1]", "lr=[2]"])


def test_every_algorithm_has_a_space_that_it_accepts():
    assert set(SPACES) == set(ALGORITHMS)
    for algorithm in ALGORITHMS.values():
        for _ in range(5):
            config = algorithm.get_default_config()
            config.environment("matrix_game", env_config={"game": "climbing"})
            config.training(**{k: v.sample() for k, v in search_space(algorithm).items()})
            config.validate()


def test_an_algorithm_of_ones_own_has_its_parents_space():
    class Mine(HAPPO):
        pass

    class Foreign:
        pass

    assert search_space(Mine) == search_space(HAPPO)
    with pytest.raises(TeamError, match="no default search space for Foreign"):
        search_space(Foreign)


def test_pbt_shifts_within_choices_and_stays_in_range():
    space = {
        "num_epochs": tune.choice([5, 10]), "lr": tune.loguniform(1e-4, 1e-3),
        "critic_num_epochs": tune.randint(1, 4),
    }  # fmt: skip
    perturbed = mutations(space)
    assert perturbed["num_epochs"] == [5, 10]
    assert not any(isinstance(domain, Categorical) for domain in perturbed.values())
    within = Within(space)
    config = {"num_epochs": 10, "lr": 1.2e-3, "critic_num_epochs": 4, "gamma": 0.5}
    assert within(config) == {"num_epochs": 10, "lr": 1e-3, "critic_num_epochs": 3, "gamma": 0.5}
    assert within({**config, "lr": 8e-5})["lr"] == 1e-4
