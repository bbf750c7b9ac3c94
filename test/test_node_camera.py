from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from arm_toys import graph as nodes
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.calibration import Rectifier, load_calibration
from irevla_ros.nodes.camera import CameraNode, FreezeWatch
from irevla_ros.nodes.camera_source import FIRST_WAIT_S, Frame, Grabber, SourceConfig, shown
from irevla_ros.ros import Node
from irevla_ros.ros.messages import CameraInfo, CompressedImage, Image
from irevla_ros.ros.producer import LatestProducer
from node_toys import SECOND, Peer
from ros_toys import spin_for, spin_until

HEIGHT, WIDTH = 48, 64
CALIBRATION = """
image_width: 64
image_height: 48
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [50, 0, 32, 0, 50, 24, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [40, 0, 32, 0, 0, 40, 24, 0, 0, 0, 1, 0]}
"""


def picture(number: int) -> Any:
    """BGR, of one colour with a white corner: blue grows with the number."""
    pixels = np.full((HEIGHT, WIDTH, 3), (number, 100, 200), np.uint8)
    pixels[:8, :8] = 255
    return pixels


def make_folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        cv2.imwrite(str(path / f"{number:03d}.png"), picture(number))
    return path


def make_video(path: Path, count: int, fps: float = 30.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(picture(10 * number))
    writer.release()
    return path


class Viewer(Peer):
    def __init__(self) -> None:
        super().__init__()
        self.infos: list[Any] = []
        self.images: list[Any] = []
        qos = topics.observation_qos(False)
        self.create_subscription(CameraInfo, topics.camera_info("front"), self.infos.append, qos)
        self.create_subscription(Image, topics.image("front"), self.images.append, qos)
        self.health_now = self.health_of("/camera")


@contextmanager
def camera(source: Path | str, **parameters: Any) -> Iterator[tuple[CameraNode, Viewer]]:
    with nodes(Viewer, CameraNode, source=str(source), **parameters) as (viewer, node):
        assert isinstance(node, CameraNode) and isinstance(viewer, Viewer)
        yield node, viewer


def test_the_pictures_of_a_folder_come_in_order_with_their_own_stamps(tmp_path: Path) -> None:
    began = time.time_ns()
    with camera(make_folder(tmp_path / "f", 12), fps=20.0) as (node, viewer):
        spin_until(lambda: "has ended" in viewer.health_now().get("source", ""), node, viewer)
        assert viewer.health_now()["level"] == "2"
        rgb = [convert.image_pixels(image) for image in viewer.images]
        assert len(rgb) >= 2
        for pixels in rgb:
            assert pixels[20, 20].tolist()[:2] == [200, 100]  # red and green of a BGR picture
        blue = [int(pixels[20, 20, 2]) for pixels in rgb]
        stamps = [convert.stamp_of(image.header) for image in viewer.images]
        assert blue == sorted(set(blue)) and blue[-1] == 11  # none twice
        assert stamps == sorted(set(stamps)) and began < stamps[0] and stamps[-1] < time.time_ns()
        infos = {convert.stamp_of(info.header): info for info in viewer.infos}
        assert set(stamps) <= set(infos)
        info = infos[stamps[-1]]
        assert (info.width, info.height, info.header.frame_id) == (WIDTH, HEIGHT, "camera_front_optical_frame")
        assert not np.any(info.k)  # not calibrated


def test_a_video_repeats_and_is_also_sent_as_jpeg(tmp_path: Path) -> None:
    with camera(make_video(tmp_path / "v.avi", 5, 100.0), repeat=True, quality=95) as (node, viewer):
        jpegs = viewer.take(CompressedImage, f"{topics.image('front')}/compressed", topics.observation_qos(False))
        spin_until(lambda: len(viewer.images) > 12 and len(jpegs) > 3, node, viewer)
        pixels = convert.image_pixels(jpegs[-1])
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(pixels[30, 40].astype(int) - [200, 100, pixels[30, 40, 2]]).max() < 12
        spin_until(lambda: viewer.health_now().get("source") == "OK", node, viewer)
        assert float(viewer.health_now()["pictures.hz"]) > 5
        assert float(viewer.health_now()["pictures.age_s"]) < 10


def test_nobody_listens_so_nothing_is_converted(tmp_path: Path) -> None:
    with nodes(CameraNode, source=str(make_folder(tmp_path / "f", 3)), fps=50.0) as (node,):
        published: list[Any] = []
        assert isinstance(node, CameraNode)
        node._raw.publish = node._jpeg.publish = published.append  # type: ignore[method-assign]
        spin_until(lambda: node._meter.total >= 1 and "ended" in node.grabber.state[1], node)
        assert not published


def test_a_camera_that_is_unplugged_is_reported_and_taken_again(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.avi", 6, 60.0)
    gone = tmp_path / "gone.avi"
    with camera(video, repeat=True, silence_s=0.3) as (node, viewer):
        spin_until(lambda: viewer.images, node, viewer)
        os.rename(video, gone)
        spin_until(lambda: "no such file" in viewer.health_now().get("source", ""), node, viewer)
        spin_until(lambda: "pictures: nothing for" in viewer.health_now()["message"], node, viewer)
        assert viewer.health_now()["level"] == "2"
        heard = len(viewer.images)
        spin_for(0.2, node, viewer)
        assert len(viewer.images) == heard  # the last picture is not sent again
        os.rename(gone, video)
        spin_until(lambda: len(viewer.images) > heard, node, viewer)
        assert node.grabber.reconnects >= 1


def test_waits_grow_while_there_is_no_camera(tmp_path: Path) -> None:
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            if len(waits) == 7:
                self.set()
            return self.is_set()

    grabber = Grabber(SourceConfig(str(tmp_path / "nothing.avi")), lambda: 0)
    grabber.run(lambda _: None, Stop())
    assert waits == [FIRST_WAIT_S, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert grabber.reconnects == 7


def test_a_frozen_camera_is_reported_and_not_published(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    cv2.imwrite(str(folder / "only.png"), picture(7))
    with camera(folder, fps=50.0, repeat=True, frozen_s=0.5) as (node, viewer):
        spin_until(lambda: "the same picture" in viewer.health_now().get("frozen", ""), node, viewer)
        assert viewer.health_now()["level"] == "2"
        heard = len(viewer.images)
        spin_for(0.3, node, viewer)
        assert len(viewer.images) <= heard + 2  # what was under way
        cv2.imwrite(str(folder / "only.png"), picture(8))
        spin_until(lambda: len(viewer.images) > heard + 2, node, viewer)
        assert convert.image_pixels(viewer.images[-1])[20, 20, 2] == 8


def test_how_long_a_picture_stands_still_is_counted_from_its_first() -> None:
    watch = FreezeWatch()
    changed = picture(1)
    changed[17, 3, 0] += 1  # not in one of the rows that are compared first
    seen = (5, picture(1)), (7, picture(1)), (9, picture(1)), (11, changed), (12, changed)
    stills = [watch.still_ns(pixels, at) for at, pixels in seen]
    assert stills == [0, 2, 4, 0, 1]


def test_a_rectified_camera_says_the_camera_matrix_of_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CALIBRATION)
    with camera(make_folder(tmp_path / "f", 40), fps=20.0, calibration=str(tmp_path / "c.yaml")) as (node, viewer):
        spin_until(lambda: viewer.images and viewer.infos, node, viewer)
        info, pixels = viewer.infos[0], convert.image_pixels(viewer.images[0])
        assert (list(info.k), list(info.d)) == ([40, 0, 32, 0, 40, 24, 0, 0, 1], [0] * 5)
        assert list(info.p) == [40, 0, 32, 0, 0, 40, 24, 0, 0, 0, 1, 0]
        assert info.distortion_model == "plumb_bob"
        assert pixels[24, 32].tolist()[:2] == [200, 100]


def test_without_rectification_the_calibration_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CALIBRATION)
    parameters = {"fps": 20.0, "calibration": str(tmp_path / "c.yaml"), "rectify": False}
    with camera(make_folder(tmp_path / "f", 40), **parameters) as (node, viewer):
        spin_until(lambda: viewer.images and viewer.infos, node, viewer)
        assert list(viewer.infos[0].d) == pytest.approx([-0.3, 0.1, 0, 0, 0])
        assert np.array_equal(convert.image_pixels(viewer.images[0])[:8, :8], np.full((8, 8, 3), 255))


def test_rectification_moves_points_where_the_projection_puts_them(tmp_path: Path) -> None:
    """A point at x = z / 4 off the axis: undistorted at 32 + 40 / 4 = 42, and with r = 0.25 the lens shows it at
    32 + 50 * 0.25 * (1 - 0.3 * 0.0625 + 0.1 * 0.0625^2) = 44.27."""
    (tmp_path / "c.yaml").write_text(CALIBRATION)
    seen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seen[:, 43:46] = 255
    straight = Rectifier(load_calibration(tmp_path / "c.yaml"))(seen)
    bright = straight[24, :, 0].astype(float)
    assert float((bright * np.arange(WIDTH)).sum() / bright.sum()) == pytest.approx(42, abs=0.5)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (("image_width: 64", "image_width: wide"), "image_width and image_height"),
        (("plumb_bob", "magic"), "distortion_model 'magic'"),
        (("cols: 5, data: [-0.3, 0.1, 0, 0, 0]", "cols: 3, data: [-0.3, 0.1, 0]"), "3 distortion_coefficients"),
        (("[50, 0, 32, 0, 50, 24, 0, 0, 1]", "[50, 0, 32]"), "camera_matrix"),
        (("[50, 0, 32, 0, 50, 24, 0, 0, 1]", "[.nan, 0, 32, 0, 50, 24, 0, 0, 1]"), "finite"),
        (("[50, 0, 32, 0, 50, 24, 0, 0, 1]", "[0, 0, 32, 0, 50, 24, 0, 0, 1]"), "focal lengths"),
        (("camera_matrix:", "camera_matrix: ["), "not valid YAML"),
        (("[40, 0, 32, 0, 0, 40, 24, 0, 0, 0, 1, 0]", "{}"), "projection_matrix"),
    ],
)
def test_a_malformed_calibration_is_refused_by_name(tmp_path: Path, edit: tuple[str, str], complaint: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CALIBRATION.replace(*edit))
    with pytest.raises(ConfigError, match=complaint) as error:
        load_calibration(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_pictures_of_another_size_than_calibrated_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CALIBRATION.replace("image_width: 64", "image_width: 640"))
    with camera(make_folder(tmp_path / "f", 100), fps=20.0, calibration=str(tmp_path / "c.yaml")) as (node, viewer):
        spin_until(lambda: "pictures of 64 x 48, calibrated are 640 x 48" in viewer.health_now().get("calibration", ""),
                   node, viewer)  # fmt: skip
        assert (viewer.images, viewer.infos) == ([], [])


def test_pictures_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f", 3)
    (folder / "001.png").write_bytes(b"no picture")
    frames: list[Frame] = []
    grabber = Grabber(SourceConfig(str(folder), fps=1000.0), lambda: len(frames))
    grabber.run(frames.append, threading.Event())
    assert [int(frame.pixels[20, 20, 0]) for frame in frames] == [0, 2]
    assert (grabber.undecoded, grabber.state[1]) == (1, f"{str(folder)!r} has ended")


def test_no_password_is_told() -> None:
    assert shown("rtsp://user:secret@cam/1") == "rtsp://...@cam/1"
    assert shown("/dev/video0") == "/dev/video0"


@pytest.mark.parametrize("parameters", [{"quality": 0}, {"camera": "a b"}, {"fps": -1.0}, {"calibration": "/no/such.yaml"}])
def test_wrong_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError), nodes(CameraNode, **parameters):
        pass


def test_of_a_producer_that_is_faster_the_newest_is_received_and_a_fault_is_raised() -> None:
    with nodes(lambda: Node("node")) as (node,):
        go, got = threading.Event(), []

        def produce(emit: Any, stopped: threading.Event) -> None:
            for item in (1, 2, 3):
                emit(item)
            go.set()
            stopped.wait()

        producer: LatestProducer[int] = LatestProducer(node, produce, got.append)
        assert go.wait(30)
        spin_until(lambda: got, node)
        assert (got, producer.overwritten, producer.close(30)) == ([3], 2, True)

        def fail(emit: Any, stopped: threading.Event) -> None:
            raise RuntimeError("the device broke")

        faulty: LatestProducer[int] = LatestProducer(node, fail, got.append)
        with pytest.raises(RuntimeError, match="the device broke"):
            spin_until(lambda: False, node)
        assert faulty.close(30)


def test_stamps_are_of_the_graphs_clock_at_the_grab(tmp_path: Path) -> None:
    clock = iter(range(SECOND, 100 * SECOND, SECOND))
    frames: list[Frame] = []
    Grabber(SourceConfig(str(make_folder(tmp_path / "f", 3)), fps=1000.0), lambda: next(clock)).run(
        frames.append, threading.Event()
    )
    assert [frame.stamp_ns for frame in frames] == [SECOND, 2 * SECOND, 3 * SECOND]
