"""Check this machine: what is installed, what is missing, how fast it is, and what to do about it.

Each line is ok, warn (works, but something is slower or left out) or FAIL (something will not run), with the remedy.

examples:
  irevla doctor
  irevla doctor --runs /data/runs       the folder whose disk space counts
  irevla doctor --clocks                also the clocks of the other hosts (docs/middleware.md)
  irevla doctor --robot                 also the Franka, its drivers running (docs/franka.md); --robot left: in that namespace
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irevla_ros import __version__
from irevla_ros.cli.runs import RUNS
from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.health import Level
from irevla_ros.ros import hosts
from irevla_ros.ros.backend import Backend, choose

if TYPE_CHECKING:
    import gymnasium

PYTHONS = ((3, 10), (3, 13))  # first and last Python that the code is fit for
LOW_DISK_GB, NO_DISK_GB = 5.0, 1.0
SLOW_STEPS_S = 150.0  # one process; the demo's time assumes twice that
MEASURE_S = 1.0
LIBRARIES = {  # distribution -> module
    "numpy": "numpy",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "gymnasium": "gymnasium",
    "opencv-python-headless": "cv2",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
}


class Status(Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of the answer; ``remedy`` is empty when there is nothing to do."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (%(default)s)")
    parser.add_argument("--clocks", action="store_true", help="measure the clocks of the other hosts of the graph")
    parser.add_argument("--clock-limit", type=float, default=20.0, metavar="MS",
                        help="milliseconds that they may be apart (default: %(default)g)")  # fmt: skip
    parser.add_argument("--robot", nargs="?", const="", metavar="NAMESPACE",
                        help="what the franka node checks before it lets the arm be engaged")  # fmt: skip
    parser.add_argument("--robot-params", default="franka", metavar="FILE",
                        help="parameters of the franka node, as for ros2 launch (default: %(default)s)")  # fmt: skip
    hosts.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print each check as soon as it is known; 1 when one failed, else 0."""
    checks: list[Callable[[], Iterator[Check]]] = [
        check_python, check_machine, check_torch, check_libraries, check_simulator, check_weights,
        check_middleware, lambda: check_disk(args.runs), check_speed,
    ]  # fmt: skip
    if args.clocks:
        hosts.settle(args, os.environ)
        checks.append(lambda: check_clocks(args.clock_limit / 1e3))
    if args.robot is not None:
        checks.append(lambda: check_robot(args.robot, args.robot_params))
    count = dict.fromkeys(Status, 0)
    print(f"irevla {__version__}")
    for check in checks:
        for line in check():
            count[line.status] += 1
            print(f"{line.status.value:<5} {line.name:<24} {line.found}", flush=True)
            if line.remedy:
                print(f"{'':<30} -> {line.remedy}", flush=True)
    print(f"{count[Status.OK]} ok, {count[Status.WARN]} to look at, {count[Status.FAIL]} failed")
    return 1 if count[Status.FAIL] else 0


def check_python() -> Iterator[Check]:
    first, last = (".".join(map(str, v)) for v in PYTHONS)
    found = f"{platform.python_version()} at {sys.executable}"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Check("python", Status.OK, found)
    else:
        yield Check("python", Status.WARN, found, f"the code is written for {first} to {last}: use one of these")


def check_machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{platform.system()} {platform.machine()}, {cores} cores"
    if cores >= 2:
        yield Check("machine", Status.OK, found)
    else:
        yield Check("machine", Status.WARN, found, "works; every time in the documentation is for 2 cores")


def check_torch() -> Iterator[Check]:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        yield Check("torch", Status.FAIL, f"{error}", "run make install, or pip install torch")
        return
    if torch.cuda.is_available():
        found = f"{torch.__version__} with {torch.cuda.get_device_name(0)}"
    else:
        found = f"{torch.__version__} on the CPU (enough for the tiny model; docs/install.md has the switch)"
    yield Check("torch", Status.OK, found)


def check_libraries() -> Iterator[Check]:
    for distribution, module in LIBRARIES.items():
        yield check_import(distribution, module, Status.FAIL, f"pip install {distribution}")


def check_simulator() -> Iterator[Check]:
    remedy = "needed wherever episodes are simulated (not on a robot's PC): pip install 'irevla_ros[sim]'"
    yield check_import("pybullet", "pybullet", Status.WARN, remedy)


def check_import(distribution: str, module: str, status: Status, remedy: str) -> Check:
    """Import for real: an installed library can still lack a system library."""
    try:
        importlib.import_module(module)
        return Check(distribution, Status.OK, version(distribution))
    except PackageNotFoundError:
        return Check(distribution, Status.OK, "imports; installed under another name")
    except ImportError as error:
        return Check(distribution, status, str(error).splitlines()[0], remedy)


def check_middleware() -> Iterator[Check]:
    """Which backend carries the nodes, and why it is this one."""
    try:
        choice = choose(os.environ)
    except IrevlaError as error:
        yield Check("middleware", Status.WARN, str(error), "only the nodes need it: docs/middleware.md")
        return
    yield Check("middleware", Status.OK, f"{choice.backend.value}: {choice.reason}")


def check_clocks(limit_s: float) -> Iterator[Check]:
    """The clock of every host that tells it, against this one's."""
    try:
        choose(os.environ)
        measured = importlib.import_module("irevla_ros.ros.clock_offset").measure_all()
    except IrevlaError as error:
        yield Check("clocks", Status.FAIL, str(error), "docs/middleware.md")
        return
    if not measured:
        yield Check("clocks", Status.WARN, "no other host tells its time",
                    "run there: python -m irevla_ros.ros.clock_offset")  # fmt: skip
    for host, offset in measured.items():
        if offset.within(limit_s):
            yield Check(f"clock of {host}", Status.OK, str(offset))
        else:
            remedy = f"more than {1e3 * limit_s:g} ms may be between them: synchronise both hosts (chrony, PTP)"
            yield Check(f"clock of {host}", Status.FAIL, str(offset), remedy)


def check_robot(namespace: str, parameters: str) -> Iterator[Check]:
    """What the franka node looks at before the first engagement."""
    kinds = {Level.OK: Status.OK, Level.ERROR: Status.FAIL}
    try:
        choice = choose(os.environ)
        if choice.backend is not Backend.NATIVE:
            yield Check("robot", Status.FAIL, f"no rclpy here: {choice.reason}", "source ROS 2 for this Python, then repeat")
            return
        found = importlib.import_module("irevla_ros.nodes.franka.doctor").examine(namespace, parameters)
    except IrevlaError as error:
        yield Check("robot", Status.FAIL, str(error), "docs/franka.md")
        return
    for one in found:
        yield Check(f"robot: {one.name}", kinds.get(one.level, Status.WARN), one.found, one.remedy)


def check_weights() -> Iterator[Check]:
    folder = Path(str(files("irevla_ros") / "policy" / "weights"))
    found = sorted(folder.rglob("*.safetensors"))
    if found:
        sizes = ", ".join(f"{path.relative_to(folder)} {path.stat().st_size / 1e6:.1f} MB" for path in found)
        yield Check("pretrained weights", Status.OK, sizes)
    else:
        yield Check("pretrained weights", Status.WARN, f"none in {folder}",
                    "install the package again, or train them: irevla pretrain")  # fmt: skip


def check_disk(runs: Path) -> Iterator[Check]:
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    found = f"{free:.1f} GB free for {runs}"
    remedy = f"free some space, or run from another folder: a study takes up to {LOW_DISK_GB:.0f} GB"
    if not os.access(place, os.W_OK):
        yield Check("disk", Status.FAIL, f"{place} is not writable", "change to a folder of yours")
    elif free < NO_DISK_GB:
        yield Check("disk", Status.FAIL, found, remedy)
    else:
        yield Check("disk", Status.OK, found) if free >= LOW_DISK_GB else Check("disk", Status.WARN, found, remedy)


def check_speed() -> Iterator[Check]:
    """Environment steps a second of one process, physics and 64x64 camera included, measured for a second."""
    try:
        from irevla_ros.sim.env import PandaEnv
    except ImportError:
        return  # check_simulator has said so
    try:
        rate = measure_steps(PandaEnv())
    except IrevlaError as error:
        yield Check("simulation speed", Status.FAIL, str(error), "report this with the lines above")
        return
    found = f"{rate:.0f} steps/s in one process, 64x64 camera"
    if rate >= SLOW_STEPS_S:
        yield Check("simulation speed", Status.OK, found)
    else:
        yield Check("simulation speed", Status.WARN, found, "is something else running? training slows in proportion")


def measure_steps(env: gymnasium.Env[Any, Any]) -> float:
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape or (), np.float32)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < MEASURE_S:
        _, _, terminated, truncated, _ = env.step(action)
        steps += 1
        if terminated or truncated:
            env.reset(seed=steps)
    elapsed = time.perf_counter() - start
    env.close()
    return steps / elapsed
