"""The durability promise, tested by really killing the recorder (SIGKILL) at random moments."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from irevla_ros.core.types import Outcome, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from spool_toys import append_observation, append_steps, same_columns, toy_episode

SIZE = {"front": (16, 16)}


def record_for_ever(root: Path) -> None:
    """The victim: records, seals, and says on stdout what it has been promised, one whole line a write."""

    def promise(*words: object) -> None:
        os.write(1, (" ".join(map(str, words)) + "\n").encode())

    spool = Spool(root, sync_interval_s=0.002)
    for k in range(100_000):
        episode = toy_episode(f"live-{k}", 12 + k % 7, k, cameras=SIZE)
        writer = spool.open_episode(episode.meta)
        append_observation(writer, episode, 0)
        for t in range(len(episode)):
            append_steps(writer, episode, t, t + 1)
            promise("synced", episode.meta.episode_id, writer.synced_steps)
        sealed = writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        promise("sealed", sealed.episode_id, sealed.sha256)
        whole = spool.write_episode(toy_episode(f"group-{k}", 9, k, cameras=SIZE), durable=False)
        promise("written", whole.episode_id, whole.sha256)
        if k % 3 == 2:
            spool.commit()


def kill_one(root: Path, rng: random.Random) -> None:
    command = [sys.executable, __file__, str(root)]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ) as victim:
        assert victim.stdout is not None
        promises = [victim.stdout.readline() for _ in range(rng.randrange(1, 60))]
        try:
            victim.wait(timeout=rng.uniform(0, 0.01))
        except subprocess.TimeoutExpired:
            victim.kill()
        promises += victim.stdout.read().splitlines()
        assert victim.wait() == -9
    check(root, [line.split() for line in promises])


def check(root: Path, promises: list[list[str]]) -> None:
    Spool(root)
    reader = SpoolReader(root)
    assert {path.name.split(".", 1)[1] for path in root.iterdir()} == {"episode.safetensors"}  # no logs, no halves
    synced = {words[1]: int(words[2]) for words in promises if words[0] == "synced"}
    for words in promises:
        if words[0] != "synced":
            path = root / f"{words[1]}.episode.safetensors"
            assert hashlib.sha256(path.read_bytes()[:-64]).hexdigest() == words[2]
            synced.pop(words[1], None)
    assert set(reader.ids()) >= {episode_id for episode_id, steps in synced.items() if steps}
    for episode_id in reader.ids():
        k = int(episode_id.split("-")[1])
        found = reader.read(episode_id)
        if found.meta.termination_reason is TerminationReason.RECOVERED:
            assert len(found) >= synced.get(episode_id, 0)
            assert found.truncated[-1]
            wanted = toy_episode(episode_id, 12 + k % 7, k, cameras=SIZE)
            same_columns(found, wanted, len(found), ignore=("terminated", "truncated"))
        else:
            steps = 9 if episode_id.startswith("group") else 12 + k % 7
            same_columns(found, toy_episode(episode_id, steps, k, cameras=SIZE))
    before = {path: path.read_bytes() for path in root.iterdir()}
    assert Spool(root).recovered == ()
    assert {path: path.read_bytes() for path in root.iterdir()} == before


def test_ten_kills(tmp_path):
    rng = random.Random(0)
    for k in range(10):
        kill_one(tmp_path / str(k), rng)


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # each kill starts a Python process: 6 s a batch when idle, minutes on a busy machine
@pytest.mark.parametrize("seed", range(1, 9))
def test_two_hundred_kills(tmp_path, seed):
    rng = random.Random(seed)
    for k in range(25):
        kill_one(tmp_path / str(k), rng)


if __name__ == "__main__":
    record_for_ever(Path(sys.argv[1]))
