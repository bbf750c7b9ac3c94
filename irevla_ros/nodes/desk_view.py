"""What an operator sees while collecting: plain lines, drawn over each other in a terminal."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TextIO

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.collection import Agenda, Entry, Tally, TaskTally
from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.graph_messages import Consent
from irevla_ros.core.health import Level
from irevla_ros.nodes.overview import NodeRow

NEWS = 4  # lines that are kept
SILENT_NS = SECOND  # the arbiter speaks ten times a second
KEYS = """\
keys  t start   y n success, failure   x stop   z discard   u undo   b I disturb   c confirm   g engage the policy
      w s a d r f move   q e turn   i k j l tilt   space gripper   1-9 task, 0 list   v say a task   m note   Ctrl-C end
arm   + engage (let it be moved)   - disengage   h stop, held until . resume"""


@dataclass
class DeskView:
    """What is known now; ``lines`` says it. title: of the whole; goal: successes wanted of each task, 0 for none; prompt: what
    is being typed, None where keys drive the arm; consent: the arbiter's last, and the wall time of its arrival."""

    title: str
    rate_hz: float
    goal: int = 0
    state: EpisodeState | None = None
    step: ArbiterStep | None = None
    agenda: Agenda | None = None
    tally: Tally | None = None
    prompt: str | None = None
    consent: tuple[Consent, int] | None = None
    news: deque[str] = field(default_factory=lambda: deque(maxlen=NEWS))

    def lines(self, now_ns: int, wall_ns: int, rows: Sequence[NodeRow]) -> list[str]:
        """``now_ns``: of the clock of the episode's stamps; ``rows``: of the arm's nodes."""
        lines = [self.title, f"arm      {self._arm(wall_ns)}", f"episode  {self._episode(now_ns)}"]
        if self.state is not None and self.state.phase is not Phase.IDLE:
            lines.append(f'         {self.state.task}: "{self.state.instruction}"  ({self.state.mode.value})')
        lines.append(f"next     {self._next()}")
        lines += [f"{'spool' if n == 0 else '':<9}{line}" for n, line in enumerate(self._spool())]
        last = _entry(self.tally.last if self.tally is not None else None)
        lines += [f"{'last' if n == 0 else '':<9}{line}" for n, line in enumerate(last)]
        recorder = next((row for row in rows if row.name.endswith("/recorder")), None)
        lines.append(f"streams  {_rates(recorder)}, {sum(row.drops for row in rows)} messages dropped by all nodes")
        trouble = [f"{row.name.strip('/')} {row.level.name}: {row.message}" for row in rows if row.level is not Level.OK]
        lines += [f"{'nodes' if n == 0 else '':<9}{line}" for n, line in enumerate(trouble or [f"{len(rows)} well"])]
        lines += [f"- {line}" for line in self.news]
        return [*lines, f"> {self.prompt}_" if self.prompt is not None else "", *KEYS.splitlines()]

    def _arm(self, wall_ns: int) -> str:
        if self.consent is None or wall_ns - self.consent[1] > SILENT_NS:
            return "nothing is heard of the arbiter"
        said = self.consent[0]
        if said.hindrance:
            return f"HELD: {said.hindrance}; . resumes"
        shown = "; DRY RUN, so the robot gets nothing and nothing is recorded" if self.step and self.step.dry_run else ""
        return f"engaged{shown}" if said.engaged else "not engaged: it is not moved before you press +"

    def _episode(self, now_ns: int) -> str:
        state = self.state
        if state is None:
            return "waiting for the episode node"
        if state.phase is Phase.IDLE:
            return f"none is running; t starts one{f' (the last ended: {state.detail})' if state.detail else ''}"
        words = [state.phase.value.upper(), state.episode_id]
        if state.phase is Phase.READY:
            words.append("c confirms the scene, g engages")
        if state.phase is Phase.RUN and state.started_ns is not None:
            words.append(f"{max(0, now_ns - state.started_ns) / SECOND:.1f} of {state.time_limit_ns / SECOND:.0f} s")
            if self.step is not None and self.step.episode_id == state.episode_id:
                doing = self.step.source.name.lower() if self.step.source is not None else None
                words.append(f"{self.step.acts} steps, {doing or f'held: {self.step.hold.value if self.step.hold else None}'}")
        return "  ".join([*words, *(["PERTURBED"] if state.perturbed else [])])

    def _next(self) -> str:
        agenda = self.agenda
        if agenda is None or agenda.next is None:
            return "no list of tasks: v says one" if agenda is not None else "-"
        listed = f"by the list of {len(agenda.jobs)}" if agenda.next in agenda.jobs else "ordered by the learner"
        why = "your choice; 0 goes back to the list" if agenda.chosen else listed
        return f'{agenda.next.task}: "{agenda.next.instruction}"  ({why})'

    def _spool(self) -> list[str]:
        tally = self.tally
        if tally is None:
            return ["waiting for the recorder"]
        listed = [job.task for job in self.agenda.jobs] if self.agenda is not None else []
        known = {one.task: one for one in tally.tasks}
        tasks = [known.get(name, TaskTally(name)) for name in dict.fromkeys([*listed, *known])]
        kept, steps = sum(one.kept for one in tasks), sum(one.steps for one in tasks)
        parts = [f"{kept} episodes, {steps / self.rate_hz / 60:.1f} min", f"{tally.defective} with defects",
                 f"{tally.free_bytes / 1e9:.1f} GB free"]  # fmt: skip
        if steps and kept and tally.damaged:
            parts.append(f"{tally.damaged} files DAMAGED")
        width = max([4, *(len(one.task) for one in tasks)])
        rows = [f"{'task':<{width}}  success  failure  unknown  discarded  mean length"]
        for n, one in enumerate(tasks, 1):
            done = f"{one.success}/{self.goal}" if self.goal else str(one.success)
            mean = f"{one.steps / one.kept / self.rate_hz:9.1f} s" if one.kept else "        -"
            mark = f"  [{n}]" if one.task in listed and n < 10 else ""
            rows.append(f"{one.task:<{width}}  {done:>7}  {one.failure:>7}  {one.unknown:>7}  {one.discarded:>9}  {mean}{mark}")
        return [", ".join(parts), *rows]


def _entry(entry: Entry | None) -> list[str]:
    if entry is None:
        return ["none yet"]
    words = [entry.episode_id, entry.task, f"{entry.steps} steps", "DISCARDED" if entry.discarded else entry.outcome.value]
    return ["  ".join([*words, *(["perturbed"] if entry.perturbed else [])]), *(f"! {defect}" for defect in entry.defects)]


def _rates(row: NodeRow | None) -> str:
    if row is None or row.hz is None:
        return "nothing is heard of the recorder"
    age = f"the newest {row.age_s:.1f} s old" if row.age_s is not None else "none yet"
    return f"{row.hz:.1f} observations/s, {age}"


def _wrapped(line: str, width: int) -> list[str]:
    return [line] if len(line) <= width else wrap(line, width, subsequent_indent=" " * 9, drop_whitespace=False)


class Screen:
    """Draws lines on a terminal, in place of whatever stood there, on a screen of its own that is gone at the end; on anything
    else it prints them, at most every ``PLAIN_S``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.in_place = stream.isatty()
        if self.in_place:
            self._write("\x1b[?1049h")

    def draw(self, lines: Sequence[str]) -> None:
        if not self.in_place:
            self._write("".join(f"{line}\n" for line in lines))
            return
        columns, height = self._size()
        shown = [part for line in lines for part in _wrapped(line, columns - 1)][: height - 1]
        self._write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in shown) + "\x1b[J")

    def _size(self) -> tuple[int, int]:
        try:
            return os.get_terminal_size(self._stream.fileno())
        except OSError:
            return 80, 24

    def close(self) -> None:
        if self.in_place:
            self._write("\x1b[?1049l")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.in_place = False  # the terminal has gone
