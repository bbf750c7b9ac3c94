"""Clocks of two hosts: the estimate by hand, and by a real service whose clock is set wrong. Both backends."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import pytest

import ros_toys
from irevla_ros.cli import doctor
from irevla_ros.ros import Node, try_shutdown
from irevla_ros.ros.clock_offset import Exchange, Offset, clock_services, estimate, measure, serve_clock
from irevla_ros.ros.errors import MiddlewareError
from irevla_ros.ros.messages import Trigger
from ros_toys import Process, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]
MS = 1_000_000


def test_one_exchange_bounds_the_offset_by_its_round_trip() -> None:
    # Sent at 100 ms, received at 110 ms, answered at 155 ms of the other clock: ahead by 45 to 55 ms.
    found = estimate([Exchange(100 * MS, 155 * MS, 110 * MS)])
    assert (found.offset_s, found.error_s) == pytest.approx((0.050, 0.005))
    assert not found.within(0.020) and found.within(0.0551) and not found.within(0.0549)


def test_several_exchanges_bound_it_together() -> None:
    # 45 to 55, 48 to 70, and 30 to 51 ms: between 48 and 51.
    exchanges = [Exchange(100 * MS, 155 * MS, 110 * MS), Exchange(0, 70 * MS, 22 * MS), Exchange(0, 51 * MS, 21 * MS)]
    found = estimate(exchanges)
    assert (found.offset_s, found.error_s) == pytest.approx((0.0495, 0.0015))


def test_a_clock_behind_is_negative() -> None:
    assert estimate([Exchange(50 * MS, 20 * MS, 54 * MS)]) == Offset(-0.032, 0.002)


def test_a_clock_that_is_set_meanwhile_is_refused() -> None:
    # 45 to 55 ms before, -5 to 5 after.
    with pytest.raises(MiddlewareError, match=r"^clock offset: a clock moved by 40\.000 ms meanwhile; measure again"):
        estimate([Exchange(100 * MS, 155 * MS, 110 * MS), Exchange(200 * MS, 205 * MS, 210 * MS)])
    with pytest.raises(MiddlewareError, match="needs one exchange at least"):
        estimate([])


def test_the_clock_of_another_process_is_measured(make_node: MakeNode) -> None:
    asker = make_node("asker")
    with Process("clock", "gpu-box", 0.25):
        spin_until(lambda: clock_services(asker), asker)
        assert clock_services(asker) == ["/irevla/clock/gpu_box"]
        found = measure(asker, "/irevla/clock/gpu_box")
    # Error bars are honest on a busy machine, too: the truth is within them.
    assert abs(found.offset_s - 0.25) <= found.error_s + 1e-6
    assert found.error_s < 1.0


def test_an_answer_that_is_no_time_is_refused(make_node: MakeNode) -> None:
    node = make_node("both")
    node.create_service(Trigger, "/irevla/clock/broken", lambda _, response: response)
    spin_until(lambda: clock_services(node), node)
    with pytest.raises(MiddlewareError, match="is not a time in nanoseconds"):
        measure(node, "/irevla/clock/broken")


def test_a_host_whose_name_is_a_number_has_a_service(make_node: MakeNode) -> None:
    node = make_node("server")
    assert serve_clock(node, "10.0.0.1", time.time_ns).service_name == "/irevla/clock/host_10_0_0_1"


class TestDoctor:
    """Not in the module's context: the doctor opens its own."""

    @pytest.fixture(autouse=True)
    def closed(self) -> None:
        try_shutdown()

    def test_it_says_which_backend_and_why(self) -> None:
        (line,) = doctor.check_middleware()
        assert line.status is doctor.Status.OK
        assert line.found.startswith("embedded: ") or line.found.startswith("native: ")

    @pytest.mark.parametrize(("ahead_s", "status"), [(0.0, doctor.Status.OK), (5.0, doctor.Status.FAIL)])
    def test_it_refuses_a_clock_that_is_off(self, ahead_s: float, status: doctor.Status) -> None:
        with Process("clock", "other", ahead_s) as clock:
            clock.expect("up")
            (line,) = doctor.check_clocks(limit_s=2.0)
        assert line.status is status and line.name == "clock of other"
        assert ("synchronise" in line.remedy) == (status is doctor.Status.FAIL)

    def test_the_limit_is_20_ms_unless_it_is_said(self) -> None:
        parser = argparse.ArgumentParser()
        doctor.add_arguments(parser)
        arguments = parser.parse_args([])
        assert (arguments.clocks, arguments.clock_limit) == (False, 20.0)
