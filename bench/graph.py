"""The graph's speed: `python bench/graph.py` (needs nothing but the package; 5 minutes a backend). With ROS 2 sourced, on
both backends in turn, so that the load of a busy machine hits them alike.

rate: control steps/s of `irevla up sim` in lock step, over all arms, and CPU milliseconds a step by node, while the
learner practises. latency: one arm in real time at 10 Hz: from the capture stamp of an observation to the arbiter's step that
answers it, with and without the policy's inference, and to the first target after it, of which the arbiter sends one every
20 ms. Writes bench/results/graph.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from graph_watch import PRACTICE, observing, processes_of, running, wait_until
from middleware import available
from simulation import RESULTS, machine, table_of

from irevla_ros.ros.backend import Backend


def rate(arms: int, seconds: float, folder: Path) -> dict[str, Any]:
    names = [f"arm{index}" for index in range(arms)]
    with running("sim", folder / f"rate{arms}", names, PRACTICE) as up, observing(names, every_step=False) as watch:
        if wait_until(lambda: any(status.stage == "stage 1" for _, _, status in watch.learner), 180) is None:
            raise SystemExit(f"the graph did not get to practice: see {folder}/rate{arms}/up.log")
        time.sleep(5.0)
        before, start, sealed = processes_of(up), time.monotonic(), len(watch.sealed)
        time.sleep(seconds)
        wall, after = time.monotonic() - start, processes_of(up)
        steps = sum(one.steps for _, _, one in watch.sealed[sealed:])
        episodes = len(watch.sealed) - sealed
    cpu: dict[str, float] = {}
    for name in before.keys() & after.keys():
        kind = name.rsplit("/", 1)[-1]
        cpu[kind] = cpu.get(kind, 0.0) + (after[name].cpu_s - before[name].cpu_s)
    return {"arms": arms, "seconds": wall, "steps_per_s": steps / wall, "episodes": episodes, "cores": sum(cpu.values()) / wall,
            "cpu_ms_per_step": {name: 1000 * used / max(1, steps) for name, used in sorted(cpu.items())}}  # fmt: skip


def latency(seconds: float, folder: Path) -> dict[str, Any]:
    arguments = [*PRACTICE, "-p", "lock_step:=false"]
    with running("sim", folder / "latency", [""], arguments) as up, observing([""]) as watch:
        if wait_until(lambda: len(watch.acts()) > 20, 180) is None:
            raise SystemExit(f"no command came: see {folder}/latency/up.log")
        start = time.monotonic_ns()
        time.sleep(seconds)
        # Stamps are of the system clock, the arbiter's record of the monotonic one: both of this machine.
        offset = time.time_ns() - time.monotonic_ns()
        acts = [step for _, step in watch.acts(start)]
        taken = [(step.wall_ns + offset - step.stamp_ns) / 1e6 for step in acts]
        targets = np.array([at for at, _ in watch.targets])
        sent = [(targets[next_one] + offset - step.stamp_ns) / 1e6 for step in acts
                if (next_one := int(np.searchsorted(targets, step.wall_ns))) < len(targets)]  # fmt: skip
        values = watch.health["/policy"][2]
        del up
    inference = {name: float(values[f"inference.{name}_ms"]) for name in ("p50", "p99")}
    return {"taken_ms": taken, "sent_ms": sent, "inference_ms": inference}


def measure(backend: Backend, *arguments: str) -> dict[str, Any]:
    """What this script prints under ``backend``: a process carries one only."""
    command, environment = [sys.executable, __file__, *arguments], {**os.environ, "IREVLA_ROS": backend.value}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "backend": backend.value, "load_1min": machine()["load_1min"]}


def in_turn(backends: Iterable[Backend], rounds: int, seconds: str) -> list[dict[str, Any]]:
    """One latency of each backend: its rounds together."""
    taken: dict[Backend, list[dict[str, Any]]] = {backend: [] for backend in backends}
    for turn in range(rounds):
        for backend in reversed(taken) if turn % 2 else taken:
            taken[backend].append(measure(backend, "--seconds", seconds, "--only", "latency"))
    return [summary(backend, found) for backend, found in taken.items()]


def summary(backend: Backend, found: list[dict[str, Any]]) -> dict[str, Any]:
    taken, sent = (np.concatenate([one[name] for one in found]) for name in ("taken_ms", "sent_ms"))
    p50, p99, sent_p50, sent_p99 = (float(np.percentile(times, q)) for times in (taken, sent) for q in (50, 99))
    inference = {name: float(np.median([one["inference_ms"][name] for one in found])) for name in ("p50", "p99")}
    return {"backend": backend.value, "rounds": len(found), "n": len(taken), "p50_ms": p50, "p99_ms": p99,
            "sent_p50_ms": sent_p50, "sent_p99_ms": sent_p99,
            "inference_ms": inference, "overhead_p50_ms": p50 - inference["p50"],
            "load_1min": max(one["load_1min"] for one in found)}  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    m = results["machine"]
    text = f"# The graph: rate and latency\n\nWritten by `{m['command']}`.\n\n"
    text += f"{m['cpu']}, {m['cores']} cores, load {m['load_1min']} before, Python {m['python']}, {m['date']}, "
    text += f"{', '.join(m['backends'])}; the backends take turns. "
    text += "Load is that of the last minute of a measurement, the measurement's own included.\n\n"
    rows = [[r["backend"], r["arms"], f"{r['steps_per_s']:.0f}", f"{r['cores']:.2f}", r["episodes"], r["load_1min"],
             ", ".join(f"{name} {ms:.1f}" for name, ms in r["cpu_ms_per_step"].items())] for r in results["rate"]]  # fmt: skip
    text += "## Lock step, while the learner practises\n\n"
    text += table_of(["backend", "arms", "steps/s in all", "cores", "episodes", "load", "CPU ms a step"], rows)
    text += "\n## Real time, 10 Hz: capture stamp to the arbiter's step\n\n"
    text += "Sent: to the first target after it; the arbiter sends one every 20 ms, whenever a step comes.\n\n"
    text += table_of(["backend", "n", "p50 ms", "p99 ms", "inference p50 ms", "inference p99 ms", "overhead p50 ms",
                      "sent p50 ms", "sent p99 ms", "load"],
                     [[one["backend"], one["n"], f"{one['p50_ms']:.1f}", f"{one['p99_ms']:.1f}",
                       f"{one['inference_ms']['p50']:.1f}", f"{one['inference_ms']['p99']:.1f}",
                       f"{one['overhead_p50_ms']:.1f}", f"{one['sent_p50_ms']:.1f}", f"{one['sent_p99_ms']:.1f}",
                       one["load_1min"]] for one in results["latency"]])  # fmt: skip
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default="2,4", help="numbers of arms (%(default)s)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of latency on each backend (%(default)s)")
    parser.add_argument("--only", choices=("rate", "latency"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory(prefix="irevla-graph-") as folder:
            found = (rate(int(arguments.arms), arguments.seconds, Path(folder)) if arguments.only == "rate"
                     else latency(arguments.seconds, Path(folder)))  # fmt: skip
        print(json.dumps(found))
        return
    backends, seconds = available(), str(arguments.seconds)
    command = " ".join(["python bench/graph.py", *sys.argv[1:]])
    results = {
        "machine": {**machine(), "backends": list(backends.values()), "command": command},
        "latency": in_turn(backends, arguments.rounds, seconds),
        "rate": [measure(backend, "--arms", arms, "--seconds", seconds, "--only", "rate")
                 for arms in arguments.arms.split(",") for backend in backends],
    }  # fmt: skip
    text = markdown(results)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "graph.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "graph.md").write_text(text)


if __name__ == "__main__":
    main()
