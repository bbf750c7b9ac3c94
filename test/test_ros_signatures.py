"""The closed list: what it holds, and that each signature is one that rclpy has, too."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import irevla_ros.ros
from irevla_ros.ros.backend import Backend, choose, chosen
from irevla_ros.ros.errors import MiddlewareError
from ros_toys import EMBEDDED, embedded_only

ROOT = Path(__file__).resolve().parent.parent

# Class of the embedded backend -> methods and properties that a node may use, with rclpy's signatures.
METHODS = {
    "Node": "__init__ get_name get_namespace get_fully_qualified_name get_logger get_clock create_publisher"
            " create_subscription create_client create_service create_timer destroy_publisher destroy_subscription"
            " destroy_client destroy_service destroy_timer destroy_node declare_parameter has_parameter get_parameter"
            " describe_parameter set_parameters set_parameters_atomically add_on_set_parameters_callback resolve_topic_name"
            " resolve_service_name get_node_names_and_namespaces get_topic_names_and_types get_service_names_and_types"
            " count_publishers count_subscribers executor",
    "Publisher": "publish get_subscription_count topic_name",
    "Subscription": "topic_name",
    "Client": "call_async wait_for_service service_is_ready remove_pending_request service_name",
    "Service": "service_name",
    "Future": "done cancelled cancel result exception set_result set_exception add_done_callback",
    "Timer": "cancel reset is_canceled timer_period_ns clock",
    "Clock": "__init__ now clock_type",
    "Time": "__init__ nanoseconds seconds_nanoseconds clock_type to_msg from_msg",
    "Duration": "__init__ nanoseconds to_msg from_msg",
    "Parameter": "__init__ name type_ value get_parameter_value to_parameter_msg from_parameter_msg",
    "SingleThreadedExecutor": "__init__ add_node remove_node get_nodes wake shutdown spin spin_once",
}  # fmt: skip
FUNCTIONS = ("init", "ok", "shutdown", "try_shutdown", "spin", "spin_once")
# rclpy sets these in __init__, so its class does not show them.
INSTANCE_ATTRIBUTES = {("Subscription", "topic_name"), ("Service", "service_name")}


def embedded() -> Any:
    return importlib.import_module("irevla_ros.ros.embedded.api")


def native() -> Any:
    try:
        importlib.import_module("rclpy")
    except ImportError as error:
        pytest.skip(f"no rclpy to compare with ({error})")
    return importlib.import_module("irevla_ros.ros.native.api")


def needs_embedded() -> None:
    for module in ("zenoh", "rosbags"):
        pytest.importorskip(module)


def fits(ours: Callable[..., Any], theirs: Callable[..., Any]) -> list[str]:
    """How a call that our signature allows could mean something else, or nothing, to rclpy's."""
    faults = []
    mine = list(inspect.signature(ours).parameters.values())
    other = inspect.signature(theirs).parameters
    other_names = list(other)
    swallows = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in other.values())
    for position, parameter in enumerate(mine):
        if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            continue
        if parameter.name not in other:
            if not swallows:
                faults.append(f"{parameter.name} is not in {other_names}")
            continue
        found = other[parameter.name]
        by_position = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if by_position and (found.kind is inspect.Parameter.KEYWORD_ONLY or other_names.index(parameter.name) != position):
            faults.append(f"{parameter.name} is at another position: {other_names}")
        if parameter.default is inspect.Parameter.empty and found.default is not inspect.Parameter.empty:
            continue  # we ask for more than rclpy does
        simple = (bool, int, float, str, type(None))
        if isinstance(parameter.default, simple) and isinstance(found.default, simple) and parameter.default != found.default:
            faults.append(f"{parameter.name} defaults to {parameter.default!r}, not {found.default!r}")
    required = {name for name, one in other.items() if one.default is inspect.Parameter.empty
                and one.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)}  # fmt: skip
    return faults + [f"rclpy requires {name}" for name in sorted(required - {one.name for one in mine})]


def test_the_list_is_closed_and_the_same_everywhere() -> None:
    names = set(irevla_ros.ros.__all__)
    assert all(hasattr(irevla_ros.ros, name) for name in names)
    assert set(METHODS) | set(FUNCTIONS) < names
    if EMBEDDED:
        assert set(embedded().__all__) == names
    public = {name for name in vars(irevla_ros.ros) if not name.startswith("_")}
    submodules = {path.stem for path in (ROOT / "irevla_ros" / "ros").iterdir()}
    assert public - names - submodules <= {"annotations", "Any", "TYPE_CHECKING"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_rclpys_signatures(name: str) -> None:
    needs_embedded()
    native()
    assert fits(getattr(embedded(), name), getattr(importlib.import_module("rclpy"), name)) == []


@pytest.mark.parametrize("name", METHODS)
def test_classes_have_rclpys_methods(name: str) -> None:
    needs_embedded()
    # Not our subclass of it.
    theirs = next(one for one in getattr(native(), name).__mro__ if not one.__module__.startswith("irevla_ros"))
    ours = getattr(embedded(), name)
    faults = {}
    for member in METHODS[name].split():
        mine = inspect.getattr_static(ours, member, None)
        other = inspect.getattr_static(theirs, member, None)
        if other is None:
            faults[member] = [] if (name, member) in INSTANCE_ATTRIBUTES else ["rclpy has no such member"]
        elif isinstance(mine, property) or isinstance(other, property):
            faults[member] = [] if isinstance(mine, property) == isinstance(other, property) else ["one is a property"]
        elif member == "__init__":
            faults[member] = fits(ours, theirs)
        else:
            faults[member] = fits(getattr(ours, member), getattr(theirs, member))
    assert {member: found for member, found in faults.items() if found} == {}


def test_a_difference_would_be_found() -> None:
    def rclpys(self: Any, topic: str, qos: int, *, group: Any = None, depth: int = 1) -> None: ...
    def good(self: Any, topic: str, qos: int, *, depth: int = 1) -> None: ...
    def swapped(self: Any, qos: int, topic: str) -> None: ...
    def renamed(self: Any, name: str, qos: int) -> None: ...
    def default(self: Any, topic: str, qos: int, *, depth: int = 2) -> None: ...

    assert fits(good, rclpys) == []
    assert fits(swapped, rclpys) == [
        "qos is at another position: ['self', 'topic', 'qos', 'group', 'depth']",
        "topic is at another position: ['self', 'topic', 'qos', 'group', 'depth']",
    ]
    assert fits(renamed, rclpys)[0].startswith("name is not in") and fits(renamed, rclpys)[-1] == "rclpy requires topic"
    assert fits(default, rclpys) == ["depth defaults to 2, not 1"]


def test_the_policies_have_rmws_numbers() -> None:
    from irevla_ros.ros import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

    assert (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT) == (1, 2)
    assert (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE) == (1, 2)
    assert (HistoryPolicy.KEEP_LAST, HistoryPolicy.KEEP_ALL) == (1, 2)


class TestChoice:
    def test_a_wrong_name_is_one_line(self) -> None:
        with pytest.raises(MiddlewareError) as caught:
            choose({"IREVLA_ROS": "cyclone"})
        assert str(caught.value) == "IREVLA_ROS=cyclone: must be native or embedded; unset it to let rclpy decide"

    @embedded_only
    def test_embedded_is_chosen_where_rclpy_does_not_import_or_on_request(self) -> None:
        assert choose({"IREVLA_ROS": "embedded"}) == type(chosen())(Backend.EMBEDDED, "IREVLA_ROS=embedded")
        try:
            importlib.import_module("rclpy")
        except ImportError:
            assert choose({}).backend is Backend.EMBEDDED and choose({}).reason.startswith("rclpy does not import (")
            with pytest.raises(MiddlewareError, match=r"^IREVLA_ROS=native: rclpy does not import \(.*\); source ROS 2 for"):
                choose({"IREVLA_ROS": "native"})

    def test_native_is_the_default_where_rclpy_imports(self) -> None:
        native()
        assert choose({}).backend is Backend.NATIVE and choose({}).reason.startswith("rclpy imports")

    def test_a_missing_library_is_named(self) -> None:
        """In a process that cannot see Zenoh."""
        code = "import sys, os\nsys.modules['zenoh'] = None\nos.environ['IREVLA_ROS'] = 'embedded'\nimport irevla_ros.ros\n" \
               "try: irevla_ros.ros.Node\nexcept irevla_ros.ros.backend.MiddlewareError as e: print(e)"  # fmt: skip
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert result.stdout.startswith("IREVLA_ROS=embedded: the embedded backend needs zenoh (")
        assert result.stdout.endswith("pip install 'irevla_ros[embedded]', or source ROS 2\n")


def test_the_other_backend_passes_the_same_tests() -> None:
    """The files that look at behaviour only, in a process of the other backend where there is one."""
    other = Backend.NATIVE if EMBEDDED else Backend.EMBEDDED
    if os.environ.get("IREVLA_TEST_OTHER"):
        pytest.skip("this is the run of the other backend")
    try:
        choose({"IREVLA_ROS": other.value})
    except MiddlewareError as error:
        pytest.skip(f"the {other.value} backend is not here: {error}")
    files = [f"test/test_ros_{name}.py" for name in
             ("topics", "time", "services", "executor", "parameters", "run", "logging", "processes")]  # fmt: skip
    environment = {**os.environ, "IREVLA_ROS": other.value, "IREVLA_TEST_OTHER": "1"}
    environment.pop("IREVLA_TEST_DOMAIN", None)
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
                            cwd=ROOT, env=environment, capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]
