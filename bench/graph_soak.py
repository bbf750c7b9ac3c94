"""Half an hour of the running graph, one arm in real time, the learner practising: `python bench/graph_soak.py`.

Resident memory and open files of every node every 10 s; the slope is that of a least-squares line over the second half, when
what is loaded once has been loaded. Also what was dropped or lost by then, by the nodes' own counts. Writes
bench/results/graph_soak.md and .json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from graph_watch import PRACTICE, NodeProcess, observing, processes_of, running, wait_until
from simulation import RESULTS, machine, table_of

from irevla_ros.ros.backend import chosen

EVERY_S = 10.0
LOSSES = ("dropped", "lost", "refused", "malformed", "overwritten")


def slope(values: list[float], every_s: float) -> float:
    """Of the least-squares line over the second half, a minute."""
    half = values[len(values) // 2 :]
    return float(np.polyfit(np.arange(len(half)) * every_s / 60, half, 1)[0]) if len(half) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)s)")
    parser.add_argument("--lock-step", action="store_true", help="two arms as fast as they can be instead of one in real time")
    arguments = parser.parse_args()
    arms = ["arm0", "arm1"] if arguments.lock_step else [""]
    mode = [] if arguments.lock_step else ["-p", "lock_step:=false"]
    seen: list[dict[str, NodeProcess]] = []
    with (
        tempfile.TemporaryDirectory(prefix="irevla-soak-") as folder,
        running("sim", Path(folder) / "soak", arms, [*PRACTICE, *mode]) as up,
        observing(arms, every_step=False) as watch,
    ):
        if wait_until(lambda: any(status.stage == "stage 1" for _, _, status in watch.learner), 240) is None:
            raise SystemExit(f"the graph did not get to practice: see {folder}/soak/up.log")
        start = time.monotonic()
        while time.monotonic() - start < 60 * arguments.minutes:
            time.sleep(EVERY_S)
            seen.append(processes_of(up))
        episodes, whole = len(watch.sealed), len(watch.whole())
        health = dict(watch.health)
        restarts = {name: len({sample[name].pid for sample in seen if name in sample}) - 1 for name in seen[-1]}
    rows, results = [], {}
    for name in sorted(seen[-1]):
        memory = [sample[name].resident_mb for sample in seen if name in sample]
        files = [float(sample[name].files) for sample in seen if name in sample]
        losses = {key: value for key, value in health.get(f"/{name}", (0, "", {}))[2].items()
                  if key.rsplit(".", 1)[-1] in LOSSES and value != "0"}  # fmt: skip
        results[name] = {"memory_mb": memory, "files": files, "losses": losses, "restarts": restarts[name]}
        told = ", ".join(f"{key} {value}" for key, value in losses.items()) or "none"
        rows.append([name, f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{slope(memory, EVERY_S):+.2f}", f"{files[0]:.0f}",
                     f"{files[-1]:.0f}", restarts[name], told])  # fmt: skip
    m = machine()
    text = "# Soak\n\nWritten by `python bench/graph_soak.py`.\n\n"
    how = "two arms in lock step" if arguments.lock_step else "one arm in real time"
    text += f"{arguments.minutes:.0f} minutes, {how}, {episodes} episodes sealed, {whole} of them whole; "
    text += f"{chosen().backend.value} backend; {m['cpu']}, {m['cores']} cores, load {m['load_1min']}, "
    text += f"Python {m['python']}, {m['date']}\n\n"
    text += table_of(["node", "MB at first", "MB at last", "MB a minute, second half", "files at first", "at last", "restarts",
                      "counted losses"], rows)  # fmt: skip
    print(text)
    (RESULTS / "graph_soak.md").write_text(text)
    (RESULTS / "graph_soak.json").write_text(json.dumps({"machine": m, "nodes": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
