"""What an episode node starts by itself, and the numbers of its episodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from irevla_ros.core.collection import Agenda, Choice, Job, TaskTally, least_done, task_name
from irevla_ros.core.episode_state import Start
from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import Mode
from irevla_ros.data.files import disk_errors

STATES = 10**9  # more than one process says of an arm


@dataclass(frozen=True)
class OrdersConfig:
    """Where episodes come from beside the learner's orders.

    operator_starts: an order, or an episode of the list below, waits for the operator's ``episode/start``. auto: the list is
    gone through for ever, each episode right after the last; ``episodes`` stops this process after so many, 0 never. tasks:
    in turn, or, ``balanced``, the one with the fewest successes in the spool; instructions: one for each task, and with a
    ``suite`` (name or YAML file of the simulator's) the suite's own where none are given, as is, in lock step, the suite's
    time limit. seed: of the run's episode 0; each next one's is one higher. operator: who does it; perturbed: the operator
    disturbs the scene in every episode.
    """

    operator_starts: bool = False
    auto: bool = False
    episodes: int = 0
    tasks: tuple[str, ...] = ()
    order: Literal["turns", "balanced"] = "turns"
    instructions: tuple[str, ...] = ()
    suite: str = ""
    mode: Mode = Mode.TRAIN
    deterministic: bool = False
    seed: int = 0
    operator: str = ""
    perturbed: bool = False

    def __post_init__(self) -> None:
        if self.auto and self.operator_starts:
            raise ConfigError("auto and operator_starts", "either the node starts by itself or the operator does",
                              "set one of them")  # fmt: skip
        if self.auto and not self.tasks:
            raise ConfigError("auto without tasks", "it needs something to do", "name tasks")
        if not self.suite and len(self.instructions) != len(self.tasks):
            raise ConfigError(f"{len(self.tasks)} tasks with {len(self.instructions)} instructions",
                              "each task is said in words", "give as many instructions, or a suite")  # fmt: skip
        if self.instructions and len(self.instructions) != len(self.tasks):
            raise ConfigError(f"{len(self.tasks)} tasks with {len(self.instructions)} instructions",
                              "one for each, or none", "give as many, or leave them to the suite")  # fmt: skip


class OwnOrders:
    """What is next of ``OrdersConfig.tasks``, or of the operator's choice. ConfigError for a task that is not the suite's.

    tally: what the spool holds of each task, as far as is known.
    """

    def __init__(self, config: OrdersConfig, period_ns: int, lock_step: bool) -> None:
        self._config = config
        self._limits: list[int] = [0] * len(config.tasks)
        self._instructions = list(config.instructions)
        self._chosen: Job | None = None
        self.tally: Sequence[TaskTally] = ()
        if config.suite:
            self._look_up(config, period_ns, lock_step)

    def __len__(self) -> int:
        return len(self._instructions)

    def choose(self, choice: Choice) -> None:
        """What the operator wants next, until told otherwise. What is neither in the list nor can be named changes nothing."""
        listed = dict(zip(self._config.tasks, self._instructions, strict=True))
        by_words = {words: task for task, words in listed.items()}
        task = choice.task or by_words.get(choice.instruction) or task_name(choice.instruction)
        if not choice.task and not choice.instruction:
            self._chosen = None
        elif instruction := choice.instruction or listed.get(task, ""):
            self._chosen = Job(task, instruction) if task else self._chosen

    def next(self, number: int) -> Job | None:
        """What episode ``number`` of the run is to be; None without a list and a choice."""
        if self._chosen is not None or not self._instructions:
            return self._chosen
        index = self._index(number)
        return Job(self._config.tasks[index], self._instructions[index])

    def agenda(self, number: int) -> Agenda:
        jobs = zip(self._config.tasks, self._instructions, strict=True)
        return Agenda(tuple(Job(task, words) for task, words in jobs), self.next(number), self._chosen is not None)

    def start(self, number: int) -> Start | None:
        """The order for episode ``number`` of the run; None when there is nothing to do."""
        config, job = self._config, self.next(number)
        if job is None:
            return None
        limit = dict(zip(config.tasks, self._limits, strict=True)).get(job.task, 0)
        return Start(job.task, job.instruction, config.mode, config.seed + number, limit, config.deterministic,
                     config.operator, config.perturbed)  # fmt: skip

    def _index(self, number: int) -> int:
        tasks = self._config.tasks
        return number % len(tasks) if self._config.order == "turns" else least_done(tasks, self.tally)

    def _look_up(self, config: OrdersConfig, period_ns: int, lock_step: bool) -> None:
        from irevla_ros.sim.suite import load_suite  # only where it is asked for: a robot's PC needs no simulator
        from irevla_ros.sim.tasks import FAMILIES

        specs = [load_suite(config.suite).task(name) for name in config.tasks]
        self._instructions = self._instructions or [spec.instruction for spec in specs]
        if lock_step:
            self._limits = [FAMILIES[spec.family].time_limit * period_ns for spec in specs]


class EpisodeNumbers:
    """Which episode numbers and states of a run are taken: a small file beside the spool, and what the spool itself holds.

    The file outlives the node's death (written before a number is used, replaced whole); after a power cut the spool
    still knows all that was sealed. ``first_sequence``: above those of all states that an earlier process has said, also
    where the clock was set back since: whoever follows them would else never hear of this one.
    """

    def __init__(self, run: str, run_id: str, arm: str) -> None:
        if not Path(run).is_absolute() or not run_id:
            raise ConfigError(f"run = {run!r}, run_id = {run_id!r}", "both are needed, the first absolute",
                              "name the run's folder, so that episodes get numbers that are free")  # fmt: skip
        self._prefix = f"{run_id}-{arm}" if arm else run_id
        folder = Path(run)
        self._file = folder / "graph" / f"{self._prefix}.number"
        with disk_errors(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            written, sequence = self._written()
            self.next = max(written, self._recorded(folder / "practice"), self._recorded(folder / "expert"))
        self.first_sequence = max(time.time_ns() // 1000, sequence + STATES)
        with suppress(DataError):  # a full disk refuses the next episode, not this node
            self._write()

    def take(self, number: int) -> None:
        """Note that ``number`` is used from now on. DataError when the disk refuses."""
        self.next = number + 1
        self._write()

    def _write(self) -> None:
        with disk_errors(self._file):
            pending = self._file.with_suffix(".pending")
            pending.write_text(f"{self.next} {self.first_sequence}\n")
            os.replace(pending, self._file)

    def _written(self) -> tuple[int, int]:
        """The next number, and the first sequence of the last process."""
        try:
            number, sequence = map(int, self._file.read_text().split())
        except (FileNotFoundError, ValueError):  # ValueError: a power cut may leave it empty
            return 1, 0
        return number, sequence

    def _recorded(self, folder: Path) -> int:
        """One more than the highest number among the folder's files; an episode has several, all named by its id."""
        if not folder.is_dir():
            return 1
        name = re.compile(re.escape(self._prefix) + r"-(\d{6,})\.")
        found = [int(match[1]) for entry in os.scandir(folder) if (match := name.match(entry.name))]
        return max(found, default=0) + 1
