"""The episode state machine: events and ticks in, latched states out. Owner of when an episode starts, ends and why.

Every phase but idle ends by itself. Deadlines run on wall time (monotonic), so that they pass even when the graph's
clock stands still; the time limit of a run is in the graph's clock, as the stamps of the observations are.

| phase | left by | when nothing happens |
|---|---|---|
| idle | Start | stays |
| reset | ResetDone of every participant | after ``reset_ns``: end, stopped, outcome unknown |
| ready | confirm and engage, where required | after ``ready_ns``: end, stopped, outcome unknown |
| run | verdict, stop, discard, time limit | time limit: truncated; after ``run_wall_ns``: end, stopped |
| end | sealed | after ``end_ns``: idle |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import (
    TERMINAL,
    EpisodeState,
    Event,
    Judge,
    Judged,
    Phase,
    Request,
    ResetDone,
    Start,
    Verb,
    Verdict,
)
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Mode, Outcome, TerminationReason

ENDINGS = {
    Verb.STOP: (TerminationReason.STOPPED, "stopped"),
    Verb.DISCARD: (TerminationReason.STOPPED, "discarded"),
    Verb.FAULT: (TerminationReason.FAULT, "the robot has a fault"),
}


@dataclass(frozen=True)
class EpisodeConfig:
    """participants: who must report ``ResetDone``; durations in ns, ``time_limit_ns`` of the graph's clock, all others of
    wall time. ``verdict_grace_ns``: how long the time limit waits for the reward to judge its last observation.
    ``time_limit_outcome``: what a run without verdict counts as (unknown where people label it later)."""

    participants: tuple[str, ...] = ("robot",)
    confirm_required: bool = False
    engage_required: bool = False
    time_limit_ns: int = 20 * SECOND
    time_limit_outcome: Outcome = Outcome.FAILURE
    verdict_grace_ns: int = SECOND // 5
    reset_ns: int = 60 * SECOND
    ready_ns: int = 300 * SECOND
    run_wall_ns: int = 600 * SECOND
    end_ns: int = 30 * SECOND

    def __post_init__(self) -> None:
        durations = (self.time_limit_ns, self.reset_ns, self.ready_ns, self.run_wall_ns, self.end_ns)
        if min(durations) <= 0 or self.verdict_grace_ns < 0:
            raise ConfigError(f"episode durations {durations}, grace {self.verdict_grace_ns}",
                              "every wait ends: durations are positive", "give nanoseconds above 0")  # fmt: skip
        if len(set(self.participants)) != len(self.participants):
            raise ConfigError(f"reset participants {self.participants}", "each is named once", "remove the repeated one")


@dataclass(frozen=True)
class Handled:
    """What became of an event or tick: the state now, whether it is news to publish, and why an event was ignored."""

    state: EpisodeState
    changed: bool
    ignored: str = ""


class EpisodeMachine:
    """``handle`` events and ``tick`` often; publish ``state`` whenever the answer says ``changed``.

    run_id, arm and next_number make episode ids, ``<run_id>[-<arm>]-<number>``: whoever constructs this knows which numbers
    of the run are taken, so that ids stay unique across restarts. ``ignored`` counts events that came late, twice or out of
    turn.
    """

    def __init__(self, config: EpisodeConfig, run_id: str, next_number: int, now_ns: int, wall_ns: int,
                 first_sequence: int = 0, arm: str = "") -> None:  # fmt: skip
        """``first_sequence`` lies above all that an earlier process of the run has given.

        Raises IrevlaError when ``run_id`` and ``arm`` cannot name files."""
        self.config = config
        self.ignored = 0
        self._prefix = f"{run_id}-{arm}" if arm else run_id
        self._number = next_number
        self._deadline_ns: int | None = None  # wall
        self._grace_ns: int | None = None  # wall: until when the time limit waits for the reward
        self._judged_ns: int | None = None  # stamp up to which the reward has looked
        self._waiting: set[str] = set()
        EpisodeState(0, Phase.IDLE, run_id, f"{self._prefix}-{next_number:06d}")
        self.state = EpisodeState(first_sequence, Phase.IDLE, run_id, entered_ns=now_ns)
        self._entered_sequence = self._run_sequence = first_sequence  # of the present phase, and of the episode's run

    @property
    def next_number(self) -> int:
        """The number that the next episode's id will have."""
        return self._number

    def handle(self, event: Event, now_ns: int, wall_ns: int) -> Handled:
        """Take one event. Deadlines that have passed take effect first."""
        before = self.state
        self.tick(now_ns, wall_ns)
        late = "" if isinstance(event, Start) else self._late(event)
        ignored = late or self._dispatch(event, now_ns, wall_ns)
        self.ignored += bool(ignored)
        return Handled(self.state, self.state is not before, ignored)

    def tick(self, now_ns: int, wall_ns: int) -> Handled:
        """Let time pass: now_ns of the graph's clock, wall_ns monotonic."""
        before = self.state
        if self.state.phase is Phase.RUN:
            self._check_time_limit(now_ns, wall_ns)
        if self._deadline_ns is not None and wall_ns >= self._deadline_ns:
            phase = self.state.phase
            if phase is Phase.END:
                told = "; ".join(filter(None, (self.state.detail, "nobody reported it sealed in time")))
                self._enter(Phase.IDLE, now_ns, wall_ns, detail=told)
            else:
                waited = {Phase.RESET: f"reset not done in time, still waiting for {', '.join(sorted(self._waiting))}",
                          Phase.READY: "nobody confirmed and engaged in time",
                          Phase.RUN: "the run's wall-clock limit passed"}  # fmt: skip
                self._end(now_ns, wall_ns, TerminationReason.STOPPED, Outcome.UNKNOWN, None, waited[phase])
        return Handled(self.state, self.state is not before)

    def _late(self, event: ResetDone | Verdict | Judged | Request) -> str:
        if event.episode_id and event.episode_id != self.state.episode_id:
            return f"it is about episode {event.episode_id!r}, now is {self.state.episode_id!r}"
        # A verdict may come when its run is over; see _verdict.
        since = self._run_sequence if isinstance(event, Verdict) else self._entered_sequence
        if event.sequence is not None and event.sequence < since:
            return f"it answers state {event.sequence}, out of date since {since}"
        return ""

    def _dispatch(self, event: Event, now_ns: int, wall_ns: int) -> str:
        """Act on the event, or say why not."""
        phase = self.state.phase
        if isinstance(event, Start):
            if phase is not Phase.IDLE:
                return f"start while episode {self.state.episode_id!r} is in {phase.value}"
            self._start(event, now_ns, wall_ns)
        elif isinstance(event, ResetDone):
            return self._reset_done(event, now_ns, wall_ns)
        elif isinstance(event, Verdict):
            return self._verdict(event, now_ns, wall_ns)
        elif isinstance(event, Judged):
            if phase is not Phase.RUN:
                return f"judged in {phase.value}"
            self._judged_ns = max(event.stamp_ns, self._judged_ns or event.stamp_ns)
            self._check_time_limit(now_ns, wall_ns)
        else:
            return self._request(event, now_ns, wall_ns)
        return ""

    def _start(self, start: Start, now_ns: int, wall_ns: int) -> None:
        episode_id = f"{self._prefix}-{self._number:06d}"
        self._number += 1
        self._waiting = set(self.config.participants)
        fresh = EpisodeState(self.state.sequence, Phase.IDLE, self.state.run_id)
        self.state = replace(fresh, episode_id=episode_id, task=start.task, instruction=start.instruction,
                             mode=start.mode, seed=start.seed, operator=start.operator, perturbed=start.perturbed,
                             deterministic=start.deterministic or start.mode is Mode.EVAL,
                             time_limit_ns=start.time_limit_ns or self.config.time_limit_ns)  # fmt: skip
        self._enter(Phase.RESET, now_ns, wall_ns)
        self._ready_when_all_done(now_ns, wall_ns)

    def _reset_done(self, event: ResetDone, now_ns: int, wall_ns: int) -> str:
        if self.state.phase is not Phase.RESET:
            return f"reset done in {self.state.phase.value}"
        if event.who not in self._waiting:
            return f"reset done by {event.who!r}, waiting for {sorted(self._waiting)}"
        if event.failure:
            detail = f"{event.who} could not reset: {event.failure}"
            self._end(now_ns, wall_ns, TerminationReason.STOPPED, Outcome.UNKNOWN, None, detail)
            return ""
        self._waiting.remove(event.who)
        self._ready_when_all_done(now_ns, wall_ns)
        return ""

    def _ready_when_all_done(self, now_ns: int, wall_ns: int) -> None:
        if not self._waiting:
            required = {Verb.CONFIRM: self.config.confirm_required, Verb.ENGAGE: self.config.engage_required}
            self._waiting = {verb.value for verb, needed in required.items() if needed}
            self._enter(Phase.READY, now_ns, wall_ns)
            self._run_when_all_given(now_ns, wall_ns)

    def _run_when_all_given(self, now_ns: int, wall_ns: int) -> None:
        if not self._waiting:
            self._judged_ns = self._grace_ns = None
            self._enter(Phase.RUN, now_ns, wall_ns, started_ns=now_ns)
            self._run_sequence = self.state.sequence

    def _verdict(self, verdict: Verdict, now_ns: int, wall_ns: int) -> str:
        state, by_operator = self.state, verdict.judge is Judge.OPERATOR
        if state.phase not in (Phase.RUN, Phase.END) or state.started_ns is None:
            return f"a verdict in {state.phase.value} of an episode that does not run"
        if not by_operator and verdict.stamp_ns < state.started_ns:
            return f"a verdict on stamp {verdict.stamp_ns}, before the run began at {state.started_ns}"
        outcome = Outcome.SUCCESS if verdict.success else Outcome.FAILURE
        reason = TerminationReason.SUCCESS if verdict.success else TerminationReason.FAILURE
        if state.phase is Phase.RUN:
            limit = self._limit_ns()
            if not by_operator and verdict.stamp_ns > limit:
                return f"a verdict on stamp {verdict.stamp_ns}, after the time limit at {limit}"
            self._end(verdict.stamp_ns if not by_operator else now_ns, wall_ns, reason, outcome, verdict.judge, "")
            return ""
        assert state.ended_ns is not None
        if not by_operator and state.judge is not None:
            return f"a second verdict of the reward, after that of the {state.judge.value}"
        if not by_operator and verdict.stamp_ns > state.ended_ns:
            return f"a verdict on stamp {verdict.stamp_ns}, after the end at {state.ended_ns}"
        if not by_operator and state.termination_reason is TerminationReason.TIME_LIMIT:
            # What the reward saw came before the limit; only its message came after.
            self._change(ended_ns=verdict.stamp_ns, outcome=outcome, judge=verdict.judge, **_because(reason))
        else:
            self._change(outcome=outcome, judge=verdict.judge)
        return ""

    def _request(self, request: Request, now_ns: int, wall_ns: int) -> str:
        phase, verb = self.state.phase, request.verb
        if verb in (Verb.CONFIRM, Verb.ENGAGE) and phase is Phase.READY and verb.value in self._waiting:
            self._waiting.remove(verb.value)
            self._run_when_all_given(now_ns, wall_ns)
        elif verb is Verb.SEALED and phase is Phase.END:
            self._enter(Phase.IDLE, now_ns, wall_ns, detail=self.state.detail)
        elif verb in ENDINGS and phase in (Phase.RESET, Phase.READY, Phase.RUN):
            reason, why = ENDINGS[verb]
            self._end(now_ns, wall_ns, reason, Outcome.UNKNOWN, None, request.why or why, verb is Verb.DISCARD)
        elif verb is Verb.DISTURB and phase in (Phase.READY, Phase.RUN):
            if not self.state.perturbed:
                self._change(perturbed=True)
        elif verb is Verb.DISCARD and phase is Phase.END and not self.state.discarded:
            self._change(discarded=True, detail=request.why or "discarded")
        else:
            return f"{verb.value} in {phase.value}"
        return ""

    def _limit_ns(self) -> int:
        assert self.state.started_ns is not None
        return self.state.started_ns + self.state.time_limit_ns

    def _check_time_limit(self, now_ns: int, wall_ns: int) -> None:
        limit = self._limit_ns()
        if self.state.phase is not Phase.RUN or now_ns < limit:
            return
        if self._grace_ns is None:
            self._grace_ns = wall_ns + self.config.verdict_grace_ns
        if wall_ns >= self._grace_ns or (self._judged_ns is not None and self._judged_ns >= limit):
            outcome = self.config.time_limit_outcome
            self._end(limit, wall_ns, TerminationReason.TIME_LIMIT, outcome, None, "")

    def _end(self, ended_ns: int, wall_ns: int, reason: TerminationReason, outcome: Outcome, judge: Judge | None,
             detail: str, discarded: bool = False) -> None:  # fmt: skip
        self._enter(Phase.END, ended_ns, wall_ns, ended_ns=ended_ns, outcome=outcome, judge=judge, discarded=discarded,
                    detail=detail, **_because(reason))  # fmt: skip

    def _enter(self, phase: Phase, now_ns: int, wall_ns: int, **values: Any) -> None:
        config = self.config
        waits = {Phase.RESET: config.reset_ns, Phase.READY: config.ready_ns, Phase.RUN: config.run_wall_ns,
                 Phase.END: config.end_ns}  # fmt: skip
        self._deadline_ns = wall_ns + waits[phase] if phase in waits else None
        self._change(phase=phase, entered_ns=now_ns, **values)
        self._entered_sequence = self.state.sequence

    def _change(self, **values: Any) -> None:
        self.state = replace(self.state, sequence=self.state.sequence + 1, **values)


def _because(reason: TerminationReason) -> dict[str, Any]:
    return {"termination_reason": reason, "terminated": reason in TERMINAL, "truncated": reason not in TERMINAL}
