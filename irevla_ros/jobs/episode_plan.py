"""Which episodes the learner of the graph wants: practice as of `irevla train`, and start states of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irevla_ros.core.durations import SECOND
from irevla_ros.core.types import Mode
from irevla_ros.jobs.orders import Wanted
from irevla_ros.jobs.run_record import RunRecord
from irevla_ros.learn.irevla import CollectEpisodes
from irevla_ros.sim.tasks import FAMILIES

Versions = frozenset[int]
Starts = Sequence[tuple[str, int]]  # task and seed


class EpisodePlan:
    """``rate_hz`` turns a task's time limit, in control steps, into time."""

    def __init__(self, record: RunRecord, rate_hz: float) -> None:
        self._record, self._rate_hz = record, rate_hz

    def any_version(self, command: CollectEpisodes) -> bool:
        """SACfD learns from any policy, except where the policy itself is what is kept: zero-shot and at the end."""
        plan = self._record.machine.state.plan
        return plan.algorithm == "sacfd" and command.mode is Mode.TRAIN and not command.deterministic

    def practice(self, command: CollectEpisodes, versions: Versions) -> list[Wanted]:
        """Of the policy announced under ``versions``, or of any where any will do.

        In mode demo of the graph nobody acts: zero-shot episodes are of mode train, and told apart when they are read.
        """
        wanted = None if self.any_version(command) else versions
        numbers = range(command.first, command.first + command.episodes)
        return [self.episode(command.task, self._record.practice_seed(number), Mode.TRAIN, command.deterministic, wanted)
                for number in numbers]  # fmt: skip

    def evaluation(self, starts: Starts, versions: Versions) -> list[Wanted]:
        return [self.episode(task, seed, Mode.EVAL, True, versions) for task, seed in starts]

    def starts(self, first_seed: int, counts: Mapping[str, int]) -> Starts:
        """So many of each category, rounded up to equal shares of its tasks; of the RL tasks those that are practised."""
        found: list[tuple[str, int]] = []
        for category, count in counts.items():
            practised = self._record.machine.state.plan.tasks
            tasks = practised if category == "rl" else [task.name for task in getattr(self._record.suite, category)]
            share = -(-count // max(1, len(tasks)))
            found += [(task, first_seed + index) for task in tasks for index in range(share)]
        return found

    def episode(self, name: str, seed: int, mode: Mode, deterministic: bool, versions: Versions | None) -> Wanted:
        task = self._record.suite.task(name)
        limit = round(FAMILIES[task.family].time_limit * SECOND / self._rate_hz)
        return Wanted(name, task.instruction, mode, seed, deterministic, limit, versions)
