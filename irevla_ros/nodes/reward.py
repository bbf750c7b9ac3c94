"""The reward node: judges every observation of a run by a detector and takes the operator's verdict."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irevla_ros.core.episode_state import EpisodeState, Judged, Phase, Verdict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import RewardValue, SimState
from irevla_ros.core.types import Observation, Outcome
from irevla_ros.jobs.graph_config import checkpoint_of
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import reward as parameters
from irevla_ros.nodes.parameters.reward import RewardConfig
from irevla_ros.nodes.streams import ObservationStreams
from irevla_ros.rewards.classifier import FILE, ClassifierReward
from irevla_ros.rewards.detector import Debounce
from irevla_ros.rewards.gate import NoEpisode, VerdictGate
from irevla_ros.rewards.human import HumanReward
from irevla_ros.rewards.oracle import OracleReward
from irevla_ros.rewards.progress import ProgressReward
from irevla_ros.ros.messages import Trigger
from irevla_ros.ros.run import run_node

EARLY = 4
_NO_IMAGES = Observation({}, np.zeros(0, np.float32), "")


class RewardNode(GraphNode):
    """Answers every observation of a run: ``reward/verdict`` or ``reward/judged``; the same again when it is sent again."""

    def __init__(self) -> None:
        super().__init__("reward")
        config = self.declare(parameters.settings)
        self.lock_step = config.lock_step
        oracle = config.detector == "oracle"
        self.detector = make_detector(config)
        self.gate = VerdictGate(self.detector)
        self._progress = ProgressReward(config.progress_reward) if config.progress_reward else None
        self._said: tuple[int, Verdict | Judged] | None = None
        self._early: deque[tuple[int, Observation, Mapping[str, Any]]] = deque(maxlen=EARLY)
        self._state: EpisodeState | None = None
        self._silence_ns, self._began_wall_ns = config.silence_ns, 0  # of the run
        self._verdict = self.speak(Verdict, topics.VERDICT)
        self._judged = self.speak(Judged, topics.JUDGED)
        self._value = self.speak(RewardValue, topics.REWARD)
        self._streams: ObservationStreams | None = None
        if oracle:
            self._meter = self.health.watch(topics.SIM_STATE, stale_ns=config.silence_ns, expected=self._expects_sim_state)
            self.listen(SimState, topics.SIM_STATE, self._on_sim_state)
        else:
            self._streams = ObservationStreams(self, config, self._on_observation, repeated=self._again)
        self.follow(self._on_state)
        self.create_service(Trigger, topics.SUCCESS, self._operator(True))
        self.create_service(Trigger, topics.FAILURE, self._operator(False))

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        was, self._state = self._state, state
        self.gate.follow(state)
        if self._streams is not None:
            self._streams.instruction = state.instruction
            restarted = was is not None and was.run_id != state.run_id
            if restarted or (state.phase is Phase.RESET and not self.lock_step):
                self._streams.forget()
        if state.phase is Phase.RUN and (was is None or was.phase is not Phase.RUN or was.episode_id != state.episode_id):
            self._said, self._began_wall_ns = None, self.wall_ns()
            if self._progress is not None:
                self._progress.reset()
            early = list(self._early)
            self._early.clear()
            for stamp_ns, observation, info in early:
                self._judge(stamp_ns, observation, info)

    def _on_sim_state(self, state: SimState) -> None:
        self.seen(state.stamp_ns)
        self._meter.arrived(self.wall_ns())
        info = {"task": state.task, "success": state.success, "failure": state.failure}
        self._judge(state.stamp_ns, _NO_IMAGES, info)

    def _expects_sim_state(self) -> bool:
        """Between runs the simulator says nothing of success."""
        return self.gate.running and self.wall_ns() - self._began_wall_ns > self._silence_ns

    def _on_observation(self, stamp_ns: int, observation: Observation) -> None:
        self._judge(stamp_ns, observation, {})

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _judge(self, stamp_ns: int, observation: Observation, info: Mapping[str, Any]) -> None:
        if not self.gate.running:
            self._early.append((stamp_ns, observation, info))  # its episode's state may still be on the way
            return
        if self._again(stamp_ns):
            return
        judgement = self.gate.observe(stamp_ns, observation, info)
        if judgement is None:
            return
        if self._progress is not None and (value := self._progress.earned(judgement.detection)) is not None:
            self._value(RewardValue(stamp_ns, value))
        self._said = stamp_ns, judgement.message
        self._say(judgement.message)

    def _again(self, stamp_ns: int) -> bool:
        """Say again what this observation was answered with. A verdict is repeated as long as the run goes on."""
        if self._said is None or not self.gate.running:
            return False
        answered_ns, message = self._said
        if stamp_ns != answered_ns and not isinstance(message, Verdict):
            return False
        self._say(message)
        return True

    def _say(self, message: Verdict | Judged) -> None:
        if isinstance(message, Verdict):
            self._verdict(message)
        else:
            self._judged(message)

    def _operator(self, success: bool) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                verdict = self.gate.operator(success, self.now_ns())
            except NoEpisode as error:
                response.success, response.message = False, str(error)
                return response
            if self.gate.running:
                self._said = verdict.stamp_ns, verdict
            self._verdict(verdict)
            outcome = Outcome.SUCCESS if success else Outcome.FAILURE
            response.success, response.message = True, f"{verdict.episode_id}: {outcome.value}"
            return response

        return answer

    def update_health(self) -> None:
        self.health.absorb("not_judged", self.gate.counts)
        if isinstance(found := self.detector.inner, (OracleReward, ClassifierReward)):
            self.health.counts["unusable"] = found.unusable


def make_detector(config: RewardConfig) -> Debounce:
    """The detector that ``config`` names; the cameras that a classifier reads must be among those of the graph."""
    if config.detector == "oracle":
        return Debounce(OracleReward(), config.hold or 1, config.release or 1)
    if config.detector == "human":
        return Debounce(HumanReward())
    from irevla_ros.policy.checkpoint import load_vla
    from irevla_ros.rewards.success_head import load_success_heads

    path = Path(config.classifier.path) / FILE
    folder = checkpoint_of(config.classifier.checkpoint or load_success_heads(path).spec.checkpoint)
    vla = load_vla(folder)[0].eval().requires_grad_(False)
    heads = load_success_heads(path, vla.backbone.fingerprint())
    size = vla.backbone.image_size[0]
    if not set(vla.cameras) <= set(config.cameras) or size != config.image_size:
        raise ConfigError(f"{path} for cameras {list(vla.cameras)} of {size} pixels",
                          f"the graph has {list(config.cameras)} of {config.image_size}",
                          "set cameras and image_size as in its training")  # fmt: skip
    return heads.detector(vla, config.hold, config.release)


def main() -> int:
    return run_node(RewardNode)


if __name__ == "__main__":
    sys.exit(main())
