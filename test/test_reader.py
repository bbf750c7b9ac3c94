from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data import frames
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from spool_toys import same_columns, toy_episode


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path)


@pytest.fixture
def reader(spool):
    return SpoolReader(spool.root)


def ids(records):
    return [record.episode_id for record in records]


def test_filters(spool, reader):
    spool.write_episode(toy_episode("b", task="push", mode=Mode.DEMO))
    spool.write_episode(toy_episode("a", outcome=Outcome.FAILURE, run_id="run2"))
    spool.write_episode(toy_episode("c", task="push"))
    assert ids(reader.episodes()) == ["a", "b", "c"]
    assert ids(reader.episodes(task="push")) == ["b", "c"]
    assert ids(reader.episodes(task="push", mode=Mode.TRAIN)) == ["c"]
    assert ids(reader.episodes(outcome=Outcome.FAILURE)) == ["a"]
    assert ids(reader.episodes(run="run1")) == ["b", "c"]
    spool.label("a", Outcome.SUCCESS, "ada")
    assert reader.episodes(outcome=Outcome.FAILURE) == []
    record = reader.record("b")
    assert (record.steps, record.cameras, record.meta.task) == (5, ("front",), "push")


def test_the_folder_is_the_truth(spool, reader):
    first = spool.write_episode(toy_episode("a"))
    assert ids(reader.episodes()) == ["a"]
    spool.write_episode(toy_episode("b"))
    assert ids(reader.episodes()) == ["a", "b"]
    first.path.unlink()
    assert ids(reader.episodes()) == ["b"]
    with pytest.raises(
        DataError, match=r"episode 'a': there is no sealed episode of that id in .*; see irevla episodes"
    ):
        reader.read("a")
    spool.write_episode(toy_episode("a", steps=9, seed=3))
    assert reader.record("a").steps == 9
    same_columns(reader.read("a"), toy_episode(steps=9, seed=3))


def test_damage_after_the_first_read_is_seen(spool, reader):
    path = spool.write_episode(toy_episode("a")).path
    reader.read("a")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"content checksum differs: a sealed file matches its sha256"):
        reader.read("a")
    path.rename(path.with_name("b.episode.safetensors"))
    with pytest.raises(DataError, match=r"it holds episode 'a'"):
        reader.episodes()


def test_only_the_cameras_asked_for(spool, reader, monkeypatch):
    episode = toy_episode("a", cameras={"front": (8, 8), "wrist": (6, 6)})
    spool.write_episode(episode)
    decoded = []
    decode = frames.decode_frame
    monkeypatch.setattr(frames, "decode_frame", lambda *args: decoded.append(args[1]) or decode(*args))
    found = reader.read("a", cameras=["wrist"])
    np.testing.assert_array_equal(found.images["wrist"], episode.images["wrist"])
    assert list(found.images) == ["wrist"]
    assert len(decoded) == 6
    assert dict(reader.read("a", cameras=()).images) == {}
    assert len(decoded) == 6
    with pytest.raises(ConfigError, match=r"camera 'wirst': no such camera; did you mean 'wrist'\?"):
        reader.read("a", cameras=["wirst"])


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (3, 1), (3, 2), (2, 5), (7, 1)])
def test_windows_are_slices(spool, reader, length, stride):
    wholes = {"a": toy_episode("a", steps=7, latents=True), "b": toy_episode("b", steps=3, seed=1, latents=True)}
    for episode in wholes.values():
        spool.write_episode(episode)
    windows = list(reader.iter_windows(length, stride))
    wanted = [(k, s) for k, e in wholes.items() for s in range(0, len(e) - length + 1, stride)]
    assert [(w.episode.meta.episode_id, w.start) for w in windows] == wanted
    for window in windows:
        whole, part, stop = wholes[window.episode.meta.episode_id], window.episode, window.start + length
        np.testing.assert_array_equal(part.images["front"], whole.images["front"][window.start : stop + 1])
        np.testing.assert_array_equal(part.latents, whole.latents[window.start : stop + 1])
        np.testing.assert_array_equal(part.stamps_ns, whole.stamps_ns[window.start : stop + 1])
        np.testing.assert_array_equal(part.executed, whole.executed[window.start : stop])
        np.testing.assert_array_equal(part.terminated, whole.terminated[window.start : stop])


def test_windows_stream(spool, reader, monkeypatch):
    # Of 200 frames only those of the windows taken so far are read, and an overlap is decoded once.
    record = spool.write_episode(toy_episode("a", steps=199, cameras={"front": (32, 32)}))
    list(reader.iter_windows(1, 200))  # the checksum of the file has been verified
    decoded, read = [], [0]
    decode, preadv = frames.decode_frame, os.preadv
    monkeypatch.setattr(frames, "decode_frame", lambda *args: decoded.append(args[1]) or decode(*args))

    def counted(fd, buffers, offset):
        read[0] += sum(len(buffer) for buffer in buffers)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    windows = reader.iter_windows(4, 2)
    for _ in range(3):
        next(windows)
    windows.close()
    assert len(decoded) == len(set(decoded)) == 4 + 2 + 2 + 1
    assert read[0] < record.size_bytes / 10


def test_windows_in_the_order_and_of_the_records_given(spool, reader):
    for name in "abc":
        spool.write_episode(toy_episode(name, steps=2))
    records = reader.episodes()
    found = [w.episode.meta.episode_id for w in reader.iter_windows(2, 1, [records[2], records[0]], cameras=())]
    assert found == ["c", "a"]
    with pytest.raises(DataError, match=r"windows of length 0 and stride 1: both are at least 1"):
        next(reader.iter_windows(0, 1))


def test_arrays_belong_to_the_caller(spool, reader):
    spool.write_episode(toy_episode("a"))
    reader.read("a").executed[:] = 0  # writable, and nobody else's
    same_columns(reader.read("a"), toy_episode())


def test_dataset_fingerprint(spool, reader):
    sealed = [spool.write_episode(toy_episode(name, seed=k)) for k, name in enumerate("ba")]
    spool.label("a", Outcome.FAILURE, "ada")
    lines = f"a {sealed[1].sha256} 1\nb {sealed[0].sha256} 0\n"
    assert reader.dataset_fingerprint() == hashlib.sha256(lines.encode()).hexdigest()
    assert reader.dataset_fingerprint(reader.episodes()[::-1]) == reader.dataset_fingerprint()
    before = reader.dataset_fingerprint()
    spool.label("a", Outcome.FAILURE, "bob")
    assert reader.dataset_fingerprint() != before


def test_no_spool(tmp_path):
    with pytest.raises(DataError, match=r"spool .*nowhere: a spool is a folder; check the path, or record episodes"):
        SpoolReader(tmp_path / "nowhere")
