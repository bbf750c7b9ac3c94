"""What the learner has announced, in order: each policy that ever acted has a version of its own, over restarts too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from irevla_ros.core.config import to_dict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import Announcement
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.policy.checkpoint import checkpoint_digest


class Announcements:
    """Kept in ``announcements.json`` of the run's folder, written before an announcement is made.

    Raises ``ConfigError`` where the folder has those of a run of another id: the policy would take none of them.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder, self._run_id = folder, run_id
        self._path = folder / "announcements.json"
        known = read_json(self._path) if self._path.is_file() else []
        self._made = [Announcement(**one) for one in known]
        if self.last is not None and self.last.run_id != run_id:
            raise ConfigError(f"run_id = {run_id!r}", f"the run in {folder} is {self.last.run_id!r}, as are its episodes",
                              "give the folder its name again, or set run_id")  # fmt: skip

    @property
    def last(self) -> Announcement | None:
        return self._made[-1] if self._made else None

    def make(self, checkpoint: str, head: str = "") -> Announcement:
        """The policy in ``checkpoint`` (with the actor in the file ``head``), both relative to the run's folder.

        What was announced last keeps its version when it is announced again; everything else gets the next.
        """
        made = Announcement(self._run_id, len(self._made) + 1, checkpoint, checkpoint_digest(self._folder / checkpoint),
                            head, _digest(self._folder / head) if head else "")  # fmt: skip
        if self.last is not None and _same(made, self.last):
            return self.last
        self._made.append(made)
        write_json(self._path, [to_dict(one) for one in self._made])
        return made

    def versions(self, announcement: Announcement) -> frozenset[int]:
        """All under which the same weights were announced."""
        return frozenset(one.version for one in self._made if _same(one, announcement))

    def versions_of(self, checkpoint: str) -> frozenset[int]:
        """All under which ``checkpoint`` was announced with its own head."""
        return frozenset(one.version for one in self._made if one.checkpoint == checkpoint and not one.head)


def _same(one: Announcement, other: Announcement) -> bool:
    return (one.checkpoint_sha256, one.head_sha256) == (other.checkpoint_sha256, other.head_sha256)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
