"""Faults injected for real into the running graph, one arm in real time: `python bench/graph_faults.py` (about 4 minutes).

Every node is killed in turn with kill -9; the camera dies, freezes, its clock jumps, it sends rubbish; a head is announced
that is corrupted, foreign or out of the folder; rubbish arrives on every topic; a subscriber stops reading; the disk runs
full (needs root, for a small tmpfs). Measured: how long after the fault the arm was still moved, how long after its end
until an episode begun since came to its own end, whether the learner went on, and whether every episode that was sealed
before is still whole. (The camera that repeats one frame starts half a second after the fault, with a frame that is new: one
command answers that.) Writes bench/results/graph_faults.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from graph_watch import PRACTICE, Fault, Watch, lost, observing, processes_of, running, wait_until
from simulation import RESULTS, machine, table_of

from irevla_ros.core.config import find_config
from irevla_ros.core.graph_messages import Announcement
from irevla_ros.nodes import topics
from irevla_ros.ros.backend import chosen
from irevla_ros.ros.messages import Image, JointState, JointTrajectory, JointTrajectoryPoint, PoseStamped, String, numbers
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED, SENSOR

CAMERA, SEEN = topics.image("front"), "sim/image_raw"
RECOVERY_S = 90.0
JSON_TOPICS = (topics.STEP, topics.STATE, topics.ORDER, topics.RESET_DONE, topics.REQUEST, topics.SEALED, topics.VERDICT,
               topics.JUDGED, topics.REWARD, topics.SIM_STATE, topics.VERSION, topics.ANNOUNCEMENT, topics.STATUS)  # fmt: skip
LATCHED_TOPICS = (topics.STATE, topics.VERSION, topics.ANNOUNCEMENT, topics.STATUS)


@dataclass(frozen=True)
class Result:
    """moved_ms: from the fault to the last command after it, where it has to stop the arm; recovered_s: from its end to the
    end of the first whole episode that began since; lost: episodes sealed before that are gone or damaged."""

    fault: str
    moved_ms: float | None
    recovered_s: float | None
    learning: bool
    lost: int


class Camera:
    """What the simulator sees, passed on by a process in the hands of the bench."""

    def __init__(self) -> None:
        self._process = self._start("pass")

    def _start(self, how: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(Path(__file__).with_name("graph_relay.py")), SEEN, CAMERA, how])

    def become(self, how: str) -> None:
        self.kill()
        self._process = self._start(how)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)


class Bench:
    def __init__(self, run: Path, up: subprocess.Popen[bytes], watch: Watch) -> None:
        self.run, self.up, self.watch = run, up, watch

    def kill(self, node: str) -> None:
        os.kill(processes_of(self.up)[node].pid, signal.SIGKILL)

    def measure(self, fault: Fault) -> Result:
        """Inject the fault while the policy moves the arm, and see what becomes of it."""
        watch, since = self.watch, time.monotonic_ns()
        if wait_until(lambda: len(watch.acts(since)) >= 5, RECOVERY_S) is None:
            raise SystemExit(f"the arm does not move before {fault.name!r}: see {self.run}/up.log")
        before = [sealed.episode_id for sealed in watch.whole()]
        at = time.monotonic_ns()
        fault.inject()
        time.sleep(fault.lasts_s)
        late = [when for when, _ in list(watch.targets) if when > at]
        moved = ((max(late) - at) / 1e6 if late else 0.0) if fault.stops else None
        fault.heal()
        end, learned = time.monotonic_ns(), watch.learned()
        recovered = wait_until(lambda: watch.recovered(end), RECOVERY_S)
        learning = wait_until(lambda: watch.learned() != learned, RECOVERY_S) is not None
        return Result(fault.name, moved, recovered, learning, lost(self.run, before))


def kills(bench: Bench) -> Iterator[Fault]:
    for node in ("policy", "sim"):
        yield Fault(f"kill -9 {node}", lambda node=node: bench.kill(node), lasts_s=0.45, stops=True)
    for node in ("arbiter", "episode", "reward", "recorder", "learner", "view"):
        yield Fault(f"kill -9 {node}", lambda node=node: bench.kill(node))


def cameras(camera: Camera) -> Iterator[Fault]:
    def heal() -> None:
        camera.become("pass")

    yield Fault("camera dies for 3 s", camera.kill, heal, 3.0, stops=True)
    yield Fault("camera stands still for 3 s", camera.freeze, heal, 3.0, stops=True)
    for how, name in (("freeze", "repeats one frame"), ("ahead", "has a clock 5 s ahead"), ("back", "has a clock 5 s behind"),
                      ("rubbish", "sends images that are none")):  # fmt: skip
        yield Fault(f"camera {name} for 3 s", lambda how=how: camera.become(how), heal, 3.0, stops=True)


def heads(bench: Bench) -> Iterator[Fault]:
    """Announced in the learner's name, so that only the policy's own checks stand between them and the arm."""
    publisher = bench.watch.node.create_publisher(String, topics.ANNOUNCEMENT, LATCHED)

    def announce(**changes: str) -> Callable[[], None]:
        def act() -> None:
            kept = json.loads((bench.run / "announcements.json").read_text())
            newest = Announcement(**kept[-1] if isinstance(kept, list) else kept)
            wrong = Announcement(**{**vars(newest), "version": newest.version + 1000, **changes})
            publisher.publish(String(data=wrong.to_json()))

        return act

    head = bench.run / "heads" / "corrupted.safetensors"

    def corrupted() -> None:
        head.parent.mkdir(exist_ok=True)
        head.write_bytes(os.urandom(20_000))
        announce(head="heads/corrupted.safetensors", head_sha256="0" * 64)()

    yield Fault("a corrupted head is announced", corrupted)
    yield Fault("a head of another run is announced", announce(run_id="somebody-else"))
    yield Fault("a head that is not there is announced", announce(head="heads/none.safetensors", head_sha256="1" * 64))


def rubbish(bench: Bench) -> Iterator[Fault]:
    node = bench.watch.node
    strings = [node.create_publisher(String, topic, LATCHED if topic in LATCHED_TOPICS else EVENT) for topic in JSON_TOPICS]
    chunk = node.create_publisher(JointTrajectory, topics.ACTION, COMMAND)
    pose, gripper = (node.create_publisher(kind, topic, SENSOR) for kind, topic in ((PoseStamped, topics.POSE),
                                                                                    (JointState, topics.GRIPPER)))  # fmt: skip
    image = node.create_publisher(Image, CAMERA, SENSOR)

    def act() -> None:
        for _ in range(20):
            for publisher in strings:
                publisher.publish(String(data='{"message": "' + "x" * 100))
            nan = numbers("d", [float("nan")] * 5)
            chunk.publish(JointTrajectory(joint_names=["panda_joint1"], points=[JointTrajectoryPoint(positions=nan)]))
            broken = PoseStamped()
            broken.pose.position.x = float("nan")
            pose.publish(broken)
            gripper.publish(JointState(position=numbers("d", [float("inf")])))
            image.publish(Image(height=9, width=9, encoding="rgb8", step=1))
            time.sleep(0.05)

    yield Fault("rubbish on every topic for 1 s", act)


def slow(bench: Bench) -> Iterator[Fault]:
    listener: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        listener.append(subprocess.Popen([sys.executable, str(Path(__file__).with_name("graph_relay.py")), CAMERA, "nowhere",
                                          "pass"]))  # fmt: skip
        time.sleep(2.0)
        listener[0].send_signal(signal.SIGSTOP)

    yield Fault("a subscriber of the images stops reading for 10 s", start, lambda: listener[0].kill(), lasts_s=10.0)


def disk(bench: Bench) -> Iterator[Fault]:
    ballast = bench.run / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass

    yield Fault("disk full for 10 s", fill, ballast.unlink, lasts_s=10.0)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on a tmpfs of its own where we may mount one."""
    with tempfile.TemporaryDirectory(prefix="irevla-faults-") as folder:
        mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=False).returncode == 0  # fmt: skip
        try:
            yield Path(folder)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=False)


def graph_file(folder: Path) -> Path:
    """The shipped graph with the simulator's camera on another topic."""
    graph = yaml.safe_load(find_config("sim", "graphs").read_text())
    graph["nodes"]["sim"]["remap"] = {CAMERA: SEEN}
    path = folder / "faults.yaml"
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    return path


def markdown(results: dict[str, object], found: list[Result]) -> str:
    m = results["machine"]
    assert isinstance(m, dict)
    text = "# Faults injected into the running graph\n\n"
    text += "Written by `python bench/graph_faults.py`: one arm in real time at 10 Hz.\n\n"
    text += "The camera that repeats a frame starts half a second late, with one that is new: one command answers it.\n\n"
    text += f"{m['cpu']}, {m['cores']} cores, load {m['load_1min']}, Python {m['python']}, {m['date']}, {m['backend']}\n\n"
    head = ["fault", "arm moved for, ms", "next whole episode after, s", "learning goes on", "sealed lost"]
    rows = []
    for one in found:
        moved = "" if one.moved_ms is None else f"{one.moved_ms:.0f}"
        recovered = "not" if one.recovered_s is None else f"{one.recovered_s:.1f}"
        rows.append([one.fault, moved, recovered, "yes" if one.learning else "NO", one.lost])
    return text + table_of(head, rows)


def inject(camera: Camera, bench: Bench, only: str) -> list[Result]:
    """All faults whose name contains ``only``, one after the other."""
    if wait_until(lambda: any(status.stage == "stage 1" for _, _, status in bench.watch.learner), 240) is None:
        raise SystemExit(f"the graph did not get to practice: see {bench.run}/up.log")
    faults = [*kills(bench), *cameras(camera), *heads(bench), *rubbish(bench), *slow(bench)]
    if os.path.ismount(bench.run.parent):
        faults += disk(bench)
    found = []
    for fault in faults:
        if only in fault.name:
            found.append(bench.measure(fault))
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name contains this")
    arguments = parser.parse_args()
    with small_disk(400) as folder:
        run = folder / "faults"
        graph = graph_file(folder)
        parameters = ["--params-file", "sim", *PRACTICE, "-p", "lock_step:=false"]
        with running(graph, run, [""], parameters) as up, observing([""]) as watch:
            camera, bench = Camera(), Bench(run, up, watch)
            try:
                found = inject(camera, bench, arguments.only)
            finally:
                camera.kill()  # a camera left behind would see for the next graph
    results = {"machine": {**machine(), "backend": chosen().backend.value}, "faults": [asdict(one) for one in found]}
    text = markdown(results, found)
    print(text)
    if not arguments.only:
        (RESULTS / "graph_faults.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "graph_faults.md").write_text(text)


if __name__ == "__main__":
    main()
