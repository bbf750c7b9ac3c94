"""Rates of the simulator, alone and against panda-gym; success of the experts; a picture of the tasks.

`python bench/simulation.py` measures rates and prints them; `--experts 200` runs that many scripted episodes a family;
`--sheet docs/images/tasks.png` draws every kind of task. Numbers go to bench/results/simulation.json and .md, each
section replacing its older self. Beside every rate on the wall clock stands the rate per second of processor time, which
a busy machine distorts less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import yaml

import irevla_ros.sim.panda as panda_module
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import Mode
from irevla_ros.jobs.rollouts import EpisodeRequest, SceneConfig, run_episodes
from irevla_ros.jobs.workers import Send, WorkerContext, WorkerPool
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.objects import COLOURS, CONTAINERS, SHAPES
from irevla_ros.sim.suite import load_suite, parse_suite
from irevla_ros.sim.tasks import DIRECTIONS, FAMILIES
from irevla_ros.sim.vector import PandaVectorEnv
from irevla_ros.sim.world import PHYSICS_HZ, SUBSTEPS, World

RESULTS = Path(__file__).parent / "results"
PIXELS = 64
COMPARED_TASK = "push-red-cube-left"  # against panda-gym's PandaPush-v3
SHEET = (
    {"family": "press", "colour": "red"},
    {"family": "pick", "colour": "blue", "shape": "block"},
    {"family": "push", "colour": "green", "shape": "cube", "direction": "left"},
    {"family": "open", "fixture": "drawer"},
    {"family": "open", "fixture": "door"},
    {"family": "put", "colour": "orange", "shape": "ball", "container": "bin"},
)
TILE = 168  # pixels


@dataclass(frozen=True)
class Speed:
    """Environment steps, resets included, over seconds on the wall and of all processes on the processor."""

    steps: int
    wall_s: float
    cpu_s: float

    @property
    def row(self) -> dict[str, float]:
        return {"steps": self.steps, "steps_per_s": self.steps / self.wall_s, "steps_per_cpu_s": self.steps / self.cpu_s}


# --- one environment -------------------------------------------------------------------------------------------------


def run_single(env: Any, steps: int, expert: bool = False, render: bool = False) -> Speed:
    """At least ``steps`` steps in whole episodes. ``render``: the image is not in the observation and is asked for."""
    rng = np.random.default_rng(0)
    wall, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < steps:
        env.reset(seed=int(rng.integers(2**31)))
        script = env.expert() if expert else None
        for _ in range(50):  # panda-gym's own time limit
            action = script.act() if script else rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            terminated, truncated = env.step(action)[2:4]
            if render:
                env.render()
            done += 1
            if terminated or truncated:
                break
    return Speed(done, time.perf_counter() - wall, time.process_time() - cpu)


def measure_parts(steps: int) -> dict[str, dict[str, float]]:
    """Processor time of the parts of a step and of a reset, ms a call, over expert episodes of the demo suite."""
    env = PandaEnv("demo", image_size=PIXELS)
    spent: dict[str, list[float]] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent.setdefault(name, []).append(1e3 * (time.process_time() - start))

        return wrapper

    names = {"physics, 24 substeps": (env.world, "settle"), "render": (env.world, "render"),
             "inverse kinematics": (env.world.arm, "move"), "proprioception": (env.world.arm, "proprio"),
             "whole step": (env, "step"), "whole reset": (env, "reset")}  # fmt: skip
    with ExitStack() as stack:
        for name, (owner, method) in names.items():
            stack.enter_context(patch.object(owner, method, timed(name, getattr(owner, method))))
        run_single(env, steps, expert=True)
    env.close()
    return {name: {"calls": len(ms), "ms": statistics.fmean(ms)} for name, ms in spent.items()}


# --- several processes -----------------------------------------------------------------------------------------------


def cpu_of(pid: int) -> float:
    """Processor seconds of a living process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_vector(processes: int, steps: int) -> Speed:
    """Random actions in Gymnasium's AsyncVectorEnv over shared memory; a step that resets counts like the others."""
    vector = PandaVectorEnv(processes, suite="demo", image_size=PIXELS)
    vector.reset(seed=0)
    rng = np.random.default_rng(0)
    pids = [process.pid for process in vector.processes]
    wall, cpu, done = time.perf_counter(), time.process_time() + sum(map(cpu_of, pids)), 0
    while done < steps:
        vector.step(rng.uniform(-1, 1, vector.action_space.shape).astype(np.float32))
        done += processes
    cpu, wall = time.process_time() + sum(map(cpu_of, pids)) - cpu, time.perf_counter() - wall
    vector.close()
    return Speed(done, wall, cpu)


def worker_cpu(context: WorkerContext, send: Send) -> float:
    return time.process_time()


def run_rollouts(processes: int, steps: int) -> Speed:
    """Expert episodes of the demo suite, kept whole and sent to the parent, by ``jobs.rollouts``."""
    tasks = [task.name for task in load_suite("demo").tasks]

    def requests(n: int, first_seed: int) -> list[EpisodeRequest]:
        return [EpisodeRequest(str(first_seed + k), tasks[k % len(tasks)], first_seed + k, Mode.DEMO, expert=True)
                for k in range(n)]  # fmt: skip

    with WorkerPool(processes) as pool:
        scene = SceneConfig(image_size=PIXELS)
        run_episodes(pool, scene, requests(16 * processes, 0))  # builds the environments

        def cpu_now() -> float:
            return time.process_time() + sum(pool.run(worker_cpu, [{}] * processes))

        wall, cpu = time.perf_counter(), cpu_now()
        results = run_episodes(pool, scene, requests(steps // 12, 1000))
        return Speed(sum(r.steps for r in results), time.perf_counter() - wall, cpu_now() - cpu)


# --- panda-gym -------------------------------------------------------------------------------------------------------


def panda_gym_environment() -> Any:
    """PandaPush-v3 at our pixels, substeps and control rate; physics ticks per control step are then equal."""
    with redirect_stdout(StringIO()):
        from panda_gym.envs import PandaPushEnv

        env = PandaPushEnv(render_width=PIXELS, render_height=PIXELS, renderer="Tiny")
    env.sim.timestep, env.sim.n_substeps = 1 / PHYSICS_HZ, SUBSTEPS
    env.sim.physics_client.setTimeStep(env.sim.timestep)
    return env


def stock_mesh_environment() -> PandaEnv:
    """Ours with the arm drawn from its original visual meshes, which panda-gym draws too."""

    def load(client: Any) -> int:
        import pybullet_data

        path = str(Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf")
        body: int = client.loadURDF(path, useFixedBase=True, flags=client.URDF_ENABLE_CACHED_GRAPHICS_SHAPES)
        return body

    with patch.object(panda_module, "load_model", load):
        return our_environment()


def drawn_whole(env: PandaEnv) -> PandaEnv:
    """Draws base, table and shadows anew in every frame, as panda-gym does and ours otherwise spares itself."""
    world = env.world
    camera_image = world.p.getCameraImage
    world.p.getCameraImage = lambda *sizes, **settings: camera_image(*sizes, **{**settings, "shadow": 1})
    setattr(world, "_draw_scenery", lambda drawn: World._draw_scenery(world, True))  # noqa: B010 (mypy: a method)
    return env


def our_environment() -> PandaEnv:
    return PandaEnv(parse_suite("bench", every_task(), "bench"), COMPARED_TASK, image_size=PIXELS)


def compare_panda_gym(rounds: int, steps: int) -> dict[str, Any]:
    """The simulators take turns; ratios are medians over the rounds."""
    contenders = {
        "panda-gym": panda_gym_environment(),
        "ours, stock meshes, everything drawn": drawn_whole(stock_mesh_environment()),
        "ours, everything drawn": drawn_whole(our_environment()),
        "ours, stock meshes": stock_mesh_environment(),
        "ours": our_environment(),
    }
    speeds: dict[str, list[Speed]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, env in contenders.items():
            speed = run_single(env, steps if turn else 20, render=name == "panda-gym")
            if turn:  # the first turn warms up
                speeds[name].append(speed)
    for env in contenders.values():
        env.close()
    table: dict[str, Any] = {}
    for name, own in speeds.items():
        rows = [speed.row for speed in own]
        table[name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for key in ("steps_per_s", "steps_per_cpu_s"):
            base = [speed.row[key] for speed in speeds["panda-gym"]]
            table[name][f"ratio_{key}"] = statistics.median(row[key] / b for row, b in zip(rows, base, strict=True))
    return table


# --- experts and the picture -----------------------------------------------------------------------------------------


def every_task() -> dict[str, list[dict[str, str]]]:
    """All tasks that the families can express, in the form of a suite."""
    press = [{"family": "press", "colour": c} for c in COLOURS]
    items = [{"colour": c, "shape": s} for c, s in product(COLOURS, SHAPES)]
    pick = [{"family": "pick", **item} for item in items]
    push = [{"family": "push", **item, "direction": d} for item, d in product(items, DIRECTIONS)]
    open_ = [{"family": "open", "fixture": f} for f in ("drawer", "door")]
    put = [{"family": "put", **item, "container": c} for item, c in product(items, CONTAINERS)
           if (item["shape"], c) != ("block", "bin")]  # fmt: skip
    return {"expert": press + pick, "rl": push, "unseen": open_ + put}


@contextmanager
def written_suite(content: dict[str, Any]) -> Iterator[str]:
    """The path of a YAML file with that suite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(yaml.safe_dump(content))
        yield str(path)


def measure_experts(processes: int, episodes: int) -> dict[str, dict[str, Any]]:
    """``episodes`` of each family over shuffled tasks; no images are needed, so they are tiny."""
    rng = np.random.default_rng(0)
    table: dict[str, dict[str, Any]] = {}
    with written_suite(every_task()) as path, WorkerPool(processes) as pool:
        scene = SceneConfig(path, image_size=8)
        names = [task.name for task in load_suite(path).tasks]
        for family in FAMILIES:
            own = [name for name in names if name.startswith(f"{family}-")]
            chosen = [own[k % len(own)] for k in rng.permutation(max(episodes, len(own)))[:episodes]]
            requests = [EpisodeRequest(f"{task}-{k}", task, 50_000 + k, Mode.DEMO, expert=True, keep=False)
                        for k, task in enumerate(chosen)]  # fmt: skip
            results = run_episodes(pool, scene, requests)
            rate = Rate(sum(r.success for r in results), len(results))
            failed = [f"{r.request.task} seed {r.request.seed}" for r in results if not r.success]
            steps = statistics.fmean(r.steps for r in results)
            table[family] = {"successes": rate.successes, "episodes": rate.episodes, "rate": str(rate),
                             "tasks": len(set(chosen)), "mean_steps": steps, "failed": failed}  # fmt: skip
    return table


def draw_sheet(path: Path) -> None:
    """Each kind of task as it starts (above) and as the scripted expert solves it (below)."""
    columns = []
    with written_suite({"expert": list(SHEET[:2]), "rl": list(SHEET[2:4]), "unseen": list(SHEET[4:])}) as suite:
        env = PandaEnv(suite)
        for number, task in enumerate(env.suite.tasks):
            env.reset(seed=number, options={"task": task.name})
            expert, frames, over = env.expert(), [env.render()], False
            while not over:
                terminated, truncated = env.step(expert.act())[2:4]
                over = terminated or truncated
            frames.append(env.render())
            tiles = [cv2.resize(frame, (TILE, TILE), interpolation=cv2.INTER_AREA) for frame in frames]
            words = np.full((22, TILE, 3), 255, np.uint8)
            cv2.putText(words, task.instruction, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
            columns.append(np.pad(np.vstack([words, *tiles]), ((0, 0), (0, 2), (0, 0)), constant_values=255))
        env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))


# --- results ---------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())  # fmt: skip
    return {"cpu": model, "cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}  # fmt: skip


def table_of(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def markdown(results: dict[str, Any]) -> str:
    text = "# Simulation: rates and experts\n\nWritten by `python bench/simulation.py`.\n"
    for section, content in results.items():
        m, body = content["machine"], content["table"]
        text += f"\n## {section}\n\n{m['cpu']}, {m['cores']} cores, load {m['load_1min']}, "
        text += f"Python {m['python']}, {m['date']}\n\n"
        if section == "Experts":
            rows = [[f, r["rate"], r["tasks"], f"{r['mean_steps']:.1f}"] for f, r in body.items()]
            text += table_of(["family", "success [95 % Wilson]", "tasks", "steps"], rows)
        elif section == "Parts of a step":
            text += table_of(["part", "ms of processor"], [[k, f"{r['ms']:.2f}"] for k, r in body.items()])
        else:
            ratios = section == "Against panda-gym"
            head = [f"one {PIXELS}x{PIXELS} camera, all in", "steps/s", "steps per processor second"]
            rows = [[name, f"{r['steps_per_s']:.0f}", f"{r['steps_per_cpu_s']:.0f}"] for name, r in body.items()]
            if ratios:
                head += ["times panda-gym", "by processor time"]
                for row, r in zip(rows, body.values(), strict=True):
                    row += [f"{r['ratio_steps_per_s']:.2f}", f"{r['ratio_steps_per_cpu_s']:.2f}"]
            text += table_of(head, rows)
    return text


def save(**sections: Any) -> None:
    """Merge into the result files and print what is new."""
    path = RESULTS / "simulation.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    fresh = {name.replace("_", " "): {"machine": machine(), "table": table} for name, table in sections.items()}
    results.update(fresh)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(results))
    print(markdown(fresh))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="environment steps of each measurement (2000)")
    parser.add_argument("--processes", type=int, default=2, help="processes of the parallel measurements (2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each simulator in the comparison (5)")
    parser.add_argument("--experts", type=int, metavar="N", help="only: N scripted episodes a family")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="only: draw the tasks into this file")
    arguments = parser.parse_args()
    n, processes = arguments.steps, arguments.processes
    if arguments.sheet:
        draw_sheet(arguments.sheet)
    if arguments.experts:
        save(Experts=measure_experts(processes, arguments.experts))
    if arguments.sheet or arguments.experts:
        return
    env = PandaEnv("demo", image_size=PIXELS)
    run_single(env, 20)  # warms up
    rates = {"1 process, random actions": run_single(env, n), "1 process, experts": run_single(env, n, expert=True)}
    env.close()
    rates[f"{processes} processes, AsyncVectorEnv, random actions"] = run_vector(processes, processes * n)
    rates[f"{processes} processes, irevla_ros.jobs.rollouts, experts"] = run_rollouts(processes, processes * n)
    save(
        Environment_steps={name: speed.row for name, speed in rates.items()},
        Parts_of_a_step=measure_parts(n // 4),
        **{"Against_panda-gym": compare_panda_gym(arguments.rounds, n // 5)},
    )


if __name__ == "__main__":
    main()
