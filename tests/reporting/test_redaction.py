"""Credentials of the environment do not come into what a run writes."""

import json
from types import SimpleNamespace

import pytest

from rllib_hetero import HAPPOConfig, cli
from rllib_hetero.cli.ending import print_result
from rllib_hetero.reporting.record import record_of, write_record
from rllib_hetero.reporting.redaction import without_secrets


def test_values_of_secret_variables_are_replaced_by_their_names(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0123456789abcdef/and/more")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/.ray/auth_token")
    monkeypatch.setenv("USUAL", "nothing special")
    told = {
        "a": ["x 0123456789abcdef y", 5, None],
        "0123456789abcdef/and/more": ("nothing special", False, "false"),
        "path": "/home/me/.ray/auth_token",
    }
    assert without_secrets(told) == {
        "a": ["x <WANDB_API_KEY> y", 5, None],
        "<AWS_SECRET_ACCESS_KEY>": ["nothing special", False, "false"],
        "path": "/home/me/.ray/auth_token",
    }


def test_passwords_in_addresses():
    assert without_secrets("at https://me:pass@host:80/x") == "at https://<hidden>@host:80/x"
    untouched = "https://host:80/a@b sqlite:////tmp/x me:you@there"
    assert without_secrets(untouched) == untouched


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("redis://:hunter2@host:6379/0", "redis://<hidden>@host:6379/0"),
        ("https://ghp_abc@host/x.git", "https://<hidden>@host/x.git"),
        ("postgres://u:p@ss@host/db", "postgres://<hidden>@host/db"),
        ("amqp://u:p/w@host/v", "amqp://<hidden>@host/v"),
        ("https://h/x?token=abc&n=5", "https://h/x?token=<hidden>&n=5"),
        ("https://h/?a=1&X-Amz-Signature=abc", "https://h/?a=1&X-Amz-Signature=<hidden>"),
        ("https://h/?access_token=abc#x", "https://h/?access_token=<hidden>"),
        ("host=h password=hunter2 user=me", "host=h password=<hidden> user=me"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer <hidden>"),
        ("max_tokens=100 passes=3 compass=north", "max_tokens=100 passes=3 compass=north"),
        ("https://host:80/a@b/c?x=1", "https://host:80/a@b/c?x=1"),
    ],
)
def test_the_kinds_of_credentials_in_texts(text, told):
    assert without_secrets(text) == told


@pytest.mark.parametrize("name", ["DB_PASS", "DB_PWD", "PROXY_AUTH", "SIGNING_KEY", "X_PASSPHRASE"])
def test_the_kinds_of_names_of_variables(name, monkeypatch):
    monkeypatch.setenv(name, "0123456789")
    assert without_secrets("a0123456789") == f"a<{name}>"


def test_variables_that_are_no_secrets(monkeypatch):
    for name in ("PWD", "OLDPWD", "RAY_AUTH_MODE", "KEYBOARD", "GIT_ASKPASS", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "0123456789")
    assert without_secrets("0123456789") == "0123456789"


def test_settings_that_are_named_like_secrets():
    told = without_secrets({
        "password": "hunter2", "db": {"api_key": "x", "authToken": "y", "auth": None},
        "action_mask_key": "mask", "token": "https://u:p@h", "compass": "north", "num_token": 5,
    })  # fmt: skip
    assert told == {
        "password": "<hidden>",
        "db": {"api_key": "<hidden>", "authToken": "<hidden>", "auth": None},
        "action_mask_key": "mask", "token": "https://<hidden>@h", "compass": "north",
        "num_token": 5,
    }  # fmt: skip


def test_what_a_record_hides_has_to_be_given_to_evaluate(tmp_path, capsys):
    config = {"game": "climbing", "password": "<hidden>"}
    record = {"algorithm": "HAPPO", "env": "matrix_game", "env_config": config, "config": {}}
    write_record(record | {"target_env_steps": 5}, tmp_path / "run.json")
    assert cli.main(["evaluate", str(tmp_path / "checkpoint")]) == 2
    assert "does not tell password of its env_config" in capsys.readouterr().err


def test_the_record_and_the_result_line_hold_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SIMULATOR_TOKEN", "0123456789abcdef")
    config = HAPPOConfig().training(lr=0.1)
    env_config = {"server": "https://me:pass@host", "key": "0123456789abcdef", "x": range(2)}
    config.environment("mine", env_config=env_config)
    record = record_of(SimpleNamespace(config=config), env_steps=5)
    write_record(record, tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text()) == record
    assert record["env_config"] == {
        "server": "https://<hidden>@host", "key": "<SIMULATOR_TOKEN>", "x": "range(0, 2)",
    }  # fmt: skip
    assert record["config"]["lr"] == 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    print_result({"error": "no answer from https://me:pass@host"})
    assert "pass" not in capsys.readouterr().out
