"""Start all nodes of a graph on this machine, keep them up, show how they are, and stop them in order on Ctrl-C.

The run's folder takes everything: episodes, checkpoints, and one log for each node in log/.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from irevla_ros.core.config import find_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.jobs.results import REPORT, outcome
from irevla_ros.nodes import checking, preparation
from irevla_ros.nodes.graph import COLLECTION, SIDES, GraphSpec, load_graph, processes, ros_arguments
from irevla_ros.nodes.parameters.episode import EpisodeSettings
from irevla_ros.nodes.parameters.teleop import TeleopConfig
from irevla_ros.ros import hosts
from irevla_ros.ros.backend import VARIABLE, chosen

INTERMIXED = True
EPILOG = """examples:
  irevla up sim                                  four simulated arms, the policy and the learner
  irevla up sim arms=[arm0] --run runs/one       one arm, into another folder
  irevla up sim -p learner:overrides:=[seed=2]   a parameter of one node; without `learner:` of all
  irevla up my_graph.yaml --params-file my_parameters.yaml
  irevla up sim --side robot --connect tls/gpu-box:7447 --tls-ca ca.pem --tls-cert robot-pc.pem --tls-key robot-pc.key

a node's parameters: config/parameters/*.yaml of the package; what nodes there are: docs/graph.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graph", help="name of a shipped graph (sim, collect, franka), or a YAML file")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value",
                        help="settings of the graph, such as arms=[arm0,arm1]")  # fmt: skip
    parser.add_argument("--run", metavar="FOLDER", help="folder of the run, a bare name under runs/ (default: as the graph)")
    add_running(parser)
    parser.epilog = EPILOG


def add_running(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that starts a graph."""
    parser.add_argument("-p", "--param", action="append", default=[], metavar="[NODE:]NAME:=VALUE", help="a ROS parameter")
    parser.add_argument("--params-file", action="append", default=[], metavar="FILE",
                        help="a ROS parameter file, or the name of a shipped one; after the graph's own")  # fmt: skip
    parser.add_argument("--python", default="", help="the Python of the nodes that need torch (default: this one)")
    parser.add_argument("--network", action="store_true", help="discover nodes of other hosts, too (default: of this one)")
    parser.add_argument("--side", choices=SIDES, default="", help="of a graph over two hosts: only the nodes of this one")
    hosts.add_options(parser)


def run(args: argparse.Namespace) -> int:
    return run_as(args, load_graph(args.graph, args.overrides))


def run_as(args: argparse.Namespace, graph: GraphSpec, without: Collection[str] = ()) -> int:
    """Run ``graph``, which came of ``args.graph``, but for the nodes ``without``. A graph with a node in front collects."""
    name = Path(args.graph).stem
    own, last = [] if Path(args.graph).is_file() else [name], [COLLECTION] if graph.front else []
    parameters = [find_config(given, "parameters").resolve() for given in [*own, *args.params_file, *last]]
    checking.check_names(graph, parameters)
    folder = (Path(args.run) if "/" in (args.run or "") else Path("runs") / (args.run or name)).resolve()
    identity, domain = preparation.run_id(folder), preparation.domain(os.environ)
    hosts.settle(args, os.environ)
    if not args.network:
        preparation.stay_on_this_host(os.environ)
    os.environ[VARIABLE] = chosen().backend.value  # all nodes meet on the same one, or say why they cannot
    logs = folder / "log"
    shared = {"run": str(folder), "run_id": identity, "side": args.side}
    half = (graph.half(args.side) if args.side else graph).without(without)
    owner = f"`{args.command_line}` (process {os.getpid()})"
    elsewhere = f"stop it first, or set ROS_DOMAIN_ID={(domain + 1) % 100} for this one"
    with ExitStack() as locks:
        held = [locks.enter_context(preparation.hold(path, f"domain {domain}", elsewhere, owner))
                for path in preparation.domain_locks(domain, args.side)]  # fmt: skip
        with TemporaryDirectory() as scratch:  # what is refused leaves nothing in the run's folder
            preparation.write_parameters(Path(scratch) / "parameters.yaml", graph, shared, args.param)
            settings = checking.check_values(half, [*parameters, Path(scratch) / "parameters.yaml"])
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--run {folder}", f"cannot be made ({error.strerror})", "choose another folder") from None
        held.append(locks.enter_context(preparation.hold(logs / "lock", f"run {folder}", "choose another --run", owner)))
        ours = logs / "parameters.yaml"
        preparation.write_parameters(ours, graph, shared, args.param)
        specs = processes(half, [*parameters, ours], heavy_python=args.python)
        descriptors = [lock.fileno() for lock in held]
        if front := half.front:
            from irevla_ros.nodes.desk import run_in_front

            words = ros_arguments(half, front, graph.arms[0], [*parameters, ours])
            return run_in_front(specs, ["irevla", "--ros-args", *words], logs, descriptors, args.command_line)
        where = f"{args.side} side; " if args.side else ""
        print(f"run: {folder}; {where}domain {domain}, {os.environ[VARIABLE]}; Ctrl-C stops all in order", flush=True)
        for line in operators_part(settings, domain):
            print(line, flush=True)
        from irevla_ros.nodes.up import run_graph  # only now: it loads the middleware, for which the environment is set

        run_graph(specs, logs, descriptors, args.command_line)
    if (folder / REPORT).exists():
        print(outcome(folder))
    return 0


def operators_part(settings: Mapping[str, Any], domain: int) -> list[str]:
    """What a person has to do for episodes to begin; nothing where they begin by themselves."""
    waiting = [name.rpartition("/")[0] for name, found in settings.items() if isinstance(found, EpisodeSettings)
               and (found.orders.operator_starts or found.machine.confirm_required or found.machine.engage_required)]
    if not waiting:
        return []
    devices = sorted({found.device for found in settings.values() if isinstance(found, TeleopConfig)} - {"keyboard"})
    arm = f" -r __ns:={waiting[0]}" if waiting[0] else ""
    return [
        "each episode waits for the operator:",
        *(f"  {device}: its start button, read by ROS's own driver" for device in devices),
        "  keyboard: in another terminal",
        f"    ROS_DOMAIN_ID={domain} {sys.executable} -m irevla_ros.nodes.desk{f' --ros-args{arm}' if arm else ''}",
        "    it shows the keys, and how the collection goes; docs/collect.md",
    ]
