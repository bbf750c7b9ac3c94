"""Which episodes are wanted, which arm is at which, and what has to be ordered now: events in, orders out.

An episode without outcome (stopped, refused, recovered, lost) is ordered again with the same seed, at first at once and
then slower and slower. Nothing is ever given up: who watches is told (``problems``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from irevla_ros.core.episode_state import EpisodeState, Phase, Start
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import Sealed
from irevla_ros.core.types import Mode

ACCEPTED, ABSENT = "", "absent"
SLOWEST_S = 30.0


@dataclass(frozen=True)
class Wanted:
    """One episode to have. ``versions``: the policy's, of which all its steps must be; None: any."""

    task: str
    instruction: str
    mode: Mode
    seed: int
    deterministic: bool
    time_limit_ns: int
    versions: frozenset[int] | None = None

    def start(self) -> Start:
        return Start(self.task, self.instruction, self.mode, self.seed, self.time_limit_ns, self.deterministic, "learner")

    def fits(self, state: EpisodeState) -> bool:
        return (state.task, state.seed, state.mode) == (self.task, self.seed, self.mode)


@dataclass(frozen=True)
class OrderConfig:
    """repeat_s: an order that nobody took is sent again after this, and then after twice as long, and so on. grace_s: an
    episode that is over has this long to appear in the spool. patience_s: an arm that has said nothing for so long in the
    middle of an episode loses it to another arm. alarm: fruitless orders in a row that are a problem."""

    repeat_s: float = 1.0
    grace_s: float = 3.0
    patience_s: float = 900.0
    alarm: int = 20

    def __post_init__(self) -> None:
        if min(self.repeat_s, self.grace_s, self.patience_s) <= 0 or self.alarm < 1:
            raise ConfigError(f"orders: {self}", "durations are positive and the alarm is at least 1", "see the defaults")


@dataclass
class _Arm:
    state: EpisodeState | None = None
    changed_s: float = 0.0  # when the state last did
    ticket: int | None = None  # index of what it was ordered
    episode: str = ""  # that it runs for the ticket; "" until the order was taken
    before: str = ""  # its episode when it was ordered
    over_s: float | None = None  # since when that episode is over
    next_s: float = 0.0  # no order before this
    sent: int = 0  # times that the order was sent
    fruitless: int = 0  # episodes in a row that gave nothing
    why: str = ""

    def free(self) -> None:
        self.ticket, self.episode, self.over_s, self.sent = None, "", None, 0


@dataclass
class OrderBook:
    """``examine(episode_id, wanted)`` looks into the spool: ACCEPTED, ABSENT, or why the episode does not count."""

    arms: Sequence[str]
    examine: Callable[[str, Wanted], str]
    config: OrderConfig = field(default_factory=OrderConfig)

    def __post_init__(self) -> None:
        self.wanted: tuple[Wanted, ...] = ()
        self.accepted: dict[int, str] = {}  # index -> id of its episode
        self.rejected = 0
        self._arms = {name: _Arm() for name in self.arms}

    def want(self, wanted: Sequence[Wanted], found: Mapping[int, str] | None = None) -> None:
        """From now on these and no others; ``found`` are in the spool already. What runs and fits is kept."""
        self.wanted, self.accepted = tuple(wanted), dict(found or {})
        for arm in self._arms.values():
            arm.free()
            self._adopt(arm)

    @property
    def complete(self) -> bool:
        return len(self.accepted) == len(self.wanted)

    def recheck(self) -> bool:
        """Are all accepted episodes still what they were? Those discarded or judged anew since are wanted again."""
        for index, episode in list(self.accepted.items()):
            if self.examine(episode, self.wanted[index]) != ACCEPTED:
                del self.accepted[index]
        return self.complete

    # ---- events --------------------------------------------------------------------------------------------------

    def on_state(self, name: str, state: EpisodeState, now_s: float) -> None:
        arm = self._arms[name]
        arm.state, arm.changed_s = state, now_s
        if arm.ticket is None:
            self._adopt(arm)
        elif arm.episode:
            if state.episode_id != arm.episode or state.phase is Phase.IDLE:
                arm.over_s = now_s if arm.over_s is None else arm.over_s
                self._settle(arm, now_s)
        elif state.episode_id != arm.before:
            if self.wanted[arm.ticket].fits(state):
                arm.episode = state.episode_id
                if state.phase is Phase.IDLE:  # it ran faster than its states came
                    arm.over_s = now_s
                    self._settle(arm, now_s)
            elif state.phase is not Phase.IDLE:  # the operator's own
                arm.free()

    def on_sealed(self, name: str, sealed: Sealed, now_s: float) -> None:
        arm = self._arms[name]
        if arm.ticket is None or arm.episode != sealed.episode_id:
            return
        if sealed.steps == 0 or sealed.refusal:
            self._reject(arm, sealed.refusal or "nothing was recorded", now_s)
        else:
            self._settle(arm, now_s)

    def due(self, now_s: float) -> list[tuple[str, Start]]:
        """The orders to send now, at most one for each arm."""
        orders = []
        for name, arm in self._arms.items():
            if arm.over_s is not None:
                self._settle(arm, now_s)
            if arm.state is None:
                continue
            if arm.state.phase is not Phase.IDLE or arm.episode:
                if arm.ticket is not None and now_s - arm.changed_s > self.config.patience_s:
                    arm.why = f"no news for {self.config.patience_s:.0f} s"
                    arm.free()
                continue
            if arm.ticket is None and (index := self._open()) is not None:
                arm.ticket, arm.before = index, arm.state.episode_id
            if arm.ticket is not None and now_s >= arm.next_s:
                arm.sent += 1
                arm.next_s = now_s + min(SLOWEST_S, self.config.repeat_s * 2 ** min(10, arm.sent - 1))
                orders.append((name, self.wanted[arm.ticket].start()))
        return orders

    def silent(self) -> list[str]:
        """Arms whose episode node has not been heard."""
        return [name for name, arm in self._arms.items() if arm.state is None]

    def problems(self) -> list[str]:
        """One sentence for each arm that has been ordered in vain too often."""
        found = []
        for name, arm in self._arms.items():
            who = name or "the arm"
            if arm.fruitless >= self.config.alarm:
                found.append(f"{who}: {arm.fruitless} episodes in a row without a result, the last: {arm.why}")
            elif arm.sent >= self.config.alarm:
                found.append(f"{who}: an order was sent {arm.sent} times and not taken")
        return found

    # ---- what becomes of an episode --------------------------------------------------------------------------------

    def _open(self) -> int | None:
        taken = {arm.ticket for arm in self._arms.values()}
        return next((i for i in range(len(self.wanted)) if i not in self.accepted and i not in taken), None)

    def _adopt(self, arm: _Arm) -> None:
        """An episode that runs already, ordered before a restart of the learner or for what was wanted before."""
        state = arm.state
        if state is None or state.phase is Phase.IDLE:
            return
        taken = {other.ticket for other in self._arms.values()}
        for index, wanted in enumerate(self.wanted):
            if index not in self.accepted and index not in taken and wanted.fits(state):
                arm.ticket, arm.episode, arm.over_s = index, state.episode_id, None
                return

    def _settle(self, arm: _Arm, now_s: float) -> None:
        assert arm.ticket is not None
        found = self.examine(arm.episode, self.wanted[arm.ticket])
        if found == ACCEPTED:
            self.accepted.setdefault(arm.ticket, arm.episode)
            arm.fruitless, arm.why, arm.next_s = 0, "", now_s
            arm.free()
        elif found != ABSENT:
            self._reject(arm, found, now_s)
        elif arm.over_s is not None and now_s - arm.over_s > self.config.grace_s:
            said = arm.state.detail if arm.state is not None else ""
            self._reject(arm, said or "it is not in the spool", now_s)

    def _reject(self, arm: _Arm, why: str, now_s: float) -> None:
        self.rejected += 1
        arm.fruitless, arm.why = arm.fruitless + 1, why
        wait = 0.0 if arm.fruitless == 1 else 0.25 * 2 ** min(10, arm.fruitless - 2)
        arm.next_s = now_s + min(SLOWEST_S, wait)
        arm.free()
