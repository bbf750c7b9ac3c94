"""ROS messages to the core's types and back. What cannot be read raises MessageError."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.durations import SECOND
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.types import ByteArray
from irevla_ros.ros.messages import (
    CompressedImage,
    DurationMsg,
    Header,
    Image,
    JointState,
    JointTrajectory,
    JointTrajectoryPoint,
    PoseStamped,
    TimeMsg,
    numbers,
)

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
_TO_RGB = {"bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB, "mono8": cv2.COLOR_GRAY2RGB}
_REMEDY = "check the sender"


def stamp_of(header: Header) -> int:
    """A header's stamp in ns."""
    return header.stamp.sec * SECOND + header.stamp.nanosec


def header(stamp_ns: int, frame: str = "") -> Header:
    return Header(stamp=TimeMsg(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND), frame_id=frame)


# ---- images ----------------------------------------------------------------------------------------------------


def image_message(pixels: ByteArray, stamp_ns: int, frame: str) -> Image:
    """uint8 RGB [H, W, 3] as rgb8."""
    height, width, _ = pixels.shape
    return Image(header=header(stamp_ns, frame), height=height, width=width, encoding="rgb8", step=3 * width,
                 data=numbers("B", pixels))  # fmt: skip


def image_pixels(message: Image | CompressedImage) -> ByteArray:
    """uint8 RGB [H, W, 3] of a raw 8-bit image (rgb8, bgr8, rgba8, bgra8, mono8) or of a compressed one."""
    data = np.asarray(message.data, np.uint8)
    if hasattr(message, "format"):  # a CompressedImage, of whichever implementation
        try:
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        except cv2.error:  # so it answers a header that claims too large a size
            decoded = None
        if decoded is None:
            raise MessageError(f"compressed image of {data.size} bytes, format {message.format[:40]!r}", "it cannot be decoded",
                               _REMEDY)  # fmt: skip
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    channels = _CHANNELS.get(message.encoding)
    height, width, step = message.height, message.width, message.step
    if channels is None:
        raise MessageError(f"image encoding {message.encoding[:40]!r}", f"one of {', '.join(_CHANNELS)}", "convert it")
    if not height or not width or step < width * channels or data.size != height * step:
        raise MessageError(f"image of {height} x {width}, step {step}, {data.size} bytes",
                           f"a step of at least {width * channels} and height x step bytes", _REMEDY)  # fmt: skip
    pixels = data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if message.encoding != "rgb8":
        pixels = np.asarray(cv2.cvtColor(pixels, _TO_RGB[message.encoding]), np.uint8)
    return np.ascontiguousarray(pixels)


def fit(pixels: ByteArray, height: int, width: int) -> ByteArray:
    """Cut from the middle to the wanted shape, then averaged down (or interpolated up) to uint8 [height, width, 3]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(pixels.shape[0] / height, pixels.shape[1] / width)
    rows, columns = (max(1, round(size * scale)) for size in (height, width))
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    cut = pixels[top : top + rows, left : left + columns]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR))


# ---- poses -----------------------------------------------------------------------------------------------------


def pose_message(pose: Pose, stamp_ns: int, frame: str) -> PoseStamped:
    message = PoseStamped(header=header(stamp_ns, frame))
    at, turn = message.pose.position, message.pose.orientation
    at.x, at.y, at.z = pose.position
    turn.x, turn.y, turn.z, turn.w = pose.quaternion
    return message


def pose_of(message: PoseStamped) -> Pose:
    at, turn = message.pose.position, message.pose.orientation
    return Pose((at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w))


def width_message(width_m: float, stamp_ns: int) -> JointState:
    """A gripper's opening, or the one that it is to take, in metres."""
    return JointState(header=header(stamp_ns), name=["width"], position=numbers("d", [width_m]))


def width_of(message: JointState) -> float:
    """The opening in metres: the sum over the fingers (or the one ``width``)."""
    width = float(np.sum(np.asarray(message.position, np.float64)))
    if len(message.position) == 0 or not np.isfinite(width):
        raise MessageError(f"gripper state of {len(message.position)} positions, sum {width}", "finite positions in metres",
                           "remap the gripper's joint_states here")  # fmt: skip
    return width


# ---- action chunks ---------------------------------------------------------------------------------------------


def chunk_message(chunk: ActionChunk) -> JointTrajectory:
    """One point an action; its time is when the action begins, from the first one on."""
    points: list[Any] = []
    for index, action in enumerate(chunk.actions):
        after = index * chunk.period_ns
        start = DurationMsg(sec=after // SECOND, nanosec=after % SECOND)
        points.append(JointTrajectoryPoint(positions=numbers("d", action), time_from_start=start))
    return JointTrajectory(header=header(chunk.stamp_ns), joint_names=list(chunk.names), points=points)


def chunk_of(message: JointTrajectory, period_ns: int) -> ActionChunk:
    """The inverse; ``period_ns`` is that of a chunk of one action, which says none."""
    starts = [point.time_from_start.sec * SECOND + point.time_from_start.nanosec for point in message.points]
    period = starts[1] - starts[0] if len(starts) > 1 else period_ns
    if any(start != index * period for index, start in enumerate(starts)):
        raise MessageError(f"action chunk with points at {starts[:4]} ns", "one every period, the first at 0", _REMEDY)
    actions = [np.asarray(point.positions, np.float64) for point in message.points]
    return ActionChunk(stamp_of(message.header), tuple(message.joint_names), actions, period)  # type: ignore[arg-type]
