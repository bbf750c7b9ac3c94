"""``irevla episodes replay``: an episode's commands once more, in simulation, or with the operator on an arm."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np

from irevla_ros.cli import up
from irevla_ros.cli.episodes_common import add_spool
from irevla_ros.core.errors import ConfigError
from irevla_ros.data.reader import SpoolReader
from irevla_ros.nodes.graph import NodeSpec, load_graph


def add_verbs(verbs: Any) -> None:
    """replay."""
    repeating = verbs.add_parser(
        "replay",
        help="execute an episode's commands once more, in simulation or on an arm",
        description="Set up the start state of the episode's task and seed in the simulator, execute what was commanded, and "
        "say how far the arm and the images come out from what was recorded. Exit code 1 when the outcome is another. "
        "With --on, start that graph with the operator's desk, and move its arm as recorded once the operator has let it "
        "(docs/data.md).",
    )
    add_spool(repeating)
    repeating.add_argument("episode", help="id of the episode, as in the list")
    repeating.add_argument("--suite", default="", help="of the task, by name or path (default: the shipped one that has it)")
    on = repeating.add_argument_group("on an arm, through the arbiter")
    on.add_argument("--on", metavar="GRAPH", help="name of a graph of real time (collect, franka), or a YAML file")
    on.add_argument("--run", default="replay", help="folder of what is recorded meanwhile (%(default)s)")
    up.add_running(repeating)
    repeating.set_defaults(do=_replay)


def _replay(args: argparse.Namespace) -> int:
    return _on_arm(args) if args.on else _in_simulation(args)


def _in_simulation(args: argparse.Namespace) -> int:
    from irevla_ros.jobs.replay import replay  # PyBullet, which only this verb needs

    if args.param or args.params_file:
        raise ConfigError("-p or --params-file without --on", "they are for the nodes of a graph", "name it: --on franka")
    episode = SpoolReader(args.spool).read(args.episode, latents=False, trimmed=False)
    found = replay(episode, args.suite)
    print(f"{found.steps} of {len(episode)} steps of {episode.meta.task}, seed {episode.meta.seed}, suite {found.suite}")
    for name, values, unit in (("position", 1000 * found.position_m, "mm"), ("gripper", 1000 * found.gripper_m, "mm"),
                               ("images", found.pixels, "of 255")):  # fmt: skip
        first = next((f", from observation {t} on" for t, value in enumerate(values) if value > 0), "")
        print(f"{name:<10} off by at most {np.max(values):.3g} {unit}, at the end {values[-1]:.3g}{first}")
    print(f"{'outcome':<10} {found.outcome.value}, recorded {episode.meta.outcome.value}")
    return 0 if found.outcome is episode.meta.outcome else 1


def _on_arm(args: argparse.Namespace) -> int:
    """The operator starts it, confirms the scene and engages, as for every episode; whatever moves the arm is the arbiter."""
    meta = SpoolReader(args.spool).record(args.episode).meta
    graph = load_graph(args.on)
    nodes = {**graph.nodes, "replay": NodeSpec()}
    if not graph.front:
        nodes["desk"] = NodeSpec(side="robot", front=True)
    args.graph = args.on
    args.param = [
        f"replay:spool:={json.dumps(str(args.spool.resolve()))}", f"replay:episode:={json.dumps(args.episode)}",
        f"episode:tasks:={json.dumps([meta.task])}", f"episode:instructions:={json.dumps([meta.instruction])}",
        "episode:confirm_required:=true", "episode:engage_required:=true", "arbiter:script:=true", *args.param,
    ]  # fmt: skip
    return up.run_as(args, replace(graph, nodes=nodes), ("policy", "learner", "teleop"))
