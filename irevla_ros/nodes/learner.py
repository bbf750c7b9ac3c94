"""The learner: drives Algorithm 1 with the arms of the graph. What it decides is in ``jobs.graph_learning``."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import Any

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Start
from irevla_ros.core.graph_messages import Announcement, LearnerStatus, PolicyVersion, Proposal, Sealed
from irevla_ros.core.health import Level
from irevla_ros.jobs.graph_learning import GraphLearner, Order, Work
from irevla_ros.jobs.graph_setup import open_learner
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import learner as parameters
from irevla_ros.ros.qos import LATCHED
from irevla_ros.ros.run import run_node
from irevla_ros.ros.worker import LatestWorker

STOPPED = 3  # exit code
PERIOD_S = 0.1  # orders are repeated and given back by time


class LearnerNode(GraphNode):
    """Parameters: ``LearnerConfig``."""

    def __init__(self) -> None:
        super().__init__("learner")
        config = self.declare(parameters.settings)
        self.learner: GraphLearner = open_learner(config)
        self._config, self._exiting = config, False
        self._order = {arm: self.speak(Start, topics.of(arm, topics.ORDER)) for arm in config.arms}
        self._say: dict[type, Any] = {
            Announcement: self.speak(Announcement, topics.ANNOUNCEMENT, LATCHED),
            LearnerStatus: self.speak(LearnerStatus, topics.STATUS, LATCHED),
            Proposal: self.speak(Proposal, topics.PROPOSAL, LATCHED),
        }
        self._training: LatestWorker[Work, Any] = LatestWorker(self, lambda work: work.do(), self._worked)
        for arm in config.arms:
            self.follow(partial(self._on_state, arm), arm)
            self.listen(Sealed, topics.of(arm, topics.SEALED), partial(self._on_sealed, arm))
        self.listen(PolicyVersion, topics.VERSION, self.learner.on_version, LATCHED)
        self.every(PERIOD_S, self._act)

    def _on_state(self, arm: str, state: EpisodeState) -> None:
        self.learner.on_state(arm, state, self._now_s())
        self._act()

    def _on_sealed(self, arm: str, sealed: Sealed) -> None:
        self.learner.on_sealed(arm, sealed, self._now_s())
        self._act()

    def _worked(self, result: Any) -> None:
        self.learner.worked(result)
        self._act()

    def _act(self) -> None:
        for request in self.learner.requests(self._now_s()):
            if isinstance(request, Work):
                self._training.submit(request)
            elif isinstance(request, Order):
                self._order[request.arm](request.start)
            else:
                self._say[type(request)](request)
        if self.learner.finished and self._config.exit_when_finished and not self._exiting:
            self._exiting = True
            signal.raise_signal(signal.SIGINT)  # as an operator would end it: with last words and exit code 0

    def _now_s(self) -> float:
        return self.wall_ns() / SECOND

    def update_health(self) -> None:
        problems, status = self.learner.problems(), self.learner.status()
        self.health.check("orders", Level.ERROR if problems else Level.OK, "; ".join(problems))
        silent = self.learner.book.silent()
        self.health.check("arms", Level.STALE if silent else Level.OK,
                          f"nothing heard of {', '.join(name or 'the arm' for name in silent)}" if silent else "")  # fmt: skip
        self.health.check("learning", Level.OK, f"{status.stage} {status.task} {status.done}/{status.of} {status.detail}")
        self.health.counts["orders.rejected"] = self.learner.book.rejected

    def on_shutdown(self) -> None:
        self.learner.close()
        self._training.close(timeout_sec=20.0)
        self.learner.record.close()


def main() -> int:
    """0 when the method is done, so that the graph may end; STOPPED when a signal came before that."""
    made: list[LearnerNode] = []

    def make() -> LearnerNode:
        made.append(LearnerNode())
        return made[0]

    code = run_node(make)
    return STOPPED if not code and made and not made[0].learner.finished else code


if __name__ == "__main__":
    sys.exit(main())
