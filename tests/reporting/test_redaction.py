"""Credentials of the environment do not come into what a run writes."""

import json

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


class Algo:
    class Config:
        env = "mine"
        env_config = {"server": "https://me:pass@host", "key": "0123456789abcdef", "x": range(2)}
        lr = 0.1

    config = Config


def test_the_record_and_the_result_line_hold_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SIMULATOR_TOKEN", "0123456789abcdef")
    record = record_of(Algo(), env_steps=5)
    write_record(record, tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text()) == record
    assert record["env_config"] == {
        "server": "https://<hidden>@host", "key": "<SIMULATOR_TOKEN>", "x": "range(0, 2)",
    }  # fmt: skip
    assert record["config"] == {"lr": 0.1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    print_result({"error": "no answer from https://me:pass@host"})
    assert "pass" not in capsys.readouterr().out
