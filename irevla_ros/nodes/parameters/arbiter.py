"""What the arbiter node is set to, beside ``core.arbiter_config``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.durations import LONGEST, MILLISECOND, SECOND, period_ns
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Base, Limits
from irevla_ros.nodes.parameters.reading import Reader, check_cameras


@dataclass(frozen=True)
class ArbiterNodeConfig:
    """side: of a graph over two hosts, the one where this node is; the arm is then moved only while the other's clock is known
    to be within clock_limit_ns of this one's. script: episodes of mode demo belong to ``script/action``, else to the human
    alone; script_resets: in phase reset, too, the script moves the arm; frame: of poses and twists; await_engage: nobody moves
    the arm before the operator has called ``arbiter/engage``; dry_run: commands go to ``dry_run/target_pose`` and
    ``dry_run/gripper/command``, to be looked at, and none to the robot."""

    side: Literal["", "robot", "gpu"] = ""
    clock_limit_ns: int = 20 * MILLISECOND
    lock_step: bool = False
    rate_hz: float = 10.0
    cameras: tuple[str, ...] = ("front",)
    script: bool = False
    script_resets: bool = False
    frame: str = "base"
    await_engage: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        period_ns(self.rate_hz)
        check_cameras(self.cameras)
        if self.clock_limit_ns <= 0:
            raise ConfigError(f"clock_limit_s = {self.clock_limit_ns / SECOND}", "it is positive", "give 0.02")

    @property
    def other_side(self) -> str:
        """The host whose stamps meet this one's; "" where there is none, and in lock step, which has no clock."""
        return "" if self.lock_step else {"": "", "robot": "gpu", "gpu": "robot"}[self.side]


@dataclass(frozen=True)
class LockStepConfig(ArbiterConfig):
    """The same motion as in the in-process simulator; the simulator waits, so that nothing is stale but by accident."""

    limits: Limits = field(default_factory=lambda: Limits(base=Base.MEASURED, step_m=0.2, step_rad=0.6, speed_m_s=2.0,
                                                          speed_rad_s=6.0, leash_m=0.3, leash_rad=1.0, gripper_band=0.0,
                                                          gripper_hold_ns=0))  # fmt: skip
    servo_ns: int = 0
    min_tick_ns: int = 0
    pose_ns: int = 60 * SECOND
    command_ns: int = 60 * SECOND
    human_ns: int = 60 * SECOND
    chunk_age_ns: int = 60 * SECOND
    jump_ns: int = LONGEST

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limits.gripper_band > 0 or self.limits.gripper_hold_ns:
            raise ConfigError(f"limits.gripper_band = {self.limits.gripper_band}, gripper_hold_s = "
                              f"{self.limits.gripper_hold_ns / SECOND} in lock step",
                              "every step says where the gripper goes", "set both to 0")  # fmt: skip
        if self.servo_ns:
            raise ConfigError(f"servo_s = {self.servo_ns / SECOND} in lock step", "one target answers one observation",
                              "set it to 0")  # fmt: skip
        if self.margins.arm is not None or self.force.watched or self.deadman_ns:
            raise ConfigError("margins.arm, force.watched or deadman_s in lock step",
                              "only a pose comes with its observation there", "leave them out")  # fmt: skip


class ArbiterSettings(NamedTuple):
    """The node, and its core: in lock step with the defaults of ``LockStepConfig``."""

    node: ArbiterNodeConfig
    core: ArbiterConfig


def settings(read: Reader) -> ArbiterSettings:
    node = read(ArbiterNodeConfig)
    core = read(LockStepConfig if node.lock_step else ArbiterConfig, period_ns=period_ns(node.rate_hz))
    if not node.lock_step and not core.servo_ns:
        raise ConfigError("servo_s = 0.0", "in real time the target is streamed between two steps", "give 0.02")
    return ArbiterSettings(node, core)
