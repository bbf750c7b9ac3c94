"""Power cuts while an episode is recorded, sealed and labelled: every legal state of the disk, sampled at every operation."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Outcome, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from power_cut import BLOCK, Disk, File, logged
from spool_toys import append_observation, append_steps, same_columns, toy_episode

SIZE = {"front": (6, 6)}
STEPS = 6


class Witness:
    """What was promised when, and a look at some of the disks that a cut at this very moment may leave."""

    def __init__(self, seed: int, states: int) -> None:
        self.rng, self.states = random.Random(seed), states
        self.sealed: dict[str, int] = {}  # id -> labels promised
        self.synced: dict[str, int] = {}  # id -> steps of an open episode
        self.seen: set[tuple[tuple[str, bytes], ...]] = set()

    def look(self, disk: Disk) -> None:
        for _ in range(self.states):
            state = disk.crash(self.rng)
            key = tuple(sorted(state.items()))
            if key not in self.seen:
                self.seen.add(key)
                self.check(state)

    def check(self, state: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, content in state.items():
                (root / name).write_bytes(content)
            Spool(root)
            reader = SpoolReader(root)
            assert set(reader.ids()) >= {*self.sealed, *(name for name, steps in self.synced.items() if steps)}
            for episode_id in reader.ids():
                reader.verify(episode_id)
                wanted, found = toy_episode(episode_id, STEPS, int(episode_id[1:]), cameras=SIZE), reader.read(episode_id)
                if found.meta.termination_reason is TerminationReason.RECOVERED:
                    assert episode_id not in self.sealed
                    assert len(found) >= self.synced.get(episode_id, 0)
                    same_columns(found, wanted, len(found), ignore=("terminated", "truncated"))
                else:
                    same_columns(found, wanted)
                assert reader.record(episode_id).label_revision >= self.sealed.get(episode_id, 0)


def record(monkeypatch: pytest.MonkeyPatch, witness: Witness) -> None:
    """Two episodes, recorded, sealed, labelled; a third that stays open."""
    import irevla_ros.data.spool  # noqa: F401  (what is imported later must not be logged)

    with tempfile.TemporaryDirectory() as folder:
        ticks = iter(range(10**6))
        with logged(monkeypatch, Path(folder), witness.look):
            spool = Spool(folder, clock=lambda: next(ticks) / 10, sync_interval_s=0.5)
            for k in range(3):
                episode = toy_episode(f"e{k}", STEPS, k, cameras=SIZE)
                writer = spool.open_episode(episode.meta)
                append_observation(writer, episode, 0)
                for t in range(STEPS):
                    append_steps(writer, episode, t, t + 1)
                    witness.synced[episode.meta.episode_id] = writer.synced_steps
                if k == 2:
                    break
                writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
                del witness.synced[episode.meta.episode_id]
                witness.sealed[episode.meta.episode_id] = 0
                for _ in range(2):
                    spool.label(episode.meta.episode_id, Outcome.FAILURE, "ada")
                    witness.sealed[episode.meta.episode_id] += 1
            writer.abort()


def test_no_power_cut_loses_what_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness(0, 2)
    record(monkeypatch, witness)
    assert len(witness.seen) > 100
    assert (witness.sealed, len(witness.synced)) == ({"e0": 2, "e1": 2}, 1)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_more_power_cuts(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    record(monkeypatch, Witness(seed, 40))


def test_the_disk_loses_what_it_may_and_keeps_what_it_must() -> None:
    disk, file, rng = Disk(), File(), random.Random(0)
    disk.change(lambda names: names.setdefault("a", file))
    disk.sync_folder()
    file.write(0, b"x" * BLOCK)
    file.sync()
    file.write(BLOCK, b"y" * BLOCK + b"z" * BLOCK)
    disk.change(lambda names: names.update(b=names.pop("a")))
    states = [disk.crash(rng) for _ in range(200)]
    assert all(next(iter(state.values())).startswith(b"x" * BLOCK) for state in states)
    assert {tuple(state) for state in states} == {("a",), ("b",)}
    tails = {next(iter(state.values()))[BLOCK:] for state in states}
    assert {b"", b"y" * BLOCK, b"y" * BLOCK + b"z" * BLOCK, bytes(BLOCK) + b"z" * BLOCK} <= tails


def test_a_spool_that_did_not_sync_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irevla_ros.data.files.settle", lambda fd, temporary, final: __import__("os").replace(temporary, final))
    with pytest.raises((AssertionError, DataError)):
        record(monkeypatch, Witness(0, 10))
