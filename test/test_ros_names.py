"""Names and ROS arguments of the embedded backend, case by case, without a context."""

from __future__ import annotations

import pytest

from irevla_ros.core.errors import ConfigError
from ros_toys import EMBEDDED

if not EMBEDDED:
    pytest.skip("looks into the embedded backend; this run is native", allow_module_level=True)

from irevla_ros.ros.embedded.arguments import parse
from irevla_ros.ros.embedded.exceptions import InvalidTopicNameException, NameValidationException
from irevla_ros.ros.embedded.names import Remap, check_namespace, check_node_name, expand, qualify, resolve


@pytest.mark.parametrize(
    ("name", "full"),
    [("image", "/cell/image"), ("camera/image", "/cell/camera/image"), ("/image", "/image"), ("~/state", "/cell/arm/state"),
     ("~", "/cell/arm"), ("_hidden", "/cell/_hidden")],
)  # fmt: skip
def test_names_expand(name: str, full: str) -> None:
    assert expand(name, "arm", "/cell") == full


def test_names_expand_without_a_namespace() -> None:
    assert expand("image", "arm", "/") == "/image"
    assert expand("~/state", "arm", "/") == "/arm/state"
    assert qualify("arm", "/") == "/arm" and qualify("arm", "/a/b") == "/a/b/arm"


@pytest.mark.parametrize("name", ["", "/", "a b", "1st", "a//b", "a/", "/a/1b", "~state", "a/~/b", "ä", "a-b", "{node}/x"])
def test_names_that_ros_does_not_allow(name: str) -> None:
    with pytest.raises(InvalidTopicNameException, match="a topic name is tokens of letters") as caught:
        expand(name, "arm", "/")
    assert isinstance(caught.value, ValueError) and repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "1st", "/a"])
def test_node_names_that_ros_does_not_allow(name: str) -> None:
    with pytest.raises(NameValidationException):
        check_node_name(name)


def test_namespaces() -> None:
    assert [check_namespace(one) for one in (None, "", "/", "cell", "/cell", "/a/b")] == [
        "/", "/", "/", "/cell", "/cell", "/a/b",
    ]  # fmt: skip
    for bad in ("/a/", "//a", "a b", "/1"):
        with pytest.raises(NameValidationException):
            check_namespace(bad)


def test_the_first_matching_remap_counts() -> None:
    rules = [Remap("image", "a"), Remap("/cell/image", "/b"), Remap("~/state", "state"), Remap("x", "/y", node="other")]
    assert resolve("image", "arm", "/cell", rules) == "/cell/a"
    assert resolve("/cell/image", "arm", "/cell", rules) == "/cell/a"
    assert resolve("/image", "arm", "/cell", rules) == "/image"
    assert resolve("~/state", "arm", "/cell", rules) == "/cell/state"
    assert resolve("x", "arm", "/cell", rules) == "/cell/x"
    assert resolve("x", "other", "/cell", rules) == "/y"


def test_arguments_of_the_program_stay_apart() -> None:
    found = parse(["prog", "--fast", "--ros-args", "-p", "a:=1", "--", "file", "--ros-args", "-r", "x:=y"])
    assert found.others == ("prog", "--fast", "file")
    assert found.overrides("/n") == {"a": 1} and found.remaps == (Remap("x", "y"),)


def test_node_specific_rules() -> None:
    found = parse(["--ros-args", "-r", "left:__ns:=/a", "-r", "right:__node:=wrong", "-p", "left:gain:=2.0", "-p", "gain:=1.0",
                   "-p", "/a/left:gain:=3.0"])  # fmt: skip
    assert found.namespace("left", "/") == "/a" and found.namespace("right", "/") == "/"
    assert found.node_name("right") == "wrong" and found.node_name("left") == "left"
    assert found.overrides("/a/left") == {"gain": 3.0}
    assert found.overrides("/b/left") == {"gain": 1.0} and found.overrides("/other") == {"gain": 1.0}


def test_later_parameters_win() -> None:
    assert parse(["--ros-args", "-p", "a:=1", "-p", "a:=2"]).overrides("/n") == {"a": 2}


def test_log_levels_and_switches() -> None:
    found = parse(["--ros-args", "--log-level", "warn", "--log-level", "cell.arm:=DEBUG", "--disable-rosout-logs",
                   "--disable-stdout-logs", "--disable-external-lib-logs", "-e", "/enclave"])  # fmt: skip
    assert found.log_levels == {"": 30, "cell.arm": 10}
    assert (found.rosout, found.console) == (False, False)


@pytest.mark.parametrize(
    ("words", "text"),
    [(["--fast"], "ROS argument '--fast': unknown"), (["-p"], "ROS argument '-p': needs a value"),
     (["-r", "a"], "remap 'a': is not [node:]from:=to"), (["-r", "a*:=b"], "remap 'a*:=b': is not"),
     (["-p", "a=1"], "parameter 'a=1': is not [node:]name:=value"), (["--log-level", "loud"], "log level 'loud': must be one"),
     (["-r", "__node:=a b"], "node name 'a b'"), (["--params-file", "/no/such"], "parameter file '/no/such': cannot be read")],
)  # fmt: skip
def test_wrong_arguments_are_named_on_one_line(words: list[str], text: str) -> None:
    with pytest.raises((ConfigError, NameValidationException)) as caught:
        parse(["--ros-args", *words])
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
