"""The outcome of a run: evaluations as they were measured, and the summary that is computed from them.

    runs/<name>/evaluations/<label>.json   one evaluation, every episode with its task, start seed and outcome
    runs/<name>/summary.json               counts by method and category, per task, paired differences, timeline

A label is the name of a method (``sft``, ``irevla``), or ``method@variant`` for any other look at it
(``sft@stochastic``, ``irevla@iteration-1``). Only deterministic evaluations without a variant count as methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.stats import PairedDifference, Rate, paired_difference
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.curves import Milestone
from irevla_ros.jobs.jsonfile import Fields, read_json, write_json
from irevla_ros.jobs.reference import caveat

BASELINE = "sft"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(@[A-Za-z0-9._+-]+)?")


@dataclass(frozen=True)
class EvaluatedEpisode:
    """One evaluation episode; (task, seed) is its start state, the key on which methods are paired."""

    task: str
    category: str
    seed: int
    success: bool
    steps: int


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on a set of start states, with its exploration noise or without (``deterministic``)."""

    label: str
    checkpoint: str
    deterministic: bool
    episodes: tuple[EvaluatedEpisode, ...]

    def __post_init__(self) -> None:
        name = f"evaluation {self.label!r}"
        if not _LABEL.fullmatch(self.label):
            raise DataError(name, "a label is a method or method@variant, of letters, digits and . _ + -",
                            "rename it, such as 'irevla' or 'sft@stochastic'")  # fmt: skip
        for category in {episode.category for episode in self.episodes} - set(CATEGORIES):
            raise DataError(f"{name} category {category!r}", f"categories are {', '.join(CATEGORIES)}",
                            "correct the category in the task suite")  # fmt: skip
        categories: dict[str, str] = {}
        starts: set[tuple[str, int]] = set()
        for episode in self.episodes:
            if categories.setdefault(episode.task, episode.category) != episode.category:
                raise DataError(f"{name} task {episode.task!r}", "a task belongs to one category",
                                "correct the category in the task suite")  # fmt: skip
            if (episode.task, episode.seed) in starts:
                raise DataError(f"{name} task {episode.task!r} seed {episode.seed}", "a start state is evaluated once",
                                "give each episode of a task its own seed")  # fmt: skip
            starts.add((episode.task, episode.seed))

    @property
    def is_method(self) -> bool:
        return self.deterministic and "@" not in self.label

    def rate(self, category: str) -> Rate:
        chosen = [episode.success for episode in self.episodes if episode.category == category]
        return Rate(sum(chosen), len(chosen))

    def write(self, run_folder: Path) -> Path:
        """Write ``evaluations/<label>.json`` atomically and return its path."""
        path = run_folder / "evaluations" / f"{self.label}.json"
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Raises DataError when the file is missing, not JSON, or lacks a field."""
        content = Fields(path, read_json(path), "evaluate again")
        episodes = tuple(
            EvaluatedEpisode(one.take("task", str), one.take("category", str), one.take("seed", int),
                             one.take("success", bool), one.take("steps", int))
            for one in content.each("episodes"))  # fmt: skip
        return cls(content.take("label", str), content.take("checkpoint", str), content.take("deterministic", bool),
                   episodes)  # fmt: skip


def read_evaluations(run_folder: Path) -> dict[str, Evaluation]:
    """Every evaluation of a run, by label; SFT first, iRe-VLA last, as tables and plots show them."""
    found = [Evaluation.read(path) for path in sorted((run_folder / "evaluations").glob("*.json"))]
    return {one.label: one for one in sorted(found, key=lambda one: method_order(one.label))}


def method_order(label: str) -> tuple[int, str]:
    """Sort key: SFT and its variants first, iRe-VLA and its variants last, the other baselines between."""
    rank = 0 if label.startswith("sft") else 2 if label.startswith("irevla") else 1
    return rank, label


@dataclass(frozen=True)
class TaskResult:
    """Outcomes of one method on one task; ``outcomes[i]`` belongs to the start state ``start_seeds[i]``."""

    category: str
    start_seeds: tuple[int, ...]
    outcomes: tuple[bool, ...]

    @property
    def rate(self) -> Rate:
        return Rate(sum(self.outcomes), len(self.outcomes))


@dataclass(frozen=True)
class Comparison:
    """Success of ``after`` minus ``before`` on the start states that both were given."""

    after: str
    before: str
    category: str
    difference: PairedDifference


@dataclass(frozen=True)
class StageSpan:
    """One stretch of the run, in seconds since its start; ``stage`` is its kind, such as ``stage0`` or ``evaluate``."""

    stage: str
    label: str
    start_s: float
    end_s: float
    task: str | None = None


@dataclass(frozen=True)
class Summary:
    """``methods``: method -> category -> rate; ``others``: the same for evaluations that are not methods."""

    seed: int
    wall_s: float
    methods: Mapping[str, Mapping[str, Rate]]
    others: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, TaskResult]] = field(default_factory=dict)
    paired: tuple[Comparison, ...] = ()
    timeline: tuple[StageSpan, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    suite: str = ""
    command: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    parameters: int | None = None  # of the whole policy
    simulated: bool = True  # the arms that practised and were evaluated
    complete: bool = True  # False while the run is under way and after it was interrupted

    @property
    def caveat(self) -> str:
        """The statement that stands above every table of results."""
        return caveat(self.parameters, self.simulated)

    def write(self, run_folder: Path) -> Path:
        """Write ``summary.json`` atomically and return its path."""
        path = run_folder / "summary.json"
        write_json(path, summary_to_json(self))
        return path


def summarise(
    evaluations: Mapping[str, Evaluation],
    *,
    seed: int,
    wall_s: float,
    timeline: Sequence[StageSpan] = (),
    milestones: Sequence[Milestone] = (),
    suite: str = "",
    command: str = "",
    software: Mapping[str, str] | None = None,
    parameters: int | None = None,
    simulated: bool = True,
    complete: bool = True,
) -> Summary:
    """Compute the summary of a run from its evaluations (``read_evaluations``); may be called after every stage."""
    methods = {label: one for label, one in evaluations.items() if one.is_method}
    return Summary(
        seed=seed,
        wall_s=wall_s,
        methods={label: _rates(one) for label, one in methods.items()},
        others={label: _rates(one) for label, one in evaluations.items() if label not in methods},
        tasks={label: _task_results(one) for label, one in methods.items()},
        paired=tuple(
            compared
            for label, one in methods.items()
            if label != BASELINE and BASELINE in methods
            for category in CATEGORIES
            if (compared := compare(one, methods[BASELINE], category)) is not None
        ),
        timeline=tuple(timeline),
        milestones=tuple(milestones),
        suite=suite,
        command=command,
        software=dict(software or {}),
        parameters=parameters,
        simulated=simulated,
        complete=complete,
    )


def compare(after: Evaluation, before: Evaluation, category: str) -> Comparison | None:
    """Paired difference over the start states of a category that both evaluations share; None when there are none."""
    earlier = {(e.task, e.seed): e.success for e in before.episodes if e.category == category}
    later = {(e.task, e.seed): e.success for e in after.episodes if e.category == category}
    shared = sorted(earlier.keys() & later.keys())
    if not shared:
        return None
    difference = paired_difference(np.array([later[s] for s in shared]), np.array([earlier[s] for s in shared]))
    return Comparison(after.label, before.label, category, difference)


def _rates(evaluation: Evaluation) -> dict[str, Rate]:
    return {category: evaluation.rate(category) for category in CATEGORIES}


def _task_results(evaluation: Evaluation) -> dict[str, TaskResult]:
    by_task: dict[str, list[EvaluatedEpisode]] = {}
    for episode in sorted(evaluation.episodes, key=lambda e: (CATEGORIES.index(e.category), e.task, e.seed)):
        by_task.setdefault(episode.task, []).append(episode)
    return {
        task: TaskResult(group[0].category, tuple(e.seed for e in group), tuple(e.success for e in group))
        for task, group in by_task.items()
    }


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """The documented layout of ``summary.json``."""
    return {
        "methods": _rates_to_json(summary.methods),
        "seed": summary.seed,
        "wall_s": round(summary.wall_s, 2),
        "complete": summary.complete,
        "suite": summary.suite,
        "command": summary.command,
        "software": dict(summary.software),
        "parameters": summary.parameters,
        "simulated": summary.simulated,
        "others": _rates_to_json(summary.others),
        "paired": [
            {"after": one.after, "before": one.before, "category": one.category} | asdict(one.difference)
            for one in summary.paired
        ],
        "milestones": [asdict(one) for one in summary.milestones],
        "timeline": [asdict(one) for one in summary.timeline],
        "tasks": {
            method: {
                task: {"category": one.category, "successes": one.rate.successes, "episodes": one.rate.episodes,
                       "start_seeds": list(one.start_seeds), "outcomes": list(one.outcomes)}
                for task, one in results.items()
            }
            for method, results in summary.tasks.items()
        },
    }  # fmt: skip


def _rates_to_json(rates: Mapping[str, Mapping[str, Rate]]) -> dict[str, dict[str, dict[str, int]]]:
    return {label: {category: asdict(rate) for category, rate in one.items()} for label, one in rates.items()}


def read_summary(run_folder: Path) -> Summary:
    """Read and validate ``summary.json``. Raises DataError that names the file and the field."""
    path = run_folder / "summary.json"
    content = Fields(path, read_json(path), "run the training again, or restore the file")
    return Summary(
        seed=content.take("seed", int),
        wall_s=content.take("wall_s", float),
        methods=_rates_from_json(content.inner("methods")),
        others=_rates_from_json(content.inner("others", optional=True)),
        tasks={
            method: {
                task: _task_from_json(results.inner(task)) for task in results.value
            }
            for method, results in content.inner("tasks", optional=True).items()
        },
        paired=tuple(
            Comparison(one.take("after", str), one.take("before", str), one.take("category", str),
                       PairedDifference(one.take("mean", float), one.take("low", float), one.take("high", float),
                                        one.take("episodes", int)))
            for one in content.each("paired", optional=True)
        ),
        timeline=tuple(
            StageSpan(one.take("stage", str), one.take("label", str), one.take("start_s", float),
                      one.take("end_s", float), one.take("task", str, None))
            for one in content.each("timeline", optional=True)
        ),
        milestones=tuple(
            Milestone(one.take("tag", str), one.take("threshold", float), one.take("episodes", int, None),
                      one.take("arm_s", float, None), one.take("wall_s", float, None))
            for one in content.each("milestones", optional=True)
        ),
        suite=content.take("suite", str, ""),
        command=content.take("command", str, ""),
        software={name: str(version) for name, version in content.inner("software", optional=True).value.items()},
        parameters=content.take("parameters", int, None),
        simulated=content.take("simulated", bool, True),
        complete=content.take("complete", bool, True),
    )  # fmt: skip


def _rates_from_json(methods: Fields) -> dict[str, dict[str, Rate]]:
    found: dict[str, dict[str, Rate]] = {}
    for method, categories in methods.items():
        found[method] = {}
        for category in CATEGORIES:
            counts = categories.inner(category)
            rate = Rate(counts.take("successes", int), counts.take("episodes", int))
            if not 0 <= rate.successes <= rate.episodes:
                raise DataError(f"{counts.where} has {rate.successes} successes in {rate.episodes} episodes",
                                "successes lie between 0 and episodes", counts.remedy)  # fmt: skip
            found[method][category] = rate
    return found


def _task_from_json(content: Fields) -> TaskResult:
    result = TaskResult(content.take("category", str), tuple(content.take("start_seeds", list)),
                        tuple(content.take("outcomes", list)))  # fmt: skip
    if len(result.start_seeds) != len(result.outcomes):
        raise DataError(f"{content.where} has {len(result.outcomes)} outcomes for {len(result.start_seeds)} seeds",
                        "one outcome for each start seed", content.remedy)  # fmt: skip
    return result
