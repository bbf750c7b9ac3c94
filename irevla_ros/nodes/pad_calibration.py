"""A person moves each axis of a device and presses each button; what was found becomes a parameter file of teleop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from irevla_ros.core.errors import ConfigError, Interrupted
from irevla_ros.core.pad_search import MOTIONS, AxisSearch, ButtonSearch, Found, Rest, as_parameters, mapping_of
from irevla_ros.core.teleop import Action, PadMapping
from irevla_ros.disk.files import write_whole
from irevla_ros.nodes.terminal import Terminal
from irevla_ros.ros import Node, SingleThreadedExecutor
from irevla_ros.ros.messages import Joy, Twist
from irevla_ros.ros.qos import SENSOR
from irevla_ros.ros.run import Stop, context

REST_S, SILENT_S, SHOWN_S = 2.0, 10.0, 0.1
ASKED = (Action.START, Action.SUCCESS, Action.FAILURE, Action.STOP, Action.DISCARD, Action.UNDO, Action.CONFIRM, Action.ENGAGE,
         Action.DISTURB, Action.OPEN, Action.CLOSE, Action.GRIPPER, Action.ARM_STOP, Action.ARM_RESUME, Action.ARM_ENGAGE,
         Action.ARM_DISENGAGE)  # fmt: skip
T = TypeVar("T")


class PadListener(Node):
    """What the device says: ``axes`` and ``buttons``, newest."""

    def __init__(self, device: str) -> None:
        super().__init__("calibrate")
        self.axes: Sequence[float] = ()
        self.buttons: Sequence[int] = ()
        self.topic = "joy" if device == "gamepad" else "spacenav/twist"
        if device == "gamepad":
            self.create_subscription(Joy, "joy", self._on_joy, SENSOR)
        else:
            self.create_subscription(Twist, "spacenav/twist", self._on_twist, SENSOR)
            self.create_subscription(Joy, "spacenav/joy", self._on_buttons, SENSOR)

    def _on_joy(self, message: Joy) -> None:
        self.axes = [float(value) for value in message.axes]
        self._on_buttons(message)

    def _on_buttons(self, message: Joy) -> None:
        self.buttons = [int(value) for value in message.buttons]

    def _on_twist(self, message: Twist) -> None:
        at, turn = message.linear, message.angular
        self.axes = [at.x, at.y, at.z, turn.x, turn.y, turn.z]


def calibrate(device: str, out: Path, again: str) -> None:
    """Ask for every axis and button of ``device`` (gamepad or spacemouse) and write ``out``.

    Raises ConfigError when the device is silent, Interrupted on Ctrl-C, naming the command ``again``.
    """
    with Stop() as stop, context(["calibrate"]):
        node, terminal = PadListener(device), Terminal()
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def moments() -> Iterable[str]:
            """Keys typed, for ever: one look after the other."""
            while not stop.asked:
                executor.spin_once(timeout_sec=0.02)
                yield terminal.read()
            raise Interrupted(again)

        try:
            mapping = _ask(node, moments)
        finally:
            terminal.close()
            executor.shutdown()
            node.destroy_node()
    write_whole(out, as_parameters(device, mapping).encode())
    print(f"{out}: written; use it by --params-file {out}")


def _ask(node: PadListener, moments: Callable[[], Iterable[str]]) -> PadMapping:
    samples: list[Sequence[float]] = []
    print("hands off the device")
    began = time.monotonic()
    for _ in moments():
        passed = time.monotonic() - began
        if not node.axes and passed > SILENT_S:
            raise ConfigError(f"topic {node.topic}", f"nothing came in {SILENT_S:.0f} s",
                              "start the device's driver; docs/collect.md")  # fmt: skip
        samples += [node.axes] if node.axes else []
        if samples and passed > REST_S:
            break
    rest = Rest.of(samples)

    def ask(what: str, see: Callable[[], T | None]) -> T | None:
        """Wait for the answer, or for Enter."""
        shown = 0.0
        for typed in moments():
            found = see()
            if found is not None or "\n" in typed or "\r" in typed:
                print(f"\r{what}: {found if found is not None else 'not used'}\x1b[K")
                return found
            if time.monotonic() - shown > SHOWN_S:
                shown = time.monotonic()
                print(f"\r{what} (Enter: not used)  {' '.join(f'{one:+.2f}' for one in node.axes)}\x1b[K", end="", flush=True)
        return None

    def axis(motion: str) -> Found | None:
        search = AxisSearch(rest)
        return ask(f"move as far as it goes and let go: {motion}", lambda: search.see(node.axes))

    def button(what: str) -> int | None:
        search = ButtonSearch()
        return ask(f"press the button for: {what}", lambda: search.see(node.buttons))

    axes = [axis(motion) for motion in MOTIONS]
    deadman = button("deadman, held while the arm moves")
    if deadman is None:
        raise ConfigError("no deadman", "the arm moves only while one is held", "press a button for it")
    buttons = {action: number for action in ASKED if (number := button(action.words)) is not None}
    return mapping_of(rest, axes, deadman, buttons)
