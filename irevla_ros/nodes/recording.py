"""One episode on its way to the disk: joined on the executor's thread, appended and closed on the disk's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.assembly import Assembler, AssemblyConfig
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import DataError, IrevlaError
from irevla_ros.core.rows import Append, Assembled
from irevla_ros.core.types import Observation, Outcome, TerminationReason
from irevla_ros.data.recording import Archive, Closed
from irevla_ros.data.side import SideReader
from irevla_ros.nodes.disk import Disk

BEFORE_RUN = 8  # observations kept before the run: the first step answers one of them
SYNC_NS = 500_000_000  # of wall time
FOREVER = 1 << 62  # ns of wall time: no wait is longer


class Recording:
    """``state`` is the episode's newest; ``queued`` rows wait for the disk; ``broken`` says why no more are appended;
    ``dry_run``: no robot was commanded, so nothing is kept.

    stop: called once, with the reason, when recording breaks off in the middle. closed: called at the end, with the result
    of the join and what became of it on the disk; before it comes, ``over`` is true and nothing more is taken.
    """

    def __init__(self, state: EpisodeState, config: AssemblyConfig, archive: Archive, disk: Disk, backlog: int,
                 stop: Callable[[str], None], closed: Callable[[Assembled, Closed], None]) -> None:  # fmt: skip
        self.state, self.queued, self.broken, self.over = state, 0, "", False
        self.dry_run = False
        self._assembler = Assembler(state.episode_id, config)
        self.counts = self._assembler.counts
        self._side = SideReader(archive.root, state.episode_id)
        self._archive, self._disk, self._backlog, self._stop, self._told_closed = archive, disk, backlog, stop, closed
        self._early: deque[tuple[int, Observation]] = deque(maxlen=BEFORE_RUN)
        self._stopping = self._refused = False
        self._sync_due_ns = FOREVER

    @property
    def result(self) -> Assembled | None:
        """How the join came out; None until then."""
        found = self._assembler.result
        return replace(found, discarded=True) if found is not None and self.dry_run else found

    # ---- inputs --------------------------------------------------------------------------------------------------

    def follow(self, state: EpisodeState, wall_ns: int) -> None:
        """A later state of this episode."""
        self.state = state = replace(state, discarded=state.discarded or self.dry_run)
        if state.phase in (Phase.RUN, Phase.END):
            while self._early:
                self._assembler.observation(*self._early.popleft())
        if state.phase is Phase.END:
            self._assembler.end(state, wall_ns)

    def abandon(self, ended_ns: int, wall_ns: int) -> None:
        """The episode node left it without an end: close now, with what is sound."""
        if self.state.phase is not Phase.END:
            left = replace(self.state, sequence=self.state.sequence + 1, phase=Phase.END, ended_ns=ended_ns, truncated=True,
                           outcome=Outcome.UNKNOWN, judge=None, termination_reason=TerminationReason.STOPPED)  # fmt: skip
            self.follow(left, wall_ns)
        self.poll(wall_ns + FOREVER)

    def observation(self, stamp_ns: int, observation: Observation) -> None:
        if observation.instruction != self.state.instruction:
            observation = replace(observation, instruction=self.state.instruction)
        if self.state.phase in (Phase.RESET, Phase.READY):
            self._early.append((stamp_ns, observation))
        else:
            self._assembler.observation(stamp_ns, observation)

    def step(self, record: ArbiterStep, wall_ns: int) -> None:
        if record.dry_run:  # which is known before any row with a step is appended
            self.dry_run, self.state = True, replace(self.state, discarded=True)
        self._assembler.step(record, wall_ns)

    def reward(self, stamp_ns: int, value: float) -> None:
        self._assembler.reward(stamp_ns, value)

    # ---- to the disk ---------------------------------------------------------------------------------------------

    def poll(self, wall_ns: int) -> None:
        """Append what has been joined; close when that was all."""
        if self.over:
            return
        try:
            for side in self._side.poll():
                self._assembler.side(side)
        except DataError:
            self.counts["sides.unreadable"] += 1
        rows = self._assembler.poll(wall_ns)
        if self.broken or self.dry_run:
            pass
        elif self.queued + len(rows) > self._backlog:
            self._break(f"{self.queued + len(rows)} rows wait for the disk, limit {self._backlog}")
        elif rows:
            self.queued += len(rows)
            self._sync_due_ns = wall_ns + SYNC_NS
            self._disk.do(lambda: self._append(rows), self._appended, lambda error: self._break(str(error)))
        elif wall_ns > self._sync_due_ns:  # the stream has stalled: appends do not sync any more
            self._sync_due_ns = FOREVER
            self._disk.do(self._archive.sync, lambda _: None, lambda error: self._break(str(error)))
        result = self.result
        if result is None:
            return
        if self.state.phase is not Phase.END:
            self._break_off(result.refusal)
            return
        self.over = True
        self._disk.do(lambda: self._close(result), lambda closed: self._told_closed(result, closed),
                      lambda error: self._told_closed(result, self._lost(error)))  # fmt: skip

    def _append(self, rows: Sequence[Append]) -> int:
        if not self._refused:
            try:
                self._archive.append(rows)
            except DataError:
                self._refused = True  # what follows the gap must not be appended
                raise
        return len(rows)

    def _appended(self, rows: int) -> None:
        self.queued -= rows

    def _close(self, result: Assembled) -> Closed:
        try:
            return self._archive.close(self.state.episode_id, result, self.broken)
        finally:
            self._side.close(remove=True)

    def _lost(self, error: IrevlaError) -> Closed:
        return Closed(self.state.episode_id, 0, refusal=str(error))

    def _break(self, why: str) -> None:
        self.broken = self.broken or why
        self._break_off(self.broken)

    def _break_off(self, why: str) -> None:
        if not self._stopping and self.state.phase is not Phase.END:
            self._stopping = True
            self._stop(why)
