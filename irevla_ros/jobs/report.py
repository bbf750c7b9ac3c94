"""``report.html`` of a run folder: one file that can be mailed, with everything in it and what is missing said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs import page, plots
from irevla_ros.jobs.curves import STAGE1, WINDOW, Metrics, Milestone, milestones, read_metrics
from irevla_ros.jobs.gate import read_decisions
from irevla_ros.jobs.jsonfile import write_bytes
from irevla_ros.jobs.reference import CATEGORY_NAMES, PAPER_META_WORLD, PAPER_SETUP, display_name
from irevla_ros.jobs.results import REPORT
from irevla_ros.jobs.summary import (
    BASELINE,
    Evaluation,
    Summary,
    method_order,
    read_evaluations,
    read_summary,
    summarise,
)
from irevla_ros.jobs.video import read_video_info

INTRODUCTION = (
    "A Franka arm{where} is driven by a small vision-language-action policy. The policy first imitates "
    "demonstrations of the expert tasks (stage 0, SFT). Then, as in iRe-VLA (arXiv 2501.16664), it alternates: it "
    "practises one new task by reinforcement learning with a sparse reward, training only its action head (stage 1), "
    "and then learns the whole policy by supervision from the demonstrations and from its own successes (stage 2). "
    "Unseen tasks are never trained on. Every success rate that was evaluated is shown with its number of "
    "episodes and its 95 % interval."
)


@dataclass(frozen=True)
class Run:
    """A run folder as far as it exists; ``missing`` says in sentences what does not."""

    folder: Path
    summary: Summary
    recorded: bool  # False when there was no summary.json: seed and times are then unknown
    evaluations: Mapping[str, Evaluation]
    metrics: Metrics
    missing: tuple[str, ...]


def load_run(folder: Path) -> Run:
    """Read a run folder, finished or not. Raises DataError when it holds neither evaluations nor metrics."""
    evaluations, metrics = read_evaluations(folder), read_metrics(folder / "metrics.csv")
    recorded = (folder / "summary.json").exists()
    if not (recorded or evaluations or metrics):
        raise DataError(str(folder), "a run folder has summary.json, evaluations/ or metrics.csv",
                        "give the folder of a run, such as runs/demo")  # fmt: skip
    if recorded:
        summary = read_summary(folder)
    else:
        summary = summarise(evaluations, seed=0, wall_s=0.0, milestones=milestones(metrics), complete=False)
    return Run(folder, summary, recorded, evaluations, metrics, tuple(_missing(folder, summary, recorded, metrics)))


def _missing(folder: Path, summary: Summary, recorded: bool, metrics: Metrics) -> list[str]:
    found = []
    if not recorded:
        found.append("summary.json is missing: the run was interrupted early; seed, times and versions are unknown.")
    elif not summary.complete:
        found.append("The run was interrupted or is still under way: what follows is what it had measured until then.")
    if not summary.methods:
        found.append("No method has been evaluated.")
    elif len(summary.methods) == 1:
        only = display_name(next(iter(summary.methods)))
        found.append(f"Only {only} was evaluated: there is nothing to compare it with.")
    for label, rates in summary.methods.items():
        absent = [CATEGORY_NAMES[category] for category in CATEGORIES if not rates[category].episodes]
        if absent:
            found.append(f"{display_name(label)} was not evaluated on {' and '.join(absent)} tasks.")
    if not any(name == "success" and tag.startswith(STAGE1) for tag, name in metrics):
        found.append("There is no learning curve: metrics.csv has no successes of stage 1.")
    if not summary.timeline:
        found.append("There is no stage timeline.")
    if not any((folder / "videos").glob("*.webp")):
        found.append("There are no videos.")
    return found


def write_report(folder: Path) -> Path:
    """Write ``plots/*.png``, ``plots/*.svg`` and ``report.html`` into the run folder; returns the report's path."""
    run = load_run(folder)
    sections = [_header(run), _results(run), _tasks(run), _learning(run), _stages(run), _videos(run), _reproduce(run)]
    path = folder / REPORT
    write_bytes(path, page.page(f"iRe-VLA run {_name(run)}", "\n".join(sections)).encode())
    return path


def _name(run: Run) -> str:
    return run.folder.resolve().name


def _header(run: Run) -> str:
    summary = run.summary
    facts = [f"seed {summary.seed}", f"{page.duration(summary.wall_s)} of wall time"] if run.recorded else []
    facts = ([f"suite {summary.suite}"] if summary.suite else []) + facts
    facts.append("complete" if summary.complete else "not complete")
    introduction, missing = INTRODUCTION.format(where=" in simulation" if summary.simulated else ""), ""
    if run.missing:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in run.missing)
        missing = f'<div class="missing" role="note"><b>What is missing</b><ul>{items}</ul></div>\n'
    return (
        f"<h1>Run {escape(_name(run))}</h1>\n"
        f'<p class="soft">{escape(", ".join(facts))}</p>\n<p>{introduction}</p>\n{missing}{_tiles(summary)}'
    )


def _tiles(summary: Summary) -> str:
    """Before and after at a glance, one tile a category."""
    if not summary.methods:
        return ""
    after = max(summary.methods, key=method_order)
    differences = {one.category: one.difference for one in summary.paired if one.after == after}
    tiles = []
    for category in CATEGORIES:
        shown = {label: summary.methods[label][category] for label in (BASELINE, after) if label in summary.methods}
        shown = {label: rate for label, rate in shown.items() if rate.episodes}
        lines = [f"{display_name(label)} {rate}" for label, rate in shown.items()] or ["not evaluated"]
        if category in differences:
            one = differences[category]
            lines.append(f"difference {one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}], paired")
        headline = " → ".join(f"{rate.mean:.2f}" for rate in shown.values()) or "–"
        tiles.append(f'<div class="tile"><span>{CATEGORY_NAMES[category]} tasks</span><b>{headline}</b>'
                     + "".join(f"<span>{escape(line)}</span>" for line in lines) + "</div>")  # fmt: skip
    return f'<div class="tiles">{"".join(tiles)}</div>\n<p class="soft">{escape(summary.caveat)}</p>\n'


def _category_rows(rates: Mapping[str, Mapping[str, Rate]]) -> list[list[str]]:
    return [[escape(display_name(label))] + [page.rate_cell(by_category[category]) for category in CATEGORIES]
            for label, by_category in rates.items()]  # fmt: skip


def _results(run: Run) -> str:
    summary, note = run.summary, run.summary.caveat
    if not (summary.methods or summary.others):
        return "<h2>Results</h2>\n<p>Nothing has been evaluated yet.</p>"
    header = ["method"] + [f"{CATEGORY_NAMES[category]} tasks" for category in CATEGORIES]
    parts = ["<h2>Results</h2>"]
    if summary.methods:
        figure = plots.save_figure(plots.success_by_category(summary.methods), run.folder / "plots", "categories")
        reference = [[f"paper, {escape(display_name(label))}"] + [f"{figures[category]:.2f}" for category in CATEGORIES]
                     for label, figures in PAPER_META_WORLD.items()]  # fmt: skip
        parts += [
            page.table(header, _category_rows(summary.methods) + reference,
                       f"{note} Success rate, deterministic policy, 95 % Wilson interval.", len(reference)),
            f'<p class="note">{escape(PAPER_SETUP)}</p>',
            page.plot(figure, "Success by category and method with 95 % intervals"),
        ]  # fmt: skip
    if summary.paired:
        rows = [[f"{escape(display_name(one.after))} − {escape(display_name(one.before))}",
                 CATEGORY_NAMES.get(one.category, escape(one.category)), page.difference_cell(one.difference)]
                for one in summary.paired]  # fmt: skip
        method = f"{note} Difference of success rates, paired by start state, 95 % Newcombe interval."
        parts += ["<h3>Differences on the same start states</h3>",
                  page.table(["comparison", "tasks", "difference"], rows, method)]  # fmt: skip
    if summary.others:
        parts += ["<h3>Other evaluations</h3>",
                  page.table(["evaluation", *header[1:]], _category_rows(summary.others),
                             f"{note} With exploration noise, or of checkpoints on the way.")]  # fmt: skip
    return "\n".join(parts + _gates(run))


def _gates(run: Run) -> list[str]:
    """What became of the results of stage 2, where a gate decided (runs in the graph)."""
    decisions = read_decisions(run.folder)
    if not decisions:
        return []
    rows = [[escape(one.candidate), escape(one.present),
             ", ".join(f"{CATEGORY_NAMES[name]} {change:+.2f}" for name, change in one.differences.items()),
             "adopted" if one.adopted else f"not adopted: {escape(one.present)} stays"] for one in decisions]  # fmt: skip
    note = "Difference of success rates on the same start states; a result that is worse by more than the margin is refused."
    return ["<h3>The gate after stage 2</h3>",
            page.table(["result", "against", "difference", "decision"], rows, f"{run.summary.caveat} {note}")]


def _tasks(run: Run) -> str:
    tasks = run.summary.tasks
    category = {task: one.category for results in tasks.values() for task, one in results.items()}
    if not category:
        return ""
    names = sorted(category, key=lambda task: (CATEGORIES.index(category[task]), task))
    rows = []
    for task in names:
        results = [results.get(task) for results in tasks.values()]
        cells = [page.rate_cell(result.rate if result else None) for result in results]
        rows.append([escape(task), CATEGORY_NAMES[category[task]], *cells])
    figure = plots.save_figure(plots.success_by_task(tasks), run.folder / "plots", "tasks")
    return (
        "<h2>Task by task</h2>\n"
        + page.plot(figure, "Success by task and method with 95 % intervals")
        + "<details><summary>The same as a table</summary>"
        + page.table(["task", "kind", *(display_name(label) for label in tasks)], rows,
                     f"{run.summary.caveat} Success rate, 95 % Wilson interval.")
        + "</details>"
    )  # fmt: skip


def _learning(run: Run) -> str:
    folder, parts = run.folder / "plots", ["<h2>Learning</h2>"]
    if (curves := plots.learning_curves(run.metrics)) is not None:
        parts.append(page.plot(plots.save_figure(curves, folder, "learning_curves"),
                               "Success in stage 1 against episodes and against wall-clock time",
                               "Stage 1: success of the training episodes, with exploration noise, by task. Dashed: "
                               "0.85 and 0.95."))  # fmt: skip
    if run.summary.milestones:
        parts.append(_milestone_table(run.summary.milestones, run.summary.caveat))
    if (losses := plots.supervised_losses(run.metrics)) is not None:
        parts.append(page.plot(plots.save_figure(losses, folder, "supervised_losses"), "Supervised losses by step",
                               "Stages 0 and 2: loss of behaviour cloning."))  # fmt: skip
    if (health := plots.ppo_diagnostics(run.metrics)) is not None:
        parts.append(page.plot(plots.save_figure(health, folder, "ppo_diagnostics"), "Diagnostics of PPO by task",
                               "Stage 1: the health of PPO."))  # fmt: skip
    return "\n".join(parts) if len(parts) > 1 else "<h2>Learning</h2>\n<p>No metrics were recorded.</p>"


def _milestone_table(found: tuple[Milestone, ...], note: str) -> str:
    rows = []
    for one in found:
        cells = ["not reached", "", ""]
        if one.episodes is not None:
            cells = [str(one.episodes), page.duration(one.arm_s), page.duration(one.wall_s)]
        rows.append([escape(one.tag.removeprefix(STAGE1)), f"{one.threshold:.2f}", *cells])
    return page.table(["task", "success", "episodes", "simulated arm time", "wall time"], rows,
                      f"{note} Cost until the last {WINDOW} training episodes reached a success rate.")  # fmt: skip


def _stages(run: Run) -> str:
    figure = plots.stage_timeline(run.summary.timeline)
    if figure is None:
        return ""
    svg = plots.save_figure(figure, run.folder / "plots", "timeline")
    return "<h2>Where the time went</h2>\n" + page.plot(svg, "Stages of the run over time")


def _videos(run: Run) -> str:
    """Videos as <img>: animated WebP plays by itself, loops, and needs no codec and no script."""
    figures = []
    for path in sorted((run.folder / "videos").glob("*.webp")):
        info = read_video_info(path)
        text = path.stem
        if info is not None:
            ends = ", ".join(f"{one.label} {'success' if one.success else 'no success'} after {one.steps} steps"
                             for one in info.clips)  # fmt: skip
            kind = CATEGORY_NAMES.get(info.category, info.category)
            text = f"{info.instruction} ({kind} task, start seed {info.seed}): {ends}"
        figures.append(f'<figure><img loading="lazy" alt="{escape(text)}" '
                       f'src="{page.data_uri(path.read_bytes(), "image/webp")}">'
                       f"<figcaption>{escape(text)}</figcaption></figure>")  # fmt: skip
    if not figures:
        return ""
    return (
        '<h2>The same episodes, before and after</h2>\n<p class="soft">Left and right begin in the same state.</p>\n'
        f'<div class="videos">{"".join(figures)}</div>'
    )


def _reproduce(run: Run) -> str:
    summary, parts = run.summary, ["<h2>Reproduce</h2>"]
    if summary.command:
        parts.append(f"<pre>{escape(summary.command)}</pre>")
    facts = [["seed", str(summary.seed) if run.recorded else "not recorded"]]
    facts += [[escape(name), escape(version)] for name, version in summary.software.items()]
    facts += [[f"evaluation {escape(one.label)}",
               f"{escape(one.checkpoint)}, {'deterministic' if one.deterministic else 'with exploration noise'}, "
               f"{len(one.episodes)} episodes"] for one in run.evaluations.values()]  # fmt: skip
    parts.append(page.table(["what", "value"], facts, "Seed, software and checkpoints"))
    config = run.folder / "config.yaml"
    if config.exists():
        text = escape(config.read_text(encoding="utf-8", errors="replace"))
        parts.append(f"<details><summary>Configuration, resolved</summary><pre>{text}</pre></details>")
    else:
        parts.append('<p class="soft">The configuration (config.yaml) is missing.</p>')
    return "\n".join(parts)
