"""What comes from a device of its own pace: a thread that reads it, the newest item wins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from irevla_ros.ros import Node
from irevla_ros.ros.implementation import api

Item = TypeVar("Item")


class LatestProducer(Generic[Item]):
    """Runs ``produce(emit, stopped)`` in a thread and ``received(item)`` on the executor's thread of ``node``.

    ``produce`` calls ``emit(item)`` as often as it likes, and returns soon after ``stopped`` is set; what it raises is
    raised on the executor's thread. An item that was not received when the next one came is counted in ``overwritten``.
    """

    def __init__(self, node: Node, produce: Callable[[Callable[[Item], None], threading.Event], None],
                 received: Callable[[Item], object]) -> None:  # fmt: skip
        self._produce, self._received = produce, received
        self._slot: deque[Item] = deque(maxlen=1)
        self._fault: Exception | None = None
        self._stopped = threading.Event()
        self._telling = threading.Lock()
        self._tell, self._forget = api.caller(node, self._deliver)
        self.overwritten = 0
        self._thread = threading.Thread(target=self._run, name="irevla-producer", daemon=True)
        self._thread.start()

    def close(self, timeout_sec: float | None = None) -> bool:
        """Nothing is received any more; whether the thread has ended in time."""
        with self._telling:
            first = not self._stopped.is_set()
            self._stopped.set()
        if first:
            self._forget()
        self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._produce(self._emit, self._stopped)
        except Exception as error:  # it belongs to the executor's thread
            self._fault = error
            self._wake()

    def _emit(self, item: Item) -> None:
        self.overwritten += len(self._slot)
        self._slot.append(item)
        self._wake()

    def _wake(self) -> None:
        with self._telling:  # once stopped, there is nobody to tell
            if not self._stopped.is_set():
                self._tell()

    def _deliver(self) -> None:
        if self._stopped.is_set():
            return
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        if self._slot:
            self._received(self._slot.popleft())
