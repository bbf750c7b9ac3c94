"""The recorder of one arm: what the graph says becomes an episode in the spool, or a refusal that says why not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from irevla_ros import __version__
from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.assembly import AssemblyConfig
from irevla_ros.core.durations import period_ns
from irevla_ros.core.episode_state import EpisodeState, Judge, Phase, Request, ResetDone, Verb, Verdict
from irevla_ros.core.graph_messages import RewardValue, Sealed
from irevla_ros.core.health import Level
from irevla_ros.core.late import LateLabel, Told
from irevla_ros.core.quality import QualityCheck
from irevla_ros.core.rows import Assembled
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import Observation, Outcome
from irevla_ros.data.recording import Archive, Closed
from irevla_ros.nodes import topics
from irevla_ros.nodes.disk import Disk
from irevla_ros.nodes.ledger import Ledger
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import recorder as parameters
from irevla_ros.nodes.parameters.reading import run_folder
from irevla_ros.nodes.recording import Recording
from irevla_ros.nodes.streams import ObservationStreams
from irevla_ros.ros.messages import Int64
from irevla_ros.ros.qos import EVENT
from irevla_ros.ros.run import run_node

WHO = "recorder"
POLL_S, ENDING_S = 0.05, 0.005
CLOSE_S = 10.0


class RecorderNode(GraphNode):
    """Wiring of one arm: ``core.assembly`` joins, ``Recording`` carries an episode, ``Archive`` is the disk."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._config = config = self.declare(parameters.settings)
        self.lock_step = config.lock_step
        self._assembly = AssemblyConfig(config.wait_ns, config.longest_gap_ns, latents=config.latents)
        arm = self.get_namespace().strip("/").replace("/", "-")
        own = re.compile(re.escape(config.run_id) + (f"-{re.escape(arm)}" if arm else "") + r"-\d+")

        def is_own(name: str) -> bool:
            return own.fullmatch(name) is not None

        self._archive = Archive(run_folder(config.run) / "practice", is_own, config.min_free_bytes)
        for event in self._archive.spool.recovered:
            self.get_logger().warning(f"spool: {event}")
        self._disk = Disk(self)
        self._ledger = Ledger(self, self._archive, self._disk, is_own, self._undone)
        self._recording: Recording | None = None
        self._told: Told | None = None
        self._earlier: Told | None = None  # of the episode before the present one
        self._state: EpisodeState | None = None
        self._answer_due: Callable[[], object] = _nothing  # what the episode node has not acted on yet
        self._dry_run = ""  # the newest episode whose commands reached no robot
        self._refusal = ""  # why the newest episode is not whole
        self._held_ns: int | None = None  # the answer that waits for the disk
        self._recorded = self.create_publisher(Int64, topics.RECORDED, EVENT)
        self._reset_done = self.speak(ResetDone, topics.RESET_DONE)
        self._request = self.speak(Request, topics.REQUEST)
        self._sealed = self.speak(Sealed, topics.SEALED)
        self._streams = ObservationStreams(self, config, self._on_observation, repeated=self._answer,
                                           real_time=topics.RECORDED_STREAM)  # fmt: skip
        self.listen(ArbiterStep, topics.STEP, self._on_step)
        self.listen(RewardValue, topics.REWARD, self._on_reward)
        self.listen(Verdict, topics.VERDICT, self._on_verdict)
        self.every(POLL_S, self._poll)
        self._ending = self.every(ENDING_S, self._poll)
        self._ending.cancel()
        self.follow(self._on_state)

    # ---- the episode ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        if state.episode_id == self._dry_run:
            state = replace(state, discarded=True)
        recording = self._recording
        if self._state is None or (state.episode_id, state.phase) != (self._state.episode_id, self._state.phase):
            self._answer_due = _nothing
        self._state = state
        self._ledger.follow(state)
        left = state.phase in (Phase.RESET, Phase.IDLE)
        if recording is not None and (left or state.episode_id != recording.state.episode_id):
            recording.abandon(self.now_ns(), self.wall_ns())
            recording = self._recording = None
        if state.phase is Phase.RESET:
            self._open(state)
        elif recording is not None:
            recording.follow(state, self.wall_ns())
            if state.phase is Phase.END:
                self._ending.reset()
                self._poll()
        elif self._told is not None and self._told.episode_id == state.episode_id:
            self._revise(self._told, state)
        elif state.phase in (Phase.READY, Phase.RUN):
            self.health.counts["runs_not_reset"] += 1
            self._stop(state, "the recorder was restarted in the middle")
        elif state.phase is Phase.END:
            self._told = Told.of(state)
            why = self._refusal or "the recorder was restarted in the middle"
            who = (state.operator or "operator") if state.discarded else ""
            self._disk.do(partial(self._archive.disown, state.episode_id, why, who), partial(self._say_closed, state),
                          lambda error: self._say_closed(state, Closed(state.episode_id, 0, refusal=str(error))))  # fmt: skip

    def _open(self, state: EpisodeState) -> None:
        self._earlier, self._told, self._refusal = self._told, None, ""
        self._streams.forget()
        self._streams.instruction = state.instruction
        wanted = self._config.quality
        quality = QualityCheck(wanted, period_ns(self._config.rate_hz)) if wanted.enabled else None
        recording = Recording(state, self._assembly, self._archive, self._disk, self._config.backlog, quality,
                              lambda why: self._break_off(recording, why),
                              lambda result, closed: self._closed(recording, result, closed))  # fmt: skip
        self._recording = recording

        def answer(why: str) -> None:
            if why:
                self._refused(why)
                if self._recording is recording:
                    self._recording = None
            self._say(state, partial(self._reset_done, ResetDone(WHO, why, state.episode_id, state.sequence)))

        meta = state.meta(ActionSpec(), self._config.rate_hz, {"irevla_ros": __version__})
        self._disk.do(partial(self._archive.open, meta), lambda _: answer(""), lambda error: answer(str(error)))

    def _closed(self, recording: Recording, result: Assembled, closed: Closed) -> None:
        if closed.refusal:
            self._refused(f"{closed.episode_id}: {closed.refusal}")
        self.health.absorb("join", recording.counts)
        self._say_closed(recording.state, closed)

    def _say_closed(self, state: EpisodeState, closed: Closed) -> None:
        self._sealed(Sealed(**vars(closed)))
        self._ledger.closed(closed.episode_id, closed.steps)
        self._say(state, partial(self._request, Request(Verb.SEALED, "", state.episode_id)))

    def _break_off(self, recording: Recording, why: str) -> None:
        self._refused(f"{recording.state.episode_id}: {why}")
        self._stop(recording.state, f"recording broke off: {why}")

    def _stop(self, state: EpisodeState, why: str) -> None:
        self._say(state, partial(self._request, Request(Verb.STOP, why, state.episode_id)))

    def _say(self, state: EpisodeState, saying: Callable[[], object]) -> None:
        """Say it, and once a second again until the episode node has moved on: at start it may not have heard it."""
        saying()
        now = self._state
        if now is not None and (now.episode_id, now.phase) == (state.episode_id, state.phase):
            self._answer_due = saying

    def _refused(self, why: str) -> None:
        self._refusal = why
        self.health.counts["refusals"] += 1
        self.warn_rarely("refusal", why)

    def _revise(self, told: Told, state: EpisodeState) -> None:
        """A verdict or a discard that came when the episode was sealed already."""
        self._told = self._revised(*told.revised(state))

    def _on_verdict(self, verdict: Verdict) -> None:
        """The operator's on a sealed episode, when the episode node has gone on: no state tells of it any more."""
        if verdict.judge is not Judge.OPERATOR or verdict.episode_id == "":
            return
        outcome = Outcome.SUCCESS if verdict.success else Outcome.FAILURE
        if self._told is not None and self._told.episode_id == verdict.episode_id:
            self._told = self._revised(*self._told.judged(outcome, verdict.judge.value))
        elif self._earlier is not None and self._earlier.episode_id == verdict.episode_id:
            self._earlier = self._revised(*self._earlier.judged(outcome, verdict.judge.value))
        elif self._recording is None or self._recording.state.episode_id != verdict.episode_id:  # its recorder has died
            self._disk.do(partial(self._archive.judge, verdict.episode_id, outcome, verdict.judge.value),
                          lambda _: self._ledger.refresh(), lambda error: self._refused(str(error)))  # fmt: skip

    def _revised(self, told: Told, late: LateLabel | None) -> Told:
        """Append what is new; the episode as it is known now."""
        if late is not None:
            label = partial(self._archive.spool.label, told.episode_id, late.outcome, late.who, discard=late.discard)
            self._disk.do(label, lambda _: self._ledger.refresh(), lambda error: self._refused(str(error)))
        return told

    def _undone(self, episode_id: str, outcome: Outcome, discarded: bool) -> None:
        if self._told is not None and self._told.episode_id == episode_id:
            self._told = replace(self._told, outcome=outcome, discarded=discarded)

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_observation(self, stamp_ns: int, observation: Observation) -> None:
        if self._recording is not None:
            self._recording.observation(stamp_ns, observation)
            self._poll_at_end()
        self._answer(stamp_ns)

    def _answer(self, stamp_ns: int) -> None:
        """In lock step the simulator goes on once the recorder has the observation and is not far behind with the disk."""
        if not self.lock_step:
            return
        if self._recording is not None and self._recording.queued > self._config.backlog // 2:
            self._held_ns = stamp_ns
            self.health.counts["held_back"] += 1
        else:
            self._held_ns = None
            self._recorded.publish(Int64(data=stamp_ns))

    def _on_step(self, record: ArbiterStep) -> None:
        if self._recording is not None and record.episode_id:
            self._recording.step(record, self.wall_ns())
            if record.dry_run:
                self._dry_run = record.episode_id
            self._poll_at_end()

    def _on_reward(self, reward: RewardValue) -> None:
        if self._recording is not None:
            self._recording.reward(reward.stamp_ns, reward.value)

    def _poll_at_end(self) -> None:
        if self._recording is not None and self._recording.state.phase is Phase.END:
            self._poll()

    def _poll(self) -> None:
        recording = self._recording
        if recording is not None:
            recording.advance(self.wall_ns())
            state, result = recording.state, recording.result
            if recording.over and result is not None:
                self._told = Told.of(state, result, recording.broken)
                self._recording = None
        if self._recording is None:
            self._ending.cancel()
        if self._held_ns is not None:
            self._answer(self._held_ns)

    # ---- health --------------------------------------------------------------------------------------------------

    def update_health(self) -> None:
        self._answer_due()
        self._ledger.look_at_disk()
        recording = self._recording
        self.health.check("recording", Level.ERROR if self._refusal else Level.OK, self._refusal)
        queued = recording.queued if recording is not None else 0
        self.health.check("disk", Level.WARN if queued > self._config.backlog // 4 else Level.OK, f"{queued} rows wait")

    def on_shutdown(self) -> None:
        if self._recording is not None:
            self._recording.abandon(self.now_ns(), self.wall_ns())
        self._disk.close(CLOSE_S)


def _nothing() -> None:
    """No answer is due."""


def main() -> int:
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
