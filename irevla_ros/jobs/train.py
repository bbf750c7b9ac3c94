"""`irevla train`: drives Algorithm 1 (``learn.irevla``) in one process with many simulated arms; resumable at any point.

Every command of the state machine has one handler here. A handler may be cut off anywhere: what it produces is written
atomically under the name that the command gives, and the machine's state is saved after it.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import singledispatchmethod
from pathlib import Path

import torch

from irevla_ros import __version__
from irevla_ros.core.config import to_dict
from irevla_ros.core.types import CATEGORIES, Episode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.collect import collect_demonstrations
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.curves import milestones, read_metrics
from irevla_ros.jobs.evaluate import EVALUATION_SEED, evaluate, evaluation_requests, recorded
from irevla_ros.jobs.jsonfile import read_json, write_bytes, write_json
from irevla_ros.jobs.lock import FolderLock
from irevla_ros.jobs.metrics import MetricsLogger
from irevla_ros.jobs.progress import Console, Progress
from irevla_ros.jobs.report import write_report
from irevla_ros.jobs.rollouts import EpisodeRequest, EpisodeResult, PolicySnapshot, run_episodes
from irevla_ros.jobs.run_folder import begin_or_compare, check_start, resume_command, source_version
from irevla_ros.jobs.snapshot import Snapshots
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.summary import Evaluation, StageSpan, read_evaluations, summarise
from irevla_ros.jobs.supervise import initial_vla, lay_out, train_supervised
from irevla_ros.jobs.supervised_manifest import checkpoint_folder, manifest_for
from irevla_ros.jobs.training import TrainingProgress
from irevla_ros.jobs.video import Clip, write_video
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.irevla import (
    AddedToDRL,
    AddToDRL,
    CollectEpisodes,
    Command,
    EndTask,
    EpisodesCollected,
    Evaluate,
    EvaluationDone,
    Event,
    Finish,
    IRevla,
    RunSupervised,
    StartTask,
    State,
    SupervisedDone,
    TaskEnded,
    TaskStarted,
    UpdateDone,
    UpdateHead,
)
from irevla_ros.policy.checkpoint import load_vla, save_vla
from irevla_ros.sim.suite import load_suite

PRACTICE_SEED = 100_000  # start states of practice, far from those of evaluation


class Trainer:
    """One run in its folder. ``sft_run`` is a finished run of the same suite whose data and stage 0 are reused."""

    def __init__(
        self, folder: Path, config: RunConfig, pool: WorkerPool, *, sft_run: Path | None = None, quiet: bool = False
    ) -> None:
        self.folder, self.config, self.pool, self.sft_run = folder, config, pool, sft_run
        self.suite = load_suite(config.scene.suite)
        self._timeline: list[StageSpan] = []
        if sft_run is not None:
            check_start(sft_run, config)
        self._lock = FolderLock(folder, "run", "wait for it, or choose another --name")
        begin_or_compare(folder, config, sft_run)
        self.console = Console(folder / "log.txt", quiet=quiet)
        if (folder / "timeline.json").is_file():
            self._timeline = [StageSpan(**span) for span in read_json(folder / "timeline.json")]
        self.metrics = MetricsLogger(folder, worked_s=self._timeline[-1].end_s if self._timeline else 0.0)
        self.expert = Spool((sft_run or folder) / "expert")
        self.practice = Spool(folder / "practice")
        self.machine = self._machine()
        self.stage1: Stage1 | None = None
        self._bar: Progress | None = None
        self._collected: list[Episode] = []
        self._continue_stage1()

    def run(self) -> Path:
        """Work until the method is done; returns the path of the report."""
        while not isinstance(command := self.machine.next(), Finish):
            started = self.metrics.wall_s
            event = self._do(command)
            self._note_time(command, started)
            self.machine.handle(event)
            write_bytes(self.folder / "state.json", self.machine.state.to_json().encode())
        self._videos(command.checkpoint)
        self._summarise(complete=True)
        self.console.say("writing the report")
        report = write_report(self.folder)
        self.console.say(f"report: {report}")
        return report

    def close(self) -> None:
        self._close_bar()
        self.metrics.close()
        self._lock.release()

    # ---- set-up and resuming ---------------------------------------------------------------------------------

    def _machine(self) -> IRevla:
        path = self.folder / "state.json"
        if path.is_file():
            return IRevla(State.from_json(path.read_text()))
        sft = "" if self.sft_run is None else str((self.sft_run / "checkpoints" / "sft").resolve())
        return IRevla(State(self.config.plan(tuple(task.name for task in self.suite.rl), sft)))

    def _continue_stage1(self) -> None:
        """Rebuild the learner and its buffers when the run was cut off between StartTask and EndTask."""
        path = self.folder / "stage1.json"
        # A kill within StartTask leaves files of both tasks; it will be asked for again.
        if not path.is_file() or isinstance(self.machine.next(), StartTask):
            return
        start = StartTask(**read_json(path))
        self.stage1 = Stage1(start, self._checkpoint(start.init_from), self.config, self._demonstrations())
        self.stage1.restore(self.folder / "stage1.safetensors")
        collected = [e for e in self._events_since_start() if isinstance(e, EpisodesCollected)]
        first, episodes = start.first, list[Episode]()
        for event in collected:
            episodes = self._read(start.task, first, len(event.successes))
            self.stage1.remember(episodes)
            first += len(event.successes)
        self._collected = episodes

    def _events_since_start(self) -> Sequence[Event]:
        events = self.machine.state.events
        starts = [index for index, event in enumerate(events) if isinstance(event, TaskStarted)]
        return events[starts[-1] + 1 :] if starts else []

    def _checkpoint(self, name: str) -> Path:
        """Where the checkpoint that the machine calls ``name`` lies; that of another run is an absolute path."""
        return checkpoint_folder(self.folder / "checkpoints", name)

    # ---- the commands ----------------------------------------------------------------------------------------

    @singledispatchmethod
    def _do(self, command: Command) -> Event:
        raise TypeError(f"no handler for {command}")

    @_do.register
    def _(self, command: RunSupervised) -> Event:
        config = self.config
        if not command.init_from:  # missing weights are an error now, not after the demonstrations
            initial_vla("", "", config.backbone, config.scene.cameras)
        tasks = [task.name for task in self.suite.expert]
        collect_demonstrations(self.pool, self.expert, config.scene, tasks, config.demos, config.seed, self.console,
                               config.environments)  # fmt: skip
        if command.stage == 0:
            self._first_look()
        manifest = manifest_for(
            command, config, checkpoints=self.folder / "checkpoints", expert=self.expert.root, practice=self.practice.root,
            d_rl=[name for names in self._d_rl().values() for name in names],
        )  # fmt: skip
        lay_out(manifest, self.folder / "arrays")
        label = f"stage {command.stage}" + (f" ({command.save_as})" if command.stage else "")
        with self.console.progress(command.steps, label) as progress:
            progress.update(0)

            def report(news: TrainingProgress) -> None:
                if not news.metrics:  # it goes on from a snapshot
                    progress.resume(news.step)
                    return
                progress.update(news.step - progress.done, f"loss {news.metrics['loss']:.4f}")
                self.metrics.log(news.step, news.metrics, f"supervised/{command.save_as}")

            train_supervised(manifest, self.pool, self.folder / "arrays",
                             Snapshots(self.folder / "supervised.safetensors", manifest.digest()), report)  # fmt: skip
        return SupervisedDone(command.save_as)

    @_do.register
    def _(self, command: Evaluate) -> Event:
        """Stage 0 is the method sft; the last evaluation is the method itself; those between are its variants."""
        label = command.label
        if label == "stage0":
            label = "sft"
        elif isinstance(self._after(EvaluationDone(command.label)), Finish):
            label = self.config.method
        else:
            label = f"{self.config.method}@{label.replace('@', '+')}"
        shared = self.sft_run / "evaluations" / "sft.json" if self.sft_run is not None else None
        if label == "sft" and shared is not None and shared.is_file():
            evaluation = Evaluation.read(shared)
        else:
            policy = PolicySnapshot(str(self._checkpoint(command.checkpoint)))
            requests = evaluation_requests(self.config.scene.suite, self.config.evaluation)
            evaluation = evaluate(self.pool, self.config.scene, policy, requests, label, self.console,
                                  self.config.environments)  # fmt: skip
        evaluation.write(self.folder)
        rates = ", ".join(f"{category} {evaluation.rate(category)}" for category in CATEGORIES)
        self.console.say(f"{label}: {rates}")
        self._summarise(complete=False)
        self.console.say("writing the report so far")
        self.console.say(f"report so far: {write_report(self.folder)}")
        return EvaluationDone(command.label)

    @_do.register
    def _(self, command: StartTask) -> Event:
        self.stage1 = Stage1(command, self._checkpoint(command.init_from), self.config, self._demonstrations())
        self.stage1.save(self.folder / "stage1.safetensors")
        write_json(self.folder / "stage1.json", to_dict(command))
        return TaskStarted(command.task)

    @_do.register
    def _(self, command: CollectEpisodes) -> Event:
        assert self.stage1 is not None
        done = set(SpoolReader(self.practice.root).ids())
        requests = [
            EpisodeRequest(self._episode_id(command.task, number), command.task, self._practice_seed(number),
                           command.mode, deterministic=command.deterministic)
            for number in range(command.first, command.first + command.episodes)
        ]  # fmt: skip

        progress = self._practice_bar(command)

        def keep(result: EpisodeResult) -> None:
            progress.update()
            if result.episode is not None and result.request.episode_id not in done:
                self.practice.write_episode(result.episode, durable=False)

        if done.issuperset(request.episode_id for request in requests):
            self._collected = self._read(command.task, command.first, command.episodes)
        else:
            # After a kill some are there already. All are run again: the policy sees the arms of a worker as one batch,
            # and another batch would round differently.
            results = run_episodes(self.pool, self.config.scene, requests, self.stage1.snapshot(),
                                   batch=self.config.environments, run_id=self.folder.name, on_result=keep)  # fmt: skip
            self.practice.commit()
            self._collected = [result.episode for result in results if result.episode is not None]
        self.stage1.remember(self._collected)
        last = command.first + command.episodes
        successes = tuple(episode.success for episode in self._collected)
        rate = sum(successes) / len(successes)
        if not command.deterministic:
            steps = sum(len(episode) for episode in self._collected) / len(self._collected)
            self.metrics.log(last - self._harvested(command.task), {"success": rate, "episode_steps": steps},
                             f"stage1/{command.task}")  # fmt: skip
        news = f"{rate:.2f} of the last {len(successes)} succeeded"
        self.console.log(f"practice {command.task}: {last} episodes, {news}")
        finished = command.episodes if command.deterministic else last - self.stage1.start.first
        progress.update(finished - progress.done, news)
        return EpisodesCollected(command.task, successes)

    @_do.register
    def _(self, command: UpdateHead) -> Event:
        assert self.stage1 is not None
        if self.stage1.head_version != command.head_version:  # equal when a kill hit between saving and reporting
            metrics = self.stage1.update(self._collected, command.head_version)
            self.metrics.log(self._practised(), metrics, f"stage1/{command.task}")
            self.stage1.save(self.folder / "stage1.safetensors")
        return UpdateDone(command.head_version)

    @_do.register
    def _(self, command: EndTask) -> Event:
        assert self.stage1 is not None
        self._close_bar()
        save_vla(self._checkpoint(command.save_as), self.stage1.vla, {"task": command.task, "seed": self.config.seed,
                                                                      "irevla_ros": __version__})  # fmt: skip
        return TaskEnded(command.save_as)

    @_do.register
    def _(self, command: AddToDRL) -> Event:
        self._close_bar()
        reader = SpoolReader(self.practice.root)
        names = [r.meta.episode_id for r in reader.episodes(task=command.task, outcome=Outcome.SUCCESS)]
        write_json(self.folder / "d_rl.json", {**self._d_rl(), command.task: sorted(names)[-command.newest :]})
        self.console.say(f"D_RL: {min(len(names), command.newest)} successes of {command.task}")
        return AddedToDRL(command.task)

    # ---- what the commands share -----------------------------------------------------------------------------

    def _after(self, event: Event) -> Command:
        """What the machine would ask for next after ``event``."""
        ahead = IRevla(self.machine.state)
        ahead.handle(event)
        return ahead.next()

    def _practice_bar(self, command: CollectEpisodes) -> Progress:
        """One bar over the whole budget of a task, which stage 1 need not use up; another over the harvest."""
        label = f"{'harvest' if command.deterministic else 'practice'} {command.task}"
        if self._bar is None or self._bar.label != label:
            self._close_bar()
            assert self.stage1 is not None
            total, done = command.episodes, 0
            if not command.deterministic:  # the budget is that of this round
                total, done = self.machine.state.plan.max_episodes, command.first - self.stage1.start.first
            self._bar = self.console.progress(total, label, done)
            self._bar.update(0)
        return self._bar

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _d_rl(self) -> dict[str, list[str]]:
        """D_RL: task -> ids of its successful episodes in the practice spool."""
        path = self.folder / "d_rl.json"
        return dict(read_json(path)) if path.is_file() else {}

    def _demonstrations(self) -> list[Episode]:
        """D_e: the successful demonstrations of the expert tasks."""
        reader = SpoolReader(self.expert.root)
        return [reader.read(record.meta.episode_id) for record in reader.episodes(outcome=Outcome.SUCCESS)]

    def _episode_id(self, task: str, number: int) -> str:
        return f"{task.replace('@', '-at-')}-{number:06d}"

    def _practice_seed(self, number: int) -> int:
        first = PRACTICE_SEED * (1 + self.config.seed)
        return first + number + (PRACTICE_SEED if first >= EVALUATION_SEED else 0)  # leave out the stretch of evaluation

    def _read(self, task: str, first: int, count: int) -> list[Episode]:
        reader = SpoolReader(self.practice.root)
        return [reader.read(self._episode_id(task, number)) for number in range(first, first + count)]

    def _practised(self) -> int:
        """Episodes of the present task so far, over all rounds, without the noise-free ones that were harvested."""
        assert self.stage1 is not None
        collected = [e for e in self._events_since_start() if isinstance(e, EpisodesCollected)]
        episodes = self.stage1.start.first + sum(len(event.successes) for event in collected)
        return episodes - self._harvested(self.stage1.start.task)

    def _harvested(self, task: str) -> int:
        """Episodes of ``task`` that were run without noise at the ends of the rounds before this one."""
        rounds = sum(event == AddedToDRL(task) for event in self.machine.state.events)
        return rounds * self.machine.state.plan.harvest

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

    def _summarise(self, complete: bool) -> None:
        vla, _ = load_vla(self._checkpoint(self.machine.deployed))
        summarise(
            read_evaluations(self.folder),
            seed=self.config.seed,
            wall_s=self.metrics.wall_s,
            timeline=self._timeline,
            milestones=milestones(read_metrics(self.folder / "metrics.csv")),
            suite=self.config.scene.suite,
            command=resume_command(self.folder),
            software={"irevla_ros": source_version(), "torch": torch.__version__, "python": platform.python_version()},
            parameters=sum(parameter.numel() for parameter in vla.parameters()),
            complete=complete,
        ).write(self.folder)

    def _first_look(self) -> None:
        """One demonstration as a video, within the first minute: is the simulator doing what I think it does?"""
        if self.config.videos == 0:
            return
        reader = SpoolReader(self.expert.root)
        episode = reader.read(reader.episodes(outcome=Outcome.SUCCESS)[0].episode_id)
        clip = Clip(episode.images[self.config.scene.cameras[0]], episode.meta.instruction, "expert", episode.success)
        path = self.folder / "videos" / f"expert-{episode.meta.task.replace('@', '-at-')}.webp"
        write_video(path, [clip], episode.meta.task, self.suite.category(episode.meta.task), episode.meta.seed)
        self.console.say(f"first look: {path}")

    def _videos(self, final: str) -> None:
        """The first start states of each task, before (stage 0) and after, side by side."""
        if self.config.videos == 0:
            return
        requests = recorded(evaluation_requests(self.config.scene.suite, self.config.videos), self.config.videos)
        first = self.machine.state.plan.sft_checkpoint or "sft"
        sides = [("sft", first)] + ([(self.config.method, final)] if final != first else [])
        with self.console.progress((len(sides) + 1) * len(requests), "videos") as progress:
            progress.update(0)
            runs = [
                run_episodes(self.pool, self.config.scene, requests, PolicySnapshot(str(self._checkpoint(checkpoint))),
                             batch=self.config.environments, on_result=lambda _: progress.update())
                for _, checkpoint in sides
            ]  # fmt: skip
            for results in zip(*runs, strict=True):
                request = results[0].request
                clips = [
                    Clip(r.episode.images[self.config.scene.cameras[0]], r.episode.meta.instruction, label, r.success)
                    for (label, _), r in zip(sides, results, strict=True)
                    if r.episode is not None
                ]
                path = self.folder / "videos" / f"{request.task.replace('@', '-at-')}-{request.seed}.webp"
                write_video(path, clips, request.task, self.suite.category(request.task), request.seed)
                progress.update()
