"""One thread for all callbacks, in turn; a worker for what takes longer. The same tests on both backends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

import ros_toys
from irevla_ros.ros import (
    ExternalShutdownException,
    Node,
    SingleThreadedExecutor,
    init,
    ok,
    shutdown,
    spin,
    spin_once,
    try_shutdown,
)
from irevla_ros.ros.messages import Int64, String
from irevla_ros.ros.qos import EVENT
from irevla_ros.ros.worker import LatestWorker
from ros_toys import DEADLINE_S, embedded_only, opened, spin_for, spin_until

make_node = ros_toys.make_node
MakeNode = Callable[..., Node]


@pytest.fixture
def context() -> object:
    with opened():
        yield


pytestmark = pytest.mark.usefixtures("context")


def test_every_callback_runs_in_the_spinning_thread(make_node: MakeNode) -> None:
    node = make_node()
    threads: set[int] = set()
    node.create_subscription(Int64, "number", lambda _: threads.add(threading.get_ident()), EVENT)
    publisher = node.create_publisher(Int64, "number", EVENT)
    node.create_timer(0.01, lambda: threads.add(threading.get_ident()))
    spin_until(lambda: publisher.get_subscription_count() == 1, node)
    other = threading.Thread(target=lambda: publisher.publish(Int64(data=1)))
    other.start()
    other.join()
    spin_for(0.2, node)
    assert threads == {threading.get_ident()}


def test_a_full_topic_does_not_starve_another_or_a_timer(make_node: MakeNode) -> None:
    node = make_node()
    order: list[str] = []

    def still_full(_: Int64) -> None:
        order.append("busy")
        busy.publish(Int64(data=0))

    node.create_subscription(Int64, "busy", still_full, EVENT)
    node.create_subscription(Int64, "quiet", lambda _: order.append("quiet"), EVENT)
    busy, quiet = node.create_publisher(Int64, "busy", EVENT), node.create_publisher(Int64, "quiet", EVENT)
    spin_until(lambda: busy.get_subscription_count() == 1 and quiet.get_subscription_count() == 1, node)
    node.create_timer(0.01, lambda: order.append("timer"))
    for number in range(20):
        busy.publish(Int64(data=number))
    quiet.publish(Int64(data=1))
    spin_until(lambda: "quiet" in order and order.count("timer") > 3, node)
    assert order.index("quiet") < 100


def test_spin_once_waits_no_longer_than_it_is_told(make_node: MakeNode) -> None:
    node = make_node()
    start = time.monotonic()
    for _ in range(3):
        spin_once(node, timeout_sec=0.01)
    assert time.monotonic() - start < DEADLINE_S


def test_nodes_can_leave_an_executor(make_node: MakeNode) -> None:
    stays, leaves = make_node("stays"), make_node("leaves")
    ticks = {"stays": 0, "leaves": 0}
    for node, name in ((stays, "stays"), (leaves, "leaves")):
        node.create_timer(0.005, lambda name=name: ticks.__setitem__(name, ticks[name] + 1))
    executor = SingleThreadedExecutor()
    assert executor.add_node(stays) and executor.add_node(leaves) and not executor.add_node(stays)
    while ticks["leaves"] < 2:
        executor.spin_once(timeout_sec=0.1)
    executor.remove_node(leaves)
    count, seen = ticks["leaves"], ticks["stays"]
    while ticks["stays"] < seen + 5:
        executor.spin_once(timeout_sec=0.1)
    assert ticks["leaves"] == count
    executor.shutdown()


def test_a_node_has_one_executor(make_node: MakeNode) -> None:
    """As in rclpy: who takes a node takes it away from the one before."""
    node = make_node()
    first, second = SingleThreadedExecutor(), SingleThreadedExecutor()
    assert node.executor is None and first.add_node(node) and node.executor is first
    assert second.add_node(node)
    assert (first.get_nodes(), second.get_nodes()) == ([], [node]) and node.executor is second
    node.executor = first
    assert (first.get_nodes(), second.get_nodes()) == ([node], [])
    node.executor = None
    assert node.executor is None and first.get_nodes() == []
    for executor in (first, second):
        executor.shutdown()


def test_what_a_callback_raises_comes_out_of_spin(make_node: MakeNode) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in a timer")

    node = make_node()
    node.create_timer(0.01, fail)
    with pytest.raises(ZeroDivisionError, match="in a timer"):
        spin_for(DEADLINE_S, node)


def test_spin_ends_when_another_thread_shuts_down() -> None:
    node = Node("sleeper")
    spinning = threading.Event()
    node.create_timer(0.01, spinning.set)

    def close() -> None:
        spinning.wait(DEADLINE_S)
        shutdown()

    other = threading.Thread(target=close)
    other.start()
    # It raises where it waited, and may return where it was busy.
    with contextlib.suppress(ExternalShutdownException):
        spin(node)
    other.join()
    assert spinning.is_set() and not ok()


def test_a_callback_may_shut_down() -> None:
    node = Node("last")
    node.create_timer(0.01, shutdown)
    with contextlib.suppress(ExternalShutdownException):
        spin(node)
    assert not ok()


def test_contexts_open_once_and_close_once() -> None:
    assert ok()
    with pytest.raises(RuntimeError, match="only be called once"):
        init(args=[])
    shutdown()
    assert not ok()
    with pytest.raises(RuntimeError):
        shutdown()
    try_shutdown()
    init(args=[])
    assert ok()


@embedded_only
def test_nothing_works_without_a_context() -> None:
    from irevla_ros.ros.embedded.exceptions import NotInitializedException

    node = Node("node")
    publisher = node.create_publisher(String, "word", EVENT)
    shutdown()
    with pytest.raises(NotInitializedException, match="^node 'late': needs an open context; call init first$"):
        Node("late")
    with pytest.raises(NotInitializedException, match="^publish on /word: the context is shut down"):
        publisher.publish(String(data="x"))
    node.destroy_node()  # again: nothing happens


class TestLatestWorker:
    def test_results_come_on_the_executors_thread(self, make_node: MakeNode) -> None:
        node = make_node()
        got: list[tuple[int, int, int]] = []
        worker: LatestWorker[int, tuple[int, int]] = LatestWorker(
            node, lambda x: (x * x, threading.get_ident()), lambda r: got.append((*r, threading.get_ident()))
        )
        assert worker.submit(7) is False
        spin_until(lambda: got, node)
        (square, working, receiving) = got[0]
        assert square == 49 and receiving == threading.get_ident() != working
        assert (worker.completed, worker.overwritten) == (1, 0)
        assert worker.close(timeout_sec=DEADLINE_S)

    def test_the_newest_item_wins_and_the_rest_is_counted(self, make_node: MakeNode) -> None:
        node = make_node()
        entered, go = threading.Event(), threading.Event()
        got: list[int] = []

        def work(item: int) -> int:
            entered.set()
            go.wait(DEADLINE_S)
            return item

        worker: LatestWorker[int, int] = LatestWorker(node, work, got.append)
        worker.submit(0)
        assert entered.wait(DEADLINE_S)
        assert [worker.submit(item) for item in (1, 2, 3)] == [False, True, True]
        go.set()
        spin_until(lambda: len(got) == 2, node)
        assert got == [0, 3] and worker.overwritten == 2
        assert worker.close(timeout_sec=DEADLINE_S)

    def test_what_the_work_raises_is_raised_by_the_executor(self, make_node: MakeNode) -> None:
        node = make_node()
        worker: LatestWorker[int, float] = LatestWorker(node, lambda x: 1 / x, lambda _: None)
        worker.submit(0)
        with pytest.raises(ZeroDivisionError):
            spin_for(DEADLINE_S, node)
        assert worker.close(timeout_sec=DEADLINE_S)

    def test_a_fault_can_be_handled(self, make_node: MakeNode) -> None:
        node = make_node()
        faults: list[Exception] = []
        got: list[float] = []
        worker: LatestWorker[int, float] = LatestWorker(node, lambda x: 1 / x, got.append, faults.append)
        worker.submit(0)
        spin_until(lambda: faults, node)
        worker.submit(4)
        spin_until(lambda: got, node)
        assert isinstance(faults[0], ZeroDivisionError) and got == [0.25]
        assert worker.close(timeout_sec=DEADLINE_S)

    def test_closing_while_it_works_delivers_nothing_more(self, make_node: MakeNode) -> None:
        node = make_node()
        entered, go = threading.Event(), threading.Event()
        got: list[int] = []

        def work(item: int) -> int:
            entered.set()
            go.wait(DEADLINE_S)
            return item

        worker: LatestWorker[int, int] = LatestWorker(node, work, got.append)
        worker.submit(1)
        assert entered.wait(DEADLINE_S)
        assert worker.close(timeout_sec=0.01) is False
        go.set()
        assert worker.close(timeout_sec=DEADLINE_S)
        spin_for(0.05, node)
        assert got == [] and worker.submit(2) is False
