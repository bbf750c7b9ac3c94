"""The names of the spool's files, and back."""

from __future__ import annotations

import re
from pathlib import Path

LOG = ".log"
SEALED = ".episode.safetensors"
LABELS = ".labels.jsonl"
SIDE = ".side"
_LATENTS = re.compile(r"(?P<id>.+)\.latents\.(?P<start>[0-9a-f]{12})\.safetensors")


def spool_of(folder: Path) -> Path:
    """``folder`` itself, or, of a run's folder, the spool of what its arms recorded."""
    return folder / "practice" if (folder / "practice").is_dir() else folder


def log_path(root: Path, episode_id: str) -> Path:
    return root / f"{episode_id}{LOG}"


def sealed_path(root: Path, episode_id: str) -> Path:
    return root / f"{episode_id}{SEALED}"


def label_path(root: Path, episode_id: str) -> Path:
    return root / f"{episode_id}{LABELS}"


def side_path(root: Path, episode_id: str) -> Path:
    return root / f"{episode_id}{SIDE}"


def latents_path(root: Path, episode_id: str, fingerprint: str) -> Path:
    return root / f"{episode_id}.latents.{fingerprint[:12]}.safetensors"


def split_latents(name: str) -> tuple[str, str] | None:
    """Episode id and first 12 digits of the fingerprint of a latents file's name; None for any other name."""
    found = _LATENTS.fullmatch(name)
    return (found["id"], found["start"]) if found else None
