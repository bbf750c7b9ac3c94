"""What the benchmarks of the graph share: a graph under `irevla up`, and an observer that hears all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.graph_messages import LearnerStatus, PolicyVersion, Sealed
from irevla_ros.core.messages import Message, MessageError
from irevla_ros.core.types import TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.nodes import topics
from irevla_ros.ros import Node, init
from irevla_ros.ros.messages import DiagnosticArray, PoseStamped, String
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED
from spinning import spinning

# The shipped policy, one task, and next to no evaluation before it is practised; no end, no gate.
PRACTICE = ["-p", "learner:tasks:=[push-blue-cube-left]", "-p", "learner:sft:=shipped", "-p", "learner:gate:=0",
            "-p", "learner:evaluate_expert:=0", "-p", "learner:evaluate_unseen:=0",
            "-p", "learner:overrides:=[evaluation=4,demos=4,learning.max_episodes=100000]"]  # fmt: skip
TICKS = os.sysconf("SC_CLK_TCK")
WHOLE = (TerminationReason.SUCCESS, TerminationReason.FAILURE, TerminationReason.TIME_LIMIT)


@dataclass(frozen=True)
class Fault:
    """``inject`` it, wait ``lasts_s``, then ``heal`` it. ``stops``: whether the arm has to stop for as long as it lasts."""

    name: str
    inject: Callable[[], object]
    heal: Callable[[], object] = lambda: None
    lasts_s: float = 0.0
    stops: bool = False


@dataclass
class Watch:
    """Everything heard so far, each with the monotonic time (ns) at which it came and the arm."""

    node: Node
    steps: deque[tuple[int, str, ArbiterStep]] = field(default_factory=lambda: deque(maxlen=100_000))
    targets: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=100_000))
    sealed: list[tuple[int, str, Sealed]] = field(default_factory=list)
    states: list[tuple[int, str, EpisodeState]] = field(default_factory=list)
    learner: list[tuple[int, str, LearnerStatus]] = field(default_factory=list)
    versions: list[tuple[int, str, PolicyVersion]] = field(default_factory=list)
    health: dict[str, tuple[int, str, dict[str, str]]] = field(default_factory=dict)

    def whole(self, since_ns: int = 0) -> list[Sealed]:
        """Episodes that came to their own end, sealed after ``since_ns``."""
        return [sealed for at, _, sealed in self.sealed if at > since_ns and sealed.steps and sealed.reason in WHOLE]

    def acts(self, since_ns: int = 0) -> list[tuple[int, ArbiterStep]]:
        return [(at, step) for at, _, step in list(self.steps) if at > since_ns and step.acted]

    def recovered(self, since_ns: int) -> bool:
        """Whether an episode begun since then came to its own end."""
        begun = {state.episode_id for at, _, state in list(self.states) if at > since_ns and state.phase is Phase.RESET}
        return any(sealed.episode_id in begun for sealed in self.whole(since_ns))

    def learned(self) -> tuple[int, int]:
        """What changes when the learner goes on."""
        status = self.learner[-1][2]
        return status.done, status.version


def _listen(node: Node, kind: type[Message], topic: str, qos: Any, kept: Any, arm: str) -> None:
    def received(message: String) -> None:
        with contextlib.suppress(MessageError):  # graph_faults.py sends rubbish on purpose
            kept.append((time.monotonic_ns(), arm, kind.from_json(message.data)))

    node.create_subscription(String, topic, received, qos)


@contextmanager
def observing(arms: Sequence[str], *, every_step: bool = True) -> Iterator[Watch]:
    """An observer of ``arms`` that spins in a thread of its own; without ``every_step`` it costs the graph next to nothing."""
    init()
    node = Node("observer")
    watch = Watch(node)
    for arm in arms:
        if every_step:
            _listen(node, ArbiterStep, topics.of(arm, topics.STEP), EVENT, watch.steps, arm)
            node.create_subscription(PoseStamped, topics.of(arm, topics.TARGET),
                                     lambda _, arm=arm: watch.targets.append((time.monotonic_ns(), arm)), COMMAND)  # fmt: skip
        _listen(node, Sealed, topics.of(arm, topics.SEALED), EVENT, watch.sealed, arm)
        _listen(node, EpisodeState, topics.of(arm, topics.STATE), LATCHED, watch.states, arm)
    _listen(node, LearnerStatus, topics.STATUS, LATCHED, watch.learner, "")
    _listen(node, PolicyVersion, topics.VERSION, LATCHED, watch.versions, "")

    def healthy(message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            watch.health[status.name] = time.monotonic_ns(), status.message, values

    node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, healthy, EVENT)
    with spinning(node):
        yield watch


@contextmanager
def running(graph: str | Path, run: Path, arms: Sequence[str], arguments: Sequence[str],
            prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """`irevla up` of ``graph``, ``prefix`` before the command; its output goes to ``<run>/up.log``; Ctrl-C at the end."""
    run.mkdir(parents=True, exist_ok=True)
    entry = "import sys; from irevla_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
    listed = ",".join(arm or '""' for arm in arms)
    command = [*prefix, sys.executable, "-c", entry, "up", str(graph), f"arms=[{listed}]", "--run", str(run), *arguments]
    with (run / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass(frozen=True)
class NodeProcess:
    """A node of the graph as the kernel sees it: CPU seconds, resident MB, open files."""

    pid: int
    cpu_s: float
    resident_mb: float
    files: int


def processes_of(up: subprocess.Popen[bytes]) -> dict[str, NodeProcess]:
    """The node processes that `irevla up` has started, by name (``arm0/sim``)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().decode().split("\0")
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) != up.pid or "-m" not in arguments:
                continue
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            named = {text.split(":=")[0]: text.split(":=")[1] for text in arguments if text.startswith(("__node:=", "__ns:="))}
            name = "/".join(filter(None, (named.get("__ns", "").strip("/"), named["__node"])))
            resident = float(status.get("VmRSS", "0 kB").split()[0]) / 1024
            cpu = (int(fields[11]) + int(fields[12])) / TICKS
            found[name] = NodeProcess(int(folder.name), cpu, resident, len(list((folder / "fd").iterdir())))
        except (OSError, KeyError, ValueError):
            continue  # it has ended meanwhile, or is none of ours
    return found


def lost(run: Path, episodes: Sequence[str]) -> int:
    """How many of the ``episodes`` in the run's spool are gone or damaged."""
    spool, count = SpoolReader(run / "practice"), 0
    for name in episodes:
        try:
            spool.read(name)
        except IrevlaError:
            count += 1
    return count


def wait_until(condition: Callable[[], object], seconds: float) -> float | None:
    """Seconds until ``condition`` held, None when it did not in time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if condition():
            return time.monotonic() - start
        time.sleep(0.005)
    return None
