"""How often a success classifier is right about whole episodes, task by task, after the debounce."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from irevla_ros.core.stats import Rate
from irevla_ros.jobs.reward_data import FrameLabels, LabelledEpisode
from irevla_ros.rewards.success_head import SuccessHeads

HEADER = ("| task | threshold | false positives: failures | too early: successes | recall | precision |\n"
          "|---|---:|---|---|---|---|")  # fmt: skip


@dataclass(frozen=True)
class Score:
    """What the classifier makes of one episode: ``lasting`` of all its observations, and of those in which it is wrong to
    see success."""

    task: str
    success: bool
    anywhere: float
    early: float


@dataclass(frozen=True)
class TaskRates:
    """false_positives: of the failures those that are called a success. too_early: of the successes those that are called
    one before they are. recall: of the successes those that are called one."""

    task: str
    threshold: float
    false_positives: Rate
    too_early: Rate
    recall: Rate

    @property
    def precision(self) -> Rate:
        """Of the episodes that are called a success those that are one: in these data, with their share of successes."""
        return Rate(self.recall.successes, self.recall.successes + self.false_positives.successes)

    def __str__(self) -> str:
        rates = (self.false_positives, self.too_early, self.recall, self.precision)
        return f"| {self.task} | {self.threshold:.3f} | " + " | ".join(map(percent, rates)) + " |"


def lasting(probabilities: npt.NDArray[np.float32], hold: int) -> float:
    """The greatest probability that ``hold`` observations in a row reach: what ``Debounce`` believes at a threshold up to
    it. 0 where there are fewer."""
    if len(probabilities) < hold:
        return 0.0
    return float(np.lib.stride_tricks.sliding_window_view(probabilities, hold).min(axis=1).max())


def probabilities(heads: SuccessHeads, episode: LabelledEpisode) -> npt.NDArray[np.float32]:
    """Of each observation of an episode, [T + 1]."""
    inputs, _ = heads.inputs(torch.from_numpy(episode.latents), torch.from_numpy(episode.proprio), episode.task)
    return np.asarray(heads(*inputs).numpy(), np.float32)


def score(episode: LabelledEpisode, seen: npt.NDArray[np.float32], labels: FrameLabels, hold: int) -> Score:
    early = seen[labels.early(len(seen), episode.success)]
    return Score(episode.task, episode.success, lasting(seen, hold), lasting(early, hold))


def score_all(heads: SuccessHeads, episodes: Iterable[LabelledEpisode], labels: FrameLabels) -> list[Score]:
    return [score(episode, probabilities(heads, episode), labels, heads.spec.hold) for episode in episodes]


def rates(scores: Sequence[Score], thresholds: Mapping[str, float]) -> list[TaskRates]:
    """One for each task that has a threshold."""
    found = []
    for task in sorted({one.task for one in scores} & thresholds.keys()):
        threshold = thresholds[task]
        successes = [one for one in scores if one.task == task and one.success]
        failures = [one for one in scores if one.task == task and not one.success]
        found.append(TaskRates(
            task, threshold,
            Rate(sum(one.anywhere >= threshold for one in failures), len(failures)),
            Rate(sum(one.early >= threshold for one in successes), len(successes)),
            Rate(sum(one.anywhere >= threshold for one in successes), len(successes)),
        ))  # fmt: skip
    return found


def table(found: Sequence[TaskRates]) -> str:
    """Markdown."""
    return "\n".join([HEADER, *map(str, found)])


def percent(rate: Rate) -> str:
    """With its 95 % interval and n."""
    if rate.episodes == 0:
        return "none"
    low, high = (100 * bound for bound in rate.interval)
    return f"{100 * rate.mean:.1f} % [{low:.1f}, {high:.1f}] n={rate.episodes}"
