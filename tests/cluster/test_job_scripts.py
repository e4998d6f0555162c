"""The scripts of cluster/ and docker/ do what they say, with stand-ins for what is not here."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile

import pytest
from files import CLUSTER, ROOT

SCRIPTS = ROOT / "docker" / "scripts"
TRAIN_OR_RESUME = CLUSTER / "train_or_resume.sh"


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A function that puts a script under a program's name in front of the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    def add(name, body='echo "$(basename "$0") $*" >>"$LOG"'):
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)

    return add


def run(*command, code=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def log(tmp_path):
    return (tmp_path / "log").read_text().splitlines()


# --- training ------------------------------------------------------------------------------------


def test_trains_where_no_run_is(stand_ins, tmp_path):
    stand_ins("python")
    run(TRAIN_OR_RESUME, tmp_path / "a", "--algo", "HAPPO")
    assert log(tmp_path) == [
        f"python -u -m rllib_hetero train --algo HAPPO --out {tmp_path / 'a'}",
    ]


def test_goes_on_where_one_is(stand_ins, tmp_path):
    stand_ins("python")
    (tmp_path / "progress.csv").touch()
    run(TRAIN_OR_RESUME, tmp_path, "--algo", "HAPPO")
    assert log(tmp_path) == [f"python -u -m rllib_hetero resume {tmp_path}"]


@pytest.mark.parametrize("script", [TRAIN_OR_RESUME, CLUSTER / "slurm" / "train.sbatch"])
def test_tells_its_usage(script):
    assert "FOLDER" in run("bash", script, code=2)
    assert "FOLDER" in run("bash", script, "--help", code=2)


# --- Slurm ---------------------------------------------------------------------------------------

DRIVER = """
echo "driver $*" >>"$LOG"
trap 'echo checkpoint >>"$LOG"; exit 143' TERM
echo ready >>"$LOG"
for _ in $(seq 300); do sleep 0.1; done
"""


@pytest.fixture
def slurm(stand_ins, monkeypatch):
    """Stand-ins for Slurm and for `ray symmetric-run`, which only starts what follows "--"."""
    stand_ins("srun", 'echo "srun $*" >>"$LOG"; while [[ $1 != ray ]]; do shift; done; exec "$@"')
    stand_ins("ray", 'while [[ $1 != -- ]]; do shift; done; shift; "$@"')
    stand_ins("scontrol")
    for name, value in {
        "JOB_ID": "7", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "3", "SUBMIT_DIR": str(ROOT),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("VENV", "RAY_ADDRESS", "SLURM_GPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    return CLUSTER / "slurm" / "train.sbatch"


def test_slurm_job_starts_ray_on_all_nodes(slurm, stand_ins, tmp_path):
    stand_ins("python", 'echo "$* $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} $RAY_ADDRESS" >>"$LOG"; exit 3')
    run("bash", slurm, tmp_path / "run", "--algo", "HAPPO", code=3)
    srun, driver = log(tmp_path)
    start = r"srun --nodes=2 --ntasks=2 ray symmetric-run --address (\S+:6379) "
    address = re.match(start + "--min-nodes 2 --num-cpus=3 --num-gpus=0 -- ", srun).group(1)
    # The token is the job's own, 32 bytes in hex; without the address it would train by itself.
    train = f"-u -m rllib_hetero train --algo HAPPO --out {tmp_path / 'run'}"
    assert driver == f"{train} token 64 {address}"


def test_slurm_job_near_its_end_saves_and_comes_again(slurm, stand_ins, tmp_path):
    stand_ins("python", DRIVER)
    job = subprocess.Popen(
        ["bash", slurm, tmp_path / "run"], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 600
        while not (tmp_path / "log").exists() or "ready" not in log(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=600) == 143
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # whatever a broken script has left
    assert log(tmp_path)[-2:] == ["checkpoint", "scontrol requeue 7"]
    assert list((tmp_path / "run").iterdir()) == []  # no pid is left to be mistaken for another


# --- images --------------------------------------------------------------------------------------


def test_no_football_is_an_empty_folder(tmp_path):
    wheels = tmp_path / "wheels"
    run(SCRIPTS / "build_football.sh", "no", wheels)
    assert list(wheels.iterdir()) == []
    assert "nothing to install" in run(SCRIPTS / "install_football_libraries.sh", wheels)
    assert "yes|no" in run(SCRIPTS / "build_football.sh", "maybe", wheels, code=2)


def test_package_is_installed_by_its_path(stand_ins, tmp_path):
    stand_ins("python3")
    install = SCRIPTS / "install_package.sh"
    assert "not one wheel" in run(install, tmp_path, "pins.txt", "mpe", code=1)
    wheel = tmp_path / "rllib_hetero-0.1-py3-none-any.whl"
    wheel.touch()
    pip = "python3 -m pip install --disable-pip-version-check --no-cache-dir"
    run(install, tmp_path, "pins.txt", "mpe,video", "https://cpu")
    run(install, tmp_path, "pins.txt", "")
    assert log(tmp_path) == [
        f"{pip} -c pins.txt --extra-index-url https://cpu {wheel}[mpe,video]",
        f"{pip} -c pins.txt {wheel}",
    ]


def test_footballs_wheel_brings_its_extra(stand_ins, tmp_path):
    stand_ins("python3")
    game = tmp_path / "gfootball-2.10.2-cp311-cp311-manylinux_2_36_x86_64.whl"
    wheel = tmp_path / "rllib_hetero-0.1-py3-none-any.whl"
    for path in (game, wheel):
        path.touch()
    run(SCRIPTS / "install_package.sh", tmp_path, "pins.txt", "mpe")
    first, second = log(tmp_path)
    assert first.endswith(f"--no-deps {game}")
    assert second.endswith(f"{wheel}[mpe,football]")


@pytest.mark.skipif(os.geteuid() != 0, reason="is about what root gets")
def test_an_image_that_runs_as_root_is_refused():
    assert "has to be ray" in run(SCRIPTS / "check_image.sh", "2.60.0", code=1)


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("unzip")), reason="needs curl and unzip"
)
class TestStarCraft:
    script = SCRIPTS / "install_starcraft.sh"

    @pytest.fixture
    def game(self, tmp_path):
        """(URL, SHA256) of a game that holds one file."""
        path = tmp_path / "game.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("StarCraftII/Versions/Base75689/SC2_x64", "game")
        return path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()

    def test_needs_the_licence_to_be_agreed_to(self, game, tmp_path):
        assert "License" in run(self.script, "no", *game, tmp_path / "SC2", code=1)
        assert "License" in run(self.script, "", *game, tmp_path / "SC2", code=1)
        assert not (tmp_path / "SC2").exists()

    def test_needs_to_know_the_file(self, game, tmp_path):
        agreed = "iagreetotheeula"
        assert "STARCRAFT_URL" in run(self.script, agreed, "", "", tmp_path / "SC2", code=1)
        assert "FAILED" in run(self.script, agreed, game[0], "0" * 64, tmp_path / "SC2", code=1)
        assert not (tmp_path / "SC2").exists()

    def test_installs_game_and_maps(self, game, stand_ins, tmp_path):
        stand_ins("python3")
        maps = "smacv2/env/starcraft2/maps/SMAC_Maps"
        stand_ins("git", f'[[ $1 == clone ]] && mkdir -p "$4/{maps}" && touch "$4/{maps}/3m"; true')
        run(self.script, "iagreetotheeula", *game, tmp_path / "at" / "SC2")
        installed = tmp_path / "at" / "SC2"
        assert (installed / "Versions" / "Base75689" / "SC2_x64").read_text() == "game"
        assert (installed / "Maps" / "SMAC_Maps" / "3m").exists()
        assert all("pip install" in line for line in log(tmp_path))
