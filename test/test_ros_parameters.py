"""Parameters: declaring, overriding, ranges, refusal, and the services that ``ros2 param`` uses. On both backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ros_toys
from irevla_ros.core.errors import ConfigError
from irevla_ros.ros import (
    FloatingPointRange,
    IntegerRange,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    Node,
    Parameter,
    ParameterAlreadyDeclaredException,
    ParameterDescriptor,
    ParameterNotDeclaredException,
    SetParametersResult,
)
from irevla_ros.ros.messages import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    ParameterMsg,
    ParameterType,
    ParameterValue,
    SetParameters,
    SetParametersAtomically,
)
from ros_toys import DEADLINE_S, embedded_only, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]


def limits(low: float, high: float, step: float = 0.0) -> Any:
    return ParameterDescriptor(
        floating_point_range=[FloatingPointRange(from_value=low, to_value=high, step=step)], description="a limit"
    )


def test_a_parameter_has_its_default_and_can_be_set(make_node: MakeNode) -> None:
    node = make_node()
    assert not node.has_parameter("rate")
    assert node.declare_parameter("rate", 10.0).value == 10.0
    assert node.get_parameter("rate").type_ is Parameter.Type.DOUBLE
    assert node.set_parameters([Parameter("rate", value=20.0)])[0].successful
    assert node.get_parameter("rate").value == 20.0


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (True, "BOOL"), (3, "INTEGER"), (0.5, "DOUBLE"), ("x", "STRING"), ([True, False], "BOOL_ARRAY"),
        ([1, 2], "INTEGER_ARRAY"), ([0.5], "DOUBLE_ARRAY"), (["a", "b"], "STRING_ARRAY"), ([b"\x01", b"\xff"], "BYTE_ARRAY"),
    ],
)  # fmt: skip
def test_every_type_survives_the_message(value: Any, type_: str) -> None:
    parameter = Parameter("p", value=value)
    assert parameter.type_ is Parameter.Type[type_]
    back = Parameter.from_parameter_msg(parameter.to_parameter_msg())
    assert (back.name, back.type_, back.type_.check(back.value)) == ("p", parameter.type_, True)
    assert list(back.value) == list(value) if isinstance(value, list) else back.value == value


def test_a_range_is_kept(make_node: MakeNode) -> None:
    node = make_node()
    node.declare_parameter("speed", 0.2, limits(0.0, 0.5))
    node.declare_parameter(
        "count", 4, ParameterDescriptor(integer_range=[IntegerRange(from_value=0, to_value=10, step=2)])
    )

    def try_(name: str, value: Any) -> bool:
        return bool(node.set_parameters([Parameter(name, value=value)])[0].successful)

    assert [try_("speed", v) for v in (0.0, 0.5, 0.1, -0.1, 0.51, float("nan"), float("inf"))] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip
    assert node.get_parameter("speed").value == 0.1
    assert [try_("count", v) for v in (0, 10, 6, 5, 12)] == [True, True, True, False, False]
    assert node.get_parameter("count").value == 6
    with pytest.raises(InvalidParameterValueException):
        node.declare_parameter("force", 99.0, limits(0.0, 20.0))
    assert not node.has_parameter("force")


def test_a_read_only_parameter_stays(make_node: MakeNode) -> None:
    node = make_node(parameter_overrides=[Parameter("frame", value="base")])
    assert node.declare_parameter("frame", "world", ParameterDescriptor(read_only=True)).value == "base"
    result = node.set_parameters([Parameter("frame", value="tool")])[0]
    assert not result.successful and result.reason == "Trying to set a read-only parameter: frame."
    assert node.get_parameter("frame").value == "base"


def test_types_do_not_change(make_node: MakeNode) -> None:
    node = make_node(parameter_overrides=[Parameter("rate", value=1)])
    node.declare_parameter("name", "x")
    result = node.set_parameters([Parameter("name", value=3)])[0]
    assert not result.successful and result.reason.startswith("Wrong parameter type")
    # An integer from a file does not become a float by itself.
    with pytest.raises(InvalidParameterTypeException):
        node.declare_parameter("rate", 10.0)


def test_the_node_has_the_last_word(make_node: MakeNode) -> None:
    node = make_node()
    node.declare_parameter("mode", "train")
    seen: list[Any] = []

    def check(parameters: list[Parameter]) -> Any:
        seen.extend((one.name, one.value) for one in parameters)
        good = all(one.value in ("train", "eval") for one in parameters if one.name == "mode")
        return SetParametersResult(successful=good, reason="" if good else "mode is train or eval")

    node.add_on_set_parameters_callback(check)
    results = node.set_parameters([Parameter("mode", value="eval"), Parameter("mode", value="demo")])
    assert [(one.successful, one.reason) for one in results] == [(True, ""), (False, "mode is train or eval")]
    assert node.get_parameter("mode").value == "eval" and seen == [("mode", "eval"), ("mode", "demo")]


def test_what_is_not_declared_is_an_error(make_node: MakeNode) -> None:
    node = make_node()
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("nothing")
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("nothing", value=1)])
    node.declare_parameter("once", 1)
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("once", 1)


@embedded_only
def test_error_texts(make_node: MakeNode) -> None:
    node = make_node(parameter_overrides=[Parameter("rate", value=1), Parameter("speed", value=2.0)])
    with pytest.raises(InvalidParameterTypeException) as caught:
        node.declare_parameter("rate", 10.0)
    assert str(caught.value) == "parameter 'rate' = 1: is INTEGER, must be DOUBLE; change the override, e.g. 1.0 for 1"
    with pytest.raises(InvalidParameterValueException) as refused:
        node.declare_parameter("speed", 0.1, limits(0.0, 0.5))
    assert "out of range Min: 0.0, Max: 0.5, value: 2.0; change the override" in str(refused.value)


class TestServices:
    """What ``ros2 param`` does, from another node."""

    @pytest.fixture
    def ask(self, make_node: MakeNode) -> Callable[..., Any]:
        node = make_node("target", namespace="/cell")
        node.declare_parameter("rate", 10.0, limits(1.0, 100.0))
        node.declare_parameter("box.low", [0.1, 0.2])
        node.declare_parameter("box.inner.high", 7)
        caller = make_node("caller")

        def ask(service: Any, name: str, **fields: Any) -> Any:
            client = caller.create_client(service, f"/cell/target/{name}")
            assert client.wait_for_service(timeout_sec=DEADLINE_S)
            future = client.call_async(service.Request(**fields))
            spin_until(future.done, node, caller)
            caller.destroy_client(client)
            return future.result()

        return ask

    def test_get_describe_and_types(self, ask: Callable[..., Any]) -> None:
        values = ask(GetParameters, "get_parameters", names=["rate", "box.low"]).values
        assert values[0].type == ParameterType.PARAMETER_DOUBLE and values[0].double_value == 10.0
        assert np.allclose(values[1].double_array_value, [0.1, 0.2])
        assert list(ask(GetParameters, "get_parameters", names=["rate", "nothing"]).values) == []
        one = ask(DescribeParameters, "describe_parameters", names=["rate"]).descriptors[0]
        assert (one.name, one.type, one.description) == ("rate", ParameterType.PARAMETER_DOUBLE, "a limit")
        assert (one.floating_point_range[0].from_value, one.floating_point_range[0].to_value) == (1.0, 100.0)
        types = ask(GetParameterTypes, "get_parameter_types", names=["rate", "box.inner.high"]).types
        assert list(types) == [ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER]

    def test_list(self, ask: Callable[..., Any]) -> None:
        result = ask(ListParameters, "list_parameters").result
        assert {"rate", "box.low", "box.inner.high", "use_sim_time"} <= set(result.names)
        assert {"box", "box.inner"} <= set(result.prefixes)
        below = ask(ListParameters, "list_parameters", prefixes=["box"], depth=1).result
        assert list(below.names) == ["box.low"]

    def test_set(self, ask: Callable[..., Any]) -> None:
        def double(name: str, value: float) -> Any:
            kind = ParameterType.PARAMETER_DOUBLE
            return ParameterMsg(name=name, value=ParameterValue(type=kind, double_value=value))

        given = [double("rate", 50.0), double("rate", 500.0), double("nothing", 1.0)]
        results = ask(SetParameters, "set_parameters", parameters=given).results
        assert [one.successful for one in results] == [True, False, False]
        assert "out of range" in results[1].reason and results[2].reason
        result = ask(SetParametersAtomically, "set_parameters_atomically", parameters=given[:2]).result
        assert not result.successful
        assert ask(GetParameters, "get_parameters", names=["rate"]).values[0].double_value == 50.0


class TestOutside:
    """The command line and files, as ``ros2 run`` and ``ros2 launch`` give them."""

    FILE = """\
/**:
  ros__parameters:
    rate: 5.0
    box: {low: [0.1, 0.2], frame: base}
arm_1:
  ros__parameters: {only: bare}
/cell/arm_1:
  ros__parameters: {rate: 7.5, enabled: yes}
/cell/*:
  ros__parameters: {gain: 1e-3}
"""

    def test_a_file_and_the_command_line(self, make_node: MakeNode, tmp_path: Path) -> None:
        (tmp_path / "p.yaml").write_text(self.FILE)
        args = ["--ros-args", "--params-file", str(tmp_path / "p.yaml"), "-p", "name:=left", "-p", "count:=0x10"]
        node = make_node("arm_1", namespace="/cell", cli_args=args)
        defaults = {"rate": 1.0, "box.low": [0.0], "box.frame": "", "enabled": False, "gain": 1.0, "name": "", "count": 0,
                    "only": "unset"}  # fmt: skip
        values = {name: node.declare_parameter(name, value).value for name, value in defaults.items()}
        # The bare node key is for a node without a namespace.
        assert values == {"rate": 7.5, "box.low": [0.1, 0.2], "box.frame": "base", "enabled": True, "gain": 1e-3,
                          "name": "left", "count": 16, "only": "unset"}  # fmt: skip

    def test_the_section_named_first_is_the_weakest_for_good(self, make_node: MakeNode, tmp_path: Path) -> None:
        first, second = tmp_path / "p.yaml", tmp_path / "q.yaml"
        first.write_text("/**: {ros__parameters: {a: p, b: p, c: p}}\n/**/sim: {ros__parameters: {b: p sim, c: p sim}}\n")
        second.write_text("/**: {ros__parameters: {a: q, b: q}}\n/**/sim: {ros__parameters: {c: q sim}}\n")
        args = ["--ros-args", "--params-file", str(first), "--params-file", str(second), "-p", "b:=word"]
        node = make_node("sim", namespace="/arm0", cli_args=args)
        assert {name: node.declare_parameter(name, "").value for name in "abc"} == {
            "a": "q", "b": "p sim", "c": "q sim",
        }  # fmt: skip

    def test_names_are_remapped(self, make_node: MakeNode) -> None:
        args = ["--ros-args", "-r", "__node:=left", "-r", "__ns:=/cell", "-r", "image:=/camera/image", "-r", "~/state:=state"]
        node = make_node("arm", cli_args=args)
        assert (node.get_name(), node.get_namespace()) == ("left", "/cell")
        assert node.get_fully_qualified_name() == "/cell/left"
        assert node.create_publisher(ParameterMsg, "image", 1).topic_name == "/camera/image"
        assert node.create_publisher(ParameterMsg, "~/state", 1).topic_name == "/cell/state"
        assert node.create_publisher(ParameterMsg, "~/other", 1).topic_name == "/cell/left/other"
        assert node.create_publisher(ParameterMsg, "/image", 1).topic_name == "/image"


@embedded_only
class TestYaml:
    """rcl's reading of YAML, case by case."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1", 1), ("-3", -3), ("010", 8), ("0x1F", 31), ("0", 0), ("1.0", 1.0), ("1e5", 1e5), (".5", 0.5), ("5.", 5.0),
            ("-1.5e-3", -1.5e-3), (".inf", float("inf")), ("-.INF", float("-inf")), ("true", True), ("Yes", True),
            ("on", True), ("y", True), ("off", False), ("N", False), ("'yes'", "yes"), ('"1"', "1"), ("!!str 1", "1"),
            ("word", "word"), ("2 words", "2 words"), ("1.2.3", "1.2.3"), ("/a/b", "/a/b"), ("''", ""), ("08", 8.0),
            ("[1, 2]", [1, 2]), ("[1.0, 2e0]", [1.0, 2.0]), ("[a, '1']", ["a", "1"]), ("[no, yes]", [False, True]),
            ("[]", []), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", 2.0**63), ("null", "null"),
        ],
    )  # fmt: skip
    def test_values(self, text: str, value: Any) -> None:
        from irevla_ros.ros.embedded.parameter_file import parse_value

        found = parse_value(text, "test")
        assert found == value and type(found) is type(value)

    def test_not_a_number_is_a_float(self) -> None:
        from irevla_ros.ros.embedded.parameter_file import parse_value

        assert parse_value(".nan", "test") != parse_value(".nan", "test")

    @pytest.mark.parametrize(
        ("text", "rule"),
        [("[1, 2.0]", "a list holds values of one type"), ("[[1]]", "lists of lists are no parameter values"),
         ("{a: 1}", "a mapping is no parameter value"), ("", "no value"), ("[1", "is not YAML")],
    )  # fmt: skip
    def test_refusals_name_the_rule(self, text: str, rule: str) -> None:
        from irevla_ros.ros.embedded.parameter_file import parse_value

        with pytest.raises(ConfigError) as caught:
            parse_value(text, "parameter 'x'")
        assert rule in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "line", "rule"),
        [("arm:\n  rate: 1\n", 2, "no 'ros__parameters' below arm/rate"), ("ros__parameters: {}\n", 1, "belongs to no node"),
         ("arm:\n  ros__parameters:\n    rate:\n", 3, "no value"), ("- 1\n", 1, "below the top")],
    )  # fmt: skip
    def test_a_bad_file_is_named_with_its_line(self, tmp_path: Path, text: str, line: int, rule: str) -> None:
        from irevla_ros.ros.embedded.parameter_file import load_parameter_file

        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_parameter_file(str(path))
        assert f"bad.yaml', line {line}" in str(caught.value) and rule in str(caught.value)

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [("/**", "/a /ns/a /x/y/a"), ("/a", "/a"), ("/ns/a", "/ns/a"), ("/*/a", "/ns/a"), ("/**/a", "/a /ns/a /x/y/a"),
         ("/ns/*", "/ns/a"), ("/x/**/a", "/x/y/a")],
    )  # fmt: skip
    def test_node_patterns(self, pattern: str, names: str) -> None:
        from irevla_ros.ros.embedded.parameter_file import matches

        every = ["/a", "/ns/a", "/x/y/a"]
        assert [name for name in every if matches(pattern, name)] == names.split()
        assert not matches(pattern, "/ns/b/c/d") or pattern == "/**"
