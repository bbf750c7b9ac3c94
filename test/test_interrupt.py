"""Ctrl-C, as a terminal sends it, and the death of a worker: said in one line, resumed by the command in it, nobody left."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.collect import DEMO_SEED, collect_demonstrations
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import SceneConfig
from irevla_ros.jobs.workers import WorkerPool

ROOT = Path(__file__).parent.parent
SUITE = """expert: [{family: press, colour: red}]
rl: [{family: press, colour: yellow}]
unseen: [{family: press, colour: purple}]
"""
SETTINGS = [
    "scene.suite=suite.yaml", "workers=1", "environments=4", "demos=12", "evaluation=1", "videos=0", "supervised.batch=16",
    "ppo.minibatch=64", "ppo.critic_warmup_updates=0", "learning.stage0_steps=150", "learning.stage2_steps=4",
    "learning.max_episodes=12", "learning.episodes_per_update=6", "learning.window=12", "learning.harvest=2",
    "learning.rounds=1",
]  # fmt: skip
PATIENCE_S = 200.0


def start(arguments: list[str], where: Path) -> subprocess.Popen[str]:
    """`irevla` with its workers in a process group of their own, as a shell starts a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "irevla_ros", *arguments], cwd=where, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                            preexec_fn=_listen_to_ctrl_c)  # fmt: skip


def _listen_to_ctrl_c() -> None:
    """A shell without job control starts its background jobs, such as a CI run, with SIGINT ignored, and we inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.01)


def group(number: int) -> dict[int, str]:
    """Living processes of a process group: pid -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == number and state != "Z":
                found[int(folder.name)] = folder.joinpath("cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def nobody_is_left(number: int) -> bool:
    deadline = time.monotonic() + 20
    while group(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    return group(number) == {}


def interrupt(process: subprocess.Popen[str]) -> list[str]:
    """Press Ctrl-C; returns the words of the command that goes on."""
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert nobody_is_left(process.pid), group(process.pid)
    said, resume = stderr.strip().splitlines()[-1].split("resume with: ")
    assert said == "irevla: stopped; "
    irevla, *arguments = shlex.split(resume)
    assert irevla == "irevla"
    return arguments


def some(folder: Path, pattern: str) -> Callable[[], bool]:
    """Are there two such files? Episodes are written one after the other, so that the first is then whole."""
    return lambda: len(list(folder.glob(pattern))) >= 2


def logged(folder: Path, words: str) -> Callable[[], bool]:
    """Does metrics.csv say so once more than now?"""

    def count() -> int:
        path = folder / "metrics.csv"
        return path.read_text().count(words) if path.is_file() else 0

    before = count()
    return lambda: count() > before


@pytest.mark.timeout(900)  # five lives of the command; a minute when the machine is idle
def test_a_run_that_is_stopped_in_every_stage_and_loses_a_worker_ends_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    folder = tmp_path / "runs" / "it"
    begin = ["train", "--name", "it", *SETTINGS]

    process = start(begin, tmp_path)
    wait_until(some(folder, "expert/*.pending"), process)
    resume = interrupt(process)
    assert resume == ["train", "--resume", "runs/it"]
    held = set(SpoolReader(Spool(folder / "expert").root).ids())
    assert 0 < len(held) < 12, "stopped in the middle of the demonstrations"

    process = start(resume, tmp_path)
    wait_until(logged(folder, "supervised/sft"), process)
    assert interrupt(process) == resume
    assert held <= set(SpoolReader(folder / "expert").ids())
    assert not (folder / "checkpoints" / "sft").exists(), "stopped in the middle of stage 0"

    process = start(resume, tmp_path)
    wait_until(some(folder, "practice/*.pending"), process)
    assert interrupt(process) == resume

    process = start(resume, tmp_path)
    wait_until(logged(folder, "stage1/press-yellow"), process)
    [worker] = [pid for pid, command in group(process.pid).items() if "--multiprocessing-fork" in command]
    os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert [line for line in stderr.splitlines() if line.startswith("irevla:")] == [
        "irevla: error: worker process 0 died: it must live as long as the run; look for the out-of-memory killer; "
        "the run resumes where it was"
    ]
    assert "Traceback" not in stderr
    assert nobody_is_left(process.pid)

    process = start(resume, tmp_path)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert nobody_is_left(process.pid)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["complete"] is True
    assert summary["methods"].keys() == {"sft", "irevla"}
    assert len(SpoolReader(folder / "expert").episodes(outcome=Outcome.SUCCESS)) == 12
    log = (folder / "log.txt").read_text()
    bars = ("expert demonstrations", "stage 0", "evaluating sft", "practice press-yellow", "stage 2", "evaluating irevla")
    for words in bars:
        assert words in log, f"no progress of {words!r} in log.txt"


def test_collect_names_itself_as_the_command_that_goes_on(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    begin = ["collect", "--expert", "--run", "./demos", "--suite", "suite.yaml", "--goal", "30", "--workers", "1"]
    process = start(begin, tmp_path)
    wait_until(some(tmp_path, "demos/practice/*.pending"), process)
    assert interrupt(process) == begin


def test_a_resumed_collection_ends_with_the_episodes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Attempts that are missing in the middle are made, and none twice: an episode never changes."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    scene = SceneConfig(str(tmp_path / "suite.yaml"))
    tasks, console = ["press-red"], Console(quiet=True)
    whole, torn = Spool(tmp_path / "whole"), Spool(tmp_path / "torn")
    with WorkerPool(1) as pool:
        collect_demonstrations(pool, whole, scene, tasks, 6, 1, console)
        ids = SpoolReader(whole.root).ids()
        for name in (ids[1], ids[4]):  # what happened to finish before the kill
            torn.write_episode(SpoolReader(whole.root).read(name))
        assert collect_demonstrations(pool, torn, scene, tasks, 6, 1, console) >= 4
    assert SpoolReader(torn.root).ids() == ids
    assert int(ids[0].rpartition("-")[2]) == DEMO_SEED * 2
    for name in ids:
        one, other = SpoolReader(whole.root).read(name), SpoolReader(torn.root).read(name)
        assert one.meta == other.meta
        assert one.executed.tobytes() == other.executed.tobytes()
        assert one.images["front"].tobytes() == other.images["front"].tobytes()
    assert len(SpoolReader(torn.root).episodes(task="press-red", mode=Mode.DEMO, outcome=Outcome.SUCCESS)) == 6
