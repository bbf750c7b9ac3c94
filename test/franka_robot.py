"""The fake Franka's control box and ros2_control: modes, errors, controllers, and what a fault does to them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from franka_arm import FakeArm
from irevla_ros.core.robot_fault import RobotMode

CRISP, TRAJECTORY = "cartesian_impedance_controller", "fr3_arm_controller"
SHOWN_S = 0.1  # for how long a fault is seen before the hardware component fails


@dataclass
class Controller:
    type: str
    active: bool = False
    commands: bool = False  # claims the arm's effort interfaces


class Robot:
    """distro: what the controller_manager does at a fault: ``jazzy`` deactivates all controllers, ``humble`` none (they repeat
    the last state). reflex_n: contact force of the reflex; fault_shows: whether the mode (reflex, user stop) and the error are
    published before the hardware component fails, which in reality is a matter of luck. ``last_errors``: what aborted the last
    motion, as libfranka has it: kept by a recovery, and nothing after a user stop."""

    def __init__(self, arm: FakeArm, distro: str, reflex_n: float, fault_shows: bool, fake_hardware: bool,
                 prefix: str) -> None:  # fmt: skip
        self.arm, self.distro, self.reflex_n, self._shows = arm, distro, reflex_n, fault_shows
        self.component, self.tip = f"{prefix}FrankaHardwareInterface", f"{prefix}fr3_hand_tcp"
        self.joints = [f"{prefix}fr3_joint{number}" for number in range(1, 8)]
        self.lock = threading.RLock()
        self.mode, self.errors = RobotMode.IDLE, set[str]()
        self.last_errors = set[str]()
        self.hardware = "active"
        self.reflexes = 0
        self._fails_at: float | None = None
        self._time = 0.0
        self.controllers = {
            "joint_state_broadcaster": Controller("joint_state_broadcaster/JointStateBroadcaster", True),
            "franka_robot_state_broadcaster": Controller("franka_robot_state_broadcaster/FrankaRobotStateBroadcaster", True),
            CRISP: Controller("crisp_controllers/CartesianController", commands=True),
            TRAJECTORY: Controller("joint_trajectory_controller/JointTrajectoryController", commands=True),
        }
        if fake_hardware:
            del self.controllers["franka_robot_state_broadcaster"]
        self.activated: list[str] = []  # since the controllers last looked

    def commanding(self) -> str:
        """The controller that has the arm, "" for none."""
        return next((name for name, one in self.controllers.items() if one.active and one.commands), "")

    def moves(self) -> bool:
        """Whether the arm does what it is told."""
        return self.hardware == "active" and self.mode in (RobotMode.IDLE, RobotMode.MOVE)

    # ---- faults ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Called with the physics."""
        self._time = time.monotonic()
        with self.lock:
            if self._fails_at is not None and self._time >= self._fails_at:
                self._fails_at = None
                self._fail()
            elif self.mode is RobotMode.MOVE and float(np.linalg.norm(self.arm.force())) > self.reflex_n:
                self.reflex("cartesian_reflex")

    def reflex(self, error: str) -> None:
        with self.lock:
            self._halt(RobotMode.REFLEX, {error})

    def user_stop(self) -> str:
        with self.lock:
            if self.mode is RobotMode.USER_STOPPED:
                self.mode = RobotMode.IDLE
                return "released"
            self._halt(RobotMode.USER_STOPPED, set())
            return "pressed"

    def _halt(self, mode: RobotMode, errors: set[str]) -> None:
        self.arm.stop()
        self.reflexes += mode is RobotMode.REFLEX
        self.mode, self.errors, self.last_errors = mode, errors, errors
        if self.hardware == "active":
            self._fails_at = self._time + (SHOWN_S if self._shows else 0.0)

    def _fail(self) -> None:
        """hardware_interface::return_type::ERROR from read()."""
        self.hardware = "unconfigured"
        if self.distro == "jazzy":
            for controller in self.controllers.values():
                controller.active = False

    def seen(self) -> tuple[RobotMode, set[str]]:
        """Mode and errors as the broadcaster has them: a failed component is not read any more."""
        if self._shows or self.mode not in (RobotMode.REFLEX, RobotMode.USER_STOPPED):
            return self.mode, self.errors
        return RobotMode.MOVE, set()

    def recover(self) -> bool:
        """automaticErrorRecovery."""
        with self.lock:
            if self.mode is RobotMode.USER_STOPPED or self._fails_at is not None:
                return False
            self.mode, self.errors = RobotMode.IDLE, set()
            return True

    # ---- controller_manager ----------------------------------------------------------------------------------------

    def activate_hardware(self) -> bool:
        with self.lock:
            stuck = self.distro == "humble" and any(one.active for one in self.controllers.values())
            if self.mode in (RobotMode.REFLEX, RobotMode.USER_STOPPED) or (stuck and self.hardware != "active"):
                return False
            self.hardware = "active"
            return True

    def switch(self, activate: list[str], deactivate: list[str]) -> bool:
        """Strict: all or nothing; nothing while a fault takes the controllers down."""
        with self.lock:
            have = self.controllers
            if self._fails_at is not None or not {*activate, *deactivate} <= set(have):
                return False
            if any(have[name].active for name in activate):
                return False
            if any(not have[name].active for name in deactivate) or (activate and self.hardware != "active"):
                return False
            left = [name for name, one in have.items() if one.active and one.commands and name not in deactivate]
            if len(left) + sum(have[name].commands for name in activate) > 1:
                return False
            for name in deactivate:
                have[name].active = False
            for name in activate:
                have[name].active = True
                self.activated.append(name)
            if deactivate or activate:
                self.arm.stop()
                if self.mode in (RobotMode.MOVE, RobotMode.IDLE):
                    self.mode = RobotMode.MOVE if self.commanding() else RobotMode.IDLE
            return True
