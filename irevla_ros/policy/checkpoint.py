"""Checkpoints of a whole VLA (a folder) and of a head alone (a file): safetensors and JSON, atomic, verified on load.

A checkpoint folder holds ``config.json`` (what to build, and the SHA-256 of the tensor files),
``backbone.safetensors``, ``head.safetensors`` and ``provenance.json`` (how it came about: parent, data, metrics, seed,
versions).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from irevla_ros.core.errors import CheckpointError, IrevlaError
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.disk.files import lock_folder, sync_folder
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.head import HeadConfig
from irevla_ros.policy.tensor_file import (
    TensorFile,
    load_into,
    read_tensors,
    refuse_pickle,
    write_bytes,
    write_tensors,
)
from irevla_ros.policy.vla import VLA, build_vla

FORMAT = 1
_UNFINISHED = ".tmp"
_PARTS = {kind.format(name) for name in ("config.json", "provenance.json", "backbone.safetensors", "head.safetensors")
          for kind in ("{}", ".{}.tmp")}  # fmt: skip
_KEYS = {
    "format", "backbone", "head", "horizon", "use_proprio", "action_spec", "proprio_spec", "cameras", "fingerprint",
    "sha256",
}  # fmt: skip


def save_vla(folder: Path, vla: VLA, provenance: Mapping[str, Any]) -> None:
    """Write ``vla`` to ``folder``, replacing an older checkpoint there; ``provenance`` is any JSON object.

    A crash leaves the old checkpoint or the new one readable by ``load_vla``, never a mixture and never none; what else
    it leaves, the next save into the same parent clears away.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear(folder.parent)
    fresh, lock = _begin(folder)
    try:
        fresh.chmod(0o755)
        sha256 = {
            f"{part}.safetensors": write_tensors(fresh / f"{part}.safetensors", module.state_dict(), {})
            for part, module in (("backbone", vla.backbone), ("head", vla.head))
        }
        config = {
            "format": FORMAT,
            "backbone": {"name": vla.backbone.name, **vla.backbone.config},
            "head": asdict(vla.head.config),
            "horizon": vla.head.horizon,
            "use_proprio": vla.head.proprio_size > 0,
            "action_spec": asdict(vla.action_spec),
            "proprio_spec": asdict(vla.proprio_spec),
            "cameras": list(vla.cameras),
            "fingerprint": vla.backbone.fingerprint(),
            "sha256": sha256,
        }
        write_bytes(fresh / "provenance.json", json.dumps(provenance, indent=2, sort_keys=True).encode())
        write_bytes(fresh / "config.json", json.dumps(config, indent=2).encode())
        _replace(folder, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def load_vla(folder: Path, *, sha256: str = "") -> tuple[VLA, dict[str, Any]]:
    """The VLA in ``folder`` and its provenance; ``CheckpointError`` if missing, damaged, unsafe or not ours.

    ``sha256``: what ``checkpoint_digest`` must give, "" for whatever it is.
    """
    refuse_pickle(folder)
    folder = _readable(folder)
    if sha256:
        _require(folder / "config.json", checkpoint_digest(folder), sha256)
    config = _read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {config.get('format')!r}", f"format {FORMAT} is required",
                              "load it with the version that wrote it")  # fmt: skip
    for problem, keys in (("lacks", _KEYS - config.keys()), ("has the unknown", config.keys() - _KEYS)):
        if keys:
            raise CheckpointError(f"{folder / 'config.json'} {problem} key {min(keys)!r}",
                                  f"its keys are {', '.join(sorted(_KEYS))}",
                                  "load it with the version that wrote it")  # fmt: skip
    for key, kind in (("sha256", dict), ("fingerprint", str), ("cameras", list), ("horizon", int), ("use_proprio", bool)):
        if not isinstance(config[key], kind):
            raise CheckpointError(f"{folder / 'config.json'} {key} = {config[key]!r}", f"it is a {kind.__name__}",
                                  "restore the checkpoint from a copy")  # fmt: skip
    vla = _build(folder / "config.json", config)
    for part, module in (("backbone", vla.backbone), ("head", vla.head)):
        path = folder / f"{part}.safetensors"
        load_into(module, _verified(path, config["sha256"].get(path.name)), path)
    if vla.backbone.fingerprint() != config["fingerprint"]:
        raise CheckpointError(f"{folder} backbone fingerprint {vla.backbone.fingerprint()[:12]}",
                              f"{config['fingerprint'][:12]} was recorded: code or vocabulary has changed since",
                              "load it with the version that wrote it")  # fmt: skip
    return vla, _read_json(folder / "provenance.json")


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 of the checkpoint's config.json, and so, through the sums in it, of its weights; ``CheckpointError``."""
    path = _readable(folder) / "config.json"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}", f"cannot be read ({error.strerror})", "check the path") from error


def save_head(path: Path, head: nn.Module, *, fingerprint: str, metadata: Mapping[str, str]) -> str:
    """Write a head (actor, critic, ...) for the backbone with ``fingerprint``; returns the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = {"kind": type(head).__name__, "backbone": fingerprint}
    return write_tensors(path, head.state_dict(), {**metadata, **own})


def load_head(path: Path, head: nn.Module, *, fingerprint: str, sha256: str = "") -> dict[str, str]:
    """Load the file into ``head`` and return its metadata; ``CheckpointError`` if of another backbone or kind.

    ``sha256``: that of the file as ``save_head`` returned it, "" for whatever it is.
    """
    file = read_tensors(path)
    if sha256:
        _require(path, file.sha256, sha256)
    kind, backbone = file.metadata.get("kind", "unknown"), file.metadata.get("backbone", "unknown")
    if backbone != fingerprint:
        raise CheckpointError(f"{path} is a checkpoint of another backbone ({backbone[:12]})",
                              f"its latents mean nothing to backbone {fingerprint[:12]}",
                              "load the backbone that it was trained on, or train a new head")  # fmt: skip
    if kind != type(head).__name__:
        raise CheckpointError(f"{path} holds a {kind}", f"a {type(head).__name__} is required", "check the path")
    load_into(head, file, path)
    return {key: value for key, value in file.metadata.items() if key not in ("kind", "backbone")}


def _begin(folder: Path) -> tuple[Path, int]:
    """A new folder beside ``folder``, and the lock which says that its writer lives."""
    while True:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_UNFINISHED, dir=folder.parent))
        lock = lock_folder(fresh)
        if lock is not None:
            return fresh, lock
        # Somebody who clears up took it, between the two calls, for that of a dead writer.


def _clear(parent: Path) -> None:
    """Remove what writers left that died while they saved; living ones hold their folder's lock.

    A folder with anything else in it is not ours.
    """
    for unfinished in parent.glob(f".*.*{_UNFINISHED}"):
        with contextlib.suppress(OSError):  # somebody else's folder is no reason not to save
            if not {path.name for path in unfinished.iterdir()} <= _PARTS:
                continue
            lock = lock_folder(unfinished)
            if lock is not None:
                shutil.rmtree(unfinished, ignore_errors=True)
                os.close(lock)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _replace(folder: Path, fresh: Path) -> None:
    """Swap ``fresh`` in. Folders cannot be replaced by one rename, so for a moment only ``_previous`` is there."""
    previous = _previous(folder)
    if folder.exists():
        if previous.exists():
            shutil.rmtree(previous)
        folder.rename(previous)
    fresh.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _readable(folder: Path) -> Path:
    for candidate in (folder, _previous(folder)):
        if candidate.is_dir():
            return candidate
    raise CheckpointError(f"checkpoint {folder}", "no such folder", "check the path, or train first")


def _build(path: Path, config: Mapping[str, Any]) -> VLA:
    try:
        return build_vla(
            build_backbone(**config["backbone"]),
            action_spec=ActionSpec(**{k: tuple(v) for k, v in config["action_spec"].items()}),
            proprio_spec=ProprioSpec(**{k: tuple(v) for k, v in config["proprio_spec"].items()}),
            cameras=config["cameras"],
            horizon=config["horizon"],
            use_proprio=config["use_proprio"],
            head=HeadConfig(**config["head"]),
        )
    except (IrevlaError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}", f"does not describe a policy ({' '.join(str(error).split())})",
                              "load it with the version that wrote it") from error  # fmt: skip


def _verified(path: Path, recorded: str | None) -> TensorFile:
    file = read_tensors(path)
    _require(path, file.sha256, recorded)
    return file


def _require(path: Path, found: str, recorded: str | None) -> None:
    if found != recorded:
        raise CheckpointError(f"{path} has SHA-256 {found[:12]}", f"{str(recorded)[:12]} was recorded",
                              "restore the checkpoint from a copy")  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}", f"cannot be read ({error.strerror})", "check the path") from error
    except ValueError as error:
        raise CheckpointError(f"{path}", "not valid JSON", "restore the checkpoint from a copy") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}", "a JSON object is required", "restore the checkpoint from a copy")
    return content
