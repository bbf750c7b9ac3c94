"""The supervised job as the learner starts it: a real process on a tiny data set, killed, stopped, misled."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.config import to_dict
from irevla_ros.core.errors import CheckpointError, ConfigError, DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.config import RunConfig, SupervisedConfig
from irevla_ros.jobs.jsonfile import write_json
from irevla_ros.jobs.supervised_job import job_command, main, read_progress, read_result
from irevla_ros.jobs.supervised_manifest import (
    CheckpointRef,
    EpisodeRef,
    Source,
    SupervisedManifest,
    manifest_for,
    read_manifest,
    write_manifest,
)
from irevla_ros.learn.irevla import RunSupervised
from irevla_ros.learn.supervised import BCConfig
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import checkpoint_digest, load_vla, save_vla
from irevla_ros.policy.tensor_file import read_tensors, write_tensors
from irevla_ros.policy.vla import VLA, build_vla
from spool_toys import toy_episode

ROOT = Path(__file__).parent.parent
PATIENCE_S = 240.0
STEPS = 200


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the spools ``expert`` and ``practice`` and the checkpoints ``sft`` and ``stage1`` of a tiny VLA."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, count in (("expert", 4), ("practice", 2)):
        spool = Spool(folder / name)
        for number in range(count):
            task = f"{name}-{number % 2}"
            mode = Mode.DEMO if name == "expert" else Mode.TRAIN
            spool.write_episode(toy_episode(f"{name}-{number}", 6, number, cameras={"front": (64, 64)}, task=task, mode=mode))
    Spool(folder / "expert").write_episode(
        toy_episode("expert-failed", 6, 9, cameras={"front": (64, 64)}, mode=Mode.DEMO, outcome=Outcome.FAILURE)
    )
    for seed, name in enumerate(("sft", "stage1")):
        save_vla(folder / "checkpoints" / name, make_tiny_vla(seed), {})
    return folder


def make_tiny_vla(seed: int) -> VLA:
    torch.manual_seed(seed)
    return build_vla(build_backbone("tiny-llava", width=32))


def config(**settings: object) -> RunConfig:
    supervised = SupervisedConfig(batch=8, expert_share=0.75, stage2_lr=0.5)
    return dataclasses.replace(RunConfig(workers=2, seed=3, supervised=supervised), **settings)


def stage2(inputs: Path, **changes: object) -> SupervisedManifest:
    command = RunSupervised(2, "sft", "stage1", ("expert", "rl"), "all", STEPS, "stage2")
    manifest = manifest_for(command, config(), checkpoints=inputs / "checkpoints", expert=inputs / "expert",
                            practice=inputs / "practice", d_rl=["practice-1", "practice-0"])  # fmt: skip
    return dataclasses.replace(manifest, **changes)


def start(manifest: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*job_command(manifest, die_with_parent=False), *arguments], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)


def nobody_is_left(session: int) -> bool:
    """Within 20 s no process of that session is alive."""

    def alive() -> bool:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, its_session = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_session) == session and state != "Z":
                return True
        return False

    deadline = time.monotonic() + 20
    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive()


def steps_kept(folder: Path) -> int:
    """Steps in the snapshot; 0 while there is none."""
    path = folder / "snapshot.safetensors"
    return int(read_tensors(path).tensors["counter.steps_done"]) if path.is_file() else 0


def weights(checkpoint: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((checkpoint / "config.json").read_text())["sha256"]
    return found


@pytest.mark.timeout(900)  # four lives of the job; under a minute when the machine is idle
def test_a_job_that_is_killed_twice_ends_with_the_weights_of_an_undisturbed_one(inputs: Path, tmp_path: Path) -> None:
    whole = write_manifest(tmp_path / "whole", stage2(inputs, save_as=tmp_path / "whole" / "result"))
    process = start(whole)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr

    killed = write_manifest(tmp_path / "killed", stage2(inputs, save_as=tmp_path / "killed" / "result"))
    folder, kept = killed.parent, 0
    for wanted in (1, 41):  # steps in the snapshot: the second life gets further than the first
        process = start(killed, "--snapshot-s", "0")
        wait_until(lambda wanted=wanted: steps_kept(folder) >= wanted, process)
        os.kill(process.pid, signal.SIGKILL)  # the job alone: its workers have to notice
        process.communicate()
        assert nobody_is_left(process.pid)
        assert steps_kept(folder) > kept and read_result(killed) is None
        kept = steps_kept(folder)
    assert 41 <= kept < STEPS
    process = start(killed)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr

    assert weights(folder / "result") == weights(whole.parent / "result")
    first, second = read_result(whole), read_result(killed)
    assert first is not None and second is not None
    assert first.metrics == second.metrics and first.sha256 == second.sha256
    assert second.checkpoint == folder / "result" and second.sha256 == checkpoint_digest(folder / "result")
    progress = read_progress(killed)
    assert progress is not None
    assert (progress.step, progress.steps, progress.loss) == (STEPS, STEPS, second.metrics["loss"])
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "manifest.json", "progress.json", "result", "result.json"]
    assert load_vla(folder / "result")[1]["seed"] == 3


def test_a_job_stops_cleanly_with_sigterm_and_with_its_parent(inputs: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "job", stage2(inputs, save_as=tmp_path / "result", workers=1,
                                                       training=BCConfig(steps=100_000)))  # fmt: skip

    def works() -> bool:
        progress = read_progress(manifest)
        return progress is not None and progress.step > 0

    process = start(manifest)
    wait_until(works, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr.splitlines()[-1] == f"irevla: stopped; the same command goes on with {manifest}"
    assert "Traceback" not in stderr
    assert nobody_is_left(process.pid)

    (tmp_path / "job" / "progress.json").unlink()
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)",
         *job_command(manifest, die_with_parent=True)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    wait_until(works, parent)
    refused = subprocess.run(job_command(manifest, die_with_parent=False), env={**os.environ, "PYTHONPATH": str(ROOT)},
                             capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr == f"irevla: error: job {manifest.parent}: another process works in this folder; wait for it\n"
    parent.kill()
    parent.wait()
    assert nobody_is_left(parent.pid)


def test_a_job_that_is_done_is_not_done_again_unless_its_checkpoint_is_gone(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vla(tmp_path / "result", make_tiny_vla(5), {})
    path = tmp_path / "manifest.json"
    write_json(path, to_dict(stage2(inputs, save_as=Path("result"))))  # beside the manifest
    done = {"manifest": read_manifest(path).digest(), "checkpoint": str(tmp_path / "result"),
            "sha256": checkpoint_digest(tmp_path / "result"), "metrics": {"loss": 0.25}, "wall_s": 2.0}  # fmt: skip
    write_json(tmp_path / "result.json", done)
    before = (tmp_path / "result" / "config.json").stat().st_mtime_ns
    assert main([str(path)]) == 0
    assert (tmp_path / "result" / "config.json").stat().st_mtime_ns == before
    found = read_result(path)
    assert found is not None and found.metrics == {"loss": 0.25}

    write_manifest(tmp_path, stage2(inputs, save_as=tmp_path / "result", seed=4))
    assert main([str(path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"irevla: error: {tmp_path}/result.json: it is the result of another manifest than manifest.json; "
        "give each manifest a folder of its own"
    )
    write_json(path, to_dict(stage2(inputs, save_as=Path("result"))))
    (tmp_path / "result" / "config.json").write_text("{}")
    assert read_result(path) is None


def test_wrong_usage_is_one_line_and_the_users_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 1
    assert main([str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"irevla: error: {tmp_path}/none.json: the file does not exist; give the path of a manifest"
    ]


def test_a_damaged_snapshot_is_named_and_one_of_another_manifest_is_not_used(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = stage2(inputs, save_as=tmp_path / "result", workers=1, training=BCConfig(steps=2))
    path = write_manifest(tmp_path, manifest)
    snapshot = tmp_path / "snapshot.safetensors"
    write_tensors(snapshot, {}, {"key": manifest.digest()})
    assert main([str(path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"irevla: error: {snapshot}: 'random.0': a snapshot holds the whole state of its training; "
        "delete it, and the training begins anew"
    )
    write_tensors(snapshot, {}, {"key": "another"})
    assert main([str(path)]) == 0
    assert not snapshot.exists()


def test_the_job_needs_no_simulator() -> None:
    script = "import sys, irevla_ros.jobs.supervised_job\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {name.partition(".")[0] for name in result.stdout.split()} & {"pybullet", "gymnasium", "matplotlib", "zenoh"}


# ---- the manifest


def test_the_manifest_of_stage_2_holds_what_algorithm_1_says(inputs: Path) -> None:
    manifest = stage2(inputs)
    records = {name: SpoolReader(inputs / name) for name in ("expert", "practice")}
    expert, rl = manifest.sources
    assert [episode.id for episode in expert.episodes] == ["expert-0", "expert-1", "expert-2", "expert-3"]  # successes
    assert [episode.id for episode in rl.episodes] == ["practice-1", "practice-0"]  # in the order of D_RL
    assert rl.episodes[0].sha256 == records["practice"].record("practice-1").sha256
    assert (expert.weight, rl.weight) == (0.75, 0.25)
    assert (manifest.training.steps, manifest.training.backbone_lr, manifest.training.head_lr) == (STEPS, 5e-4, 5e-4)
    assert (manifest.batch, manifest.seed, manifest.workers, manifest.trains) == (8, 3, 2, "all")
    assert manifest.init_from == CheckpointRef(inputs / "checkpoints" / "sft", checkpoint_digest(inputs / "checkpoints/sft"))
    assert manifest.head_from is not None and manifest.head_from.folder.name == "stage1"
    assert manifest.save_as == inputs / "checkpoints" / "stage2"


def test_the_manifest_of_stage_0_starts_from_shipped_weights(inputs: Path) -> None:
    command = RunSupervised(0, "", "", ("expert",), "all", 10, "sft")
    manifest = manifest_for(command, config(), checkpoints=inputs / "checkpoints", expert=inputs / "expert")
    assert (manifest.init_from, manifest.head_from, len(manifest.sources)) == (None, None, 1)
    assert (manifest.training.backbone_lr, manifest.sources[0].weight) == (1e-3, 1.0)
    elsewhere = RunSupervised(2, "/other/run/sft", "", ("expert", "rl"), "all", 10, "x")
    with pytest.raises(ConfigError, match="stage 2 reads D_RL from the spool of practice; give practice="):
        manifest_for(elsewhere, config(), checkpoints=inputs / "checkpoints", expert=inputs / "expert")
    with pytest.raises(CheckpointError, match="^checkpoint /other/run/sft: no such folder"):
        manifest_for(elsewhere, config(), checkpoints=inputs / "checkpoints", expert=inputs / "expert",
                     practice=inputs / "practice")  # fmt: skip


HEX = "0123456789abcdef" * 4


@given(
    ids=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,20}", fullmatch=True), min_size=1, max_size=4, unique=True),
    weight=st.floats(0.01, 100), seed=st.integers(0, 2**40), lr=st.floats(1e-9, 1), revision=st.integers(0, 99),
    provenance=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5)),
    head=st.booleans(), augmented=st.booleans(),
)  # fmt: skip
def test_a_manifest_survives_its_file(
    ids: list[str], weight: float, seed: int, lr: float, revision: int, provenance: dict[str, object], head: bool,
    augmented: bool, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    ref = CheckpointRef(Path("a/b"), HEX)
    manifest = SupervisedManifest(
        (Source(Path("spool"), weight, tuple(EpisodeRef(name, HEX, revision) for name in ids)),), BCConfig(3, lr, lr), 4,
        seed, "tiny", ("front",), Path("out"), init_from=ref, head_from=ref if head else None,
        trains="head" if head else "all", provenance=provenance,
    )  # fmt: skip
    if not augmented:
        manifest = dataclasses.replace(manifest, augmentation=None)
    path = write_manifest(tmp_path_factory.mktemp("m"), manifest)
    assert read_manifest(path) == manifest.located(Path.cwd())
    write_json(path, to_dict(manifest))
    assert read_manifest(path) == manifest
    assert read_manifest(path).digest() == manifest.digest()
    located = manifest.located(Path("/job"))
    assert located.init_from == CheckpointRef(Path("/job/a/b"), HEX)
    assert (located.sources[0].spool, located.save_as) == (Path("/job/spool"), Path("/job/out"))
    assert located.located(Path("/elsewhere")) == located


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "key 'stepz': no such key in SupervisedManifest"),
        ({"batch": 0}, "batch = 0: it is at least 1"),
        ({"batch": 8.5}, r"batch = 8.5: a whole number \(int\) is required"),
        ({"seed": True}, r"seed = True: a whole number \(int\) is required"),
        ({"format": 2}, "manifest of format 2: this version reads 1"),
        ({"trains": "hed"}, "trains = 'hed': one of 'all', 'head' is required; .*did you mean 'head'"),
        ({"cameras": ["front", "front"]}, "a policy sees at least one camera, and each once"),
        ({"backbone": "tiney"}, "backbone 'tiney'"),
        ({"sources": []}, "sources with 0 episodes: one with a weight above 0 has an episode"),
        ({"init_from": None}, "head_from = .*: a head is taken over onto the weights of init_from"),
        ({"init_from": {"folder": "a", "sha256": "12"}}, "sha256 '12' of checkpoint a: it is 64 hexadecimal digits"),
        ({"training": {"steps": 3, "head_lr": float("nan")}}, "head_lr = nan: a finite number is required"),
        ({"sources": [{"spool": "s", "weight": float("inf"), "episodes": []}]}, "weight = inf: a finite number is required"),
        ({"sources": [{"spool": "s", "weight": 1, "episodes": [{"id": "../x", "sha256": HEX}]}]}, r"episode id '\.\./x'"),
        ({"sources": [{"spool": "s", "weight": 1, "episodes": [{"id": "x", "sha256": HEX}] * 2}]}, "episode 'x' of s twice"),
        ({"sources": [{"spool": "s", "weight": 1, "episodes": [{"id": "x", "sha256": HEX, "label_revision": -1}]}]},
         "label_revision -1 of episode 'x': it is not negative"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_by_name(inputs: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {**to_dict(stage2(inputs)), **change})
    with pytest.raises(ConfigError, match=message) as error:
        read_manifest(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="holds a list: a configuration is a mapping"):
        read_manifest(path)


def test_inputs_that_have_changed_are_refused(inputs: Path, tmp_path: Path) -> None:
    own = tmp_path / "inputs"
    shutil.copytree(inputs, own)
    manifest = stage2(own)
    manifest.verify()

    spool = Spool(own / "practice")
    spool.label("practice-0", Outcome.SUCCESS, "operator")  # confirmed: what was meant is still so
    manifest.verify()
    spool.label("practice-0", Outcome.FAILURE, "operator")
    with pytest.raises(DataError, match="'practice-0' .* is failure since label revision 2: the manifest was made at revision "
                                        "0, when it was success; make the manifest anew"):  # fmt: skip
        manifest.verify()
    spool.label("practice-0", Outcome.SUCCESS, "operator", discard=True)
    with pytest.raises(DataError, match="'practice-0' .* is discarded since label revision 3"):
        manifest.verify()
    spool.label("practice-0", None, "operator")
    manifest = stage2(own)
    (own / "practice" / "practice-0.labels.jsonl").unlink()
    with pytest.raises(DataError, match="has label revision 0: the manifest was made at 4"):
        manifest.verify()

    (own / "practice" / "practice-1.episode.safetensors").unlink()
    with pytest.raises(DataError, match="episode 'practice-1': there is no sealed episode of that id"):
        manifest.verify()
    Spool(own / "practice").write_episode(toy_episode("practice-1", 6, 77, cameras={"front": (64, 64)}))
    with pytest.raises(DataError, match="episode 'practice-1' .* has content .*: the manifest names"):
        manifest.verify()

    save_vla(own / "checkpoints" / "stage1", make_tiny_vla(8), {})
    with pytest.raises(CheckpointError, match="stage1 has config.json .*: the manifest names .*; restore the checkpoint"):
        manifest.verify()


def test_contents_are_checked_when_they_are_read(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit in a frame passes the header's checksum, which is all that ``verify`` reads."""
    own = tmp_path / "inputs"
    shutil.copytree(inputs, own)
    manifest = stage2(own, workers=1, training=BCConfig(steps=2))
    path = write_manifest(tmp_path / "job", manifest)
    episode = own / "expert" / "expert-2.episode.safetensors"
    content = np.frombuffer(episode.read_bytes(), np.uint8).copy()
    content[len(content) // 2] ^= 1
    episode.write_bytes(content.tobytes())
    manifest.verify()
    assert main([str(path)]) == 1
    assert "expert-2.episode.safetensors: content checksum differs" in capsys.readouterr().err
    assert read_result(path) is None

