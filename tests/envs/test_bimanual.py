"""Two arms at a table: envpool's tasks."""

import importlib.util
import os
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box
from ray.rllib.env.env_context import EnvContext

from rllib_hetero import HAPPOConfig, MissingExtraError, TeamError, check_env
from rllib_hetero.envs import make_bimanual
from rllib_hetero.envs.bimanual import TASKS
from rllib_hetero.envs.bimanual.tasks import LEFT, RIGHT

HAND_OVER, PEG = TASKS
CLOCK = 82

# Targets of the left arm's joints and gripper, from which step on. From seed 5, it goes to the
# box, takes it, lifts it, and lets it go.
LIFT_AND_DROP = (
    (0, (1.335, -0.315, 1.46, 1.584, -1.023, -0.49, 0.037)),
    (60, (0.755, 0.12, 1.353, 0.795, -1.001, -0.08, 0.037)),
    (90, (0.755, 0.12, 1.353, 0.795, -1.001, -0.08, 0.01)),
    (110, (0.755, -0.79, 0.962, 2.114, -0.779, -1.85, 0.01)),
    (170, (0.755, -0.79, 0.962, 2.114, -0.779, -1.85, 0.037)),
)
HOME = (0.083, -0.554, 1.237, 0.109, -0.651, -0.073, 0.037)
PER_STEP = 0.015  # how far an action of 1 moves a target


@pytest.fixture(scope="module")
def envpool():
    return pytest.importorskip("envpool")


@pytest.fixture
def make(envpool):
    made = []

    def get(task=HAND_OVER, **settings):
        made.append(make_bimanual({"task": task, **settings}))
        return made[-1]

    yield get
    for env in made:
        env.close()


def bare(envpool, task, seeds, **settings):
    env_id = TASKS[task].env_id
    return envpool.make(
        env_id, env_type="gymnasium", num_envs=len(seeds), env_seed=seeds, num_threads=1, **settings
    )


def split(joint):
    """(E, 14) to agent id to (E, 7)."""
    joint = np.asarray(joint, np.float32)
    return {LEFT: joint[:, :7], RIGHT: joint[:, 7:]}


def random_joint(rng, num_envs):
    return rng.uniform(-1.0, 1.0, (num_envs, 14)).astype(np.float32)


def script(steps, num_envs=1, plan=LIFT_AND_DROP):
    """Joint actions (steps, E, 14) that follow a plan of targets; the right arm stays."""
    target = np.array(HOME)
    joint = np.zeros((steps, num_envs, 14), np.float32)
    for t in range(steps):
        goal = np.array([x for start, x in plan if start <= t][-1])
        joint[t, :, :7] = np.clip((goal - target) / PER_STEP, -1.0, 1.0)
        target += joint[t, 0, :7] * PER_STEP
    return joint


def looks(env, e):
    return [env.state[e].copy(), *(x[e].copy() for x in env.observations.values())]


def assert_equal(some, others):
    for x, y in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, y)


# --- Against envpool itself --------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_two_episodes_agree_with_envpool(envpool, make, task):
    steps, seeds = 20, [3, 4, 5]
    theirs = bare(envpool, task, seeds, max_episode_steps=steps)
    env = make(task, max_steps=steps, num_envs=3)
    rng = np.random.default_rng(0)
    env.reset(range(3), seeds)
    seen, _ = theirs.reset()
    for _ in range(2):
        np.testing.assert_array_equal(env.state, seen.astype(np.float32))
        for t in range(steps):
            joint = random_joint(rng, 3)
            outcome = env.step(split(joint))
            seen, reward, terminated, truncated, _ = theirs.step(joint)
            expected = seen.astype(np.float32)
            if task == HAND_OVER and t == steps - 1:
                np.testing.assert_array_equal(expected[:, CLOCK], 0.0)
                expected[:, CLOCK] = 1.0
            np.testing.assert_array_equal(env.state, expected)
            assert_equal(outcome.rewards.T, [reward.astype(np.float32)] * 2)
            np.testing.assert_array_equal(outcome.terminated, terminated)
            np.testing.assert_array_equal(outcome.truncated, truncated)
            assert not outcome.failed.any()
        assert outcome.truncated.all()
        # A reset by us is what envpool does by itself in the step after the last.
        env.reset(range(3), [None] * 3)
        seen = theirs.step(joint)[0]
    theirs.close()


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_lasts_as_long_as_envpools(envpool, make, task):
    steps = TASKS[task].max_steps
    assert envpool.make_spec(TASKS[task].env_id).config.max_episode_steps == steps
    env = make(task)
    env.reset([0], [0])
    still = split(np.zeros((1, 14)))
    ends = [bool(env.step(still).truncated[0]) for _ in range(steps)]
    assert ends == [False] * (steps - 1) + [True]


@pytest.mark.parametrize("task", TASKS)
def test_the_parts_are_where_mujoco_has_them(envpool, make, task):
    """Joints, grippers and objects, found by their names in the model."""
    mujoco = pytest.importorskip("mujoco")
    from rllib_hetero.envs.bimanual.frame import model_file

    model = mujoco.MjModel.from_xml_path(model_file(TASKS[task]))
    data = mujoco.MjData(model)
    env = make(task)
    env.reset([0], [1])
    # One action repeated: a random walk would leave the arms where they were.
    direction = np.random.default_rng(1).uniform(-1, 1, (1, 14))
    for _ in range(15):
        env.step(split(direction))
    state = env.state[0]
    data.qpos[:] = state[: model.nq]
    mujoco.mj_forward(model, data)
    joints = {
        name: [j for j in range(model.njnt) if model.joint(j).name.startswith(name)]
        for name in ("left/", "right/")
    }
    for agent, side in ((LEFT, "left/"), (RIGHT, "right/")):
        observed = env.observations[agent][0]
        own = model.jnt_qposadr[joints[side]]
        np.testing.assert_array_equal(observed[:8], state[own])
        own = model.nq + model.jnt_dofadr[joints[side]]
        np.testing.assert_array_equal(observed[8:16], state[own])
        # The observed places are one substep old.
        place = data.site(f"{side}gripper").xpos
        start = 16 if task == PEG else 18
        np.testing.assert_allclose(observed[start : start + 3], place, atol=5e-3)
        other = data.site(f"{'right/' if side == 'left/' else 'left/'}gripper").xpos
        assert not any(
            np.allclose(observed[i : i + 3], other, atol=1e-2) for i in range(observed.size - 2)
        )
    bodies = ("socket", "peg") if task == PEG else ("box",)
    for body in bodies:
        place = data.body(body).xpos
        for observed in env.observations.values():
            hits = [
                i for i in range(observed.size - 2) if np.allclose(observed[0, i : i + 3], place)
            ]
            assert hits


def test_envpool_plays_on_after_a_drop_and_we_do_not(envpool, make):
    joint = script(250)
    theirs, env = bare(envpool, HAND_OVER, [5]), make()
    theirs.reset()
    env.reset([0], [5])
    for t in range(250):
        outcome = env.step(split(joint[t]))
        seen, reward, terminated, truncated, _ = theirs.step(joint[t])
        assert outcome.rewards[0].tolist() == [np.float32(reward[0])] * 2
        np.testing.assert_array_equal(env.state, seen.astype(np.float32))
        if outcome.terminated[0]:
            break
    assert 170 < t < 249 and not outcome.truncated[0]
    assert reward[0] == pytest.approx(-0.1, abs=1e-3)
    # Why we end it: envpool sets the clock back, and with it what was paid for already.
    assert seen[0, CLOCK] == 0.0 and not terminated[0] and not truncated[0]
    metrics = {name: x.tolist() for name, x in env.episode_metrics([0]).items()}
    distance = np.linalg.norm(env.state[0, 79:82])
    assert metrics == {
        "success_rate": [0.0],
        "target_distance": [pytest.approx(distance)],
        "picked": [1.0],
        "dropped": [1.0],
    }
    env.reset([0], [None])
    assert env.state[0, CLOCK] == 0.0 and not env.step(split(joint[0])).terminated[0]
    metrics = env.episode_metrics([0])
    assert metrics["picked"].tolist() == [0.0] and metrics["dropped"].tolist() == [0.0]


def test_a_box_held_to_the_end_is_not_dropped(make):
    env = make(num_envs=2)
    env.reset(range(2), [5, 5])
    held = [*LIFT_AND_DROP[:-1]]
    for hold in script(250, plan=held):
        outcome = env.step(split(np.concatenate([hold, np.zeros((1, 14))])))
    assert outcome.truncated.all() and not outcome.terminated.any()
    metrics = env.episode_metrics([0, 1])
    assert metrics["picked"].tolist() == [1.0, 0.0]
    assert metrics["dropped"].tolist() == [0.0, 0.0]
    assert env.state[0, 18] > 0.15  # the box's height


# --- Rows, resets, seeds -----------------------------------------------------------------------


def test_rows_are_independent_and_more_threads_change_nothing(make):
    many = make(num_envs=4, num_threads=2)
    many.reset(range(4), [7, 8, 9, 7])
    alone = make()
    alone.reset([0], [9])
    rng = np.random.default_rng(2)
    for _ in range(40):
        joint = random_joint(rng, 4)
        joint[3] = joint[0]
        outcome = many.step(split(joint))
        rewards = alone.step(split(joint[2:3])).rewards
        assert_equal(looks(many, 0), looks(many, 3))
        assert_equal(looks(many, 2), looks(alone, 0))
        np.testing.assert_array_equal(outcome.rewards[2:3], rewards)
    assert not np.array_equal(many.state[0], many.state[1])


def test_a_reset_leaves_the_other_rows_alone(make):
    def play(disturbed):
        env = make(num_envs=3)
        env.reset(range(3), [1, 2, 3])
        rng, history = np.random.default_rng(0), []
        for t in range(12):
            history.append(env.step(split(random_joint(rng, 3))).rewards[[0, 2]])
            if disturbed and t % 4 == 1:
                before = looks(env, 1)
                env.reset([1], [t])
                assert not np.array_equal(before[0], env.state[1])
                assert env.state[1, CLOCK] == 0.0
            history += looks(env, 0) + looks(env, 2)
        return history

    assert_equal(play(False), play(True))


def test_the_first_seeds_decide_about_all_episodes(make):
    def starts(first, later):
        env = make(num_envs=2)
        env.reset([0, 1], first)
        seen = [env.state.copy()]
        for seed in later:
            env.reset([0, 1], [seed, seed])
            seen.append(env.state.copy())
        return np.stack(seen)

    one = starts([1, 2], [5, 5])
    np.testing.assert_array_equal(one, starts([1, 2], [6, None]))
    assert len(np.unique(one.reshape(6, -1), axis=0)) == 6
    assert not np.array_equal(one, starts([3, 2], [5, 5]))
    assert not np.array_equal(starts([None, None], []), starts([None, None], []))
    starts([2**40 + 1, 2**63 - 1], [])  # seeds of any size


def test_a_simulation_that_breaks_fails_alone(make, monkeypatch):
    env = make(num_envs=3)
    env.reset(range(3), [1, 2, 3])
    step = env._pool.step

    def broken(joint):
        seen, reward, terminated, truncated, info = step(joint)
        seen, reward, terminated = seen.copy(), reward.copy(), terminated.copy()
        seen[1, 30] = reward[1] = np.nan
        info["terminated"] = info["terminated"].copy()
        info["terminated"][1] = True
        return seen, reward, terminated, truncated, info

    monkeypatch.setattr(env._pool, "step", broken, raising=False)
    outcome = env.step(split(np.zeros((3, 14))))
    assert outcome.failed.tolist() == [False, True, False]
    assert not outcome.terminated.any() and not outcome.truncated.any()
    assert np.isfinite(env.state).all() and np.isfinite(outcome.rewards).all()
    monkeypatch.undo()
    env.reset([1], [None])
    assert env.state[1].any() and not env.step(split(np.zeros((3, 14)))).failed.any()


def test_closing_ends_the_threads_and_twice_is_harmless(make):
    def tasks():
        return len(os.listdir("/proc/self/task"))  # envpool's threads are not Python's

    env = make(num_envs=4, num_threads=4)
    before = tasks()
    env.reset(range(4), [0] * 4)
    assert tasks() >= before + 4
    env.close()
    env.close()
    assert tasks() <= before


# --- Teams, metrics, pictures, settings --------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """As if the packages were there, for what needs no more than that."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("task", "observe", "size", "state"),
    [(HAND_OVER, "own", 56, 83), (HAND_OVER, "all", 83, 83), (PEG, "own", 63, 82)],
)
def test_teams(task, observe, size, state, installed):
    team = make_bimanual({"task": task, "observe": observe}).team
    assert team.agents == ("left_arm", "right_arm")
    for a in team.agents:
        assert team.observation_spaces[a] == Box(-np.inf, np.inf, (size,), np.float32)
        assert team.action_spaces[a] == Box(-1.0, 1.0, (7,), np.float32)
    assert team.state_space.shape == (state,)
    assert team.reward_scheme == "shared" and not team.masked


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_parts_are_all_there_once(task):
    columns = np.concatenate([*task.parts.values(), task.objects])
    assert sorted(columns.tolist()) == list(range(task.size))
    assert len(task.parts[LEFT]) == len(task.parts[RIGHT])


def test_success_is_counted_by_hand(installed):
    seen = np.zeros((3, 83))
    seen[:, 79:82] = [(0.03, 0.0, 0.04), (0.03, 0.0, 0.039), (0.3, 0.0, 0.4)]
    counted = TASKS[HAND_OVER].final(seen, np.zeros(3))
    assert counted["success_rate"].tolist() == [False, True, False]
    np.testing.assert_allclose(counted["target_distance"], [0.05, np.hypot(0.03, 0.039), 0.5])
    counted = TASKS[PEG].final(np.zeros((3, 82)), np.array([0.0, 0.2, 1.0]))
    assert counted["success_rate"].tolist() == [False, True, True]
    assert counted["insertion"].tolist() == [0.0, 0.2, 1.0]


def test_each_arm_moves_by_its_own_actions(make):
    env = make(observe="all", num_envs=3)
    env.reset(range(3), [4, 4, 4])
    still, moves = np.zeros((3, 7), np.float32), np.zeros((3, 7), np.float32)
    moves[1] = 1.0
    right_moves = np.zeros((3, 7), np.float32)
    right_moves[2] = 1.0
    for _ in range(5):
        env.step({LEFT: moves, RIGHT: right_moves})
    assert not still.any()
    left, right = slice(0, 8), slice(8, 16)
    moved = np.abs(env.state - env.state[0])
    assert moved[1, left].max() > 0.02 > 1e-3 > moved[1, right].max()
    assert moved[2, right].max() > 0.02 > 1e-3 > moved[2, left].max()
    for x in env.observations.values():
        np.testing.assert_array_equal(x, env.state)


def test_reading_the_spaces_imports_nothing(installed, monkeypatch):
    for module in ("envpool", "mujoco", "rllib_hetero.envs.bimanual.frame"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it raises
    config = EnvContext({"task": HAND_OVER}, worker_index=0)
    env = make_bimanual(config)
    env.close()
    assert env.num_envs == 1 and dict(config) == {"task": HAND_OVER}


@pytest.mark.parametrize("task", TASKS)
def test_pictures(make, task):
    from rllib_hetero.envs.bimanual.frame import can_draw

    if not can_draw():
        pytest.skip("no screen; MUJOCO_GL=egl does without")
    env = make(task, render_mode="rgb_array", num_envs=2)
    env.reset([0, 1], [1, 2])
    before = env.render()
    assert before.shape == (480, 480, 3) and before.dtype == np.uint8
    assert len(np.unique(before)) > 100
    np.testing.assert_array_equal(env.render(), before)
    for _ in range(10):
        env.step(split(np.ones((2, 14))))
    assert (env.render() != before).any(2).mean() > 0.01


def test_pictures_without_a_screen_are_refused(make, monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    env = make(HAND_OVER, render_mode="rgb_array", num_envs=1)
    env.reset([0], [1])
    with pytest.raises(TeamError, match="MUJOCO_GL=egl"):
        env.render()


def test_a_picture_without_a_render_mode_is_refused(installed):
    with pytest.raises(TeamError, match='"render_mode": "rgb_array"'):
        make_bimanual({"task": HAND_OVER}).render()


@pytest.mark.parametrize(
    ("env_config", "named"),
    [
        ({}, "Unknown `task` None.*AlohaHandOver.*AlohaSinglePegInsertion"),
        ({"task": "AlohaHandOver-v1"}, "Unknown `task` 'AlohaHandOver-v1'"),
        ({"task": [HAND_OVER]}, "Unknown `task`"),
        ({"task": HAND_OVER, "steps": 2}, r"do not know \['steps'\].*'task', 'observe'"),
        ({"task": HAND_OVER, "observe": "none"}, "`observe` must be.*got 'none'"),
        ({"task": HAND_OVER, "observe": True}, "`observe` must be.*got True"),
        ({"task": HAND_OVER, "max_steps": 0}, "`max_steps` must be.*got 0"),
        ({"task": HAND_OVER, "max_steps": True}, "`max_steps` must be.*got True"),
        ({"task": HAND_OVER, "max_steps": 10.0}, "`max_steps` must be.*got 10.0"),
        ({"task": HAND_OVER, "num_threads": None}, "`num_threads` must be.*got None"),
        ({"task": HAND_OVER, "render_mode": "human"}, "`render_mode` must be.*got 'human'"),
    ],
)
def test_what_is_refused_names_the_setting(env_config, named):
    with pytest.raises(TeamError, match=named) as refused:
        make_bimanual(env_config)
    assert 'config.environment("bimanual", env_config={' in str(refused.value)


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"envpool.*3\.11.*rllib_hetero\[hands\]"):
        make_bimanual({"task": HAND_OVER})
    there = {"envpool": object()}
    monkeypatch.setattr(importlib.util, "find_spec", there.get)
    make_bimanual({"task": HAND_OVER})
    with pytest.raises(MissingExtraError, match=r"mujoco .*rllib_hetero\[hands\]"):
        make_bimanual({"task": HAND_OVER, "render_mode": "rgb_array"})


# --- The library on top ------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_conforms(envpool, task):
    report = check_env("bimanual", {"task": task, "max_steps": 30}, steps=200, seconds=600)
    assert report.ok and not report.of("warning"), str(report)


def test_trains_by_name_with_a_remote_runner_and_evaluation(envpool, ray_local):
    algo = (
        HAPPOConfig()
        .environment("bimanual", env_config={"task": HAND_OVER, "max_steps": 10})
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2, sample_timeout_s=200)
        .evaluation(evaluation_interval=1, evaluation_duration=4, evaluation_num_env_runners=0)
        .learners(num_learners=0)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=80, num_epochs=1)
        .debugging(seed=0)
        .build_algo()
    )
    for _ in range(2):
        result = algo.train()
    algo.stop()
    for part in (result["env_runners"], result["evaluation"]["env_runners"]):
        assert 0.0 <= part["success_rate"] <= 1.0 and part["target_distance"] > 0.0
        assert part["picked"] == part["dropped"] == 0.0
        assert part["episode_len_mean"] == 10
    assert result["evaluation"]["env_runners"]["num_episodes"] == 4
    assert result["num_env_steps_sampled_lifetime"] == 160
    for agent in (LEFT, RIGHT):
        assert np.isfinite(result["learners"][agent]["entropy"])
