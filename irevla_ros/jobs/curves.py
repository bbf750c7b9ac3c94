"""Reading ``metrics.csv`` (columns step,name,value,wall_s,tag) and what learning curves are made of."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from irevla_ros.core.errors import DataError

COLUMNS = ("step", "name", "value", "wall_s", "tag")
WINDOW = 50  # episodes in the moving average of a learning curve
THRESHOLDS = (0.85, 0.95)
STAGE1 = "stage1/"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One metric of one tag over a run: float64 [n] each, ``step`` strictly increasing."""

    step: Array
    value: Array
    wall_s: Array

    def __len__(self) -> int:
        return len(self.step)


Metrics = dict[tuple[str, str], Series]  # (tag, name) -> series


def read_metrics(path: Path) -> Metrics:
    """Read ``metrics.csv``; {} when there is none, and the torn last line of a killed run is dropped.

    A resumed run repeats steps: the later rows replace the earlier ones from their step on.
    Raises DataError when the header or a line other than the last is wrong.
    """
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path} header {','.join(lines[0]) if lines else ''!r}", f"columns are {','.join(COLUMNS)}",
                        "give a metrics.csv that a run wrote")  # fmt: skip
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            step, name, value, wall_s, tag = line
            point = (float(step), float(value), float(wall_s))
        except ValueError:
            if number == len(lines):
                break
            raise DataError(f"{path} line {number} {','.join(line)!r}", f"columns are {','.join(COLUMNS)}",
                            "remove the damaged line") from None  # fmt: skip
        points = rows.setdefault((tag, name), [])
        while points and points[-1][0] >= point[0]:
            points.pop()
        points.append(point)
    return {key: Series(*np.array(points, np.float64).T) for key, points in rows.items()}


def moving_success(success: Series, window: int = WINDOW) -> Array:
    """Success over (at least) the last ``window`` episodes, float64 [n]; over all of them while there are fewer.

    ``success.step`` counts the episodes so far; a value is the mean over the episodes since the previous row, so that
    a row may stand for one episode or for a whole batch.
    """
    episodes = np.concatenate([[0.0], success.step])
    successes = np.concatenate([[0.0], np.cumsum(np.diff(episodes) * success.value)])
    # The last row from which at least `window` episodes have passed; row 0 is the empty start.
    start = np.maximum(np.searchsorted(episodes, episodes[1:] - window, side="right") - 1, 0)
    return np.asarray((successes[1:] - successes[start]) / (episodes[1:] - episodes[start]))


@dataclass(frozen=True)
class Milestone:
    """When a task's moving success in stage 1 first reached a threshold; None where it never did.

    ``arm_s`` is simulated arm time, control steps divided by the control rate; ``wall_s`` counts from the first episode
    of the task's stage 1.
    """

    tag: str
    threshold: float
    episodes: int | None
    arm_s: float | None
    wall_s: float | None


def milestones(metrics: Metrics, rate_hz: float = 10.0, window: int = WINDOW) -> tuple[Milestone, ...]:
    """For each task of stage 1, the cost of reaching each of ``THRESHOLDS`` over a full window of episodes.

    Uses ``success`` and, for the arm time, ``episode_steps`` (mean steps of the episodes since the previous row).
    """
    found = []
    for (tag, name), success in metrics.items():
        if name != "success" or not tag.startswith(STAGE1):
            continue
        moving = np.where(success.step >= window, moving_success(success, window), 0.0)
        lengths = metrics.get((tag, "episode_steps"))
        for threshold in THRESHOLDS:
            reached = np.flatnonzero(moving >= threshold)
            if not len(reached):
                found.append(Milestone(tag, threshold, None, None, None))
                continue
            first = int(reached[0])
            episodes = success.step[first]
            arm_s = None
            if lengths is not None:
                upto = lengths.step <= episodes
                steps = np.diff(np.concatenate([[0.0], lengths.step]))[upto] * lengths.value[upto]
                arm_s = float(steps.sum() / rate_hz)
            found.append(Milestone(tag, threshold, int(episodes), arm_s,
                                   float(success.wall_s[first] - success.wall_s[0])))  # fmt: skip
    return tuple(found)
