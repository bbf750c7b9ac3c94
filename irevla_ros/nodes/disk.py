"""Disk work of a node: in order, on a thread of its own, so that a slow fsync never holds up the executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from irevla_ros.core.errors import IrevlaError
from irevla_ros.ros import Node
from irevla_ros.ros.worker import LatestWorker

_Job = tuple[Callable[[], Any], Callable[[Any], object], Callable[[IrevlaError], object]]


class Disk:
    """Runs each ``work`` once, in the order given; ``done(result)`` or ``failed(error)`` follow on the executor's thread.

    Errors that are no IrevlaError are raised there. Nothing is dropped: whoever gives work bounds it by what is not done.
    """

    def __init__(self, node: Node) -> None:
        self._jobs: deque[_Job] = deque()
        self._worker: LatestWorker[None, list[Callable[[], object]]] = LatestWorker(node, self._run, self._deliver)

    def do(self, work: Callable[[], Any], done: Callable[[Any], object], failed: Callable[[IrevlaError], object]) -> None:
        self._jobs.append((work, done, failed))
        self._worker.submit(None)

    def close(self, timeout_sec: float) -> None:
        """Finish what was given, answers included. After ``timeout_sec`` in one job, what follows it is left undone."""
        if self._worker.close(timeout_sec):
            self._deliver(self._run(None))

    def _run(self, _: None) -> list[Callable[[], object]]:
        answers: list[Callable[[], object]] = []
        while self._jobs:
            work, done, failed = self._jobs.popleft()
            try:
                answers.append(_bound(done, work()))
            except IrevlaError as error:
                answers.append(_bound(failed, error))
        return answers

    @staticmethod
    def _deliver(answers: list[Callable[[], object]]) -> None:
        for answer in answers:
            answer()


def _bound(answer: Callable[[Any], object], value: Any) -> Callable[[], object]:
    return lambda: answer(value)
