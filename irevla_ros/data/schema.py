"""Format 1 of a sealed episode: which columns, which types, which metadata, and the way to and from ``Episode``."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Episode, EpisodeMeta, Mode, Outcome, TerminationReason
from irevla_ros.data.codecs import ImageCodec
from irevla_ros.data.container import AnyArray, Bytes, Container

FORMAT = "irevla-episode"
LATENTS_FORMAT = "irevla-latents"
VERSION = "1"
PER_STEP: Mapping[str, tuple[str, int]] = {  # column -> type, number of dimensions
    "proposed": ("float32", 2),
    "executed": ("float32", 2),
    "commanded": ("float32", 2),
    "source": ("uint8", 1),
    "log_prob": ("float32", 1),
    "head_version": ("int64", 1),
    "reward": ("float32", 1),
    "terminated": ("bool", 1),
    "truncated": ("bool", 1),
}
PER_OBSERVATION: Mapping[str, tuple[str, int]] = {"proprio": ("float32", 2), "stamps_ns": ("int64", 1)}
_CAMERA = re.compile(r"[A-Za-z0-9_-]{1,60}")
_FINGERPRINT = re.compile(r"[0-9a-f]{12,64}")


def check_column(what: str, name: str, array: AnyArray, dtype: str, dimensions: int) -> AnyArray:
    """The column itself when type and number of dimensions are those of the format; ``DataError`` otherwise."""
    if array.dtype != dtype or array.ndim != dimensions:
        raise DataError(f"{what} column {name} is {array.dtype} {list(array.shape)}",
                        f"{dtype} of {dimensions} dimensions is required", "convert it before recording")  # fmt: skip
    return array


def check_camera(what: str, camera: str) -> None:
    if not _CAMERA.fullmatch(camera):
        raise DataError(f"{what} camera {camera!r}", "a camera's name is 1 to 60 of letters, digits, _ and -",
                        "rename the camera")  # fmt: skip


def check_fingerprint(fingerprint: str) -> str:
    """The fingerprint itself; ``DataError`` unless it is 12 to 64 lower-case hexadecimal digits."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise DataError(f"backbone fingerprint {fingerprint!r}", "12 to 64 lower-case hexadecimal digits",
                        "pass Backbone.fingerprint()")  # fmt: skip
    return fingerprint


def meta_to_json(meta: EpisodeMeta) -> str:
    """ASCII JSON, keys as in ``EpisodeMeta``; ``DataError`` for values that JSON cannot carry back."""
    what = f"episode {meta.episode_id!r} metadata"
    try:
        text = json.dumps({**dataclasses.asdict(meta), "software": dict(meta.software)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(what, f"metadata must survive JSON ({error})", "use strings and finite numbers") from None
    return text


def meta_from_json(text: str, what: str) -> EpisodeMeta:
    """Inverse of ``meta_to_json``; unknown keys are ignored, so that a minor addition stays readable."""
    try:
        values: dict[str, Any] = json.loads(text)
        known = {f.name for f in dataclasses.fields(EpisodeMeta)}
        values = {key: value for key, value in values.items() if key in known}
        values["mode"] = Mode(values["mode"])
        values["outcome"] = Outcome(values["outcome"])
        values["termination_reason"] = TerminationReason(values["termination_reason"])
        values["action_names"] = tuple(values["action_names"])
        values["defects"] = tuple(values.get("defects", ()))
        return EpisodeMeta(**values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(what, f"the metadata must be that of an episode ({error})",
                        "restore the file from a copy or delete it") from None  # fmt: skip


def image_tensors(camera: str, frames: Sequence[bytes | memoryview]) -> dict[str, AnyArray | Bytes]:
    """T + 1 encoded frames as ``images.<camera>.data`` and ``.offsets``: frame t is data[offsets[t]:offsets[t + 1]]."""
    offsets = np.zeros(len(frames) + 1, np.int64)
    np.cumsum([len(frame) for frame in frames], out=offsets[1:])
    return {f"images.{camera}.data": Bytes(frames), f"images.{camera}.offsets": offsets}


def episode_metadata(
    meta: EpisodeMeta, cameras: Mapping[str, tuple[str, tuple[int, ...]]], steps: int
) -> dict[str, str]:
    """The safetensors metadata. cameras: name -> (png or jpeg, frame shape [H, W, 3])."""
    described = {name: {"format": kind, "shape": list(shape)} for name, (kind, shape) in cameras.items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "steps": str(steps),
        "cameras": json.dumps(described),
        "meta": meta_to_json(meta),
    }


def encode_episode(episode: Episode, codec: ImageCodec) -> tuple[dict[str, AnyArray | Bytes], dict[str, str]]:
    """Tensors and metadata of a sealed file. ``DataError`` when a column has another type than the format's."""
    what = f"episode {episode.meta.episode_id!r}"
    if len(episode) == 0:
        raise DataError(f"{what} has no step", "an episode has at least one", "do not record empty episodes")
    tensors: dict[str, AnyArray | Bytes] = {
        name: check_column(what, name, getattr(episode, name), *kind)
        for name, kind in {**PER_STEP, **PER_OBSERVATION}.items()
    }
    cameras = {}
    for camera, frames in episode.images.items():
        check_camera(what, camera)
        check_column(what, f"images[{camera!r}]", frames, "uint8", 4)
        shape = frames.shape[1:]
        tensors.update(image_tensors(camera, [codec.encode(frame) for frame in frames]))
        cameras[camera] = (codec.format_of(shape[0], shape[1]), shape)
    if episode.latents is not None:
        tensors["latents"] = check_column(what, "latents", episode.latents, "float16", 3)
    return tensors, episode_metadata(episode.meta, cameras, len(episode))


def check_format(container: Container, wanted: str) -> None:
    """``DataError`` unless the file is of the wanted kind and of a version that this release reads."""
    found, version = container.metadata.get("format"), container.metadata.get("version")
    if found != wanted:
        raise container.damaged(f"format {found!r} where {wanted!r} is expected")
    if version != VERSION:
        raise DataError(f"{container.path}: format version {version!r}", f"this release reads version {VERSION}",
                        "read it with the release that wrote it, or upgrade irevla_ros")  # fmt: skip
