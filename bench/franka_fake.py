"""The whole franka.launch.py against the fake Franka graph: `python bench/franka_fake.py` (ten minutes; ROS 2 sourced).

`ros2 launch irevla_ros franka.launch.py` starts every node but the camera's (the fake has a driver's, as a RealSense would),
with the shipped parameters but for what ``OURS`` says. The fake is test/franka_fake.py: its arm, table and camera are the
simulator's, and it is reached through franka_ros2's and crisp_controllers' interfaces alone. Someone stands beside it: in each
episode they put the scene right, confirm and engage, by the services that an operator has; in some they take the gamepad
(messages of ``joy``) and give the arm back; in some it runs into something (a reflex). Writes bench/results/franka_fake.md and
.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from graph_watch import observing
from simulation import RESULTS, machine, table_of

from irevla_ros.core.config import find_config
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.types import ControlSource, Mode
from irevla_ros.data.reader import SpoolReader
from irevla_ros.ros.messages import Joy, Trigger, numbers
from irevla_ros.ros.qos import SENSOR

ROOT = Path(__file__).resolve().parent.parent
REFLEX_IN, HUMAN_IN = (3, 7, 12, 16), (5, 9, 14, 18)  # numbers of learning episodes, from 1
UNTIL_S = 1500.0
JOY_S, DRIVES_S = 0.05, 1.5
DEADMAN, ENGAGE, BUTTONS, AXES = 5, 4, 11, 8
OURS = {
    "/**": {"max_age_s": 0.3},
    # The shipped policy's own workspace and speed; the force stop as high as an arm without compliance needs; patience for a
    # machine of two cores that has other work.
    "/**/arbiter": {"pose_s": 0.5, "command_s": 1.0, "chunk_age_s": 1.5, "human_s": 0.5, "margins.fresh_s": 0.5,
                    "force.fresh_s": 0.5, "force.force_n": 1000.0, "force.torque_nm": 100.0,
                    "limits.box_low": [0.28, -0.32, 0.012], "limits.box_high": [0.70, 0.32, 0.35], "limits.step_m": 0.05,
                    "limits.step_rad": 0.26, "limits.speed_m_s": 0.7, "limits.speed_rad_s": 2.6, "limits.leash_m": 0.15,
                    "limits.leash_rad": 0.9, "limits.tilt_rad": 1.7, "limits.gripper_hold_s": 0.5,
                    "limits.acceleration_m_s2": 14.0, "limits.acceleration_rad_s2": 52.0, "limits.jerk_m_s3": 1400.0,
                    "limits.jerk_rad_s3": 5200.0},
    "/**/episode": {"time_limit_s": 8.0, "time_limit_outcome": "failure"},
    "/**/reward": {"detector": "oracle"},
    "/**/franka": {"reset.velocity_rad_s": 1.0, "recovery.in_a_row": 3},
    "/**/learner": {"evaluate_expert": 0, "evaluate_unseen": 0, "gate": 0,
                    "overrides": ["evaluation=1", "demos=1", "learning.demos=1", "learning.episodes_per_update=5",
                                  "learning.max_episodes=1000", "sacfd.critic_warmup=50", "sacfd.update_to_data=0.2"]},
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One episode, as the spool and the bystander have it."""

    episode: str
    what: str
    reason: str
    outcome: str
    steps: int
    human: int
    version: int


class Bystander:
    """Follows the episodes, and does what a human would. ``did``: episode -> what happened to it."""

    def __init__(self, watch: Any, reflexes: bool = True) -> None:
        self._watch, self._node = watch, watch.node
        self._joy = self._node.create_publisher(Joy, "joy", SENSOR)
        self._clients = {name: self._node.create_client(Trigger, name) for name in
                         ("fake/scene", "fake/reflex", "episode/confirm", "arbiter/engage", "episode/engage")}  # fmt: skip
        self.did: dict[str, str] = {}
        self._learning: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._stand_by, daemon=True)
        self._thread.start()

    def learning(self) -> list[str]:
        return list(self._learning)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _stand_by(self) -> None:
        handled: set[tuple[str, Phase]] = set()
        while not self._stop.wait(0.05):
            if not self._watch.states or "/franka" not in self._watch.health:  # which has to hear the first engage
                continue
            state: EpisodeState = self._watch.states[-1][2]
            if (state.episode_id, state.phase) in handled:
                continue
            handled.add((state.episode_id, state.phase))
            if state.phase is Phase.RESET:
                self._ask("arbiter/engage")
            elif state.phase is Phase.READY:
                for name in ("fake/scene", "episode/confirm", "episode/engage"):
                    self._ask(name)
            elif state.phase is Phase.RUN:
                self._attend(state)

    def _attend(self, state: EpisodeState) -> None:
        if state.mode is not Mode.TRAIN:
            self.did[state.episode_id] = "evaluation"
            return
        self._learning.append(state.episode_id)
        number, what = len(self._learning), ""
        if number in REFLEX_IN:
            what = "reflex"
            time.sleep(1.0)
            self._ask("fake/reflex")
        elif number in HUMAN_IN:
            what = "human"
            time.sleep(0.8)
            self._drive()
        self.did[state.episode_id] = what

    def _drive(self) -> None:
        """A device that was silent counts once it was let go of; then forward and up a little with the deadman held, let go,
        and give the arm back."""
        for _ in range(6):
            self._press({}, {})
        end = time.monotonic() + DRIVES_S
        while time.monotonic() < end:
            self._press({DEADMAN: 1}, {1: 0.3, 4: 0.2})
        for _ in range(4):
            self._press({}, {})
        self._press({ENGAGE: 1}, {})
        self._press({}, {})

    def _press(self, buttons: dict[int, int], axes: dict[int, float]) -> None:
        message = Joy(axes=numbers("f", [axes.get(i, 0.0) for i in range(AXES)]),
                      buttons=numbers("i", [buttons.get(i, 0) for i in range(BUTTONS)]))  # fmt: skip
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._joy.publish(message)
        time.sleep(JOY_S)

    def _ask(self, name: str) -> None:
        client = self._clients[name]
        if client.wait_for_service(timeout_sec=5.0):
            future, end = client.call_async(Trigger.Request()), time.monotonic() + 5.0
            while not future.done() and time.monotonic() < end and not self._stop.is_set():
                time.sleep(0.01)


@contextmanager
def process(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is interrupted at the end, then killed; what it says is in ``log``."""
    with log.open("wb") as file:
        child = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT)
    try:
        yield child
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(timeout=60)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def settings(folder: Path, rate_hz: float) -> list[str]:
    """Arguments of the launch file: the shipped graph without a camera node, the shipped parameters with ``OURS``."""
    graph = yaml.safe_load(find_config("franka", "graphs").read_text())
    del graph["nodes"]["camera"]
    parameters = yaml.safe_load(find_config("franka", "parameters").read_text())
    parameters["/**"]["ros__parameters"]["rate_hz"] = rate_hz
    for section, values in OURS.items():
        parameters.setdefault(section, {}).setdefault("ros__parameters", {}).update(values)
    for name, tree in (("graph", graph), ("parameters", parameters)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return [f"config:={folder / 'graph.yaml'}", f"params_file:={folder / 'parameters.yaml'}", f"run:={folder / 'session'}",
            "dry_run:=false", f"python:={sys.executable}"]  # fmt: skip


def measure(episodes: int, distro: str, rate_hz: float, folder: Path) -> dict[str, Any]:
    fake = [sys.executable, str(ROOT / "test" / "franka_fake.py"), "--ros-args", "-p", f"distro:={distro}",
            "-p", f"camera_hz:={rate_hz}", "-p", "state_hz:=50.0", "-p", "reflex_n:=3000.0"]  # fmt: skip
    launch = ["ros2", "launch", "irevla_ros", "franka.launch.py", *settings(folder, rate_hz)]
    began = time.monotonic()
    with process(fake, folder / "fake.log"), process(launch, folder / "launch.log") as up, observing([""]) as watch:
        bystander = Bystander(watch)
        try:
            while len(bystander.learning()) <= episodes and up.poll() is None and time.monotonic() - began < UNTIL_S:
                time.sleep(0.5)
        finally:
            bystander.close()
        learner = watch.learner[-1][2] if watch.learner else None
        health = {name: values for name, (_, _, values) in watch.health.items()}
    wanted, spool = bystander.learning()[:episodes], SpoolReader(folder / "session" / "practice")
    seen = [_seen(spool, name, bystander.did.get(name, "")) for name in wanted if name in spool.ids()]
    return {"machine": machine(), "distro": distro, "rate_hz": rate_hz, "seconds": round(time.monotonic() - began),
            "wanted": len(wanted), "episodes": [asdict(one) for one in seen], "franka": health.get("/franka", {}),
            "learner": asdict(learner) if learner else {}}  # fmt: skip


def _seen(spool: SpoolReader, name: str, what: str) -> Seen:
    record, episode = spool.record(name), spool.read(name)
    human = sum(int(source) == ControlSource.HUMAN for source in episode.source)
    return Seen(name, what, record.meta.termination_reason.value, record.meta.outcome.value, len(episode), human,
                int(episode.head_version.max()))  # fmt: skip


def report(found: dict[str, Any]) -> str:
    episodes = found["episodes"]
    reasons = Counter(f"{one['reason']}, {one['outcome']}" for one in episodes)
    franka, learner = found["franka"], found["learner"]
    counts = {key: franka[key] for key in ("recoveries", "episodes.fault", "gripper.changes") if key in franka}
    lines = [
        "# A session on the fake Franka",
        "",
        f"`python bench/franka_fake.py --distro {found['distro']} --rate {found['rate_hz']:g}`, {found['machine']['date']}:",
        f"{found['machine']['cores']} cores, load {found['machine']['load_1min']} at the end, other work's included;",
        f"{found['seconds']} s from the start of both graphs; {len(episodes)} of {found['wanted']} episodes are on disk.",
        "",
        f"- how they ended: {', '.join(f'{n} x {what}' for what, n in sorted(reasons.items()))}",
        f"- human steps: {sum(one['human'] for one in episodes)} in {sum(one['human'] > 0 for one in episodes)} episodes",
        f"- versions of the policy that acted: {sorted({one['version'] for one in episodes})}",
        f"- counters of the franka node: {json.dumps(counts)}",
        f"- the learner at the end: {learner['stage']}, {learner['done']} of {learner['of']}, {learner['detail']}",
        "",
        table_of(["episode", "injected", "ended by", "outcome", "steps", "of them human", "version"],
                 [list(one.values()) for one in episodes]),
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20, help="learning episodes (%(default)s)")
    parser.add_argument("--distro", choices=("humble", "jazzy"), default="jazzy", help="whose controller_manager (%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="of control and camera, Hz (%(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for logs and the run, instead of a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(args.episodes, args.distro, args.rate, folder)
    text = report(found)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "franka_fake.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "franka_fake.md").write_text(text)


if __name__ == "__main__":
    main()
