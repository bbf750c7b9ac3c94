"""One arm as the policy node sees it: its observations, the weights of its episode, and what was made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, ResetDone, Verb
from irevla_ros.core.errors import DataError
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rows import SideRecord
from irevla_ros.core.types import FloatArray, HalfArray, Mode, Observation
from irevla_ros.data.side import SideWriter
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.streams import StreamsConfig
from irevla_ros.nodes.streams import ObservationStreams
from irevla_ros.policy.acting import Acting
from irevla_ros.policy.sampling import ActionSampler
from irevla_ros.ros.messages import JointTrajectory
from irevla_ros.ros.qos import COMMAND

BACKLOG = 4
WHO = "policy"


@dataclass(frozen=True, eq=False)
class Wanted:
    """An observation to be encoded with the weights of its episode."""

    arm: PolicyArm
    episode_id: str
    acting: Acting
    stamp_ns: int
    observation: Observation


class PolicyArm:
    """``waiting`` holds what is to be encoded, oldest first, at most ``BACKLOG``; ``encoded`` takes the results.

    reset: called when the arm's episode wants a policy; ``begin`` or ``fail`` answers. work: called when ``waiting`` grew.
    """

    def __init__(self, node: GraphNode, config: StreamsConfig, arm: str, spool: Path, period_ns: int,
                 reset: Callable[[PolicyArm], None], work: Callable[[], None]) -> None:  # fmt: skip
        self.name = arm or "arm"
        self.waiting: deque[Wanted] = deque(maxlen=BACKLOG)  # the worker's thread takes from it
        self._node, self._config, self._spool, self._period_ns = node, config, spool, period_ns
        self._reset, self._work = reset, work
        self._streams = ObservationStreams(node, config, self._observed, arm, repeated=self._repeat)
        self._chunks = node.create_publisher(JointTrajectory, topics.of(arm, topics.ACTION), COMMAND)
        self._reset_done = node.speak(ResetDone, topics.of(arm, topics.RESET_DONE))
        self._request = node.speak(Request, topics.of(arm, topics.REQUEST))
        self._state: EpisodeState | None = None
        self._acting: Acting | None = None  # of the episode whose reset was seen; None outside of one
        self._episode_id = ""
        self._side: SideWriter | None = None
        self._held: tuple[int, Observation] | None = None  # came before the run
        self._asked_ns = -1  # the newest observation given to be encoded
        self._said: tuple[int, JointTrajectory] | None = None
        self._done: ResetDone | None = None  # the answer to the newest reset
        node.follow(self._on_state, arm)

    # ---- the episode ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        self._state = state
        if state.phase is Phase.RESET:
            self.leave()
            self._done = None
            self._streams.forget()
            self._streams.instruction = state.instruction
            self._reset(self)
        elif state.phase is Phase.IDLE or (self._acting is not None and state.episode_id != self._episode_id):
            self.leave()
        if state.phase in (Phase.READY, Phase.RUN) and self._acting is None:
            self._foreign(state)
        elif state.phase is Phase.RUN and self._held is not None:
            held, self._held = self._held, None
            self._observed(*held)

    def _foreign(self, state: EpisodeState) -> None:
        """A run whose reset was not seen: this process was started in the middle of it."""
        if state.mode is not Mode.DEMO:  # a demonstration goes on without the policy; it is encoded later
            self._request(Request(Verb.STOP, "the policy was restarted in the middle", state.episode_id, state.sequence))

    def begin(self, acting: Acting) -> None:
        """The weights of this episode; nothing replaces them before its end."""
        state = self._state
        if state is None or state.phase is not Phase.RESET or self._acting is not None:
            return
        try:
            self._side = SideWriter(self._spool, state.episode_id)
        except DataError as error:
            self.fail(str(error))
            return
        self._acting, self._episode_id = acting, state.episode_id
        self._sampler = ActionSampler(state.seed)
        self._answer(state, "")

    def fail(self, why: str) -> None:
        state = self._state
        if state is not None and state.phase is Phase.RESET:
            self._answer(state, why)

    def _answer(self, state: EpisodeState, failure: str) -> None:
        self._done = ResetDone(WHO, failure, state.episode_id, state.sequence)
        self._reset_done(self._done)

    def remind(self) -> None:
        """Say again what the episode node has not acted on: at start it may not have heard it."""
        state = self._state
        if state is not None and state.phase is Phase.RESET and self._done is not None:
            self._reset_done(self._done)
        elif state is not None and state.phase in (Phase.READY, Phase.RUN) and self._acting is None:
            self._foreign(state)

    def leave(self) -> None:
        """Whatever episode there was is over for this node."""
        if self._side is not None:
            self._side.close()
        self._side, self._acting, self._episode_id = None, None, ""
        self._held, self._said, self._asked_ns = None, None, -1
        self.waiting.clear()

    # ---- observations --------------------------------------------------------------------------------------------

    def _observed(self, stamp_ns: int, observation: Observation) -> None:
        state, acting = self._state, self._acting
        if acting is None or state is None:
            return
        if state.phase in (Phase.RESET, Phase.READY):
            self._held = stamp_ns, observation
            return
        if state.ended_ns is not None and (state.started_ns is None or self._asked_ns >= state.ended_ns):
            return  # the last observation that is recorded has been encoded
        if observation.instruction != state.instruction:
            observation = replace(observation, instruction=state.instruction)
        if len(self.waiting) == BACKLOG:
            self._node.health.counts[f"{self.name}.not_encoded"] += 1
        self._asked_ns = stamp_ns
        self.waiting.append(Wanted(self, self._episode_id, acting, stamp_ns, observation))
        self._work()

    def encoded(self, wanted: Wanted, mean: FloatArray, latents: HalfArray) -> None:
        """Act on the result where the policy acts now, and keep it for the recorder."""
        state, acting = self._state, wanted.acting
        if state is None or wanted.episode_id != self._episode_id or self._side is None:
            return
        version, log_prob = -1, None
        if state.phase is Phase.RUN and state.mode is not Mode.DEMO:
            actions, log_prob = self._sampler.draw(mean, acting.std, state.deterministic)
            version = acting.version
            try:
                chunk = ActionChunk(wanted.stamp_ns, acting.vla.action_spec.names, actions, self._period_ns, version, log_prob)
            except MessageError as error:
                self._node.refuse(f"{self.name}.action", error)
                version, log_prob = -1, None
            else:
                self._said = wanted.stamp_ns, convert.chunk_message(chunk)
                self._chunks.publish(self._said[1])
        try:
            self._side.append(SideRecord(wanted.stamp_ns, version, log_prob, latents, acting.fingerprint))
        except DataError as error:
            self._node.refuse(f"{self.name}.side", error)

    @property
    def running(self) -> bool:
        """Whether more observations are to come in this episode."""
        state = self._state
        return self._acting is not None and state is not None and state.phase is Phase.RUN and state.ended_ns is None

    def _repeat(self, stamp_ns: int) -> None:
        """In lock step the simulator asks again for an answer that was lost."""
        if self._said is not None and self._said[0] == stamp_ns:
            self._chunks.publish(self._said[1])

    def check(self) -> None:
        """The finding ``<arm>.input``: in a run, whether there is anything to act on."""
        age = self._streams.meter.age_ns(self._node.wall_ns())
        running = self._state is not None and self._state.phase is Phase.RUN and self._acting is not None
        late = running and (age is None or age > self._config.silence_ns)
        since = "nothing yet" if age is None else f"nothing for {age / 1e9:.1f} s"
        limit = f"{since} in a run, limit {self._config.silence_ns / 1e9:.1f} s: no action"
        self._node.health.check(f"{self.name}.input", Level.ERROR if late else Level.OK, limit if late else "")
