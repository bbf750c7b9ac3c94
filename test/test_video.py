"""Videos of episodes: what is written can be decoded, says what happened, and waits for the longer clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irevla_ros.core.errors import DataError
from irevla_ros.jobs.video import Clip, ClipInfo, VideoInfo, compose, read_video_info, write_video

RED, GREEN = (220, 40, 40), (40, 200, 40)


def clip(colour: tuple[int, int, int], frames: int, success: bool = True) -> Clip:
    """A plain picture that darkens with every frame."""
    shade = np.linspace(1.0, 0.5, frames)[:, None, None, None]
    picture = np.broadcast_to(np.array(colour), (frames, 32, 32, 3))
    return Clip((picture * shade).astype(np.uint8), "press the yellow button", "SFT", success)


def test_video_decodes_to_the_frames_that_were_written(tmp_path: Path) -> None:
    path = write_video(tmp_path / "videos" / "a.webp", [clip(RED, 12, False), clip(GREEN, 5)], "press", "rl", 3)
    with Image.open(path) as video:
        assert (video.format, video.n_frames, video.info["loop"]) == ("WEBP", 12, 0)
        first = np.asarray(video.convert("RGB"))
        assert video.info["duration"] == 100  # 10 Hz
        video.seek(11)
        last = np.asarray(video.convert("RGB"))
    np.testing.assert_allclose(first[64, 64], RED, atol=12)
    np.testing.assert_allclose(first[64, 198], GREEN, atol=12)
    np.testing.assert_allclose(last[64, 64], np.array(RED) / 2, atol=12)
    assert path.stat().st_size < 40_000


def test_what_is_said_of_a_video_survives(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webp", [clip(RED, 12, False), clip(GREEN, 5)], "press", "rl", 3)
    assert read_video_info(path) == VideoInfo("press", "rl", "press the yellow button", 3,
                                              (ClipInfo("SFT", False, 11), ClipInfo("SFT", True, 4)))  # fmt: skip
    assert read_video_info(tmp_path / "other.webp") is None


def test_the_shorter_clip_waits_with_its_verdict() -> None:
    frames = compose([clip(RED, 6), clip(GREEN, 3)], scale=4)
    width = 32 * 4
    right = frames[:, :, width:]
    assert len(frames) == 6
    assert all((right[t] == right[2]).all() for t in range(2, 6))
    caption = frames[:, width:, :width]
    assert (caption[0] != caption[1]).any()  # the step counts on
    is_blue = (caption[..., 2].astype(int) - caption[..., 0] > 100).any(axis=(1, 2))
    assert is_blue.tolist() == [False] * 5 + [True]  # the verdict appears with the last step


def test_frames_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match=r"of shape \(3, 8, 8, 3\) and type float64: frames are uint8 RGB"):
        Clip(np.zeros((3, 8, 8, 3)), "press", "SFT", True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least one frame"):
        Clip(np.zeros((0, 8, 8, 3), np.uint8), "press", "SFT", True)


def test_other_containers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"video a\.mp4 of 1 clips: a video is a \.webp"):
        write_video(tmp_path / "a.mp4", [clip(RED, 2)], "press", "rl", 3)
