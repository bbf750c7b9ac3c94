"""What a run's folder says of the run: it keeps the configuration and the tasks that it began with."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from irevla_ros import __version__
from irevla_ros.core.config import dump_yaml, to_dict
from irevla_ros.core.errors import CheckpointError, ConfigError
from irevla_ros.core.types import CATEGORIES, Mode, Outcome
from irevla_ros.data.paths import spool_of
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.jsonfile import read_json, write_bytes
from irevla_ros.sim.suite import Suite, load_suite


def resume_command(folder: Path) -> str:
    """What to type to go on with the run in ``folder``."""
    name = str(folder) if len(folder.parts) > 1 else f"./{folder}"  # a bare name would be looked for under runs/
    return f"irevla train --resume {shlex.quote(name)}"


def is_finished(folder: Path) -> bool:
    """Has the run in ``folder`` come to its end?"""
    return (folder / "summary.json").is_file() and bool(read_json(folder / "summary.json").get("complete"))


def source_version() -> str:
    """The package's version, with the commit where it runs from a checkout: "0.1.0 (1a2b3c4)", "-dirty" when edited."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed; a repository around it is somebody else's
        return __version__
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    commit = found.stdout.strip()
    return f"{__version__} ({commit})" if found.returncode == 0 and commit else __version__


def begin_or_compare(folder: Path, config: RunConfig, sft_run: Path | None) -> None:
    """Write down what the run is, or compare with what it was when it began.

    Raises:
        ConfigError: the settings, the suite's tasks or the run to start from have changed since.
    """
    path, tasks, link = folder / "config.yaml", folder / "suite.yaml", folder / "sft_run.txt"
    start = str(sft_run.resolve()) if sft_run is not None else ""
    suite = _suite_yaml(load_suite(config.scene.suite))
    if not path.is_file():
        if start:
            write_bytes(link, start.encode())
        write_bytes(tasks, suite.encode())
        write_bytes(path, dump_yaml(config).encode())
        return
    if path.read_text() != dump_yaml(config):
        changed = _differences(_read_yaml(path), to_dict(config))
        raise ConfigError(f"{path}: {', '.join(changed[:3]) or 'written by another version'}",
                          "a run keeps the configuration that it began with",
                          "choose another --name, or resume without other settings")  # fmt: skip
    if tasks.is_file() and _read_yaml(tasks) != yaml.safe_load(suite):
        raise ConfigError(f"suite {config.scene.suite!r} is not what {tasks} says", "a run keeps the tasks that it began with",
                          "choose another --name, or put the suite back as it was")  # fmt: skip
    began = link.read_text() if link.is_file() else ""
    if began != start:
        raise ConfigError(f"--sft {start or 'left out'}", f"{folder} began "
                          + (f"with --sft {began}" if began else "with its own stage 0"),
                          f"choose another --name, or go on: {resume_command(folder)}")  # fmt: skip


def demonstrated(config: RunConfig) -> Path | None:
    """The spool of demonstrations that were given, None where scripted experts make them.

    Raises:
        ConfigError: nothing in it succeeded.
    """
    if not config.demonstrations:
        return None
    spool = spool_of(Path(config.demonstrations))
    if not spool.is_dir() or not SpoolReader(spool).episodes(mode=Mode.DEMO, outcome=Outcome.SUCCESS):
        raise ConfigError(f"demonstrations = {config.demonstrations}", "a spool with successful episodes of mode demo",
                          "record some (irevla collect), or leave it out for simulated ones")  # fmt: skip
    return spool


def check_start(run: Path, config: RunConfig) -> None:
    """The run that another starts from has its stage 0 done, on the same scene and tasks, with enough demonstrations.

    Raises:
        CheckpointError: stage 0 of ``run`` is not there.
        ConfigError: it was trained on something else.
    """
    if not (run / "checkpoints" / "sft").is_dir():
        known = (run / "config.yaml").is_file()
        remedy = f"finish it first: {resume_command(run)}" if known else "give the folder of a run, such as runs/demo"
        raise CheckpointError(f"--sft {run}", "a run to start from has finished stage 0", remedy)
    theirs, ours = _read_yaml(run / "config.yaml"), to_dict(config)
    for name in ("scene", "backbone"):
        if theirs.get(name) != ours[name]:
            raise ConfigError(f"{name} = {ours[name]}", f"--sft {run} has {theirs.get(name)}",
                              "train both with the same, or leave out --sft")  # fmt: skip
    tasks = run / "suite.yaml"
    if tasks.is_file() and _read_yaml(tasks) != yaml.safe_load(_suite_yaml(load_suite(config.scene.suite))):
        raise ConfigError(f"suite {config.scene.suite!r}", f"--sft {run} began with other tasks ({tasks})",
                          "put the suite back as it was, or leave out --sft")  # fmt: skip
    recipe = ("seed", "demos", "demonstrations", "supervised.batch", "supervised.backbone_lr", "supervised.head_lr",
              "supervised.augmentation", "learning.stage0_steps")  # fmt: skip
    for name in recipe:
        before, now = _get(theirs, name), _get(ours, name)
        if before != now:
            raise ConfigError(f"{name} = {now}", f"stage 0 of --sft {run} was trained with {before}",
                              "train both with the same, or leave out --sft")  # fmt: skip


def _suite_yaml(suite: Suite) -> str:
    """The tasks by category, in the form of a suite file."""
    tasks = {category: [{key: value for key, value in asdict(task).items() if value} for task in getattr(suite, category)]
             for category in CATEGORIES}  # fmt: skip
    return yaml.safe_dump(tasks, sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    """A mapping as it was written, whichever version wrote it. ``ConfigError`` when it cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}", "a run's folder holds its configuration", "give the folder of another run")
    return content


def _get(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """``key = before, not now`` for each dotted key whose value has changed."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [f"{where} = {before}, not {now}"] if before != now else []
    return [line for key in {**before, **now}
            for line in _differences(before.get(key), now.get(key), f"{where}.{key}" if where else key)]  # fmt: skip
