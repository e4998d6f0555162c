"""Rewards and ends of gymnasium's robots (`-v5`), as array operations over E of them.

Each class has the terms of one robot's `step`, in its order of operations: the same numbers, to
the last bit. Weights and bounds are the robot's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from rllib_hetero.envs.mamujoco.physics import Robots

Terms = dict[str, np.ndarray]
"""Name in gymnasium's infos to (E, ...)."""


class Score(ABC):
    """What one kind of robot is rewarded for.

    Args:
        robot: Of gymnasium.

    Attributes:
        fields: What of the physics it needs.
        reward: (E,) float64 of the latest step.
        terms: What gymnasium's infos say of it.
    """

    fields: ClassVar[tuple[str, ...]] = ("qpos",)

    def __init__(self, robot: Any) -> None:
        self._robot = robot
        self.reward = np.zeros(0)
        self.terms: Terms = {}

    def before(self, robots: Robots) -> Any:
        """What has to be known from before the step."""
        return None

    @abstractmethod
    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        """Rates the step that has been made by the actions (E, joints)."""

    def ends(self, robots: Robots) -> np.ndarray:
        """(E,) bool: which episodes the step has terminated."""
        return np.zeros(len(robots.data), bool)

    def places(self, robots: Robots) -> Terms:
        """What gymnasium's infos say of where the robots are."""
        return {}


class Running(Score):
    """Forward along x, at a cost of control."""

    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        velocity = (self._position(robots) - before) / self._robot.dt
        ahead = velocity[:, 0]
        forward = self._robot._forward_reward_weight * ahead
        control = self._robot._ctrl_cost_weight * np.square(actions).sum(1)
        self.terms = {
            **dict(zip(("x_velocity", "y_velocity"), velocity.T, strict=False)),
            "reward_forward": forward,
            "reward_ctrl": -control,
        }
        self.reward = self._gains(forward, robots) - self._costs(control, robots)

    def before(self, robots: Robots) -> np.ndarray:
        return self._position(robots).copy()

    def places(self, robots: Robots) -> Terms:
        return {"x_position": robots.fields["qpos"][:, 0]}

    def _position(self, robots: Robots) -> np.ndarray:
        """(E, 1 or 2), in metres."""
        return robots.fields["qpos"][:, :1]

    def _gains(self, forward: np.ndarray, robots: Robots) -> np.ndarray:
        return forward

    def _costs(self, control: np.ndarray, robots: Robots) -> np.ndarray:
        return control


class Swimming(Running):
    """In the plane."""

    def places(self, robots: Robots) -> Terms:
        return _in_the_plane(robots)

    def _position(self, robots: Robots) -> np.ndarray:
        return robots.fields["qpos"][:, :2]


class Upright(Running):
    """Paid for as long as it is healthy; by default the episode ends when it no longer is."""

    def ends(self, robots: Robots) -> np.ndarray:
        if not self._robot._terminate_when_unhealthy:
            return np.zeros(len(robots.data), bool)
        return ~self._healthy(robots)

    def places(self, robots: Robots) -> Terms:
        height = robots.fields["qpos"][:, 1] - self._robot.init_qpos[1]
        return {**super().places(robots), "z_distance_from_origin": height}

    def _gains(self, forward: np.ndarray, robots: Robots) -> np.ndarray:
        alive = self._healthy(robots) * self._robot._healthy_reward
        self.terms["reward_survive"] = alive
        return forward + alive

    def _healthy(self, robots: Robots) -> np.ndarray:
        _, height, angle = robots.fields["qpos"][:, :3].T
        return _within(height, self._robot._healthy_z_range) & _within(
            angle, self._robot._healthy_angle_range
        )


class Hopping(Upright):
    """Healthy within bounds of the whole state, too."""

    fields = ("qpos", "qvel")

    def _healthy(self, robots: Robots) -> np.ndarray:
        bounds = self._robot._healthy_state_range
        return (
            super()._healthy(robots)
            & _within(robots.fields["qpos"][:, 2:], bounds).all(1)
            & _within(robots.fields["qvel"], bounds).all(1)
        )


class Crawling(Upright):
    """An ant's: contacts cost, clipped one by one."""

    fields = ("qpos", "qvel", "xpos", "cfrc_ext")

    def __init__(self, robot: Any) -> None:
        super().__init__(robot)
        start = 3 * robot.model.body(robot._main_body).id
        self._main_body = slice(start, start + 2)

    def places(self, robots: Robots) -> Terms:
        return _in_the_plane(robots)

    def _position(self, robots: Robots) -> np.ndarray:
        return robots.fields["xpos"][:, self._main_body]

    def _costs(self, control: np.ndarray, robots: Robots) -> np.ndarray:
        forces = robots.fields["cfrc_ext"].clip(*self._robot._contact_force_range)
        contact = self._robot._contact_cost_weight * np.square(forces).sum(1)
        self.terms["reward_contact"] = -contact
        return control + contact

    def _healthy(self, robots: Robots) -> np.ndarray:
        low, high = self._robot._healthy_z_range
        position, velocity = robots.fields["qpos"], robots.fields["qvel"]
        finite = np.isfinite(position).all(1) & np.isfinite(velocity).all(1)
        return finite & (low <= position[:, 2]) & (position[:, 2] <= high)


class Walking(Upright):
    """A humanoid's: its centre of mass moves, and the cost of all contacts is clipped."""

    fields = ("qpos", "xipos", "cfrc_ext", "ten_length", "ten_velocity")

    def places(self, robots: Robots) -> Terms:
        return _in_the_plane(robots) | _tendons(robots)

    def before(self, robots: Robots) -> np.ndarray:
        return self._position(robots)

    def _position(self, robots: Robots) -> np.ndarray:
        mass = self._robot.model.body_mass
        bodies = robots.fields["xipos"].reshape(len(robots.data), -1, 3)
        return (np.einsum("b,ebj->ej", mass, bodies) / mass.sum())[:, :2]

    def _costs(self, control: np.ndarray, robots: Robots) -> np.ndarray:
        forces = np.square(robots.fields["cfrc_ext"]).sum(1)
        contact = (self._robot._contact_cost_weight * forces).clip(*self._robot._contact_cost_range)
        self.terms["reward_contact"] = -contact
        return control + contact

    def _healthy(self, robots: Robots) -> np.ndarray:
        return _within(robots.fields["qpos"][:, 2], self._robot._healthy_z_range)


class StandingUp(Score):
    """Height over the length of a step."""

    fields = ("qpos", "cfrc_ext", "ten_length", "ten_velocity")

    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        robot = self._robot
        up = robots.fields["qpos"][:, 2] / robot.model.opt.timestep
        control = robot._ctrl_cost_weight * np.square(actions).sum(1)
        forces = np.square(robots.fields["cfrc_ext"]).sum(1)
        impact = (robot._impact_cost_weight * forces).clip(*robot._impact_cost_range)
        self.reward = up - control - impact + 1
        self.terms = {
            "reward_linup": up,
            "reward_quadctrl": -control,
            "reward_impact": -impact,
        }

    def places(self, robots: Robots) -> Terms:
        position = robots.fields["qpos"]
        return {
            "x_position": position[:, 0],
            "y_position": position[:, 1],
            "z_distance_from_origin": position[:, 2] - self._robot.init_qpos[2],
            **_tendons(robots),
        }


class Reaching(Score):
    """The fingertip's distance from its target."""

    fields = ("xpos",)

    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        gap = self._between("fingertip", "target", robots)
        near = -gap * self._robot._reward_dist_weight
        control = -np.square(actions).sum(1) * self._robot._reward_control_weight
        self.reward = near + control
        self.terms = {"reward_dist": near, "reward_ctrl": control}

    def _between(self, body: str, other: str, robots: Robots) -> np.ndarray:
        """(E,) metres."""
        first, second = (3 * self._robot.model.body(b).id for b in (body, other))
        place = robots.fields["xpos"]
        return _lengths(place[:, first : first + 3] - place[:, second : second + 3])


class Pushing(Reaching):
    """The object's distance from the goal, and from the arm's tip."""

    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        robot = self._robot
        near = -self._between("object", "tips_arm", robots) * robot._reward_near_weight
        done = -self._between("object", "goal", robots) * robot._reward_dist_weight
        control = -np.square(actions).sum(1) * robot._reward_control_weight
        self.reward = done + control + near
        self.terms = {"reward_dist": done, "reward_ctrl": control, "reward_near": near}


class RunningCoupled(Score):
    """The mean of two cheetahs."""

    def before(self, robots: Robots) -> np.ndarray:
        return self._positions(robots).copy()

    def after(self, before: Any, robots: Robots, actions: np.ndarray) -> None:
        robot, half = self._robot, actions.shape[1] // 2
        first, second = ((self._positions(robots) - before) / robot.dt).T
        costs = [
            robot._ctrl_cost_weight * np.square(part).sum(1)
            for part in (actions[:, :half], actions[:, half:])
        ]
        forward = robot._forward_reward_weight * (first + second) / 2.0
        self.reward = forward - (costs[0] + costs[1]) / 2.0
        self.terms = {
            "x_velocity1": first,
            "x_velocity2": second,
            "reward_run": forward,
            "reward_ctrl1": costs[0],
            "reward_ctrl2": costs[1],
        }

    def places(self, robots: Robots) -> Terms:
        return dict(zip(("x_position1", "x_position2"), self._positions(robots).T, strict=True))

    def _positions(self, robots: Robots) -> np.ndarray:
        position = robots.fields["qpos"]
        return position[:, :: position.shape[1] // 2]


SCORES: dict[str, Callable[[Any], Score]] = {
    "Ant": Crawling,
    "CoupledHalfCheetah": RunningCoupled,
    "HalfCheetah": Running,
    "Hopper": Hopping,
    "Humanoid": Walking,
    "HumanoidStandup": StandingUp,
    "ManySegmentAnt": Crawling,
    "ManySegmentSwimmer": Swimming,
    "Pusher": Pushing,
    "Reacher": Reaching,
    "Swimmer": Swimming,
    "Walker2d": Upright,
}
"""Scenario to what its robot is rewarded for."""


def _within(x: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (bounds[0] < x) & (x < bounds[1])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(E,), each as `numpy` has that of one vector: of many, it sums in another order."""
    return np.array([np.linalg.norm(v) for v in vectors])


def _in_the_plane(robots: Robots) -> Terms:
    position = robots.fields["qpos"][:, :2]
    return {
        "x_position": position[:, 0],
        "y_position": position[:, 1],
        "distance_from_origin": _lengths(position),
    }


def _tendons(robots: Robots) -> Terms:
    return {
        "tendon_length": robots.fields["ten_length"].copy(),
        "tendon_velocity": robots.fields["ten_velocity"].copy(),
    }
