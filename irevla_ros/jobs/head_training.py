"""Learning with episodes from the graph: what the training thread does, and nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from irevla_ros import __version__
from irevla_ros.core.types import Episode, Mode, Outcome
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.jobs.practice import Practice
from irevla_ros.jobs.run_record import RunRecord
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.supervised_manifest import SupervisedManifest, manifest_for
from irevla_ros.learn.irevla import CollectEpisodes, EndTask, EpisodesCollected, RunSupervised, StartTask, UpdateHead
from irevla_ros.policy.checkpoint import save_head, save_vla

SAVE_S = 15.0  # of work that a kill may cost
HEADS_KEPT = 4  # the policy may still be loading an older one


class HeadTraining:
    """Stage 1 of the task under way. ``collected.json`` says which episodes each command got, for a later life.

    What the learner remembers is what the spool says of it now: before each update, episodes that were judged anew or
    discarded since they were read, and demonstrations that a person has added, make it read everything again.
    """

    def __init__(self, record: RunRecord, run_id: str) -> None:
        self.record, self.practice = record, Practice(record.practice, run_id)
        self._stage1: Stage1 | None = None
        self._collected: list[Episode] = []
        self._revisions: dict[str, int] = {}  # of the labels of each episode when it was read
        self._ledger = record.folder / "collected.json"
        self.updates = (0, 0)  # done and planned of the update under way; other threads may look

    @property
    def stage1(self) -> Stage1:
        assert self._stage1 is not None
        return self._stage1

    def resume(self) -> bool:
        """Go on with the stage 1 that was cut off, if one was."""
        self._stage1 = self.record.continue_stage1()
        if self._stage1 is not None:
            self._fill()
            self._save_head()
        return self._stage1 is not None

    def start(self, command: StartTask) -> None:
        self._stage1 = self.record.start_stage1(command)
        self._begin()
        self._save_head()

    def remember(self, command: CollectEpisodes, ids: Sequence[str]) -> tuple[bool, ...]:
        """Take the episodes that answer ``command`` into the buffers; returns which succeeded."""
        record = self.record
        self._collected = self._read(self.stage1, ids, command.mode, command.head_version)
        self.stage1.remember(self._collected)
        entry = {"ids": list(ids), "mode": command.mode.value, "version": command.head_version}
        write_json(self._ledger, {**self._entries(), _key(command.task, command.first): entry})
        records = [self.practice.record(name) for name in ids]
        successes = tuple(one.meta.outcome is Outcome.SUCCESS for one in records)
        rate, last = sum(successes) / len(successes), command.first + len(successes)
        if not command.deterministic:
            steps = sum(one.steps for one in records) / len(successes)
            record.metrics.log(last - record.harvested(command.task), {"success": rate, "episode_steps": steps},
                               f"stage1/{command.task}")  # fmt: skip
        record.console.say(f"practice {command.task}: {last} episodes, {rate:.2f} of the last {len(successes)} succeeded")
        return successes

    def update(self, command: UpdateHead, stop: threading.Event) -> bool:
        """Learn from what was remembered last (PPO) or ever (SACfD); the head becomes ``command.head_version``.

        False when it was stopped. SACfD's is saved as far as it came, now and then and when it is stopped: a later life does
        the rest. PPO's is repeated."""
        if self.stage1.head_version != command.head_version:  # equal when a kill hit between saving and reporting
            self._look_again()
            if self._collected:  # none are left when all were discarded while nobody was learning
                metrics = self.stage1.update(self._collected, command.head_version, self._watch(stop))
                self.updates = (0, 0)
                if metrics is None:
                    self._save_stage1()
                    return False
                self.record.metrics.log(self.record.practised(self.stage1.start), metrics, f"stage1/{command.task}")
            self.stage1.head_version = command.head_version
            self._save_stage1()
        self._save_head()
        return True

    def _look_again(self) -> None:
        """Read everything again where labels have changed, or demonstrations were added."""
        names = {*self._revisions, *self._shown()}
        changed = {name for name in names if self._revisions.get(name) != self.practice.revision(name)}
        if changed:
            self._fill()
            self.record.console.say(f"episodes judged anew, discarded or added by a person: {len(changed)}; learning with them")

    def _fill(self) -> None:
        """Make the replay what the spool says: a person's demonstrations, then what was collected, in order."""
        self._begin()
        self._collected = self.record.fill(self.stage1, self._collected_then)

    def _begin(self) -> None:
        """Nothing collected is remembered, only what a person has shown of the task."""
        stage1 = self.stage1
        stage1.forget()
        self._revisions.clear()
        self._collected = []
        stage1.imitate(self._read(stage1, self._shown(), Mode.DEMO, stage1.head_version))

    def _shown(self) -> list[str]:
        """A person's demonstrations of the task, where the learner has a use for them."""
        start = self.stage1.start
        return self.practice.demonstrations(start.task) if start.algorithm == "sacfd" else []

    def _watch(self, stop: threading.Event) -> Callable[[int, int], bool]:
        saved_s = time.monotonic()

        def watch(done: int, of: int) -> bool:
            nonlocal saved_s
            self.updates = done, of
            if done and time.monotonic() - saved_s >= SAVE_S:
                self._save_stage1()
                saved_s = time.monotonic()
            return stop.is_set()

        return watch

    def _save_stage1(self) -> None:
        self.stage1.save(self.record.folder / "stage1.safetensors")

    def end(self, command: EndTask) -> None:
        save_vla(self.record.checkpoint(command.save_as), self.stage1.vla,
                 {"task": command.task, "seed": self.record.config.seed, "irevla_ros": __version__})  # fmt: skip

    def manifest(self, command: RunSupervised) -> SupervisedManifest:
        """What stage 0 or 2 is to learn from."""
        record = self.record
        d_rl = [episode for names in record.d_rl().values() for episode in names]
        return manifest_for(command, record.config, checkpoints=record.folder / "checkpoints", expert=record.expert.root,
                            practice=record.practice.root, d_rl=d_rl)  # fmt: skip

    @staticmethod
    def head(version: int) -> str:
        """File of the head with the machine's number ``version``, relative to the run's folder."""
        return f"heads/head-{version:06d}.safetensors"

    # ---- files -------------------------------------------------------------------------------------------------

    def _save_head(self) -> None:
        stage1 = self.stage1
        path = self.record.folder / self.head(stage1.head_version)
        save_head(path, stage1.actor, fingerprint=stage1.fingerprint,
                  metadata={"task": stage1.start.task, "version": str(stage1.head_version)})  # fmt: skip
        for old in sorted(path.parent.glob("head-*.safetensors"))[:-HEADS_KEPT]:
            old.unlink()

    def _entries(self) -> dict[str, Any]:
        return dict(read_json(self._ledger)) if self._ledger.is_file() else {}

    def _collected_then(self, stage1: Stage1, first: int, event: EpisodesCollected) -> list[Episode]:
        entry = self._entries()[_key(event.task, first)]
        return self._read(stage1, entry["ids"], Mode(entry["mode"]), entry["version"])

    def _read(self, stage1: Stage1, ids: Sequence[str], mode: Mode, version: int) -> list[Episode]:
        """Those of ``ids`` that nobody has discarded."""
        self._revisions.update({name: self.practice.revision(name) for name in ids})  # before: later ones are news
        return self.practice.read(self.practice.usable(ids), stage1.vla, stage1.fingerprint, mode, version)


def _key(task: str, first: int) -> str:
    return f"{task} {first}"

