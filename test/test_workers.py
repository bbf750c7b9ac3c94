from __future__ import annotations

import os
import signal
import time

import pytest

from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.jobs.workers import WorkerError, WorkerPool


def add(context, send, number):
    context.kept["sum"] = context.kept.get("sum", 0) + number
    send((context.rank, "is", "working"))
    return context.rank, context.size, context.kept["sum"]


def fail_as_a_user_can(context, send, rank):
    if context.rank == rank:
        raise unknown_name("camera", "fornt", ["front", "wrist"])
    time.sleep(60)


def divide(context, send, by):
    return 1 / by


def identify(context, send):
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def kill_one(context, send, rank):
    if context.rank == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def chatter(context, send):
    while True:
        send(b"x" * 1000)


def stop_at_the_first(message):
    raise KeyboardInterrupt


def test_a_worker_that_speaks_while_the_pool_is_closed_or_the_parent_killed_says_nothing_on_stderr(capfd):
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), WorkerPool(2) as pool:
            pool.run(chatter, [{}, {}], stop_at_the_first)
    with WorkerPool(1) as pool:
        [worker] = pool._processes
        with pytest.raises(KeyboardInterrupt):
            pool.run(chatter, [{}], stop_at_the_first)
        pool._connections[0].close()  # all that a worker sees of a parent's death
        worker.join(20)
        assert worker.exitcode == 1
    assert capfd.readouterr().err == ""


def test_results_come_by_rank_messages_as_they_are_sent_and_state_is_kept(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with WorkerPool(2) as pool:
        messages = []
        assert pool.run(add, [{"number": 1}, {"number": 10}], messages.append) == [(0, 2, 1), (1, 2, 10)]
        assert sorted(messages) == [(0, "is", "working"), (1, "is", "working")]
        assert pool.run(add, [{"number": 1}, {"number": 10}]) == [(0, 2, 2), (1, 2, 20)]
        (first, threads), (second, _) = pool.run(identify, [{}, {}])
        assert len({first, second, os.getpid()}) == 3
        assert threads == "1" and "OMP_NUM_THREADS" not in os.environ
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            pool.run(identify, [{}])


def test_a_users_error_crosses_with_its_text_without_waiting_for_the_others():
    with WorkerPool(2) as pool:
        start = time.monotonic()
        with pytest.raises(ConfigError, match="^camera 'fornt': no such camera; did you mean 'front'\\?$") as error:
            pool.run(fail_as_a_user_can, [{"rank": 1}] * 2)
        assert time.monotonic() - start < 30
        assert error.value.remedy == "did you mean 'front'?"


def test_any_other_failure_shows_its_traceback_and_a_lone_worker_lives_on():
    with WorkerPool(1) as pool:
        with pytest.raises(WorkerError, match="(?s)^worker process 0 failed: .*ZeroDivisionError: .*; report this with"):
            pool.run(divide, [{"by": 0}])
        assert pool.run(divide, [{"by": 2}]) == [0.5]


def test_a_killed_worker_is_noticed_at_once():
    with WorkerPool(2) as pool:
        start = time.monotonic()
        with pytest.raises(WorkerError, match="^worker process 1 died: it must live as long as the run; look for the out"):
            pool.run(kill_one, [{"rank": 1}] * 2)
        assert time.monotonic() - start < 30
        assert pool.size == 0


def test_a_worker_killed_between_two_calls_is_noticed_at_the_next():
    with WorkerPool(1) as pool:
        ((pid, _),) = pool.run(identify, [{}])
        os.kill(pid, signal.SIGKILL)
        pool._processes[0].join()
        with pytest.raises(WorkerError, match="^worker process 0 died: "):
            pool.run(identify, [{}])


def test_ctrl_c_is_left_to_the_parent_and_closing_twice_does_no_harm():
    pool = WorkerPool(1)
    ((pid, _),) = pool.run(identify, [{}])
    os.kill(pid, signal.SIGINT)
    assert pool.run(divide, [{"by": 4}]) == [0.25]
    pool.close()
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
