"""Algorithm 1 of iRe-VLA (arXiv 2501.16664), and its baselines, as one resumable state machine.

Events in, commands out, no input or output of its own::

    command = machine.next()      # what to do now; may be asked any number of times
    machine.handle(event)         # what has been done; the only thing that moves the machine

Write ``machine.state.to_json()`` after each ``handle``: a process killed at any point resumes by repeating the one
command that it had not finished. Commands name their results (``save_as``) and number their episodes (``first``), so
that repeating one overwrites what it had begun.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

from irevla_ros.core.errors import CheckpointError, IrevlaError
from irevla_ros.core.types import Mode
from irevla_ros.learn.plan import Plan

FORMAT = 2
READS = (1, FORMAT)  # format 1 had no gate: every supervised result was adopted


# ---- commands: what the driver has to do -----------------------------------------------------------------------


@dataclass(frozen=True)
class RunSupervised:
    """Behaviour cloning for ``steps`` on ``data``; ``trains`` is ``all`` or ``head``; keep the result as ``save_as``.

    Weights start from checkpoint ``init_from`` (empty: the pretrained VLM with a new head), the head from
    ``head_from``.
    """

    stage: int
    init_from: str
    head_from: str
    data: tuple[str, ...]
    trains: str
    steps: int
    save_as: str


@dataclass(frozen=True)
class Evaluate:
    """Run the evaluation episodes (mode eval) with ``checkpoint`` and file the rates under ``label``."""

    label: str
    checkpoint: str


@dataclass(frozen=True)
class StartTask:
    """Begin stage 1: action head, and anchor if any, from ``init_from``; fresh critic, empty buffers.

    ``first`` numbers its first episode: rounds of the same task count on.
    """

    task: str
    init_from: str
    algorithm: str
    trains: str
    head_version: int
    first: int


@dataclass(frozen=True)
class CollectEpisodes:
    """Run ``episodes`` episodes of ``task``, numbered from ``first`` (seed them by that), with the head of stage 1.

    Those of ``Mode.DEMO`` fill SACfD's demo buffer where they succeed; those of ``Mode.TRAIN`` are learned from.
    """

    task: str
    episodes: int
    first: int
    mode: Mode
    deterministic: bool
    head_version: int


@dataclass(frozen=True)
class UpdateHead:
    """Learn from the episodes just collected; the result is ``head_version``."""

    task: str
    algorithm: str
    head_version: int


@dataclass(frozen=True)
class EndTask:
    """Keep the weights of stage 1 as checkpoint ``save_as``."""

    task: str
    save_as: str


@dataclass(frozen=True)
class AddToDRL:
    """Let the ``newest`` successful episodes of ``task`` be its part of D_RL."""

    task: str
    newest: int


@dataclass(frozen=True)
class Finish:
    """The method is done; ``checkpoint`` is its result. No event answers it."""

    checkpoint: str


Command = RunSupervised | Evaluate | StartTask | CollectEpisodes | UpdateHead | EndTask | AddToDRL | Finish


# ---- events: what has been done --------------------------------------------------------------------------------


@dataclass(frozen=True)
class SupervisedDone:
    """``adopted``: the result is the generalist from now on; a refused one of stage 2 leaves the one of before."""

    checkpoint: str
    adopted: bool = True


@dataclass(frozen=True)
class EvaluationDone:
    label: str


@dataclass(frozen=True)
class TaskStarted:
    task: str


@dataclass(frozen=True)
class EpisodesCollected:
    """``successes``: one flag for each finished episode, in order; at least one, at most as many as asked for."""

    task: str
    successes: tuple[bool, ...]


@dataclass(frozen=True)
class UpdateDone:
    head_version: int


@dataclass(frozen=True)
class TaskEnded:
    checkpoint: str


@dataclass(frozen=True)
class AddedToDRL:
    task: str


Event = SupervisedDone | EvaluationDone | TaskStarted | EpisodesCollected | UpdateDone | TaskEnded | AddedToDRL
EVENTS = (SupervisedDone, EvaluationDone, TaskStarted, EpisodesCollected, UpdateDone, TaskEnded, AddedToDRL)


# ---- the machine -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The plan and every event so far: replaying them is resuming."""

    plan: Plan
    events: tuple[Event, ...] = ()

    def to_json(self) -> str:
        events = [{"event": type(event).__name__, **asdict(event)} for event in self.events]
        return json.dumps({"format": FORMAT, "plan": asdict(self.plan), "events": events})

    @classmethod
    def from_json(cls, text: str) -> State:
        """Raises ``CheckpointError`` on anything that ``to_json`` of this format did not write."""
        kinds = {kind.__name__: kind for kind in EVENTS}
        try:
            found = json.loads(text)
            if found["format"] not in READS:
                raise CheckpointError(f"learner state of format {found['format']}", f"this version reads up to {FORMAT}",
                                      "resume with the version that wrote it")  # fmt: skip
            events = tuple(kinds[event.pop("event")](**_tuples(event)) for event in found["events"])
            return cls(Plan(**_tuples(found["plan"])), events)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"learner state ({error!r})", "it is JSON written by State.to_json",
                                  "start the run anew") from error  # fmt: skip


class IRevla:
    """Stage 0, then for each RL task stage 1 (reinforcement) and stage 2 (supervised)."""

    def __init__(self, state: State) -> None:
        """Raises ``IrevlaError`` when the events of ``state`` do not fit its plan."""
        self.state = State(state.plan)
        self.deployed = ""  # the checkpoint that a robot with nothing else to do should run; empty before stage 0
        self._script = self._algorithm1(state.plan)
        self._command = next(self._script)
        for event in state.events:
            self.handle(event)

    def next(self) -> Command:
        """What to do now."""
        return self._command

    def handle(self, event: Event) -> None:
        """Move on. Raises ``IrevlaError`` when ``event`` does not answer the current command."""
        if not _answers(event, self._command):
            raise IrevlaError(f"event {event}", f"it answers the command {self._command}",
                              "report each command once, when it is done")  # fmt: skip
        self.state = State(self.state.plan, (*self.state.events, event))
        self._command = self._script.send(event)

    def _algorithm1(self, plan: Plan) -> Generator[Command, Event, None]:
        generalist = plan.sft_checkpoint or "sft"
        if not plan.sft_checkpoint:
            yield RunSupervised(0, "", "", ("expert",), "all", plan.stage0_steps, generalist)
        self.deployed = generalist
        yield Evaluate("stage0", generalist)

        version = 0
        practised = dict.fromkeys(plan.tasks, 0)  # episodes of each task so far
        for number, task in enumerate(plan.tasks * plan.rounds, start=1):
            name = f"{number}-{task}"
            last = number == len(plan.tasks) * plan.rounds
            specialist = generalist

            if plan.algorithm != "none":
                version += 1  # the head of a supervised stage is another one than the last of stage 1
                first = practised[task]
                yield StartTask(task, generalist, plan.algorithm, plan.stage1, version, first)
                version, episodes = yield from self._stage1(plan, task, version, first)
                practised[task] += episodes
                specialist = f"{name}-stage1"
                yield EndTask(task, specialist)
                if plan.between == "specialist" or plan.stage2 == "none":
                    self.deployed = specialist
                if plan.evaluate_stages or (last and plan.stage2 == "none"):
                    yield Evaluate(f"{name}-stage1", specialist)
                if "rl" in plan.data and plan.stage2 != "none":
                    if plan.harvest > 0:
                        event = yield CollectEpisodes(task, plan.harvest, practised[task], Mode.TRAIN, True, version)
                        assert isinstance(event, EpisodesCollected)
                        practised[task] += len(event.successes)
                    yield AddToDRL(task, plan.newest)

            if plan.stage2 == "none":
                generalist = specialist
            else:
                head_from = specialist if plan.stage2_head == "stage1" else generalist
                result = f"{name}-stage2"
                event = yield RunSupervised(2, generalist, head_from, plan.data, plan.stage2, plan.stage2_steps, result)
                assert isinstance(event, SupervisedDone)
                if event.adopted:
                    self.deployed = generalist = result
                if plan.evaluate_stages or last:
                    yield Evaluate(result, generalist)

        yield Finish(generalist)

    @staticmethod
    def _stage1(plan: Plan, task: str, version: int, first: int) -> Generator[Command, Event, tuple[int, int]]:
        """Reinforcement until convergence or the budget; returns the head's version and the episodes that it cost."""
        episodes, demos, outcomes = 0, 0, ()  # type: int, int, tuple[bool, ...]
        while episodes < plan.max_episodes:
            # A weak policy may never show that many: half of the budget is kept for learning from what there is.
            zero_shot = plan.algorithm == "sacfd" and demos < plan.demos and 2 * episodes < plan.max_episodes
            count = min(plan.episodes_per_update, plan.max_episodes - episodes)
            mode = Mode.DEMO if zero_shot else Mode.TRAIN
            event = yield CollectEpisodes(task, count, first + episodes, mode, False, version)
            assert isinstance(event, EpisodesCollected)
            episodes += len(event.successes)
            if zero_shot:
                demos += sum(event.successes)
                continue
            outcomes = (*outcomes, *event.successes)[-plan.window :]
            if len(outcomes) == plan.window and sum(outcomes) >= plan.threshold * plan.window:
                break
            version += 1
            yield UpdateHead(task, plan.algorithm, version)
        return version, episodes


def _answers(event: Event, command: Command) -> bool:
    if isinstance(command, CollectEpisodes):
        # Fewer is fine (an aborted episode has no outcome); none is not, or the machine would ask for ever.
        return (isinstance(event, EpisodesCollected) and event.task == command.task
                and 0 < len(event.successes) <= command.episodes)  # fmt: skip
    if isinstance(command, RunSupervised):
        return (isinstance(event, SupervisedDone) and event.checkpoint == command.save_as
                and (event.adopted or command.stage != 0))  # fmt: skip
    if isinstance(command, Evaluate):
        return event == EvaluationDone(command.label)
    if isinstance(command, StartTask):
        return event == TaskStarted(command.task)
    if isinstance(command, UpdateHead):
        return event == UpdateDone(command.head_version)
    if isinstance(command, EndTask):
        return event == TaskEnded(command.save_as)
    if isinstance(command, AddToDRL):
        return event == AddedToDRL(command.task)
    return False


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
