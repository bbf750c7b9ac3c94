from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arm_toys import graph as nodes
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import Judge, Judged, Phase, Request, Start, Verb, Verdict
from irevla_ros.core.errors import CheckpointError, ConfigError
from irevla_ros.core.graph_messages import RewardValue, SimState
from irevla_ros.core.health import Level
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.types import Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.reward import RewardNode
from irevla_ros.ros.messages import Image, JointState, PoseStamped
from learner_toys import fresh_policy
from node_toys import Peer, connected
from ros_toys import spin_for, spin_until
from test_architecture import modules_after

TASK = "press-red"
INSTRUCTION = "press the red button"


class World(Peer):
    """Simulator and episode node in one."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts = self.hear(Verdict, topics.VERDICT)
        self.judged = self.hear(Judged, topics.JUDGED)
        self.values = self.hear(RewardValue, topics.REWARD)
        self.say_sim = self.speak(SimState, topics.SIM_STATE)
        qos = topics.observation_qos(True)
        self._images = self.create_publisher(Image, topics.image("front"), qos)
        self._poses = self.create_publisher(PoseStamped, topics.POSE, qos)
        self._grippers = self.create_publisher(JointState, topics.GRIPPER, qos)

    def sim(self, stamp_ns: int, success: bool = False, failure: bool = False, task: str = TASK) -> None:
        self.say_sim(SimState(stamp_ns, task, success, failure))

    def observe(self, stamp_ns: int, brightness: int = 0) -> None:
        pixels = np.full((64, 64, 3), brightness, np.uint8)
        self._poses.publish(convert.pose_message(Pose((0.5, 0.0, 0.2), POINTING_DOWN), stamp_ns, "base"))
        self._grippers.publish(convert.width_message(0.08, stamp_ns))
        self._images.publish(convert.image_message(pixels, stamp_ns, "front"))


@contextmanager
def graph(topic: str = topics.SIM_STATE, **parameters: Any) -> Iterator[tuple[RewardNode, World]]:
    with nodes(RewardNode, World, **{"lock_step": True, **parameters}) as (reward, world):
        assert isinstance(reward, RewardNode) and isinstance(world, World)
        ready = [connected(world, t) for t in (topic, topics.STATE)] + [connected(reward, topics.VERDICT),
                                                                        connected(reward, topics.JUDGED)]  # fmt: skip
        spin_until(lambda: all(one() for one in ready), reward, world)
        yield reward, world


def begin(reward: RewardNode, world: World) -> Any:
    state = world.start()
    spin_until(lambda: reward.gate.running, reward, world)
    return state


def test_the_simulators_silence_is_stale_in_a_run_alone() -> None:
    with graph(lock_step=False, silence_s=0.3) as (reward, world):
        spin_for(0.5, reward, world)
        assert reward.health.report(reward.wall_ns()).level is Level.OK  # a session in which nothing has run yet
        begin(reward, world)
        spin_until(lambda: reward.health.report(reward.wall_ns()).level is Level.STALE, reward, world)
        world.sim(10)
        spin_until(lambda: reward.health.report(reward.wall_ns()).level is Level.OK, reward, world)


def test_the_oracle_answers_every_observation_and_again_when_it_is_sent_again() -> None:
    with graph() as (reward, world):
        state = begin(reward, world)
        world.sim(10)
        spin_until(lambda: len(world.judged) == 1, reward, world)
        world.sim(10)
        spin_until(lambda: len(world.judged) == 2, reward, world)
        assert world.judged == [Judged(10, "run1-000000", state.sequence)] * 2
        world.sim(20, success=True)  # one such state is enough: the simulator's success already lasts
        spin_until(lambda: world.verdicts, reward, world)
        world.sim(20, success=True)
        spin_until(lambda: len(world.verdicts) == 2, reward, world)
        assert world.verdicts == [Verdict(True, Judge.REWARD, 20, "run1-000000", state.sequence)] * 2
        world.sim(30)  # the run goes on: the verdict seems to be lost
        spin_until(lambda: len(world.verdicts) == 3, reward, world)
        assert world.play(world.verdicts[-1], 30).ended_ns == 20
        spin_until(lambda: not reward.gate.running, reward, world)
        world.sim(40)
        spin_for(0.3, reward, world)
        assert (len(world.judged), len(world.verdicts), world.values) == (2, 3, [])


def test_observations_that_come_before_the_news_of_their_run_are_judged_then() -> None:
    with graph() as (reward, world):
        world.sim(10)
        world.sim(20, failure=True)
        spin_until(lambda: reward.now_ns() == 20, reward, world)
        assert not world.judged
        begin(reward, world)
        spin_until(lambda: world.verdicts and world.judged, reward, world)
        assert [judged.stamp_ns for judged in world.judged] == [10]
        assert (world.verdicts[0].stamp_ns, world.verdicts[0].success) == (20, False)


def test_the_operators_verdict_counts_before_during_and_after_the_end() -> None:
    with graph() as (reward, world):
        refused = world.trigger("reward/success", reward)
        assert (refused.success, "no episode has run yet" in refused.message) == (False, True)
        begin(reward, world)
        world.sim(10)
        spin_until(lambda: world.judged, reward, world)
        answer = world.trigger("reward/success", reward)
        assert (answer.success, answer.message) == (True, "run1-000000: success")
        spin_until(lambda: world.verdicts, reward, world)
        assert world.verdicts[-1] == Verdict(True, Judge.OPERATOR, 10, "run1-000000")
        assert world.play(world.verdicts[-1], 10).phase is Phase.END
        world.play(Request(Verb.SEALED), 10)
        spin_until(lambda: not reward.gate.running, reward, world)
        heard = len(world.verdicts)
        assert world.trigger("reward/failure", reward).message == "run1-000000: failure"
        spin_until(lambda: len(world.verdicts) > heard, reward, world)
        assert world.verdicts[-1] == Verdict(False, Judge.OPERATOR, 10, "run1-000000")


def test_a_state_of_another_task_and_a_malformed_one_show_nothing_and_are_counted() -> None:
    with graph() as (reward, world):
        begin(reward, world)
        world.sim(10, success=True, task="push-blue")
        spin_until(lambda: world.judged, reward, world)
        reward.update_health()
        assert (world.verdicts, reward.health.counts["unusable"]) == ([], 1)


def test_a_person_judges_alone_and_time_goes_on() -> None:
    with graph(topics.image("front"), detector="human") as (reward, world):
        begin(reward, world)
        for stamp in range(100, 600, 100):
            world.observe(stamp)
            spin_until(lambda at=stamp: world.judged and world.judged[-1].stamp_ns == at, reward, world)
        world.observe(500)  # sent again: answered again
        spin_until(lambda: len(world.judged) == 6, reward, world)
        assert world.trigger("reward/failure", reward).success
        spin_until(lambda: world.verdicts, reward, world)
        assert [judged.stamp_ns for judged in world.judged] == [100, 200, 300, 400, 500, 500]


def test_a_new_run_whose_clock_starts_over_is_judged() -> None:
    """What was seen of the run before it, and was newer, is forgotten."""
    with graph(topics.image("front"), detector="human") as (reward, world):
        begin(reward, world)
        world.observe(5000)
        spin_until(lambda: [judged.stamp_ns for judged in world.judged] == [5000], reward, world)
        world.machine = EpisodeMachine(EpisodeConfig(()), "run2", 0, 0, 0, first_sequence=100)
        world.start()

        def judged(stamp: int) -> bool:
            world.observe(stamp)  # again until it is answered: the news of the run may come after it
            return bool(world.judged[-1].stamp_ns == stamp)

        for stamp in (100, 200):
            spin_until(lambda at=stamp: judged(at), reward, world)
        answered = dict.fromkeys((judged.episode_id, judged.stamp_ns) for judged in world.judged)
        assert list(answered) == [("run1-000000", 5000), ("run2-000000", 100), ("run2-000000", 200)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learns that success is a white picture and a black one is none."""
    torch = pytest.importorskip("torch")
    from irevla_ros.core.types import Observation
    from irevla_ros.jobs.graph_config import shipped_policy
    from irevla_ros.jobs.reward_data import FrameLabels, LabelledEpisode
    from irevla_ros.jobs.reward_training import RewardTraining, train_heads
    from irevla_ros.policy.checkpoint import load_vla
    from irevla_ros.rewards.classifier import FILE
    from irevla_ros.rewards.success_head import save_success_heads

    torch.set_num_threads(1)
    vla = load_vla(shipped_policy())[0].eval()
    proprio = np.zeros(6, np.float32)

    def seen(light: int) -> np.ndarray:
        pixels = np.full((64, 64, 3), light, np.uint8)
        latents: np.ndarray = vla.act([Observation({"front": pixels}, proprio, INSTRUCTION)])[1][0].numpy()
        return latents

    black, white = seen(0), seen(255)
    episodes = [LabelledEpisode(str(k), TASK, k % 2 == 0, np.stack([black] * 6 + [white if k % 2 == 0 else black] * 4),
                                np.zeros((10, 6), np.float32)) for k in range(8)]  # fmt: skip
    config = RewardTraining(labels=FrameLabels(0, 4, 0), hold=3, folds=2, repeats=1, steps=60, batch=16)
    heads, _ = train_heads(episodes, config, vla.backbone.fingerprint(), "shipped")
    folder = tmp_path_factory.mktemp("reward")
    save_success_heads(folder / FILE, heads)
    return folder


def test_a_learned_classifier_needs_three_in_a_row_and_pays_for_progress(classifier: Path) -> None:
    with graph(topics.image("front"), detector="classifier", progress_reward=2.0,
               classifier__path=str(classifier)) as (reward, world):  # fmt: skip
        begin(reward, world)
        for stamp, light in ((100, 0), (200, 255), (300, 0), (400, 255), (500, 255), (600, 255)):
            world.observe(stamp, light)
            spin_until(lambda at=stamp: len(world.judged + world.verdicts) == at // 100, reward, world)
        assert [judged.stamp_ns for judged in world.judged] == [100, 200, 300, 400, 500]
        assert (world.verdicts[0].success, world.verdicts[0].stamp_ns) == (True, 600)
        spin_until(lambda: len(world.values) >= 3, reward, world)
        assert [value.stamp_ns for value in world.values][:3] == [200, 300, 400]
        assert np.allclose([value.value for value in world.values][:3], [2, -2, 2], atol=0.5)


def test_a_classifier_of_another_graph_or_backbone_is_refused(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set cameras and image_size as in its training"), nodes(
        RewardNode, detector="classifier", image_size=32, classifier__path=str(classifier)
    ):
        pass
    with pytest.raises(ConfigError, match="needs a folder"), nodes(RewardNode, detector="classifier"):
        pass
    with pytest.raises(CheckpointError, match="mean nothing to it"), nodes(
        RewardNode, detector="classifier", classifier__path=str(classifier),
        classifier__checkpoint=str(fresh_policy(tmp_path / "other")),
    ):  # fmt: skip
        pass
    with graph(topics.image("front"), detector="classifier", classifier__path=str(classifier)) as (reward, world):
        world.play(Start("open-door", "open the door", Mode.TRAIN, 0))
        spin_until(lambda: reward.gate.running, reward, world)
        world.observe(100, 255)
        spin_until(lambda: world.judged, reward, world)
        reward.update_health()
        assert reward.health.counts["unusable"] == 1  # a task that it does not know


def test_health_tells_when_nothing_comes() -> None:
    with graph(silence_s=0.2) as (reward, world):
        health = world.health_of("/reward")
        spin_until(lambda: health().get("message") == "waiting for a run", reward, world)
        assert health()["level"] == "0"
        begin(reward, world)
        spin_until(lambda: health().get("level") == "3", reward, world)
        assert "sim/state: nothing yet" in health()["message"]


def test_without_a_classifier_no_torch_is_loaded() -> None:
    assert "torch" not in modules_after("import irevla_ros.nodes.reward")
