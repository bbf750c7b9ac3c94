"""What the page shows: written by the node's thread, read by those of the page, under one lock."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.graph_messages import LearnerStatus, Sealed
from irevla_ros.core.types import ByteArray, EpisodeMeta, Outcome
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.nodes.overview import Overview
from irevla_ros.ros.messages import DiagnosticArray

PICTURE_NS = SECOND // 5  # between two pictures of a camera
JPEG_QUALITY = 85
WINDOW = 20  # episodes that a point of the curve is the mean of
EPISODES, POINTS = 4000, 200


@dataclass
class _Picture:
    """Pixels as they came, and their JPEG once it was asked for."""

    pixels: ByteArray | None = None
    taken_ns: int = -PICTURE_NS
    asked_ns: int | None = None
    jpeg: bytes = b""


class ViewModel:
    """``pictures``: names of the cameras, such as ``arm0/front``; ``wall_ns``: the clock, monotonic. All methods may be
    called from any thread."""

    def __init__(self, arms: Sequence[str], pictures: Sequence[str], wall_ns: Callable[[], int]) -> None:
        self._lock = threading.Lock()
        self._wall_ns = wall_ns
        self._overview = Overview()
        self._states: dict[str, EpisodeState | None] = dict.fromkeys(arms)
        self._pictures = {name: _Picture() for name in pictures}
        self._learner: LearnerStatus | None = None
        self._known: OrderedDict[str, str] = OrderedDict()  # episode id -> what it counts for
        self._last: dict[str, str] = {}  # arm -> id of its newest sealed episode
        self._episodes: deque[tuple[str, bool]] = deque(maxlen=EPISODES)

    # ---- what arrives ------------------------------------------------------------------------------------------------

    def diagnostics(self, message: DiagnosticArray) -> None:
        with self._lock:
            self._overview.received(message, self._wall_ns())

    def learner(self, status: LearnerStatus) -> None:
        with self._lock:
            self._learner = status

    def state(self, arm: str, state: EpisodeState) -> None:
        with self._lock:
            self._states[arm] = state
            if state.episode_id:
                self._known[state.episode_id] = f"{state.task}, {state.mode.value}"
                while len(self._known) > 8 * len(self._states):
                    self._known.popitem(last=False)

    def sealed(self, arm: str, sealed: Sealed) -> None:
        """An episode counts when it was kept, with an outcome, and its beginning was seen."""
        with self._lock:
            if sealed.steps:
                self._last[arm] = sealed.episode_id
            label = self._known.get(sealed.episode_id)
            if label is not None and sealed.steps and not sealed.refusal and sealed.outcome is not Outcome.UNKNOWN:
                self._episodes.append((label, sealed.outcome is Outcome.SUCCESS))

    def recall(self, records: Iterable[EpisodeRecord]) -> None:
        """Episodes of before, in their order, that count as if their sealing had been heard."""
        with self._lock:
            for one in records:
                self._last[self._arm_of(one.meta)] = one.episode_id
                if one.steps and one.meta.outcome is not Outcome.UNKNOWN:
                    label = f"{one.meta.task}, {one.meta.mode.value}"
                    self._episodes.append((label, one.meta.outcome is Outcome.SUCCESS))

    def last_episode(self, arm: str) -> str:
        """The newest sealed one of the arm, "" for none."""
        with self._lock:
            return self._last.get(arm, "")

    def running(self, arm: str) -> bool:
        with self._lock:
            state = self._states[arm]
            return state is not None and state.phase is Phase.RUN

    def _arm_of(self, meta: EpisodeMeta) -> str:
        """Episode ids are <run_id>[-<arm>]-<number>."""
        part = meta.episode_id.removeprefix(f"{meta.run_id}-").rpartition("-")[0]
        return next((arm for arm in self._states if arm.replace("/", "-") == part), "")

    # ---- pictures ------------------------------------------------------------------------------------------------------

    def wanted(self, within_ns: int) -> set[str]:
        """Cameras of which somebody has asked for a picture lately."""
        with self._lock:
            since = self._wall_ns() - within_ns
            return {name for name, one in self._pictures.items() if one.asked_ns is not None and one.asked_ns >= since}

    def due(self, name: str) -> bool:
        """Whether it is time for the next picture."""
        with self._lock:
            return self._wall_ns() - self._pictures[name].taken_ns >= PICTURE_NS

    def picture(self, name: str, pixels: ByteArray) -> None:
        """uint8 RGB [H, W, 3]."""
        with self._lock:
            one = self._pictures[name]
            one.pixels, one.taken_ns, one.jpeg = pixels, self._wall_ns(), b""

    def jpeg(self, name: str) -> bytes | None:
        """The newest picture, b"" where none has come yet; None for a camera that there is not. Counts as looking."""
        with self._lock:
            one = self._pictures.get(name)
            if one is None:
                return None
            one.asked_ns = self._wall_ns()
            if not one.jpeg and one.pixels is not None:
                bgr = cv2.cvtColor(one.pixels, cv2.COLOR_RGB2BGR)
                one.jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            return one.jpeg

    # ---- what the page asks for ------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON has it."""
        with self._lock:
            return {
                "arms": [{"name": arm, **_shown(state)} for arm, state in self._states.items()],
                "pictures": list(self._pictures),
                "nodes": [{"name": row.name, "level": row.level.name, "message": row.message, "hz": row.hz, "age": row.age_s,
                           "drops": row.drops, "values": dict(row.values)} for row in self._overview.rows(self._wall_ns())],
                "learner": asdict(self._learner) if self._learner is not None else None,
                "episodes": len(self._episodes),
                "curves": self._curves(),
            }  # fmt: skip

    def _curves(self) -> list[dict[str, Any]]:
        """For each task and mode: (number of the episode, success rate over the last ``WINDOW`` of that task and mode)."""
        windows: dict[str, deque[bool]] = {}
        curves: dict[str, list[tuple[int, float]]] = {}
        for number, (label, success) in enumerate(self._episodes, 1):
            window = windows.setdefault(label, deque(maxlen=WINDOW))
            window.append(success)
            curves.setdefault(label, []).append((number, sum(window) / len(window)))
        return [{"label": label, "points": _thinned(points)} for label, points in curves.items()]


def _shown(state: EpisodeState | None) -> dict[str, Any]:
    if state is None:
        texts = dict.fromkeys(("task", "instruction", "mode", "episode", "outcome", "detail"), "")
        return {"phase": "unknown", "waits": True, **texts}
    return {"phase": state.phase.value, "waits": state.phase is not Phase.RUN, "task": state.task,
            "instruction": state.instruction, "mode": state.mode.value, "episode": state.episode_id,
            "outcome": state.outcome.value, "detail": state.detail}  # fmt: skip


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most ``POINTS`` of them, the last one always."""
    every = -(-len(points) // POINTS)
    return list(points[::-every][::-1])
