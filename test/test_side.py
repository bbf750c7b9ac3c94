"""The policy's side segment: what is read is what was written, however it is cut, killed or started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.errors import DataError
from irevla_ros.core.rows import SideRecord
from irevla_ros.data.log import MAGIC, pack
from irevla_ros.data.paths import side_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.side import SideReader, SideWriter, remove_leftovers
from irevla_ros.data.spool import Spool
from spool_toys import append_observation, append_steps, toy_episode

FINGERPRINT = "0123456789abcdef"
ID = "run1-000000"


def latents(stamp: int, m: int = 3, d: int = 4) -> np.ndarray:
    return np.random.default_rng(stamp).normal(size=(m, d)).astype(np.float16)


def record(stamp: int) -> SideRecord:
    return SideRecord(stamp, stamp % 5, -0.5 * stamp, latents(stamp), FINGERPRINT)


def same(found: SideRecord, wanted: SideRecord) -> None:
    assert (found.stamp_ns, found.head_version, found.fingerprint) == (wanted.stamp_ns, wanted.head_version, wanted.fingerprint)
    assert found.log_prob == (None if wanted.log_prob is None else np.float32(wanted.log_prob))
    assert (found.latents is None) == (wanted.latents is None)
    if wanted.latents is not None:
        assert found.latents.dtype == np.float16 and found.latents.shape == wanted.latents.shape
        assert found.latents.tobytes() == wanted.latents.tobytes()


RECORDS = st.lists(
    st.builds(
        lambda stamp, version, log_prob, shape: SideRecord(stamp, version, log_prob, shape and latents(stamp, *shape),
                                                           FINGERPRINT if shape else ""),
        st.integers(0, 2**62), st.integers(-1, 2**40), st.none() | st.floats(-1e6, 1e6, width=32),
        st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@given(records=RECORDS, cuts=st.lists(st.integers(0, 4000), max_size=8))
def test_what_is_read_is_what_was_written_wherever_the_reader_meets_its_end(tmp_path_factory, records, cuts):
    root = tmp_path_factory.mktemp("side")
    writer = SideWriter(root, ID)
    for one in records:
        writer.append(one)
    writer.close()
    whole = side_path(root, ID).read_bytes()
    reader, found = SideReader(root, "live"), []
    assert reader.poll() == []  # there is no file yet
    for cut in sorted(min(cut, len(whole)) for cut in [*cuts, len(whole)]):
        side_path(root, "live").write_bytes(whole[:cut])
        found += reader.poll()
    assert reader.poll() == []
    reader.close()
    for one, wanted in zip(found, records, strict=True):
        same(one, wanted)


def test_reading_stops_at_damage_and_says_nothing_false(tmp_path):
    writer = SideWriter(tmp_path, ID)
    for stamp in range(3):
        writer.append(record(stamp))
    writer.close()
    path = side_path(tmp_path, ID)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert [one.stamp_ns for one in SideReader(tmp_path, ID).poll()] == [0, 1]
    path.write_bytes(MAGIC + pack("step", {}, {}))
    assert SideReader(tmp_path, ID).poll() == []
    path.write_bytes(b"something else entirely")
    assert SideReader(tmp_path, ID).poll() == []


def test_a_segment_started_anew_is_read_anew(tmp_path):
    writer, reader = SideWriter(tmp_path, ID), SideReader(tmp_path, ID)
    for stamp in range(3):
        writer.append(record(stamp))
    assert len(reader.poll()) == 3
    with pytest.raises(DataError, match="one policy at a time writes it"):
        SideWriter(tmp_path, ID)
    writer.close()
    writer = SideWriter(tmp_path, ID)
    writer.append(record(7))
    assert [one.stamp_ns for one in reader.poll()] == [7]
    writer.close()
    reader.close(remove=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="an id names files"):
        SideWriter(tmp_path, "../out")


def write_for_ever(root: Path) -> None:
    """The victim: appends, and says on stdout what has been appended."""
    writer = SideWriter(root, ID)
    for stamp in range(1_000_000):
        writer.append(record(stamp))
        os.write(1, f"{stamp}\n".encode())


def test_kill_nine_loses_nothing_that_was_appended(tmp_path):
    for round_ in range(3):
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
        with subprocess.Popen([sys.executable, __file__, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": paths}) as victim:  # fmt: skip
            assert victim.stdout is not None
            for _ in range(5 + 40 * round_):
                victim.stdout.readline()
            victim.kill()
            said = [int(line) for line in victim.stdout.read().split()]
            assert victim.wait() == -signal.SIGKILL
        found = SideReader(tmp_path, ID).poll()
        assert [one.stamp_ns for one in found] == list(range(len(found)))
        assert not said or len(found) > said[-1]
        same(found[-1], record(len(found) - 1))


def test_a_dead_policys_leftovers_are_removed_and_nothing_else(tmp_path):
    spool = Spool(tmp_path)
    episode = toy_episode("run1-000002", 2)
    open_one = spool.open_episode(episode.meta)
    append_observation(open_one, episode, 0)
    for number in (1, 2, 3):
        SideWriter(tmp_path, f"run1-{number:06d}").close()
    SideWriter(tmp_path, "run1-left-000001").close()
    held = SideWriter(tmp_path, "run1-000004")
    own = {f"run1-{number:06d}" for number in range(9)}
    assert remove_leftovers(tmp_path, own.__contains__) == ["run1-000001", "run1-000003"]
    left = {path.name for path in tmp_path.glob("*.side")}
    assert left == {"run1-000002.side", "run1-000004.side", "run1-left-000001.side"}  # open, held, another arm's
    held.close()
    open_one.abort()


def test_the_spool_and_its_reader_pass_over_side_segments(tmp_path):
    spool = Spool(tmp_path)
    episode = toy_episode("run1-000002", 2)
    writer = spool.open_episode(episode.meta)
    append_observation(writer, episode, 0)
    append_steps(writer, episode, 0, 2)
    side = SideWriter(tmp_path, "run1-000002")
    side.append(record(1))
    writer.leave()
    assert [event.action for event in Spool(tmp_path).recovered] == ["recovered"]
    reader = SpoolReader(tmp_path)
    assert reader.ids() == ["run1-000002"] and reader.verify("run1-000002").steps == 2
    assert side_path(tmp_path, "run1-000002").exists()
    side.close()


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
