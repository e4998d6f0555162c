"""A small training that is struck by a fault, and its resume."""

from fault_tools import Command, resumed, steps_of, table_of

BATCH = 200
SETTINGS = f"""
algo: HAPPO
environment: {{env: matrix_game, env_config: {{game: climbing}}}}
env_runners: {{num_env_runners: 0, num_envs_per_env_runner: 4}}
training: {{train_batch_size_per_learner: {BATCH}, num_epochs: 1}}
rl_module: {{model_config: {{hidden_sizes: [8]}}}}
debugging: {{seed: 1}}
"""

# One iteration is as many steps as above; the fill of the replay is then steps / CAPACITY.
CAPACITY = 100_000
OFF_POLICY = f"""
algo: HASAC
environment: {{env: matrix_game, env_config: {{game: climbing}}}}
env_runners: {{num_env_runners: 0, num_envs_per_env_runner: 4}}
training:
  train_batch_size_per_learner: 16
  training_intensity: 0.4
  num_steps_sampled_before_learning_starts: {BATCH}
  replay_buffer_config: {{capacity: {CAPACITY}}}
rl_module: {{model_config: {{hidden_sizes: [8]}}}}
debugging: {{seed: 1}}
"""


def train(folder, *more, steps="1e9", run=None, before=(), settings=SETTINGS):
    (folder / "game.yaml").write_text(settings)
    return Command(
        "train", "--config", folder / "game.yaml", "--env-steps", steps,
        "--out", run or folder / "run", *more, log=folder / "train.log", before=before,
    )  # fmt: skip


def resume(folder, more_steps):
    """Resumes for so many steps; returns what `run.json` says of it."""
    run = folder / "run"
    target = steps_of(run) + more_steps
    with Command("resume", run, "--env-steps", target, log=folder / "resume.log") as command:
        assert command.end() == 0, command.log.read_text()[-3000:]
        assert command.result()["env_steps"] == target
    table = [(row["iteration"], row["env_steps"]) for row in table_of(run)]
    assert table == [(i, i * BATCH) for i in range(1, len(table) + 1)]
    assert table[-1][1] == target
    return resumed(run)
