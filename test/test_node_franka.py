"""The franka node against the fake Franka graph (franka_fake.py), each a process or node of its own, on real rclpy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: source ROS 2 with it")
pytest.importorskip("franka_msgs", reason="needs franka_msgs: source ROS 2 with it")
pytest.importorskip("control_msgs", reason="needs control_msgs: source ROS 2 with it")
pytest.importorskip("controller_manager_msgs", reason="needs controller_manager_msgs: source ROS 2 with it")
pytest.importorskip("tf2_ros", reason="needs tf2_ros: source ROS 2 with it")
os.environ["IREVLA_ROS"] = "native"

from controller_manager_msgs.srv import SwitchController
from franka_msgs.action import PTPMotion
from rclpy.action import ActionClient

from franka_cell import FAKE, PERIOD_S, QUICK, Cell, cell, words
from irevla_ros.core.episode_machine import EpisodeConfig
from irevla_ros.core.episode_state import Phase, Request, ResetDone, Verb
from irevla_ros.core.graph_messages import Consent
from irevla_ros.core.reset_motion import ResetMotionConfig
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.arbiter import ArbiterNode
from irevla_ros.nodes.franka.command import SERVO
from irevla_ros.nodes.franka.doctor import examine
from irevla_ros.nodes.franka.node import STARTED
from irevla_ros.nodes.franka.procedure import Procedure, achieve
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import JointState, PoseStamped, String, TwistStamped, WrenchStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from ros_toys import Process

Start = Callable[..., Cell]
WATCHED = {"arbiter:margins.arm": "fr3", "arbiter:await_engage": "true"}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a fake with these parameters and a cell with those; until its state is heard."""
    with ExitStack() as stack:

        def begin(fake: dict[str, Any] | None = None, **parameters: Any) -> Cell:
            made = stack.enter_context(cell(fake, **parameters))
            made.until(lambda: made.widths and (made.poses or {"frame", "rubbish", "arm_prefix"} & set(fake or {})))
            return made

        yield begin


def in_start_box(tip: Any) -> bool:
    box = ResetMotionConfig()
    return bool((tip > np.array(box.start_low) - 0.02).all() and (tip < np.array(box.start_high) + 0.02).all())


def test_reset_takes_the_arm_to_the_seeds_start_pose_and_a_run_follows_the_arbiter_alone(start: Start) -> None:
    arm = start()
    assert not in_start_box(arm.tip)
    arm.run()
    assert in_start_box(arm.tip)
    goal = arm.tip + [0.05, 0.03, -0.02]
    arm.reach(goal)

    with arm.joined_by("intruder") as intruder:
        foreign = intruder.create_publisher(PoseStamped, topics.TARGET_IN, COMMAND)
        arm.until(lambda: foreign.get_subscription_count() == 1)
        before = arm.tip
        arm.drive(before + [0.0, 0.0, 0.05], 1.0, by=foreign)
        arm.drive(before + [0.0, 0.0, 0.05], 1.0)  # nor the arbiter, while there are two
        assert np.linalg.norm(arm.tip - before) < 0.005
        arm.until(lambda: arm.health().get(f"{topics.TARGET_IN}.refused", "0") != "0")
    arm.until(lambda: arm.arbiter.count_publishers(topics.TARGET_IN) == 1)
    arm.reach(before + [0.0, 0.0, 0.05])

    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    arm.pause(0.3)
    after = arm.tip
    arm.drive(after + [0.0, 0.0, -0.05], 1.0)  # the run is over
    assert np.linalg.norm(arm.tip - after) < 0.005


def test_no_reset_begins_before_the_arbiter_consents(start: Start) -> None:
    arm = start(consent_s="1.0")
    arm.arbiter.engaged = False
    arm.until(lambda: arm.node._consent._newest is not None and not arm.node._consent.engaged)
    before = arm.tip
    arm.peer.start()
    arm.until(lambda: arm.health().get("consent", "").endswith("waiting: the operator has not called arbiter/engage"))
    assert "the operator has not called arbiter/engage" in arm.reset().failure
    arm.arbiter.engaged, arm.arbiter.hindrance = True, "stopped by the operator"
    assert "does not consent: stopped by the operator" in arm.reset().failure
    arm.arbiter.voice.cancel()
    assert "the arbiter is silent" in arm.reset().failure
    with arm.joined_by("other") as other:  # nor does another's word count
        words = other.create_publisher(String, topics.CONSENT, COMMAND)
        other.create_timer(0.1, lambda: words.publish(String(data=Consent(arm.now_ns(), 1, True, "").to_json())))
        assert "the arbiter is silent" in arm.reset().failure
    assert np.linalg.norm(arm.tip - before) < 0.002


@pytest.mark.parametrize("by", ["ptp", "trajectory"])
@pytest.mark.parametrize("lost", ["stopped by the operator", "the operator has not called arbiter/engage", "silent"])
def test_a_reset_ends_where_the_consent_does(start: Start, lost: str, by: str) -> None:
    arm = start(reset__velocity_rad_s="0.3", reset__by=by)
    before = arm.tip
    state = arm.peer.start()
    arm.until(lambda: np.linalg.norm(arm.tip - before) > 0.02)  # on its way home
    if lost == "silent":
        arm.arbiter.voice.cancel()
    elif "engage" in lost:
        arm.arbiter.engaged = False
    else:
        arm.arbiter.hindrance = lost
    began = arm.node.wall_ns()
    arm.until(lambda: any(one.episode_id == state.episode_id and lost in one.failure for one in arm.done), 5.0)
    assert arm.node.wall_ns() - began < 0.7e9
    arm.pause(0.4)
    stands = arm.tip
    arm.pause(0.7)
    assert np.linalg.norm(arm.tip - stands) < 0.002


def test_a_recovery_needs_no_fault_of_the_arbiter_but_may_precede_the_engage(start: Start) -> None:
    arm = start(consent_s="1.0")
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: arm.health().get("robot", "").startswith("ERROR"))
    arm.arbiter.engaged, arm.arbiter.hindrance = False, "external force above its limit"
    arm.pause(0.3)
    assert arm.trigger("robot/recover").success
    arm.until(lambda: "external force" in arm.health().get("recovery", ""))
    assert arm.node._arm.fault() is not None
    arm.arbiter.hindrance = ""
    arm.pause(0.3)
    assert arm.trigger("robot/recover").success  # a robot with a fault has no state to engage by
    arm.until(lambda: arm.health().get("robot", "").startswith("OK"))


def test_targets_that_are_old_or_of_another_frame_are_refused(start: Start) -> None:
    arm = start()
    arm.run()
    before = arm.tip
    pose = Pose.of(before + [0.0, 0.0, 0.05], POINTING_DOWN)
    for _ in range(5):
        arm.targets.publish(convert.pose_message(pose, arm.now_ns() - 2 * 10**9, "base"))
        arm.pause(PERIOD_S)
        arm.targets.publish(convert.pose_message(pose, arm.now_ns(), "world"))
        arm.pause(PERIOD_S)
        arm.targets.publish(convert.pose_message(pose, arm.now_ns() + 2 * 10**9, "base"))  # or a clock that went back
        arm.pause(PERIOD_S)
    assert np.linalg.norm(arm.tip - before) < 0.005
    arm.until(lambda: int(arm.health().get(f"{topics.TARGET_IN}.refused", "0")) >= 12)


def test_not_even_the_first_target_of_another_is_passed_on(start: Start) -> None:
    """It may be heard before the graph lists its sender; crisp would go to it for ever."""
    arm = start()
    told = arm.peer.take(PoseStamped, topics.TARGET, COMMAND)
    arm.run()
    far = Pose.of(arm.tip + [0.0, 0.0, 0.1], POINTING_DOWN)
    for number in range(10):
        heard = len(told)
        with arm.joined_by(f"intruder{number}") as intruder:
            foreign = intruder.create_publisher(PoseStamped, topics.TARGET_IN, COMMAND)
            arm.until(lambda foreign=foreign: foreign.get_subscription_count() == 1)
            foreign.publish(convert.pose_message(far, arm.now_ns(), "base"))
            arm.pause(0.1)
        assert len(told) == heard
        arm.until(lambda: arm.arbiter.count_publishers(topics.TARGET_IN) == 1)


def test_crisp_ignores_a_topic_of_two_publishers(start: Start) -> None:
    """The quirk that the gate exists for: whoever else publishes target_pose stops the arm, and the checks name it."""
    arm = start()
    arm.run()
    with arm.joined_by("other") as other:
        other.create_publisher(PoseStamped, topics.TARGET, COMMAND)
        arm.until(lambda: other.count_publishers(topics.TARGET) == 2)
        arm.pause(0.5)
        before = arm.tip
        arm.drive(before + [0.0, 0.0, 0.05], 1.5)
        assert np.linalg.norm(arm.tip - before) < 0.005


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
@pytest.mark.parametrize("shows", [True, False])
def test_a_reflex_ends_the_run_as_a_fault_and_the_next_reset_recovers(start: Start, distro: str, shows: bool) -> None:
    arm = start({"distro": distro, "fault_shows": str(shows)})
    arm.run()
    goal = arm.tip + [0.06, 0.0, 0.06]
    arm.drive(goal, 0.4)  # under way
    assert arm.trigger("fake/reflex").success
    arm.drive(goal, 0.5)  # an arbiter that has not noticed: the controller that is inactive hears it all the same
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    faults = [one for one in arm.asked if one.verb is Verb.FAULT]
    assert "reflex" in faults[0].why or "unconfigured" in faults[0].why or "no state" in faults[0].why
    state = arm.peer.play(faults[0], arm.now_ns())
    assert state.termination_reason is not None
    assert state.termination_reason.value == "fault"
    assert state.truncated

    arm.run()
    assert in_start_box(arm.tip)
    assert arm.health().get("recoveries") == "1"
    goal = arm.tip + [0.0, 0.04, 0.0]
    arm.reach(goal)


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_the_arm_does_not_leap_when_its_controller_is_active_again(start: Start, distro: str) -> None:
    arm = start({"distro": distro, "fault_shows": "false"})
    arm.run()
    before = arm.tip
    assert arm.trigger("fake/reflex").success
    arm.drive(before + [0.05, 0.0, 0.05], 1.0)  # until the fault is seen, the controller that is inactive hears it
    arm.peer.play(Request(Verb.FAULT, "x"), arm.now_ns())
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    assert arm.trigger("robot/recover").success
    arm.until(lambda: arm.health().get("recovery", "").startswith("OK"))
    arm.pause(0.5)
    assert np.linalg.norm(arm.tip - before) < 0.01


def test_the_arm_stops_by_itself_where_it_meets_the_table(start: Start) -> None:
    arm = start({"reflex_n": 100.0})
    arm.run()
    arm.drive(arm.tip - [0.0, 0.0, 0.25], 2.0)
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    assert -0.002 < arm.tip[2] < 0.03  # the fingers give way a little


def test_after_the_budget_a_human_has_to_look(start: Start) -> None:
    arm = start(recovery__in_a_row="1")
    for expected in ("", "in 1 episodes in a row"):
        assert arm.trigger("fake/reflex").success
        arm.until(lambda: arm.health().get("robot", "").startswith("ERROR"))
        done = arm.reset()
        assert (done.failure == "") if not expected else (expected in done.failure and "robot/recover" in done.failure)
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.pause(0.2)
    assert arm.trigger("robot/recover").success
    arm.until(lambda: arm.health().get("robot", "").startswith("OK"))
    assert arm.reset().failure == ""


def test_what_a_human_stopped_is_not_recovered_from(start: Start) -> None:
    arm = start({"distro": "humble"})  # where the state that shows it stays
    arm.run()
    assert arm.trigger("fake/user_stop").message == "pressed"
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    assert "the user stop is pressed; look at the arm, then call robot/recover" in arm.reset().failure
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.pause(0.2)
    assert arm.trigger("robot/recover").success  # while it is pressed: in vain
    arm.until(lambda: arm.health().get("recovery", "").startswith("ERROR"))
    assert arm.trigger("fake/user_stop").message == "released"
    before = arm.tip
    assert "call robot/recover" in arm.reset().failure  # it does not start to move because somebody let go
    assert np.linalg.norm(arm.tip - before) < 0.002
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.pause(0.2)
    assert arm.trigger("robot/recover").success
    arm.until(lambda: arm.health().get("robot", "").startswith("OK"))
    assert arm.reset().failure == ""


def test_a_user_stop_outlasts_a_recovery_that_somebody_else_made(start: Start) -> None:
    arm = start({"distro": "humble"})  # where the state that shows it stays
    arm.run()
    assert arm.trigger("fake/user_stop").message == "pressed"
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    assert arm.trigger("fake/user_stop").message == "released"
    ended: list[str] = []
    Procedure(arm.node._recovery.steps(), ended.append)  # the same calls, as from Desk or a terminal
    arm.until(lambda: ended)
    assert ended == [""]
    before = arm.tip
    assert "the user stop is pressed; look at the arm, then call robot/recover" in arm.reset().failure
    assert np.linalg.norm(arm.tip - before) < 0.002


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_a_user_stop_that_nobody_saw_is_told_from_a_fault(start: Start, distro: str) -> None:
    arm = start({"distro": distro, "fault_shows": "false"})
    arm.run()
    assert arm.trigger("fake/user_stop").message == "pressed"
    arm.until(lambda: "unconfigured" in arm.health().get("robot", ""))
    assert arm.trigger("fake/user_stop").message == "released"
    before = arm.tip
    assert "it names no error that stopped it: somebody may have" in arm.reset().failure
    assert "call robot/recover" in arm.reset().failure
    assert np.linalg.norm(arm.tip - before) < 0.002
    assert arm.node._controllers.states["cartesian_impedance_controller"] == "inactive"
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    assert arm.trigger("robot/recover").success
    arm.until(lambda: arm.health().get("recovery", "").startswith("OK"))
    assert arm.reset().failure == ""


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_a_recovery_that_begins_at_once_waits_for_what_the_fault_takes_down(start: Start, distro: str) -> None:
    arm = start({"distro": distro})
    arm.run()
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    assert arm.trigger("fake/reflex").success
    arm.until(arm.node._arm.fault)
    assert arm.node._controllers.hardware == "active"
    assert arm.reset().failure == ""
    arm.until(lambda: arm.health().get("recoveries") == "1")


def test_no_target_passes_while_the_arm_is_recovered(start: Start) -> None:
    arm = start()
    arm.run()
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.until(lambda: arm.node._gate.closed == "")  # after a run the arbiter brakes
    assert arm.trigger("robot/recover").success
    before = arm.tip
    arm.drive(before + [0.0, 0.0, 0.05], 0.2)
    assert arm.node._gate.closed == "the arm is being reset or recovered"
    arm.until(lambda: arm.node._gate.closed == "")
    arm.pause(0.5)
    assert np.linalg.norm(arm.tip - before) < 0.02


def test_a_node_that_had_to_wait_reads_what_came_before_it_calls_the_others_silent(start: Start) -> None:
    arm = start(reset__velocity_rad_s="0.3")
    before = arm.tip
    state = arm.peer.start()
    arm.until(lambda: np.linalg.norm(arm.tip - before) > 0.02)  # on its way home
    time.sleep(1.5)  # nothing runs in this process
    arm.until(lambda: any(one.episode_id == state.episode_id for one in arm.done))
    assert [one.failure for one in arm.done if one.episode_id == state.episode_id] == [""]
    arm.peer.play(arm.done[-1], arm.now_ns())
    arm.until(lambda: not arm.node._gate.closed)
    time.sleep(1.5)
    arm.pause(1.0)
    assert not arm.asked
    assert not arm.node._gate.closed


def test_the_drivers_silence_is_a_fault_though_joint_states_go_on(start: Start) -> None:
    """joint_state_publisher repeats what it heard last, with new stamps."""
    arm = start()
    arm.run()
    client = arm.peer.create_client(SwitchController, "controller_manager/switch_controller")
    off = ["franka_robot_state_broadcaster", "joint_state_broadcaster"]
    sent = client.call_async(SwitchController.Request(deactivate_controllers=off, strictness=2))
    arm.until(sent.done)
    arm.until(lambda: any(one.verb is Verb.FAULT and "no state from the robot" in one.why for one in arm.asked))
    heard = len(arm.poses)
    arm.pause(0.5)
    assert len(arm.poses) == heard


@pytest.mark.parametrize("fake_hardware", ["false", "true"])
def test_when_the_driver_is_dead_repeated_joint_states_are_no_state_of_the_arm(start: Start, fake_hardware: str) -> None:
    """joint_state_publisher outlives ros2_control_node, and repeats what it heard last, with new stamps."""

    arm = start({"fake_hardware": fake_hardware}, arbiter=ArbiterNode, **WATCHED)
    joints = arm.peer.take(JointState, topics.JOINTS, SENSOR)
    arm.until(lambda: joints and arm.trigger("arbiter/engage").success)
    last = joints[-1]
    repeated = arm.peer.create_publisher(JointState, "joint_states", 10)
    arm.peer.every(0.03, lambda: repeated.publish(JointState(header=convert.header(arm.now_ns(), ""), name=last.name,
                                                             position=last.position)))  # fmt: skip
    arm.fake.kill()
    arm.until(lambda: "no state from the robot" in arm.health().get("robot", ""))
    arm.until(lambda: "too old" in arm.trigger("arbiter/engage").message)  # pose_s later than the franka node says so
    arm.restart()
    heard = len(arm.poses), len(joints)
    arm.pause(1.5)
    assert (len(arm.poses), len(joints)) == heard
    assert "too old" in arm.trigger("arbiter/engage").message


@pytest.mark.parametrize("fake_hardware", ["false", "true"])
def test_what_a_failed_component_repeats_is_not_passed_on(start: Start, fake_hardware: str) -> None:
    arm = start({"fake_hardware": fake_hardware, "distro": "humble", "fault_shows": "false"})
    taken = [arm.peer.take(JointState, topics.JOINTS, SENSOR), arm.peer.take(WrenchStamped, topics.WRENCH, SENSOR), arm.poses]
    driver = arm.peer.take(JointState, "franka/joint_states", SENSOR)
    arm.until(lambda: taken[0] and (taken[1] or fake_hardware == "true"))
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: "unconfigured" in arm.health().get("robot", ""))
    heard, repeated = list(map(len, taken)), len(driver)
    arm.pause(0.5)
    assert list(map(len, taken)) == heard
    assert len(driver) > repeated


@pytest.mark.parametrize("wrong", [{"frame": "fr3_link0"}, {"rubbish": "pose"}, {"rubbish": "joints"}])
def test_mode_and_errors_are_seen_whatever_is_wrong_with_the_rest_of_the_state(start: Start, wrong: dict[str, str]) -> None:
    arm = start(wrong | {"distro": "humble"})  # where the state goes on after the fault
    wrenches = arm.peer.take(WrenchStamped, topics.WRENCH, SENSOR)
    arm.until(lambda: wrenches)
    assert bool(arm.poses) == ("joints" in wrong.values())
    if "joints" in wrong.values():
        assert arm.trigger("fake/reflex").success
        arm.until(lambda: arm.health().get("robot") == "ERROR: reflex (cartesian_reflex)")
        return
    assert arm.trigger("fake/user_stop").message == "pressed"
    arm.until(lambda: arm.health().get("robot") == "ERROR: the user stop is pressed")
    assert arm.trigger("fake/user_stop").message == "released"
    assert "the user stop is pressed; look at the arm, then call robot/recover" in arm.reset().failure


def test_a_goal_that_nobody_waits_for_any_more_is_cancelled_once_it_is_accepted(start: Start) -> None:
    arm = start()
    client = ActionClient(arm.node, PTPMotion, "action_server/ptp_motion")
    arm.until(client.server_is_ready)
    home = list(ResetMotionConfig().home)
    home[0] += 1.0
    goal = PTPMotion.Goal(goal_joint_configuration=home, maximum_joint_velocities=[0.3] * 7, goal_tolerance=0.01)
    work = Procedure(achieve(arm.node, client, goal, 10.0, "ptp_motion"), lambda _: None)
    arm.until(lambda: client._pending_goal_requests)
    work.cancel()  # before the answer was heard
    arm.pause(1.0)
    assert arm.drift() < 0.002


def test_the_gripper_heeds_the_arbiter_alone(start: Start) -> None:
    arm = start()
    arm.run()
    with arm.joined_by("other") as other:
        foreign = other.create_publisher(JointState, topics.GRIPPER_COMMAND, COMMAND)
        arm.until(lambda: foreign.get_subscription_count() == 1)
        foreign.publish(convert.width_message(0.0, arm.now_ns()))
        arm.until(lambda: arm.health().get(f"{topics.GRIPPER_COMMAND}.refused", "0") != "0")
        arm.pause(1.0)
    assert convert.width_of(arm.widths[-1]) > 0.07


def test_servo_gets_no_twist_while_another_publishes_them(start: Start) -> None:
    """Unlike crisp, Servo would obey both."""
    arm = start(command="servo", controller="fr3_arm_controller", reset__by="ptp")
    arm.run()
    with arm.joined_by("other") as other:
        other.create_publisher(TwistStamped, SERVO, COMMAND)
        arm.until(lambda: arm.node.count_publishers(SERVO) == 2)
        before = arm.tip
        arm.drive(before + [0.04, 0.0, 0.0], 1.0)
        assert np.linalg.norm(arm.tip - before) < 0.002


def test_the_gripper_moves_on_a_change_and_the_newest_wish_wins(start: Start) -> None:
    arm = start()
    arm.run()

    def width() -> float:
        return convert.width_of(arm.widths[-1])

    assert width() > 0.07  # the reset opened it
    for wish in [0.0, 0.01, 0.0, 0.02, 0.045, 0.0] * 5:
        arm.grip.publish(convert.width_message(wish, arm.now_ns()))
        arm.pause(0.05)
    arm.until(lambda: width() < 0.005)
    arm.until(lambda: arm.health().get("gripper.changes") == "1")
    for wish in (0.08, 0.0, 0.08):  # while the first still moves
        arm.grip.publish(convert.width_message(wish, arm.now_ns()))
        arm.pause(0.15)
    arm.until(lambda: width() > 0.075)
    arm.pause(1.0)
    assert width() > 0.075
    arm.until(lambda: arm.health().get("gripper.changes") == "4")


@pytest.mark.parametrize(
    ("fake", "parameters", "told"),
    [
        ({"tcp_off_m": 0.02}, {}, "o_t_ee and TF's fr3_hand_tcp are 20.0 mm"),
        ({"clock_off_s": -0.6}, {}, "clock of the robot's host: the freshest state was +6"),
        ({}, {"controller": "no_such_controller"}, "controller: no_such_controller is not loaded"),
        ({}, {"tip": "fr3_nothing"}, "TF knows no fr3_nothing in base"),
        ({"frame": "fr3_link0"}, {}, "the robot's pose is in frame 'fr3_link0': it is 'base'"),
    ],
)
def test_no_engagement_before_the_checks_are_passed(start: Start, fake: dict[str, Any], parameters: dict[str, str],
                                                    told: str) -> None:  # fmt: skip
    arm = start(fake, settle_s="1.0", **parameters)
    before = np.array(arm.node._arm.joints)
    assert told in arm.reset().failure
    arm.pause(0.5)
    assert np.abs(arm.node._arm.joints - before).max() < 0.002  # nor moved


def test_fake_hardware_has_joint_states_alone(start: Start) -> None:
    arm = start({"fake_hardware": "true"}, reset__by="trajectory")
    assert arm.reset().failure == ""
    assert in_start_box(arm.tip)
    arm.until(lambda: arm.health().get("state") == "OK: from franka/joint_states")


def test_servo_gets_fresh_twists_and_the_arm_stops_without(start: Start) -> None:
    arm = start(command="servo", controller="fr3_arm_controller", reset__by="ptp")
    arm.run()
    goal = arm.tip + [0.04, 0.02, 0.0]
    arm.reach(goal, 0.015)
    arm.drive(arm.tip + [0.2, 0.0, 0.0], 0.3)
    arm.pause(0.6)
    assert arm.drift() < 0.005


def test_a_restarted_node_stops_the_run(start: Start) -> None:
    arm = start()
    state = arm.peer.start()
    arm.peer.play(ResetDone("robot", "", state.episode_id, state.sequence), arm.now_ns())
    arm.until(lambda: any(one.verb is Verb.STOP and "restarted" in one.why for one in arm.asked))


def test_after_a_restart_within_an_episode_a_human_has_to_look(start: Start) -> None:
    arm = start()
    arm.run()
    arm.restart()
    arm.until(lambda: any(one.verb is Verb.STOP and "restarted" in one.why for one in arm.asked))
    before = arm.tip
    assert f"{STARTED}; look at the arm, then call robot/recover" in arm.reset().failure
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.pause(0.2)
    assert np.linalg.norm(arm.tip - before) < 0.002
    assert arm.trigger("robot/recover").success
    arm.until(lambda: arm.health().get("recovery", "").startswith("OK"))
    assert arm.reset().failure == ""


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_a_fault_from_before_the_node_began_is_not_recovered_from(start: Start, distro: str) -> None:
    arm = start({"distro": distro})
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: arm.health().get("robot", "").startswith("ERROR"))
    arm.restart()
    failure = arm.reset().failure
    assert STARTED in failure
    assert "robot/recover" in failure


def test_a_restart_between_two_episodes_does_not_make_the_budget_whole(start: Start) -> None:
    arm = start(recovery__in_a_row="1")
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: arm.health().get("robot", "").startswith("ERROR"))
    assert arm.reset().failure == ""
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    arm.restart()
    before = arm.tip
    assert STARTED in arm.reset().failure  # nor is it moved without a fault
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: arm.health().get("robot", "").startswith("ERROR"))
    assert STARTED in arm.reset().failure
    assert np.linalg.norm(arm.tip - before) < 0.002
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.pause(0.2)
    arm.engage()
    assert arm.reset().failure == ""


@pytest.mark.parametrize("by", ["ptp", "trajectory"])
def test_a_motion_that_outlived_its_franka_node_is_cancelled_by_the_next_one(start: Start, by: str) -> None:
    arm = start(reset__by=by)
    driver = arm.peer.take(JointState, "franka/joint_states", SENSOR)

    def way(seconds: float) -> float:
        """How far the arm has come within a while."""
        arm.pause(seconds)
        before = driver[-1]
        arm.pause(seconds)
        return float(np.abs(np.subtract(driver[-1].position, before.position)).max())

    arm.leave()
    arm.until(lambda: arm.peer.count_publishers(topics.TARGET) == 0)  # nor one that was killed a moment ago
    slow = words(QUICK | {"reset.velocity_rad_s": "0.03", "reset.by": by})
    with Process("irevla_ros.nodes.franka", "--ros-args", *slow, script=Path("-m")) as other:
        arm.arbiter.engaged = False
        arm.until(lambda: arm.peer.count_subscribers(topics.CONSENT) == 1 and "robot" in arm.health())
        arm.pause(0.5)
        arm.arbiter.engaged = True
        arm.pause(0.5)
        state = arm.peer.start()
        arm.until(lambda: way(0.3) > 0.001)
        other.kill()
    assert way(0.3) > 0.001  # nobody has told it to stop
    arm.restart(left=True)
    arm.until(lambda: way(0.3) < 0.0005, 5.0)
    arm.until(lambda: any(one.episode_id == state.episode_id and STARTED in one.failure for one in arm.done))


def test_no_episode_begins_while_somebody_else_moves_the_arm(start: Start) -> None:
    arm = start()
    client = ActionClient(arm.peer, PTPMotion, "action_server/ptp_motion")
    arm.until(client.server_is_ready)
    there = [angle + (2.0 if joint == 0 else 0.0) for joint, angle in enumerate(ResetMotionConfig().home)]
    client.send_goal_async(PTPMotion.Goal(goal_joint_configuration=there, maximum_joint_velocities=[0.1] * 7,
                                          goal_tolerance=0.01))  # fmt: skip
    before = arm.tip
    arm.until(lambda: np.linalg.norm(arm.tip - before) > 0.01)
    assert "an arm that stands still: not within 2 s" in arm.reset().failure


def test_a_fault_that_comes_and_goes_within_the_run_ends_it_and_no_target_passes_any_more(start: Start) -> None:
    arm = start()
    arm.run()
    before = arm.tip
    arm.node._said_wall_ns = arm.node.wall_ns() + 3 * 10**9  # nothing is said for so long, as for a second after each word
    assert arm.trigger("fake/user_stop").message == "pressed"
    arm.until(lambda: arm.node._gate.closed)
    assert not [one for one in arm.asked if one.verb is Verb.FAULT]
    arm.node._arm.fault = lambda: None  # as when it was released at once and recovered from elsewhere
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    assert "there was a fault in this run" in arm.node._gate.closed
    arm.drive(before + [0.0, 0.0, 0.05], 1.0)
    assert np.linalg.norm(arm.tip - before) < 0.005


def test_twists_end_with_the_gate(start: Start) -> None:
    arm = start(command="servo", controller="fr3_arm_controller", reset__by="ptp", target_s="5.0")
    twists = arm.peer.take(TwistStamped, SERVO, COMMAND)
    arm.run()
    arm.drive(arm.tip + [0.06, 0.0, 0.0], 0.3)
    assert np.linalg.norm([twists[-1].twist.linear.x, twists[-1].twist.linear.y]) > 0.01
    arm.peer.play(Request(Verb.FAULT, "x"), arm.now_ns())
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    arm.until(lambda: arm.node._gate.closed)
    arm.pause(0.2)
    assert twists[-1].twist.linear.x == 0.0
    heard = len(twists)
    arm.pause(0.5)
    assert len(twists) == heard


def test_at_its_end_crisp_is_told_nothing(start: Start) -> None:
    arm = start()
    told = arm.peer.take(PoseStamped, topics.TARGET, COMMAND)
    arm.run()
    arm.drive(arm.tip + [0.03, 0.0, 0.0], 0.3)
    heard = len(told)
    arm.node.on_shutdown()
    arm.pause(0.3)
    assert len(told) == heard > 0


def test_dry_run_moves_nothing(start: Start) -> None:
    arm = start(dry_run="true")
    before = arm.tip
    arm.run()
    arm.drive(before + [0.0, 0.0, 0.05], 1.0)
    arm.grip.publish(convert.width_message(0.0, arm.now_ns()))
    arm.pause(0.5)
    assert np.linalg.norm(arm.tip - before) < 0.002
    assert convert.width_of(arm.widths[-1]) > 0.07
    assert not arm.trigger("robot/recover").success


@pytest.mark.parametrize(("theirs", "driver"), [("/arm0", {}), ("/robot", {"driver": "/robot"}), ("/", {"driver": "/"})])
def test_a_node_in_a_namespace_with_the_driver_there_or_elsewhere(start: Start, theirs: str, driver: dict[str, str]) -> None:
    arm = start(spaces=(theirs, "/arm0"), **driver)
    arm.run()
    assert in_start_box(arm.tip)
    goal = arm.tip + [0.05, 0.03, -0.02]
    arm.reach(goal)
    arm.grip.publish(convert.width_message(0.0, arm.now_ns()))
    arm.until(lambda: convert.width_of(arm.widths[-1]) < 0.005)
    assert arm.trigger(f"{theirs.rstrip('/')}/fake/reflex").success
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    arm.run()  # at once, while the driver still takes its controllers down
    arm.until(lambda: arm.health().get("recoveries") == "1")


def test_an_arm_whose_names_have_a_prefix(start: Start) -> None:
    arm = start({"arm_prefix": "left"}, arm_prefix="left", reset__by="trajectory")
    arm.run()  # frames, joints and hardware component are its own
    assert in_start_box(arm.tip)
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: any(one.verb is Verb.FAULT for one in arm.asked))
    assert arm.reset().failure == ""


def test_the_controllers_of_an_arm_of_another_name_are_left_alone(start: Start) -> None:
    arm = start({"arm_prefix": "right"})
    arm.until(lambda: arm.node._arm.joints is not None and arm.node._controllers.states)
    before, states = np.array(arm.node._arm.joints), dict(arm.node._controllers.states)
    assert "FrankaHardwareInterface: the controller_manager has none of that name; set `arm_prefix`" in arm.reset().failure
    assert dict(arm.node._controllers.states) == states
    assert np.abs(arm.node._arm.joints - before).max() < 0.002


@pytest.mark.parametrize("seconds", [5.0, -5.0])
def test_where_the_clock_of_the_robots_host_jumps_nothing_is_fresh(start: Start, seconds: float) -> None:
    arm = start(arbiter=ArbiterNode, **WATCHED)
    arm.until(lambda: arm.trigger("arbiter/engage").success)
    arm.set_fake("clock_off_s", seconds)
    arm.until(lambda: "too old" in arm.trigger("arbiter/engage").message)
    heard = len(arm.poses)
    arm.until(lambda: len(arm.poses) > heard + 50)
    assert "too old" in arm.trigger("arbiter/engage").message  # the stream goes on, by that clock
    assert arm.health()["robot"].startswith("OK")  # its faults are seen all the same
    arm.set_fake("clock_off_s", 0.0)
    arm.until(lambda: arm.trigger("arbiter/engage").success)


@pytest.mark.parametrize("seconds", [30.0, -30.0])
def test_a_clock_that_steps_for_all_ends_neither_reset_nor_run(start: Start, monkeypatch: pytest.MonkeyPatch,
                                                               seconds: float) -> None:  # fmt: skip
    """One host's time, set by NTP in the midst of it."""
    real = GraphNode.now_ns

    def step(by_s: float) -> None:
        monkeypatch.setattr(GraphNode, "now_ns", lambda node: real(node) + round(by_s * 1e9))
        arm.set_fake("clock_off_s", by_s)

    arm = start(reset__velocity_rad_s="0.3")
    before = arm.tip
    state = arm.peer.start()
    arm.until(lambda: np.linalg.norm(arm.tip - before) > 0.02)  # on its way home
    step(seconds)
    arm.until(lambda: any(one.episode_id == state.episode_id for one in arm.done))
    assert arm.done[-1].failure == ""
    arm.peer.play(arm.done[-1], arm.now_ns())
    goal = arm.tip + [0.04, 0.0, 0.0]
    arm.drive(goal, 0.3)
    step(0.0)
    arm.reach(goal)
    assert not arm.asked


# ---- somebody who wants to hurt the arm ------------------------------------------------------------------------------


def test_a_controller_that_somebody_else_deactivates_ends_the_run(start: Start) -> None:
    """Else the targets would run away from it, and it would leap after them once it is active again."""
    arm = start()
    arm.run()
    client = arm.peer.create_client(SwitchController, "controller_manager/switch_controller")
    controller = "cartesian_impedance_controller"
    sent = client.call_async(SwitchController.Request(deactivate_controllers=[controller], strictness=2))
    arm.until(sent.done)
    before = arm.tip
    arm.drive(before + [0.0, 0.0, 0.05], 0.5)
    arm.until(lambda: any(one.verb is Verb.FAULT and f"{controller} is inactive" in one.why for one in arm.asked))
    sent = client.call_async(SwitchController.Request(activate_controllers=[controller], strictness=2))
    arm.until(sent.done)
    arm.drive(before + [0.0, 0.0, 0.15], 1.0)
    assert np.linalg.norm(arm.tip - before) < 0.055  # what it was told before that was noticed, no more
    assert "is inactive" in arm.node._gate.closed  # for the rest of this run
    arm.run()  # no fault of the robot, so nothing to recover from
    assert arm.health().get("recoveries") == "0"


@pytest.mark.parametrize("released", [True, False])
def test_a_user_stop_within_a_recovery_ends_it_for_good(start: Start, released: bool) -> None:
    arm = start()
    arm.run()
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    assert arm.trigger("fake/reflex").success
    arm.until(lambda: "unconfigured" in arm.health().get("robot", ""))
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    state = arm.peer.start()
    arm.until(lambda: arm.node._budget.total == 1)
    arm.pause(0.15)  # error_recovery is under way
    assert arm.trigger("fake/user_stop").message == "pressed"
    if released:
        arm.pause(0.3)
        assert arm.trigger("fake/user_stop").message == "released"
    arm.until(lambda: any(one.episode_id == state.episode_id for one in arm.done))
    before = np.array(arm.node._arm.joints)
    assert "call robot/recover" in arm.reset().failure
    assert np.abs(arm.node._arm.joints - before).max() < 0.002


def test_a_force_within_a_reset_ends_it_until_it_is_resumed(start: Start) -> None:
    arm = start(arbiter=ArbiterNode, reset__velocity_rad_s="0.3", force__watched="true", **WATCHED)
    arm.until(lambda: arm.trigger("arbiter/engage").success)
    before = arm.tip
    state = arm.peer.start()
    arm.until(lambda: np.linalg.norm(arm.tip - before) > 0.02)  # on its way home
    arm.set_fake("push_n", 60.0)
    arm.until(lambda: any(one.episode_id == state.episode_id for one in arm.done))
    assert "stopped on the way: external force above its limit" in arm.done[-1].failure
    arm.set_fake("push_n", 0.0)
    arm.pause(0.5)
    assert arm.drift() < 0.002
    arm.peer.play(Request(Verb.STOP), arm.now_ns())
    arm.peer.play(Request(Verb.SEALED), arm.now_ns())
    arm.peer.start()
    arm.until(lambda: arm.health().get("consent", "").endswith("waiting: external force above its limit"))


def test_a_hand_that_never_answers_ends_the_reset_and_not_the_node(start: Start) -> None:
    arm = start({"hand_hangs": "true"})
    assert "action franka_gripper/move: no answer in 6.0 s" in arm.reset().failure
    arm.until(lambda: arm.health().get("robot", "").startswith("OK"))


def test_joints_that_are_nan_now_and_then_never_end_the_node(start: Start) -> None:
    arm = start({"rubbish": "now and then"})
    arm.reset()  # whatever comes of it
    assert arm.reset().failure == "" or arm.drift() < 0.002


def test_nothing_is_recovered_in_an_episode_nor_changed_while_it_runs(start: Start) -> None:
    """A recovery within it would open the gate again while the target is a leash away."""
    arm = start()
    arm.peer.machine.config = EpisodeConfig(("robot",), confirm_required=True, reset_ns=10**12)
    done = arm.reset()
    arm.peer.play(done, arm.now_ns())
    assert arm.peer.machine.state.phase is Phase.READY
    arm.until(lambda: "put it right" in arm.health().get("scene", ""))
    assert arm.trigger("robot/recover").message == "stop the episode first"
    changed = arm.set_parameter("franka", "reset.velocity_rad_s", 2.0)
    assert not changed.successful
    assert "read-only" in changed.reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_end_takes_its_motion_with_it(start: Start, number: int) -> None:
    arm = start()
    driver = arm.peer.take(JointState, "franka/joint_states", SENSOR)

    def way(seconds: float) -> float:
        before = driver[-1]
        arm.pause(seconds)
        return float(np.abs(np.subtract(driver[-1].position, before.position)).max())

    arm.leave()
    arm.until(lambda: arm.peer.count_publishers(topics.TARGET) == 0)
    slow = words(QUICK | {"reset.velocity_rad_s": "0.05"})
    with Process("irevla_ros.nodes.franka", "--ros-args", *slow, script=Path("-m")) as other:
        arm.arbiter.engaged = False
        arm.until(lambda: arm.peer.count_subscribers(topics.CONSENT) == 1 and "robot" in arm.health())
        arm.pause(0.5)
        arm.arbiter.engaged = True
        arm.pause(0.5)
        arm.peer.start()
        arm.until(lambda: way(0.3) > 0.001)
        other.signal(number)
        assert other.finish()[0] == 0
    arm.pause(0.3)
    assert way(0.5) < 0.0005
    arm.restart(left=True)


def test_the_doctor_says_the_same_from_outside() -> None:
    with Process("--ros-args", "-r", "__ns:=/left", "-p", "tcp_off_m:=0.02", script=FAKE) as fake:
        fake.expect("fake franka ready")
        found = {one.name: one for one in examine("left", "franka")}
        assert "20.0 mm" in found["frames"].found
        assert found["state"].level == 0
        assert found["franka_msgs"].level == 0
        other = {one.name: one for one in examine("right", "franka")}
        assert "nothing on /right/franka_robot_state_broadcaster/robot_state" in other["state"].found
