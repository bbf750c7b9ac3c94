"""A suite sorts tasks into the paper's three categories: expert, RL-trained and unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from irevla_ros.core.config import read_yaml
from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.core.types import CATEGORIES
from irevla_ros.sim.tasks import FAMILIES, TaskSpec


@dataclass(frozen=True)
class Suite:
    """Named tasks by category. ``expert``: demonstrated; ``rl``: learned online; ``unseen``: never trained on."""

    name: str
    expert: tuple[TaskSpec, ...]
    rl: tuple[TaskSpec, ...]
    unseen: tuple[TaskSpec, ...]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"suite {self.name!r} has {twice[0]!r} twice", "a task stands in one category once",
                              "remove one of them")  # fmt: skip
        for category in CATEGORIES:
            if not getattr(self, category):
                raise ConfigError(f"suite {self.name!r} has no {category} task", "each category has at least one",
                                  f"add a task under {category}")  # fmt: skip
        for task in self.tasks:
            if (task.shape, task.container) == ("block", "bin"):
                raise ConfigError(f"task {task.name!r}", "a block is longer than the bin is wide",
                                  "put it in the tray")  # fmt: skip

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        return (*self.expert, *self.rl, *self.unseen)

    def task(self, name: str) -> TaskSpec:
        """The task of that name; an unknown one is an error that names the nearest."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise unknown_name("task", name, [task.name for task in self.tasks], f"of suite {self.name!r}")

    def category(self, name: str) -> str:
        """"expert", "rl" or "unseen"."""
        task = self.task(name)
        return next(category for category in CATEGORIES if task in getattr(self, category))


def suite_names() -> list[str]:
    """Suites that ship with the package."""
    folder = files("irevla_ros") / "config" / "suites"
    return sorted(Path(str(entry)).stem for entry in folder.iterdir() if str(entry).endswith(".yaml"))


@cache
def load_suite(name: str) -> Suite:
    """A suite by its shipped name, or from a YAML file by path (anything that ends in .yaml)."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"suite file {name!r}", "no such file", "give an existing YAML file or a suite's name")
    elif name in suite_names():
        path = Path(str(files("irevla_ros") / "config" / "suites" / f"{name}.yaml"))
    else:
        raise unknown_name("suite", name, suite_names())
    return parse_suite(path.stem, read_yaml(path), str(path))


def parse_suite(name: str, content: Any, where: str) -> Suite:
    """Build a suite from parsed YAML: each category maps to a list of ``TaskSpec`` fields."""
    if not isinstance(content, Mapping):
        raise ConfigError(where, "a suite is a mapping of categories to lists of tasks", "see config/suites/demo.yaml")
    for key in content:
        if key not in CATEGORIES:
            raise unknown_name("category", str(key), CATEGORIES, f"in {where}")
    known = [field.name for field in fields(TaskSpec)]
    categories: dict[str, tuple[TaskSpec, ...]] = {}
    for category in CATEGORIES:
        tasks = []
        entries = content.get(category) or []
        if not isinstance(entries, list):
            raise ConfigError(f"{where}: {category}: {entries!r}", "a category is a list of tasks",
                              "begin each task with a dash")  # fmt: skip
        for entry in entries:
            if not isinstance(entry, Mapping):
                raise ConfigError(f"{where}: {category}: {entry!r}", "a task is a mapping such as {family: press}",
                                  f"give its {', '.join(known)}")  # fmt: skip
            for key, value in entry.items():
                if key not in known:
                    raise unknown_name("key", str(key), known, f"in {where} under {category}")
                if not isinstance(value, str):
                    raise ConfigError(f"{where}: {category}: {key}: {value!r}", "must be text", "quote it")
            if "family" not in entry:
                raise ConfigError(f"{where}: {category}: {entry!r}", "a task names its family",
                                  f"add family: one of {', '.join(sorted(FAMILIES))}")  # fmt: skip
            tasks.append(TaskSpec(**entry))
        categories[category] = tuple(tasks)
    return Suite(name, **categories)
