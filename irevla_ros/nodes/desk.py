"""The operator's desk: one terminal to drive the arm by keys, to see how the collection goes, and to say what is next.

It is the keyboard of ``teleop`` with a view. `irevla collect` runs it in front of the graph; it also runs by itself, in any
terminal and on any host, beside a graph that somebody else has started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.collection import Agenda, Choice, Note, Tally
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import Interrupted
from irevla_ros.core.graph_messages import Consent, Sealed
from irevla_ros.core.teleop import Action
from irevla_ros.nodes import topics
from irevla_ros.nodes.desk_view import DeskView, Screen
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.nodes.overview import Overview
from irevla_ros.nodes.parameters import desk as parameters
from irevla_ros.nodes.supervisor import Supervisor
from irevla_ros.nodes.teleop import TeleopNode
from irevla_ros.nodes.up import PATIENCE_S, SIGNALS
from irevla_ros.ros import SingleThreadedExecutor
from irevla_ros.ros.messages import DiagnosticArray
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED
from irevla_ros.ros.run import Stop, context, run_node

DRAW_S, PLAIN_S = 0.2, 10.0
POLL_S = 0.2
NOTE_KEY, SAY_KEY = "m", "v"
ENTER, ESCAPE, ERASE = "\r\n", "\x1b", "\x7f\b"


class DeskNode(TeleopNode):
    """Keys that are not typed into a prompt are those of ``TeleopNode``."""

    def __init__(self) -> None:
        self._screen = Screen(sys.stdout)  # first: a node that fails to open (no terminal) is destroyed, too
        super().__init__("desk", parameters.settings, lambda found: found.keyboard)
        config = self.settings.desk
        where = f"  {config.run}" if config.run else ""
        self.view = DeskView(f"irevla collect{where}  arm {self.get_namespace()}", config.rate_hz, config.goal)
        self._asks = ""  # the key that opened the prompt
        self._overview = Overview()
        self._note, self._choice = self.speak(Note, topics.NOTE), self.speak(Choice, topics.CHOICE)
        self.listen(Tally, topics.TALLY, self._on_tally, LATCHED)
        self.listen(Agenda, topics.AGENDA, self._on_agenda, LATCHED)
        self.listen(ArbiterStep, topics.STEP, self._on_step)
        self.listen(Sealed, topics.SEALED, self._on_sealed)
        self.listen(Consent, topics.CONSENT, self._on_consent, COMMAND)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, EVENT)
        self.every(DRAW_S if self._screen.in_place else PLAIN_S, self.draw)

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        super()._on_state(state)
        self.view.state = state

    def _on_tally(self, tally: Tally) -> None:
        before, self.view.tally = self.view.tally, tally
        if tally.said:
            self.say(tally.said)
        if before is None or tally.last is None or (before.last and before.last.episode_id == tally.last.episode_id):
            return
        for defect in tally.last.defects:
            self.say(f"{tally.last.episode_id}: {defect}")

    def _on_agenda(self, agenda: Agenda) -> None:
        self.view.agenda = agenda

    def _on_step(self, step: ArbiterStep) -> None:
        self.view.step = step

    def _on_sealed(self, sealed: Sealed) -> None:
        if sealed.refusal or not sealed.steps:
            self.say(f"{sealed.episode_id}: {sealed.steps} steps kept{f'; {sealed.refusal}' if sealed.refusal else ''}")

    def _on_consent(self, consent: Consent) -> None:
        self.view.consent = consent, self.wall_ns()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._overview.received(message, self.wall_ns())

    # ---- the keyboard --------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        """The view shows the keys."""

    def _typed(self, text: str) -> str:
        """What of the keys goes to the arm: none of those of a prompt."""
        driving = []
        for key in text:
            if self.view.prompt is not None:
                self._edit(self.view.prompt, key)
            elif key in (NOTE_KEY, SAY_KEY):
                self._asks, self.view.prompt = key, "note: " if key == NOTE_KEY else "instruction: "
            elif key.isdecimal():
                self._choose(int(key))
            else:
                driving.append(key)
        return "".join(driving)

    def _edit(self, prompt: str, key: str) -> None:
        said = prompt.partition(": ")[2]
        if key in ENTER or key == ESCAPE:
            self.view.prompt = None
            if key != ESCAPE and said.strip():
                self._tell(said.strip())
        elif key in ERASE:
            self.view.prompt = prompt[:-1] if said else prompt
        elif key.isprintable():
            self.view.prompt = prompt + key

    def _tell(self, text: str) -> None:
        if self._asks == NOTE_KEY:
            state, last = self.view.state, self.view.tally.last if self.view.tally is not None else None
            runs = state is not None and state.phase is not Phase.IDLE
            about = state.episode_id if runs and state is not None else last.episode_id if last is not None else ""
            self._note(Note(text, about))
            self.say(f"note on {about}: {text}" if about else "there is no episode to note it on")
        else:
            self._choice(Choice(instruction=text))

    def _choose(self, number: int) -> None:
        jobs = self.view.agenda.jobs if self.view.agenda is not None else ()
        if number <= len(jobs):
            self._choice(Choice(jobs[number - 1].task if number else ""))

    # ---- what is shown -------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """A line among the news."""
        self.view.news.append(f"{time.strftime('%H:%M:%S')} {line}")

    def _answered(self, action: Action, good: bool, text: str) -> None:
        self.health.counts["asked" if good else "asked.refused"] += 1
        if not good or action not in (Action.UNDO, Action.START):
            self.say(f"{action.words}: {'' if good else 'refused: '}{text}")

    def draw(self) -> None:
        mine = [row for row in self._overview.rows(self.wall_ns()) if row.name != self.get_fully_qualified_name()]
        self._screen.draw(self.view.lines(self.now_ns(), self.wall_ns(), mine))

    def destroy_node(self) -> None:
        self._screen.close()
        super().destroy_node()


def run_in_front(specs: Sequence[ProcessSpec], arguments: Sequence[str], logs: Path, held: Sequence[int], again: str) -> int:
    """The processes of a graph with the desk in the terminal, until Ctrl-C: raises Interrupted, naming the command ``again``.

    ``arguments``: the desk's, as sys.argv; ``logs`` and ``held`` as of ``Supervisor``.
    """
    supervisor = Supervisor(specs, logs, held=held)
    with Stop(SIGNALS) as stop, context(arguments):
        desk = DeskNode()
        executor = SingleThreadedExecutor()
        executor.add_node(desk)
        try:
            supervisor.start()
            _watch(supervisor, desk, stop, lambda seconds: executor.spin_once(timeout_sec=seconds))
        finally:
            desk.on_shutdown()
            desk.view.news.append("stopping all nodes in order")
            desk.draw()
            supervisor.stop(PATIENCE_S)
            tally = desk.view.tally
            executor.shutdown()
            desk.destroy_node()
    for one in tally.tasks if tally is not None else ():
        print(f"{one.task}: {one.success} successes, {one.failure} failures, {one.unknown} unknown, {one.discarded} discarded")
    raise Interrupted(again)


def _watch(supervisor: Supervisor, desk: DeskNode, stop: Stop, spin: Callable[[float], object]) -> None:
    due_s = 0.0
    while not stop.asked:
        spin(POLL_S)
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + POLL_S
            for line in supervisor.poll():
                desk.say(line)
            supervisor.check()


def main() -> int:
    return run_node(DeskNode)


if __name__ == "__main__":
    sys.exit(main())
