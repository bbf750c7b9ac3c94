"""Helpers of the middleware tests: a domain of their own, spinning with a deadline, and other processes.

Run as a program this is one of those processes: ``python ros_toys.py ROLE ARGUMENT...``.
"""

from __future__ import annotations

import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

DEADLINE_S = 30.0
HERE = Path(__file__).resolve()


def free_domain() -> int:
    """A domain whose first meeting point nobody listens on, below those whose DDS ports are ephemeral ones."""
    domains = list(range(1, 100))
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 17447 + 3 * domain)) != 0:
                return domain
    raise RuntimeError("no free domain")


# Tests meet neither each other's nodes nor a robot's. Children inherit the choice.
if "IREVLA_TEST_DOMAIN" not in os.environ:
    os.environ["IREVLA_TEST_DOMAIN"] = str(free_domain())
    for _name in ("IREVLA_CONNECT", "IREVLA_LISTEN"):
        os.environ.pop(_name, None)
os.environ["ROS_DOMAIN_ID"] = os.environ["IREVLA_TEST_DOMAIN"]
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

from irevla_ros.ros.backend import Backend, chosen  # noqa: E402
from irevla_ros.ros.errors import MiddlewareError  # noqa: E402

try:
    EMBEDDED = chosen().backend is Backend.EMBEDDED
except MiddlewareError as _error:
    pytest.skip(str(_error), allow_module_level=True)

from irevla_ros.ros import Node, SingleThreadedExecutor, init, try_shutdown  # noqa: E402

embedded_only = pytest.mark.skipif(not EMBEDDED, reason="looks into the embedded backend; this run is native")


@pytest.fixture(scope="module", autouse=True)
def context() -> Iterator[None]:
    """One context for a test module that imports this fixture."""
    with opened():
        yield


@pytest.fixture
def make_node() -> Iterator[Callable[..., Node]]:
    """Makes nodes, and destroys them after the test."""
    made: list[Node] = []

    def make(name: str = "node", **kwargs: Any) -> Node:
        made.append(Node(name, **kwargs))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


@contextmanager
def opened(args: list[str] | None = None) -> Iterator[None]:
    """A context from ``init`` to ``shutdown``."""
    init(args=args or [])
    try:
        yield
    finally:
        try_shutdown()


def spin_until(predicate: Callable[[], Any], *nodes: Node, timeout_s: float = DEADLINE_S) -> None:
    """Run the callbacks of ``nodes`` until ``predicate`` holds; fail when it does not in time."""
    executor = _passing_executor()
    for node in nodes:
        executor.add_node(node)
    end = time.monotonic() + timeout_s
    try:
        while not predicate():
            assert time.monotonic() < end, f"did not happen within {timeout_s} s"
            executor.spin_once(timeout_sec=0.05)
    finally:
        for node in nodes:
            executor.remove_node(node)
        executor.shutdown()


def _passing_executor() -> SingleThreadedExecutor:
    """rclpy's events executor is for a node's whole life: when one lets go of a node, what it was told of is forgotten."""
    if EMBEDDED:
        return SingleThreadedExecutor()
    from rclpy.executors import SingleThreadedExecutor as Plain

    executor: SingleThreadedExecutor = Plain()
    return executor


def spin_for(seconds: float, *nodes: Node) -> None:
    """Run the callbacks of ``nodes`` for a while: only to show that something does not happen."""
    end = time.monotonic() + seconds
    spin_until(lambda: time.monotonic() > end, *nodes, timeout_s=seconds + DEADLINE_S)


def wait_until(predicate: Callable[[], Any], timeout_s: float = DEADLINE_S) -> None:
    """Wait for what other threads or processes do."""
    end = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < end, f"did not happen within {timeout_s} s"
        time.sleep(0.01)


class Process:
    """Another process, with its lines as they come; it is killed at the end of the ``with``."""

    def __init__(
        self,
        *words: object,
        script: Path = HERE,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        paths = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
        self._child = subprocess.Popen(
            [*prefix, sys.executable, str(script), *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        )  # fmt: skip
        self.pid = self._child.pid
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_output, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def line(self) -> str:
        """Its next line of output; empty at its end. Fails when none comes in time."""
        try:
            return self._lines.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f"no output within {DEADLINE_S} s; errors: {''.join(self._errors)}") from None

    def expect(self, word: str) -> str:
        """Read lines until one starts with ``word``."""
        while True:
            line = self.line()
            if line.startswith(word):
                return line
            assert line, f"ended before {word!r}: {''.join(self._errors)}"

    def silent(self) -> bool:
        """Whether it has said nothing since the last line that was read."""
        return self._lines.empty()

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def finish(self) -> tuple[int, str, str]:
        """(exit code, rest of its output, its errors)."""
        code = self._child.wait(timeout=DEADLINE_S)
        for reader in self._readers:
            reader.join()
        rest: list[str] = []
        while line := self._lines.get():
            rest.append(line)
        return code, "\n".join(rest), "".join(self._errors)

    def _read_output(self) -> None:
        for line in _stream(self._child.stdout):
            self._lines.put(line.strip())
        self._lines.put("")

    def _read_errors(self) -> None:
        for line in _stream(self._child.stderr):
            self._errors.append(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self.kill()
        for reader in self._readers:
            reader.join()
        for stream in (self._child.stdout, self._child.stderr):
            _stream(stream).close()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def say(*words: object) -> None:
    """One whole line on standard output."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    import ros_roles

    sys.exit(ros_roles.main(sys.argv[1], sys.argv[2:]))
