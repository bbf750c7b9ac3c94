"""The policy of the whole graph: observations of all arms in, action chunks and side segments out.

Weights are loaded as they are announced and taken over by an arm in its next reset; an episode keeps those that it began
with. What is announced and cannot be verified is refused, and what acted before goes on.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from irevla_ros.core.durations import period_ns
from irevla_ros.core.errors import CheckpointError, IrevlaError
from irevla_ros.core.graph_messages import Announcement, PolicyVersion
from irevla_ros.core.health import Level
from irevla_ros.core.types import FloatArray, HalfArray
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import policy as parameters
from irevla_ros.nodes.parameters.reading import run_folder
from irevla_ros.nodes.policy_arm import PolicyArm, Wanted
from irevla_ros.policy.acting import Acting, act, load_acting, load_announced, set_threads
from irevla_ros.ros.qos import LATCHED
from irevla_ros.ros.run import run_node
from irevla_ros.ros.worker import LatestWorker

KEPT = 512  # durations of inference, for the percentiles in the diagnostics
GATHER_S = 0.1  # lock step: what has come waits no longer for other arms
Encoded = list[tuple[Wanted, tuple[FloatArray, HalfArray]]]


class PolicyNode(GraphNode):
    """Graph-level; serves ``arms``, each by a ``PolicyArm``. All that waits is encoded in one batch."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._config = config = self.declare(parameters.settings)
        self.lock_step = config.lock_step
        set_threads(config.threads)
        self._run = run_folder(config.run)
        self._newest: Acting | None = None
        self._failure = ""
        self._wanted: Announcement | None = None
        self._loading = bool(config.checkpoint)
        self._resetting: list[PolicyArm] = []
        self._took_s: deque[float] = deque(maxlen=KEPT)
        self._encoder = LatestWorker(self, self._encode, self._encoded, self._not_encoded)
        self._gather = self.every(GATHER_S, self._submit)
        self._gather.cancel()
        self._loader = LatestWorker(self, self._load, self._loaded)
        self._say_version = self.speak(PolicyVersion, topics.VERSION, LATCHED)
        self._arms = [
            PolicyArm(self, config, arm, self._run / "practice", period_ns(config.rate_hz), self._on_reset, self._on_work)
            for arm in config.arms
        ]
        if self._loading:
            self._loader.submit(None)
        self.listen(Announcement, topics.ANNOUNCEMENT, self._on_announcement, LATCHED)

    # ---- weights -------------------------------------------------------------------------------------------------

    def _on_announcement(self, announced: Announcement) -> None:
        if self._loading and announced == self._wanted:
            return  # said again: the arms' resets wait for it already
        self._wanted, self._loading = announced, True
        self._loader.submit(announced)

    def _load(self, announced: Announcement | None) -> tuple[Announcement | None, Acting | IrevlaError]:
        config = self._config
        try:
            if announced is None:
                acting = load_acting(self._run / config.checkpoint, config.std, config.device)
            elif announced.run_id != config.run_id:
                raise CheckpointError(f"announcement of run {announced.run_id!r}", f"this is run {config.run_id!r}",
                                      "stop the other learner")  # fmt: skip
            else:
                acting = load_announced(self._run, announced, self._newest, config.std, config.device)
            self._fit(acting)
            return announced, acting
        except IrevlaError as error:
            return announced, error

    def _fit(self, acting: Acting) -> None:
        """Whether the observations here are those that this policy sees."""
        config, vla = self._config, acting.vla
        size = (config.image_size,) * 2
        if not set(vla.cameras) <= set(config.cameras) or (config.image_size and vla.backbone.image_size != size):
            raise CheckpointError(f"{acting.checkpoint} sees cameras {vla.cameras} of {vla.backbone.image_size} pixels",
                                  f"here are {config.cameras} of {size}", "set cameras and image_size to fit")  # fmt: skip

    def _loaded(self, result: tuple[Announcement | None, Acting | IrevlaError]) -> None:
        announced, acting = result
        if isinstance(acting, Acting):
            self._newest, self._failure = acting, ""
        else:
            self._failure = str(acting)
            self.refuse("announcement", acting)
        newest = self._newest
        version, fingerprint = (newest.version, newest.fingerprint) if newest is not None else (-1, "")
        self._say_version(PolicyVersion(self._config.run_id, version, fingerprint, self._failure))
        self._loading = announced is not self._wanted
        if not self._loading:
            resetting, self._resetting = self._resetting, []
            for arm in resetting:
                self._on_reset(arm)

    def _on_reset(self, arm: PolicyArm) -> None:
        if self._loading:
            self._resetting.append(arm)
        elif self._newest is None:
            arm.fail(f"no policy is loaded: {self._failure or 'none was announced'}")
        else:
            arm.begin(self._newest)

    # ---- observations --------------------------------------------------------------------------------------------

    def _on_work(self) -> None:
        """In lock step half of the arms wait for each other, as a batch of three costs little more than one of one; the other
        half is simulated meanwhile."""
        waiting, running = sum(bool(arm.waiting) for arm in self._arms), sum(arm.running for arm in self._arms)
        if not self.lock_step or 2 * waiting >= running:
            self._submit()
        elif self._gather.is_canceled():
            self._gather.reset()

    def _submit(self) -> None:
        self._gather.cancel()
        self._encoder.submit(None)

    def _encode(self, _: None) -> Encoded:
        wanted = [one for arm in self._arms for one in _taken(arm)]
        began = time.monotonic()
        results = act([(one.acting, one.observation) for one in wanted])
        self._took_s.append(time.monotonic() - began)
        return list(zip(wanted, results, strict=True))

    def _encoded(self, results: Encoded) -> None:
        for wanted, (mean, latents) in results:
            wanted.arm.encoded(wanted, mean, latents)

    def _not_encoded(self, error: Exception) -> None:
        if not isinstance(error, IrevlaError):
            raise error
        self.refuse("observation", error)

    # ---- health --------------------------------------------------------------------------------------------------

    def update_health(self) -> None:
        for arm in self._arms:
            arm.check()
            arm.remind()
        if self._took_s:
            p50, p99 = np.percentile(list(self._took_s), (50, 99)) * 1000
            self.health.absorb("inference", {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)})
        newest = self._newest
        acts = f"version {newest.version}, {newest.checkpoint}" if newest is not None else "nothing is loaded"
        level = Level.ERROR if self._failure else Level.OK if newest is not None else Level.WARN
        self.health.check("policy", level, f"{acts}; refused: {self._failure}" if self._failure else acts)

    def on_shutdown(self) -> None:
        self._encoder.close(1.0)
        self._loader.close(1.0)
        for arm in self._arms:
            arm.leave()


def _taken(arm: PolicyArm) -> Sequence[Wanted]:
    taken: list[Wanted] = []
    while True:
        try:
            taken.append(arm.waiting.popleft())
        except IndexError:  # the executor's thread may clear it meanwhile
            return taken


def main() -> int:
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
