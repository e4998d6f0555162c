"""Ray jobs for real: a head with a token, and what docs/cluster.md says of submitting to it."""

import json
import re
import shlex
import shutil
import time
from pathlib import Path

import pytest
import requests
from files import ROOT
from ray.job_submission import JobStatus

pytest.importorskip("mpe2")
pytest.importorskip(
    "ray.dashboard.optional_deps",
    reason="the job server is not installed: pip install 'rllib_hetero[jobs]'",
)

from head import running_head

# A head, and every job another driver: on a busy machine these take their time.

STEPS = 200  # of an iteration: two runners with four environments each, whole episodes
SMALL = [
    "--set", "env_runners.num_env_runners=2",
    "--set", "env_runners.num_envs_per_env_runner=4",
    "--set", f"training.train_batch_size_per_learner={STEPS}",
    "--set", "training.num_epochs=1",
    "--set", "rl_module.model_config.hidden_sizes=[8]",
]  # fmt: skip
TRAIN = ("python", "cluster/train.py", "train", "--algo", "HAPPO")
SPREAD = ("--env", "mpe", "--set", "environment.env_config.scenario=simple_spread")
OVER = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


@pytest.fixture(scope="module")
def head():
    with running_head(num_cpus=2) as head:
        yield head


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What jobs need of the checkout, and an environment that is not in the package."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("cluster", "rllib_hetero", "rllib_hetero_cli", "tuned_examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in (ROOT / "tests" / "toys.py", Path(__file__).parent / "held_team.py"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Storage that outlives jobs."""
    return tmp_path_factory.mktemp("runs")


def submit(head, checkout, name, *entrypoint, options=()):
    """Starts `ray job submit` as the documentation has it."""
    arguments = ["--working-dir", ".", "--submission-id", name, *options, "--", *entrypoint]
    return head.ray_process("job", "submit", *map(str, arguments), cwd=checkout)


def job(head, checkout, name, entrypoint):
    """Runs a job to its end, without the command line; returns its details and its log."""
    client = head.client()
    client.submit_job(
        entrypoint=entrypoint, submission_id=name, runtime_env={"working_dir": str(checkout)}
    )
    wait_until(lambda: client.get_job_status(name) in OVER)
    return client.get_job_info(name), client.get_job_logs(name)


def wait_until(condition, timeout=600):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def result_of(log):
    """The last line of JSON. Ray's own messages may follow it."""
    return json.loads([line for line in log.splitlines() if line.startswith("{")][-1])


def steps_told(log):
    return [int(steps) for steps in re.findall(r"^ *(\d+)/[\d,]+ steps \|", log, re.MULTILINE)]


# ---- train, then evaluate -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(head, checkout, runs):
    """The exit code of `ray job submit`, and what it printed."""
    arguments = [*SMALL, "--env-steps", "600", "--out", runs / "spread"]
    options = ("--entrypoint-resources", '{"driver": 1}')
    with submit(head, checkout, "train", *TRAIN, *SPREAD, *arguments, options=options) as process:
        printed, _ = process.communicate()
    return process.returncode, printed


def test_a_submitted_training_succeeds(trained, head, runs):
    code, printed = trained
    assert code == 0, printed
    code, status = head.ray("job", "status", "train")
    assert code == 0 and "succeeded" in status
    assert steps_told(printed) == [200, 400, 600]
    result = result_of(printed)
    assert (result["status"], result["task"]) == ("done", "simple_spread")
    assert (result["env_steps"], result["checkpoint"]) == (600, str(runs / "spread" / "checkpoint"))
    # It joined this Ray, and did not start one of its own.
    assert head.client().get_job_info("train").job_id is not None


def test_its_folder_is_whole(trained, runs):
    folder = runs / "spread"
    whole = {".lock", "run.json", "progress.csv", "curve.png", "checkpoint"}
    assert {path.name for path in folder.iterdir()} == whole
    assert len((folder / "progress.csv").read_text().splitlines()) == 1 + 3
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["num_env_runners"] == 2
    # What ran is the copy that was sent, not the package that is installed here.
    assert record["git_commit"] is None


def test_a_second_job_evaluates_its_checkpoint(trained, head, checkout, runs):
    evaluate = f"python cluster/train.py evaluate {runs / 'spread'} --episodes 5"
    info, log = job(head, checkout, "evaluate", evaluate)
    assert info.status == JobStatus.SUCCEEDED, log
    result = result_of(log)
    assert (result["status"], result["env"], result["episodes"]) == ("done", "mpe", 5)
    # Three agents that are punished for every unit of distance, for 25 steps.
    assert -1000 < result["return_min"] <= result["return_mean"] <= result["return_max"] < 0
    assert info.job_id is None  # it needs no Ray


@pytest.mark.slow
def test_the_example_is_submitted_alike(head, checkout, runs):
    example = "python tuned_examples/happo/mpe_simple_spread.py --num-env-runners 1"
    info, log = job(
        head, checkout, "example", f"{example} --env-steps 4000 --out {runs / 'example'}"
    )
    assert info.status == JobStatus.SUCCEEDED, log
    assert (runs / "example" / "checkpoint" / "policies").is_dir()


# ---- what is refused ----------------------------------------------------------------------------


def test_without_the_token_nothing_is_submitted(head):
    def answer(**headers):
        order = {"entrypoint": "ls", "submission_id": "refused"}
        return requests.post(f"{head.url}/api/jobs/", json=order, headers=headers).status_code

    assert answer() == 401
    assert answer(Authorization="Bearer of bad news") == 403
    assert "refused" not in {info.submission_id for info in head.client().list_jobs()}


def test_the_tokens_file_is_only_read_where_the_mode_is_set(head):
    file = Path(head.env["HOME"], ".ray", "auth_token")
    file.parent.mkdir()
    file.write_text(head.token)
    unset = {k: v for k, v in head.env.items() if not k.startswith("RAY_AUTH")}
    code, printed = head.ray("job", "submit", "--", "ls", env=unset)
    assert code == 1 and "Missing authentication token" in printed
    assert head.ray("job", "list", env={**unset, "RAY_AUTH_MODE": "token"})[0] == 0


def test_a_job_with_wrong_settings_fails_and_says_which(head, checkout, runs):
    wrong = ("--set", "training.clip_parm=0.1", "--out", runs / "wrong")
    with submit(head, checkout, "wrong", *TRAIN, *SPREAD, *wrong) as process:
        printed, _ = process.communicate()
    assert process.returncode == 1
    assert "no setting 'training.clip_parm'; did you mean 'clip_param'?" in printed
    info = head.client().get_job_info("wrong")
    assert (info.status, info.driver_exit_code) == (JobStatus.FAILED, 2)
    assert "clip_param" in info.message
    assert not (runs / "wrong").exists()


# ---- stop, then resume --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(head, checkout, runs):
    """A run that `ray job stop` ended, its iteration far longer than Ray's 3 seconds.

    Returns the exit codes of `submit` and `stop`, and the log.
    """
    hold = runs / "hold"
    env_config = {"payoff": [[1, 0], [0, 2]], "hold": str(hold)}
    team = ("--env", "held_team:HeldTeam", "--env-config", json.dumps(env_config))
    arguments = [*TRAIN, *team, *SMALL, "--env-steps", "1e9", "--out", str(runs / "held")]
    # A shell around the driver, which tells its exit code: Ray does not, of a job that is stopped.
    told = f"trap : TERM; {shlex.join(arguments)}; echo exit code $?"
    options = ("--runtime-env-json", '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "120"}}')
    client = head.client()
    with submit(head, checkout, "held", "sh", "-c", told, options=options) as submission:
        wait_until(lambda: (runs / "held" / "progress.csv").exists())
        hold.touch()
        with head.ray_process("job", "stop", "held") as stop:
            wait_until(lambda: "Stopping after this iteration" in client.get_job_logs("held"))
            time.sleep(5)  # by default, Ray's patience would be at its end
            hold.unlink()
            stop.communicate()
        submission.communicate()
    return submission.returncode, stop.returncode, client.get_job_logs("held")


def table_of(run):
    rows = (run / "progress.csv").read_text().splitlines()[1:]
    return [int(row.split(",")[1]) for row in rows]


@pytest.mark.slow
def test_a_stopped_job_leaves_a_checkpoint_of_its_last_iteration(stopped, head, runs):
    submitted, stop, log = stopped
    assert head.client().get_job_status("held") == JobStatus.STOPPED
    assert (submitted, stop) == (0, 0)
    assert "exit code 143" in log
    result = result_of(log)
    assert result["status"] == "stopped"
    assert result["env_steps"] == table_of(runs / "held")[-1] == steps_told(log)[-1]
    assert (runs / "held" / "checkpoint" / "rllib_checkpoint.json").exists()


@pytest.mark.slow
def test_a_resumed_job_goes_on_without_a_lost_step(stopped, head, checkout, runs):
    at = result_of(stopped[2])["env_steps"]
    resume = f"python cluster/train.py resume {runs / 'held'} --env-steps {at + STEPS}"
    info, log = job(head, checkout, "resumed", resume)
    assert info.status == JobStatus.SUCCEEDED, log
    assert result_of(log)["env_steps"] == at + STEPS
    assert table_of(runs / "held") == list(range(STEPS, at + STEPS + 1, STEPS))
    (resumed,) = json.loads((runs / "held" / "run.json").read_text())["resumed"]
    assert (resumed["env_steps"], resumed["lost_env_steps"]) == (at, 0)
