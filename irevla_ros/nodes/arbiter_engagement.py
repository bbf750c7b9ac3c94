"""For which run the arbiter moves the arm: engaged while it is on, and let go of when nobody could stop it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import Refused
from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, Verb
from irevla_ros.core.health import Level
from irevla_ros.core.types import ControlSource, Mode
from irevla_ros.nodes import topics
from irevla_ros.nodes.clock_watch import ClockWatch
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.arbiter import ArbiterNodeConfig

REPEAT_S = 1.0
ENGAGE_NS = 5 * SECOND  # an arm that comes to be ready later than that moves when nobody expects it
OVERDUE_NS = 10 * SECOND
POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT


class Engagement:
    """``engaged``: the core is, for the run (or reset) that is on; ``permitted``: by the operator.

    commands: the topics that nobody else may publish; ready: whether a run that began at that stamp can be engaged yet; began:
    called when it is; left: called when it is left, with whether it was engaged."""

    def __init__(self, node: GraphNode, core: Arbiter, config: ArbiterNodeConfig, commands: Sequence[str],
                 ready: Callable[[int], bool], began: Callable[[], None], left: Callable[[bool], None]) -> None:  # fmt: skip
        self._node, self._core, self._config, self._commands = node, core, config, commands
        self._ready, self._began, self._left = ready, began, left
        self.engaged = False
        self.permitted = not config.await_engage
        self._state: EpisodeState | None = None
        self._run: EpisodeState | None = None  # the run (or reset) that is, or is to be, engaged
        self._run_wall_ns = 0  # when it was heard of
        self._refused = ""  # why it was not engaged
        self._owner = node.resolve_topic_name(topics.STATE)
        self._unowned = 0  # looks in a row that found no episode node
        self._barred = ("", "")  # the episode whose run this process has no part in any more, and why
        other = config.other_side
        self._other_clock = ClockWatch(node, other, config.clock_limit_ns) if other else None
        self._request = node.speak(Request, topics.REQUEST)
        node.listen(Request, topics.REQUEST, self._on_request)
        node.follow(self._on_state)
        node.every(REPEAT_S, self._attend)

    @property
    def resetting(self) -> bool:
        return self._state is not None and self._state.phase is Phase.RESET

    # ---- the operator --------------------------------------------------------------------------------------------

    def permit(self) -> None:
        """Raises Refused for what would keep the arm from being engaged now."""
        if others := self._other_writers():
            raise Refused(others, "the arbiter is the only one that commands the arm", "stop the others")
        self._core.require_ready(self._node.now_ns(), self._node.wall_ns())
        self.permitted = True

    def forbid(self) -> None:
        self.permitted = False
        if self._run is not None:
            self._bar(self._run, "the operator has disengaged the arm")

    # ---- the run -------------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        before, self._state = self._state, state
        if self._run is not None and (state.phase, state.episode_id) != (self._run.phase, self._run.episode_id):
            self.leave()
        moves = state.phase is Phase.RUN or (state.phase is Phase.RESET and self._config.script_resets)
        if not moves or self._run is not None:
            return
        if before is None:
            self._bar(state, "the arbiter was restarted in this run")
        elif state.episode_id != self._barred[0]:
            self._run, self._run_wall_ns = state, self._node.wall_ns()
            self.attempt()

    def attempt(self) -> None:
        """Engage the core for the run that is on, if there is one and nothing speaks against it."""
        state = self._run
        if state is None or self.engaged or self._core.moving:  # still braking from the last run
            return
        if self._ready(state.started_ns or 0):
            self._engage(state)
            if self.engaged:
                self._began()

    def leave(self) -> None:
        """The run is over for this process."""
        engaged, self.engaged, self._run = self.engaged, False, None
        if engaged:
            self._core.disengage()
        self._left(engaged)

    def _engage(self, state: EpisodeState) -> None:
        try:
            if not self.permitted:
                raise Refused("engage", "the operator has not let this arm be moved", "call arbiter/engage")
            if others := self._other_writers():
                raise Refused(others, "the arbiter is the only one that commands the arm", "stop the others")
            if self._other_clock is not None and (problem := self._other_clock.problem()) is not None:
                raise problem
            # The way to the start is no step of the episode.
            episode_id = state.episode_id if state.phase is Phase.RUN else ""
            self._core.engage(self._source(state), self._node.now_ns(), self._node.wall_ns(), episode_id)
        except Refused as error:
            self._refused = str(error)
            self._node.health.check("engage", Level.ERROR, self._refused)
            self._node.warn_rarely("engage", self._refused)
            return
        self.engaged = True
        self._node.health.check("engage", Level.OK)

    def _source(self, state: EpisodeState) -> ControlSource:
        if state.phase is Phase.RESET:
            return SCRIPT
        if state.mode is not Mode.DEMO:
            return POLICY
        return SCRIPT if self._config.script else HUMAN

    def _on_request(self, request: Request) -> None:
        """The operator gives the arm back after having driven it."""
        state = self._run
        if state is None or request.episode_id not in ("", state.episode_id):
            return
        if request.verb is Verb.ENGAGE and self.engaged and self._core.engaged is HUMAN:
            self._engage(state)

    # ---- letting go ----------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Once a second: nobody moves an arm on that nobody can stop, or that another one moves too."""
        self._stop_barred()
        state, node = self._run, self._node
        if state is None or node.lock_step:
            return
        self._unowned = self._unowned + 1 if node.count_publishers(self._owner) == 0 else 0
        wall_ns = node.wall_ns() - self._run_wall_ns  # the graph's clock may have been set back in the run
        overdue = max(node.now_ns() - (state.started_ns or 0), wall_ns) > state.time_limit_ns + OVERDUE_NS
        if self._unowned > 1:
            self._bar(state, "there is no episode node any more")
        elif self.engaged and state.started_ns and state.time_limit_ns and overdue:
            self._bar(state, "the episode node did not end it at its time limit")
        elif self.engaged and (others := self._other_writers()):
            self._bar(state, others)
        elif self.engaged and self._other_clock is not None and (problem := self._other_clock.problem()) is not None:
            self._bar(state, str(problem))
        elif not self.engaged and wall_ns > ENGAGE_NS:
            self._bar(state, f"the arm could not be engaged for {ENGAGE_NS // SECOND} s: {self._refused}")

    def _bar(self, state: EpisodeState, why: str) -> None:
        """Let go of the arm for the rest of this run, and have it stopped."""
        self.leave()
        self._barred = state.episode_id, why
        self._node.warn_rarely("barred", f"run {state.episode_id} is left: {why}")
        self._stop_barred()

    def _stop_barred(self) -> None:
        state, (episode_id, why) = self._state, self._barred
        if state is not None and state.phase is Phase.RUN and state.episode_id == episode_id:
            self._request(Request(Verb.STOP, why, episode_id))

    def _other_writers(self) -> str:
        if self._node.lock_step:
            return ""
        writers = {topic: self._node.count_publishers(topic) for topic in self._commands}
        return ", ".join(f"{count} nodes publish {topic}" for topic, count in writers.items() if count > 1)
