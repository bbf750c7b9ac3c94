"""One episode on its way to the disk: joined on the executor's thread, appended and closed on the disk's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.assembly import AssemblyConfig
from irevla_ros.core.durations import LONGEST
from irevla_ros.core.episode_join import EpisodeJoin
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import DataError, IrevlaError
from irevla_ros.core.quality import QualityCheck
from irevla_ros.core.rows import Append, Assembled
from irevla_ros.core.types import Observation
from irevla_ros.data.recording import Archive, Closed
from irevla_ros.data.side import SideReader
from irevla_ros.nodes.disk import Disk

SYNC_NS = 500_000_000  # of wall time


class Recording(EpisodeJoin):
    """``queued`` rows wait for the disk; ``broken`` says why no more are appended.

    stop: called once, with the reason, when recording breaks off in the middle. closed: called at the end, with the result
    of the join and what became of it on the disk; before it comes, ``over`` is true and nothing more is taken. quality: looks
    at it on the way, None where nobody does.
    """

    def __init__(self, state: EpisodeState, config: AssemblyConfig, archive: Archive, disk: Disk, backlog: int,
                 quality: QualityCheck | None, stop: Callable[[str], None],
                 closed: Callable[[Assembled, Closed], None]) -> None:  # fmt: skip
        super().__init__(state, config)
        self.queued, self.broken, self.over = 0, "", False
        self._quality = quality
        self._side = SideReader(archive.root, state.episode_id)
        self._archive, self._disk, self._backlog, self._stop, self._told_closed = archive, disk, backlog, stop, closed
        self._stopping = False
        self._gap = ""  # why a row could not be appended; the disk's thread knows it before the executor does
        self._sync_due_ns = LONGEST

    def abandon(self, ended_ns: int, wall_ns: int) -> None:
        """The episode node left it without an end: close now, with what is sound."""
        self.leave(ended_ns, wall_ns)
        self.advance(wall_ns + LONGEST)

    def observation(self, stamp_ns: int, observation: Observation) -> None:
        super().observation(stamp_ns, observation)
        if self._quality is not None and self.state.phase is Phase.RUN:
            self._quality.arrived(stamp_ns)

    def step(self, record: ArbiterStep, wall_ns: int) -> None:
        super().step(record, wall_ns)
        if self._quality is not None and record.acted and record.episode_id == self.state.episode_id:
            self._quality.acted(record.clips)

    # ---- to the disk ---------------------------------------------------------------------------------------------

    def advance(self, wall_ns: int) -> None:
        """Append what has been joined; close when that was all."""
        if self.over:
            return
        try:
            for side in self._side.poll():
                self.side(side)
        except DataError:
            self.counts["sides.unreadable"] += 1
        rows = self.poll(wall_ns)
        if self.broken or self.dry_run:
            pass
        elif self.queued + len(rows) > self._backlog:
            self._break(f"{self.queued + len(rows)} rows wait for the disk, limit {self._backlog}")
        elif rows:
            self.queued += len(rows)
            self._sync_due_ns = wall_ns + SYNC_NS
            self._disk.do(lambda: self._append(rows), self._appended, lambda error: self._break(str(error)))
        elif wall_ns > self._sync_due_ns:  # the stream has stalled: appends do not sync any more
            self._sync_due_ns = LONGEST
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
        if not self._gap:  # what follows it must not be appended
            try:
                self._archive.append(rows)
            except DataError as error:
                self._gap = str(error)
                raise
            if self._quality is not None:
                for row in rows:
                    self._quality.taken(row.observation)
        return len(rows)

    def _appended(self, rows: int) -> None:
        self.queued -= rows

    def _close(self, result: Assembled) -> Closed:
        try:
            defects = self._quality.defects(result.steps) if self._quality is not None else ()
            broken = self.broken or self._gap
            return self._archive.close(self.state.episode_id, result, broken, self.state.perturbed, defects)
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
