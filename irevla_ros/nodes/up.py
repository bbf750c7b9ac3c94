"""A whole graph in one terminal: its processes under the supervisor, its status, and one Ctrl-C that ends all in order."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from irevla_ros.core.errors import Interrupted
from irevla_ros.core.graph_messages import LearnerStatus
from irevla_ros.core.messages import MessageError
from irevla_ros.nodes import topics
from irevla_ros.nodes.console import Console
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.nodes.overview import Overview
from irevla_ros.nodes.supervisor import Supervisor
from irevla_ros.ros import Node, SingleThreadedExecutor
from irevla_ros.ros.messages import DiagnosticArray, String
from irevla_ros.ros.qos import EVENT, LATCHED
from irevla_ros.ros.run import Stop, context

STOPPING = "; a second Ctrl-C, five seconds after the first, ends all at once"
POLL_S = 0.2
PATIENCE_S = 25.0  # a learner in the middle of an update
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal is closed


class Monitor(Node):
    """Hears what the nodes say of themselves."""

    def __init__(self) -> None:
        super().__init__("up")
        self.overview = Overview()
        self.learner: LearnerStatus | None = None
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, EVENT)
        self.create_subscription(String, topics.STATUS, self._on_learner, LATCHED)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.overview.received(message, time.monotonic_ns())

    def _on_learner(self, message: String) -> None:
        try:
            self.learner = LearnerStatus.from_json(message.data)
        except MessageError as error:
            self.get_logger().warning(str(error))


def run_graph(specs: Sequence[ProcessSpec], logs: Path, held: Sequence[int], again: str) -> None:
    """Run until a node has finished the graph's work or a signal comes (Interrupted, naming the command ``again``).
    Raises ConfigError once a node was told something wrong.

    ``logs``: folder of one log file for each process; ``held``: as of ``Supervisor``.
    """
    supervisor, console = Supervisor(specs, logs, held=held), Console(sys.stdout)
    with Stop(SIGNALS) as stop, context(["up"]):
        monitor = Monitor()
        executor = SingleThreadedExecutor()
        executor.add_node(monitor)
        try:
            supervisor.start()
            _watch(supervisor, console, stop, monitor, executor)
        finally:
            console.say(f"stopping{STOPPING if stop.asked else ''}")
            supervisor.stop(PATIENCE_S)
            killed = [status.name for status in supervisor.status() if status.exit_code == -signal.SIGKILL]
            if killed:
                console.say(f"did not stop when asked, killed: {', '.join(killed)}")
            executor.shutdown()
            monitor.destroy_node()
    if not supervisor.finished:
        raise Interrupted(again)


def _watch(supervisor: Supervisor, console: Console, stop: Stop, monitor: Monitor, executor: SingleThreadedExecutor) -> None:
    page, due_s = "", 0.0
    ours = {f"/{status.name}" for status in supervisor.status()}  # another host's page is on that host
    while not (stop.asked or supervisor.finished):
        executor.spin_once(timeout_sec=POLL_S)
        now_s = time.monotonic()
        if now_s < due_s:
            continue
        late, due_s = due_s and now_s - due_s > 1.0, now_s + POLL_S
        if late:
            continue  # this process was held up: what the others said meanwhile is still to be read
        for line in supervisor.poll():
            console.say(line)
        supervisor.check()
        pages = [row.values["page"] for row in monitor.overview.rows(time.monotonic_ns())
                 if row.name in ours and "page" in row.values]  # fmt: skip
        if pages and pages[0] != page:
            page = pages[0]
            console.say(f"page: {page.removeprefix('OK: ')}")
        console.show(supervisor.status(), monitor.overview, time.monotonic_ns(), monitor.learner)
