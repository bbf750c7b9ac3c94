"""The recorder's join: arbiter records, observations, policy records, rewards and the end, in any order, to one episode.

The stamp of an observation is the key. Row t is the step that the arbiter took on observation t, and observation t + 1,
that of the next step, belongs to it; the episode ends with the first observation at or after its end. A row is given out
once ``wait_ns`` has passed since the step after it arrived: until then, late parts are waited for and the end may still
cut it. Whatever order the same messages come in within that wait, the episode is the same.

Ticks that hold make no row; the one after the arbiter was disengaged tells that no step is to follow. What is lost is not
papered over: a missing record or observation, two steps on one observation, or too long a pause ends the episode there,
with a ``refusal``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.arbiter_step import ArbiterStep, Hold
from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.parts import Parts
from irevla_ros.core.rows import Append, Assembled, SideRecord, StepRow
from irevla_ros.core.types import ControlSource, FloatArray, HalfArray, Observation, Outcome, TerminationReason


@dataclass(frozen=True)
class AssemblyConfig:
    """wait_ns: wall time that late parts are waited for; longest_gap_ns: between the observations of two steps (stamps);
    capacity: observations kept that no step has answered yet; latents: whether the policy's latents are expected."""

    wait_ns: int = 500_000_000
    longest_gap_ns: int = 10_000_000_000
    capacity: int = 256
    latents: bool = True

    def __post_init__(self) -> None:
        if self.wait_ns <= 0 or self.longest_gap_ns <= 0 or self.capacity < 2:
            raise ConfigError(f"assembly wait {self.wait_ns} ns, gap {self.longest_gap_ns} ns, capacity {self.capacity}",
                              "positive, positive, at least 2", "give 0.5 s, 10 s and 256")  # fmt: skip


class Assembler:
    """Joins one episode. Feed it, ``poll`` often, append what that returns; ``result`` is set when it is complete.

    The reward of a row is the sum of the values given for the observations after its own up to the next row's, plus 1 on
    the last row of a success: the verdict itself is not sent as a value. ``counts`` says what was not used.
    """

    def __init__(self, episode_id: str, config: AssemblyConfig = AssemblyConfig()) -> None:
        self.episode_id, self.config = episode_id, config
        self.result: Assembled | None = None
        self.counts: Counter[str] = Counter()
        self._parts = Parts(config.capacity, self.counts)
        self._acts: dict[int, tuple[ArbiterStep, int]] = {}  # number within the episode -> record, arrival
        self._known = 0  # how many acts there must have been, by any record
        self._known_wall_ns = 0
        self._last: ArbiterStep | None = None  # the record of the latest tick
        self._end: EpisodeState | None = None
        self._end_wall_ns = 0
        self._conflict = ""
        self._given: list[int] = []  # stamps of the observations given out
        self._missing_sides: list[int] = []

    # ---- inputs --------------------------------------------------------------------------------------------------

    def observation(self, stamp_ns: int, observation: Observation) -> None:
        """An aligned observation; whether it belongs to the episode is for the steps to say. Images are passed through."""
        if self._given and stamp_ns <= self._given[-1]:
            self.counts["observations.late"] += 1
        else:
            self._parts.observation(stamp_ns, observation)

    def side(self, record: SideRecord) -> None:
        """What the policy wrote of an observation; the first of each stamp counts."""
        self._parts.side(record)

    def reward(self, stamp_ns: int, value: float) -> None:
        """A reward earned by reaching the observation of ``stamp_ns``; the first of each stamp counts, if finite."""
        self._parts.reward(stamp_ns, value)

    def step(self, record: ArbiterStep, wall_ns: int) -> None:
        """Every record of the arbiter, holds too."""
        if record.episode_id != self.episode_id:
            self.counts["steps.other_episode"] += 1
            return
        if record.acts > self._known:
            self._known, self._known_wall_ns = record.acts, wall_ns
        if self._last is None or record.tick > self._last.tick:
            self._last = record
        if not record.acted:
            return
        number = record.acts - 1
        known = self._acts.get(number)
        if known is not None and known[0] != record:
            self._conflict = f"two different records of step {number}: is there a second arbiter?"
        elif known is not None or number < len(self._given) - 1:
            self.counts["steps.repeated"] += 1
        else:
            self._acts[number] = record, wall_ns
            self._parts.answered.add(record.stamp_ns)

    def end(self, state: EpisodeState, wall_ns: int) -> None:
        """The state of this episode in phase end; a later revision replaces it for as long as ``result`` is None."""
        if state.episode_id != self.episode_id or state.termination_reason is None or not state.supersedes(self._end):
            self.counts["states.unused"] += 1
            return
        if self._end is None:
            self._end_wall_ns = wall_ns
        self._end = state

    # ---- output --------------------------------------------------------------------------------------------------

    def poll(self, wall_ns: int) -> list[Append]:
        """What is ready to be appended now, in order; empty after ``result`` is set."""
        appends: list[Append] = []
        if self.result is None and self._conflict:
            self._refuse(self._conflict)
        if self.result is None and self._end is None:
            self._stream(appends, wall_ns)
        elif self.result is None:
            self._finish(appends, wall_ns)
        return appends

    def _stream(self, appends: list[Append], wall_ns: int) -> None:
        """Give out the rows whose wait is over, while the episode runs."""
        while self.result is None:
            following = max(1, len(self._given))  # the step whose observation ends the next row
            if following not in self._acts:
                evidence = [arrived for number, (_, arrived) in self._acts.items() if number > following]
                evidence += [self._known_wall_ns] if self._known > following else []
                if evidence and wall_ns - min(evidence) >= self.config.wait_ns:
                    self._refuse(f"the record of step {following} is lost")
                return
            if wall_ns - self._acts[following][1] < self.config.wait_ns:
                return
            broken = self._broken(following - 1, self._acts[following][0].stamp_ns)
            if broken:
                self._refuse(broken)
            else:
                self._give(appends, following - 1, self._acts[following][0].stamp_ns, 0.0)

    def _finish(self, appends: list[Append], wall_ns: int) -> None:
        """Give out the rest and close, when everything is there or the wait is over."""
        end = self._end
        assert end is not None
        reason = end.termination_reason
        assert reason is not None
        if end.started_ns is None or end.ended_ns is None:
            self._refuse("the episode ended before it ran")
            return
        over = wall_ns - self._end_wall_ns >= self.config.wait_ns
        said = self._last  # the arbiter's last word: it has let go, or taken a step that is cut anyway
        let_go = said is not None and said.hold is Hold.UNENGAGED
        closed = said is not None and (let_go or said.acted) and said.stamp_ns >= end.ended_ns
        lost = next((number for number in range(max(0, len(self._given) - 1), self._known) if number not in self._acts), None)
        if not over and (not closed or lost is not None):
            return
        present = self._known if lost is None else lost
        first = max(0, len(self._given) - 1)  # the first row not given out
        stamps = [self._acts[number][0].stamp_ns for number in range(first, present)]
        cut = bool(stamps) and stamps[-1] >= end.ended_ns
        rows = first + sum(stamp < end.ended_ns for stamp in stamps)
        if self._given:
            rows = max(rows, first + 1)  # its observation has been given out: the end came too late to cut it
        if lost is not None and not cut:
            # What follows the lost record cannot be placed; what comes before it is sound but for its last step.
            self._close(appends, present - 1, f"the record of step {lost} is lost")
            return
        if not closed and not let_go:
            self._close(appends, present - 1, "the arbiter did not report that it let go")
            return
        if rows == 0:
            self._refuse("no step was taken before the end")
            return
        last, exact = self._last_observation(rows, end.ended_ns)
        wanted = [*self._given, *stamps[bool(self._given) : rows - first], *([] if last is None else [last])]
        if not over and not (exact and self._all_there(wanted, first, rows)):
            return
        if last is None:
            self._close(appends, rows - 1, "no observation came after the last step")
            return
        reward = 1.0 if end.outcome is Outcome.SUCCESS else 0.0
        for number in range(first, rows):
            stamp = last if number == rows - 1 else self._acts[number + 1][0].stamp_ns
            broken = self._broken(number, stamp)
            if broken:
                self._refuse(broken)
                return
            self._give(appends, number, stamp, reward if number == rows - 1 else 0.0)
        self._conclude(end.outcome, reason, "", end.discarded)

    def _last_observation(self, rows: int, ended_ns: int) -> tuple[int | None, bool]:
        """The stamp of the observation that follows the last row, and whether no better one can come."""
        stamp = self._acts[rows - 1][0].stamp_ns
        if ended_ns <= stamp and rows in self._acts:
            return self._acts[rows][0].stamp_ns, True
        later = sorted(other for other in self._parts.observations if other > stamp)
        found = next((other for other in later if other >= ended_ns), later[-1] if later else None)
        return found, found == ended_ns

    def _all_there(self, stamps: list[int], first: int, rows: int) -> bool:
        """Whether nothing is left to wait for: observations, policy records, latents."""
        if not all(stamp in self._parts.observations for stamp in stamps[len(self._given) :]):
            return False
        acts = [self._acts[number][0] for number in range(first, rows)]
        if not all(self._side_of(act) is not None for act in acts if act.source is ControlSource.POLICY):
            return False
        found = [self._parts.sides.get(stamp) for stamp in stamps]
        return not self.config.latents or all(side is not None and side.latents is not None for side in found)

    def _broken(self, number: int, following_ns: int) -> str:
        """Why row ``number``, followed by the observation of ``following_ns``, cannot be given out; "" when it can."""
        if number not in self._acts:
            return f"the record of step {number} is lost"
        stamp = self._acts[number][0].stamp_ns
        if following_ns <= stamp:
            return f"steps {number} and {number + 1} answer stamps {stamp} and {following_ns}, which do not increase"
        if following_ns - stamp > self.config.longest_gap_ns:
            return f"{(following_ns - stamp) / 1e9:.1f} s without a step after step {number}"
        lost = [s for s in (stamp, following_ns) if s not in self._parts.observations and s not in self._given[-1:]]
        return f"the observation of stamp {lost[0]} is lost" if lost else ""

    def _give(self, appends: list[Append], number: int, following_ns: int, terminal: float) -> None:
        act = self._acts.pop(number)[0]
        assert act.source is not None
        if not self._given:
            appends.append(Append(None, act.stamp_ns, self._parts.observations[act.stamp_ns]))
            self._given.append(act.stamp_ns)
        side = self._side_of(act) if act.source is ControlSource.POLICY else None
        if act.source is ControlSource.POLICY and side is None:
            self._missing_sides.append(act.stamp_ns)
        log_prob, version = float("nan"), -1
        if side is not None:
            version = side.head_version
            # A chunk's log-probability is that of all its actions: it stands once, where the chunk begins.
            log_prob = side.log_prob if side.log_prob is not None and act.chunk_index == 0 else log_prob
        reward = terminal + self._parts.earned(act.stamp_ns, following_ns)
        row = StepRow(_action(act.proposed), _action(act.executed), _action(act.commanded), act.source, log_prob, version,
                      reward)  # fmt: skip
        appends.append(Append(row, following_ns, self._parts.observations[following_ns]))
        self._given.append(following_ns)
        self._parts.done(act.stamp_ns, following_ns)

    def _side_of(self, act: ArbiterStep) -> SideRecord | None:
        return self._parts.sides.get(act.chunk_ns)

    def _close(self, appends: list[Append], rows: int, refusal: str) -> None:
        """Give out the rows before ``rows``, whose next observation is that of the step after them, and refuse the rest."""
        for number in range(max(0, len(self._given) - 1), rows):
            broken = self._broken(number, self._acts[number + 1][0].stamp_ns)
            if broken:
                self._refuse(broken)
                return
            self._give(appends, number, self._acts[number + 1][0].stamp_ns, 0.0)
        self._refuse(refusal)

    def _refuse(self, why: str) -> None:
        discarded = self._end is not None and self._end.discarded
        self._conclude(Outcome.UNKNOWN, TerminationReason.STOPPED, why, discarded)

    def _conclude(self, outcome: Outcome, reason: TerminationReason, refusal: str, discarded: bool) -> None:
        found = [self._parts.sides.get(stamp) for stamp in self._given]
        prints = [side.fingerprint for side in found if side is not None and side.latents is not None]
        fingerprint = prints[-1] if prints else ""
        shape = next((s.latents.shape for s in reversed(found) if s is not None and s.latents is not None), ())
        usable: list[HalfArray] = []
        missing = []
        for stamp, side in zip(self._given, found, strict=True):
            if side is None or side.latents is None or (side.fingerprint, side.latents.shape) != (fingerprint, shape):
                missing.append(stamp)
            else:
                usable.append(side.latents)
        latents = np.stack(usable) if usable and not missing else None
        self.result = Assembled(max(0, len(self._given) - 1), outcome, reason, refusal, latents, fingerprint,
                                tuple(missing), tuple(self._missing_sides), discarded)  # fmt: skip


def _action(values: tuple[float, ...]) -> FloatArray:
    return np.array(values, np.float32)
