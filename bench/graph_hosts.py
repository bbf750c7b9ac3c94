"""The graph over two hosts: `python bench/graph_hosts.py` (about 10 minutes; the hosts are network namespaces: root, iproute2).

TLS with certificates on both sides, made as docs/middleware.md says; the real nodes, one arm in real time, then two in lock
step. The link is cut in the middle of a run and restored, and nobody does anything else; each side is killed or stopped, and
started again; strangers knock. Measured: for how long the arm was still moved, how its episode ended, how long after the end of
the fault one with its task and seed was begun, and an episode begun since came to its own end, whether the learner went on, and
whether every episode that was sealed before is still whole. Writes bench/results/graph_hosts.md and .json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from graph_watch import PRACTICE, Fault, Watch, lost, observing, processes_of, running, wait_until
from simulation import RESULTS, machine, table_of

from irevla_ros.core.episode_state import Phase
from irevla_ros.core.types import Outcome
from irevla_ros.data.reader import SpoolReader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))
from hosts_toys import NotHere, certificates, inside, link, namespaces, packets

HOSTS = {"gpu-box": "10.213.9.2", "robot-pc": "10.213.9.1"}
SIDES = {"gpu": "gpu-box", "robot": "robot-pc"}
LINKS = {"gpu": ["--listen", f"tls/{HOSTS['gpu-box']}:7447"], "robot": ["--connect", "tls/gpu-box:7447"]}
BEGIN_S, RECOVERY_S = 240.0, 120.0
LOCK_STEP = "lock step: link cut for ten seconds"
KNOCK = """
import json, sys, zenoh
config = zenoh.Config()
for key, value in json.loads(sys.argv[1]).items():
    config.insert_json5(key, json.dumps(value))
try:
    zenoh.open(config).close()
except zenoh.ZError as error:
    print("refused:", " ".join(str(error).split()).split(" at /")[0])
else:
    print("let in")
"""


@dataclass(frozen=True)
class Result:
    """moved_ms: from the fault to the last command before its end; oldest_ms: the greatest age of an observation that was acted
    on since, in real time; ended: how the episode that ran was sealed; tried_s: until its task and seed were tried again,
    where it came to no outcome, recovered_s: until an episode begun since came to its own end, both from the end of the
    fault; lost: episodes sealed before that are gone or damaged."""

    fault: str
    moved_ms: float
    oldest_ms: float | None
    ended: str
    tried_s: float | None
    recovered_s: float | None
    learning: bool
    lost: int


class TwoHosts:
    """A graph whose sides run in the namespaces ``names``."""

    def __init__(self, folder: Path, run: str, names: dict[str, str], arms: list[str], arguments: list[str]) -> None:
        self._folder, self._run, self._names, self._arms, self._arguments = folder, run, names, arms, arguments
        self._up = {side: ExitStack() for side in SIDES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, side: str) -> Path:
        return self._folder / SIDES[side] / self._run  # its name is the run's id: the same on both

    def start(self, side: str) -> None:
        host = SIDES[side]
        tls = [f"--tls-{name}={self._folder / file}"
               for name, file in (("ca", "ca.pem"), ("cert", f"{host}.pem"), ("key", f"{host}.key"))]  # fmt: skip
        arguments = ["--side", side, *LINKS[side], *tls, *self._arguments]
        command = running("sim", self.run(side), self._arms, arguments, inside(self._names[host]))
        self.processes[side] = self._up[side].enter_context(command)

    def stop(self, side: str) -> None:
        """Ctrl-C."""
        self._up[side].close()

    def kill(self, side: str) -> None:
        nodes = [node.pid for node in processes_of(self.processes[side]).values()]
        self.processes[side].kill()
        self.processes[side].wait()
        for pid in nodes:  # they end with it, and hold its locks until then
            if wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 60.0) is None:
                raise SystemExit(f"process {pid} of the {side} side outlived it")

    def cut(self) -> None:
        link(self._names["gpu-box"], "down")

    def restore(self) -> None:
        link(self._names["gpu-box"], "up")

    def pass_packets(self, state: str) -> None:
        """As a switch between the hosts that has died: neither end of the link is told."""
        for here, there in (("gpu-box", "robot-pc"), ("robot-pc", "gpu-box")):
            packets(self._names[here], HOSTS[there], state)


@contextmanager
def two_hosts(folder: Path, run: str, names: dict[str, str], arms: list[str],
              arguments: list[str]) -> Iterator[tuple[TwoHosts, Watch]]:  # fmt: skip
    """Both sides, in practice, and an observer on the robot's."""
    hosts = TwoHosts(folder, run, names, arms, arguments)
    try:
        hosts.start("gpu")
        hosts.start("robot")
        with observing(arms) as watch:
            if wait_until(lambda: any(status.stage == "stage 1" for _, _, status in watch.learner), BEGIN_S) is None:
                raise SystemExit(f"the graph did not get to practice: see up.log and log/ in {folder}/*/{run}")
            yield hosts, watch
    finally:
        for side in ("robot", "gpu"):
            hosts.stop(side)


def measure(hosts: TwoHosts, watch: Watch, fault: Fault) -> Result:
    """Inject the fault while the policy moves the arm, and see what becomes of it."""
    since = time.monotonic_ns()
    if wait_until(lambda: len(watch.acts(since)) >= 5 and watch.states[-1][2].phase is Phase.RUN, RECOVERY_S) is None:
        raise SystemExit(f"the arm does not move before {fault.name!r}")
    before, state, at = [sealed.episode_id for sealed in watch.whole()], watch.states[-1][2], time.monotonic_ns()
    fault.inject()
    time.sleep(fault.lasts_s)
    moves = [when for when, _ in list(watch.targets) if when > at]
    fault.heal()
    end, learned = time.monotonic_ns(), watch.learned()
    recovered = wait_until(lambda: watch.recovered(end), RECOVERY_S)
    ended = _end_of(hosts.run("gpu"), state.episode_id)

    def again() -> list[int]:
        return [when for when, _, other in list(watch.states) if when > at and other.phase is Phase.RESET
                and other.episode_id != state.episode_id and (other.task, other.seed) == (state.task, state.seed)]  # fmt: skip

    if not ended.endswith(Outcome.UNKNOWN.value) or wait_until(again, RECOVERY_S) is None:
        tried = None
    else:
        tried = max(0.0, (min(again()) - end) / 1e9)
    learning = wait_until(lambda: watch.learned() != learned, RECOVERY_S) is not None
    epoch = time.time_ns() - time.monotonic_ns()
    oldest = max((when + epoch - step.stamp_ns for when, step in watch.acts(at)), default=0) / 1e6
    return Result(fault.name, (max(moves) - at) / 1e6 if moves else 0.0, None if fault.name == LOCK_STEP else oldest,
                  ended, tried, recovered, learning, lost(hosts.run("gpu"), before))  # fmt: skip


def _end_of(run: Path, episode: str) -> str:
    spool = SpoolReader(run / "practice")
    if episode not in spool.ids():
        return f"nothing kept, {Outcome.UNKNOWN.value}"
    meta = spool.read(episode).meta
    return f"{meta.termination_reason.value}, {meta.outcome.value}"


def faults(hosts: TwoHosts) -> Iterator[Fault]:
    for seconds in (3.0, 10.0, 10.0, 30.0):
        yield Fault(f"link cut for {seconds:.0f} s", hosts.cut, hosts.restore, seconds)
    yield Fault("packets lost for 10 s, links up", partial(hosts.pass_packets, "lost"), partial(hosts.pass_packets, "through"),
                10.0)  # fmt: skip
    for side, name in (("gpu", "GPU"), ("robot", "robot's")):
        yield Fault(f"kill -9 of the {name} side, started again", partial(hosts.kill, side), partial(hosts.start, side))
    yield Fault("Ctrl-C of the GPU side, started again", partial(hosts.stop, "gpu"), partial(hosts.start, "gpu"))


def strangers(folder: Path, namespace: str) -> dict[str, str]:
    """What becomes of clients without the right certificate, and of one that has it; from the robot's host."""
    (folder / "theirs").mkdir()
    certificates(folder / "theirs", list(HOSTS))
    tls = "transport/link/tls"
    found = {}
    shown = {"no certificate": None, "a certificate of another authority": folder / "theirs", "the right certificate": folder}
    for who, own in shown.items():
        config: dict[str, object] = {"mode": "client", "connect/endpoints": ["tls/gpu-box:7447"], "scouting/multicast/enabled":
                                     False, f"{tls}/root_ca_certificate": str(folder / "ca.pem")}  # fmt: skip
        if own is not None:
            config |= {f"{tls}/connect_certificate": str(own / "robot-pc.pem"), f"{tls}/enable_mtls": True,
                       f"{tls}/connect_private_key": str(own / "robot-pc.key")}  # fmt: skip
        found[who] = subprocess.run([*inside(namespace), sys.executable, "-c", KNOCK, json.dumps(config)], check=True,
                                    capture_output=True, text=True).stdout.strip()  # fmt: skip
        print(who, "->", found[who], flush=True)
    return found


def doctor(folder: Path) -> str:
    """What `irevla doctor --clocks` says of the clocks on the robot's host."""
    told = subprocess.run([sys.executable, "-m", "irevla_ros", "doctor", "--clocks", "--runs", str(folder)],
                          capture_output=True, text=True).stdout  # fmt: skip
    return "\n".join(line for line in told.splitlines() if "clock" in line)


def rate(watch: Watch, seconds: float) -> float:
    """Recorded steps a second, all arms, over some time of practice."""
    begin = time.monotonic_ns()
    time.sleep(seconds)
    return len(watch.acts(begin)) / seconds


def enter(namespace: str) -> None:
    """This process, from now on with the network of ``namespace``; before any thread is started."""
    with Path("/run/netns", namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")


def markdown(results: dict[str, Any], found: list[Result]) -> str:
    m = results["machine"]
    text = "# The graph over two hosts\n\nWritten by `python bench/graph_hosts.py`: two network namespaces of one machine.\n\n"
    text += f"{m['cpu']}, {m['cores']} cores, load {m['load_1min']}, Python {m['python']}, {m['date']}, embedded\n\n"
    text += "One arm in real time at 10 Hz; in the last row two in lock step.\n\n"
    head = ["fault", "arm moved for, ms", "oldest observation acted on, ms", "its episode", "tried again after, s",
            "next whole episode after, s", "learning goes on", "sealed lost"]  # fmt: skip
    rows = []
    for one in found:
        times = ["" if value is None else f"{value:.1f}" for value in (one.tried_s, one.recovered_s)]
        oldest = "" if one.oldest_ms is None else f"{one.oldest_ms:.0f}"
        rows.append([one.fault, f"{one.moved_ms:.0f}", oldest, one.ended, *times, "yes" if one.learning else "NO", one.lost])
    text += table_of(head, rows) + "\n"
    text += table_of(["who connects", "what becomes of it"], [list(pair) for pair in results["strangers"].items()])
    text += f"\nThe arbiter on its finding `clock`: {results['clock']}\n\n`irevla doctor --clocks` on the robot's host:\n\n"
    text += f"```text\n{results['doctor']}\n```\n\n"
    return text + f"Lock step, two arms: {results['steps_s']:.0f} steps/s over the link.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name contains this; written only where --to says so")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help=f"of the results (default: {RESULTS})")
    arguments = parser.parse_args()
    to = arguments.to or (None if arguments.only else RESULTS)
    results: dict[str, Any] = {"steps_s": float("nan")}
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="irevla-hosts-") as name, namespaces(HOSTS) as names:
        folder = Path(name)
        certificates(folder, list(HOSTS))
        enter(names["robot-pc"])
        with two_hosts(folder, "hosts", names, [""], [*PRACTICE, "-p", "lock_step:=false"]) as (hosts, watch):
            results["clock"] = watch.health["/arbiter"][2].get("clock", "nothing")
            results["strangers"], results["doctor"] = strangers(folder, names["robot-pc"]), doctor(folder)
            for fault in faults(hosts):
                if arguments.only in fault.name:
                    found.append(measure(hosts, watch, fault))
                    print(found[-1], flush=True)
        if arguments.only in LOCK_STEP:
            with two_hosts(folder, "lock-step", names, ["arm0", "arm1"], PRACTICE) as (hosts, watch):
                results["steps_s"] = rate(watch, 20.0)
                found.append(measure(hosts, watch, Fault(LOCK_STEP, hosts.cut, hosts.restore, 10.0)))
                print(found[-1], flush=True)
    results |= {"machine": machine(), "faults": [asdict(one) for one in found]}
    text = markdown(results, found)
    print(text)
    if to is not None:
        (to / "graph_hosts.json").write_text(json.dumps(results, indent=1) + "\n")
        (to / "graph_hosts.md").write_text(text)


if __name__ == "__main__":
    try:
        main()
    except NotHere as error:
        print(error)
