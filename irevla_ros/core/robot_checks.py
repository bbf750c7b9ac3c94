"""What must hold before an arm is engaged for the first time: findings for people, made from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.health import Level
from irevla_ros.core.rotation import Pose, angle_between


@dataclass(frozen=True)
class RobotCheckConfig:
    """frames_m, frames_rad: between the driver's pose of the tip and TF's; clock_s: how far the driver's stamps may lie from
    this host's clock, beside the time that a state takes to get here."""

    frames_m: float = 0.005
    frames_rad: float = 0.02
    clock_s: float = 0.02

    def __post_init__(self) -> None:
        if min(self.frames_m, self.frames_rad, self.clock_s) <= 0:
            raise ConfigError(f"checks.frames_m, frames_rad, clock_s = {self.frames_m}, {self.frames_rad}, {self.clock_s}",
                              "all are positive", "give 0.005, 0.02, 0.02")  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ERROR: the arm is not engaged; ``remedy`` says what to do."""

    name: str
    level: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.found}{self.remedy and '; ' + self.remedy}"


def problems(findings: Sequence[Finding]) -> str:
    """Those that forbid to engage, on one line; "" where there are none."""
    return " | ".join(str(one) for one in findings if one.level is Level.ERROR)


def frames_agree(config: RobotCheckConfig, driver: Pose | None, tf: Pose | None, frame: str, tip: str) -> Finding:
    """The driver's ``o_t_ee`` against TF: the end effector that Desk knows of is not in the URDF."""
    name = "frames"
    if driver is None:
        return Finding(name, Level.ERROR, "no o_t_ee from the robot", "start franka_robot_state_broadcaster")
    if tf is None:
        return Finding(name, Level.ERROR, f"TF knows no {tip} in {frame}",
                       "start robot_state_publisher, with load_gripper:=true, or set `arm_prefix`, `frame`, `tip`")  # fmt: skip
    apart, turned = float(np.linalg.norm(driver.p - tf.p)), angle_between(driver.q, tf.q)
    found = f"o_t_ee and TF's {tip} are {1e3 * apart:.1f} mm and {np.degrees(turned):.2f} deg apart"
    if apart <= config.frames_m and turned <= config.frames_rad:
        return Finding(name, Level.OK, found)
    most = f"at most {1e3 * config.frames_m:g} mm and {np.degrees(config.frames_rad):.2f} deg"
    return Finding(name, Level.ERROR, found, f"{most}: set the end effector in Desk to the Franka Hand, "
                   "or call service_server/set_tcp_frame")  # fmt: skip


def one_publisher(topic: str, publishers: Sequence[str], expected: str) -> Finding:
    """``expected`` is the node that alone may publish there; crisp_controllers ignore a topic that two publish on."""
    name = f"publishers of {topic}"
    if list(publishers) == [expected]:
        return Finding(name, Level.OK, expected)
    if not publishers:
        return Finding(name, Level.ERROR, "nobody publishes it", f"start {expected}")
    others = sorted(set(publishers) - {expected}) or [f"{expected}, {len(publishers)} times"]
    return Finding(name, Level.ERROR, f"also published by {', '.join(others)}" if expected in publishers else
                   f"published by {', '.join(others)}, not by {expected}",
                   f"stop it: only {expected} commands the arm")  # fmt: skip


def clock_agrees(config: RobotCheckConfig, ages_s: Sequence[float]) -> Finding:
    """``ages_s``: this host's time at the arrival of states minus their stamps. The least of them is the clocks' offset plus
    the shortest way; a negative one means that the stamps come from the future."""
    name = "clock of the robot's host"
    if not ages_s:
        return Finding(name, Level.ERROR, "no stamped state came", "start the robot's driver")
    least = min(ages_s)
    found = f"the freshest state was {1e3 * least:+.1f} ms old"
    if -config.clock_s <= least <= config.clock_s:
        return Finding(name, Level.OK, found)
    return Finding(name, Level.ERROR, found, f"at most {1e3 * config.clock_s:g} ms: synchronise both hosts (chrony, PTP)")


def qos_agrees(topic: str, mismatches: Sequence[str]) -> Finding:
    name = f"QoS of {topic}"
    if not mismatches:
        return Finding(name, Level.OK, "compatible")
    return Finding(name, Level.ERROR, "; ".join(mismatches), "no message gets through: change the QoS of that node")
