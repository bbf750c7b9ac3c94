"""Algorithm 1 in the graph, without ROS: episodes' states and seals in, orders and announcements out.

The same machine as `irevla train` drives (``learn.irevla``), with arms that are processes of their own. Each command's
handler is a generator: it yields ``Work`` for the training thread, or ``UNTIL_COMPLETE`` until all wanted episodes are
in the spool, and returns the event. It may be cut off anywhere: what it makes is written atomically under the name that
the command gives, and episodes are found again in the spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

import torch

from irevla_ros.core.episode_state import EpisodeState, Start
from irevla_ros.core.graph_messages import Announcement, LearnerStatus, PolicyVersion, Proposal, Sealed
from irevla_ros.jobs.announcements import Announcements
from irevla_ros.jobs.background import ExpertCollector, run_in_process
from irevla_ros.jobs.episode_plan import EpisodePlan, Starts
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.gate import GATE_SEED, decide, keep_decision, read_decisions
from irevla_ros.jobs.graph_config import LearnerConfig
from irevla_ros.jobs.graph_videos import write_videos
from irevla_ros.jobs.head_training import HeadTraining
from irevla_ros.jobs.orders import OrderBook, Wanted
from irevla_ros.jobs.practice import Practice
from irevla_ros.jobs.report import write_report
from irevla_ros.jobs.results import REPORT
from irevla_ros.jobs.run_record import RunRecord
from irevla_ros.jobs.summary import EvaluatedEpisode, Evaluation
from irevla_ros.jobs.supervised_job import JobProgress
from irevla_ros.learn.irevla import (
    AddedToDRL,
    AddToDRL,
    CollectEpisodes,
    Command,
    EndTask,
    EpisodesCollected,
    Evaluate,
    EvaluationDone,
    Finish,
    RunSupervised,
    StartTask,
    SupervisedDone,
    TaskEnded,
    TaskStarted,
    UpdateDone,
    UpdateHead,
)

STATUS_S = 0.2  # between two messages about the status
AGAIN_S = 10.0  # an announcement is said again while the policy says that it acts with another


@dataclass(frozen=True)
class Work:
    """For the training thread: call it there, and give ``GraphLearner.worked`` what it returns."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Order:
    """``episode/order`` for an arm."""

    arm: str
    start: Start


Request = Work | Order | Announcement | LearnerStatus | Proposal
LEARNING = "learning; "  # what the arms do meanwhile follows
UNTIL_COMPLETE = "until all wanted episodes are there"
Steps = Generator[Any, Any, Any]


class GraphLearner:
    """One run. ``requests`` says what to do now: call it after each event, and some ten times a second.

    ``now_s`` is monotonic. Everything but what is done in ``Work`` runs on the caller's thread.
    """

    def __init__(self, record: RunRecord, config: LearnerConfig, run_id: str) -> None:
        torch.set_num_threads(config.threads)
        self.record, self.config = record, config
        self.machine, self.plan = record.machine, record.machine.state.plan
        self.announcements = Announcements(record.folder, run_id)
        self._run_id = run_id
        self.practice, self._training = Practice(record.practice, run_id), HeadTraining(record, run_id)
        self._episodes = EpisodePlan(record, config.rate_hz)
        self.book = OrderBook(config.arms, self.practice.examine, config.orders)
        simulated = self._learns_from_experts() and not record.config.demonstrations
        self.expert = ExpertCollector(record.expert, record.config, record.console) if simulated else None
        self.policy: PolicyVersion | None = None
        self.finished = False
        self._announced: Announcement | None = None
        self._again_s = 0.0
        self._job: JobProgress | None = None
        self._outcomes: tuple[bool, ...] = ()  # of the newest practice episodes of the task
        self._stage, self._task, self._detail = "starting", "", ""
        self._said: LearnerStatus | None = None
        self._said_s = -STATUS_S
        self._out: list[Request] = []
        self._stop = threading.Event()
        self._working = False
        self._steps, self._needs = self._main(), None  # type: Steps, Any
        self._advance(None)

    # ---- events in, requests out -------------------------------------------------------------------------------

    def on_state(self, arm: str, state: EpisodeState, now_s: float) -> None:
        self.book.on_state(arm, state, now_s)

    def on_sealed(self, arm: str, sealed: Sealed, now_s: float) -> None:
        self.book.on_sealed(arm, sealed, now_s)

    def on_version(self, version: PolicyVersion) -> None:
        self.policy = version

    def worked(self, result: Any) -> None:
        """The training thread has done the last ``Work``."""
        self._advance(result)

    def requests(self, now_s: float) -> list[Request]:
        """What is to be done now, in order."""
        while self._needs is UNTIL_COMPLETE and self.book.complete and self.book.recheck():
            self._advance(dict(self.book.accepted))
        self._out += [Order(arm, start) for arm, start in self.book.due(now_s)]
        self._insist(now_s)
        status = self.status()
        if status != self._said and now_s - self._said_s >= STATUS_S:
            self._said, self._said_s = status, now_s
            self._out.append(status)
        out, self._out = self._out, []
        return out

    def problems(self) -> list[str]:
        """What keeps it from learning, in sentences; for the health of the node."""
        refused = self.policy.refused if self.policy is not None else ""
        return self.book.problems() + ([f"the policy refuses what was announced: {refused}"] if refused else [])

    def status(self) -> LearnerStatus:
        """Where Algorithm 1 is."""
        outcomes = [self.practice.successes.get(name, False) for name in self.book.accepted.values()]
        done, of = len(outcomes), len(self.book.wanted)
        job = self._job
        if job is not None:
            done, of = job.step, job.steps
        elif self._stage == "stage 1":
            done, of = self._practised() + done, self.plan.max_episodes
            outcomes = [*self._outcomes, *outcomes][-self.plan.window :]
        rate = sum(outcomes) / len(outcomes) if outcomes else None
        version = self._announced.version if self._announced is not None else 0
        updates, planned = self._training.updates
        detail = self._detail
        if detail == LEARNING:
            detail += "the arms wait" if self.book.complete else "the arms run the next episodes, then wait"
        detail += f", {updates} of {planned} updates" if planned else ""
        return LearnerStatus(self._stage, self._task, done, of, rate, len(outcomes), version, self.finished, detail)

    def close(self) -> None:
        """Stop what runs beside; the training thread then comes to its end."""
        self._stop.set()
        if self.expert is not None:
            self.expert.close()

    # ---- the machine --------------------------------------------------------------------------------------------

    def _advance(self, value: Any) -> None:
        """Go on until something is needed."""
        try:
            self._needs = self._steps.send(value)
        except StopIteration:
            self._needs = None
        if isinstance(self._needs, Work):
            self._out.append(self._needs)

    def _main(self) -> Steps:
        if self.announcements.last is not None:  # latched: it went away with the life before
            self._announced = self.announcements.last
            self._out.append(self._announced)
        yield Work(self._training.resume)
        while not isinstance(command := self.machine.next(), Finish):
            started = self.record.metrics.wall_s
            event = yield from self._do(command)
            self.record.done(event, started)
        self._announce(command.checkpoint)
        self._now("finishing", "", "writing the report")
        yield Work(lambda: write_videos(self.record, self._training.practice, self._episodes, self.announcements,
                                        command.checkpoint))  # fmt: skip
        yield Work(lambda: self._report(complete=True))
        self.finished = True
        self._now("finished", "", f"report: {self.record.folder / REPORT}")

    @singledispatchmethod
    def _do(self, command: Command) -> Steps:
        raise TypeError(f"no handler for {command}")

    @_do.register
    def _(self, command: RunSupervised) -> Steps:
        self.book.want(())
        if self.expert is not None:
            self._now(f"stage {command.stage}", "", "waiting for the expert demonstrations; no orders until then")
            yield Work(self.expert.finish)
        self._now(f"stage {command.stage}", "", "supervised learning has the machine; no orders until it is done")
        self._job = JobProgress(0, command.steps, None, 0.0)
        done = yield Work(lambda: self._supervise(command))
        self._job = None
        if not done:
            yield None  # it was stopped, and so are we
        adopted = command.stage == 0 or (yield from self._gate(command.save_as, self.machine.deployed))
        return SupervisedDone(command.save_as, adopted)

    @_do.register
    def _(self, command: Evaluate) -> Steps:
        label = self.record.method_label(command)
        self._now("evaluation", "", f"{label}, checkpoint {command.checkpoint}")
        config = self.config
        starts = self._episodes.starts(EVALUATION_SEED, {"expert": config.evaluate_expert, "rl": self.record.config.evaluation,
                                                "unseen": config.evaluate_unseen})  # fmt: skip
        episodes = yield from self._evaluate(command.checkpoint, starts)
        Evaluation(label, command.checkpoint, True, episodes).write(self.record.folder)
        yield Work(lambda: self._report(complete=False))
        return EvaluationDone(command.label)

    @_do.register
    def _(self, command: StartTask) -> Steps:
        self.book.want(())
        self._outcomes = ()
        self._now("stage 1", command.task, "starting")
        if self.record.needs_demonstrations and self.expert is not None:
            yield Work(self.expert.finish)
        yield Work(lambda: self._training.start(command))
        return TaskStarted(command.task)

    @_do.register
    def _(self, command: CollectEpisodes) -> Steps:
        self._announce(self._training.stage1.start.init_from, self._training.head(command.head_version))
        self._now("harvest" if command.deterministic else "stage 1", command.task, "practising")
        wanted = self._episodes.practice(command, self._versions())
        yield from self._want(wanted)
        accepted = yield UNTIL_COMPLETE
        successes = yield Work(lambda: self._training.remember(command, [accepted[i] for i in range(len(wanted))]))
        self._outcomes = (*self._outcomes, *successes)[-self.plan.window :]
        self.book.want(())
        return EpisodesCollected(command.task, successes)

    @_do.register
    def _(self, command: UpdateHead) -> Steps:
        following = self.record.after(UpdateDone(command.head_version))
        if isinstance(following, CollectEpisodes) and self._episodes.any_version(following):
            yield from self._want(self._episodes.practice(following, self._versions()))
        self._now("stage 1", command.task, LEARNING)
        if not (yield Work(lambda: self._training.update(command, self._stop))):
            yield None  # it was stopped, and so are we
        return UpdateDone(command.head_version)

    @_do.register
    def _(self, command: EndTask) -> Steps:
        self.book.want(())
        yield Work(lambda: self._training.end(command))
        return TaskEnded(command.save_as)

    @_do.register
    def _(self, command: AddToDRL) -> Steps:
        yield Work(lambda: self.record.add_to_d_rl(command.task, command.newest, self._run_id))
        return AddedToDRL(command.task)

    # ---- episodes -----------------------------------------------------------------------------------------------

    def _want(self, wanted: Sequence[Wanted]) -> Steps:
        """Order them, but for those that the spool has; they may have been ordered ahead already."""
        if tuple(wanted) != self.book.wanted:
            found = yield Work(lambda: self._training.practice.find(wanted))
            self.practice.successes.update(self._training.practice.successes)
            self.book.want(wanted, found)
            self._out.append(Proposal(wanted[0].task, wanted[0].instruction, wanted[0].mode))

    def _evaluate(self, checkpoint: str, starts: Starts) -> Steps:
        """What the policy of ``checkpoint`` makes of the start states, as ``EvaluatedEpisode``s in their order."""
        self._announce(checkpoint)
        yield from self._want(self._episodes.evaluation(starts, self._versions()))
        accepted = yield UNTIL_COMPLETE
        records = [self.practice.record(accepted[index]) for index in range(len(starts))]
        self.book.want(())
        return tuple(
            EvaluatedEpisode(task, self.record.suite.category(task), seed, self.practice.successes[record.episode_id],
                             record.steps)
            for (task, seed), record in zip(starts, records, strict=True)
        )  # fmt: skip

    def _practised(self) -> int:
        return sum(len(event.successes) for event in self.record.since_start() if isinstance(event, EpisodesCollected))

    # ---- policies -----------------------------------------------------------------------------------------------

    def _announce(self, checkpoint: str, head: str = "") -> None:
        made = self.announcements.make(f"checkpoints/{checkpoint}", head)
        if made != self._announced:
            self._announced = made
            self._out.append(made)

    def _insist(self, now_s: float) -> None:
        """Say again what was announced where the policy could not load it, or has heard a late copy of another since."""
        policy, announced = self.policy, self._announced
        if policy is None or announced is None or policy.version == announced.version:
            self._again_s = now_s + AGAIN_S
        elif now_s >= self._again_s:
            self._again_s = now_s + AGAIN_S
            self._out.append(announced)

    def _versions(self) -> frozenset[int]:
        assert self._announced is not None
        return self.announcements.versions(self._announced)

    def _supervise(self, command: RunSupervised) -> bool:
        """In the training thread."""
        record, logged = self.record, 0

        def note(progress: JobProgress) -> None:
            nonlocal logged
            self._job = progress
            if progress.loss is not None and progress.step > logged:
                logged = progress.step
                record.metrics.log(progress.step, {"loss": progress.loss}, f"supervised/{command.save_as}")

        return run_in_process(record.folder / "supervised" / command.save_as, lambda: self._training.manifest(command),
                              self._stop, note)  # fmt: skip

    def _gate(self, candidate: str, present: str) -> Steps:
        """Is the result of stage 2 to be adopted? Both are measured by the arms, on the same start states."""
        folder, config = self.record.folder, self.config
        for decision in read_decisions(folder):
            if decision.candidate == candidate:
                return decision.adopted
        if config.gate == 0:
            return True
        starts = self._episodes.starts(GATE_SEED, {"expert": config.gate, "rl": config.gate})
        self._now("gate", "", f"before: {present}")
        before = yield from self._evaluate(present, starts)
        self._now("gate", "", f"after: {candidate}")
        after = yield from self._evaluate(candidate, starts)
        decision = decide(candidate, after, present, before, config.gate_margin)
        for name, episodes in ((present, before), (candidate, after)):
            label = f"{self.record.config.method}@gate+{candidate}+{name}".replace("@", "+").replace("+gate", "@gate", 1)
            Evaluation(label, name, True, episodes).write(folder)
        self.record.console.say(f"gate: {decision}")
        keep_decision(folder, decision)
        self._now("gate", "", str(decision))
        return decision.adopted

    def _learns_from_experts(self) -> bool:
        in_stage2 = self.plan.stage2 != "none" and "expert" in self.plan.data
        return not self.plan.sft_checkpoint or in_stage2 or self.record.needs_demonstrations

    # ---- what people read ---------------------------------------------------------------------------------------

    def _now(self, stage: str, task: str, detail: str) -> None:
        self._stage, self._task, self._detail = stage, task, detail

    def _report(self, complete: bool) -> None:
        """In the training thread."""
        self.record.summarise(complete)
        self.record.console.say(f"report{'' if complete else ' so far'}: {write_report(self.record.folder)}")
