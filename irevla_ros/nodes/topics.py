"""Names of topics and services, relative to an arm's namespace; what travels on them is in docs/graph.md."""

from __future__ import annotations

from irevla_ros.ros import HistoryPolicy, QoSProfile, ReliabilityPolicy
from irevla_ros.ros.qos import SENSOR

POSE = "current_pose"
WRENCH = "external_wrench"
JOINTS = "current_joints"
GRIPPER = "gripper/joint_states"
SIM_STATE = "sim/state"
ACTION = "policy/action"
SCRIPT = "script/action"
TARGET = "target_pose"
TARGET_IN = "arbiter/target_pose"  # where the arbiter's is remapped to when another node passes it on
GRIPPER_COMMAND = "gripper/command"
DRY_RUN = "dry_run"  # before the names of commands that no robot is to hear
TWIST = "teleop/twist"
TELEOP_GRIPPER = "teleop/gripper"
RELEASED = "released"  # the frame_id of the twist that says so
STEP = "arbiter/step"
DEADMAN = "arbiter/deadman"
CONSENT = "arbiter/consent"
STATE = "episode/state"
ORDER = "episode/order"
RESET_DONE = "episode/reset_done"
REQUEST = "episode/request"
SEALED = "episode/sealed"
VERDICT = "reward/verdict"
JUDGED = "reward/judged"
REWARD = "reward/value"
SUCCESS = "reward/success"
FAILURE = "reward/failure"
RECORDED = "recorder/recorded"
TALLY = "recorder/tally"
UNDO = "recorder/undo"
NOTE = "episode/note"
CHOICE = "episode/choice"
AGENDA = "episode/agenda"

# Of the whole graph, not of one arm.
PROPOSAL = "task/instruction"
VERSION = "policy/version"
ANNOUNCEMENT = "learner/announcement"
STATUS = "learner/status"
DIAGNOSTICS = "/diagnostics"

LOCK_STEP = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Observations where the simulator waits for the answer: a lost one would stop the graph until it is sent again."""

RECORDED_STREAM = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=60, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Observations for who has to have all of them: two seconds at 30 Hz, where others take the newest."""


def image(camera: str) -> str:
    return f"camera/{camera}/image_raw"


def compressed_image(camera: str) -> str:
    return f"{image(camera)}/compressed"


def camera_info(camera: str) -> str:
    return f"camera/{camera}/camera_info"


def of(arm: str, topic: str) -> str:
    """The topic of an arm, seen from a node of the whole graph; ``arm`` is "" where there is but one."""
    return f"{arm}/{topic}" if arm else topic


def observation_qos(lock_step: bool) -> QoSProfile:
    return LOCK_STEP if lock_step else SENSOR
