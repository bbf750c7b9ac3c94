"""`irevla reward train`: heads on stored latents, cross-validated by episode, calibrated, and a threshold for each task."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.stats import Rate
from irevla_ros.jobs.reward_data import FrameLabels, LabelledEpisode
from irevla_ros.jobs.reward_eval import TaskRates, lasting
from irevla_ros.policy.place_reader import PlaceReader
from irevla_ros.rewards.success_head import Net, SuccessHeads, SuccessSpec

ENOUGH = 20  # successes and failures of a task, below which nobody should rely on the result


@dataclass(frozen=True)
class RewardTraining:
    """labels: of observations. hold: observations in a row that are believed. target: false-positive rate of episodes that
    the threshold is chosen for. folds: parts of the episodes, each of which one head leaves out; repeats: times that they are
    divided anew. Nets add noise to their inputs: forty episodes are soon learned by heart."""

    labels: FrameLabels = field(default_factory=FrameLabels)
    hold: int = 2
    target: float = 0.02
    folds: int = 5
    repeats: int = 2
    steps: int = 400
    batch: int = 64
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hold", "repeats", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is at least 1", "see irevla reward train --help")
        if self.folds < 2:
            raise ConfigError(f"folds = {self.folds}", "one part of at least two is left out", "give 5")
        if not 0.0 < self.target < 1.0:
            raise ConfigError(f"target = {self.target}", "a false-positive rate in (0, 1)", "give 0.02")
        if self.hold > self.labels.shown:
            raise ConfigError(f"hold = {self.hold} with shown = {self.labels.shown}",
                              "a success shows at least as long as it is to be held", "lower hold or raise shown")  # fmt: skip

    @property
    def heads(self) -> int:
        return self.folds * self.repeats


class Frames:
    """Labelled observations of episodes, as inputs of the nets of ``heads``."""

    def __init__(self, episodes: Sequence[LabelledEpisode], labels: FrameLabels, heads: SuccessHeads) -> None:
        lengths = [len(episode.proprio) for episode in episodes]
        seen = [(torch.from_numpy(one.latents), torch.from_numpy(one.proprio)) for one in episodes]
        if heads.spec.reads:
            seen = [heads.inputs(*each, one.task)[0] for each, one in zip(seen, episodes, strict=True)]
        self._columns = [torch.cat(column) for column in zip(*seen, strict=True)]
        starts = np.cumsum([0, *lengths[:-1]])
        # Beside each observation stands the first of its episode, where no reader has made them comparable.
        self._first = None if heads.spec.reads else torch.from_numpy(np.repeat(starts, lengths))
        of_each = [labels.of(length, episode.success) for length, episode in zip(lengths, episodes, strict=True)]
        self.labels = torch.from_numpy(np.concatenate(of_each))
        names = sorted({episode.task for episode in episodes})
        self.tasks = torch.from_numpy(np.repeat([names.index(episode.task) for episode in episodes], lengths))
        self.episodes = torch.from_numpy(np.repeat(np.arange(len(episodes)), lengths))

    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        """What a net takes."""
        if self._first is None:
            return tuple(column[rows] for column in self._columns)
        return tuple(column[which].float() for column in self._columns for which in (rows, self._first[rows]))

    def weights(self, rows: Tensor) -> Tensor:
        """So that positive and negative rows of every task count as much; float64 [len(rows)], of sum 1."""
        group = 2 * self.tasks[rows] + self.labels[rows].long()
        weights = 1.0 / torch.bincount(group)[group].double()
        return weights / weights.sum()


def train_heads(
    episodes: Sequence[LabelledEpisode], config: RewardTraining, fingerprint: str, checkpoint: str,
    reader: PlaceReader | None = None, progress: Callable[[int], None] = lambda done: None,
) -> tuple[SuccessHeads, list[tuple[LabelledEpisode, np.ndarray]]]:  # fmt: skip
    """The heads, and for each episode the probabilities [T + 1] by the mean of the heads that had not seen it.

    Temperature and thresholds come from these alone. Raises ``DataError`` where a task lacks successes or failures.
    """
    for task in sorted({episode.task for episode in episodes}):
        kinds = [sum(one.success is wanted for one in episodes if one.task == task) for wanted in (True, False)]
        if min(kinds) < 2:
            raise DataError(f"task {task}: {kinds[0]} successes and {kinds[1]} failures",
                            "at least 2 of each are required, to learn from one and to test on the other",
                            "record and judge more, or leave the task out by --task")  # fmt: skip
    tasks = sorted({episode.task for episode in episodes})
    width, proprio_size = episodes[0].latents.shape[2], episodes[0].proprio.shape[1]
    heads = SuccessHeads(SuccessSpec(fingerprint, checkpoint, width, proprio_size, reader is not None, config.heads,
                                     dict.fromkeys(tasks, 1.0), hold=config.hold))  # fmt: skip
    if heads.reader is not None and reader is not None:
        heads.reader.load_state_dict(reader.state_dict())
    frames, folds = Frames(episodes, config.labels, heads), _folds(episodes, config)
    logits = torch.zeros(len(frames.labels))
    for number in range(config.heads):
        held = folds[number // config.folds][frames.episodes] == number % config.folds
        net = _train(frames, (~held & (frames.labels >= 0)).nonzero().squeeze(1), config, number, heads)
        heads.nets[number] = net
        with torch.inference_mode():
            for rows in held.nonzero().squeeze(1).split(512):
                logits[rows] += net(*frames.inputs(rows)) / config.repeats
        progress(number + 1)
    labelled = (frames.labels >= 0).nonzero().squeeze(1)
    temperature = calibrate(logits[labelled], frames.labels[labelled], frames.weights(labelled))
    probabilities = torch.sigmoid(logits / temperature).numpy()
    unseen = [(episode, probabilities[frames.episodes.numpy() == number]) for number, episode in enumerate(episodes)]
    thresholds = {
        task: choose_threshold(
            [lasting(seen, config.hold) for one, seen in unseen if one.task == task and one.success],
            [lasting(seen, config.hold) for one, seen in unseen if one.task == task and not one.success], config.target,
        )
        for task in tasks
    }  # fmt: skip
    heads.spec = replace(heads.spec, thresholds=thresholds, temperature=temperature)
    return heads.eval().requires_grad_(False), unseen


def shortages(found: Sequence[TaskRates], target: float) -> list[str]:
    """What there is too little of, and what the episodes therefore cannot show, in sentences."""
    said = []
    for one in found:
        for kind, count in (("successes", one.recall.episodes), ("failures", one.false_positives.episodes)):
            if count < ENOUGH:
                said.append(f"{one.task}: {count} {kind}; collect at least {ENOUGH}")
        if one.recall.mean < 0.5:
            said.append(f"{one.task}: at a target of {100 * target:g} % only {100 * one.recall.mean:.0f} % of the successes "
                        "are told from the rest; collect more, close failures above all, or raise --fpr")  # fmt: skip
        bound = Rate(0, one.false_positives.episodes).interval[1]
        if bound > target:
            said.append(f"{one.task}: {one.false_positives.episodes} failures show no false-positive rate below "
                        f"{100 * bound:.0f} %, even if none is mistaken; before you rely on it, check it on new ones by "
                        "irevla reward eval")  # fmt: skip
    return said


def calibrate(logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    """The temperature (Guo et al. 2017, arXiv 1706.04599) at which the probabilities of held-out rows are likeliest."""
    candidates = torch.logspace(-2, 2, 401)
    losses = [float((F.binary_cross_entropy_with_logits(logits / t, labels.float(), reduction="none") * weights).sum())
              for t in candidates]  # fmt: skip
    return float(candidates[int(np.argmin(losses))])


def choose_threshold(successes: Sequence[float], failures: Sequence[float], target: float) -> float:
    """Half-way, in logits, between what a new failure reaches with probability ``target`` and the least success above that.

    It never lies above the greatest of the failures for that: what heads say is bounded, and a wide spread of failures would
    put it beyond any success. A failure that is shorter than the debounce (0) says nothing.
    """
    logits = [_logit(score) for score in failures if score > 0.0]
    if len(logits) < 2:
        return 1.0
    bound = min(max(logits), exceeded(logits, target))
    above = [logit for score in successes if (logit := _logit(score)) > bound] or [math.inf]
    return _sigmoid((bound + min(above)) / 2)


def exceeded(values: Sequence[float], probability: float) -> float:
    """What one more draw exceeds with ``probability``, where at least two ``values`` were drawn from the same normal.

    mean + t s sqrt(1 + 1/n), with Student's t for n - 1 degrees of freedom by the first terms of its expansion (Abramowitz
    and Stegun 26.7.5). Twenty failures have no fiftieth of their own, and the greatest would leave it to a single one.
    """
    z, freedom = statistics.NormalDist().inv_cdf(1 - probability), len(values) - 1
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    t: float = sum(term / freedom**power for power, term in enumerate(terms))
    return statistics.fmean(values) + t * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))


def _folds(episodes: Sequence[LabelledEpisode], config: RewardTraining) -> Tensor:
    """The part, 0 to folds - 1, in which each episode is held out, [repeats, episodes]: of every task as many successes in
    each."""
    rng = np.random.default_rng(config.seed)
    parts = np.zeros((config.repeats, len(episodes)), np.int64)
    for group in sorted({(episode.task, episode.success) for episode in episodes}):
        members = [i for i, episode in enumerate(episodes) if (episode.task, episode.success) == group]
        for division in parts:
            division[rng.permutation(members)] = np.arange(len(members)) % config.folds
    return torch.from_numpy(parts)


def _train(frames: Frames, rows: Tensor, config: RewardTraining, number: int, heads: SuccessHeads) -> Net:
    torch.manual_seed(config.seed * 1000 + number)
    net = heads.new_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=net.rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, net.rate, total_steps=config.steps)
    weights = frames.weights(rows)
    for _ in range(config.steps):
        batch = rows[torch.multinomial(weights, config.batch, replacement=True)]
        logits = net(*net.noisy(*frames.inputs(batch)))
        loss = F.binary_cross_entropy_with_logits(logits, frames.labels[batch].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
