"""Collect episodes: by hand with a keyboard, gamepad or SpaceMouse, by correcting a policy, or by scripted experts.

One command for the whole afternoon: it starts the nodes, shows in this terminal how the collection goes, and takes keys.
Started again it goes on: what is counted is what the spool (practice/ in the run's folder) holds. docs/collect.md
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from irevla_ros.cli import up
from irevla_ros.cli.runs import run_folder
from irevla_ros.core.collection import task_name
from irevla_ros.core.errors import ConfigError, Interrupted
from irevla_ros.nodes.graph import NodeSpec, load_graph

DEVICES = ("keyboard", "gamepad", "spacemouse")
EPILOG = """examples:
  irevla collect --tasks press-red,press-green --goal 20     in simulation, by the keys of this terminal
  irevla collect --device gamepad --params-file my_pad.yaml  my_pad.yaml is of `irevla teleop calibrate`
  irevla collect --policy runs/sft/checkpoints/sft           the policy acts; take the arm to correct it
  irevla collect --perturb                                   you disturb the scene; episodes are marked
  irevla collect --expert --tasks press-red --goal 20        the simulator's scripted experts, as fast as can be
  irevla collect --graph franka --instruction "put the cup on the shelf" --params-file my_cell.yaml     on your Franka
  irevla episodes list runs/collect                          what there is now
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", default="collect", metavar="FOLDER",
                        help="folder of the run, a bare name under runs/; what it holds already counts (%(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="keyboard", help="what drives the arm (%(default)s)")
    parser.add_argument("--tasks", help="tasks by commas; next is the one with the fewest successes (default: the graph's)")
    parser.add_argument("--instruction", action="append", default=[], metavar="WORDS",
                        help="a task in words, once for each; its name is made of them where --tasks gives none")  # fmt: skip
    parser.add_argument("--goal", type=int, default=0, help="successes wanted of each task; experts stop there (theirs: 50)")
    parser.add_argument("--operator", default="", help="your name, kept in each episode")
    parser.add_argument("--policy", metavar="CHECKPOINT", help="a policy acts; the operator corrects it")
    parser.add_argument("--perturb", action="store_true", help="mark all episodes as disturbed by the operator")
    parser.add_argument("--expert", action="store_true", help="scripted experts in simulation, without nodes and operator")
    parser.add_argument("--suite", help="with --expert: name of a shipped suite, or a YAML file (demo)")
    parser.add_argument("--seed", type=int, help="with --expert: start states of the demonstrations (1)")
    parser.add_argument("--workers", type=int, help="with --expert: processes (2)")
    parser.add_argument("--graph", default="collect", help="name of a graph, or a YAML file (%(default)s)")
    up.add_running(parser)
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    if args.goal < 0:
        raise ConfigError(f"--goal {args.goal}", "it is not negative", "give 20, or leave it out")
    only_experts = {"--suite": args.suite, "--seed": args.seed, "--workers": args.workers}
    if args.expert:
        if args.policy or args.perturb or args.device != "keyboard":
            raise ConfigError("--expert with --policy, --perturb or --device", "scripted experts act alone", "leave those out")
        return _experts(args)
    if given := [name for name, value in only_experts.items() if value is not None]:
        raise ConfigError(given[0], "it is for scripted experts", "add --expert, or set parameters with -p")
    graph = load_graph(args.graph)
    nodes = dict(graph.nodes)
    if args.device != "keyboard" and "teleop" not in nodes:
        raise ConfigError(f"--device {args.device} with the graph {args.graph}", "a teleop node reads it", "add `teleop: {}`")
    if not graph.front:
        nodes["desk"] = NodeSpec(side="robot", front=True)
    if args.policy:
        nodes.setdefault("policy", NodeSpec(each="graph", heavy=True))
    args.param = [*_parameters(args), *args.param]
    others = {"learner": True, "policy": not args.policy, "teleop": args.device == "keyboard"}
    return up.run_as(args, replace(graph, nodes=nodes), [name for name, out in others.items() if out])


def _parameters(args: argparse.Namespace) -> list[str]:
    """What the options are as parameters of the nodes."""
    found = [f"desk:goal:={args.goal}"] if args.goal else []
    if args.device != "keyboard":
        found.append(f"teleop:device:={args.device}")
    tasks = args.tasks.split(",") if args.tasks else [task_name(words) for words in args.instruction]
    if not all(tasks) or len(set(tasks)) < len(tasks):
        raise ConfigError(f"tasks {tasks} of --tasks or --instruction", "each has a name of its own, of letters and digits",
                          "name them by --tasks cup,drawer")  # fmt: skip
    if tasks:
        found.append(f"episode:tasks:={json.dumps(tasks)}")
    if args.instruction:
        found.append(f"episode:instructions:={json.dumps(args.instruction)}")
    if args.operator:
        found.append(f"episode:operator:={json.dumps(args.operator)}")
    if args.perturb:
        found.append("episode:perturbed:=true")
    if args.policy:
        found += [f"policy:checkpoint:={json.dumps(str(Path(args.policy).resolve()))}", "policy:std:=0.0",
                  "episode:mode:=train", "episode:deterministic:=true", "recorder:latents:=true",
                  "episode:participants:=[robot, policy, recorder]"]  # fmt: skip
    return found


def _experts(args: argparse.Namespace) -> int:
    from irevla_ros.data.spool import Spool
    from irevla_ros.jobs.collect import collect_demonstrations
    from irevla_ros.jobs.progress import Console
    from irevla_ros.jobs.rollouts import SceneConfig
    from irevla_ros.jobs.workers import WorkerPool
    from irevla_ros.sim.suite import load_suite

    suite, goal, workers = load_suite(args.suite or "demo"), args.goal or 50, 2 if args.workers is None else args.workers
    if workers < 1:
        raise ConfigError(f"--workers {workers}", "at least 1", "raise it")
    tasks = args.tasks.split(",") if args.tasks else [task.name for task in suite.expert]
    for task in tasks:
        suite.task(task)
    spool = Spool(run_folder(args.run) / "practice")
    seed = 1 if args.seed is None else args.seed
    try:
        with WorkerPool(workers) as pool:
            ran = collect_demonstrations(pool, spool, SceneConfig(args.suite or "demo"), tasks, goal, seed, Console())
    except KeyboardInterrupt:
        raise Interrupted(args.command_line) from None
    print(f"{spool.root}: {goal} successes of each of {len(tasks)} tasks ({ran} episodes run now)")
    return 0
