"""The rest of the graph, for tests of the arm's side: one node that answers as policy, reward, recorder and learner do.

Run as a program this is a node of the arm's side in a process of its own: ``python arm_toys.py sim|arbiter|episode``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cell_toys import arguments
from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.episode_state import EpisodeState, Judge, Judged, Phase, Request, ResetDone, Start, Verb, Verdict
from irevla_ros.core.graph_messages import SimState
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import FloatArray, Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.ros import Node
from irevla_ros.ros.messages import Image, Int64, JointState, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, EVENT
from node_toys import Peer
from ros_toys import opened

SPEC = ActionSpec()
MS, SECOND = 1_000_000, 1_000_000_000
PERIOD = 100 * MS
NAMESPACE = "namespace"
HERE = Path(__file__).resolve()


@contextmanager
def graph(*factories: Callable[[], Node], **parameters: Any) -> Iterator[list[Any]]:
    """Real nodes in one context, all with the same parameters; ``__`` in a name is a dot, ``NAMESPACE`` is none."""
    made: list[Node] = []
    space = parameters.pop(NAMESPACE, "/")
    given = arguments(**{name.replace("__", "."): value for name, value in parameters.items()})
    with opened([*given, "-r", f"__ns:={space}"] if space != "/" else given):
        try:
            for factory in factories:
                made.append(factory())
            yield made
        finally:
            for node in made:
                node.destroy_node()


class Rest(Peer):
    """Policy, reward, recorder and learner at once, as far as the arm's side can tell.

    ``act(stamp_ns)`` gives the action [A] for an observation, None for silence. ``heard`` keeps messages by topic; ``states``
    every episode state. ``judge``: verdicts follow ``sim/state``; ``record``: observations are acknowledged; ``seal``: ends
    are sealed.
    """

    def __init__(self, lock_step: bool = True, act: Callable[[int], FloatArray | None] | None = None) -> None:
        super().__init__()
        self.lock_step = lock_step
        self.act = act or (lambda stamp_ns: None)
        self.judge = self.record = self.seal = True
        self.states: list[EpisodeState] = []
        self.state: EpisodeState | None = None
        self.targets: list[tuple[int, PoseStamped]] = []  # wall time of arrival
        qos = topics.observation_qos(lock_step)
        self.create_subscription(Image, topics.image("front"), self._on_image, qos)
        self.create_subscription(PoseStamped, topics.POSE, self.heard[topics.POSE].append, qos)
        self.create_subscription(JointState, topics.GRIPPER, self.heard[topics.GRIPPER].append, qos)
        self.create_subscription(PoseStamped, topics.TARGET, self._on_target, COMMAND)
        self.create_subscription(JointState, topics.GRIPPER_COMMAND, self.heard[topics.GRIPPER_COMMAND].append, COMMAND)
        self.listen(SimState, topics.SIM_STATE, self._on_sim_state)
        self.listen(ArbiterStep, topics.STEP, self.heard[topics.STEP].append)
        self.listen(Request, topics.REQUEST, self.heard[topics.REQUEST].append)
        self.listen(ResetDone, topics.RESET_DONE, self.heard[topics.RESET_DONE].append)
        self.follow(self._on_state)
        self.chunks = self.create_publisher(JointTrajectory, topics.ACTION, COMMAND)
        self.recorded = self.create_publisher(Int64, topics.RECORDED, EVENT)
        self.order = self.speak(Start, topics.ORDER)
        self.request = self.speak(Request, topics.REQUEST)
        self.verdict = self.speak(Verdict, topics.VERDICT)
        self.judged = self.speak(Judged, topics.JUDGED)

    def running(self) -> bool:
        return self.state is not None and self.state.phase is Phase.RUN

    def phase(self, phase: Phase, number: int | None = None) -> Callable[[], bool]:
        """Whether the graph is in ``phase`` (of the episode of that number) now."""
        def there() -> bool:
            state = self.state
            right = state is not None and (number is None or state.episode_id.endswith(f"-{number:06d}"))
            return right and state is not None and state.phase is phase

        return there

    def send(self, stamp_ns: int, actions: Any, names: tuple[str, ...] = SPEC.names) -> None:
        self.chunks.publish(convert.chunk_message(ActionChunk(stamp_ns, names, np.atleast_2d(actions), PERIOD)))

    def ask(self, task: str = "press-red", mode: Mode = Mode.TRAIN, seed: int = 3, **values: Any) -> None:
        """Order an episode."""
        self.order(Start(task, f"do {task}", mode, seed, **values))

    def _on_state(self, state: EpisodeState) -> None:
        self.state = state
        self.states.append(state)
        if state.phase is Phase.END and self.seal:
            self.request(Request(Verb.SEALED, "", state.episode_id, state.sequence))

    def _on_image(self, message: Image) -> None:
        stamp_ns = convert.stamp_of(message.header)
        self.seen(stamp_ns)
        self.heard["images"].append((stamp_ns, message))
        if not self.running() and not self.lock_step:
            return
        action = self.act(stamp_ns)
        if action is not None:
            self.send(stamp_ns, action)
        if self.record and self.lock_step:
            self.recorded.publish(Int64(data=stamp_ns))

    def _on_target(self, message: PoseStamped) -> None:
        self.targets.append((self.wall_ns(), message))

    def _on_sim_state(self, known: SimState) -> None:
        self.heard[topics.SIM_STATE].append(known)
        state = self.state
        if not self.judge or state is None:
            return
        if known.success or known.failure:
            self.verdict(Verdict(known.success, Judge.REWARD, known.stamp_ns, state.episode_id))
        else:
            self.judged(Judged(known.stamp_ns, state.episode_id))


def discovered(rest: Rest, *listening: str) -> Callable[[], bool]:
    """Whether somebody publishes the episode's state and each of ``listening`` has a subscriber."""
    wanted = [topics.REQUEST, *listening]
    return lambda: rest.count_publishers(topics.STATE) > 1 and all(rest.count_subscribers(name) > 0 for name in wanted)


if __name__ == "__main__":
    import importlib
    import sys

    name = sys.argv[1]
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    sys.exit(importlib.import_module(f"irevla_ros.nodes.{name}").main())
