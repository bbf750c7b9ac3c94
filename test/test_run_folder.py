"""A run keeps the configuration and the tasks that it began with, and says so when they have changed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from irevla_ros.core.errors import BusyError, CheckpointError, ConfigError
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.lock import FolderLock
from irevla_ros.jobs.rollouts import SceneConfig
from irevla_ros.jobs.run_folder import begin_or_compare, check_start
from irevla_ros.sim.suite import load_suite


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A copy of the demo suite that a test may edit."""
    path = tmp_path / "mine.yaml"
    path.write_text((files("irevla_ros") / "config" / "suites" / "demo.yaml").read_text())
    return path


def change_first_task(suite: Path) -> None:
    tasks = yaml.safe_load(suite.read_text())
    tasks["expert"][0]["region"] = "near"
    suite.write_text(yaml.safe_dump(tasks))
    load_suite.cache_clear()  # a new process would read it again


def test_a_run_is_not_resumed_on_other_tasks(tmp_path: Path, suite: Path) -> None:
    config, run = RunConfig(scene=SceneConfig(str(suite))), tmp_path / "run"
    begin_or_compare(run, config, None)
    begin_or_compare(run, config, None)  # nothing has changed
    change_first_task(suite)
    with pytest.raises(ConfigError, match="is not what .*suite.yaml says: a run keeps the tasks that it began with; "):
        begin_or_compare(run, config, None)


def test_a_run_is_not_started_from_one_on_other_tasks(tmp_path: Path, suite: Path) -> None:
    config, run = RunConfig(scene=SceneConfig(str(suite))), tmp_path / "run"
    begin_or_compare(run, config, None)
    with pytest.raises(CheckpointError, match="a run to start from has finished stage 0; finish it first: irevla train"):
        check_start(run, config)
    (run / "checkpoints" / "sft").mkdir(parents=True)
    check_start(run, config)
    with pytest.raises(ConfigError, match="^demos = 61: stage 0 of --sft .* was trained with 60; train both with the same"):
        check_start(run, replace(config, demos=61))
    with pytest.raises(ConfigError, match="^supervised.backbone_lr = 0.5: stage 0 of --sft .* was trained with 0.001"):
        check_start(run, replace(config, supervised=replace(config.supervised, backbone_lr=0.5)))
    with pytest.raises(ConfigError, match="^seed = 2: stage 0 of --sft .* was trained with 1"):
        check_start(run, replace(config, seed=2))
    change_first_task(suite)
    with pytest.raises(ConfigError, match="began with other tasks .*; put the suite back as it was"):
        check_start(run, config)


def test_a_change_is_named(tmp_path: Path) -> None:
    config = RunConfig()
    begin_or_compare(tmp_path, config, None)
    with pytest.raises(ConfigError, match="config.yaml: std = 0.3, not 0.2: a run keeps the configuration"):
        begin_or_compare(tmp_path, replace(config, std=0.2), None)
    with pytest.raises(ConfigError, match="^--sft .*other: .* began with its own stage 0; choose another --name"):
        begin_or_compare(tmp_path, config, tmp_path / "other")


HOLDER = """
import sys
from pathlib import Path
from irevla_ros.jobs.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "run", "wait for it")
print("locked", flush=True)
sys.stdin.read()
"""


def test_one_process_works_in_a_folder_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    with pytest.raises(BusyError, match="^run .*: another process works in this folder; wait for it$"):
        FolderLock(tmp_path, "run", "wait for it")
    holder.kill()
    holder.communicate()
    FolderLock(tmp_path, "run", "wait for it").release()
