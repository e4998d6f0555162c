"""The Dockerfile: what runs in it are scripts that exist, and what comes out is not root."""

import os
import re
import subprocess

import pytest
from files import DOCKERFILE, ROOT, tool

dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="comes with the extra 'dev'")

TARGETS = ["gpu", "cpu", "starcraft", "default"]


def read_stages():
    """Each stage's base and its instructions, as pairs (instruction, value)."""
    with DOCKERFILE.open("rb") as file:
        instructions = dockerfile_parse.DockerfileParser(fileobj=file, env_replace=False).structure
    stages, arguments = {}, {}
    current = None
    for part in instructions:
        name, value = part["instruction"], part["value"]
        if name == "FROM":
            base, stage = re.fullmatch(r"(\S+) AS (\S+)", value).groups()
            current = stages[stage] = {"base": base, "steps": []}
        elif current is not None and name != "COMMENT":
            current["steps"].append((name, value))
        elif name == "ARG":
            key, _, default = value.partition("=")
            arguments[key] = default
    return stages, arguments


STAGES, ARGUMENTS = read_stages()


def steps(stage, instruction):
    return [value for name, value in STAGES[stage]["steps"] if name == instruction]


def copies(stage):
    """(source in the repository, where it lands), for what is not copied between stages."""
    for value in steps(stage, "COPY"):
        words = [word for word in value.split() if not word.startswith("--chown")]
        if not words[0].startswith("--from"):
            yield from ((source, words[-1]) for source in words[:-1])


def user_of(stage):
    """The last user; a stage on top of another one keeps that one's."""
    users = steps(stage, "USER")
    return users[-1] if users else user_of(STAGES[stage]["base"])


def test_hadolint_finds_nothing():
    config = ROOT / "docker" / ".hadolint.yaml"
    found = subprocess.run(
        [tool("hadolint"), "--config", config, DOCKERFILE], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_finished_image_is_not_root(target):
    assert user_of(target) == "1000"


def test_all_stages_that_can_be_images_are_looked_at():
    assert {*TARGETS, "package", "football"} == set(STAGES)


def test_bases_are_pinned():
    for name, stage in STAGES.items():
        base = stage["base"]
        if base.startswith("rayproject/"):
            assert re.fullmatch(r"rayproject/ray:\$\{RAY_VERSION\}-\$\{PYTHON_TAG\}-[cg]pu", base)
        else:
            assert base in STAGES or base == "debian:12-slim", name
    assert re.fullmatch(r"\d+\.\d+\.\d+", ARGUMENTS["RAY_VERSION"])
    assert STAGES["cpu"]["base"].endswith("-cpu")
    assert STAGES["gpu"]["base"].endswith("-gpu")


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_copied_exists_and_is_sent_to_the_engine(stage):
    sent = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for source, _ in copies(stage):
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(path + "/") for path in sent), source


@pytest.mark.parametrize("stage", STAGES)
def test_every_run_step_is_a_script_of_this_repository(stage):
    runnable = {}
    for source, place in copies(stage):
        runnable[place + os.path.basename(source) if place.endswith("/") else place] = ROOT / source
    for command in steps(stage, "RUN"):
        script = command.split()[0]
        assert script in runnable, command
        assert os.access(runnable[script], os.X_OK), script
        assert not set("&|;`") & set(command), command


def test_every_script_is_used():
    used = {source for stage in STAGES for source, _ in copies(stage)}
    for script in (ROOT / "docker" / "scripts").iterdir():
        assert f"docker/scripts/{script.name}" in used


def test_no_secret_is_built_in():
    for stage in STAGES.values():
        for name, value in stage["steps"]:
            if name in ("ARG", "ENV"):
                key = value.split("=")[0]
                assert not re.search(r"TOKEN|PASSWORD|SECRET|KEY|CREDENTIAL", key), value


def test_what_is_large_or_not_free_is_off():
    assert "FOOTBALL=no" in steps("football", "ARG")
    assert "STARCRAFT_LICENCE=no" in steps("starcraft", "ARG")
    assert STAGES["default"]["base"] == "cpu"
    assert list(STAGES)[-1] == "default"  # what is built where no target is named


def test_cpu_and_gpu_differ_in_the_source_of_torch_only():
    def common(stage):
        return [
            (name, value.replace(' "${TORCH_INDEX}"', ""))
            for name, value in STAGES[stage]["steps"]
            if not value.startswith("TORCH_INDEX")
        ]

    assert common("cpu") == common("gpu")


def test_the_extras_exist():
    known = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    (extras,) = [v for v in steps("cpu", "ARG") if v.startswith("EXTRAS=")]
    assert {*extras.removeprefix("EXTRAS=").split(","), "football"} <= known
