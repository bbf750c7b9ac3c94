"""What a supervised stage is to do, as one JSON file that names every input by its content.

Inputs are pinned by SHA-256: a job that starts again a day later, or on another machine, trains on the same bytes or
refuses. Relative paths in the file count from its folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from irevla_ros import __version__
from irevla_ros.core.config import config_from, to_dict
from irevla_ros.core.errors import CheckpointError, ConfigError, DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.files import check_id
from irevla_ros.data.labels import LabelHistory
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.irevla import RunSupervised
from irevla_ros.learn.supervised import BCConfig
from irevla_ros.policy.backbone import resolve_backbone
from irevla_ros.policy.checkpoint import checkpoint_digest

if TYPE_CHECKING:  # it knows the simulator, which a machine that only trains need not have
    from irevla_ros.jobs.config import RunConfig

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint folder; ``sha256`` is that of its config.json, which holds those of its tensor files."""

    folder: Path
    sha256: str

    def __post_init__(self) -> None:
        _check_sha256(f"checkpoint {self.folder}", self.sha256)


@dataclass(frozen=True)
class EpisodeRef:
    """A sealed episode: ``sha256`` is its content hash (``EpisodeRecord.sha256``), ``label_revision`` the last one seen."""

    id: str
    sha256: str
    label_revision: int = 0

    def __post_init__(self) -> None:
        check_id(self.id)
        _check_sha256(f"episode {self.id!r}", self.sha256)
        if self.label_revision < 0:
            raise ConfigError(f"label_revision {self.label_revision} of episode {self.id!r}", "it is not negative",
                              "give 0 for an episode without labels")  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Episodes of one spool, in the order that decides the result; ``weight`` is their share of each batch.

    A source without episodes leaves its share to the others.
    """

    spool: Path
    weight: float
    episodes: tuple[EpisodeRef, ...]

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < math.inf:
            raise ConfigError(f"weight {self.weight} of {self.spool}", "a share is finite and not negative", "give 1, say")
        names = [episode.id for episode in self.episodes]
        if len(set(names)) < len(names):
            twice = next(name for name, following in itertools.pairwise(sorted(names)) if name == following)
            raise ConfigError(f"episode {twice!r} of {self.spool} twice", "a source has each episode once",
                              "leave one out, or raise the weight of the source")  # fmt: skip


@dataclass(frozen=True)
class SupervisedManifest:
    """Behaviour cloning of a VLA: inputs, recipe, and the checkpoint folder ``save_as`` for the result.

    init_from: where the weights start; None: the shipped weights of ``backbone`` and a new head. head_from: where the head
    starts; None: the head of ``init_from``. trains: the whole VLA or its head. training: steps and learning rates.
    batch: samples a step, shared among ``workers`` processes. cameras: in the order of the backbone's input.
    provenance: goes into the checkpoint.
    """

    sources: tuple[Source, ...]
    training: BCConfig
    batch: int
    seed: int
    backbone: str
    cameras: tuple[str, ...]
    save_as: Path
    init_from: CheckpointRef | None = None
    head_from: CheckpointRef | None = None
    trains: Literal["all", "head"] = "all"
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    workers: int = 1
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ConfigError(f"manifest of format {self.format}", f"this version reads {FORMAT}",
                              "run it with the version that wrote it")  # fmt: skip
        for name, least in (("batch", 1), ("workers", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)}", f"it is at least {least}", "raise it")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"cameras = {list(self.cameras)}", "a policy sees at least one camera, and each once",
                              "name each camera once")  # fmt: skip
        if not any(source.weight > 0 and source.episodes for source in self.sources):
            raise ConfigError(f"sources with {sum(len(source.episodes) for source in self.sources)} episodes",
                              "one with a weight above 0 has an episode", "record some, or give a weight")  # fmt: skip
        if self.head_from is not None and self.init_from is None:
            raise ConfigError(f"head_from = {self.head_from.folder}", "a head is taken over onto the weights of init_from",
                              "give init_from too, or leave out head_from")  # fmt: skip
        resolve_backbone(self.backbone)

    def digest(self) -> str:
        """SHA-256 of what it says, however the file is laid out."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()

    def located(self, folder: Path) -> SupervisedManifest:
        """The same with absolute paths, relative ones counted from ``folder``."""
        base = folder.resolve()

        def checkpoint(ref: CheckpointRef | None) -> CheckpointRef | None:
            return None if ref is None else replace(ref, folder=base / ref.folder)

        return replace(self, init_from=checkpoint(self.init_from), head_from=checkpoint(self.head_from),
                       sources=tuple(replace(source, spool=base / source.spool) for source in self.sources),
                       save_as=base / self.save_as)  # fmt: skip

    def verify(self) -> None:
        """Are the checkpoints and episodes those that were meant? Contents are checked where they are read.

        Raises:
            CheckpointError, DataError: one is missing or another, or an episode has been discarded or judged anew since.
        """
        for ref in (self.init_from, self.head_from):
            if ref is not None and (found := checkpoint_digest(ref.folder)) != ref.sha256:
                raise CheckpointError(f"checkpoint {ref.folder} has config.json {found[:12]}",
                                      f"the manifest names {ref.sha256[:12]}",
                                      "restore the checkpoint, or make the manifest anew")  # fmt: skip
        for source in self.sources:
            if source.episodes:
                reader = SpoolReader(source.spool)
                for episode in source.episodes:
                    _verify_episode(reader, episode)


def read_manifest(path: Path) -> SupervisedManifest:
    """Raises ``DataError`` when the file is missing or not JSON, ``ConfigError`` naming key, value and rule otherwise."""
    return config_from(SupervisedManifest, read_json(path, "give the path of a manifest"), str(path))


def write_manifest(folder: Path, manifest: SupervisedManifest) -> Path:
    """Keep it as ``folder``/manifest.json, relative paths (of this process's working directory) made absolute."""
    path = folder / "manifest.json"
    write_json(path, to_dict(manifest.located(Path.cwd())))
    return path


def manifest_for(
    command: RunSupervised,
    config: RunConfig,
    *,
    checkpoints: Path,
    expert: Path,
    practice: Path | None = None,
    d_rl: Sequence[str] = (),
) -> SupervisedManifest:
    """The manifest of a supervised stage of Algorithm 1; its paths are as they are given (``write_manifest`` completes them).

    checkpoints: the folder in which the command's names lie. expert: spool of D_e, of which the successes count.
    practice and d_rl: the spool of practice and the ids of D_RL in it, wanted where the command's data include "rl"; of
    these, too, the successes count: a person may have judged otherwise since they were chosen.
    """
    recipe = config.supervised
    spools = {"expert": SpoolReader(expert)}
    chosen = {"expert": spools["expert"].episodes(mode=Mode.DEMO, outcome=Outcome.SUCCESS)}
    if not chosen["expert"]:
        raise DataError(f"demonstrations {expert}", "no success of mode demo is there to learn from",
                        "see irevla episodes list")  # fmt: skip
    weights = {"expert": 1.0}
    if "rl" in command.data:
        if practice is None:
            raise ConfigError(f"{command}", "stage 2 reads D_RL from the spool of practice", "give practice=")
        spools["rl"] = SpoolReader(practice)
        found = map(spools["rl"].record, d_rl)
        chosen["rl"] = [one for one in found if one.meta.outcome is Outcome.SUCCESS and not one.discarded]
        weights = {"expert": recipe.expert_share, "rl": 1.0 - recipe.expert_share}
    scale = 1.0 if command.stage == 0 else recipe.stage2_lr
    return SupervisedManifest(
        sources=tuple(Source(spools[name].root, weights[name], tuple(map(_reference, chosen[name])))
                      for name in chosen),
        training=BCConfig(command.steps, scale * recipe.backbone_lr, scale * recipe.head_lr),
        batch=recipe.batch,
        seed=config.seed,
        backbone=config.backbone,
        cameras=tuple(config.scene.cameras),
        save_as=checkpoint_folder(checkpoints, command.save_as),
        init_from=_checkpoint(checkpoints, command.init_from),
        head_from=_checkpoint(checkpoints, command.head_from) if command.init_from else None,
        trains="all" if command.trains == "all" else "head",
        augmentation=recipe.augmentation,
        workers=config.workers,
        provenance={
            "command": repr(command), "seed": config.seed, "irevla_ros": __version__, "torch": torch.__version__,
            "data": {name: spools[name].dataset_fingerprint(records) for name, records in chosen.items()},
        },
    )  # fmt: skip


def checkpoint_folder(checkpoints: Path, name: str) -> Path:
    """Where the checkpoint that the state machine calls ``name`` lies; that of another run is an absolute path."""
    return checkpoints / name


def _checkpoint(checkpoints: Path, name: str) -> CheckpointRef | None:
    if not name:
        return None
    folder = checkpoint_folder(checkpoints, name)
    return CheckpointRef(folder, checkpoint_digest(folder))


def _reference(record: EpisodeRecord) -> EpisodeRef:
    return EpisodeRef(record.episode_id, record.sha256, record.label_revision)


def _verify_episode(reader: SpoolReader, episode: EpisodeRef) -> None:
    record = reader.record(episode.id)
    where, remedy = f"episode {episode.id!r} of {reader.root}", "make the manifest anew, or restore the spool"
    if record.sha256 != episode.sha256:
        raise DataError(f"{where} has content {record.sha256[:12]}", f"the manifest names {episode.sha256[:12]}", remedy)
    if record.label_revision < episode.label_revision:
        raise DataError(f"{where} has label revision {record.label_revision}",
                        f"the manifest was made at {episode.label_revision}", remedy)  # fmt: skip
    seen = LabelHistory(reader.labels(episode.id).labels[: episode.label_revision])
    before = (seen.outcome(record.sealed_outcome), seen.discarded)
    if before != (record.meta.outcome, record.discarded):
        now = "discarded" if record.discarded else record.meta.outcome.value
        raise DataError(f"{where} is {now} since label revision {record.label_revision}",
                        f"the manifest was made at revision {episode.label_revision}, when it was "
                        f"{'discarded' if seen.discarded else before[0].value}", remedy)  # fmt: skip


def _check_sha256(what: str, text: str) -> None:
    if not _SHA256.fullmatch(text):
        raise ConfigError(f"sha256 {text!r} of {what}", "it is 64 hexadecimal digits, lower case", "copy it whole")
