"""The arbiter node: the same motion as in the process, holds, refusals, and the deaths of its neighbours. On both backends."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arm_toys import HERE, MS, PERIOD, SECOND, SPEC, Rest, graph
from irevla_ros.core.arbiter_config import Refused
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import Phase, Request, ResetDone, Start, Verb
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import Consent
from irevla_ros.core.limits import Clip
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.types import ControlSource, Mode, Outcome
from irevla_ros.nodes import clock_watch, convert, topics
from irevla_ros.nodes.arbiter import ArbiterNode
from irevla_ros.nodes.episode import EpisodeNode
from irevla_ros.nodes.parameters.reading import parameter_names
from irevla_ros.nodes.sim import SimNode
from irevla_ros.ros import Parameter
from irevla_ros.ros.messages import (
    CameraInfo,
    JointState,
    JointTrajectory,
    Joy,
    PoseStamped,
    Trigger,
    TwistStamped,
    WrenchStamped,
    numbers,
)
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.sim.env import PandaEnv
from ros_toys import Process, spin_for, spin_until

HOME = Pose((0.45, 0.0, 0.20), POINTING_DOWN)
RIGHT = np.array([0.0, -0.5, 0.0, 0.0, 1.0], np.float32)


# ---- in lock step, with the real simulator and episode node ---------------------------------------------------------


def test_a_whole_episode_is_the_one_of_the_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    actions = np.clip(rng.normal(0, 0.8, (25, 5)), -1.3, 1.3).astype(np.float32)
    begin = 1000 * SECOND
    given = {"lock_step": True, "run": str(tmp_path), "run_id": "r", "image_size": 16}

    def act(stamp_ns: int) -> Any:
        return actions[min((stamp_ns - begin) // PERIOD, 24)]

    with graph(SimNode, ArbiterNode, EpisodeNode, lambda: Rest(act=act), **given) as (*nodes, rest):
        ready(rest, *nodes)
        rest.judge = False
        rest.ask("push-red-cube-left", seed=3)
        spin_until(lambda: min(len(rest.heard[topics.POSE]), len(rest.heard[topics.GRIPPER])) > 25, *nodes, rest)
        rest.request(Request(Verb.STOP, "", "r-000001"))
        spin_until(rest.phase(Phase.IDLE, 1), *nodes, rest)
        poses = [(m.pose.position.x, m.pose.position.y, m.pose.position.z) for m in rest.heard[topics.POSE]]
        widths = [convert.width_of(m) for m in rest.heard[topics.GRIPPER]]
        steps = [step for step in rest.heard[topics.STEP] if step.acted]

    env = PandaEnv("demo", image_size=16)
    env.reset(seed=3, options={"task": "push-red-cube-left"})
    # The graph knows the hand's measured turn alone; the process starts from what it was told to be, 1e-4 rad beside it.
    env.world.arm.yaw = env.world.arm.measured_yaw()
    for number, action in enumerate(actions):
        np.testing.assert_allclose(poses[number], env.world.arm.tip()[0], atol=1e-6)
        assert widths[number] == pytest.approx(env.world.arm.gripper_width(), abs=1e-6)
        assert steps[number].stamp_ns == begin + number * PERIOD
        assert not {Clip.STEP, Clip.LEASH} & set(steps[number].clips)
        np.testing.assert_array_equal(steps[number].executed, np.clip(action, -1, 1))
        np.testing.assert_array_equal(steps[number].proposed, action)
        env.step(action)
    np.testing.assert_allclose(poses[25], env.world.arm.tip()[0], atol=1e-6)
    env.close()


def test_the_script_succeeds_through_the_arbiter(tmp_path: Path) -> None:
    given = {"lock_step": True, "run": str(tmp_path), "run_id": "r", "image_size": 16, "script": True, "auto": True,
             "tasks": ["press-red"], "suite": "demo", "mode": "demo", "episodes": 3}  # fmt: skip
    with graph(SimNode, ArbiterNode, EpisodeNode, Rest, **given) as (*nodes, rest):
        spin_until(rest.phase(Phase.IDLE, 3), *nodes, rest)
        ends = [state for state in rest.states if state.phase is Phase.END]
        assert [state.outcome for state in ends].count(Outcome.SUCCESS) >= 2
        assert {step.source for step in rest.heard[topics.STEP] if step.acted} == {ControlSource.SCRIPT}


@pytest.mark.parametrize("lost", ["target", "gripper", "chunk", "recorded"])
def test_a_lost_message_is_made_good_by_asking_again(tmp_path: Path, lost: str) -> None:
    given = {"lock_step": True, "run": str(tmp_path), "run_id": "r", "image_size": 16, "resend_s": 0.3}
    at = 1000 * SECOND + 4 * PERIOD
    lose = [True]

    def losing(publish: Callable[[Any], None], stamp_of: Callable[[Any], int]) -> Callable[[Any], None]:
        def sometimes(message: Any) -> None:
            if lose and stamp_of(message) == at:
                lose.pop()
            else:
                publish(message)

        return sometimes

    with graph(SimNode, ArbiterNode, EpisodeNode, lambda: Rest(act=lambda _: RIGHT), **given) as (sim, arbiter, episode, rest):
        ready(rest, sim, arbiter, episode)
        publisher, stamp_of = {
            "target": (arbiter._target, lambda m: convert.stamp_of(m.header)),
            "gripper": (arbiter._gripper, lambda m: convert.stamp_of(m.header)),
            "chunk": (rest.chunks, lambda m: convert.stamp_of(m.header)),
            "recorded": (rest.recorded, lambda m: m.data),
        }[lost]
        publisher.publish = losing(publisher.publish, stamp_of)
        rest.ask(time_limit_ns=10 * PERIOD)
        spin_until(rest.phase(Phase.IDLE, 1), sim, arbiter, episode, rest)
        assert lose == []
        assert sim.health.counts["observations.resent"] >= 1
        acted = {step.acts: step for step in rest.heard[topics.STEP] if step.acted}
        assert sorted(acted) == list(range(1, len(acted) + 1))
        assert [step.stamp_ns for step in acted.values()][:11] == [1000 * SECOND + k * PERIOD for k in range(11)]
        repeated = [step for step in rest.heard[topics.STEP] if step.acted and step.stamp_ns == at]
        assert set(repeated) == {acted[5]}


@pytest.mark.parametrize("victim", ["sim", "arbiter"])
def test_who_is_killed_in_a_run_has_it_stopped_and_the_next_one_works(tmp_path: Path, victim: str) -> None:
    given = {"lock_step": True, "run": str(tmp_path), "run_id": "r", "image_size": 16}
    others = {"sim": SimNode, "arbiter": ArbiterNode, "episode": EpisodeNode}
    del others[victim]
    words = ["--ros-args", *(word for name, value in given.items() if name in parameter_names(victim)
                             for word in ("-p", f"{name}:={str(value).lower()}"))]  # fmt: skip
    words = [word.replace(str(tmp_path).lower(), str(tmp_path)) for word in words]
    with graph(*others.values(), lambda: Rest(act=lambda _: RIGHT), **given) as (*nodes, rest):
        rest.judge = False
        with Process(victim, *words, script=HERE) as process:
            ready(rest, *nodes)
            rest.ask()
            spin_until(lambda: len(rest.heard["images"]) > 5, *nodes, rest)
            process.kill()
        spin_for(0.5, *nodes, rest)
        assert rest.running()
        with Process(victim, *words, script=HERE):
            spin_until(rest.phase(Phase.IDLE, 1), *nodes, rest)
            assert "restarted" in rest.state.detail
            rest.ask()
            spin_until(rest.phase(Phase.RUN, 2), *nodes, rest)
            there = len(rest.heard["images"])
            spin_until(lambda: len(rest.heard["images"]) > there + 5, *nodes, rest)
            rest.request(Request(Verb.STOP, "", "r-000002"))
            spin_until(rest.phase(Phase.IDLE, 2), *nodes, rest)


def ready(rest: Rest, *nodes: Any) -> None:
    """Until all of the arm's side hear each other and us."""
    counts = {topics.STATE: 3, topics.TARGET: 2, topics.STEP: 1, topics.ORDER: 1, topics.ACTION: 1, topics.RESET_DONE: 2}
    spin_until(lambda: all(rest.count_subscribers(topic) >= count for topic, count in counts.items()), *nodes, rest)


# ---- in real time, with a robot that stands still --------------------------------------------------------------------


class Bench:
    """The arbiter, a pose 50 times a second, and states by hand."""

    def __init__(self, arbiter: ArbiterNode, rest: Rest) -> None:
        self.arbiter, self.rest = arbiter, rest
        self.poses = rest.create_publisher(PoseStamped, topics.POSE, SENSOR)
        self.twists = rest.create_publisher(TwistStamped, topics.TWIST, COMMAND)
        self.grips = rest.create_publisher(JointState, topics.TELEOP_GRIPPER, COMMAND)
        self.frames = rest.create_publisher(CameraInfo, topics.camera_info("front"), SENSOR)
        self.frame, self.measured, self.lag_ns = "base", HOME, 0
        self.wrenches = rest.create_publisher(WrenchStamped, topics.WRENCH, SENSOR)
        rest.every(0.02, self._pose)
        rest.machine = EpisodeMachine(EpisodeConfig(()), "run1", 1, 0, 0)
        rest.say_state(rest.machine.state)
        self.spin(lambda: arbiter._core.robot.pose is not None and arbiter._engagement._state is not None)
        self.spin(lambda: rest.count_subscribers(topics.ACTION) > 0 and arbiter.count_subscribers(topics.STEP) > 0)
        self.spin(lambda: arbiter.count_subscribers(topics.TARGET) > 0)

    def _pose(self) -> None:
        self.poses.publish(convert.pose_message(self.measured, self.rest.now_ns() - self.lag_ns, self.frame))

    def spin(self, predicate: Any) -> None:
        spin_until(predicate, self.arbiter, self.rest)

    def run(self, mode: Mode = Mode.TRAIN) -> None:
        self.rest.play(Start("press-red", "press", mode, 3), self.rest.now_ns())
        self.spin(lambda: self.arbiter._engagement.engaged)

    def twist(self, frame: str = "base", y: float = 0.0) -> int:
        message = TwistStamped(header=convert.header(self.rest.now_ns(), frame))
        message.twist.linear.y = y
        self.twists.publish(message)
        return convert.stamp_of(message.header)

    def wrench(self, force_n: float) -> None:
        message = WrenchStamped(header=convert.header(self.rest.now_ns()))
        message.wrench.force.z = force_n
        self.wrenches.publish(message)

    def comes_to_rest(self) -> PoseStamped:
        """The last of the targets."""
        self.spin(lambda: self.rest.targets and self.rest.wall_ns() - self.rest.targets[-1][0] > 200 * MS)
        return self.rest.targets[-1][1]

    def drives_until(self, done: Callable[[], bool]) -> None:
        """The policy's chunks come ten times a second."""
        def driving() -> bool:
            if self.rest.wall_ns() - sent[0] > PERIOD:
                sent[0] = self.rest.wall_ns()
                self.rest.send(self.rest.now_ns(), RIGHT)
            return done()

        sent = [0]
        self.spin(driving)

    @property
    def steps(self) -> list[Any]:
        return self.rest.heard[topics.STEP]

    @property
    def acted(self) -> list[Any]:
        return [step for step in self.steps if step.acted]


PATIENT = {"command_s": 5.0, "chunk_age_s": 5.0}  # a busy machine takes more than 200 ms for a step: it would be braked


def real_time(**parameters: Any) -> Any:
    return graph(ArbiterNode, lambda: Rest(lock_step=False), **parameters)


def test_a_step_is_streamed_to_its_target_and_the_gripper_has_its_stamp() -> None:
    with real_time(**PATIENT) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        stamp = rest.now_ns()
        rest.send(stamp, RIGHT)
        bench.spin(lambda: rest.targets and rest.heard[topics.GRIPPER_COMMAND])
        gripper, target = rest.heard[topics.GRIPPER_COMMAND][0], bench.comes_to_rest()
        assert convert.stamp_of(gripper.header) == stamp
        assert target.header.frame_id == "base"
        assert at(target) == pytest.approx((0.45, -0.02, 0.20), abs=1e-9)  # half of 4 cm to the right
        ways = [at(message)[1] for _, message in rest.targets]
        assert len(ways) > 5 and all(0 <= a - b < 0.01 for a, b in pairwise(ways))  # by and by, never back
        assert (list(gripper.name), list(gripper.position)) == (["width"], [0.08])


def test_a_silent_policy_moves_the_arm_for_200_ms_and_no_longer() -> None:
    """A chunk of ten actions, a second's worth, and then nothing: as after the policy's death."""
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        rest.send(rest.now_ns(), np.tile(RIGHT, (10, 1)))
        bench.spin(lambda: any(step.hold is Hold.SILENT for step in bench.steps))
        spin_for(1.0, arbiter, rest)
        wall = [step.wall_ns for step in bench.acted]
        assert 1 <= len(wall) <= 3
        assert wall[-1] - wall[0] <= 200 * MS
        silent = next(step for step in bench.steps if step.hold is Hold.SILENT)
        assert silent.wall_ns > wall[-1]
        assert rest.targets[-1][0] - silent.wall_ns < SECOND // 2  # it brakes; holding is silence
        # Ten holds a second, not fifty.
        spin_for(1.0, arbiter, rest)
        holds = [step.wall_ns for step in bench.steps if step.hold is Hold.SILENT]
        assert all(later - earlier >= PERIOD for earlier, later in pairwise(holds))


def test_a_silent_pose_holds_too() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        bench.frame = "world"  # whose poses do not count
        bench.spin(lambda: arbiter.health.counts["current_pose.refused"] > 0)
        bench.spin(lambda: any(step.hold is Hold.POSE_STALE for step in bench.steps))
        rest.send(rest.now_ns(), RIGHT)
        spin_for(0.3, arbiter, rest)
        assert bench.acted == []
        assert rest.targets == []


def test_numbers_names_and_shapes_that_are_wrong_hold_the_arm_until_a_good_chunk_comes() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        good = convert.chunk_message(ActionChunk(1, SPEC.names, RIGHT[None], PERIOD))

        def send(**changes: Any) -> None:
            good.header = convert.header(rest.now_ns())
            good.joint_names = list(changes.get("names", SPEC.names))
            good.points[0].positions = numbers("d", changes.get("values", RIGHT))
            rest.chunks.publish(good)

        joints = tuple(f"panda_joint{number}" for number in range(1, 6))
        for changes in ({"values": [0, np.nan, 0, 0, 1]}, {"names": joints}, {"values": [0, 0, 1]}, {"values": [np.inf] * 5}):
            before = arbiter.health.counts["policy/action.refused"]
            send(**changes)
            bench.spin(lambda before=before: arbiter.health.counts["policy/action.refused"] == before + 1)
            bench.spin(lambda: bench.steps and bench.steps[-1].hold is Hold.REJECTED)
        send(names=tuple(reversed(SPEC.names)))  # well formed, but not this arm's
        bench.spin(lambda: arbiter._core.counts["policy.rejected"] == 5)
        assert bench.acted == []
        assert rest.targets == []
        send()
        bench.spin(lambda: len(bench.acted) == 1)


def test_the_human_takes_over_and_the_policy_gets_the_arm_back_when_asked() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        bench.grips.publish(convert.width_message(0.0, rest.now_ns()))
        bench.spin(lambda: arbiter._human.grip == -1.0)
        stamps = []

        def drive() -> bool:
            bench.twist(y=0.1)
            stamps.append(rest.now_ns())
            bench.frames.publish(CameraInfo(header=convert.header(stamps[-1], "front")))
            return len(bench.acted) >= 3

        bench.spin(drive)
        human = bench.acted
        assert {step.source for step in human} == {ControlSource.HUMAN}
        assert {step.stamp_ns for step in human} <= set(stamps)
        assert len({step.stamp_ns for step in human}) == len(human)
        assert human[0].executed == pytest.approx((0, 0.25, 0, 0, -1))  # 0.1 m/s for 0.1 s of 4 cm, closing
        bench.twist(topics.RELEASED)
        bench.spin(lambda: bench.steps[-1].hold is Hold.RELEASED)
        rest.send(rest.now_ns(), RIGHT)
        spin_for(0.2, arbiter, rest)
        assert {step.source for step in bench.acted} == {ControlSource.HUMAN}
        rest.request(Request(Verb.ENGAGE))
        bench.spin(lambda: arbiter._core.engaged is ControlSource.POLICY)
        bench.drives_until(lambda: bench.acted[-1].source is ControlSource.POLICY)  # half a second after the release


def test_a_twist_in_another_frame_takes_over_and_holds() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        bench.twist("tool", y=0.1)
        bench.spin(lambda: arbiter.health.counts["teleop/twist.refused"] == 1)
        bench.spin(lambda: any(step.hold is Hold.REJECTED for step in bench.steps))
        rest.send(rest.now_ns(), RIGHT)
        spin_for(0.3, arbiter, rest)
        assert bench.acted == []


def test_the_end_is_recorded_at_once_and_nothing_is_commanded_after_it() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        rest.send(rest.now_ns(), RIGHT)
        bench.spin(lambda: len(bench.acted) == 1)
        rest.play(Request(Verb.STOP), rest.now_ns())
        bench.spin(lambda: bench.steps[-1].hold is Hold.UNENGAGED)
        assert (bench.steps[-1].episode_id, bench.steps[-1].acts) == ("run1-000001", 1)
        rest.send(rest.now_ns(), RIGHT)
        bench.spin(lambda: arbiter.health.counts["chunks.unengaged"] == 1)
        assert abs(at(bench.comes_to_rest())[1]) < 0.02  # braked on its way
        sent = len(rest.targets)
        spin_for(0.3, arbiter, rest)
        assert len(rest.targets) == sent
        assert bench.steps[-1].acts == 1


def test_a_run_that_began_before_it_is_asked_to_stop() -> None:
    with graph(lambda: Rest(lock_step=False)) as (rest,):
        rest.machine = EpisodeMachine(EpisodeConfig(()), "run1", 1, 0, 0)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        arbiter = ArbiterNode()
        asked = rest.heard[topics.REQUEST]
        spin_until(lambda: len(asked) == 2, arbiter, rest)
        assert [(request.verb, request.episode_id) for request in asked] == [(Verb.STOP, "run1-000001")] * 2
        assert not arbiter._engagement.engaged
        arbiter.destroy_node()


def test_engaging_waits_for_an_arm_that_stands_where_it_may() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.measured = Pose((0.9, 0.0, 0.2), POINTING_DOWN)
        bench.spin(lambda: arbiter._core.robot.pose.position[0] == 0.9)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        spin_for(0.3, arbiter, rest)
        assert not arbiter._engagement.engaged
        bench.measured = HOME
        bench.spin(lambda: arbiter._engagement.engaged)


def test_nothing_moves_the_arm_before_the_operator_has_engaged_it() -> None:
    with real_time(await_engage=True) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        verbs = {name: rest.create_client(Trigger, f"arbiter/{name}") for name in ("engage", "disengage", "stop", "resume")}
        words = rest.hear(Consent, topics.CONSENT, COMMAND)

        def consents() -> tuple[bool, str]:
            heard, now = len(words), rest.wall_ns()
            spin_until(lambda: len(words) > heard + 2, arbiter, rest)
            assert rest.wall_ns() - now < 1000 * MS  # ten a second
            assert [after.sequence - before.sequence for before, after in pairwise(words)] == [1] * (len(words) - 1)
            return words[-1].engaged, words[-1].hindrance

        def ask(name: str) -> Any:
            bench.spin(verbs[name].service_is_ready)
            answer = verbs[name].call_async(Trigger.Request())
            bench.spin(answer.done)
            return answer.result()

        assert consents() == (False, "")  # before any episode, too
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        bench.spin(lambda: arbiter._engagement._run is not None)
        for _ in range(5):
            rest.send(rest.now_ns(), RIGHT)
            bench.twist(y=0.5)
            spin_for(0.1, arbiter, rest)
        bench.twist(topics.RELEASED)
        assert not arbiter._engagement.engaged and rest.targets == [] and bench.acted == []
        assert "the operator has not let this arm be moved; call arbiter/engage" in arbiter.health.report(0).message
        assert ask("engage").success
        assert consents() == (True, "")
        bench.drives_until(lambda: len(bench.acted) > 2)
        assert ask("stop").success
        assert consents() == (True, "stopped by the operator")
        stopped_at = len(bench.acted)
        bench.drives_until(lambda: bench.steps[-1].hold is Hold.STOPPED)
        bench.comes_to_rest()
        assert len(bench.acted) == stopped_at
        bench.spin(lambda: "stopped by the operator; call arbiter/resume" in arbiter.health.report(0).message)
        assert ask("resume").success
        bench.drives_until(lambda: len(bench.acted) > stopped_at + 2)
        assert ask("disengage").success
        assert consents() == (False, "")
        bench.spin(lambda: not arbiter._engagement.engaged)
        bench.spin(stopped(rest, "the operator has disengaged the arm"))


def test_a_force_stops_the_arm_until_the_operator_resumes() -> None:
    with real_time(force__watched=True, force__force_n=20.0) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        pressed = [2.0]
        rest.every(0.01, lambda: bench.wrench(pressed[0]))
        bench.spin(lambda: arbiter._core.robot.force.force_n == 2.0)
        bench.run()
        bench.drives_until(lambda: len(bench.acted) > 2)
        pressed[0], began = 35.0, rest.wall_ns()
        bench.drives_until(lambda: arbiter._core.fault is Hold.FORCE)
        assert rest.wall_ns() - began < 200 * MS
        with pytest.raises(Refused, match=r"resume: external force above its limit \(35.0 N, 0.0 Nm\): nothing presses on"):
            arbiter._resume()
        pressed[0] = 2.0
        bench.drives_until(lambda: arbiter._core.robot.force.force_n == 2.0)
        bench.drives_until(lambda: bench.steps[-1].hold is Hold.FORCE)  # still
        before = len(bench.acted)
        arbiter._resume()
        bench.drives_until(lambda: len(bench.acted) > before)


def test_a_force_in_a_reset_ends_the_consent_until_the_operator_resumes() -> None:
    with real_time(force__watched=True, force__force_n=20.0) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        words = rest.hear(Consent, topics.CONSENT, COMMAND)
        rest.machine = EpisodeMachine(EpisodeConfig(("robot",)), "run1", 1, 0, 0)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        pressed = [2.0]
        rest.every(0.01, lambda: bench.wrench(pressed[0]))
        bench.spin(lambda: words and words[-1].engaged and not words[-1].hindrance)
        pressed[0], began = 35.0, rest.wall_ns()
        bench.spin(lambda: words[-1].hindrance == "external force above its limit")
        assert rest.wall_ns() - began < 300 * MS
        pressed[0] = 2.0
        bench.spin(lambda: arbiter._core.robot.force.force_n == 2.0)
        spin_for(0.3, arbiter, rest)
        assert words[-1].hindrance == "external force above its limit"
        arbiter._resume()
        bench.spin(lambda: not words[-1].hindrance)


def test_limits_become_safer_while_the_arm_is_engaged_and_nothing_else() -> None:
    with real_time(**PATIENT) as (arbiter, rest):
        bench = Bench(arbiter, rest)

        def change(name: str, value: Any) -> str:
            result = arbiter.set_parameters([Parameter(name, value=value)])[0]
            return "" if result.successful else result.reason

        assert change("limits.step_m", 0.09) == ""
        assert "step, leash, turn and tilt limits" in change("limits.step_m", -1.0)
        assert change("limits.planes", [0.0, 0.0, 1.0, 0.3]) == ""
        bench.run()
        assert "limits.step_m may only become lower, from 0.09" in change("limits.step_m", 0.1)
        assert "limits.box_low may only become higher" in change("limits.box_low", [0.2, -0.3, 0.1])
        assert "limits.planes may only become with more planes" in change("limits.planes", [0.0, 0.0, 1.0, 0.31])
        assert "read-only" in change("limits.jerk_m_s3", 100.0)
        assert "read-only" in change("pose_s", 0.1)
        for name, value in {"limits.step_m": 0.01, "limits.planes": [0.0, 0.0, 1.0, 0.25, 0.0, 1.0, 0.0, 0.2],
                            "limits.box_low": [0.3, -0.3, 0.05], "limits.gripper_hold_s": 1.0}.items():  # fmt: skip
            assert change(name, value) == ""
        rest.send(rest.now_ns(), RIGHT)
        assert at(bench.comes_to_rest()) == pytest.approx((0.45, -0.01, 0.20), abs=1e-9)
        rest.play(Request(Verb.STOP), rest.now_ns())
        bench.spin(lambda: not arbiter._engagement.engaged and not arbiter._core.moving)
        assert change("limits.step_m", 0.02) == ""
        assert arbiter.get_parameter("limits.step_m").value == 0.02


def press(stamp_ns: int) -> Joy:
    return Joy(header=convert.header(stamp_ns, ""), buttons=numbers("i", [1]))


def test_the_deadman_must_be_held_while_the_arm_is_engaged() -> None:
    with real_time(deadman_s=0.2) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        hand = rest.create_publisher(Joy, topics.DEADMAN, SENSOR)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        spin_for(0.3, arbiter, rest)
        assert not arbiter._engagement.engaged and arbiter._core.fault is None
        held = rest.every(0.05, lambda: hand.publish(press(rest.now_ns())))
        bench.spin(lambda: arbiter._engagement.engaged)
        bench.drives_until(lambda: len(bench.acted) > 1)
        held.cancel()
        bench.drives_until(lambda: bench.steps[-1].hold is Hold.DEADMAN)
        held.reset()
        spin_for(0.3, arbiter, rest)
        assert arbiter._core.fault is Hold.DEADMAN  # also when it is held again
        before = len(bench.acted)
        arbiter._resume()
        bench.drives_until(lambda: len(bench.acted) > before)


def test_a_deadman_that_comes_late_is_not_held() -> None:
    """Repeated by somebody who delays it, or waiting in the queue of a process that was held up."""
    with real_time(deadman_s=0.2) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        hand = rest.create_publisher(Joy, topics.DEADMAN, SENSOR)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        delayed = rest.every(0.05, lambda: hand.publish(press(rest.now_ns() - 300 * MS)))
        bench.spin(lambda: arbiter._core.counts.get("deadman.late", 0) > 5)
        spin_for(0.3, arbiter, rest)
        assert not arbiter._engagement.engaged
        delayed.cancel()
        held = rest.every(0.05, lambda: hand.publish(press(rest.now_ns())))
        bench.spin(lambda: arbiter._engagement.engaged)
        held.cancel()
        for _ in range(6):
            hand.publish(press(rest.now_ns()))
        time.sleep(0.3)  # nobody reads
        late = arbiter._core.counts["deadman.late"]
        bench.spin(lambda: arbiter._core.fault is Hold.DEADMAN)
        bench.spin(lambda: arbiter._core.counts["deadman.late"] >= late + 5)


def test_the_script_moves_the_arm_in_a_reset_and_its_way_is_no_step_of_the_episode() -> None:
    with real_time(script_resets=True) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        script = rest.create_publisher(JointTrajectory, topics.SCRIPT, COMMAND)
        rest.machine = EpisodeMachine(EpisodeConfig(("robot",)), "run1", 1, 0, 0)
        rest.say_state(rest.machine.state)
        bench.spin(lambda: rest.count_subscribers(topics.SCRIPT) > 0)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        bench.spin(lambda: arbiter._engagement.engaged)

        def scripting() -> bool:
            script.publish(convert.chunk_message(ActionChunk(rest.now_ns(), SPEC.names, RIGHT[None], PERIOD)))
            rest.send(rest.now_ns(), -RIGHT)  # the policy has no say
            spin_for(0.05, arbiter, rest)
            return len(bench.acted) > 3

        bench.spin(scripting)
        assert {(step.source, step.episode_id) for step in bench.acted} == {(ControlSource.SCRIPT, "")}
        rest.play(ResetDone("robot", "", rest.machine.state.episode_id, rest.machine.state.sequence), rest.now_ns())
        bench.spin(lambda: arbiter._core.engaged is ControlSource.POLICY)
        bench.drives_until(lambda: bench.acted[-1].source is ControlSource.POLICY)
        assert (bench.acted[-1].episode_id, bench.acted[-1].acts) == ("run1-000001", 1)


def test_in_a_dry_run_commands_are_shown_but_not_sent() -> None:
    with real_time(dry_run=True) as (arbiter, rest):
        bench, shown = Bench(arbiter, rest), list[PoseStamped]()
        rest.create_subscription(PoseStamped, "dry_run/target_pose", shown.append, COMMAND)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        bench.spin(lambda: arbiter._engagement.engaged)

        def showing() -> bool:
            rest.send(rest.now_ns(), RIGHT)
            spin_for(0.1, arbiter, rest)
            return len(shown) >= 3

        bench.spin(showing)
        assert all(step.dry_run for step in bench.steps)
        assert bench.acted and rest.targets == [] and rest.count_publishers("target_pose") == 0


def test_the_last_words_bring_the_target_to_rest() -> None:
    with graph(lambda: Rest(lock_step=False)) as (rest,):
        poses = rest.create_publisher(PoseStamped, topics.POSE, SENSOR)
        rest.every(0.02, lambda: poses.publish(convert.pose_message(HOME, rest.now_ns(), "base")))
        rest.machine = EpisodeMachine(EpisodeConfig(()), "run1", 1, 0, 0)
        rest.say_state(rest.machine.state)
        with Process("arbiter", script=HERE) as process:
            spin_until(lambda: rest.count_publishers(topics.STEP) > 0 and poses.get_subscription_count() > 0, rest)
            spin_until(lambda: rest.count_subscribers(topics.STATE) > 1 and rest.count_subscribers(topics.ACTION) > 0, rest)
            spin_for(0.5, rest)  # it hears that nothing runs, before something does
            rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())

            def moving() -> bool:
                rest.send(rest.now_ns(), RIGHT)
                spin_for(0.05, rest)
                return len(rest.targets) > 10

            spin_until(moving, rest)
            process.signal(signal.SIGINT)
            spin_until(lambda: rest.heard[topics.STEP][-1].hold is Hold.UNENGAGED, rest)
            before = len(rest.targets)
            spin_until(lambda: rest.count_publishers(topics.TARGET) == 0, rest)
            assert process.finish()[0] == 0
            ways = np.diff([at(message)[1] for _, message in rest.targets])
            assert ways.min() < -1e-3 and ways.max() <= 0  # it was moving, and is not called back to where the arm is
            assert len(rest.targets) > before and abs(ways[-1]) < np.abs(ways).max() / 4  # but brakes


# ---- nobody moves an arm on that nobody can stop ----------------------------------------------------------------------


def stopped(rest: Rest, why: str) -> Callable[[], bool]:
    return lambda: any(one.verb is Verb.STOP and why in one.why for one in rest.heard[topics.REQUEST])


def test_an_arm_that_is_ready_too_late_is_not_engaged() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.measured = Pose((0.9, 0.0, 0.2), POINTING_DOWN)
        bench.spin(lambda: arbiter._core.robot.pose.position[0] == 0.9)
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        bench.spin(stopped(rest, "could not be engaged for 5 s: engage at (0.9"))
        bench.measured = HOME  # somebody has moved it there by hand
        bench.spin(lambda: arbiter._core.robot.pose.position == HOME.position)
        spin_for(0.3, arbiter, rest)
        assert not arbiter._engagement.engaged and rest.targets == []


class Mortal(Rest):
    """Its episode node can end alone."""

    def create_publisher(self, kind: Any, topic: str, qos: Any, **more: Any) -> Any:
        made = super().create_publisher(kind, topic, qos, **more)
        if topic == topics.STATE:
            self.episode = made
        return made


def test_without_an_episode_node_the_arm_is_let_go() -> None:
    with graph(ArbiterNode, lambda: Mortal(lock_step=False)) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        rest.destroy_publisher(rest.episode)
        bench.spin(lambda: not arbiter._engagement.engaged)
        bench.spin(stopped(rest, "no episode node"))


@pytest.mark.parametrize("clock", ["the graph's", "wall"])
def test_a_run_past_its_time_limit_is_left(clock: str) -> None:
    """By either clock: the graph's may have been set back."""
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        past = 31 * SECOND  # limit: 20 s, and 10 s more
        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns() - (past if clock != "wall" else 0))
        if clock == "wall":
            bench.spin(lambda: arbiter._engagement.engaged)
            arbiter._engagement._run_wall_ns -= past
        bench.spin(stopped(rest, "did not end it at its time limit"))
        spin_for(0.3, arbiter, rest)
        assert not arbiter._engagement.engaged


@pytest.mark.parametrize(("kind", "topic"), [(PoseStamped, topics.TARGET), (JointState, topics.GRIPPER_COMMAND)])
def test_where_another_commands_arm_or_gripper_it_does_not(kind: type, topic: str) -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        other = rest.create_publisher(kind, topic, COMMAND)
        bench.spin(lambda: not arbiter._engagement.engaged)
        bench.spin(stopped(rest, f"2 nodes publish /{topic}"))
        rest.play(Request(Verb.STOP, "", ""), rest.now_ns())
        rest.play(Request(Verb.SEALED, "", ""), rest.now_ns())
        rest.play(Start("press-red", "press", Mode.TRAIN, 4), rest.now_ns())
        bench.spin(lambda: f"2 nodes publish /{topic}" in arbiter.health.report(arbiter.wall_ns()).message)
        assert not arbiter._engagement.engaged
        rest.destroy_publisher(other)
        bench.spin(lambda: arbiter._engagement.engaged)


def again(rest: Rest) -> None:
    """Another episode after the one that was left."""
    rest.play(Request(Verb.STOP, "", ""), rest.now_ns())
    rest.play(Request(Verb.SEALED, "", ""), rest.now_ns())
    rest.play(Start("press-red", "press", Mode.TRAIN, 4), rest.now_ns())


def test_the_arm_is_not_moved_while_the_other_hosts_clock_is_unknown_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_watch, "EVERY_NS", SECOND // 2)
    off = r"clock of host gpu \+2\d\d\.\d ms, give or take .*: no more than 100 ms may be between the clocks; synchronise"
    with real_time(side="robot", clock_limit_s=0.1) as (arbiter, rest):
        bench = Bench(arbiter, rest)

        def says(pattern: str) -> Callable[[], Any]:
            return lambda: re.search(pattern, arbiter.health.report(arbiter.wall_ns()).message)

        rest.play(Start("press-red", "press", Mode.TRAIN, 3), rest.now_ns())
        bench.spin(says(r"engage: clock of host gpu: not known to be within 100 ms of this one \(nobody there tells the"))
        with Process("clock", "gpu", 0.25):
            bench.spin(says("engage: " + off))
            assert not arbiter._engagement.engaged
        with Process("clock", "gpu", 0.0):
            bench.spin(lambda: arbiter._engagement._other_clock.problem() is None)
            again(rest)
            bench.spin(lambda: arbiter._engagement.engaged)
            assert "OK: gpu " in dict(arbiter.health.report(arbiter.wall_ns()).values)["clock"]
        with Process("clock", "gpu", 0.25):  # it was set in the middle of a run
            bench.spin(lambda: not arbiter._engagement.engaged)
            bench.spin(lambda: any(request.verb is Verb.STOP and re.match(off, request.why)
                                   for request in rest.heard[topics.REQUEST]))  # fmt: skip
    assert rest.targets == []


def test_a_clock_that_has_not_been_heard_for_long_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_watch, "KEPT_NS", 2 * SECOND)
    monkeypatch.setattr(clock_watch, "EVERY_NS", SECOND // 2)
    with real_time(side="robot", clock_limit_s=0.1) as (arbiter, rest):
        bench = Bench(arbiter, rest)
        with Process("clock", "gpu", 0.0):
            bench.spin(lambda: arbiter._engagement._other_clock.problem() is None)
            bench.run()
        bench.spin(stopped(rest, "clock of host gpu: measured "))
        assert not arbiter._engagement.engaged


def test_a_request_about_another_episode_engages_nobody() -> None:
    with real_time() as (arbiter, rest):
        bench = Bench(arbiter, rest)
        bench.run()
        bench.spin(lambda: rest.count_subscribers(topics.TWIST) > 0)

        def taken() -> bool:
            bench.twist(y=0.1)
            spin_for(0.05, arbiter, rest)
            return arbiter._core.human_held

        bench.spin(taken)
        bench.twist(frame=topics.RELEASED)
        bench.spin(lambda: arbiter._core.engaged is ControlSource.HUMAN)
        for about in ("run1-000099", "run1-000001"):
            rest.request(Request(Verb.ENGAGE, "", about))
            spin_for(0.3, arbiter, rest)
            assert (arbiter._core.engaged is ControlSource.POLICY) == (about == "run1-000001")


def at(message: PoseStamped) -> tuple[float, float, float]:
    return message.pose.position.x, message.pose.position.y, message.pose.position.z


def test_in_lock_step_the_gripper_has_no_band() -> None:
    with pytest.raises(ConfigError, match="every step says where the gripper goes"), graph(
        ArbiterNode, lock_step=True, limits__gripper_band=0.1
    ):
        pass
