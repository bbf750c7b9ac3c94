"""`irevla train`: drives Algorithm 1 (``learn.irevla``) in one process with many simulated arms; resumable at any point.

Every command of the state machine has one handler here. A handler may be cut off anywhere: what it produces is written
atomically under the name that the command gives, and the machine's state is saved after it.
"""

from __future__ import annotations

from functools import singledispatchmethod
from pathlib import Path

from irevla_ros import __version__
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import CATEGORIES, Episode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.collect import collect_demonstrations
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import evaluate, evaluation_requests, recorded
from irevla_ros.jobs.progress import Progress
from irevla_ros.jobs.report import write_report
from irevla_ros.jobs.rollouts import EpisodeRequest, EpisodeResult, PolicySnapshot, run_episodes
from irevla_ros.jobs.run_folder import resume_command
from irevla_ros.jobs.run_record import RunRecord
from irevla_ros.jobs.snapshot import Snapshots
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.summary import Evaluation
from irevla_ros.jobs.supervise import initial_vla, lay_out, train_supervised
from irevla_ros.jobs.supervised_manifest import manifest_for
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
    RunSupervised,
    StartTask,
    SupervisedDone,
    TaskEnded,
    TaskStarted,
    UpdateDone,
    UpdateHead,
)
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.sim.suite import load_suite


class Trainer:
    """One run in its folder. ``sft_run`` is a finished run of the same suite whose data and stage 0 are reused."""

    def __init__(
        self, folder: Path, config: RunConfig, pool: WorkerPool, *, sft_run: Path | None = None, quiet: bool = False
    ) -> None:
        if (folder / "graph.json").is_file():
            raise ConfigError(f"run {folder}", "it was begun by the learner of the graph", f"irevla up GRAPH --run {folder}")
        self.folder, self.config, self.pool, self.sft_run = folder, config, pool, sft_run
        self.suite = load_suite(config.scene.suite)
        sft = "" if sft_run is None else str((sft_run / "checkpoints" / "sft").resolve())
        plan = config.plan(tuple(task.name for task in self.suite.rl), sft)
        self.record = RunRecord(folder, config, plan, resume_command(folder), sft_run=sft_run, quiet=quiet)
        self.console, self.metrics, self.machine = self.record.console, self.record.metrics, self.record.machine
        self.expert, self.practice = self.record.expert, self.record.practice
        self.stage1: Stage1 | None = None
        self._bar: Progress | None = None
        self._collected: list[Episode] = []
        if (continued := self.record.continue_stage1()) is not None:
            self.stage1, self._collected = continued, self.record.fill(continued, self._collected_then)

    def run(self) -> None:
        """Work until the method is done and its report is written."""
        while not isinstance(command := self.machine.next(), Finish):
            started = self.metrics.wall_s
            self.record.done(self._do(command), started)
        self._videos(command.checkpoint)
        self.record.summarise(complete=True)
        self.console.say("writing the report")
        self.console.say(f"report: {write_report(self.folder)}")

    def close(self) -> None:
        self._close_bar()
        self.record.close()

    # ---- the commands ----------------------------------------------------------------------------------------

    @singledispatchmethod
    def _do(self, command: Command) -> Event:
        raise TypeError(f"no handler for {command}")

    @_do.register
    def _(self, command: RunSupervised) -> Event:
        config = self.config
        if not command.init_from:  # missing weights are an error now, not after the demonstrations
            initial_vla("", "", config.backbone, config.scene.cameras)
        if not config.demonstrations:
            tasks = [task.name for task in self.suite.expert]
            collect_demonstrations(self.pool, self.expert, config.scene, tasks, config.demos, config.seed, self.console,
                                   config.environments)  # fmt: skip
        if command.stage == 0:
            self._first_look()
        manifest = manifest_for(
            command, config, checkpoints=self.folder / "checkpoints", expert=self.expert.root, practice=self.practice.root,
            d_rl=[name for names in self.record.d_rl().values() for name in names],
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
        label = self.record.method_label(command)
        shared = self.sft_run / "evaluations" / "sft.json" if self.sft_run is not None else None
        if label == "sft" and shared is not None and shared.is_file():
            evaluation = Evaluation.read(shared)
        else:
            policy = PolicySnapshot(str(self.record.checkpoint(command.checkpoint)))
            requests = evaluation_requests(self.config.scene.suite, self.config.evaluation)
            evaluation = evaluate(self.pool, self.config.scene, policy, requests, label, self.console,
                                  self.config.environments)  # fmt: skip
        evaluation.write(self.folder)
        rates = ", ".join(f"{category} {evaluation.rate(category)}" for category in CATEGORIES)
        self.console.say(f"{label}: {rates}")
        self.record.summarise(complete=False)
        self.console.say("writing the report so far")
        self.console.say(f"report so far: {write_report(self.folder)}")
        return EvaluationDone(command.label)

    @_do.register
    def _(self, command: StartTask) -> Event:
        self.stage1 = self.record.start_stage1(command)
        return TaskStarted(command.task)

    @_do.register
    def _(self, command: CollectEpisodes) -> Event:
        assert self.stage1 is not None
        done = set(SpoolReader(self.practice.root).ids())
        requests = [
            EpisodeRequest(self._episode_id(command.task, number), command.task, self.record.practice_seed(number),
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
            self.metrics.log(last - self.record.harvested(command.task), {"success": rate, "episode_steps": steps},
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
            self.metrics.log(self.record.practised(self.stage1.start), metrics, f"stage1/{command.task}")
            self.stage1.save(self.folder / "stage1.safetensors")
        return UpdateDone(command.head_version)

    @_do.register
    def _(self, command: EndTask) -> Event:
        assert self.stage1 is not None
        self._close_bar()
        save_vla(self.record.checkpoint(command.save_as), self.stage1.vla,
                 {"task": command.task, "seed": self.config.seed, "irevla_ros": __version__})  # fmt: skip
        return TaskEnded(command.save_as)

    @_do.register
    def _(self, command: AddToDRL) -> Event:
        self._close_bar()
        self.record.add_to_d_rl(command.task, command.newest)
        return AddedToDRL(command.task)

    # ---- what the commands share -----------------------------------------------------------------------------

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

    def _episode_id(self, task: str, number: int) -> str:
        return f"{task.replace('@', '-at-')}-{number:06d}"

    def _read(self, task: str, first: int, count: int) -> list[Episode]:
        reader = SpoolReader(self.practice.root)
        return [reader.read(self._episode_id(task, number)) for number in range(first, first + count)]

    def _collected_then(self, stage1: Stage1, first: int, event: EpisodesCollected) -> list[Episode]:
        return self._read(event.task, first, len(event.successes))

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
                run_episodes(self.pool, self.config.scene, requests, PolicySnapshot(str(self.record.checkpoint(checkpoint))),
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
