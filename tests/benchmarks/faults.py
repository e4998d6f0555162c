"""Strikes trainings with faults, and tells what each one costs.

    python tests/benchmarks/faults.py --out results/faults
    python tests/benchmarks/faults.py --out results/faults --only runner_killed node_killed

HAPPO on MPE's simple_spread, two remote runners, 1000 environment steps in an iteration. The fault
comes after 40 % of the iterations, in the middle of one, unless its name says otherwise. For each
fault, OUT/faults.json and OUT/faults.md tell what follows, and OUT/faults.png shows the returns.

  noticed        seconds until the driver knows, or until the command has ended
  full strength  seconds until the end of the first iteration with all runners; after a `resume`:
                 from its start to the end of its first iteration
  lost steps     taken by an environment and never trained on, counted by the environments; for
                 what goes on by `resume`: trained, and trained again
  return         mean over the last fifth of the iterations, and that of the undisturbed run of the
                 same seed

The faults of a full disk need root, and are left out without. Ends with status 1 if more steps are
lost than the fault can explain.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, for Ray's sockets

sys.path.insert(0, str(Path(__file__).parents[1]))

import fault_runs
import numpy as np
import yaml
from fault_runs import BATCH, ENVS, LIMIT_S, RUNNERS, SETTINGS, STRIKE
from fault_tools import (
    LEARNER,
    Command,
    can_mount,
    fill,
    resumed,
    seen_by,
    small_disk,
    steps_of,
    table_of,
)

from rllib_hetero.reporting.record import versions_and_commit

EVERY = 10 * BATCH  # environment steps between checkpoints
FRAGMENT = BATCH // RUNNERS


# ---- runs of the command line -------------------------------------------------------------------


class Case:
    """A run of `train` that is struck, and goes on by `resume` if it has to."""

    def __init__(self, folder: Path, seed: int, iterations: int) -> None:
        folder.mkdir(parents=True)
        self.folder, self.run = folder, folder / "run"
        self.steps = iterations * BATCH
        self.strike_at = int(STRIKE * iterations) * BATCH
        settings = {"algo": "HAPPO", **SETTINGS, "debugging": {"seed": seed}}
        (folder / "spread.yaml").write_text(yaml.safe_dump(settings))

    def train(self, *more: object, run: Path | None = None, **kwargs: Any) -> Command:
        return Command(
            "train", "--config", self.folder / "spread.yaml", "--env-steps", self.steps,
            "--checkpoint-every", EVERY, "--out", run or self.run, *more,
            log=self.folder / "train.log", **kwargs,
        )  # fmt: skip

    def wait(self, command: Command, run: Path | None = None) -> None:
        """Until the fault is due: past a checkpoint, and so that something is to lose."""
        at = max(self.strike_at, EVERY) // EVERY * EVERY + EVERY // 2
        command.wait_until(lambda: steps_of(run or self.run) >= at)

    def go_on(self) -> dict[str, Any]:
        """Resumes and trains to the end."""
        start = time.monotonic()
        with Command("resume", self.run, log=self.folder / "resume.log") as command:
            command.wait_until(lambda: "going on from" in command.log.read_text())
            at = steps_of(self.run)
            command.wait_until(lambda: steps_of(self.run) != at)
            full = time.monotonic() - start
            code = command.end(600)
        assert code == 0, command.log.read_text()[-2000:]
        return {
            "full_s": round(full, 1),
            "lost_steps": resumed(self.run)["lost_env_steps"],
            "returns": returns_of(self.run),
            "went_on": "by `resume`",
        }


def returns_of(run: Path) -> list[float]:
    return [row["episode_return_mean"] for row in table_of(run)]


def driver_killed(*args: Any) -> dict[str, Any]:
    """kill -9 in the middle of an iteration."""
    case = Case(*args)
    with case.train() as command:
        case.wait(command)
        command.kill()
    return {"noticed_s": 0.0, **case.go_on()}


def driver_killed_saving(*args: Any) -> dict[str, Any]:
    """kill -9 while a checkpoint is half written."""
    case = Case(*args)
    with case.train() as command:
        case.wait(command)
        command.freeze_when((case.run / "checkpoint.new").exists)
        command.kill()
    return {"noticed_s": 0.0, **case.go_on()}


def learner_killed(*args: Any, learners: int = 1) -> dict[str, Any]:
    """SIGKILL to a remote learner's process."""
    case = Case(*args)
    # The batch is that of all learners together.
    with case.train(
        "--set", f"learners.num_learners={learners}",
        "--set", f"training.train_batch_size_per_learner={BATCH // learners}",
    ) as command:  # fmt: skip
        case.wait(command)
        start = time.monotonic()
        command.member(LEARNER).kill()
        code = command.end()
        noticed = round(time.monotonic() - start, 1)
        assert code == 3 and command.result()["status"] == "failed"
    return {"noticed_s": noticed, **case.go_on()}


def two_learners(*args: Any) -> dict[str, Any]:
    return learner_killed(*args, learners=2)


def disk_full(*args: Any) -> dict[str, Any]:
    """No room until a checkpoint has failed; then there is room again."""
    case = Case(*args)
    disk = case.folder / "disk"
    disk.mkdir()
    before = small_disk(disk, case.run, megabytes=16)
    with case.train(run=disk / "run", before=before) as command:
        seen = seen_by(command.process, disk)
        case.wait(command, seen / "run")
        start, filler = time.monotonic(), fill(seen)
        told = "checkpoint was NOT written"
        command.wait_until(lambda: fill(seen) and told in command.log.read_text())
        noticed = time.monotonic() - start
        at = steps_of(seen / "run")
        filler.unlink()
        command.wait_until(lambda: steps_of(seen / "run") > at)
        full = time.monotonic() - start
        assert command.end(600) == 0, command.log.read_text()[-2000:]
        said = command.result()
    assert said["failed_checkpoints"] >= 1
    steps = [row["env_steps"] for row in table_of(case.run)]
    assert steps == [BATCH * i for i in range(1, len(steps) + 1)]
    return {
        "noticed_s": round(noticed, 1),
        "full_s": round(full, 1),
        "lost_steps": 0,  # every iteration's row is there, and is checked above
        "failed_checkpoints": said["failed_checkpoints"],
        "returns": returns_of(case.run),
    }


# ---- the table ----------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str, Callable[..., dict], int]] = {
    "runner_killed": (
        "env runner killed", "SIGKILL to one of 2", fault_runs.runner_killed, FRAGMENT,
    ),
    "node_killed": (
        "worker node killed", "SIGKILL to one of 2 raylets; a third joins 10 s later",
        fault_runs.node_killed, FRAGMENT,
    ),
    "learner_killed": ("learner killed", "SIGKILL, `num_learners=1`", learner_killed, EVERY),
    "two_learners": ("learner killed", "SIGKILL to one, `num_learners=2`", two_learners, EVERY),
    "driver_killed": ("driver killed", "SIGKILL between checkpoints", driver_killed, EVERY),
    "driver_killed_saving": (
        "driver killed", "SIGKILL while it writes a checkpoint", driver_killed_saving, EVERY,
    ),
    "disk_full": ("disk full", "no room until a checkpoint has failed", disk_full, 0),
    "env_hangs": (
        "environment hangs", f"`step` sleeps; `env_timeout_s={LIMIT_S:g}`",
        fault_runs.env_hangs, FRAGMENT,
    ),
    "env_raises": (
        "environment raises", "`restart_failed_sub_environments=True`", fault_runs.env_raises, 0,
    ),
}  # fmt: skip
"""Name to the fault, what is done, by what, and the most steps that may be lost."""

OF_ONE_MACHINE = (fault_runs.runner_killed, fault_runs.env_hangs, fault_runs.env_raises)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/faults"))
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.iterations < 25:
        parser.error("--iterations: from 25 on, so that there is a checkpoint before the fault")
    args.out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="faults"))
    try:
        rows = _measure(args, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)
    return 0 if all(row["as_explained"] for row in rows) else 1


def _measure(args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    given = (args.seed, args.iterations)
    calm = fault_runs.on_one_machine(fault_runs.undisturbed, scratch / "calm", *given)
    assert calm["lost_steps"] == 0, calm
    print(f"undisturbed: {calm['seconds']} s, return {_final(calm['returns']):.1f}", flush=True)
    rows: list[dict[str, Any]] = []
    for name in args.only:
        if name == "disk_full" and not can_mount():
            print("disk_full: left out, it needs root and mount namespaces", flush=True)
            continue
        fault, done, strike, most = FAULTS[name]
        if strike in OF_ONE_MACHINE:
            measured = fault_runs.on_one_machine(strike, scratch / name, *given)
        else:
            measured = strike(scratch / name, *given)
        rows.append(
            {
                "fault": fault,
                "done": done,
                "went_on": "by itself",
                **measured,
                "return": _final(measured["returns"]),
                "undisturbed": _final(calm["returns"]),
                "as_explained": 0 <= measured["lost_steps"] <= most,
            }
        )
        print(_line(rows[-1]), flush=True)
        _write(args, rows, calm)
    return rows


def _final(returns: list[float]) -> float:
    return float(np.nanmean(returns[-max(1, len(returns) // 5) :]))


def _line(row: dict[str, Any]) -> str:
    full = "never" if row["full_s"] is None else f"{row['full_s']:g}"
    return (
        f"| {row['fault']} | {row['done']} | {row['noticed_s']:g} | {full} | {row['lost_steps']} "
        f"| {row['went_on']} | {row['return']:.1f} | {row['undisturbed']:.1f} |"
    )


def _write(args: argparse.Namespace, rows: list[dict[str, Any]], calm: dict[str, Any]) -> None:
    about = {
        "seed": args.seed,
        "iterations": args.iterations,
        "batch": BATCH,
        "runners": RUNNERS,
        "environments_per_runner": ENVS,
        "checkpoint_every": EVERY,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions_and_commit(),
    }
    record = {**about, "rows": rows, "undisturbed": calm}
    (args.out / "faults.json").write_text(json.dumps(record, indent=1) + "\n")
    head = (
        "| fault | what was done | noticed after, s | full strength after, s | lost steps "
        "| went on | return | undisturbed |\n|---|---|---|---|---|---|---|---|\n"
    )
    (args.out / "faults.md").write_text(head + "\n".join(map(_line, rows)) + "\n")
    draw(record, args.out / "faults.png")


def draw(record: dict[str, Any], path: Path) -> None:
    """For each fault the returns by iteration, over those of the undisturbed run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = record["rows"]
    wide = min(3, len(rows))
    high = -(-len(rows) // wide)
    figure = Figure(figsize=(4 * wide, 2.3 * high + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(high, wide, squeeze=False, sharex=True, sharey=True)
    for axes, row in zip(all_axes.flat, rows, strict=False):
        axes.axvline(int(STRIKE * record["iterations"]), color="0.6", linestyle=":")
        axes.plot(_smooth(record["undisturbed"]["returns"]), color="0.6", label="undisturbed")
        axes.plot(_smooth(row["returns"]), color="C0", linewidth=1, label="with the fault")
        axes.set_title(f"{row['fault']}\n{row['done'].replace('`', '')}", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(all_axes.flat)[len(rows) :]:
        axes.set_axis_off()
    all_axes[0, 0].legend(frameon=False, fontsize=8)
    for axes in all_axes[-1]:
        axes.set_xlabel("iteration")
    for axes in all_axes[:, 0]:
        axes.set_ylabel("team return")
    figure.savefig(path, dpi=110)


def _smooth(returns: list[float]) -> np.ndarray:
    """The mean over each iteration and the four before it."""
    return np.convolve(np.pad(returns, (4, 0), mode="edge"), np.full(5, 0.2), mode="valid")


if __name__ == "__main__":
    sys.exit(main())
