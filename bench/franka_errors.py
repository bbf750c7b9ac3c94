"""What a user is told when something about the robot is wrong: each case produced on the fake Franka.

`python bench/franka_errors.py` (ROS 2 sourced; minutes) writes bench/results/franka_errors.md, which docs/franka.md shows.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from simulation import RESULTS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

from franka_cell import FAKE, QUICK, Consenting, cell, words
from irevla_ros.core.episode_machine import EpisodeConfig
from irevla_ros.core.episode_state import Request, ResetDone, Verb
from irevla_ros.nodes import topics
from irevla_ros.ros import DurabilityPolicy, QoSProfile
from irevla_ros.ros.messages import PoseStamped
from irevla_ros.ros.qos import COMMAND
from node_toys import Peer
from ros_toys import Process, opened, spin_for, spin_until

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 90.0
LAUNCH = "[ERROR] [launch]: Caught exception in launch (see debug for traceback): "
LATCHING = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
HIDDEN = "import sys; sys.modules['franka_msgs'] = None; from irevla_ros.nodes.franka.__main__ import main; sys.exit(main())"


def reset_told(fake: dict[str, object] | None = None, **parameters: str) -> str:
    with cell(fake, settle_s="2.0", **parameters) as made:
        made.pause(1.5)
        return made.reset().failure


def without_consent(engaged: bool) -> str:
    with cell(consent_s="2.0") as made:
        made.arbiter.engaged, made.arbiter.hindrance = engaged, "stopped by the operator" if engaged else ""
        made.pause(0.3)  # its last word was another
        return made.reset().failure


def with_another(kind: str) -> str:
    """A second publisher of what moves the arm, or a listener that wants a latched topic."""
    with cell(settle_s="2.0") as made:
        made.pause(1.5)
        with made.joined_by("other") as other:
            if kind == "listener":
                other.create_subscription(PoseStamped, topics.TARGET, lambda _: None, LATCHING)
            else:
                other.create_publisher(PoseStamped, kind, COMMAND)
            made.pause(1.0)
            return made.reset().failure


def after_user_stop() -> str:
    with cell() as made:
        made.run()
        made.trigger("fake/user_stop")
        made.pause(0.05)
        return made.reset().failure


def after_unseen_user_stop() -> str:
    with cell({"fault_shows": "false"}) as made:
        made.run()
        for _ in range(2):
            made.trigger("fake/user_stop")
        made.pause(1.5)
        return made.reset().failure


def after_budget() -> str:
    with cell(recovery__in_a_row="1") as made:
        made.pause(1.5)
        for _ in range(2):
            made.trigger("fake/reflex")
            made.pause(1.5)
            failure = made.reset().failure
        return failure


def after_restart() -> str:
    with cell() as made:
        made.restart()
        return made.reset().failure


def after_cancelled_ptp() -> str:
    with cell({}, reset__velocity_rad_s="0.1") as made:
        state = made.peer.start()
        made.pause(2.5)  # on its way home
        made.peer.play(Request(Verb.STOP), made.now_ns())
        made.pause(1.0)
        assert state.episode_id
        return made.reset().failure


def of_command(*argv: str, **environment: str) -> str:
    """The line in which a program says what is wrong."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
                             start_new_session=True, env={**os.environ, **environment})  # fmt: skip
    try:
        said = child.communicate(timeout=PATIENCE_S)[0].splitlines()
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    return next(line for line in said if re.search(r"error|FAIL", line, re.IGNORECASE))


def of_launch(line: str, *arguments: str) -> str:
    """`ros2 launch` with the shipped parameters and a line more for the franka node."""
    with tempfile.TemporaryDirectory() as folder:
        text = (ROOT / "irevla_ros" / "config" / "parameters" / "franka.yaml").read_text()
        file = Path(folder) / "mine.yaml"
        name = line.split(":")[0].rstrip("s")
        file.write_text("\n".join(f"    {line}" if line and name in one else one for one in text.splitlines()))
        told = of_command("ros2", "launch", "irevla_ros", "franka.launch.py", f"params_file:={file}", f"run:={folder}/run",
                          *arguments)  # fmt: skip
        return re.sub(r"searching: \[.*?\]", "searching: [...]", told.replace(str(file), "mine.yaml"))


def without_franka_msgs() -> str:
    with Process("--ros-args", script=FAKE) as fake, opened():
        fake.expect("fake franka ready")
        with Process("-c", HIDDEN, "--ros-args", *words(QUICK), script=Path("-u")):
            peer, arbiter = Peer(), Consenting()
            peer.machine.config = EpisodeConfig(("robot",), reset_ns=10**12)
            done = peer.hear(ResetDone, topics.RESET_DONE)
            spin_until(lambda: peer.count_subscribers(topics.STATE) > 1, peer, arbiter, timeout_s=PATIENCE_S)
            spin_for(1.0, peer, arbiter)
            arbiter.engaged = True
            spin_for(0.5, peer, arbiter)
            peer.start()
            spin_until(lambda: done, peer, arbiter, timeout_s=PATIENCE_S)
            peer.destroy_node()
            arbiter.destroy_node()
            return str(done[0].failure)


CASES: dict[str, Callable[[], str]] = {
    "a value out of its range: `reset.velocity_rad_s: 3.0`": lambda: of_launch("reset.velocity_rad_s: 3.0"),
    "a misspelt name: `recovery.per_episodes: 2`": lambda: of_launch("recovery.per_episodes: 2"),
    "YAML that is none: `reset.home: [0.0, 1.0`": lambda: of_launch("reset.home: [0.0, 1.0"),
    "`bringup:=true` without franka_ros2": lambda: of_launch("", "bringup:=true"),
    "no ROS 2 in this shell": lambda: of_command(sys.executable, "-m", "irevla_ros.nodes.franka", IREVLA_ROS="embedded"),
    "the driver is not running": lambda: of_command(sys.executable, "-m", "irevla_ros", "doctor", "--robot"),
    "no franka_msgs": without_franka_msgs,
    "another end effector in Desk": lambda: reset_told({"tcp_off_m": 0.02}),
    "another name of the base": lambda: reset_told({"frame": "fr3_link0"}),
    "clocks apart": lambda: reset_told({"clock_off_s": -0.25}, checks__clock_s="0.02"),
    "another arm's driver: two arms, no `arm_prefix`": lambda: reset_told({"arm_prefix": "left"}),
    "the controller is not loaded": lambda: reset_told(controller="cartesian_controller"),
    "two publish `target_pose`": lambda: with_another(topics.TARGET),
    "two publish `arbiter/target_pose`": lambda: with_another(topics.TARGET_IN),
    "incompatible QoS: a listener to `target_pose` that wants it latched": lambda: with_another("listener"),
    "the operator has not engaged the arm": lambda: without_consent(engaged=False),
    "the arbiter has a fault, or was stopped": lambda: without_consent(engaged=True),
    "the user stop is pressed": after_user_stop,
    "it was pressed and released before the node saw it": after_unseen_user_stop,
    "a fault too many": after_budget,
    "the franka node was restarted": after_restart,
    "`ptp_motion` after one was cancelled": after_cancelled_ptp,
    "the reset box is too small": lambda: reset_told(reset__high="[0.75, 0.4, 0.2]"),
}


def main() -> None:
    rows = ["| what is wrong | what you are told |", "|---|---|"]
    for what, told in CASES.items():
        line = " ".join(told().removeprefix(LAUNCH).split()).replace("|", "/")
        rows.append(f"| {what} | `` {line[:420]} `` |" if "`" in line else f"| {what} | `{line[:420]}` |")
        print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "franka_errors.md").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
