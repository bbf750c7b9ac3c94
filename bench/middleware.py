"""The middleware seam between two processes: `python bench/middleware.py`, with ROS 2 sourced for both backends.

A talker and a listener, each a process of its own, on each backend that imports; the backends take turns, so that the load
of a busy machine hits them alike. Measured: camera images at 30 Hz, small messages at a steady rate, and small messages as
fast as they go. Latency is from before ``publish`` to inside the callback, by the clock that both processes share.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # children too, whatever PYTHONPATH a ROS installation brings

from irevla_ros import __version__
from irevla_ros.ros.backend import Backend, choose
from irevla_ros.ros.errors import MiddlewareError

WARM_UP_S = 1.5
BURST = 20  # messages a turn of the executor where the rate is not bounded
DOMAINS = (91, 92)  # so that no other graph on this machine is in the way
START_S = 60.0
LIMITS = {"p50": 1.2, "p99": 1.5}  # of rclpy, for images


@dataclass(frozen=True)
class Case:
    """What is sent, and how often; ``rate_hz`` 0 is as fast as it goes."""

    title: str
    size: tuple[int, int] | int  # (height, width) of an image, or characters of a string
    rate_hz: float

    @property
    def image(self) -> bool:
        return isinstance(self.size, tuple)


CASES = {
    "image": Case("rgb8 image 640x480, 30 Hz, best effort", (480, 640), 30.0),
    "steady": Case("string of 600 characters, 300 Hz, reliable", 600, 300.0),
    "saturation": Case("string of 600 characters, as fast as it goes, reliable", 600, 0.0),
}


# --- the two processes -----------------------------------------------------------------------------------------------


def talk(case: Case) -> int:
    from irevla_ros.ros import Node
    from irevla_ros.ros.messages import Image, String, numbers
    from irevla_ros.ros.qos import EVENT, SENSOR
    from irevla_ros.ros.run import run_node

    def make() -> Node:
        node = Node("talker")
        publisher = node.create_publisher(Image if case.image else String, "bench", SENSOR if case.image else EVENT)
        sent = 0
        if isinstance(case.size, tuple):
            height, width = case.size
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
            image = Image(height=height, width=width, step=3 * width, encoding="rgb8", data=numbers("B", noise))

        def send() -> None:
            nonlocal sent
            if not publisher.get_subscription_count():
                return
            now = time.monotonic_ns()
            if isinstance(case.size, tuple):
                image.header.stamp.sec, image.header.stamp.nanosec = divmod(now, 10**9)
                image.header.frame_id = str(sent)
                publisher.publish(image)
            else:
                publisher.publish(String(data=f"{sent} {now} ".ljust(case.size, "x")))
            sent += 1

        def burst() -> None:
            for _ in range(BURST):
                send()

        node.create_timer(1 / case.rate_hz if case.rate_hz else 0.0, send if case.rate_hz else burst)
        return node

    return run_node(make, args=[])


def listen(case: Case) -> int:
    from irevla_ros.ros import Node
    from irevla_ros.ros.messages import Image, String
    from irevla_ros.ros.qos import EVENT, SENSOR
    from irevla_ros.ros.run import run_node

    arrivals: list[tuple[int, int, int]] = []  # number, sent at, arrived at

    def arrived(number: int, sent: int) -> None:
        arrivals.append((number, sent, time.monotonic_ns()))
        if len(arrivals) == 1:
            print("first", flush=True)

    def on_image(message: Any) -> None:
        stamp = message.header.stamp
        arrived(int(message.header.frame_id), stamp.sec * 10**9 + stamp.nanosec)

    def on_string(message: Any) -> None:
        number, stamp, _ = message.data.split(" ", 2)
        arrived(int(number), int(stamp))

    def make() -> Node:
        node = Node("listener")
        wanted = (Image, "bench", on_image, SENSOR) if case.image else (String, "bench", on_string, EVENT)
        node.create_subscription(*wanted)
        return node

    code = run_node(make, args=[])
    kept = [one for one in arrivals if one[2] > arrivals[0][2] + WARM_UP_S * 1e9]
    latencies = np.array([at - sent for _, sent, at in kept]) / 1e6
    p50, p99 = np.percentile(latencies, (50, 99))
    print(json.dumps({
        "p50": p50, "p99": p99, "messages": len(kept), "lost": 1 - len(kept) / (kept[-1][0] - kept[0][0] + 1),
        "rate": (len(kept) - 1) / ((kept[-1][2] - kept[0][2]) / 1e9),
    }))  # fmt: skip
    return code


# --- one measurement -------------------------------------------------------------------------------------------------


def measure(backend: Backend, name: str, seconds: float, domain: int) -> dict[str, float]:
    """Latency in ms, messages/s that arrive, the part that is lost, and processor seconds a second of both processes."""
    environment = {**os.environ, "IREVLA_ROS": backend.value, "ROS_DOMAIN_ID": str(domain),
                   "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}  # fmt: skip
    words = [sys.executable, __file__, "--case", name, "--role"]
    roles = ("listen", "talk")
    children = [subprocess.Popen([*words, role], env=environment, stdout=subprocess.PIPE, text=True) for role in roles]
    try:
        assert children[0].stdout is not None
        if not select.select([children[0].stdout], [], [], START_S)[0]:
            raise MiddlewareError(f"{name}, {backend.value}", f"nothing arrived in {START_S:g} s", "try on a quieter machine")
        time.sleep(WARM_UP_S)
        before, start = [_processor_s(child.pid) for child in children], time.monotonic()
        time.sleep(seconds)
        after, elapsed = [_processor_s(child.pid) for child in children], time.monotonic() - start
        for child in children:
            child.terminate()
        output = children[0].communicate(timeout=START_S)[0]
        children[1].wait(timeout=START_S)
    finally:
        for child in children:
            child.kill()
    result: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    for role, used in zip(roles, (b - a for a, b in zip(before, after, strict=True)), strict=True):
        result[role] = used / elapsed
    return result


def _processor_s(pid: int) -> float:
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- results ---------------------------------------------------------------------------------------------------------

COLUMNS = {
    "p50": ("latency p50, ms", "{:.2f}"), "p99": ("p99, ms", "{:.2f}"), "rate": ("messages/s", "{:,.0f}"),
    "lost": ("lost", "{:.1%}"), "talk": ("CPU of the talker", "{:.0%}"), "listen": ("CPU of the listener", "{:.0%}"),
}  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    from simulation import table_of

    m = results["machine"]
    text = f"# Middleware: two processes\n\nWritten by `{m['command']}`\n\n{m['cpu']}, {m['cores']} cores, load "
    text += f"{m['load_1min']} at the start and {m['load_end']} at the end, Python {m['python']}, "
    text += f"irevla_ros {m['irevla_ros']}, {', '.join(results['backends'].values())}, {m['date']}\n\n"
    text += f"Median of {results['rounds']} rounds of {results['seconds']:g} s (smallest to largest); the backends take turns. "
    text += "CPU is of one core.\n"
    for name, case in CASES.items():
        samples = results["samples"].get(name, {})
        rows = []
        for backend, rounds in samples.items():
            row = [results["backends"][backend]]
            for key, (_, form) in COLUMNS.items():
                middle, low, high = map(form.format, _spread([one[key] for one in rounds]))
                row.append(f"{middle} ({low} to {high})")
            rows.append(row)
        text += f"\n## {case.title}\n\n" + table_of(["", *(head for head, _ in COLUMNS.values())], rows)
        if len(samples) == 2:
            for key, limit in LIMITS.items():
                ratios = [a[key] / b[key] for a, b in zip(samples["embedded"], samples["native"], strict=True)]
                mid, low, high = _spread(ratios)
                text += f"\nembedded / native, {key}: {mid:.2f} ({low:.2f} to {high:.2f})"
                text += f"; at most {limit} is wanted\n" if case.image else "\n"
    return text


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def available() -> dict[Backend, str]:
    """The backends of this interpreter, and what carries them."""
    found = {}
    for backend in Backend:
        try:
            choose({"IREVLA_ROS": backend.value})
        except MiddlewareError as error:
            print(f"without {backend.value}: {error}", file=sys.stderr)
            continue
        if backend is Backend.NATIVE:
            found[backend] = f"native ({import_module('rclpy').get_rmw_implementation_identifier()})"
        else:
            found[backend] = f"embedded (Zenoh {import_module('importlib.metadata').version('eclipse-zenoh')})"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each backend (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (%(default)s)")
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--role", choices=("talk", "listen"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        return {"talk": talk, "listen": listen}[arguments.role](CASES[arguments.case])

    from simulation import RESULTS, machine

    backends = available()
    if not backends:
        return 1
    about = {**machine(), "irevla_ros": __version__, "command": " ".join(["python bench/middleware.py", *sys.argv[1:]])}
    samples: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(arguments.rounds):
        for name in [arguments.case] if arguments.case else list(CASES):
            for number, backend in enumerate(reversed(backends) if turn % 2 else backends):
                print(f"round {turn + 1} of {arguments.rounds}: {name}, {backend.value}", file=sys.stderr)
                result = measure(backend, name, arguments.seconds, DOMAINS[number])
                samples.setdefault(name, {}).setdefault(backend.value, []).append(result)
    about["load_end"] = machine()["load_1min"]
    results = {"machine": about, "rounds": arguments.rounds, "seconds": arguments.seconds,
               "backends": {backend.value: title for backend, title in backends.items()}, "samples": samples}  # fmt: skip
    text = markdown(results)
    if not arguments.case:
        (RESULTS / "middleware.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "middleware.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
