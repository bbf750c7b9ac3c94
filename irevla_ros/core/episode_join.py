"""One episode from its states and from what an arm says meanwhile: for the recorder as it happens, and for a bag of it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.assembly import Assembler, AssemblyConfig
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.rows import Append, Assembled, SideRecord
from irevla_ros.core.types import Observation, Outcome, TerminationReason

BEFORE_RUN = 8  # observations kept before the run: the first step answers one of them


class EpisodeJoin:
    """Feed it, ``poll`` often, append what that returns, until ``result`` is set.

    ``state`` is the episode's newest; ``dry_run``: no robot was commanded, so nothing is to be kept.
    """

    def __init__(self, state: EpisodeState, config: AssemblyConfig) -> None:
        self.state, self.dry_run = state, False
        self._assembler = Assembler(state.episode_id, config)
        self._early: deque[tuple[int, Observation]] = deque(maxlen=BEFORE_RUN)

    @property
    def result(self) -> Assembled | None:
        """How the join came out; None until then."""
        found = self._assembler.result
        return replace(found, discarded=True) if found is not None and self.dry_run else found

    @property
    def counts(self) -> Counter[str]:
        """What was not used."""
        return self._assembler.counts

    def follow(self, state: EpisodeState, wall_ns: int) -> None:
        """A later state of this episode."""
        self.state = state = replace(state, discarded=state.discarded or self.dry_run)
        if state.phase in (Phase.RUN, Phase.END):
            while self._early:
                self._assembler.observation(*self._early.popleft())
        if state.phase is Phase.END:
            self._assembler.end(state, wall_ns)

    def leave(self, ended_ns: int, wall_ns: int) -> None:
        """The episode node left it without an end: it ends now, as stopped."""
        if self.state.phase is not Phase.END:
            left = replace(self.state, sequence=self.state.sequence + 1, phase=Phase.END, ended_ns=ended_ns, truncated=True,
                           outcome=Outcome.UNKNOWN, judge=None, termination_reason=TerminationReason.STOPPED)  # fmt: skip
            self.follow(left, wall_ns)

    def observation(self, stamp_ns: int, observation: Observation) -> None:
        if observation.instruction != self.state.instruction:
            observation = replace(observation, instruction=self.state.instruction)
        if self.state.phase in (Phase.RESET, Phase.READY):
            self._early.append((stamp_ns, observation))
        else:
            self._assembler.observation(stamp_ns, observation)

    def step(self, record: ArbiterStep, wall_ns: int) -> None:
        if record.dry_run:  # which is known before any row with a step is appended
            self.dry_run, self.state = True, replace(self.state, discarded=True)
        self._assembler.step(record, wall_ns)

    def reward(self, stamp_ns: int, value: float) -> None:
        self._assembler.reward(stamp_ns, value)

    def side(self, record: SideRecord) -> None:
        self._assembler.side(record)

    def poll(self, wall_ns: int) -> list[Append]:
        """What is ready to be appended now, in order."""
        return self._assembler.poll(wall_ns)
