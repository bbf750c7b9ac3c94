"""What the franka node is set to, beside the parts that ``core`` brings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.gripper import GripperConfig
from irevla_ros.core.reset_motion import ResetMotionConfig
from irevla_ros.core.robot_checks import RobotCheckConfig
from irevla_ros.core.robot_fault import RecoveryConfig
from irevla_ros.nodes.parameters.reading import Reader

_NAME = re.compile(r"\w+")
_NAMESPACE = re.compile(r"|/|/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")


class Commands(str, Enum):
    """Who moves the arm to the arbiter's target."""

    CRISP = "crisp"  # crisp_controllers' Cartesian impedance controller, by `target_pose`
    SERVO = "servo"  # MoveIt Servo, by `servo_node/delta_twist_cmds`


@dataclass(frozen=True)
class ServoConfig:
    """hz: of the twists (Servo drops those older than 0.1 s); linear_m_s, angular_rad_s: their largest; gain_hz: of the
    twist for the distance to the target, 1/s."""

    hz: float = 30.0
    linear_m_s: float = 0.2
    angular_rad_s: float = 0.8
    gain_hz: float = 4.0

    def __post_init__(self) -> None:
        if not 10 < self.hz <= 1000 or min(self.linear_m_s, self.angular_rad_s, self.gain_hz) <= 0:
            raise ConfigError(f"servo.hz, linear_m_s, angular_rad_s, gain_hz = {self.hz}, {self.linear_m_s}, "
                              f"{self.angular_rad_s}, {self.gain_hz}", "above 10 Hz, and all positive",
                              "give 30.0, 0.2, 0.8 and 4.0")  # fmt: skip


@dataclass(frozen=True)
class FrankaConfig:
    """dry_run: nothing is moved, switched or recovered. driver: namespace of the drivers and controllers, where it is not
    this node's: "/", "/robot", or "robot" within this node's. robot_type, arm_prefix: as franka_bringup is told them; they
    begin the names of joints, links and hardware component. frame, tip: of the robot in TF; tip "": the Franka Hand's.
    arbiter: name of the only node whose targets are passed on. controller: the one that follows them (of ros2_control; ""
    where Servo's own are always active); broadcaster: the state's. state_hz: of what is passed on to the graph (the robot
    sends 1 kHz, too much for Python); silent_ns: of wall time, without any state, that count as a fault; oldest_ns: how
    long ago may be what a target was computed from; target_ns: of wall time, how long Servo follows one; settle_ns: how
    long the reset waits for the checks before the first engagement; consent_ns: how long reset and recovery wait for the
    arbiter's consent."""

    dry_run: bool = True
    driver: str = ""
    robot_type: str = "fr3"
    arm_prefix: str = ""
    frame: str = "base"
    tip: str = ""
    arbiter: str = "arbiter"
    command: Commands = Commands.CRISP
    controller: str = "cartesian_impedance_controller"
    broadcaster: str = "franka_robot_state_broadcaster"
    state_hz: float = 50.0
    silent_ns: int = SECOND // 2
    oldest_ns: int = SECOND
    target_ns: int = 200 * MILLISECOND
    settle_ns: int = 5 * SECOND
    consent_ns: int = 30 * SECOND
    servo: ServoConfig = field(default_factory=ServoConfig)
    gripper: GripperConfig = field(default_factory=GripperConfig)
    reset: ResetMotionConfig = field(default_factory=ResetMotionConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    checks: RobotCheckConfig = field(default_factory=RobotCheckConfig)

    def __post_init__(self) -> None:
        times = self.silent_ns, self.oldest_ns, self.target_ns, self.settle_ns, self.consent_ns
        if not 10 <= self.state_hz <= 1000 or min(times) <= 0:
            raise ConfigError(f"state_hz = {self.state_hz}, silent_s, oldest_s, target_s, settle_s, consent_s = "
                              f"{[time / SECOND for time in times]}", "10 to 1000 Hz, and positive times",
                              "give 50.0, 0.5, 1.0, 0.2, 5.0 and 30.0")  # fmt: skip
        if not _NAMESPACE.fullmatch(self.driver):
            raise ConfigError(f"driver = {self.driver!r}", "a namespace, absolute or within this node's", 'give "/robot", say')
        if not _NAME.fullmatch(self.robot_type) or not _NAME.fullmatch(self.arm_prefix or "_"):
            raise ConfigError(f"robot_type, arm_prefix = {self.robot_type!r}, {self.arm_prefix!r}",
                              "they begin names: letters, digits and _", 'give "fr3" and, of two arms, "left"')  # fmt: skip

    @property
    def joint_names(self) -> list[str]:
        return [f"{self._prefix}{self.robot_type}_joint{number}" for number in range(1, 8)]

    @property
    def tip_frame(self) -> str:
        return self.tip or f"{self._prefix}{self.robot_type}_hand_tcp"

    @property
    def hardware(self) -> str:
        """The hardware component."""
        return f"{self._prefix}FrankaHardwareInterface"

    @property
    def _prefix(self) -> str:
        return f"{self.arm_prefix}_" if self.arm_prefix else ""

    def of_driver(self, name: str) -> str:
        """The name of one of the drivers' topics, services or actions."""
        return f"{self.driver.rstrip('/')}/{name}" if self.driver else name


def settings(read: Reader) -> FrankaConfig:
    return read(FrankaConfig)
