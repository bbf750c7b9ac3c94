"""The franka node: between the graph and a Franka's drivers; what it does and owes is in docs/franka.md.

In a run it passes the arbiter's targets and gripper commands on; between runs it moves the arm to where the next begins. A
fault ends the run; the next reset recovers from it, within a budget. It is no safety function: the robot's own is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, ResetDone, Verb
from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.health import Level
from irevla_ros.core.robot_checks import problems
from irevla_ros.core.robot_fault import Fault, RecoveryBudget
from irevla_ros.core.types import TerminationReason
from irevla_ros.nodes import topics
from irevla_ros.nodes.franka.checks import RobotChecks
from irevla_ros.nodes.franka.command import Gate, command_of
from irevla_ros.nodes.franka.consent import ArbiterConsent
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.gripper import Gripper
from irevla_ros.nodes.franka.procedure import Procedure, RobotError, Steps, pause
from irevla_ros.nodes.franka.recovery import Recovery
from irevla_ros.nodes.franka.reset import Reset
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import franka as parameters
from irevla_ros.ros.messages import Trigger

WATCH_S = 0.05
REPEAT_S = 1.0
SHOWS_S = 1.5  # by then a fault that a motion died of shows
STARTED = "the franka node was started after the operator's last arbiter/engage"


class FrankaNode(GraphNode):
    """Parameters: ``FrankaConfig``."""

    def __init__(self) -> None:
        super().__init__("franka")
        self._config = config = self.declare(parameters.settings)
        self._controllers = Controllers(self, config)
        self._arm = ArmState(self, config, self._controllers)
        self._command = command_of(self, config, self._arm)
        self._gate = Gate(self, config, self._command)
        self._gripper = Gripper(self, config)
        self._recovery = Recovery(self, config, self._arm, self._controllers, self._command)
        self._reset = Reset(self, config, self._arm, self._controllers, self._gripper, self._recovery)
        self._budget = RecoveryBudget(config.recovery)
        self._for_human = STARTED  # why nothing is moved or recovered until one has looked; the budget of before is not known
        self._broken: tuple[str, Fault] | None = None  # the newest episode in which there was a fault
        self._consent = ArbiterConsent(self, config, self._on_consent)
        self._needs_engage, self._consented = True, False  # the work under way: what it needs of it, and that it had it
        self._checks: RobotChecks | None = RobotChecks(self, config, self._arm, self._controllers, running=True)
        self._state: EpisodeState | None = None
        self._done: ResetDone | None = None  # what became of the last reset
        self._work: Procedure | None = None
        self._said_wall_ns = 0
        self._reset_done = self.speak(ResetDone, topics.RESET_DONE)
        self._request = self.speak(Request, topics.REQUEST)
        self.follow(self._on_state)
        self.create_service(Trigger, "robot/recover", self._on_recover)
        self.every(WATCH_S, self._watch)

    # ---- the episode ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        before, self._state = self._state, state
        if state.phase is Phase.RESET:
            if before is None or before.phase is not Phase.RESET or before.episode_id != state.episode_id:
                self._begin(self._prepare(state), partial(self._prepared, state))
        elif before is not None and before.phase is Phase.RESET and self._work is not None:
            self._work.cancel()  # too late, or stopped: its motion is cancelled
        if state.phase is Phase.READY and self._is_ready(state):
            self.get_logger().info(f"{state.episode_id} is ready: put the scene right for {state.instruction!r}, then confirm")
        ran = state.phase is Phase.END and state.started_ns is not None
        if ran and state.termination_reason is not TerminationReason.FAULT:
            self._budget.ended(state.episode_id)
        self._watch()

    def _is_ready(self, state: EpisodeState) -> bool:
        return self._done is not None and self._done.episode_id == state.episode_id and not self._done.failure

    def _begin(self, steps: Steps, done: Callable[[str], None], needs_engage: bool = True) -> None:
        if self._work is not None:
            self._work.cancel()
        self._needs_engage, self._consented = needs_engage, False
        self._work = Procedure(steps, done)

    def _prepare(self, state: EpisodeState) -> Steps:
        """The robot's part of a reset; a fault on the way is recovered from, as often as the budget allows."""
        while not self._config.dry_run:
            yield from self._permission()
            try:
                if self._arm.fault() is not None or self._for_human:
                    yield from self._recover(state.episode_id)
                if self._checks is not None:  # before the controller is told a pose that is not its tip's
                    yield from self._check(self._checks)
                yield from self._reset.steps(state.seed)
                break
            except IrevlaError:
                yield from pause(self, SHOWS_S)
                if self._arm.fault() is None or self._for_human or self._budget.refusal(state.episode_id):
                    raise
        if self._checks is not None:
            yield from self._check(self._checks)

    def _permission(self) -> Steps:
        """From here on the work under way ends where the arbiter's consent does."""
        self._consented = False
        yield from self._reset.ready()
        yield from self._consent.wait(self._needs_engage)
        self._consented = True

    def _on_consent(self) -> None:
        if self._consent.engaged_anew and self._for_human == STARTED:
            self._for_human = ""
        self._heed()

    def _heed(self) -> None:
        """End a motion that the arbiter does not consent to any more."""
        objection = self._consent.objection(self._needs_engage)
        if objection and self._consented and self._work is not None and self._work.running:
            self._work.fail(f"stopped on the way: {objection}; see arbiter/engage and resume in docs/safety.md")

    def _check(self, checks: RobotChecks) -> Steps:
        """Before the first run: what is wrong may right itself within ``settle_ns``. RobotError with all that does not."""
        end_ns = self.wall_ns() + self._config.settle_ns
        while wrong := problems(checks.findings()):
            if self.wall_ns() >= end_ns:
                raise RobotError("not engaged", wrong, "the same is printed by `irevla doctor --robot`")
            yield from pause(self, REPEAT_S / 4)
        self.get_logger().info("checks before the first engagement: " + "; ".join(map(str, checks.findings())))
        checks.close()
        self._checks = None

    def _prepared(self, state: EpisodeState, failure: str) -> None:
        if failure:
            self.warn_rarely("reset", f"reset for {state.episode_id}: {failure}")
        self.health.check("reset", Level.ERROR if failure else Level.OK, failure)
        self._done = ResetDone("robot", failure, state.episode_id, state.sequence)
        self._say_done()

    def _say_done(self) -> None:
        assert self._done is not None
        self._said_wall_ns = self.wall_ns()
        self._reset_done(self._done)

    # ---- faults --------------------------------------------------------------------------------------------------

    def _note(self, fault: Fault | None) -> None:
        """Who lets go of the user stop does not mean by it that the arm may move."""
        if fault is not None and fault.by_hand:
            self._for_human = fault.what

    def _recover(self, episode_id: str) -> Steps:
        fault = self._arm.fault()
        self._note(fault)
        what, rule = (fault.what, "recovered from") if fault else ("the arm", "moved")
        if refusal := self._for_human or self._budget.refusal(episode_id):
            raise RobotError(what, f"it is not {rule} by itself: {refusal}", "look at the arm, then call robot/recover")
        self._budget.spend(episode_id)
        self.get_logger().warning(f"{what}: recovering for {episode_id}")
        try:
            yield from self._recovery.unattended()
        except IrevlaError as error:
            self._for_human = f"the last recovery failed ({error})"
            raise

    def _on_recover(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A human has looked: the budget is whole again, and the sequence runs now, but not in an episode."""
        busy = self._state is not None and self._state.phase in (Phase.RESET, Phase.READY, Phase.RUN)
        response.success = not busy and not self._config.dry_run
        if not response.success:
            response.message = "dry_run is true" if self._config.dry_run else "stop the episode first"
            return response
        self._budget.forgive()
        self._for_human = ""
        # Who has not engaged the arm yet may not be able to before: a robot with a fault has no fresh state.
        self._begin(self._recover_for_human(), self._recovered, needs_engage=self._consent.engaged)
        response.message = "recovering; see the node's diagnostics"
        return response

    def _recover_for_human(self) -> Steps:
        yield from self._permission()
        yield from self._recovery.steps()

    def _recovered(self, failure: str) -> None:
        if failure:
            self._for_human = f"the last recovery failed ({failure})"
        self.health.check("recovery", Level.ERROR if failure else Level.OK, failure)
        self.get_logger().info(f"recovery: {failure or 'done'}")

    # ---- watching ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        state, fault = self._state, self._arm.fault()
        self._note(fault)
        if state is not None and state.phase in (Phase.READY, Phase.RUN) and (broken := fault or self._abandoned(state)):
            self._broken = state.episode_id, broken
        self._heed()
        self._gate.close(self._closed(state, fault, (Phase.RUN, Phase.END)))  # after a run the arbiter still brakes
        self._gripper.closed = self._closed(state, fault, (Phase.RUN,))
        if state is None or self.wall_ns() - self._said_wall_ns < REPEAT_S * SECOND:
            return
        if state.phase is Phase.RESET and self._done is not None and self._done.episode_id == state.episode_id:
            self._say_done()
        elif state.phase in (Phase.READY, Phase.RUN) and not self._is_ready(state):
            self._end(Verb.STOP, "the franka node was restarted and has not reset the arm for this episode", state)
        elif state.phase in (Phase.READY, Phase.RUN) and not self._config.dry_run and (broken := self._fault_in(state)):
            self._end(Verb.FAULT, broken.what, state)  # also one that has gone by itself

    def _abandoned(self, state: EpisodeState) -> Fault | None:
        """Somebody else has deactivated the controller, which would go at once to what it is told meanwhile."""
        name, states = self._config.controller, self._controllers.states
        if self._config.dry_run or not name or not states or not self._is_ready(state) or states.get(name) == "active":
            return None
        return Fault(f"the controller {name} is {states.get(name, 'not loaded')}")

    def _fault_in(self, state: EpisodeState) -> Fault | None:
        return self._broken[1] if self._broken is not None and self._broken[0] == state.episode_id else None

    def _closed(self, state: EpisodeState | None, fault: Fault | None, opened: tuple[Phase, ...]) -> str:
        if self._config.dry_run:
            return "dry_run is true"
        if fault is not None:
            return fault.what
        if self._work is not None and self._work.running:
            return "the arm is being reset or recovered"
        if state is None or state.phase not in opened or not self._is_ready(state):
            return "no run is on"
        if broken := self._fault_in(state):  # meanwhile the arbiter's target may have gone a leash away
            return f"there was a fault in this run: {broken.what}"
        return ""

    def _end(self, verb: Verb, why: str, state: EpisodeState) -> None:
        self._said_wall_ns = self.wall_ns()
        self.health.counts[f"episodes.{verb.value}"] += 1
        self.warn_rarely("end", f"{state.episode_id}: {why}")
        self._request(Request(verb, why, state.episode_id))

    def update_health(self) -> None:
        self._arm.update_health()
        fault, closed = self._arm.fault(), self._gate.closed
        self.health.check("robot", Level.ERROR if fault else Level.OK,
                          fault.what if fault else f"hardware {self._controllers.hardware}")  # fmt: skip
        self.health.check("commands", Level.OK, f"not passed on: {closed}" if closed else "passed on")
        self.health.counts["recoveries"] = self._budget.total
        state = self._state
        if state is not None and state.phase is Phase.READY:
            self.health.check("scene", Level.WARN, f"put it right for {state.instruction!r}, then episode/confirm")
        else:
            self.health.check("scene", Level.OK)

    def on_shutdown(self) -> None:
        """What moves the arm is cancelled."""
        if self._work is not None:
            self._work.cancel()
        self._command.halt()
