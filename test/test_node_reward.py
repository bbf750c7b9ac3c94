from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arm_toys import graph as nodes
from irevla_ros.core.episode_state import Judge, Judged, Phase, Request, Verb, Verdict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import RewardValue, SimState
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.reward import RewardNode
from irevla_ros.ros.messages import Image, JointState, PoseStamped
from node_toys import Peer, connected
from ros_toys import spin_for, spin_until
from test_architecture import modules_after

TASK = "press-red"


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
        pixels = np.full((32, 32, 3), brightness, np.uint8)
        self._poses.publish(convert.pose_message(Pose((0.5, 0.0, 0.2), POINTING_DOWN), stamp_ns, "base"))
        self._grippers.publish(convert.width_message(0.08, stamp_ns))
        self._images.publish(convert.image_message(pixels, stamp_ns, "front"))


@contextmanager
def graph(topic: str = topics.SIM_STATE, **parameters: Any) -> Iterator[tuple[RewardNode, World]]:
    with nodes(RewardNode, World, lock_step=True, **parameters) as (reward, world):
        assert isinstance(reward, RewardNode) and isinstance(world, World)
        ready = [connected(world, t) for t in (topic, topics.STATE)] + [connected(reward, topics.VERDICT),
                                                                        connected(reward, topics.JUDGED)]  # fmt: skip
        spin_until(lambda: all(one() for one in ready), reward, world)
        yield reward, world


def begin(reward: RewardNode, world: World) -> Any:
    state = world.start()
    spin_until(lambda: reward.gate.running, reward, world)
    return state


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
    with graph(topics.image("front"), detector="human", image_size=32) as (reward, world):
        begin(reward, world)
        for stamp in range(100, 600, 100):
            world.observe(stamp)
            spin_until(lambda at=stamp: world.judged and world.judged[-1].stamp_ns == at, reward, world)
        world.observe(500)  # sent again: answered again
        spin_until(lambda: len(world.judged) == 6, reward, world)
        assert world.trigger("reward/failure", reward).success
        spin_until(lambda: world.verdicts, reward, world)
        assert [judged.stamp_ns for judged in world.judged] == [100, 200, 300, 400, 500, 500]


def brightness_classifier(path: Path, instruction: str = "press the red button") -> None:
    """Learns that success is a white picture and a black one is none."""
    torch = pytest.importorskip("torch")
    from irevla_ros.policy.tensor_file import write_tensors
    from irevla_ros.rewards.success_net import SuccessNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = SuccessNet(("front",), 32, (instruction,), channels=2)
    rows = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1, 1).expand(2, 1, 32, 32, 3)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(500):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(rows), torch.tensor([0.0, 1.0]))
        if loss < 0.01:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    write_tensors(path, net.state_dict(), net.metadata())


def test_a_learned_classifier_needs_three_in_a_row_and_pays_for_progress(tmp_path: Path) -> None:
    brightness_classifier(tmp_path / "net.safetensors")
    with graph(topics.image("front"), detector="classifier", image_size=32, progress_reward=2.0,
               classifier__path=str(tmp_path / "net.safetensors")) as (reward, world):  # fmt: skip
        begin(reward, world)
        for stamp, light in ((100, 0), (200, 255), (300, 0), (400, 255), (500, 255), (600, 255)):
            world.observe(stamp, light)
            spin_until(lambda at=stamp: len(world.judged + world.verdicts) == at // 100, reward, world)
        assert [judged.stamp_ns for judged in world.judged] == [100, 200, 300, 400, 500]
        assert (world.verdicts[0].success, world.verdicts[0].stamp_ns) == (True, 600)
        spin_until(lambda: len(world.values) >= 3, reward, world)
        assert [value.stamp_ns for value in world.values][:3] == [200, 300, 400]
        assert np.allclose([value.value for value in world.values][:3], [2, -2, 2], atol=0.3)


def test_a_classifier_of_another_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    brightness_classifier(path, "open the door")
    with pytest.raises(ConfigError, match="set cameras and image_size as in its training"), nodes(
        RewardNode, detector="classifier", classifier__path=str(path)
    ):
        pass
    with pytest.raises(ConfigError, match="needs a file"), nodes(RewardNode, detector="classifier"):
        pass
    with graph(topics.image("front"), detector="classifier", image_size=32, classifier__path=str(path)) as (reward, world):
        begin(reward, world)
        world.observe(100, 255)
        spin_until(lambda: world.judged, reward, world)
        reward.update_health()
        assert reward.health.counts["unusable"] == 1  # an instruction that it does not know


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
