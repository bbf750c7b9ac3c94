"""Services and clients: answers, deadlines, cancelled and dying calls. The same tests on both backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ros_toys
from irevla_ros.ros import Future, Node
from irevla_ros.ros.calls import call
from irevla_ros.ros.errors import ServiceTimeout
from irevla_ros.ros.messages import SetBool, Trigger
from ros_toys import DEADLINE_S, Process, embedded_only, spin_for, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]


def agree(request: Any, response: Any) -> Any:
    response.success, response.message = request.data, f"data was {request.data}"
    return response


def test_a_call_is_answered(make_node: MakeNode) -> None:
    server, caller = make_node("server"), make_node("caller")
    server.create_service(SetBool, "engage", agree)
    client = caller.create_client(SetBool, "engage")
    assert client.wait_for_service(timeout_sec=DEADLINE_S) and client.service_is_ready()
    told: list[Future] = []
    futures = [client.call_async(SetBool.Request(data=value)) for value in (True, False)]
    for future in futures:
        future.add_done_callback(told.append)
    # A future of rclpy tells its callbacks in a turn of their own.
    spin_until(lambda: len(told) == 2, server, caller)
    assert [(one.result().success, one.result().message) for one in futures] == [
        (True, "data was True"), (False, "data was False"),
    ]  # fmt: skip
    assert sorted(map(id, told)) == sorted(map(id, futures))
    assert futures[0].exception() is None


def test_twenty_calls_at_once_are_all_answered(make_node: MakeNode) -> None:
    server, caller = make_node("server"), make_node("caller")
    server.create_service(SetBool, "often", agree)
    client = caller.create_client(SetBool, "often")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    for _ in range(2):  # ten wait at the server at most
        futures = [client.call_async(SetBool.Request(data=bool(k % 2))) for k in range(10)]
        spin_until(lambda futures=futures: all(one.done() for one in futures), server, caller)
        assert [one.result().success for one in futures] == [bool(k % 2) for k in range(10)]


def test_waiting_for_a_service_that_is_not_there_ends(make_node: MakeNode) -> None:
    client = make_node().create_client(Trigger, "nowhere")
    assert not client.service_is_ready()
    assert not client.wait_for_service(timeout_sec=0.1)


def test_a_call_meets_its_deadline(make_node: MakeNode) -> None:
    caller = make_node("caller")
    client = caller.create_client(Trigger, "nowhere")
    outcome = call(caller, client, Trigger.Request(), timeout_sec=0.1)
    spin_until(outcome.done, caller)
    with pytest.raises(ServiceTimeout, match=r"^service /nowhere: no answer in 0\.1 s; see whether its node is alive"):
        outcome.result()


def test_a_call_with_a_deadline_returns_the_answer(make_node: MakeNode) -> None:
    server, caller = make_node("server"), make_node("caller")
    server.create_service(SetBool, "engage", agree)
    client = caller.create_client(SetBool, "engage")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    outcome = call(caller, client, SetBool.Request(data=True), timeout_sec=DEADLINE_S)
    spin_until(outcome.done, server, caller)
    assert outcome.result().success


def test_the_answer_to_a_cancelled_call_is_ignored(make_node: MakeNode) -> None:
    server, caller = make_node("server"), make_node("caller")
    served: list[bool] = []

    def serve(request: Any, response: Any) -> Any:
        served.append(request.data)
        return agree(request, response)

    server.create_service(SetBool, "engage", serve)
    client = caller.create_client(SetBool, "engage")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    cancelled = call(caller, client, SetBool.Request(data=True), timeout_sec=DEADLINE_S)
    told: list[bool] = []
    cancelled.add_done_callback(lambda future: told.append(future.cancelled()))
    cancelled.cancel()
    assert told == [True]
    later = client.call_async(SetBool.Request(data=False))
    spin_until(later.done, server, caller)
    spin_for(0.1, server, caller)
    assert cancelled.cancelled() and not cancelled.done() and cancelled.result() is None
    assert later.result().message == "data was False" and served[-1] is False


def test_a_server_that_dies_is_noticed_and_its_successor_found(make_node: MakeNode) -> None:
    caller = make_node("caller")
    client = caller.create_client(Trigger, "echo")
    for _ in range(2):
        with Process("echo") as server:
            server.expect("serving")
            assert client.wait_for_service(timeout_sec=DEADLINE_S)
            future = client.call_async(Trigger.Request())
            spin_until(future.done, caller)
            assert future.result().message == "from another process"
            server.kill()
            spin_until(lambda: not client.service_is_ready(), caller)
            dead = call(caller, client, Trigger.Request(), timeout_sec=0.2)
            spin_until(dead.done, caller)
            assert isinstance(dead.exception(), ServiceTimeout)


def test_a_request_of_another_service_is_refused(make_node: MakeNode) -> None:
    client = make_node().create_client(Trigger, "engage")
    with pytest.raises(TypeError):
        client.call_async(SetBool.Request(data=True))


@embedded_only
def test_an_unanswered_call_leaves_nothing_behind(make_node: MakeNode) -> None:
    caller = make_node("caller")
    client = caller.create_client(Trigger, "nowhere")
    outcome = call(caller, client, Trigger.Request(), timeout_sec=0.05)
    spin_until(outcome.done, caller)
    assert client._pending == {} and not any(not timer.is_canceled() for timer in caller._timers)


@embedded_only
def test_a_callback_that_returns_no_response_is_a_fault_of_the_node(make_node: MakeNode) -> None:
    server, caller = make_node("server"), make_node("caller")
    server.create_service(Trigger, "silent", lambda request, response: None)
    client = caller.create_client(Trigger, "silent")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    client.call_async(Trigger.Request())
    with pytest.raises(TypeError, match="/silent: the callback returned"):
        spin_until(lambda: False, server, caller)
