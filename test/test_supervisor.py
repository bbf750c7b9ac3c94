"""Real processes: restart with back-off, order of stopping, and no orphan when the supervisor is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.nodes.supervisor import Supervisor

# Says when it is asked to stop, in a file that all share, and stops.
POLITE = """
import signal, sys, time
def stop(number, frame):
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2] + " " + signal.Signals(number).name + chr(10))
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def program(name: str, code: str, *arguments: str, stop_first: bool = False, ends_graph: bool = False) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code, *arguments), stop_first, ends_graph)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    running: list[Supervisor] = []

    def start(*specs: ProcessSpec, clock: Callable[[], float] = time.monotonic) -> Supervisor:
        running.append(Supervisor(specs, tmp_path / "log", clock))
        running[-1].start()
        return running[-1]

    yield start
    for supervisor in running:
        supervisor.stop(patience_s=0.5)


def ready(supervisor: Supervisor) -> Callable[[], bool]:
    return lambda: all(status.last_line == "ready" for status in supervisor.status())


def test_who_ends_is_restarted_ever_later(started: Callable[..., Supervisor]) -> None:
    clock = Clock()
    supervisor = started(program("a/short", "import sys; print('gone'); sys.exit(3)"), clock=clock)
    for restarts, wait in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0)):
        news: list[str] = []
        wait_for(lambda news=news: bool(news.extend(supervisor.poll()) or news))
        assert news[0].startswith(f"a/short ended with exit code 3; restart in {wait:.1f} s; ")
        clock.now += wait - 0.01
        assert supervisor.poll() == []
        clock.now += 0.02
        assert supervisor.poll() == [f"a/short restarted ({restarts + 1})"]
    assert supervisor.status()[0].exit_code == 3


def test_a_long_life_is_forgiven_and_a_kill_is_named(started: Callable[..., Supervisor]) -> None:
    clock = Clock()
    supervisor = started(program("node", STUBBORN), clock=clock)
    for _ in range(3):
        wait_for(ready(supervisor))
        clock.now += 31.0
        os.kill(supervisor.status()[0].pid, signal.SIGKILL)
        news: list[str] = []
        wait_for(lambda news=news: bool(news.extend(supervisor.poll()) or news))
        assert "node ended with signal SIGKILL; restart in 0.5 s" in news[0]
        clock.now += 0.6
        supervisor.poll()


def test_the_safe_command_goes_out_first(started: Callable[..., Supervisor], tmp_path: Path) -> None:
    order = tmp_path / "order"
    specs = [program(name, POLITE, str(order), name, stop_first=name == "arbiter") for name in ("sim", "arbiter", "policy")]
    supervisor = started(*specs)
    wait_for(ready(supervisor))
    supervisor.stop()
    lines = order.read_text().splitlines()
    assert lines[0] == "arbiter SIGINT"
    assert sorted(lines) == ["arbiter SIGINT", "policy SIGINT", "sim SIGINT"]
    assert not any(status.running for status in supervisor.status())


@pytest.mark.parametrize(("code", "finished"), [(0, "learner"), (1, "")])
def test_the_graph_ends_with_the_learner_only_when_that_is_done(started: Callable[..., Supervisor], code: int,
                                                                finished: str) -> None:  # fmt: skip
    supervisor = started(program("learner", f"import sys; sys.exit({code})", ends_graph=True), program("other", POLITE, "", ""))
    news: list[str] = []
    wait_for(lambda: bool(news.extend(supervisor.poll()) or news))
    assert supervisor.finished == finished
    assert news[0].startswith("learner has finished" if finished else "learner ended with exit code 1; restart in 0.5 s")
    if finished:
        time.sleep(0.6)  # longer than the first back-off: it is not started again
        assert supervisor.poll() == []


def test_who_was_told_something_wrong_is_not_started_again(started: Callable[..., Supervisor]) -> None:
    script = "import sys; print('error: std = 9: 0 to 1; give 0.3'); sys.exit(78)"
    clock = Clock()
    supervisor = started(program("policy", script), program("other", POLITE, "", ""), clock=clock)
    supervisor.check()
    news: list[str] = []
    wait_for(lambda: bool(news.extend(supervisor.poll()) or news))
    assert news == ["policy was told something wrong"]
    clock.now += 60.0
    assert supervisor.poll() == []
    with pytest.raises(ConfigError, match=r"^node policy: std = 9: 0 to 1; give 0.3; its log is .*policy.log$"):
        supervisor.check()


def test_a_lock_lasts_until_the_last_process_has_ended(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        supervisor = Supervisor([program("stubborn", STUBBORN)], tmp_path, held=[file.fileno()])
        supervisor.start()
        wait_for(ready(supervisor))
    with (tmp_path / "lock").open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        supervisor.stop(patience_s=0.2)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_stubborn_are_killed_in_the_end(started: Callable[..., Supervisor]) -> None:
    supervisor = started(program("stubborn", STUBBORN))
    wait_for(ready(supervisor))
    supervisor.stop(patience_s=0.2)
    assert [(status.running, status.exit_code) for status in supervisor.status()] == [(False, -signal.SIGKILL)]


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = f"""
import sys, time
from pathlib import Path
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.nodes.supervisor import Supervisor
node = ProcessSpec("node", (sys.executable, "-c", {POLITE!r}, {str(order)!r}, "node"))
supervisor = Supervisor([node], Path({str(tmp_path)!r}))
supervisor.start()
while supervisor.status()[0].last_line != "ready":
    time.sleep(0.02)
print(supervisor.status()[0].pid, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text())
    assert order.read_text() == "node SIGTERM\n"


def test_wrong_input_is_answered_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="process 'a': each process of a graph has a name of its own"):
        Supervisor([program("a", ""), program("a", "")], tmp_path)
    missing = Supervisor([ProcessSpec("a", ("/no/such/python",))], tmp_path)
    with pytest.raises(ConfigError, match="program '/no/such/python': cannot be started .*; name the Python"):
        missing.start()
