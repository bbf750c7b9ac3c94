"""An operator for tests and benchmarks: `irevla collect` in a terminal, and hands on a gamepad that knows where to go."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from irevla_ros.core.collection import Tally
from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.teleop import XBOX, Speeds
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import init
from irevla_ros.ros.messages import JointTrajectory, Joy, numbers
from irevla_ros.ros.qos import COMMAND, LATCHED, SENSOR
from ros_toys import DEADLINE_S
from spinning import spinning

PATIENCE_S = 4 * DEADLINE_S
ENTRY = "import sys; from irevla_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
PERIOD_S = 0.1
GAIN = 0.5  # hands are slower than the expert: what they see is a little old
SPEEDS = Speeds(0.7, 2.5)  # what one action of the expert needs: 0.4 m/s along each axis, 2.5 rad/s
PAD = [f"teleop:speeds.linear:={SPEEDS.linear}", f"teleop:speeds.angular:={SPEEDS.angular}", "teleop:gamepad.dead_zone:=0.0",
       "teleop:input_s:=1.0", "sim:script:=true"]  # fmt: skip


class OnTerminal:
    """`irevla` with ``arguments`` on a terminal of its own."""

    def __init__(self, arguments: Sequence[str], size: tuple[int, int] = (40, 140)) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.process = subprocess.Popen([sys.executable, "-c", ENTRY, *arguments], stdin=slave, stdout=slave,
                                        stderr=slave, start_new_session=True)  # fmt: skip
        os.close(slave)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self._shown = (self._shown + data)[-(1 << 18) :]

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def printed(self) -> str:
        return self._shown.decode(errors="replace")

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)


class Collection(OnTerminal):
    """The operator's desk in front of a graph."""

    def screen(self) -> str:
        """What the terminal shows, from the last time that all was drawn."""
        drawn = self.printed.split("\x1b[H")
        whole = [text for text in drawn if "\x1b[J" in text]
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", (whole or drawn)[-1])

    def children(self) -> dict[str, int]:
        """Process ids of the nodes, by name."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and "-m" in words:
                found[words[words.index("-m") + 1].rpartition(".")[2]] = int(folder.name)
        return found

    def kill(self) -> None:
        """kill -9 of everything at once."""
        for pid in [*self.children().values(), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


def collecting(*arguments: str) -> AbstractContextManager[Collection]:
    """`irevla collect` with ``arguments``."""
    return on_terminal(["collect", *arguments])


@contextmanager
def on_terminal(arguments: Sequence[str]) -> Iterator[Collection]:
    """Any command that puts the desk in the terminal; stopped at the end."""
    collection = Collection(arguments)
    try:
        yield collection
    finally:
        if collection.process.poll() is None:
            collection.stop()


class Operator(GraphNode):
    """Hands on a gamepad. ``driving``: the deadman is held and the sticks follow what the scripted expert would do, which the
    simulator tells as ``script/action`` though nobody else listens to it; ``press`` presses a button by name."""

    def __init__(self) -> None:
        super().__init__("operator")
        self.state: EpisodeState | None = None
        self.tally: Tally | None = None
        self.axes: list[float] | None = None  # by hand, in place of driving
        self.driving = False
        self.astray = False  # steer away from where the expert goes
        self._wanted: list[float] | None = None
        self._grip: bool | None = None
        self._pressed: dict[int, int] = {}  # button -> until when, wall time
        self._names = ActionSpec().names
        self._limits = dict(zip(self._names, ActionSpec().limits, strict=True))
        self._joy = self.create_publisher(Joy, "joy", SENSOR)
        self.create_subscription(JointTrajectory, topics.SCRIPT, self._on_script, COMMAND)
        self.listen(Tally, topics.TALLY, lambda tally: setattr(self, "tally", tally), LATCHED)
        self.follow(lambda state: setattr(self, "state", state))
        self.every(0.02, self._tick)

    def _on_script(self, message: JointTrajectory) -> None:
        chunk = convert.chunk_of(message, round(PERIOD_S * SECOND))
        self._wanted = [float(value) for value in chunk.actions[0]]

    def press(self, name: str, seconds: float = 0.2) -> None:
        self._pressed[getattr(XBOX, name)] = self.wall_ns() + round(seconds * SECOND)

    def _tick(self) -> None:
        axes, down = [0.0] * 6, {button for button, until in self._pressed.items() if self.wall_ns() < until}
        if not self.driving:
            self._grip = None  # a wish ends with the release
        elif self._wanted is not None:
            action = dict(zip(self._names, self._wanted, strict=True))
            for axis, name in ((0, "dx"), (1, "dy"), (2, "dz"), (5, "drz")):
                speed = GAIN * action[name] * self._limits[name] / PERIOD_S / (SPEEDS.angular if axis == 5 else SPEEDS.linear)
                axes[XBOX.axes[axis]] = -speed if self.astray else speed
            grip = action["gripper"] > 0
            if grip != self._grip:
                self.press("open" if grip else "close")
                self._grip = grip
            down.add(XBOX.deadman)
        axes = self.axes or axes
        buttons = numbers("i", [int(number in down) for number in range(11)])
        self._joy.publish(Joy(header=convert.header(self.now_ns()), axes=numbers("f", axes), buttons=buttons))

    def is_in(self, *phases: Phase) -> bool:
        return self.state is not None and self.state.phase in phases


@contextmanager
def operator() -> Iterator[Operator]:
    """An operator that spins in a thread of its own."""
    init()
    with spinning(Operator()) as node:
        yield node


def until(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)


def shows(collection: Collection, pattern: str) -> Callable[[], object]:
    def looked() -> object:
        assert collection.process.poll() is None, collection.screen()
        return re.search(pattern, collection.screen())

    return looked


def see(collection: Collection, pattern: str) -> str:
    try:
        until(shows(collection, pattern), PATIENCE_S)
    except AssertionError:
        raise AssertionError(f"{pattern!r} is not on the screen:\n{collection.screen()}") from None
    found = re.search(pattern, collection.screen())
    return found[0] if found else ""


def drive(collection: Collection, steps: int) -> None:
    """Forward and back by keys, until the arm has taken so many steps."""
    deadline = time.monotonic() + PATIENCE_S
    while int((re.findall(r"(\d+) steps, (?:human|held)", collection.screen()) or ["0"])[-1]) < steps:
        assert time.monotonic() < deadline, collection.screen()
        collection.press("ws"[int(time.monotonic()) % 2])
        time.sleep(0.04)


def begin(collection: Collection) -> None:
    see(collection, "none is running")
    collection.press("t")
    see(collection, "RUN ")
