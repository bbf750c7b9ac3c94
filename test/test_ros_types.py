"""Type definitions, hashes, CDR and message classes of the embedded backend, without a context."""

from __future__ import annotations

import array
import contextlib
import copy
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from ros_toys import EMBEDDED

if not EMBEDDED:
    pytest.skip("looks into the embedded backend; this run is native", allow_module_level=True)

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from irevla_ros.ros.catalogue import CATALOGUE, MESSAGES, SERVICES
from irevla_ros.ros.embedded.stubs import PATH, stubs
from irevla_ros.ros.embedded.types.cdr import CdrError, deserialize, serialize
from irevla_ros.ros.embedded.types.definitions import PLACEHOLDER, Field, definition
from irevla_ros.ros.embedded.types.hashes import message_hash, service_hash
from irevla_ros.ros.embedded.types.message import message_class, service_class
from irevla_ros.ros.embedded.types.values import MessageError
from irevla_ros.ros.messages import (
    DiagnosticStatus,
    Empty,
    Header,
    Image,
    JointState,
    ParameterValue,
    Pose,
    String,
    Trigger,
    numbers,
)

TABLE = dict(
    line.split() for line in (Path(__file__).parent / "ros_type_hashes.txt").read_text().splitlines() if line[0] != "#"
)
CDR_TYPES = sorted([*MESSAGES.values(), *(f"{one}_{part}" for one in SERVICES.values() for part in ("Request", "Response"))])


def test_every_type_of_the_catalogue_has_the_hash_of_jazzy() -> None:
    computed = {name: (service_hash if "/srv/" in name else message_hash)(name) for name in TABLE}
    assert computed == {name: "RIHS01_" + digits for name, digits in TABLE.items()}
    assert set(CATALOGUE.values()) <= set(TABLE)


def test_published_hashes() -> None:
    """Two that rmw_zenoh's design document and ROS's own tests print."""
    assert message_hash("std_msgs/msg/String") == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    assert message_hash("std_msgs/msg/Empty") == "RIHS01_20b625256f32d5dbc0d04fee44f43c41e51c70d3502f84b4a08e7a9c26a96312"


def test_a_build_of_jazzy_agrees_where_there_is_one() -> None:
    """The hashes that a sourced ROS 2 installation carries beside its types."""
    import json

    shares = [Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    found = {}
    for name in TABLE:
        package, kind, short = name.split("/")
        for path in (share / package / kind / f"{short}.json" for share in shares):
            if path.is_file():
                hashes = json.loads(path.read_text())["type_hashes"]
                found[name] = next(one["hash_string"] for one in hashes if one["type_name"] == name)
    if not found:
        pytest.skip("no ROS 2 installation of Jazzy or later is sourced (AMENT_PREFIX_PATH)")
    assert found == {name: "RIHS01_" + TABLE[name] for name in found}


def test_unknown_types_are_answered_with_near_names() -> None:
    with pytest.raises(ConfigError, match=r"message type 'std_msgs/msg/Strin': no such message type; did you mean"):
        message_class("std_msgs/msg/Strin")
    with pytest.raises(ConfigError, match="service type"):
        service_class("std_srvs/srv/Triger")


def test_the_stub_file_says_what_exists() -> None:
    assert PATH.read_text(encoding="utf-8") == stubs(), "run python -m irevla_ros.ros.embedded.stubs"


# CDR against an independent writer and reader: rosbags' own message classes.


def reference_store() -> Any:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("float64 position\nfloat64 max_effort", "control_msgs/msg/GripperCommand"))
    return store


REFERENCE = reference_store()


def values_of(field: Field) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any]
    if field.nested:
        one = messages(field.base)
    elif field.base == "string":
        one = st.text(st.characters(codec="utf-8"), max_size=field.string_bound or 12)
    elif field.base == "bool":
        one = st.booleans()
    elif field.base == "byte":
        one = st.binary(min_size=1, max_size=1)
    elif field.base.startswith("float"):
        one = st.floats(width=32 if field.base == "float32" else 64)
    else:
        signed, bits = field.base[0] == "i", int(field.base.removeprefix("u")[3:])
        one = st.integers(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1)
    if field.array is not None:
        return st.lists(one, min_size=field.array, max_size=field.array)
    return st.lists(one, max_size=min(4, field.bound or 4)) if field.sequence else one


def messages(type_name: str) -> st.SearchStrategy[Any]:
    fields = [field for field in definition(type_name).fields if field.name != PLACEHOLDER]
    return st.fixed_dictionaries({field.name: values_of(field) for field in fields}).map(
        lambda values: message_class(type_name)(**values)
    )


def reference(message: Any) -> Any:
    """The same message as an instance of rosbags' own class."""

    def convert(field: Field, value: Any) -> Any:
        if field.nested:
            return [reference(one) for one in value] if field.plural else reference(value)
        if field.base == "byte":
            return np.array([b[0] for b in value], np.uint8) if field.plural else int.from_bytes(value, "big", signed=True)
        return value

    fields = [field for field in definition(message._type_name).fields if field.name != PLACEHOLDER]
    return REFERENCE.types[message._type_name](**{one.name: convert(one, getattr(message, one.name)) for one in fields})


@settings(max_examples=150)
@given(st.data())
def test_random_messages_are_written_as_rosbags_writes_them_and_read_back(data: st.DataObject) -> None:
    type_name = data.draw(st.sampled_from(CDR_TYPES))
    message = data.draw(messages(type_name))
    written = bytes(serialize(message))
    assert written[:4] == b"\x00\x01\x00\x00"
    if "/srv/" not in type_name:
        assert written == bytes(REFERENCE.serialize_cdr(reference(message), type_name))
    assert bytes(serialize(deserialize(written, type_name))) == written


@settings(max_examples=100)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_but_never_worse(data: st.DataObject) -> None:
    type_name = data.draw(st.sampled_from(CDR_TYPES))
    good = bytes(serialize(data.draw(messages(type_name))))
    damage = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    if damage == "cut":
        bad = good[: data.draw(st.integers(0, len(good)))]
    elif damage == "flip":
        index = data.draw(st.integers(0, len(good) - 1))
        bad = good[:index] + bytes([good[index] ^ data.draw(st.integers(1, 255))]) + good[index + 1 :]
    else:
        bad = data.draw(st.binary(max_size=64))
    with contextlib.suppress(CdrError):
        deserialize(bad, type_name)


def test_bytes_by_hand() -> None:
    """A String and a Header, byte by byte: little endian, lengths count the terminating zero, 4-byte alignment."""
    assert bytes(serialize(String(data="abc"))) == b"\x00\x01\x00\x00" b"\x04\x00\x00\x00" b"abc\x00"
    header = Header(frame_id="b")
    header.stamp.sec, header.stamp.nanosec = -1, 2
    assert bytes(serialize(header)) == (
        b"\x00\x01\x00\x00" b"\xff\xff\xff\xff" b"\x02\x00\x00\x00" b"\x02\x00\x00\x00" b"b\x00"
    )
    assert bytes(serialize(Empty())) == b"\x00\x01\x00\x00\x00"
    state = JointState(position=[1.5])
    # Alignment counts from behind the four header bytes: the float64 starts at offset 24 of the body.
    assert bytes(serialize(state))[4 + 24 : 4 + 32] == np.float64(1.5).tobytes()


def test_big_endian_is_read() -> None:
    message = deserialize(b"\x00\x00\x00\x00" b"\x00\x00\x00\x04" b"abc\x00", "std_msgs/msg/String")
    assert message == String(data="abc")


def test_a_claimed_length_does_not_cost_memory() -> None:
    huge = bytearray(serialize(Image()))
    huge[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(CdrError, match=r"^sensor_msgs/msg/Image: Invalid sequence length 4294967295"):
        deserialize(bytes(huge), "sensor_msgs/msg/Image")


def test_arrays_of_received_messages_are_aligned_and_writable() -> None:
    state = deserialize(bytes(serialize(JointState(position=[1.0, 2.0]))), "sensor_msgs/msg/JointState")
    assert state.position.flags.aligned and state.position.flags.writeable
    state.position[0] = 5.0
    assert state.position.tolist() == [5.0, 2.0]


def test_what_cannot_be_written_is_named() -> None:
    message = JointState(name=["a"])
    message.name.append(3)  # lists are the user's: only writing looks at their elements again
    with pytest.raises(CdrError, match=r"^sensor_msgs/msg/JointState: .*cannot be serialised"):
        serialize(message)


# Message classes.


def test_defaults_and_equality() -> None:
    pose = Pose()
    assert (pose.orientation.w, pose.orientation.x, pose.position.z) == (1.0, 0.0, 0.0)
    assert pose == Pose() and pose is not Pose() and pose.position is not Pose().position
    pose.position.x = 0.5
    assert pose != Pose() and pose == copy.deepcopy(pose) and pose != String()
    assert repr(String(data="x")) == "std_msgs.msg.String(data='x')"


def test_bytes_and_constants_are_those_of_rclpy() -> None:
    assert (DiagnosticStatus.OK, DiagnosticStatus.STALE) == (b"\x00", b"\x03")
    status = DiagnosticStatus(level=DiagnosticStatus.ERROR)
    assert status.level == b"\x02"
    assert deserialize(bytes(serialize(status)), "diagnostic_msgs/msg/DiagnosticStatus").level == b"\x02"
    value = ParameterValue(byte_array_value=[b"\x01", b"\xff"])
    assert value.byte_array_value == [b"\x01", b"\xff"]


@pytest.mark.parametrize(
    "values",
    [[1, 2, 250], (1, 2, 250), b"\x01\x02\xfa", bytearray(b"\x01\x02\xfa"), memoryview(b"\x01\x02\xfa"),
     np.array([1, 2, 250], np.uint8), array.array("B", [1, 2, 250]), numbers("B", np.array([[1], [2], [250]], np.uint8))],
)  # fmt: skip
def test_numbers_in_the_plural_come_in_many_forms(values: Any) -> None:
    image = Image(data=values)
    assert image.data.dtype == np.uint8 and image.data.tolist() == [1, 2, 250]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("height", -1, "must be an int from 0 to 4294967295"), ("height", 1.0, "must be an int from 0"),
     ("height", np.int64(1), "must be an int from 0"), ("encoding", b"rgb8", "must be a str"), ("step", None, "must be an int"),
     ("data", [256], "must be an int from 0 to 255"), ("data", "abc", "must be a sequence of uint8"),
     ("data", np.zeros((2, 2), np.uint8), "must be one-dimensional and fit uint8"),
     ("data", np.zeros(2, np.int64), "must be one-dimensional and fit uint8"), ("header", Image(), "must be a Header")],
)  # fmt: skip
def test_wrong_values_are_refused_as_rclpy_refuses_them(field: str, value: Any, rule: str) -> None:
    image = Image()
    with pytest.raises(MessageError) as caught:
        setattr(image, field, value)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).startswith(f"sensor_msgs/msg/Image {field} = ") and rule in str(caught.value)
    with pytest.raises(AssertionError):
        Image(**{field: value})


def test_float_fields_want_floats() -> None:
    pose = Pose()
    for wrong in (1, "1.0", np.float32(1.0), None):
        with pytest.raises(AssertionError, match="must be a float"):
            pose.position.x = wrong
    pose.position.x = np.float64(1.0)  # it is a float
    with pytest.raises(AssertionError, match="float32 can hold"):
        message_class("std_msgs/msg/Float32")(data=1e39)
    with pytest.raises(AssertionError, match="must be a bool"):
        message_class("std_msgs/msg/Bool")(data=1)
    with pytest.raises(AssertionError, match="exactly 9 elements"):
        message_class("sensor_msgs/msg/CameraInfo")(k=[0.0] * 8)
    with pytest.raises(AssertionError, match="must be a float"):
        JointState(position=[1])


def test_wrong_names_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"^field 'hight' of sensor_msgs/msg/Image: no such field; did you mean 'height'"):
        Image(hight=3)
    with pytest.raises(AttributeError):
        Image().hight = 3
    with pytest.raises(TypeError):
        String("positional")
    with pytest.raises(AssertionError, match="'x'"):
        Trigger.Request(x=1)
    with pytest.raises(ImportError, match="did you mean 'Image'"):
        from irevla_ros.ros.messages import Imgae  # noqa: F401


def test_fields_are_told_as_rclpy_tells_them() -> None:
    assert JointState.get_fields_and_field_types() == {
        "header": "std_msgs/Header", "name": "sequence<string>", "position": "sequence<double>",
        "velocity": "sequence<double>", "effort": "sequence<double>",
    }  # fmt: skip
    camera = message_class("sensor_msgs/msg/CameraInfo").get_fields_and_field_types()
    assert (camera["k"], camera["d"]) == ("double[9]", "sequence<double>")
    descriptor = message_class("rcl_interfaces/msg/ParameterDescriptor").get_fields_and_field_types()
    assert descriptor["integer_range"] == "sequence<rcl_interfaces/IntegerRange, 1>"
    assert DiagnosticStatus.get_fields_and_field_types()["level"] == "octet"
    assert Empty.get_fields_and_field_types() == {}


def test_nothing_of_rosbags_is_left_in_the_way() -> None:
    assert "rclpy" not in sys.modules
