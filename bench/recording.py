"""Three 640x480 cameras at 30 Hz and the robot's state at 100 Hz, recorded for ten minutes: what is lost, and what it costs.

    python bench/recording.py                       # 20 episodes of 30 s; with ROS 2 sourced `ros2 bag record`, too
    python bench/recording.py --episodes 2 --raw    # rgb8 images in place of JPEG: 83 MB/s through the middleware

One process is cameras, robot, arbiter and episode node; another is the recorder as a graph runs it, which answers every frame
of the first camera with a row of three pictures, state and action. A drop is a step that the arbiter took and that is not in
the sealed episode under its stamp; the recorder breaks an episode off where one is lost. For `ros2 bag record` it is a message
that was published and is not in the bag.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from graph_watch import TICKS
from simulation import RESULTS, machine, table_of

from irevla_ros.core.arbiter_step import ArbiterStep, Hold
from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import EpisodeState, Event, Judge, Phase, Request, ResetDone, Start, Verb, Verdict
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.types import ByteArray, ControlSource, Mode, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import CompressedImage, Image, JointState, PoseStamped
from irevla_ros.ros.qos import LATCHED, SENSOR
from irevla_ros.ros.run import run_node

CAMERAS, HEIGHT, WIDTH, CAMERA_HZ, STATE_HZ = ("front", "left", "wrist"), 480, 640, 30.0, 100.0
POOL = 20  # different pictures of each camera
START_S, SETTLE_S = 60.0, 3.0


# --- the cell --------------------------------------------------------------------------------------------------------


def pictures(seed: int) -> list[ByteArray]:
    """As hard to compress as a camera's: structure at every scale, and the sensor's noise."""
    rng = np.random.default_rng(seed)
    scene = sum(cv2.resize(rng.normal(0, 30, (HEIGHT // n, WIDTH // n, 3)).astype(np.float32), (WIDTH, HEIGHT))
                for n in (4, 16, 60, 120))  # fmt: skip
    moved = [np.roll(scene, 7 * k, axis=1) + rng.normal(128, 4, scene.shape) for k in range(POOL)]
    return [np.clip(one, 0, 255).astype(np.uint8) for one in moved]


class Cell(GraphNode):
    """Cameras, robot, arbiter and episode node; ends after its episodes, and leaves what it did in ``said``."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__("cell")
        self._seconds, self._left, self._raw, self._said = args.seconds, args.episodes, args.raw, Path(args.said)
        self.machine = EpisodeMachine(EpisodeConfig(("recorder",) if args.recorder else ()), "bench", 1, 0, 0)
        kind = Image if args.raw else CompressedImage
        names = {camera: topics.image(camera) if args.raw else topics.compressed_image(camera) for camera in CAMERAS}
        self._frames = {camera: [self._encoded(one) for one in pictures(k)] for k, camera in enumerate(CAMERAS)}
        self._images = {camera: self.create_publisher(kind, name, SENSOR) for camera, name in names.items()}
        self._pose = self.create_publisher(PoseStamped, topics.POSE, SENSOR)
        self._width = self.create_publisher(JointState, topics.GRIPPER, SENSOR)
        self._state = self.speak(EpisodeState, topics.STATE, LATCHED)
        self._step = self.speak(ArbiterStep, topics.STEP)
        self._recorder = args.recorder
        self.listen(ResetDone, topics.RESET_DONE, self._hear)
        self.listen(Request, topics.REQUEST, self._hear)
        self._count, self._ticks, self._acts, self._stamp_ns = 0, 0, 0, 0
        self.sent: Counter[str] = Counter()
        self.stamps: dict[str, list[int]] = {}
        self.late = 0
        self._state(self.machine.state)
        self.every(1 / CAMERA_HZ, self._look)
        self.every(1 / STATE_HZ, self._tell)
        self.every(0.1, self._play)

    def _encoded(self, picture: ByteArray) -> Any:
        return picture if self._raw else cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()

    def _hear(self, event: Event) -> None:
        if self.machine.handle(event, self.now_ns(), self.wall_ns()).changed:
            self._state(self.machine.state)

    def _play(self) -> None:
        state = self.machine.state
        if state.phase is Phase.IDLE:
            if self._left == 0:
                self._said.write_text(json.dumps({"stamps": self.stamps, "sent": self.sent, "late": self.late}))
                signal.raise_signal(signal.SIGINT)
            elif self.count_subscribers(topics.POSE):
                self._left, self._acts = self._left - 1, 0
                self._hear(Start("bench", "record", Mode.DEMO, 0, 10**12))
        elif state.phase is Phase.RUN and self.now_ns() - (state.started_ns or 0) > self._seconds * SECOND:
            self._hear(Verdict(True, Judge.OPERATOR, self.now_ns()))
            self._record(None)
            if not self._recorder:
                self._hear(Request(Verb.SEALED))

    def _look(self) -> None:
        before, self._stamp_ns = self._stamp_ns, self.now_ns()
        self.late += before > 0 and self._stamp_ns - before > 1.5 * SECOND / CAMERA_HZ
        self._count += 1
        for camera, publisher in self._images.items():
            frame = self._frames[camera][self._count % POOL]
            header = convert.header(self._stamp_ns, camera)
            publisher.publish(convert.image_message(frame, self._stamp_ns, camera) if self._raw
                              else CompressedImage(header=header, format="jpeg", data=frame))  # fmt: skip
            self.sent[publisher.topic_name] += 1
        if self.machine.state.phase is Phase.RUN:
            self._acts += 1
            self.stamps.setdefault(self.machine.state.episode_id, []).append(self._stamp_ns)
            self._record(ControlSource.HUMAN)

    def _record(self, source: ControlSource | None) -> None:
        done, hold = (0.1, 0.0, 0.0, 0.0, 1.0), None if source is not None else Hold.UNENGAGED
        self._ticks += 1
        self._step(ArbiterStep(self._ticks, self.wall_ns(), self.machine.state.episode_id, self._acts, self._stamp_ns, source,
                               hold, (), done, done, done, Pose((0.5, 0.0, 0.2), POINTING_DOWN), 1))  # fmt: skip

    def _tell(self) -> None:
        stamp_ns = self.now_ns()
        self._pose.publish(convert.pose_message(Pose((0.5, 0.0, 0.2), POINTING_DOWN), stamp_ns, "base"))
        self._width.publish(convert.width_message(0.08, stamp_ns))
        self.sent.update([self._pose.topic_name, self._width.topic_name])


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds on the processor, bytes that it had written, its largest memory."""

    cpu_s: float
    written: int
    memory: int


def cost_of(pid: int) -> Cost:
    """Of the process and its children so far."""
    family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    stat = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in family]
    written = [dict(line.split(": ") for line in Path(f"/proc/{one}/io").read_text().splitlines()) for one in family]
    status = [line.split() for one in family for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return Cost(sum(int(words[11]) + int(words[12]) for words in stat) / TICKS, sum(int(io["write_bytes"]) for io in written),
                1000 * sum(int(words[1]) for words in status if words and words[0] == "VmHWM:"))  # fmt: skip


@contextmanager
def running(*argv: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    continue


def played(args: argparse.Namespace, folder: Path, recorder: bool, listener: subprocess.Popen[bytes]) -> dict[str, Any]:
    """One pass of the cell beside ``listener``: what it did, and what that cost both."""
    said = folder / "said.json"
    words = ["--cell", "--said", str(said), "--episodes", str(args.episodes), "--seconds", str(args.seconds)]
    words += ["--raw"] if args.raw else []
    words += ["--recorder"] if recorder else []
    with running(sys.executable, __file__, *words, log=folder / "cell.log") as cell:
        before, began, costs = cost_of(listener.pid), time.monotonic(), None
        while cell.poll() is None:
            costs = cost_of(listener.pid), cost_of(cell.pid)
            time.sleep(0.5)
            if listener.poll() is not None or time.monotonic() - began > START_S + 2 * args.episodes * args.seconds:
                raise RuntimeError(f"see the logs in {folder}: {(folder / 'cell.log').read_text()[-500:]}")
        seconds = time.monotonic() - began
    assert costs is not None
    time.sleep(SETTLE_S)
    mine, other = costs
    return json.loads(said.read_text()) | {"seconds": seconds, "cpu": (mine.cpu_s - before.cpu_s) / seconds,
                                           "written": mine.written - before.written, "memory": mine.memory,
                                           "cell_cpu": other.cpu_s / seconds}  # fmt: skip


def by_recorder(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    given = {"run": folder / "run", "run_id": "bench", "cameras": f"[{', '.join(CAMERAS)}]", "image_size": 0,
             "compressed": str(not args.raw).lower(), "latents": "false", "rate_hz": CAMERA_HZ, "quality.enabled": "true"}
    words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    argv = [sys.executable, "-m", "irevla_ros.nodes.recorder", "--ros-args", *words]
    with running(*argv, log=folder / "recorder.log") as process:
        found = played(args, folder, True, process)
    spool = folder / "run" / "practice"
    reader, lost, defects = SpoolReader(spool), 0, Counter[str]()
    for name, stamps in found.pop("stamps").items():
        episode = reader.read(name, cameras=(), latents=False) if name in reader.ids() else None
        kept = set(episode.stamps_ns[:-1].tolist()) if episode is not None else set()
        lost += len(set(stamps) - kept)
        defects.update(defect.partition(":")[0] for defect in (episode.meta.defects if episode is not None else ()))
        found["due"] = found.get("due", 0) + len(stamps)
    size = sum(path.stat().st_size for path in spool.iterdir())
    short = sum(reader.record(name).meta.termination_reason is TerminationReason.STOPPED for name in reader.ids())
    return found | {"lost": lost, "bytes": size, "defects": dict(defects), "episodes": len(reader.ids()), "broken off": short}


def by_bag(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    names = [topics.image(camera) if args.raw else topics.compressed_image(camera) for camera in CAMERAS]
    wanted = [f"/{name}" for name in (*names, topics.POSE, topics.GRIPPER, topics.STEP)]
    argv = ["ros2", "bag", "record", "-s", "mcap", "-o", str(folder / "bag"), "--topics", *wanted]
    with running(*argv, log=folder / "bag.log") as process:
        found = played(args, folder, False, process)
    counts = {one["topic_metadata"]["name"]: one["message_count"] for one in yaml.safe_load(
        (folder / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["topics_with_message_count"]}
    due = {name: n for name, n in found.pop("sent").items() if name in counts}
    size = sum(path.stat().st_size for path in (folder / "bag").iterdir())
    return found | {"due": sum(due.values()), "lost": sum(n - counts[name] for name, n in due.items()), "bytes": size}


def row_of(name: str, found: dict[str, Any]) -> list[Any]:
    minutes = found["seconds"] / 60
    cut, cpu = found.get("broken off", "-"), [f"{found[of]:.0%}" for of in ("cpu", "cell_cpu")]
    return [name, f"{found['seconds']:.0f}", found["due"], found["lost"], cut, *cpu,
            f"{found['bytes'] / 1e6 / minutes:.0f}", f"{found['written'] / 1e6 / minutes:.0f}",
            f"{found['memory'] / 1e6:.0f}", found["late"]]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20, help="one after the other (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each (%(default)s)")
    parser.add_argument("--raw", action="store_true", help="rgb8 images in place of JPEG")
    parser.add_argument("--keep", type=Path, help="folder for logs and recordings, instead of a temporary one")
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--recorder", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--said", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        return run_node(lambda: Cell(args), [sys.argv[0]])
    found: dict[str, Any] = {"machine": machine(), "command": " ".join(["python bench/recording.py", *sys.argv[1:]])}
    with tempfile.TemporaryDirectory(prefix="irevla-recording-") as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        found["recorder"] = by_recorder(args, folder / "recorder")
        if shutil.which("ros2"):
            found["ros2 bag record"] = by_bag(args, folder / "bag")
    rows = [row_of(name, found[name]) for name in ("recorder", "ros2 bag record") if name in found]
    header = ["", "seconds", "due", "lost", "broken off", "processor", "the cell's", "MB a minute", "written", "memory, MB",
              "late frames"]  # fmt: skip
    said = found["machine"]
    where = f"{said['cpu']}, {said['cores']} cores, load {said['load_1min']} at the start, {said['date']}"
    text = f"# Recording three cameras\n\n`{found['command']}`, {where}.\n\n{table_of(header, rows)}\n"
    print(text)
    (RESULTS / "recording.md").write_text(text)
    (RESULTS / "recording.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
