"""Timers, clocks and simulated time. The same tests on both backends, and the clock's rules with an injected clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

import ros_toys
from irevla_ros.ros import Clock, ClockType, Duration, Node, Parameter, Time, Timer
from irevla_ros.ros.messages import Clock as ClockMsg
from irevla_ros.ros.messages import TimeMsg
from irevla_ros.ros.qos import EVENT
from ros_toys import embedded_only, spin_for, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]
SECOND = 1_000_000_000


def test_times_and_durations_are_integers_of_nanoseconds() -> None:
    time = Time(seconds=3, nanoseconds=5)
    assert time.nanoseconds == 3 * SECOND + 5
    assert (time.to_msg().sec, time.to_msg().nanosec) == (3, 5)
    message = TimeMsg(sec=7, nanosec=9)
    assert Time.from_msg(message).nanoseconds == 7 * SECOND + 9
    assert Time.from_msg(message, clock_type=ClockType.SYSTEM_TIME) - time == Duration(seconds=4, nanoseconds=4)
    assert time + Duration(seconds=1.5) == Time(seconds=4, nanoseconds=SECOND // 2 + 5)
    assert Duration(nanoseconds=-1).to_msg().sec == -1 and Duration(nanoseconds=-1).to_msg().nanosec == SECOND - 1
    assert Duration.from_msg(Duration(seconds=2.25).to_msg()).nanoseconds == 2 * SECOND + SECOND // 4
    assert time < Time(seconds=4) <= Time(seconds=4)


def test_times_of_different_clocks_do_not_compare() -> None:
    with pytest.raises(TypeError, match="different clock types"):
        assert Time(seconds=1) < Time(seconds=1, clock_type=ClockType.STEADY_TIME)
    with pytest.raises(ValueError, match="not be negative"):
        Time(seconds=-1)
    with pytest.raises(OverflowError):
        Time(nanoseconds=2**63)


def test_the_steady_clock_only_moves_forward() -> None:
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    times = [clock.now() for _ in range(100)]
    assert all(one <= other for one, other in itertools.pairwise(times))
    assert abs((Clock().now() - Time(nanoseconds=0)).nanoseconds) > 10**18  # system time counts from 1970


def test_a_timer_repeats_until_it_is_cancelled(make_node: MakeNode) -> None:
    node = make_node()
    ticks: list[int] = []
    timer = node.create_timer(0.01, lambda: ticks.append(1))
    spin_until(lambda: len(ticks) >= 3, node)
    timer.cancel()
    assert timer.is_canceled()
    count = len(ticks)
    spin_for(0.1, node)
    assert len(ticks) == count
    timer.reset()
    spin_until(lambda: len(ticks) > count, node)
    assert not timer.is_canceled()
    assert node.destroy_timer(timer)


def test_a_node_follows_the_clock_topic(make_node: MakeNode) -> None:
    node = make_node("follower", parameter_overrides=[Parameter("use_sim_time", value=True)])
    source = make_node("source")
    publisher = source.create_publisher(ClockMsg, "/clock", EVENT)
    ticks: list[int] = []
    node.create_timer(1.0, lambda: ticks.append(node.get_clock().now().nanoseconds // SECOND))
    spin_until(lambda: publisher.get_subscription_count() == 1, node, source)

    def show(seconds: int) -> None:
        publisher.publish(ClockMsg(clock=TimeMsg(sec=seconds)))
        spin_until(lambda: node.get_clock().now().nanoseconds == seconds * SECOND, node, source)

    show(100)
    spin_until(lambda: ticks, node)
    ticks.clear()
    show(101)
    spin_until(lambda: ticks == [101], node)
    # Ten seconds at once are one call, not ten.
    show(111)
    spin_until(lambda: ticks == [101, 111], node)
    # Back in time: no burst, and the period starts anew from there.
    show(50)
    spin_for(0.1, node)
    assert ticks == [101, 111]
    show(51)
    spin_until(lambda: ticks == [101, 111, 51], node)
    # Simulated time stands still while nobody says otherwise.
    spin_for(0.1, node)
    assert ticks == [101, 111, 51] and node.get_clock().now().nanoseconds == 51 * SECOND


def test_simulated_time_can_be_switched_while_running(make_node: MakeNode) -> None:
    node = make_node()
    before = node.get_clock().now().nanoseconds
    assert node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful
    assert node.get_clock().now().nanoseconds < before  # nobody has published a time yet
    assert node.set_parameters([Parameter("use_sim_time", value=False)])[0].successful
    assert node.get_clock().now().nanoseconds >= before


@embedded_only
class TestTimerRules:
    """With a clock that the test moves."""

    def timer(self, period_s: float) -> tuple[Timer, Callable[[float], None]]:
        from irevla_ros.ros.embedded.clock import ROSClock

        clock = ROSClock()
        clock._set_ros_time_is_active(True)

        def move(seconds: float) -> None:
            clock.set_ros_time_override(Time(seconds=seconds, clock_type=ClockType.ROS_TIME))

        move(100.0)
        return Timer(lambda: None, int(period_s * SECOND), clock, lambda: None), move

    def due(self, timer: Timer) -> bool:
        ready = timer.ready()
        assert (timer.take() is not None) == ready
        return ready

    def test_it_keeps_its_grid(self) -> None:
        timer, move = self.timer(1.0)
        assert not self.due(timer)
        move(101.4)
        assert self.due(timer) and not self.due(timer)
        move(101.9)
        assert not self.due(timer)
        move(102.0)
        assert self.due(timer)

    def test_it_skips_what_it_missed(self) -> None:
        timer, move = self.timer(1.0)
        move(107.5)
        assert self.due(timer) and not self.due(timer)
        move(107.9)
        assert not self.due(timer)
        move(108.0)
        assert self.due(timer)

    def test_a_jump_back_starts_the_period_anew(self) -> None:
        timer, move = self.timer(1.0)
        move(101.0)
        assert self.due(timer)
        move(20.0)
        assert not self.due(timer)
        move(20.9)
        assert not self.due(timer)
        move(21.0)
        assert self.due(timer)

    def test_it_does_not_wait_for_a_clock_that_only_messages_move(self) -> None:
        timer, move = self.timer(1.0)
        assert timer.wait_s() is None
        steady = Timer(lambda: None, SECOND, Clock(clock_type=ClockType.STEADY_TIME), lambda: None)
        wait = steady.wait_s()
        assert wait is not None and 0.0 < wait <= 1.0
        move(101.0)
        assert timer.ready()
