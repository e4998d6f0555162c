"""Exactly the messages that are known are hidden, and only while they are to be."""

import logging
import os

import pytest
from ray._common import deprecation
from ray._private.authentication import authentication_token_setup
from ray.rllib.algorithms import algorithm_config
from ray.rllib.core.rl_module.rl_module import RLModuleConfig
from ray.tune.trainable import trainable
from ray.tune.utils import util

from rllib_hetero import HAPPOConfig
from rllib_hetero.known_messages import KNOWN, QUIET, hidden_unless

OTHERS = {
    algorithm_config: "You are running out of memory",
    authentication_token_setup: "Token authentication is disabled for this Ray cluster.",
    deprecation: "DeprecationWarning: `something_else` has been deprecated.",
    util: "Install psutil to monitor system performance.",
    trainable: "Trainable.setup failed",
}


@pytest.fixture
def heard(monkeypatch):
    """Every message that gets past the loggers' filters."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    loggers = {name: logging.getLogger(name) for name in KNOWN}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)  # another test may have asked RLlib for errors only
    monkeypatch.delenv(QUIET, raising=False)
    yield messages
    for name, logger in loggers.items():
        logger.removeHandler(handler)
        logger.setLevel(levels[name])


def warn(monkeypatch):
    """Ray says what it says in every run; how many times."""
    monkeypatch.setattr(algorithm_config, "log_once", lambda key: True)
    monkeypatch.setattr(deprecation, "log_once", lambda key: True)
    HAPPOConfig().environment("matrix_game", env_config={"game": "climbing"}).validate()
    authentication_token_setup._warn_token_auth_enabled()
    RLModuleConfig()
    util.logger.warning("Install gputil for GPU system monitoring.")
    trainable.logger.info(
        "Trainable.setup took 13.3 seconds. If your trainable is slow to initialize, "
        "consider setting reuse_actors=True to reduce actor creation overheads."
    )
    return 5


def test_the_known_are_hidden_while_they_are_to_be(heard, monkeypatch):
    said = warn(monkeypatch)
    assert len(heard) == said
    heard.clear()
    with hidden_unless(shown=False):
        assert os.environ[QUIET] == "1"  # for Ray's processes
        warn(monkeypatch)
    assert heard == [] and QUIET not in os.environ
    warn(monkeypatch)
    assert len(heard) == said


def test_all_others_are_heard(heard):
    with hidden_unless(shown=False):
        for module, message in OTHERS.items():
            module.logger.warning(message)
    assert heard == list(OTHERS.values())
    assert {module.logger.name for module in OTHERS} == set(KNOWN)


@pytest.mark.parametrize(("variable", "shown"), [("0", False), (None, True), ("1", True)])
def test_who_wants_to_see_them_does(heard, monkeypatch, variable, shown):
    if variable is not None:
        monkeypatch.setenv(QUIET, variable)
    with hidden_unless(shown=shown):
        assert os.environ[QUIET] == "0"
        authentication_token_setup._warn_token_auth_enabled()
    assert len(heard) == 1 and os.environ.get(QUIET) == variable


def test_the_patterns_are_rays_own_words():
    """What Ray does not say any more need not be hidden; its sources are asked."""
    words = {
        algorithm_config: "on the new API stack!",
        authentication_token_setup: "Token authentication is enabled ",
        util: "Install gputil for GPU system monitoring.",
        trainable: "reuse_actors=True to reduce actor creation",
    }
    for module, text in words.items():
        with open(module.__file__) as file:
            assert text in file.read()
