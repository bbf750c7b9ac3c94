"""What a run keeps in its folder whoever drives it: the machine's state, data, timeline, metrics, D_RL and summary."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from irevla_ros.core.config import to_dict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Episode, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.curves import milestones, read_metrics
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.jsonfile import read_json, write_bytes, write_json
from irevla_ros.jobs.lock import FolderLock
from irevla_ros.jobs.metrics import MetricsLogger
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.run_folder import begin_or_compare, check_start, demonstrated, source_version
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.summary import StageSpan, read_evaluations, summarise
from irevla_ros.jobs.supervised_manifest import checkpoint_folder
from irevla_ros.learn.irevla import (
    AddedToDRL,
    Command,
    EpisodesCollected,
    Evaluate,
    EvaluationDone,
    Event,
    Finish,
    IRevla,
    RunSupervised,
    StartTask,
    State,
    TaskStarted,
)
from irevla_ros.learn.plan import Plan
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.sim.suite import load_suite

PRACTICE_SEED = 100_000  # start states of practice, far from those of evaluation


class RunRecord:
    """One run in its folder, locked while this lives. Resuming it is making this again.

    plan: of a new run; ``same_plan``: a resumed one must have it too. sft_run: a finished run of the same suite whose
    data and stage 0 are reused. command: what to type to go on with the run. simulated: its arms, as reports say.
    """

    def __init__(self, folder: Path, config: RunConfig, plan: Plan, command: str, *, sft_run: Path | None = None,
                 quiet: bool = False, simulated: bool = True) -> None:  # fmt: skip
        self.folder, self.config, self.sft_run, self.command = folder, config, sft_run, command
        self._simulated = simulated
        self.suite = load_suite(config.scene.suite)
        if sft_run is not None:
            check_start(sft_run, config)
        self._lock = FolderLock(folder, "run", "wait for it, or choose another --name")
        begin_or_compare(folder, config, sft_run)
        self.console = Console(folder / "log.txt", quiet=quiet)
        self._timeline: list[StageSpan] = []
        if (folder / "timeline.json").is_file():
            self._timeline = [StageSpan(**span) for span in read_json(folder / "timeline.json")]
        self.metrics = MetricsLogger(folder, worked_s=self._timeline[-1].end_s if self._timeline else 0.0)
        self.expert = Spool(demonstrated(config) or (sft_run or folder) / "expert")
        self.practice = Spool(folder / "practice")
        state = folder / "state.json"
        self.machine = IRevla(State.from_json(state.read_text()) if state.is_file() else State(plan))

    def close(self) -> None:
        self.metrics.close()
        self._lock.release()

    # ---- the machine -----------------------------------------------------------------------------------------

    def done(self, event: Event, started_s: float) -> None:
        """Move the machine on and keep its state; the command's time, since ``started_s``, goes into the timeline."""
        self._note_time(self.machine.next(), started_s)
        self.machine.handle(event)
        write_bytes(self.folder / "state.json", self.machine.state.to_json().encode())

    def after(self, event: Event) -> Command:
        """What the machine would ask for next after ``event``."""
        ahead = IRevla(self.machine.state)
        ahead.handle(event)
        return ahead.next()

    def since_start(self) -> Sequence[Event]:
        """The events of the stage 1 that is under way, or was the last."""
        events = self.machine.state.events
        starts = [index for index, event in enumerate(events) if isinstance(event, TaskStarted)]
        return events[starts[-1] + 1 :] if starts else []

    def method_label(self, command: Evaluate) -> str:
        """Stage 0 is the method sft; the last evaluation is the method itself; those between are its variants."""
        if command.label == "stage0":
            return "sft"
        if isinstance(self.after(EvaluationDone(command.label)), Finish):
            return self.config.method
        return f"{self.config.method}@{command.label.replace('@', '+')}"

    # ---- stage 1 ---------------------------------------------------------------------------------------------

    def start_stage1(self, command: StartTask) -> Stage1:
        stage1 = self._stage1(command)
        stage1.save(self.folder / "stage1.safetensors")
        write_json(self.folder / "stage1.json", to_dict(command))
        return stage1

    def continue_stage1(self) -> Stage1 | None:
        """The learner, its buffers empty, when the run was cut off between StartTask and EndTask."""
        path = self.folder / "stage1.json"
        # A kill within StartTask leaves files of both tasks; it will be asked for again.
        if not path.is_file() or isinstance(self.machine.next(), StartTask):
            return None
        start = StartTask(**read_json(path))
        stage1 = self._stage1(start)
        stage1.restore(self.folder / "stage1.safetensors")
        return stage1

    def fill(self, stage1: Stage1, read: Callable[[Stage1, int, EpisodesCollected], list[Episode]]) -> list[Episode]:
        """Give the learner all that was collected for it; returns the newest episodes.

        ``read(stage1, first, event)`` gives the episodes of an event, which number from ``first`` on.
        """
        first, episodes = stage1.start.first, list[Episode]()
        for event in self.since_start():
            if isinstance(event, EpisodesCollected):
                episodes = read(stage1, first, event)
                stage1.remember(episodes)
                first += len(event.successes)
        return episodes

    def _stage1(self, start: StartTask) -> Stage1:
        demonstrations = self.demonstrations() if self.needs_demonstrations else []
        return Stage1(start, self.checkpoint(start.init_from), self.config, demonstrations)

    @property
    def needs_demonstrations(self) -> bool:
        """Does stage 1 read those of the expert tasks?"""
        return self.machine.state.plan.algorithm == "ppo" and self.config.ppo.anchor == "bc"

    def practised(self, start: StartTask) -> int:
        """Episodes of the present task so far, over all rounds, without the noise-free ones that were harvested."""
        collected = [event for event in self.since_start() if isinstance(event, EpisodesCollected)]
        episodes = start.first + sum(len(event.successes) for event in collected)
        return episodes - self.harvested(start.task)

    def harvested(self, task: str) -> int:
        """Episodes of ``task`` that were run without noise at the ends of the rounds before this one."""
        rounds = sum(event == AddedToDRL(task) for event in self.machine.state.events)
        return rounds * self.machine.state.plan.harvest

    def practice_seed(self, number: int) -> int:
        """The start state of a task's practice episode, counted over all rounds."""
        first = PRACTICE_SEED * (1 + self.config.seed)
        return first + number + (PRACTICE_SEED if first >= EVALUATION_SEED else 0)  # leave out the stretch of evaluation

    # ---- data and checkpoints --------------------------------------------------------------------------------

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint that the machine calls ``name`` lies; that of another run is an absolute path."""
        return checkpoint_folder(self.folder / "checkpoints", name)

    def demonstrations(self) -> list[Episode]:
        """D_e: the successful demonstrations of the expert tasks."""
        reader = SpoolReader(self.expert.root)
        return [reader.read(record.meta.episode_id) for record in reader.episodes(mode=Mode.DEMO, outcome=Outcome.SUCCESS)]

    def d_rl(self) -> dict[str, list[str]]:
        """D_RL: task -> ids of its successful episodes in the practice spool."""
        path = self.folder / "d_rl.json"
        return dict(read_json(path)) if path.is_file() else {}

    def add_to_d_rl(self, task: str, newest: int, run: str | None = None) -> None:
        """Let the ``newest`` successes of ``task`` (of the run of that id) be its part of D_RL; evaluations never are."""
        reader = SpoolReader(self.practice.root)
        # By start state, which practice counts up: names of several arms do not follow each other in time.
        successes = reader.episodes(task=task, outcome=Outcome.SUCCESS, run=run)
        found = sorted((one.meta.seed, one.episode_id) for one in successes if one.meta.mode is not Mode.EVAL)
        names = [name for _, name in found]
        write_json(self.folder / "d_rl.json", {**self.d_rl(), task: sorted(names[-newest:])})
        self.console.say(f"D_RL: {min(len(names), newest)} successes of {task}")

    # ---- what people read ------------------------------------------------------------------------------------

    def _note_time(self, command: Command, started: float) -> None:
        """Add to the timeline; the many commands of one stage 1 make one stretch."""
        names = {RunSupervised: "supervised", Evaluate: "evaluate"}
        stage = names.get(type(command), "stage1")
        if isinstance(command, RunSupervised):
            stage = f"stage{command.stage}"
        task = getattr(command, "task", None)
        span = StageSpan(stage, task or getattr(command, "label", "") or stage, started, self.metrics.wall_s, task)
        last = self._timeline[-1] if self._timeline else None
        if last is not None and (last.stage, last.label) == (span.stage, span.label):
            self._timeline[-1] = StageSpan(span.stage, span.label, last.start_s, span.end_s, task)
        else:
            self._timeline.append(span)
        write_json(self.folder / "timeline.json", [to_dict(one) for one in self._timeline])

    def summarise(self, complete: bool) -> None:
        """Write summary.json from the evaluations so far."""
        vla, _ = load_vla(self.checkpoint(self.machine.deployed))
        summarise(
            read_evaluations(self.folder),
            seed=self.config.seed,
            wall_s=self.metrics.wall_s,
            timeline=self._timeline,
            milestones=milestones(read_metrics(self.folder / "metrics.csv")),
            suite=self.config.scene.suite,
            command=self.command,
            software={"irevla_ros": source_version(), "torch": torch.__version__, "python": platform.python_version()},
            parameters=sum(parameter.numel() for parameter in vla.parameters()),
            simulated=self._simulated,
            complete=complete,
        ).write(self.folder)


def require_same_plan(record: RunRecord, plan: Plan) -> None:
    """Raises ``ConfigError`` when the run in the folder was begun with another plan."""
    began = record.machine.state.plan
    if began != plan:
        name = next(name for name, value in to_dict(plan).items() if to_dict(began)[name] != value)
        raise ConfigError(f"{name} = {getattr(plan, name)!r}",
                          f"the run in {record.folder} began with {getattr(began, name)!r}",
                          "choose another folder, or go on with the same settings")  # fmt: skip
