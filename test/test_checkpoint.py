"""Checkpoints and the VLA: round trips, atomicity, verification, and the errors that a person will meet."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from irevla_ros.core.errors import CheckpointError, ConfigError, DataError
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import Observation
from irevla_ros.policy import checkpoint
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import load_head, load_vla, save_head, save_vla
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, CriticHead, HeadConfig
from irevla_ros.policy.tensor_file import read_tensors, write_tensors
from irevla_ros.policy.vla import VLA, build_vla

SMALL = HeadConfig(seeds=2, attention_heads=2, hidden=32)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small_vla() -> VLA:
    backbone = build_backbone("tiny-llava", width=32, cameras=2)
    specs = ActionSpec(("dx", "gripper"), (0.02, 1.0)), ProprioSpec(("z",), (0.1,), (0.2,))
    return build_vla(backbone, action_spec=specs[0], proprio_spec=specs[1], cameras=("front", "wrist"), horizon=3,
                     head=SMALL)  # fmt: skip


def observation(instruction: str = "push the red cube", **replace: object) -> Observation:
    rng = np.random.default_rng(len(instruction))
    images = {name: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for name in ("front", "wrist")}
    return Observation(images | replace, np.array([0.3], np.float32), instruction)  # type: ignore[arg-type]


def test_act_gives_chunks_and_the_latents_to_store() -> None:
    vla = small_vla()
    observations = [observation(), observation("open the drawer")]
    mean, latents = vla.act(observations)
    assert mean.shape == (2, 3, 2) and latents.shape == (2, 128, 32) and latents.dtype == torch.float16
    proprio = torch.tensor([[0.3], [0.3]])
    torch.testing.assert_close(vla.head(latents.float(), proprio), mean)  # stage 1 sees the same action again
    torch.testing.assert_close(vla(*vla.batch(observations)), mean, atol=1e-3, rtol=0)
    assert not mean.requires_grad


def test_cameras_are_read_by_name_not_by_order() -> None:
    vla, seen = small_vla(), observation()
    swapped = Observation(dict(reversed(seen.images.items())), seen.proprio, seen.instruction)
    torch.testing.assert_close(vla.batch([swapped])[0], vla.batch([seen])[0], atol=0, rtol=0)


def test_bad_observations_are_named() -> None:
    vla, seen = small_vla(), observation()
    blind = Observation({"front": seen.images["front"]}, seen.proprio, "push")
    with pytest.raises(DataError) as error:
        vla.act([seen, blind])
    assert str(error.value) == (
        "no frame from camera 'wrist' (frames from: 'front'): the policy needs one from each of ['front', 'wrist']; "
        "check that the camera runs and is named so"
    )
    with pytest.raises(DataError, match=r"frame of camera 'wrist' is uint8 \(32, 32, 3\): the policy sees uint8 \(64"):
        vla.act([observation(wrist=np.zeros((32, 32, 3), np.uint8))])
    with pytest.raises(DataError, match="frame of camera 'front' is float32"):
        vla.act([observation(front=np.zeros((64, 64, 3), np.float32))])
    with pytest.raises(DataError, match=r"proprioception of shape \(2,\): 1 values are required: z"):
        vla.act([Observation(seen.images, np.zeros(2, np.float32), "push")])


def test_parts_that_do_not_fit_are_refused() -> None:
    backbone = build_backbone("tiny-llava", width=32)
    with pytest.raises(ConfigError, match=r"cameras \['a', 'b'\]: backbone 'tiny-llava' sees 1 of them"):
        build_vla(backbone, cameras=("a", "b"), head=SMALL)
    with pytest.raises(ConfigError, match="width 32, 6 .or 0. and 5 are required; build it with build_vla"):
        VLA(backbone, ActionHead(64, 6, 5, config=SMALL), ActionSpec(), ProprioSpec())


def test_round_trip(tmp_path: Path) -> None:
    vla, provenance = small_vla(), {"parent": "sft-1", "seed": 3, "metrics": {"loss": 0.25}}
    save_vla(tmp_path / "a", vla, provenance)
    loaded, found = load_vla(tmp_path / "a")
    assert found == provenance
    assert loaded.backbone.fingerprint() == vla.backbone.fingerprint()
    assert (loaded.action_spec, loaded.proprio_spec, loaded.cameras) == (vla.action_spec, vla.proprio_spec, vla.cameras)
    assert (loaded.head.config, loaded.head.horizon) == (SMALL, 3)
    torch.testing.assert_close(loaded.act([observation()])[0], vla.act([observation()])[0], atol=0, rtol=0)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "backbone.safetensors", "config.json", "head.safetensors", "provenance.json",
    ]  # fmt: skip


def test_replacing_leaves_nothing_behind(tmp_path: Path) -> None:
    save_vla(tmp_path / "a", small_vla(), {"version": 1})
    save_vla(tmp_path / "a", small_vla(), {"version": 2})
    assert load_vla(tmp_path / "a")[1] == {"version": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("survivor", range(8))
def test_a_crash_at_any_step_leaves_one_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivor: int
) -> None:
    """The process dies at its n-th change of a name; what is then on disk must load."""

    class Killed(BaseException):
        pass

    save_vla(tmp_path / "a", small_vla(), {"version": 1})
    calls = 0

    def dying(function):  # type: ignore[no-untyped-def]
        def wrapped(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal calls
            if calls >= survivor:
                raise Killed
            calls += 1
            return function(*args, **kwargs)

        return wrapped

    vla = small_vla()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(Path, "rename", dying(Path.rename))
        patch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))
        with contextlib.suppress(Killed):
            save_vla(tmp_path / "a", vla, {"version": 2})
    loaded, provenance = load_vla(tmp_path / "a")
    assert provenance["version"] in (1, 2)
    assert (loaded.backbone.fingerprint() == vla.backbone.fingerprint()) == (provenance["version"] == 2)
    save_vla(tmp_path / "a", vla, {"version": 3})  # and the next save works
    assert load_vla(tmp_path / "a")[1]["version"] == 3


def test_full_disk_is_one_line_and_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vla(tmp_path / "a", small_vla(), {"version": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\); free space or"):
            save_vla(tmp_path / "a", small_vla(), {"version": 2})
    assert load_vla(tmp_path / "a")[1] == {"version": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


SAVING = """
import os, sys, time
from pathlib import Path
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.policy.vla import build_vla

def stuck(fd):
    print("saving", flush=True)
    time.sleep(600)

vla = build_vla(build_backbone("tiny-llava", width=32))
os.fsync = stuck
save_vla(Path(sys.argv[1]), vla, {})
"""


def test_what_a_killed_save_left_is_cleared_but_never_that_of_a_living_one(tmp_path: Path) -> None:
    foreign = tmp_path / ".photos.2024.tmp"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    saving = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path / "b")], stdout=subprocess.PIPE)
    assert saving.stdout is not None and saving.stdout.readline() == b"saving\n"
    [unfinished] = tmp_path.glob(".b.*.tmp")
    save_vla(tmp_path / "a", small_vla(), {})
    assert [p.name for p in unfinished.iterdir()] == [".backbone.safetensors.tmp"]
    saving.kill()
    saving.communicate()
    assert unfinished.exists()
    save_vla(tmp_path / "a", small_vla(), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".photos.2024.tmp", "a"]
    assert (foreign / "holiday.jpg").exists()


@pytest.mark.parametrize("name", ["policy.pt", "policy.pth", "pytorch_model.bin", "policy.pkl"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(CheckpointError) as error:
        load_vla(tmp_path / name)
    assert str(error.value) == (
        f"{tmp_path / name}: a pickle can run code when it is loaded, only safetensors are read; "
        "convert it with safetensors.torch.save_file on a machine that you can lose"
    )


def test_pickles_are_refused_by_content(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="a pickle can run code"):
        load_head(path, CriticHead(32, 1, SMALL), fingerprint="")
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(CheckpointError, match="a pickle can run code"):
        read_tensors(path)


def test_header_lengths_that_look_like_a_pickle_are_read(tmp_path: Path) -> None:
    """A header of 0x280 bytes begins the file with the magic of a pickle of protocol 2."""
    path = tmp_path / "a.safetensors"
    for filler in range(400, 640):
        write_tensors(path, {"x": torch.arange(3.0)}, {"filler": "x" * filler})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    else:
        pytest.fail("no such header found")
    assert read_tensors(path).tensors["x"].tolist() == [0, 1, 2]


def damage(folder: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if kind == "flipped bit":
        data = bytearray((folder / "head.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "head.safetensors").write_bytes(data)
    elif kind == "cut":
        data = bytearray((folder / "backbone.safetensors").read_bytes())
        (folder / "backbone.safetensors").write_bytes(data[:-100])
    elif kind == "no backbone":
        (folder / "backbone.safetensors").unlink()
    elif kind == "not JSON":
        (folder / "config.json").write_text("{")
    else:
        change = {
            "format": {"format": 99},
            "extra key": {"lora": 3},
            "fingerprint": {"fingerprint": "0" * 64},
            "backbone name": {"backbone": {"name": "tiny-lava"}},
            "other sizes": {"head": {"seeds": 3, "attention_heads": 2, "hidden": 32}},
            "type": {"horizon": "three"},
            "no sums": {"sha256": []},
            "number": {"fingerprint": 3},
            "negative": {"horizon": -1},
            "heads": {"head": {"seeds": 2, "attention_heads": 3, "hidden": 32}},
        }
        config |= change.get(kind, {})
        if kind == "missing key":
            del config["cameras"]
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("flipped bit", r"head.safetensors has SHA-256 .* was recorded; restore the checkpoint from a copy"),
        ("cut", "backbone.safetensors: not a whole safetensors file; restore it from a copy"),
        ("no backbone", r"backbone.safetensors: cannot be read \(No such file or directory\); check the path"),
        ("not JSON", "config.json: not valid JSON"),
        ("format", "has format 99: format 1 is required; load it with the version that wrote it"),
        ("extra key", "config.json has the unknown key 'lora': its keys are action_spec, backbone,"),
        ("missing key", "config.json lacks key 'cameras': its keys are"),
        ("fingerprint", "000000000000 was recorded: code or vocabulary has changed since"),
        ("backbone name", "does not describe a policy .*did you mean 'tiny-llava'"),
        ("other sizes", "head.safetensors tensor '.*' is torch.float32 .* is required"),
        ("type", r"config.json horizon = 'three': it is a int; restore the checkpoint from a copy"),
        ("no sums", r"config.json sha256 = \[\]: it is a dict; restore"),
        ("number", "config.json fingerprint = 3: it is a str; restore"),
        ("negative", "config.json: does not describe a policy"),
        ("heads", r"config.json: does not describe a policy \(latents of width .* with 3 attention heads"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, kind: str, text: str) -> None:
    save_vla(tmp_path / "a", small_vla(), {})
    damage(tmp_path / "a", kind)
    with pytest.raises(CheckpointError, match=text) as error:
        load_vla(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint .*/nowhere: no such folder; check the path, or train first"):
        load_vla(tmp_path / "nowhere")


def test_head_round_trip_and_refusals(tmp_path: Path) -> None:
    vla, path = small_vla(), tmp_path / "heads" / "7.safetensors"
    actor, fingerprint = GaussianActor(vla.head), vla.backbone.fingerprint()
    sha256 = save_head(path, actor, fingerprint=fingerprint, metadata={"version": "7"})
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    fresh = GaussianActor(ActionHead(32, 1, 2, 3, SMALL), std=0.1)
    assert load_head(path, fresh, fingerprint=fingerprint) == {"version": "7"}
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), actor.parameters(), strict=True))
    with pytest.raises(CheckpointError, match=r"is a checkpoint of another backbone \(.*\): its latents mean nothing"):
        load_head(path, fresh, fingerprint=small_vla().backbone.fingerprint())
    with pytest.raises(CheckpointError, match="holds a GaussianActor: a CriticHead is required"):
        load_head(path, CriticHead(32, 1, SMALL), fingerprint=fingerprint)
    with pytest.raises(CheckpointError, match="tensor 'head.out.*' is torch.float32"):
        load_head(path, GaussianActor(ActionHead(32, 1, 2, 1, SMALL)), fingerprint=fingerprint)
    write_tensors(path, {**actor.state_dict(), "extra": torch.zeros(1)},
                  {"kind": "GaussianActor", "backbone": fingerprint})  # fmt: skip
    with pytest.raises(CheckpointError, match="has unknown tensor 'extra': the tensors of GaussianActor are required"):
        load_head(path, fresh, fingerprint=fingerprint)
