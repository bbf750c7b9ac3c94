"""The simulator node: lock step, real time, resets, and what it refuses. On both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arm_toys import PERIOD, SECOND, SPEC, Rest, graph
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, ResetDone, Start, Verb
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.types import Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.sim import SimNode
from irevla_ros.ros.messages import CameraInfo, Int64, JointState, JointTrajectory, PoseStamped, numbers
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.sim.env import PandaEnv
from ros_toys import spin_for, spin_until

THERE = Pose((0.45, 0.02, 0.15), POINTING_DOWN)
BEGIN = 7000 * SECOND


class Bench:
    """The simulator, and the rest of the graph with an episode machine that waits for the robot alone."""

    def __init__(self, sim: SimNode, rest: Rest) -> None:
        self.sim, self.rest = sim, rest
        rest.record = False
        rest.machine = EpisodeMachine(EpisodeConfig(("robot",)), "run1", 1, 0, 0)
        self.targets = rest.create_publisher(PoseStamped, topics.TARGET, COMMAND)
        self.grippers = rest.create_publisher(JointState, topics.GRIPPER_COMMAND, COMMAND)
        self.spin(lambda: rest.count_subscribers(topics.TARGET) > 1 and rest.count_publishers(topics.RESET_DONE) > 0)

    def spin(self, predicate: Any) -> None:
        spin_until(predicate, self.sim, self.rest)

    def start(self, task: str = "press-red", mode: Mode = Mode.TRAIN, begin_ns: int = BEGIN) -> EpisodeState:
        """Order an episode and take it through the reset into its run."""
        done = self.rest.heard[topics.RESET_DONE]
        before = len(done)
        self.rest.play(Start(task, task, mode, 3))
        self.spin(lambda: len(done) > before)
        return self.rest.play(done[-1], begin_ns)

    def answer(self, stamp_ns: int, pose: Pose = THERE, width: float = 0.08) -> None:
        self.grippers.publish(convert.width_message(width, stamp_ns))
        self.targets.publish(convert.pose_message(pose, stamp_ns, "base"))

    @property
    def stamps(self) -> list[int]:
        return [stamp for stamp, _ in self.rest.heard["images"]]


def lock_step(**parameters: Any) -> Any:
    return graph(SimNode, Rest, **{"lock_step": True, "wait_recorder": False, "image_size": 16} | parameters)


def real_time(**parameters: Any) -> Any:
    return graph(SimNode, lambda: Rest(lock_step=False), image_size=16, **parameters)


def test_an_observation_waits_for_both_halves_of_its_answer_and_then_for_the_recorder() -> None:
    with lock_step(wait_recorder=True) as (sim, rest):
        bench = Bench(sim, rest)
        bench.start()
        heard = rest.heard
        bench.spin(lambda: bench.stamps and heard[topics.POSE] and heard[topics.GRIPPER] and heard[topics.SIM_STATE])
        assert bench.stamps == [BEGIN]
        assert [convert.stamp_of(m.header) for m in rest.heard[topics.POSE] + rest.heard[topics.GRIPPER]] == [BEGIN] * 2
        assert [(s.stamp_ns, s.task, s.success, s.failure) for s in rest.heard[topics.SIM_STATE]] == [
            (BEGIN, "press-red", False, False)
        ]
        env = PandaEnv("demo", image_size=16)
        observed, _ = env.reset(seed=3, options={"task": "press-red"})
        np.testing.assert_array_equal(convert.image_pixels(rest.heard["images"][0][1]), observed["front"])

        bench.targets.publish(convert.pose_message(THERE, BEGIN, "base"))
        spin_for(0.3, sim, rest)
        assert bench.stamps == [BEGIN]  # no word on the gripper yet
        bench.grippers.publish(convert.width_message(0.0, BEGIN))
        spin_for(0.3, sim, rest)
        assert bench.stamps == [BEGIN]  # the recorder has not said that it has the observation
        rest.recorded.publish(Int64(data=BEGIN))
        bench.spin(lambda: len(heard[topics.POSE]) == len(heard[topics.GRIPPER]) == len(bench.stamps) == 2)
        assert bench.stamps[1] == BEGIN + PERIOD
        env.step_to(THERE.p, 0.0, -1.0)
        at = rest.heard[topics.POSE][1].pose.position
        np.testing.assert_array_equal([at.x, at.y, at.z], env.world.arm.tip()[0])
        assert convert.width_of(rest.heard[topics.GRIPPER][1]) == env.world.arm.gripper_width()
        env.close()


def test_what_is_no_answer_is_refused_or_late() -> None:
    with lock_step() as (sim, rest):
        bench = Bench(sim, rest)
        bench.start()
        bench.spin(lambda: bench.stamps == [BEGIN])
        bench.targets.publish(convert.pose_message(THERE, BEGIN, "panda_link8"))
        bench.spin(lambda: sim.health.counts["target_pose.refused"] == 1)
        bad = convert.pose_message(THERE, BEGIN, "base")
        bad.pose.position.x = float("nan")
        bench.targets.publish(bad)
        bench.spin(lambda: sim.health.counts["target_pose.refused"] == 2)
        for name, width in (("panda_finger_joint1", 0.04), ("width", float("nan"))):
            before = sim.health.counts["gripper/command.refused"]
            bench.grippers.publish(JointState(header=convert.header(BEGIN), name=[name], position=numbers("d", [width])))
            bench.spin(lambda before=before: sim.health.counts["gripper/command.refused"] == before + 1)
        bench.answer(BEGIN - PERIOD)
        bench.spin(lambda: sim.health.counts["commands.late"] == 2)
        assert bench.stamps == [BEGIN]
        bench.answer(BEGIN)
        bench.spin(lambda: bench.stamps == [BEGIN, BEGIN + PERIOD])


def test_an_observation_without_answer_is_sent_again_as_it_was() -> None:
    with lock_step(resend_s=0.2) as (sim, rest):
        bench = Bench(sim, rest)
        bench.start()
        bench.spin(lambda: bench.stamps == [BEGIN] * 3)
        first, again, _ = (convert.image_pixels(message) for _, message in rest.heard["images"])
        np.testing.assert_array_equal(first, again)
        assert sim.health.counts["observations.resent"] >= 2
        bench.answer(BEGIN)
        bench.spin(lambda: BEGIN + PERIOD in bench.stamps)
        rest.play(Request(Verb.STOP), BEGIN + PERIOD)
        spin_for(0.5, sim, rest)
        count = len(bench.stamps)
        spin_for(0.7, sim, rest)
        assert len(bench.stamps) == count  # the run is over: nobody is asked any more


def test_a_task_that_the_suite_lacks_is_a_failure_in_words_and_the_next_reset_works() -> None:
    with lock_step() as (sim, rest):
        bench = Bench(sim, rest)
        bench.start("press-rde")
        assert rest.heard[topics.RESET_DONE][-1].failure.startswith("task 'press-rde' of suite 'demo': no such task; did you")
        assert rest.machine.state.phase is Phase.END
        rest.play(Request(Verb.SEALED))
        bench.start("press-red")
        bench.spin(lambda: bench.stamps == [BEGIN])


def test_a_run_that_it_has_not_set_up_is_asked_to_stop_until_it_does() -> None:
    with lock_step() as (sim, rest):
        bench = Bench(sim, rest)
        rest.machine = EpisodeMachine(EpisodeConfig(()), "run1", 5, 0, 0)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), BEGIN)
        asked = rest.heard[topics.REQUEST]
        bench.spin(lambda: len(asked) == 2)
        assert [(request.verb, request.episode_id) for request in asked] == [(Verb.STOP, "run1-000005")] * 2
        assert bench.stamps == []


def test_reset_done_is_repeated_until_the_episode_goes_on() -> None:
    with lock_step() as (sim, rest):
        bench = Bench(sim, rest)
        state = rest.play(Start("press-red", "press", Mode.TRAIN, 3))
        done = rest.heard[topics.RESET_DONE]
        bench.spin(lambda: len(done) == 3)
        assert set(done) == {ResetDone("robot", "", state.episode_id, state.sequence)}


def test_the_script_is_the_expert_of_the_process() -> None:
    with lock_step(script=True) as (sim, rest):
        bench = Bench(sim, rest)
        chunks = rest.take(JointTrajectory, topics.SCRIPT, COMMAND)
        bench.spin(lambda: rest.count_publishers(topics.SCRIPT) == 1)
        env = PandaEnv("demo", image_size=16)
        env.reset(seed=3, options={"task": "press-red"})
        bench.start(mode=Mode.DEMO)
        bench.spin(lambda: len(chunks) == 1)
        chunk = convert.chunk_of(chunks[0], PERIOD)
        assert (chunk.stamp_ns, chunk.names) == (BEGIN, SPEC.names)
        np.testing.assert_array_equal(chunk.actions, env.expert().act()[None])
        env.close()


def test_success_is_said_once_it_has_lasted() -> None:
    with lock_step() as (sim, rest):
        bench = Bench(sim, rest)
        env = PandaEnv("demo", image_size=16)
        env.reset(seed=3, options={"task": "press-red"})
        expert = env.expert()
        bench.start()
        bench.spin(lambda: bench.stamps == [BEGIN])
        known, expected = rest.heard[topics.SIM_STATE], [False]
        while not expected[-1]:
            action = SPEC.to_physical(expert.act())
            target, yaw = env.world.arm.tip()[0] + action[:3], float(env.world.arm.yaw + action[3])
            turned = (float(np.cos(yaw / 2)), float(np.sin(yaw / 2)), 0.0, 0.0)  # of a hand that points down
            _, _, _, _, info = env.step_to(target, yaw, float(action[4]))
            expected.append(info["success"])
            bench.answer(bench.stamps[-1], Pose.of(target, turned), 0.08 if action[4] > 0 else 0.0)
            bench.spin(lambda: len(known) == len(expected) == len(bench.stamps))
        assert [state.success for state in known] == expected
        env.close()


# ---- real time ----------------------------------------------------------------------------------------------------


def test_in_real_time_it_shows_itself_between_episodes_too() -> None:
    with real_time() as (sim, rest):
        joints = rest.take(JointState, topics.JOINTS, SENSOR)
        infos = rest.take(CameraInfo, topics.camera_info("front"), SENSOR)
        spin_until(lambda: len(joints) > 2 and len(infos) > 2 and len(rest.heard["images"]) > 2, sim, rest)
        assert joints[0].name[0] == "panda_joint1"
        assert len(joints[0].position) == 9
        info = infos[0]
        assert list(info.k) == pytest.approx([32.0862, 0, 8, 0, 32.0862, 8, 0, 0, 1], abs=1e-3)  # 8 / tan(14 degrees)
        assert (info.header.frame_id, info.height, info.width) == ("front", 16, 16)
        stamps = [stamp for stamp, _ in rest.heard["images"]]
        assert all(later - earlier > PERIOD // 2 for earlier, later in zip(stamps, stamps[2:], strict=False))
        assert rest.heard[topics.SIM_STATE] == []


def test_in_real_time_it_goes_to_a_target_and_stays_when_none_comes() -> None:
    with real_time() as (sim, rest):
        bench = Bench(sim, rest)
        bench.start(begin_ns=rest.now_ns())
        bench.spin(lambda: rest.heard[topics.SIM_STATE])

        def tip() -> np.ndarray:
            at = rest.heard[topics.POSE][-1].pose.position
            return np.array([at.x, at.y, at.z])

        def arrived() -> bool:
            bench.answer(rest.now_ns())
            return bool(np.linalg.norm(tip() - THERE.p) < 0.01)

        bench.spin(arrived)
        elsewhere = Pose((0.45, 0.02, 0.30), POINTING_DOWN)
        bench.answer(0, elsewhere)  # of long before the reset
        spin_for(0.5, sim, rest)
        assert np.linalg.norm(tip() - THERE.p) < 0.015
        assert sim.health.counts["commands.late"] == 2
        bench.answer(rest.now_ns(), elsewhere)
        spin_for(1.5, sim, rest)
        # Once 0.3 s have passed without a target it no longer pulls: it stays where it is.
        still = [message.pose.position.z for message in rest.heard[topics.POSE][-4:]]
        assert max(still) - min(still) < 2e-3


def test_in_real_time_an_old_target_pulls_no_more() -> None:
    """One command whose way takes several control periods, and then nobody: the arm stays short of it."""
    with real_time(target_s=0.05) as (sim, rest):
        bench = Bench(sim, rest)
        bench.start(begin_ns=rest.now_ns())
        bench.spin(lambda: rest.heard[topics.SIM_STATE])
        far = Pose((0.62, 0.2, 0.3), POINTING_DOWN)
        bench.answer(rest.now_ns(), far)
        spin_for(1.5, sim, rest)
        at = rest.heard[topics.POSE][-1].pose.position
        assert np.linalg.norm(np.array([at.x, at.y, at.z]) - far.p) > 0.1


def test_a_control_rate_that_the_world_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rate_hz = 20.0: this simulator is controlled at 10 Hz"), graph(
        SimNode, rate_hz=20.0
    ):
        pass


