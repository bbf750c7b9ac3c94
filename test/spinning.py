"""A node that spins beside what looks at it; for tests and benchmarks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from irevla_ros.ros import Node, SingleThreadedExecutor, try_shutdown

N = TypeVar("N", bound=Node)


@contextmanager
def spinning(node: N) -> Iterator[N]:
    """Spins ``node`` in a thread of its own; at the end it and the context are gone."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        stop.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        try_shutdown()
