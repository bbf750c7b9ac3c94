"""The episode node: owner of the task, and of when an episode starts and ends; see ``core.episode_machine``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from irevla_ros.core.collection import Agenda, Choice, Job, Tally
from irevla_ros.core.episode_machine import EpisodeMachine, Handled
from irevla_ros.core.episode_state import EpisodeState, Event, Judged, Phase, Request, ResetDone, Start, Verb, Verdict
from irevla_ros.core.errors import DataError
from irevla_ros.core.health import Level
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.orders import EpisodeNumbers
from irevla_ros.nodes.parameters import episode as parameters
from irevla_ros.ros.messages import Trigger
from irevla_ros.ros.qos import LATCHED
from irevla_ros.ros.run import run_node

TICK_S = 0.05
RETRY_S = 1.0  # auto: after an episode that came to no run
EPISODE_NS = 1_000_000_000_000  # lock step: episode number n begins at n times this
_VERBS = {"confirm": Verb.CONFIRM, "engage": Verb.ENGAGE, "stop": Verb.STOP, "discard": Verb.DISCARD}


class EpisodeNode(GraphNode):
    """Parameters: ``EpisodeNodeConfig``, ``OrdersConfig``, ``EpisodeConfig``.

    In lock step the clock stands at the episode's beginning until the run, then at what the reward has judged.
    """

    def __init__(self) -> None:
        super().__init__("episode")
        config, self._orders, self._own, machine = self.declare(parameters.settings)
        self.lock_step = config.lock_step
        arm = self.get_namespace().strip("/").replace("/", "-")
        self._numbers = EpisodeNumbers(config.run, config.run_id, arm)
        self._machine = EpisodeMachine(machine, config.run_id, self._numbers.next, self.now_ns(),
                                       self.wall_ns(), self._numbers.first_sequence, arm)  # fmt: skip
        self._say = self.speak(EpisodeState, topics.STATE, LATCHED)
        self._say_agenda = self.speak(Agenda, topics.AGENDA, LATCHED)
        self._agenda: Agenda | None = None
        self._ordered: Start | None = None
        self._started = 0
        self._rest_until_ns = 0  # wall
        self.listen(Start, topics.ORDER, self._on_order)
        self.listen(ResetDone, topics.RESET_DONE, self._handle)
        self.listen(Request, topics.REQUEST, self._handle)
        self.listen(Verdict, topics.VERDICT, self._on_judged)
        self.listen(Judged, topics.JUDGED, self._on_judged)
        self.listen(Tally, topics.TALLY, self._on_tally, LATCHED)
        self.listen(Choice, topics.CHOICE, self._on_choice)
        self.create_service(Trigger, "episode/start", self._on_start)
        for name, verb in _VERBS.items():
            self.create_service(Trigger, f"episode/{name}", self._on_verb(verb))
        self.every(TICK_S, self._tick)
        self._say(self._machine.state)
        self._plan()

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_order(self, start: Start) -> None:
        """One that waits for the operator outlives its learner: who, started again, finds the episode in the spool and does not
        order it anew."""
        self._ordered = start
        if not self._orders.operator_starts:
            self._begin(start)
        self._plan()

    def _on_judged(self, event: Judged | Verdict) -> None:
        if self._machine.state.phase is Phase.RUN and event.episode_id == self._machine.state.episode_id:
            self.seen(event.stamp_ns)
        self._handle(event)

    def _on_tally(self, tally: Tally) -> None:
        self._own.tally = tally.tasks
        self._plan()

    def _on_choice(self, choice: Choice) -> None:
        self._own.choose(choice)
        self._plan()

    def _plan(self) -> None:
        """Say what is next, where that is news."""
        agenda, ordered = self._own.agenda(self._machine.next_number), self._ordered
        if ordered is not None and self._orders.operator_starts:
            agenda = replace(agenda, next=Job(ordered.task, ordered.instruction), chosen=False)
        if agenda != self._agenda:
            self._agenda = agenda
            self._say_agenda(agenda)

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        start = self._ordered or self._own.start(self._machine.next_number)
        problem = "nothing is ordered, and no tasks are set" if start is None else self._begin(start)
        return _answered(response, problem, self._machine.state)

    def _on_verb(self, verb: Verb) -> Callable[[Any, Any], Any]:
        def asked(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            return _answered(response, self._handle(Request(verb, "by the operator")), self._machine.state)

        return asked

    # ---- what becomes of it --------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._publish(self._machine.tick(self.now_ns(), self.wall_ns()))
        self._go_on()

    def _begin(self, start: Start) -> str:
        """Start an episode; says why not, "" when it has."""
        self._publish(self._machine.tick(self.now_ns(), self.wall_ns()))
        number = self._machine.next_number
        if self._machine.state.phase is Phase.IDLE:
            try:
                self._numbers.take(number)
            except DataError as error:  # without a number that is kept, no episode: its id could come again
                self.refuse("number", error)
                return str(error)
            if self.lock_step:
                self.seen(number * EPISODE_NS)
            self._ordered = None
            self._started += 1
        return self._handle(start)

    def _handle(self, event: Event) -> str:
        handled = self._machine.handle(event, self.now_ns(), self.wall_ns())
        self._publish(handled)
        return handled.ignored

    def _publish(self, handled: Handled) -> None:
        if not handled.changed:
            return
        state = handled.state
        self._say(state)
        self._plan()
        if state.phase is Phase.END and state.started_ns is None:
            self._rest_until_ns = self.wall_ns() + round(RETRY_S * 1e9)
            self.warn_rarely("end", f"episode {state.episode_id} came to no run: {state.detail}")
        self._go_on()

    def _go_on(self) -> None:
        config = self._orders
        more = config.auto and (config.episodes == 0 or self._started < config.episodes)
        rested = self._machine.state.phase is Phase.IDLE and self.wall_ns() >= self._rest_until_ns
        if more and rested and (start := self._own.start(self._machine.next_number)) is not None:
            self._begin(start)

    def update_health(self) -> None:
        state = self._machine.state
        self.health.check("episode", Level.OK, f"{state.phase.value} {state.episode_id}".strip())
        self.health.counts["episodes"] = self._started
        self.health.counts["events.ignored"] = self._machine.ignored


def _answered(response: Trigger.Response, problem: str, state: EpisodeState) -> Trigger.Response:
    response.success = not problem
    response.message = problem or f"{state.episode_id} {state.phase.value}"
    return response


def main() -> int:
    return run_node(EpisodeNode)


if __name__ == "__main__":
    sys.exit(main())
