"""An episode as the graph's messages tell it, made by the real arbiter and the real episode machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.assembly import Assembler, AssemblyConfig
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import EpisodeState, Judge, Start, Verdict
from irevla_ros.core.rotation import POINTING_DOWN
from irevla_ros.core.rows import Append, SideRecord
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource, Mode, Observation

MS = 1_000_000
PERIOD = 100 * MS
FINGERPRINT = "0123456789abcdef"
SPEC = ActionSpec()


@dataclass(eq=False)
class Message:
    """sent_ns: wall time; kind: the assembler's method; arguments: what follows, without the time of arrival."""

    sent_ns: int
    kind: str
    arguments: tuple[Any, ...]

    def deliver(self, assembler: Assembler, wall_ns: int) -> None:
        timed = (wall_ns,) if self.kind in ("step", "end") else ()
        getattr(assembler, self.kind)(*self.arguments, *timed)


@dataclass
class Scene:
    """An episode of ``steps`` steps; observation k is stamped k * 100 ms, and so is the wall time at which it is sent.

    success: the verdict comes on observation ``steps``, else the time limit passes there. human: numbers of the steps that
    a human takes; extra: observations between the ticks that nobody answers; overrun: steps that the arbiter takes before
    it hears of the end; holds: ticks that hold, between the steps.
    """

    steps: int = 4
    success: bool = True
    human: tuple[int, ...] = ()
    extra: bool = False
    overrun: int = 0
    holds: bool = False
    seed: int = 0
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        limit = self.steps * PERIOD if not self.success else 10**12
        machine = EpisodeMachine(EpisodeConfig((), time_limit_ns=limit, verdict_grace_ns=0), "run1", 0, 0, 0)
        machine.handle(Start("press-red", "press", Mode.TRAIN, 3), 0, 0)
        self.running = machine.state
        arbiter = Arbiter(SPEC, ArbiterConfig(longest_chunk=1, release_ns=0))  # every observation is answered
        self.proposals: list[Any] = []
        for k in range(self.steps + self.overrun + 1):
            now = k * PERIOD
            self.send(now, "observation", now, self.observation(k))
            self.send(now, "side", SideRecord(now, 5, -0.5 * k, np.full((2, 3), k, np.float16), FINGERPRINT))
            if self.extra:
                between = now + 33 * MS
                self.send(between, "observation", between, self.observation(k + 0.33))
            if k == self.steps:
                if self.success:
                    machine.handle(Verdict(True, Judge.REWARD, now), now, now)
                machine.tick(now, now)
                self.ended = machine.state
                self.send(now, "end", self.ended)
            if k == self.steps + self.overrun:
                break
            arbiter.pose((0.5, 0.0, 0.2), POINTING_DOWN, now, now)
            arbiter.observe(now)
            if k == 0:
                arbiter.engage(ControlSource.POLICY, now, now, self.ended_id)
            action = rng.uniform(-0.9, 0.9, 5).astype(np.float32)
            self.proposals.append(action)
            arbiter.human(k in self.human, (0.2, 0, 0), (0, 0, 0), 1.0, now, now)
            if k not in self.human and k - 1 in self.human:
                arbiter.engage(ControlSource.POLICY, now, now, self.ended_id)
            arbiter.offer(ControlSource.POLICY, ActionChunk(now, SPEC.names, action[None], PERIOD), now, now)
            self.send(now, "step", arbiter.tick(now, now))
            if self.holds:
                self.send(now + 20 * MS, "step", arbiter.tick(now + 20 * MS, now + 20 * MS))
        end = (self.steps + self.overrun) * PERIOD + 1
        arbiter.observe(end - 1)
        arbiter.disengage()
        self.send(end, "step", arbiter.tick(end, end))

    @property
    def ended_id(self) -> str:
        return self.running.episode_id

    ended: EpisodeState = field(init=False)

    def send(self, sent_ns: int, kind: str, *arguments: Any) -> None:
        self.messages.append(Message(sent_ns, kind, arguments))

    @staticmethod
    def observation(number: float) -> Observation:
        return Observation({"front": np.full((8, 8, 3), int(number * 10) % 256, np.uint8)},
                           np.full(6, number, np.float32), "press")  # fmt: skip

    def assembled(self, config: AssemblyConfig = AssemblyConfig(), without: Any = None) -> tuple[Assembler, list[Append]]:
        """Everything delivered when it was sent, but for messages of which ``without`` is true; then a long silence."""
        assembler, appends = Assembler(self.ended_id, config), []
        for message in sorted(self.messages, key=lambda m: m.sent_ns):
            if without is None or not without(message):
                message.deliver(assembler, message.sent_ns)
            appends += assembler.poll(message.sent_ns)
        for wall_ns in (self.messages[-1].sent_ns + config.wait_ns, 10**15):
            appends += assembler.poll(wall_ns)
        return assembler, appends
