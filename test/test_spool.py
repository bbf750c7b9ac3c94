from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import Mode, Outcome, TerminationReason
from irevla_ros.data.codecs import ImageCodec
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.data.writer import EpisodeWriter
from spool_toys import FINGERPRINT, append_observation, append_steps, same_columns, toy_episode

FLAGS = ("terminated", "truncated")


def open_with(spool: Spool, episode, steps: int) -> EpisodeWriter:
    """A writer with that many whole steps of the episode."""
    writer = spool.open_episode(episode.meta)
    append_observation(writer, episode, 0)
    append_steps(writer, episode, 0, steps)
    return writer


def leave_log(root: Path, episode, steps: int, name: str | None = None) -> Path:
    """The log of a writer that died after so many whole steps: a copy that nobody has locked."""
    with tempfile.TemporaryDirectory() as elsewhere:
        writer = open_with(Spool(elsewhere), episode, steps)
        root.mkdir(parents=True, exist_ok=True)
        log = root / f"{name or episode.meta.episode_id}.log"
        shutil.copy(Path(elsewhere) / f"{episode.meta.episode_id}.log", log)
        writer.abort()
    return log


class TestRoundTrip:
    @settings(max_examples=25)
    @given(
        steps=st.integers(1, 40),
        seed=st.integers(0, 2**31),
        cameras=st.dictionaries(
            st.sampled_from(["front", "wrist", "Cam_2-left"]), st.tuples(st.integers(1, 20), st.integers(1, 20))
        ),
        latents=st.booleans(),
        instruction=st.text(max_size=30),
        mode=st.sampled_from(list(Mode)),
        outcome=st.sampled_from(list(Outcome)),
        software=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    )
    def test_every_bit_and_word_comes_back(self, steps, seed, cameras, latents, instruction, mode, outcome, software):
        words = {"instruction": instruction, "mode": mode, "outcome": outcome, "software": software}
        episode = toy_episode("e-1.x", steps, seed, cameras=cameras, latents=latents, **words)
        with tempfile.TemporaryDirectory() as root:
            sealed = Spool(root).write_episode(episode)
            found = SpoolReader(root).read("e-1.x")
            assert sealed.steps == steps
            assert sealed.size_bytes == sealed.path.stat().st_size
        assert found.meta == episode.meta
        same_columns(found, episode)

    @pytest.mark.parametrize("latents", [False, True])
    def test_recording_step_by_step_gives_the_same_file(self, tmp_path, latents):
        episode = toy_episode(steps=7, latents=latents, cameras={"front": (8, 12), "wrist": (5, 5)})
        whole = Spool(tmp_path / "whole").write_episode(episode)
        writer = open_with(Spool(tmp_path / "steps"), episode, 7)
        sealed = writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        assert sealed.path.read_bytes() == whole.path.read_bytes()
        assert sealed.sha256 == whole.sha256
        assert sorted(os.listdir(tmp_path / "steps")) == ["e1.episode.safetensors"]

    @pytest.mark.parametrize("reason", list(TerminationReason))
    def test_the_reason_marks_the_last_step(self, tmp_path, reason):
        open_with(Spool(tmp_path), toy_episode(), 3).seal(Outcome.UNKNOWN, reason)
        found = SpoolReader(tmp_path).read("e1")
        terminates = reason in (TerminationReason.SUCCESS, TerminationReason.FAILURE)
        assert found.terminated.tolist() == [False, False, terminates]
        assert found.truncated.tolist() == [False, False, not terminates]
        assert found.meta.termination_reason is reason

    def test_readable_by_safetensors_and_opencv_alone(self, tmp_path):
        episode = toy_episode(steps=4, latents=True)
        path = Spool(tmp_path).write_episode(episode).path
        content = path.read_bytes()
        assert hashlib.sha256(content[:-64]).digest() == content[-32:]
        with safe_open(path, framework="np") as file:
            assert json.loads(file.metadata()["meta"])["task"] == "press-red"
            assert file.metadata()["version"] == "1"
            np.testing.assert_array_equal(file.get_tensor("latents"), episode.latents)
            np.testing.assert_array_equal(file.get_slice("executed")[1:3], episode.executed[1:3])
            offsets, data = file.get_tensor("images.front.offsets"), file.get_tensor("images.front.data")
            bgr = cv2.imdecode(data[offsets[3] : offsets[4]], cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(bgr[..., ::-1], episode.images["front"][3])

    def test_large_frames_are_jpeg_and_near(self, tmp_path):
        episode = toy_episode(steps=1, cameras={"front": (160, 200)})
        ramp = np.linspace(0, 255, 200)[None, None, :, None] * np.ones((2, 160, 1, 3))
        episode = dataclasses.replace(episode, images={"front": ramp.astype(np.uint8)})
        Spool(tmp_path).write_episode(episode)
        found = SpoolReader(tmp_path).read("e1").images["front"]
        assert np.abs(found.astype(int) - episode.images["front"]).mean() < 2
        Spool(tmp_path / "png", codec=ImageCodec("png")).write_episode(episode)
        same_columns(SpoolReader(tmp_path / "png").read("e1"), episode)
        with pytest.raises(ConfigError, match=r"image format 'gif': one of auto, png, jpeg; choose one"):
            ImageCodec("gif")


class TestDurability:
    def test_nothing_stays_unsynced_for_a_second(self, tmp_path, monkeypatch):
        now, synced_at, gaps, episode = [0.0], [0.0], [], toy_episode(steps=50)
        spool = Spool(tmp_path, clock=lambda: now[0])
        fdatasync = os.fdatasync

        def traced(fd):
            fdatasync(fd)
            gaps.append(now[0] - synced_at[0])
            synced_at[0] = now[0]

        monkeypatch.setattr(os, "fdatasync", traced)
        writer = spool.open_episode(episode.meta)
        append_observation(writer, episode, 0)
        for t in range(50):
            now[0] += 0.125
            append_steps(writer, episode, t, t + 1)
        assert max(gaps) < 1.0
        assert gaps == [0.5] * 12
        assert writer.steps - writer.synced_steps == 3
        writer.abort()

    def test_a_refused_sync_takes_the_record_back_so_that_the_call_can_be_repeated(self, tmp_path, monkeypatch):
        now, episode = [0.0], toy_episode(steps=3)
        writer = Spool(tmp_path, clock=lambda: now[0]).open_episode(episode.meta)
        append_observation(writer, episode, 0)
        fdatasync, now[0] = os.fdatasync, 9.0

        def refuse(fd):
            raise OSError(errno.ENOSPC, "No space left on device")

        for t in range(3):
            monkeypatch.setattr(os, "fdatasync", refuse)
            now[0] += 9.0
            with pytest.raises(DataError, match="a file is written whole or not at all"):
                append_steps(writer, episode, t, t + 1)  # the step is refused: its sync is due
            monkeypatch.setattr(os, "fdatasync", fdatasync)
            append_steps(writer, episode, t, t + 1)
        writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        same_columns(SpoolReader(tmp_path).read("e1"), episode)

    def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_log_goes(self, tmp_path, monkeypatch):
        writer, calls = open_with(Spool(tmp_path), toy_episode(), 3), []

        def trace(name):
            call = getattr(os, name)

            def traced(target, *args, **kwargs):
                path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
                calls.append((name, Path(path).name))
                return call(target, *args, **kwargs)

            monkeypatch.setattr(os, name, traced)

        for name in ("fsync", "fdatasync", "replace", "unlink"):
            trace(name)
        writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        pending = "e1.episode.safetensors.pending"
        order = [("fdatasync", "e1.log"), ("fsync", pending), ("replace", pending), ("fsync", tmp_path.name)]
        assert calls[:4] == order
        assert calls[4:] in ([("unlink", "e1.log")], [])  # pathlib calls os.unlink by that name in some versions only
        assert not (tmp_path / "e1.log").exists()

    @settings(max_examples=20)
    @given(data=st.data())
    def test_power_cut_keeps_every_synced_step(self, data):
        # After a power cut a file holds all that was synced; behind it anything: less, zeros, garbage.
        episode = toy_episode(steps=6)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            writer = open_with(Spool(root / "a"), episode, data.draw(st.integers(1, 4), "synced"))
            writer.sync()
            log = root / "a" / "e1.log"
            synced_bytes, synced_steps = log.stat().st_size, writer.synced_steps
            append_steps(writer, episode, synced_steps, 6)
            content = log.read_bytes()
            writer.abort()
            end = data.draw(st.integers(synced_bytes, len(content)), "bytes left")
            tail = data.draw(st.one_of(st.binary(max_size=64), st.just(b"\0" * 300)), "garbage")
            (root / "b").mkdir()
            (root / "b" / "e1.log").write_bytes(content[:end] + tail)
            Spool(root / "b")
            found = SpoolReader(root / "b").read("e1")
        assert synced_steps <= len(found) <= 6
        same_columns(found, episode, len(found), ignore=FLAGS)


class TestRecovery:
    def test_to_the_last_whole_step(self, tmp_path):
        episode = toy_episode(steps=5)
        log = leave_log(tmp_path, episode, 4)
        whole = log.stat().st_size
        shutil.copy(log, tmp_path / "again")
        with tempfile.TemporaryDirectory() as elsewhere:
            longer = leave_log(Path(elsewhere), episode, 5).read_bytes()
        log.write_bytes(longer[: whole + 20])
        spool = Spool(tmp_path)
        assert [str(event) for event in spool.recovered] == [
            "e1.episode.safetensors: recovered (4 whole steps; 20 bytes after them dropped)"
        ]
        found = SpoolReader(tmp_path).read("e1")
        same_columns(found, episode, 4, ignore=FLAGS)
        assert found.truncated.tolist() == [False, False, False, True]
        assert not found.terminated.any()
        assert found.meta.outcome is Outcome.UNKNOWN
        assert found.meta.termination_reason is TerminationReason.RECOVERED
        assert spool.recover() == ()
        os.rename(tmp_path / "again", log)  # as after a death between sealing and the removal of the log
        assert [event.detail for event in spool.recover()] == ["the episode is sealed already"]

    def test_living_writers_are_left_alone(self, tmp_path):
        episode = toy_episode()
        writer = open_with(Spool(tmp_path), episode, 2)
        assert [str(event) for event in Spool(tmp_path).recovered] == ["e1.log: in use (being recorded)"]
        append_steps(writer, episode, 2, 5)
        assert writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS).steps == 5

    def test_what_holds_no_step_is_discarded_and_what_is_unreadable_set_aside(self, tmp_path):
        leave_log(tmp_path, toy_episode(), 0)
        (tmp_path / "e2.log").touch()
        damaged = leave_log(tmp_path, toy_episode(), 3, "e3")
        damaged.write_bytes(damaged.read_bytes()[:30] + b"?" + damaged.read_bytes()[31:])
        (tmp_path / "e4.episode.safetensors.pending").write_bytes(b"half")
        assert {event.name: (event.action, event.detail.split(":")[0]) for event in Spool(tmp_path).recovered} == {
            "e1.log": ("discarded", "no whole step"),
            "e2.log": ("discarded", "empty"),
            "e3.log.damaged": ("set aside", "its first record is unreadable"),
            "e4.episode.safetensors.pending": ("discarded", "its writer died before the end"),
        }
        assert os.listdir(tmp_path) == ["e3.log.damaged"]
        assert Spool(tmp_path).recovered == ()

    @pytest.mark.parametrize("call", range(6))
    def test_killed_in_recovery_then_recovered(self, tmp_path, call):
        episode = toy_episode()
        leave_log(tmp_path, episode, 4)
        child = os.fork()
        if child == 0:
            _die_at_call(call)
            Spool(tmp_path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) == (call < 5)
        Spool(tmp_path)
        assert os.listdir(tmp_path) == ["e1.episode.safetensors"]
        same_columns(SpoolReader(tmp_path).read("e1"), episode, 4, ignore=FLAGS)

    @settings(max_examples=30)
    @given(data=st.data())
    def test_a_damaged_log_yields_a_true_beginning(self, data):
        episode = toy_episode(steps=4)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            log = leave_log(root, episode, 4)
            log.write_bytes(_damage(data, log.read_bytes()))
            Spool(root)
            for episode_id in SpoolReader(root).ids():
                found = SpoolReader(root).read(episode_id)
                same_columns(found, episode, len(found), ignore=FLAGS)


def _die_at_call(number: int) -> None:
    """Arms SIGKILL on this process just before its n-th write, fsync, rename or unlink."""
    left = number

    def arm(name: str) -> None:
        call = getattr(os, name)

        def deadly(*args, **kwargs):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*args, **kwargs)

        setattr(os, name, deadly)

    for name in ("write", "fsync", "replace", "unlink"):
        arm(name)


def _damage(data: st.DataObject, content: bytes) -> bytes:
    """A bit flip, a cut, or an addition, anywhere."""
    place = data.draw(st.integers(0, len(content) - 1), "place")
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]), "kind")
    if kind == "cut":
        return content[:place]
    if kind == "add":
        return content[:place] + data.draw(st.binary(min_size=1, max_size=9)) + content[place:]
    return content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]


class TestDamage:
    @settings(max_examples=80)
    @given(data=st.data())
    def test_sealed_file(self, data):
        episode = toy_episode(steps=2, cameras={"front": (4, 4)}, latents=True)
        with tempfile.TemporaryDirectory() as root:
            path = Spool(root).write_episode(episode).path
            content = path.read_bytes()
            damaged = _damage(data, content)
            path.write_bytes(damaged)
            if damaged == content:
                return
            with pytest.raises(
                DataError, match=r"e1\.episode\.safetensors: .+: .+; restore it from a copy or delete it"
            ):
                SpoolReader(root).read("e1")

    @settings(max_examples=30)
    @given(data=st.data())
    def test_latents(self, data):
        episode = toy_episode(steps=2, latents=True)
        other = FINGERPRINT[::-1]
        with tempfile.TemporaryDirectory() as root:
            spool = Spool(root)
            spool.write_episode(episode)
            spool.write_latents("e1", other, episode.latents)
            path = Path(root) / f"e1.latents.{other[:12]}.safetensors"
            content = path.read_bytes()
            path.write_bytes(_damage(data, content))
            if path.read_bytes() != content:
                with pytest.raises(DataError, match=r"e1\.latents\.fedcba987654\.safetensors: .+: .+; .+"):
                    SpoolReader(root).read("e1", fingerprint=other)

    @settings(max_examples=40)
    @given(data=st.data())
    def test_labels(self, data):
        with tempfile.TemporaryDirectory() as root:
            spool = Spool(root)
            spool.write_episode(toy_episode())
            spool.label("e1", Outcome.FAILURE, "ada", note="slipped ü")
            spool.label("e1", None, "bob", discard=True)
            before = SpoolReader(root).labels("e1")
            path = Path(root) / "e1.labels.jsonl"
            path.write_bytes(_damage(data, path.read_bytes()))
            try:
                after = SpoolReader(root).labels("e1")
            except DataError:
                with pytest.raises(DataError, match=r"e1\.labels\.jsonl line [123]: .+: label lines are never edited"):
                    SpoolReader(root).episodes()
                return
            # Cut at a line's end, revisions are gone without a trace; anything else is told.
            whole_lines = path.read_bytes().endswith(b"\n") or not path.read_bytes()
            assert after.labels == before.labels[: len(after.labels)]
            assert after.labels == before.labels or after.torn_bytes or whole_lines


class TestLabels:
    def test_revisions_and_tombstones(self, tmp_path):
        spool = Spool(tmp_path)
        sealed = spool.write_episode(toy_episode())
        content = sealed.path.read_bytes()
        assert spool.label("e1", Outcome.FAILURE, "ada").revision == 1
        assert spool.label("e1", None, "bob", discard=True, note="camera moved").revision == 2
        reader = SpoolReader(tmp_path)
        assert reader.episodes() == []
        (record,) = reader.episodes(discarded=True)
        assert (record.label_revision, record.meta.outcome) == (2, Outcome.FAILURE)
        assert record.sealed_outcome is Outcome.SUCCESS
        spool.label("e1", Outcome.SUCCESS, "ada")
        assert [r.meta.outcome for r in reader.episodes()] == [Outcome.SUCCESS]
        assert reader.read("e1").meta.outcome is Outcome.SUCCESS
        assert sealed.path.read_bytes() == content

    def test_a_torn_last_line_is_ignored_told_and_cut_off_by_the_next(self, tmp_path):
        spool = Spool(tmp_path)
        spool.write_episode(toy_episode())
        spool.label("e1", Outcome.FAILURE, "ada")
        path = tmp_path / "e1.labels.jsonl"
        path.write_bytes(path.read_bytes() + b'{"revision": 2, "outc')
        reader = SpoolReader(tmp_path)
        assert reader.record("e1").torn_label_bytes == 21
        assert reader.read("e1").meta.outcome is Outcome.FAILURE
        assert spool.label("e1", None, "bob", discard=True).revision == 2
        assert reader.record("e1").torn_label_bytes == 0
        assert reader.record("e1").discarded

    def test_edited_lines_and_absent_episodes_are_refused(self, tmp_path):
        spool = Spool(tmp_path)
        spool.write_episode(toy_episode())
        spool.label("e1", Outcome.FAILURE, "ada")
        path = tmp_path / "e1.labels.jsonl"
        path.write_text(path.read_text().replace("failure", "success"))
        message = r"line 1: its checksum or revision differs: label lines are never edited .*; restore the file"
        with pytest.raises(DataError, match=message):
            SpoolReader(tmp_path).episodes()
        with pytest.raises(DataError, match=message):
            spool.label("e1", Outcome.SUCCESS, "ada")
        with pytest.raises(DataError, match=r"episode 'e9': there is no sealed episode of that id .*; seal it first"):
            spool.label("e9", Outcome.SUCCESS, "ada")


class TestGroupCommit:
    def test_unseen_until_commit(self, tmp_path):
        spool, reader = Spool(tmp_path), SpoolReader(Spool(tmp_path).root)
        for k in range(3):
            spool.write_episode(toy_episode(f"e{k}", seed=k), durable=False)
        assert reader.ids() == []
        spool.commit()
        assert reader.ids() == ["e0", "e1", "e2"]
        same_columns(reader.read("e2"), toy_episode(seed=2))

    def test_published_by_the_next_spool_when_the_writer_died(self, tmp_path):
        dead = Spool(tmp_path)
        dead.write_episode(toy_episode("e0"), durable=False)
        dead.write_episode(toy_episode("e1"), durable=False)
        torn = tmp_path / "e1.episode.safetensors.pending"
        torn.write_bytes(torn.read_bytes()[:-1])  # as after a power cut
        assert [(event.name, event.action) for event in Spool(tmp_path).recovered] == [
            ("e0.episode.safetensors", "published"),
            ("e1.episode.safetensors.pending", "discarded"),
        ]
        same_columns(SpoolReader(tmp_path).read("e0"), toy_episode())
        dead.commit()  # had it lived, another process's recovery would not have disturbed it
        assert SpoolReader(tmp_path).ids() == ["e0"]


class TestLatents:
    def test_added_and_replaced_beside_the_sealed_file(self, tmp_path):
        episode, other = toy_episode(latents=True), "f" * 64
        spool = Spool(tmp_path)
        sealed = spool.write_episode(episode)
        content = sealed.path.read_bytes()
        reader = SpoolReader(tmp_path)
        assert reader.missing_latents(other) == ["e1"]
        for value in (1, 2):
            spool.write_latents("e1", other, np.full((6, 2, 2), value, np.float16), durable=value == 1)
            spool.commit()
            found = reader.read("e1", fingerprint=other)
            assert found.meta.backbone_fingerprint == other
            assert (found.latents == value).all()
            assert found.latents.shape == (6, 2, 2)
        assert reader.missing_latents(other) == reader.missing_latents(FINGERPRINT) == []
        same_columns(reader.read("e1"), episode)
        same_columns(reader.read("e1", fingerprint=FINGERPRINT), episode)
        assert reader.read("e1", latents=False).latents is None
        assert sealed.path.read_bytes() == content

    def test_never_those_of_another_backbone(self, tmp_path):
        spool, reader = Spool(tmp_path), SpoolReader(Spool(tmp_path).root)
        spool.write_episode(toy_episode("with", latents=True))
        spool.write_episode(toy_episode("without"))
        wanted = "a" * 16
        with pytest.raises(DataError, match=r"'with' has latents of '0123456789abcdef': those of backbone 'a{16}' are "
                           r"asked for; encode it with that backbone"):  # fmt: skip
            reader.read("with", fingerprint=wanted)
        with pytest.raises(DataError, match=r"'without' has no latents: those of backbone"):
            reader.read("without", fingerprint=wanted)
        # Equal first 12 digits share a file name; the whole fingerprint decides.
        spool.write_latents("with", "a" * 12 + "b", np.zeros((6, 1, 1), np.float16))
        with pytest.raises(DataError, match=r"latents of backbone 'a{12}b': those of 'a{16}' are asked for; encode"):
            reader.read("with", fingerprint=wanted)
        assert reader.missing_latents(wanted) == ["with", "without"]
        shutil.copy(tmp_path / "with.latents.aaaaaaaaaaaa.safetensors",
                    tmp_path / "without.latents.aaaaaaaaaaaa.safetensors")  # fmt: skip
        with pytest.raises(DataError, match=r"made from another recording: latents belong to one sealed file; delete"):
            reader.read("without", fingerprint="a" * 12 + "b")
        with pytest.raises(DataError, match=r"latents of episode 'with': 5 rows: 6 observations need as many; encode"):
            spool.write_latents("with", wanted, np.zeros((5, 1, 1), np.float16))
        with pytest.raises(
            DataError, match=r"fingerprint 'tiny': 12 to 64 lower-case hexadecimal digits; pass Backbone"
        ):
            spool.write_latents("with", "tiny", np.zeros((6, 1, 1), np.float16))


class TestMisuse:
    def test_of_the_writer(self, tmp_path):
        episode, spool = toy_episode(), Spool(tmp_path)
        writer = open_with(spool, episode, 2)
        order = "an episode is observation, step, observation, .+ stamps increasing"
        with pytest.raises(DataError, match=f"episode 'e1': two observations in a row: {order}; append the step"):
            append_observation(writer, episode, 3)
        with pytest.raises(DataError, match=r"one writer at a time records an episode; use another episode id"):
            spool.open_episode(episode.meta)
        with pytest.raises(DataError, match=r"action sizes .* for 5 action names: .*; give all three"):
            append_steps(writer, dataclasses.replace(episode, commanded=episode.commanded[:, :4]), 2, 3)
        with pytest.raises(DataError, match=r"stamp 7 after 200000007: .*; drop the repeated or late"):
            append_steps(writer, dataclasses.replace(episode, stamps_ns=np.full(6, 7)), 2, 3)
        with pytest.raises(DataError, match=r"3 observations and 3 steps cannot be sealed: .*; append the observation"):
            writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        with pytest.raises(DataError, match=r"observation 3 has .*\(4, 4, 3\).* after .*; keep cameras and sizes"):
            append_observation(writer, toy_episode(cameras={"front": (4, 4)}), 3)
        with pytest.raises(DataError, match=r"instruction 'press the red button' in an .*; seal this episode and open"):
            append_observation(spool.open_episode(toy_episode("e2", instruction="other").meta), episode, 3)
        append_observation(writer, episode, 3)
        writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        same_columns(SpoolReader(tmp_path).read("e1"), episode, 3, ignore=FLAGS)
        with pytest.raises(DataError, match=r"a sealed episode never changes; use another episode id"):
            spool.open_episode(episode.meta)
        with pytest.raises(DataError, match=r"a sealed episode never changes; use another episode id"):
            spool.write_episode(episode)
        assert len(SpoolReader(tmp_path).read("e1")) == 3

    @pytest.mark.parametrize("episode_id", ["", "../x", "a b", "a/b", "ü", "x" * 121])
    def test_ids_that_cannot_name_files(self, tmp_path, episode_id):
        with pytest.raises(DataError, match=r"episode id .*: an id names files: .*; rename the episode"):
            Spool(tmp_path).write_episode(toy_episode(episode_id))

    def test_columns_of_other_types(self, tmp_path):
        episode = toy_episode()
        with pytest.raises(
            DataError, match=r"column executed is float64 \[5, 5\]: float32 of 2 dimensions is required"
        ):
            Spool(tmp_path).write_episode(dataclasses.replace(episode, executed=episode.executed.astype(float)))
        with pytest.raises(DataError, match=r"metadata must survive JSON"):
            Spool(tmp_path).write_episode(toy_episode(control_rate_hz=float("nan")))
        with pytest.raises(DataError, match=r"episode 'e1' has no step: an episode has at least one"):
            Spool(tmp_path).write_episode(toy_episode(steps=0))
        assert os.listdir(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB that can really be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        list(map(file.write, itertools.repeat(b"x" * 4096)))
    return ballast


FULL = (
    r"No space left on device \(0\.0 MB free\): a file is written whole or not at all; free space there and repeat"
)


class TestFullDisk:
    def test_recording_goes_on_after_space_is_freed(self, small_disk):
        episode = toy_episode(steps=8, cameras={"front": (40, 40)})
        writer = open_with(Spool(small_disk), episode, 3)
        ballast = fill(small_disk)
        with pytest.raises(DataError, match=f"e1.log: {FULL}"):
            append_steps(writer, episode, 3, 8)
        t = writer.steps
        assert t < 8
        ballast.unlink()
        with contextlib.suppress(DataError):  # refused when it was the step that found no room, and not its observation
            append_observation(writer, episode, t + 1)
        append_steps(writer, episode, writer.steps, 8)
        fill(small_disk)
        with pytest.raises(DataError, match=f"e1.episode.safetensors: {FULL}"):
            writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        assert sorted(os.listdir(small_disk)) == ["ballast", "e1.log"]
        ballast.unlink()
        writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        same_columns(SpoolReader(small_disk).read("e1"), episode)
        assert os.listdir(small_disk) == ["e1.episode.safetensors"]

    def test_nothing_half_written(self, small_disk):
        spool = Spool(small_disk)
        spool.write_episode(toy_episode("e1"))
        labelled = spool.label("e1", Outcome.FAILURE, "ada", note="x" * 4000)
        ballast = fill(small_disk)
        for durable in (True, False):
            with pytest.raises(DataError, match=f"e2.episode.safetensors: {FULL}"):
                spool.write_episode(toy_episode("e2"), durable=durable)
        with pytest.raises(DataError, match=f"e3.log: {FULL}"):
            spool.open_episode(toy_episode("e3").meta)
        with pytest.raises(DataError, match=FULL):
            spool.write_latents("e1", FINGERPRINT, np.zeros((6, 1, 1), np.float16))
        with pytest.raises(DataError, match=f"e1.labels.jsonl: {FULL}"):
            spool.label("e1", Outcome.SUCCESS, "ada", note="x" * 8000)
        assert sorted(os.listdir(small_disk)) == ["ballast", "e1.episode.safetensors", "e1.labels.jsonl"]
        assert SpoolReader(small_disk).labels("e1").labels == (labelled,)
        ballast.unlink()
        spool.write_episode(toy_episode("e2"))
        same_columns(SpoolReader(small_disk).read("e2"), toy_episode())

    def test_recovery_waits_for_space(self, small_disk):
        leave_log(small_disk, toy_episode(), 4)
        ballast = fill(small_disk)
        with pytest.raises(DataError, match=FULL):
            Spool(small_disk)
        ballast.unlink()
        assert [event.action for event in Spool(small_disk).recovered] == ["recovered"]

    def test_file_size_limit_of_the_process(self, tmp_path):
        # The same without root: the kernel refuses to let any file grow beyond the limit.
        episode = toy_episode(steps=8, cameras={"front": (40, 40)})
        writer = open_with(Spool(tmp_path), episode, 3)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "e1.log").stat().st_size + 2000, hard))
        try:
            with pytest.raises(DataError, match=r"e1\.log: File too large .*; free space there and repeat the call"):
                append_steps(writer, episode, 3, 8)
            with pytest.raises(DataError, match=r"e2\.episode\.safetensors: File too large"):
                Spool(tmp_path).write_episode(toy_episode("e2", steps=40, cameras={"front": (40, 40)}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(tmp_path) == ["e1.log"]
        append_observation(writer, episode, 4)
        append_steps(writer, episode, 4, 8)
        writer.seal(Outcome.SUCCESS, TerminationReason.SUCCESS)
        same_columns(SpoolReader(tmp_path).read("e1"), episode)
