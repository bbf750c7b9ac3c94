"""From the settings of the learner to its run: the folder, the initial policy, and what must not change on resuming."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from irevla_ros.core.config import find_config, load_config, to_dict
from irevla_ros.core.errors import CheckpointError, ConfigError, unknown_name
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.graph_config import LearnerConfig
from irevla_ros.jobs.graph_learning import GraphLearner
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.jobs.run_record import RunRecord, require_same_plan
from irevla_ros.learn.plan import Plan
from irevla_ros.policy.checkpoint import checkpoint_digest, load_vla
from irevla_ros.sim.suite import load_suite

DECIDING = ("rate_hz", "tasks", "evaluate_expert", "evaluate_unseen", "gate", "gate_margin")  # beside config.yaml


def open_learner(config: LearnerConfig) -> GraphLearner:
    """Begin or resume the run in ``config.run``.

    Raises:
        ConfigError: a setting is wrong, or not what the run began with; another learner has the folder.
        CheckpointError: the initial policy is missing, damaged, or of other cameras.
    """
    folder, settings = config.folder(), run_config(config)
    plan = schedule(config, settings)
    source, sft_run = config.initial()
    _same_settings(folder, config)
    again = f"irevla up {'sim' if config.simulated else 'franka'} --run {shlex.quote(str(folder))}"
    record = RunRecord(folder, settings, plan, again, sft_run=sft_run, simulated=config.simulated)
    try:
        require_same_plan(record, plan)
        if source is not None:
            _take_over(source, record.checkpoint("sft"), settings)
        return GraphLearner(record, config, config.run_id or folder.name)
    except BaseException:
        record.close()
        raise


def run_config(config: LearnerConfig) -> RunConfig:
    """The run's configuration. Raises ``ConfigError``, also for a method that the graph cannot follow."""
    found = load_config(RunConfig, find_config(config.config), list(config.overrides))
    if found.plan(()).stage1 == "all":
        raise ConfigError(f"method {found.method!r}", "in the graph stage 1 trains the head: arms take over no backbone",
                          "use irevla train")  # fmt: skip
    return found


def schedule(config: LearnerConfig, of: RunConfig) -> Plan:
    """The schedule on the chosen tasks. Raises ``ConfigError`` for a task that is none of the suite's RL tasks."""
    known = tuple(task.name for task in load_suite(of.scene.suite).rl)
    for task in config.tasks:
        if task not in known:
            raise unknown_name("RL task", task, known, f"of suite {of.scene.suite!r}")
    return of.plan(config.tasks or known, "sft" if config.sft else "")


def _take_over(source: Path, folder: Path, config: RunConfig) -> None:
    """Copy the checkpoint into the run, once."""
    digest = checkpoint_digest(source)
    if folder.is_dir():
        if checkpoint_digest(folder) != digest:
            raise ConfigError(f"sft = {source}", f"the run began with another checkpoint ({folder})",
                              "choose another folder, or begin with the same")  # fmt: skip
        return
    vla, _ = load_vla(source)
    if vla.cameras != tuple(config.scene.cameras):
        raise CheckpointError(f"sft = {source} sees the cameras {list(vla.cameras)}",
                              f"the run has {list(config.scene.cameras)}", "set scene.cameras, or train stage 0")  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".sft.", suffix=".tmp", dir=folder.parent))
    shutil.copytree(source, fresh, dirs_exist_ok=True)
    fresh.chmod(0o755)
    fresh.rename(folder)


def _same_settings(folder: Path, config: LearnerConfig) -> None:
    """Write down those that decide the result, or compare with what they were when the run began."""
    path = folder / "graph.json"
    if not path.is_file():
        if (folder / "config.yaml").is_file():
            raise ConfigError(f"run = {folder}", "it was begun by irevla train", "choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {name: to_dict(config)[name] for name in DECIDING})
    before = read_json(path)
    for name in DECIDING:
        if before.get(name) != to_dict(config)[name]:
            raise ConfigError(f"{name} = {to_dict(config)[name]}", f"the run in {folder} began with {before.get(name)}",
                              "choose another folder, or go on with the same settings")  # fmt: skip
