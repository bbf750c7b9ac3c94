"""Figures of a run and of a study: readable in grey and to the colour-blind, with n and 95 % intervals."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irevla_ros.core.stats import Rate
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.curves import STAGE1, THRESHOLDS, WINDOW, Metrics, moving_success
from irevla_ros.jobs.jsonfile import write_bytes
from irevla_ros.jobs.reference import CATEGORY_NAMES, display_name
from irevla_ros.jobs.summary import StageSpan, TaskResult

# Okabe and Ito (2008), distinguishable with every common colour blindness; yellow left out, too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
WIDTH = 7.4  # inches
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 120,
    "savefig.dpi": 160,
    "svg.hashsalt": "irevla",
}
DIAGNOSTICS = {"approx_kl": "KL to the old policy", "clipfrac": "clipped fraction",
               "explained_variance": "explained variance"}  # fmt: skip


def save_figure(figure: Figure, folder: Path, name: str) -> bytes:
    """Write ``<name>.png`` and ``<name>.svg`` atomically; returns the SVG."""
    for suffix, metadata in (("png", None), ("svg", {"Date": None})):
        stream = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(stream, format=suffix, metadata=metadata)
        write_bytes(folder / f"{name}.{suffix}", stream.getvalue())
    return stream.getvalue()


def success_by_category(
    rates: Mapping[str, Mapping[str, Rate]], seeds: Mapping[str, Mapping[str, Sequence[float]]] | None = None
) -> Figure:
    """One panel a category, one row a method: mean with Wilson interval and n; ``seeds`` adds a tick for each seed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 1.25 + 0.42 * len(rates)), layout="constrained")
        axes = figure.subplots(1, len(CATEGORIES), sharey=True, squeeze=False)[0]
        for ax, category in zip(axes, CATEGORIES, strict=True):
            episodes = {rate[category].episodes for rate in rates.values() if rate[category].episodes}
            shared = f"n = {episodes.pop()}" if len(episodes) == 1 else ""
            ax.set_title(f"{CATEGORY_NAMES[category]} tasks\n{shared}".rstrip())
            for row, (label, by_category) in enumerate(rates.items()):
                rate = by_category[category]
                text = f"{rate.mean:.2f}" + ("" if shared else f"  n={rate.episodes}")
                _point(ax, rate, row, row, text if rate.episodes else "not evaluated")
                for value in seeds[label][category] if seeds else ():
                    ax.plot(value, row + 0.27, marker="|", color=_colour(row), markersize=6, zorder=2)
            ax.set_xlim(-0.04, 1.04)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            ax.set_xlabel("success rate")
            ax.grid(axis="y", visible=False)
        axes[0].set_yticks(range(len(rates)), [display_name(label) for label in rates])
        axes[0].set_ylim(len(rates) - 0.4, -0.65)
    return figure


def success_by_task(tasks: Mapping[str, Mapping[str, TaskResult]]) -> Figure:
    """One row a task, grouped by category, with a point and a Wilson interval for each method."""
    category = {task: one.category for results in tasks.values() for task, one in results.items()}
    names = sorted(category, key=lambda task: (CATEGORIES.index(category[task]), task))
    with matplotlib.rc_context(STYLE):
        spread = min(0.34, 0.1 * len(tasks))
        offsets = np.linspace(-spread, spread, len(tasks)) if len(tasks) > 1 else [0.0]
        row_height = max(0.34, 0.14 * len(tasks))
        figure = Figure((WIDTH, 1.3 + row_height * len(names)), layout="constrained")
        ax = figure.subplots()
        for colour, (label, results) in enumerate(tasks.items()):
            for row, task in enumerate(names):
                if task in results:
                    _point(ax, results[task].rate, row + offsets[colour], colour)
            ax.plot([], [], color=_colour(colour), marker=MARKERS[colour % len(MARKERS)], label=display_name(label))
        for row in range(1, len(names)):
            if category[names[row]] != category[names[row - 1]]:
                ax.axhline(row - 0.5, color="#888888", linewidth=0.8)
        ax.set_yticks(range(len(names)), [f"{task}  ({CATEGORY_NAMES[category[task]]})" for task in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("success rate, 95 % interval")
        ax.grid(axis="y", visible=False)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def learning_curves(metrics: Metrics) -> Figure | None:
    """Success of the episodes of stage 1, moving mean, per task, against episodes and wall-clock."""
    curves = {tag: one for (tag, name), one in metrics.items() if name == "success" and tag.startswith(STAGE1)}
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.5), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for i, (tag, success) in enumerate(curves.items()):
            moving = np.where(success.step < WINDOW / 5, np.nan, moving_success(success))  # too few to be a rate
            minutes = (success.wall_s - success.wall_s[0]) / 60
            for ax, x in zip(axes, (success.step, minutes), strict=True):
                ax.plot(x, moving, color=_colour(i), linestyle=("-", "--", "-.", ":")[i % 4], linewidth=1.8,
                        label=tag[len(STAGE1):])  # fmt: skip
        for ax, label in zip(axes, ("episodes", "minutes since the task began"), strict=True):
            for threshold in THRESHOLDS:
                ax.axhline(threshold, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
            ax.set_xlabel(label)
            ax.set_xlim(left=0)
        axes[0].set_ylim(-0.03, 1.03)
        axes[0].set_ylabel(f"success of the last {WINDOW} episodes")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def supervised_losses(metrics: Metrics) -> Figure | None:
    """Losses of the supervised stages against their own optimisation step, logarithmic."""
    losses = {key: one for key, one in metrics.items() if not key[0].startswith(STAGE1) and "loss" in key[1]}
    if not losses:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.2), layout="constrained")
        ax = figure.subplots()
        for i, ((tag, name), loss) in enumerate(losses.items()):
            stage = tag.removeprefix("supervised/")
            label = stage if name == "loss" else f"{stage} {name}"
            ax.plot(loss.step, loss.value, color=_colour(i), linestyle=("-", "--", "-.", ":")[i % 4], label=label)
        if all((loss.value > 0).all() for loss in losses.values()):
            ax.set_yscale("log")
        ax.set_xlabel("optimisation step")
        ax.set_ylabel("loss")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def ppo_diagnostics(metrics: Metrics) -> Figure | None:
    """What tells whether PPO is healthy: KL, clipped fraction, explained variance, per task."""
    names = [name for name in DIAGNOSTICS if any(found == name for _, found in metrics)]
    if not names:
        return None
    tags = list(dict.fromkeys(tag for tag, name in metrics if name in DIAGNOSTICS))
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.9), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for ax, name in zip(axes, names, strict=True):
            for i, tag in enumerate(tags):
                if (tag, name) in metrics:
                    series = metrics[tag, name]
                    ax.plot(series.step, series.value, color=_colour(i), linestyle=("-", "--", "-.", ":")[i % 4],
                            label=tag.removeprefix(STAGE1))  # fmt: skip
            ax.set_title(DIAGNOSTICS[name])
            ax.set_xlabel("step")
            if name == "explained_variance":
                ax.set_ylim(max(-1.0, ax.get_ylim()[0]), 1.05)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def stage_timeline(timeline: Sequence[StageSpan]) -> Figure | None:
    """The run as it went by: one row a label, one colour a kind of stage."""
    if not timeline:
        return None
    rows = list(dict.fromkeys(_span_name(span) for span in timeline))
    stages = list(dict.fromkeys(span.stage for span in timeline))
    scale, unit = (60.0, "minutes") if timeline[-1].end_s > 180 else (1.0, "seconds")
    end = max(span.end_s for span in timeline) / scale
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
        ax = figure.subplots()
        for stage in stages:
            for span in (span for span in timeline if span.stage == stage):
                row, width = rows.index(_span_name(span)), (span.end_s - span.start_s) / scale
                ax.barh(row, width, left=span.start_s / scale, height=0.62, color=_colour(stages.index(stage)))
                ax.text(span.end_s / scale + end * 0.008, row, f"{width:.1f}", va="center", fontsize=8, color="#555555")
            ax.barh([0], [0], color=_colour(stages.index(stage)), label=stage)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(0, end * 1.06)
        ax.set_xlabel(f"{unit} since the start")
        ax.grid(axis="y", visible=False)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=6)
    return figure


def _span_name(span: StageSpan) -> str:
    return f"{span.label}: {span.task}" if span.task else span.label


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _point(ax: Axes, rate: Rate, y: float, colour: int, text: str = "") -> None:
    """A mean with its Wilson interval as a whisker, and a text above it."""
    low, high = rate.interval
    if not math.isnan(rate.mean):
        ax.plot([low, high], [y, y], color=_colour(colour), linewidth=2, solid_capstyle="butt")
        ax.plot(rate.mean, y, marker=MARKERS[colour % len(MARKERS)], color=_colour(colour), markersize=6.5)
    if text:
        x = 0.5 if math.isnan(rate.mean) else min(max(rate.mean, 0.1), 0.9)
        ax.annotate(text, (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8.5, color="#333333")
