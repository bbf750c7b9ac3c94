"""The operator's side of a recorder: how many episodes there are, notes on them, and undo; all counted from the files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from irevla_ros.core.collection import Note, Tally
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import DataError, IrevlaError
from irevla_ros.core.health import Level
from irevla_ros.core.types import Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.recording import Archive
from irevla_ros.data.tally import Counted, count
from irevla_ros.nodes import topics
from irevla_ros.nodes.disk import Disk
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Trigger
from irevla_ros.ros.qos import LATCHED

NOTES = 16  # that wait for their episode to be sealed
OPERATOR = "operator"


class Ledger:
    """Of one arm. own: whether an episode id is its; undone: told (episode, outcome, discarded) after each undo.

    Files are touched on the disk's thread only, in order with what is sealed there.
    """

    def __init__(self, node: GraphNode, archive: Archive, disk: Disk, own: Callable[[str], bool],
                 undone: Callable[[str, Outcome, bool], object]) -> None:  # fmt: skip
        self._node, self._archive, self._disk, self._own, self._undone = node, archive, disk, own, undone
        self._reader = SpoolReader(archive.root)
        self._state: EpisodeState | None = None
        self._notes: list[str] = []  # on the episode that is under way
        self._said = ""
        self._say = node.speak(Tally, topics.TALLY, LATCHED)
        node.listen(Note, topics.NOTE, self._on_note)
        node.create_service(Trigger, topics.UNDO, self._on_undo)
        self.refresh()

    def follow(self, state: EpisodeState) -> None:
        if self._state is not None and self._state.episode_id != state.episode_id:
            self._notes = []
        self._state = state

    def refresh(self) -> None:
        """Count anew, and say it."""
        self._disk.do(self._count, self._counted, self._failed)

    def closed(self, episode_id: str, steps: int) -> None:
        """An episode has been sealed, or, with no steps, was not."""
        for text in self._notes if steps else ():
            self._write(episode_id, text)
        self._notes = []
        self.refresh()

    def look_at_disk(self) -> None:
        """Bring the free space in the node's health up to date."""
        self._disk.do(self._archive.free_bytes, lambda free: self._node.health.absorb("disk", {"free_mb": free // 10**6}),
                      self._failed)  # fmt: skip

    # ---- notes ---------------------------------------------------------------------------------------------------

    def _on_note(self, note: Note) -> None:
        state = self._state
        under_way = state is not None and state.phase is not Phase.IDLE
        if under_way and state is not None and note.episode_id in ("", state.episode_id):
            self._notes = [*self._notes, note.text][-NOTES:]
        elif note.episode_id or state is not None:
            self._write(note.episode_id or (state.episode_id if state is not None else ""), note.text)
            self.refresh()

    def _write(self, episode_id: str, text: str) -> None:
        def write() -> None:
            history = self._reader.labels(episode_id)
            self._archive.spool.label(episode_id, None, self._who(), discard=history.discarded, note=text)

        self._disk.do(write, lambda _: None, self._failed)

    def _who(self) -> str:
        return (self._state.operator if self._state is not None else "") or OPERATOR

    # ---- undo ----------------------------------------------------------------------------------------------------

    def _on_undo(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        state = self._state
        if state is not None and state.phase is not Phase.IDLE:
            response.success, response.message = False, f"{state.episode_id} is under way: end or discard it first"
        else:
            self._disk.do(partial(self._undo, self._who()), self._did, self._failed)
            response.success, response.message = True, "undo"
        return response

    def _undo(self, who: str) -> tuple[str, Outcome, bool] | None:
        last = count(self._reader, self._own).last
        if last is None:
            return None
        sealed = self._reader.record(last.episode_id).sealed_outcome
        outcome, discard, note = self._reader.labels(last.episode_id).undo(sealed)
        self._archive.spool.label(last.episode_id, outcome, who, discard=discard, note=note)
        return last.episode_id, outcome, discard

    def _did(self, done: tuple[str, Outcome, bool] | None) -> None:
        if done is None:
            self._said = "undo: there is no episode yet"
        else:
            episode_id, outcome, discarded = done
            self._said = f"undo: {episode_id} is " + ("taken back; undo again keeps it" if discarded else outcome.value)
            self._undone(*done)
        self.refresh()

    # ---- counting ------------------------------------------------------------------------------------------------

    def _count(self) -> tuple[Counted, int]:
        return count(self._reader, self._own), self._archive.free_bytes()

    def _counted(self, found: tuple[Counted, int]) -> None:
        counted, free = found
        said, self._said = self._said, ""
        self._say(Tally(counted.tasks, counted.last, free, counted.defective, counted.damaged, said))
        self._node.health.check("spool", Level.WARN if counted.damaged else Level.OK,
                                f"{counted.damaged} damaged files" if counted.damaged else "")  # fmt: skip

    def _failed(self, error: IrevlaError) -> None:
        assert isinstance(error, DataError), error
        self._node.refuse("spool", error)
