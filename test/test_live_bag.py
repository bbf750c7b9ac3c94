"""The same streams live and from a bag give the same episode: the recorder node records while the bag is written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'irevla_ros[mcap]'")

from rosbags.rosbag2 import StoragePlugin, Writer

from irevla_ros.cli.main import main
from irevla_ros.core.episode_state import Judge, Phase, Verdict
from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ControlSource, Mode
from irevla_ros.data.paths import label_path, sealed_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.exchange.bag import STORE
from irevla_ros.exchange.live_bag import LiveSettings, read_live_bag
from irevla_ros.exchange.sealed import Taken, take
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Image, JointState, PoseStamped, String
from irevla_ros.ros.qos import EVENT, LATCHED
from ros_toys import spin_until
from test_node_recorder import graph

KINDS = {Image: "sensor_msgs/msg/Image", PoseStamped: "geometry_msgs/msg/PoseStamped",
         JointState: "sensor_msgs/msg/JointState", String: "std_msgs/msg/String"}  # fmt: skip


class Tap(GraphNode):
    """As `ros2 bag record`: every message as it came, at the time of arrival."""

    def __init__(self, path: Path) -> None:
        super().__init__("tap")
        self.bag = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self.bag.open()
        reliable = topics.observation_qos(True)
        for topic, kind, qos in (
            (topics.image("front"), Image, reliable), (topics.POSE, PoseStamped, reliable),
            (topics.GRIPPER, JointState, reliable), (topics.STATE, String, LATCHED), (topics.STEP, String, EVENT),
            (topics.REWARD, String, EVENT), (topics.VERDICT, String, EVENT),
        ):  # fmt: skip
            self.create_subscription(kind, topic, self._keep(topic, KINDS[kind]), qos)

    def _keep(self, topic: str, kind: str) -> Callable[[Any], None]:
        connection = self.bag.add_connection(f"/{topic}", kind, typestore=STORE)

        def keep(message: Any) -> None:
            self.bag.write(connection, time.time_ns(), STORE.serialize_cdr(plain(message, kind), kind))

        return keep


def plain(message: Any, kind: str) -> Any:
    """The middleware's message as the bag library's."""
    values = {}
    for name, inner in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if hasattr(value, "get_fields_and_field_types"):
            values[name] = plain(value, inner.replace("/", "/msg/"))
        else:
            whole = isinstance(value, (str, int, float)) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
            values[name] = value if whole else np.asarray(value)
    return STORE.types[kind](**values)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A spool's folder ``live/practice`` and the bag ``bag`` of three demonstrations: a success, a failure that an operator
    calls a success when it is sealed, and another success."""
    with graph(tmp_path / "live", cell={"drives": ControlSource.SCRIPT, "steps": 5}, latents=False) as (recorder, cell):
        tap = Tap(tmp_path / "bag")
        nodes = (recorder, cell, tap)
        both = (topics.image("front"), topics.POSE, topics.GRIPPER, topics.STATE, topics.STEP, topics.REWARD)
        spin_until(lambda: all(cell.count_subscribers(topic) == 2 for topic in both), *nodes)
        answers = (topics.RECORDED, topics.SEALED, topics.RESET_DONE, topics.REQUEST)
        spin_until(lambda: all(recorder.count_subscribers(topic) == 1 for topic in answers), *nodes)
        cell.waits, cell.playing = ("recorded",), True
        for number, success in enumerate((True, False, True)):
            cell.success = success
            cell.start(Mode.DEMO, seed=number)
            spin_until(lambda n=number: len(cell.sealed) == n + 1 and cell.phase is Phase.IDLE, *nodes, timeout_s=90)
            if number == 1:
                say = cell.speak(Verdict, topics.VERDICT)
                spin_until(lambda: cell.count_subscribers(topics.VERDICT) == 2, *nodes)
                say(Verdict(True, Judge.OPERATOR, 0, cell.sealed[-1].episode_id))
                labels = label_path(tmp_path / "live/practice", cell.sealed[-1].episode_id)
                spin_until(labels.exists, *nodes)
        tap.bag.close()
        tap.destroy_node()
    return tmp_path


def test_the_same_streams_live_and_from_the_bag_give_the_same_episodes(recorded: Path) -> None:
    live, other = recorded / "live/practice", Spool(recorded / "other")
    refused: list[str] = []
    settings = LiveSettings(image_size=16)
    parcels = list(read_live_bag(recorded / "bag", settings, refused.append))
    assert refused == []
    assert [take(other, parcel) for parcel in parcels] == [Taken.NEW] * 3
    ids = SpoolReader(live).ids()
    assert SpoolReader(other.root).ids() == ids
    for name in ids:
        assert sealed_path(other.root, name).read_bytes() == sealed_path(live, name).read_bytes()
    second = label_path(live, ids[1]).read_bytes()
    assert label_path(other.root, ids[1]).read_bytes() == second
    assert b'"success"' in second
    assert [take(other, parcel) for parcel in parcels] == [Taken.THERE] * 3


def test_the_command_takes_a_bag_and_says_what_it_lacks(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["episodes", "import", str(recorded / "bag"), str(recorded / "other"), "--image-size", "16"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 episodes: 3 imported" in printed
    assert "latents, log-probabilities and versions of the policy are on no topic" in printed


def test_a_bag_without_the_graph_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        bag.add_connection("/chatter", "std_msgs/msg/String", typestore=STORE)
    with pytest.raises(DataError, match=re.escape("a bag of the graph has episode/state")):
        list(read_live_bag(tmp_path / "bag", LiveSettings(), print))
    with pytest.raises(DataError, match=r"a bag is a folder with metadata\.yaml"):
        list(read_live_bag(tmp_path / "nothing", LiveSettings(), print))
