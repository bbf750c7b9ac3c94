"""Many runs, methods x seeds, pooled into the tables of the documentation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.stats import PairedDifference, Rate, paired_difference
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.curves import STAGE1, WINDOW
from irevla_ros.jobs.jsonfile import write_bytes
from irevla_ros.jobs.plots import save_figure, success_by_category
from irevla_ros.jobs.reference import CATEGORY_NAMES, PAPER_META_WORLD, PAPER_SETUP, display_name
from irevla_ros.jobs.summary import BASELINE, Summary, TaskResult, method_order, read_summary


@dataclass(frozen=True)
class Result:
    """One method with one seed."""

    method: str
    seed: int
    folder: Path
    summary: Summary

    def rate(self, category: str) -> Rate:
        return self.summary.methods[self.method][category]

    @property
    def tasks(self) -> dict[str, TaskResult]:
        return dict(self.summary.tasks.get(self.method, {}))


@dataclass(frozen=True)
class Pooled:
    """A method on a category over all seeds: ``rate`` counts all episodes, ``means`` has one entry a seed."""

    rate: Rate
    means: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.means) if self.means else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation between seeds; NaN with fewer than two."""
        return stdev(self.means) if len(self.means) > 1 else float("nan")


def read_study(folder: Path) -> list[Result]:
    """All methods and seeds below ``folder``, SFT first and iRe-VLA last.

    A method that several runs of one seed share (usually SFT) counts once. Raises DataError when two runs disagree on
    it, and when there is no run.
    """
    found: dict[tuple[str, int], Result] = {}
    for path in sorted(folder.rglob("summary.json")):
        summary = read_summary(path.parent)
        for method in summary.methods:
            result = Result(method, summary.seed, path.parent, summary)
            other = found.setdefault((method, summary.seed), result)
            if any(other.rate(category) != result.rate(category) for category in CATEGORIES):
                raise DataError(f"{method} with seed {summary.seed} in {other.folder} and {path.parent}",
                                "a method has one result for each seed", "move one of the runs away")  # fmt: skip
    if not found:
        raise DataError(str(folder), "no run below it has evaluated a method", "give the folder that holds the runs")
    return sorted(found.values(), key=lambda one: (method_order(one.method), one.seed))


def pool(results: Sequence[Result]) -> dict[str, dict[str, Pooled]]:
    """method -> category -> counts pooled over episodes, and the means of the seeds."""
    pooled: dict[str, dict[str, Pooled]] = {}
    for method in dict.fromkeys(one.method for one in results):
        pooled[method] = {}
        for category in CATEGORIES:
            rates = [one.rate(category) for one in results if one.method == method and one.rate(category).episodes]
            total = Rate(sum(rate.successes for rate in rates), sum(rate.episodes for rate in rates))
            pooled[method][category] = Pooled(total, tuple(rate.mean for rate in rates))
    return pooled


@dataclass(frozen=True)
class Differences:
    """A method minus SFT of the same seed on the same start states: over all pairs, and the mean of each seed."""

    pooled: PairedDifference
    by_seed: tuple[float, ...]


def differences(results: Sequence[Result]) -> dict[tuple[str, str], Differences]:
    """(method, category) -> its differences to SFT, where both met the same start states."""
    baselines = {one.seed: one.tasks for one in results if one.method == BASELINE}
    pairs: dict[tuple[str, str], dict[int, list[tuple[bool, bool]]]] = {}
    for one in results:
        if one.method == BASELINE or one.seed not in baselines:
            continue
        for task, after in one.tasks.items():
            before = baselines[one.seed].get(task)
            earlier = dict(zip(before.start_seeds, before.outcomes, strict=True)) if before else {}
            own = [(outcome, earlier[start]) for start, outcome in zip(after.start_seeds, after.outcomes, strict=True)
                   if start in earlier]  # fmt: skip
            if own:
                pairs.setdefault((one.method, after.category), {}).setdefault(one.seed, []).extend(own)
    found = {}
    for key, seeds in pairs.items():
        rows = [np.array(own).T for own in seeds.values()]
        by_seed = tuple(float(np.mean(after) - np.mean(before)) for after, before in rows)
        found[key] = Differences(paired_difference(*np.concatenate(rows, axis=1)), by_seed)
    return found


def write_study(folder: Path, out: Path) -> list[Path]:
    """Write ``study.md``, the CSV tables and ``study.png``/``.svg`` into ``out``; returns their paths."""
    results = read_study(folder)
    pooled = pool(results)
    files = {
        "study.md": _markdown(results, pooled),
        "study.csv": _csv(_pooled_rows(pooled)),
        "study_seeds.csv": _csv(_seed_rows(results)),
        "study_milestones.csv": _csv(_milestone_rows(results)),
    }
    for name, text in files.items():
        write_bytes(out / name, text.encode())
    rates = {method: {category: one.rate for category, one in row.items()} for method, row in pooled.items()}
    means = {method: {category: one.means for category, one in row.items()} for method, row in pooled.items()}
    save_figure(success_by_category(rates, means), out, "study")
    return [out / name for name in (*files, "study.png", "study.svg")]


Row = Sequence[str | int | float]


def _pooled_rows(pooled: dict[str, dict[str, Pooled]]) -> Iterable[Row]:
    yield ("method", "category", "seeds", "mean_over_seeds", "pooled_low", "pooled_high", "episodes", "seed_sd",
           "seed_min", "seed_max")  # fmt: skip
    for method, row in pooled.items():
        for category, one in row.items():
            if one.means:
                low, high = one.rate.interval
                yield (method, category, len(one.means), f"{one.mean:.4f}", f"{low:.4f}", f"{high:.4f}",
                       one.rate.episodes, f"{one.spread:.4f}" if len(one.means) > 1 else "", f"{min(one.means):.4f}",
                       f"{max(one.means):.4f}")  # fmt: skip


def _seed_rows(results: Sequence[Result]) -> Iterable[Row]:
    yield "method", "seed", "category", "task", "successes", "episodes"
    for one in results:
        for category in CATEGORIES:
            rate = one.rate(category)
            yield one.method, one.seed, category, "all", rate.successes, rate.episodes
        for task, result in one.tasks.items():
            yield one.method, one.seed, result.category, task, result.rate.successes, result.rate.episodes


def _milestone_rows(results: Sequence[Result]) -> Iterable[Row]:
    yield "method", "seed", "task", "threshold", "episodes", "arm_s"
    for one in _trained(results):
        for mark in one.summary.milestones:
            figures = (mark.episodes, mark.arm_s)  # no seconds: the runs of a study do not share one load of the machine
            yield (one.method, one.seed, mark.tag.removeprefix(STAGE1), mark.threshold,
                   *("" if figure is None else round(figure, 1) for figure in figures))  # fmt: skip


def _trained(results: Sequence[Result]) -> list[Result]:
    """The results whose run learned online: a run's milestones belong to the last of its methods."""
    return [one for one in results if one.method == max(one.summary.methods, key=method_order)]


def _csv(rows: Iterable[Row]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _markdown(results: Sequence[Result], pooled: dict[str, dict[str, Pooled]]) -> str:
    note = results[0].summary.caveat
    suites = sorted({one.summary.suite for one in results if one.summary.suite})
    unfinished = sorted({one.folder.name for one in results if not one.summary.complete})
    compared = differences(results)
    names = [f"{CATEGORY_NAMES[category]} tasks" for category in CATEGORIES]
    lines = [
        "# Study", "",
        "Written by `irevla report --study`; do not edit.",
        *([f"Suite: {', '.join(suites)}."] if suites else []),
        *([f"Not complete: {', '.join(unfinished)}."] if unfinished else []), "",
        "## Success by category", "",
        f"**{note}** Mean over seeds; 95 % Wilson interval and n of the episodes of all seeds together, which "
        "does not contain the variation between trainings; ± is the standard deviation between seeds, then each seed.",
        "",
        *_md_table(["method", *names], (
            [display_name(method), *(_pooled_text(row[category]) for category in CATEGORIES)]
            for method, row in pooled.items())), "",
        "![success by category](study.png)", "",
    ]  # fmt: skip
    if compared:
        lines += [
            "## Difference to SFT", "",
            f"**{note}** Paired by seed and start state; 95 % Newcombe interval over all pairs, which does not contain "
            "the variation between trainings: the difference of each seed follows.", "",
            *_md_table(["method", *names], (
                [display_name(method), *(_difference_text(compared.get((method, category))) for category in CATEGORIES)]
                for method in pooled if method != BASELINE)), "",
        ]  # fmt: skip
    if milestones := _milestone_lines(results):
        lines += [
            "## Cost of learning", "",
            f"**{note}** Median over tasks and seeds of what stage 1 needed until its last {WINDOW} training episodes "
            "(or the two batches that hold them), with exploration noise, reached a success rate, over those that did; arm "
            "time is simulated: control steps over their rate. The noise-free episodes that are harvested for stage 2 "
            "are not counted.", "",
            *_md_table(["method", "success", "reached by", "episodes", "arm time"], milestones), "",
        ]  # fmt: skip
    lines += [
        "## The paper", "", PAPER_SETUP, "",
        *_md_table(["method", *names], (
            [display_name(method), *(f"{figures[category]:.2f}" for category in CATEGORIES)]
            for method, figures in PAPER_META_WORLD.items())),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _md_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _pooled_text(one: Pooled) -> str:
    if not one.means:
        return "not evaluated"
    low, high = one.rate.interval
    seeds = f"; ± {one.spread:.2f} ({', '.join(f'{mean:.2f}' for mean in one.means)})" if len(one.means) > 1 else ""
    return f"**{one.mean:.2f}** [{low:.2f}, {high:.2f}] n={one.rate.episodes}{seeds}"


def _difference_text(one: Differences | None) -> str:
    if one is None:
        return "no pairs"
    all_pairs = one.pooled
    seeds = f" ({', '.join(f'{mean:+.2f}' for mean in one.by_seed)})" if len(one.by_seed) > 1 else ""
    return f"{all_pairs.mean:+.2f} [{all_pairs.low:+.2f}, {all_pairs.high:+.2f}] n={all_pairs.episodes}{seeds}"


def _milestone_lines(results: Sequence[Result]) -> list[list[str]]:
    lines = []
    trained = [(one.method, mark) for one in _trained(results) for mark in one.summary.milestones]
    for method in dict.fromkeys(method for method, _ in trained):
        marks = [mark for other, mark in trained if other == method]
        for threshold in sorted({mark.threshold for mark in marks}):
            at = [mark for mark in marks if mark.threshold == threshold]
            reached = [mark for mark in at if mark.episodes is not None]
            episodes, arm_s = (_median([getattr(mark, name) for mark in reached]) for name in ("episodes", "arm_s"))
            lines.append([display_name(method), f"{threshold:.2f}", f"{len(reached)} of {len(at)}",
                          "" if episodes is None else f"{episodes:.0f}",
                          "" if arm_s is None else f"{arm_s / 60:.1f} min"])  # fmt: skip
    return lines


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
