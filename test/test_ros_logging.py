"""Logs: lines on stderr as ROS prints them, and rcl_interfaces/Log on /rosout. On both backends where that shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import ros_toys
from irevla_ros.ros import Node, QoSProfile
from irevla_ros.ros.messages import Log
from ros_toys import embedded_only, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]


def test_lines_also_go_to_rosout(make_node: MakeNode) -> None:
    talker, listener = make_node("talker", namespace="/cell"), make_node("listener")
    got: list[Any] = []
    listener.create_subscription(Log, "/rosout", got.append, QoSProfile(depth=100))
    spin_until(lambda: listener.count_subscribers("/rosout") == 1 and listener.count_publishers("/rosout") >= 1, listener)

    def heard() -> bool:
        talker.get_logger().warning("the arm is warm")
        return any(one.msg == "the arm is warm" for one in got)

    spin_until(heard, talker, listener)
    one = next(one for one in got if one.msg == "the arm is warm")
    assert (one.name, one.level, one.function) == ("cell.talker", Log.WARN if isinstance(Log.WARN, int) else 30, "heard")
    assert one.file.endswith("test_ros_logging.py") and one.stamp.sec > 1_000_000_000


@embedded_only
class TestConsole:
    LINE = re.compile(r"\[(\w+)\] \[(\d+)\.(\d{9})\] \[([\w.]+)\]: (.*)")

    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
        found = [self.LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
        assert all(found)
        return [(one.group(1), one.group(4), one.group(5)) for one in found if one]

    def test_lines_have_ros_form(self, make_node: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
        logger = make_node("arm", namespace="/cell").get_logger()
        capsys.readouterr()
        logger.info("one")
        logger.get_child("limits").error("two")
        logger.debug("not shown")
        assert self.lines(capsys) == [("INFO", "cell.arm", "one"), ("ERROR", "cell.arm.limits", "two")]

    def test_levels(self, make_node: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
        args = ["--ros-args", "--log-level", "warn", "--log-level", "arm.deep:=debug"]
        logger = make_node("arm", cli_args=args).get_logger()
        capsys.readouterr()
        logger.info("hidden")
        logger.warn("shown")
        logger.get_child("deep").debug("shown too")
        logger.set_level(50)
        logger.error("hidden")
        logger.fatal("end")
        assert [text for _, _, text in self.lines(capsys)] == ["shown", "shown too", "end"]

    def test_filters_count_by_line(self, make_node: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
        logger = make_node("arm").get_logger()
        capsys.readouterr()
        for number in range(5):
            logger.info(f"once {number}", once=True)
            logger.info(f"throttled {number}", throttle_duration_sec=3600.0)
            logger.info(f"skipped {number}", skip_first=True)
        texts = [text for _, _, text in self.lines(capsys)]
        assert texts == ["once 0", "throttled 0", *(f"skipped {n}" for n in range(1, 5))]
        with pytest.raises(TypeError, match="not one of the recognized logging options"):
            logger.info("x", twice=True)

    def test_both_outputs_can_be_switched_off(self, make_node: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
        node = make_node("quiet", cli_args=["--ros-args", "--disable-stdout-logs", "--disable-rosout-logs"])
        node.get_logger().error("nobody hears this")
        assert capsys.readouterr().err == ""
        assert "/rosout" not in {one.topic for one in node.io_statistics()}
