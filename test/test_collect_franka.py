"""`irevla collect --graph franka` as an operator has it, on real rclpy, against the fake Franka graph (franka_fake.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs rclpy: source ROS 2 with it")
pytest.importorskip("franka_msgs", reason="needs franka_msgs: source ROS 2 with it")
pytest.importorskip("control_msgs", reason="needs control_msgs: source ROS 2 with it")
pytest.importorskip("controller_manager_msgs", reason="needs controller_manager_msgs: source ROS 2 with it")
pytest.importorskip("tf2_ros", reason="needs tf2_ros: source ROS 2 with it")
os.environ["IREVLA_ROS"] = "native"

from franka_cell import FAKE
from irevla_ros.core.config import find_config
from irevla_ros.core.types import ControlSource, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from operator_toys import Collection, collecting, drive, on_terminal, see
from ros_toys import Process

# The fake's arm is stiff, and two cores are slow.
PATIENT = {
    "/**": {"max_age_s": 0.5},
    "/**/arbiter": {"pose_s": 1.0, "human_s": 1.0, "command_s": 1.0, "chunk_age_s": 1.5, "margins.fresh_s": 1.0,
                    "force.fresh_s": 1.0, "force.force_n": 1000.0, "force.torque_nm": 100.0},
    "/**/franka": {"reset.velocity_rad_s": 1.5, "checks.clock_s": 0.2},
    "/**/desk": {"key_hold_s": 1.0},
}  # fmt: skip


def cell(folder: Path) -> tuple[str, ...]:
    """The graph without a camera node, as the fake has a camera's driver, and parameters with ``PATIENT`` on top."""
    graph = yaml.safe_load(find_config("franka", "graphs").read_text())
    del graph["nodes"]["camera"]
    (folder / "cell.yaml").write_text(yaml.safe_dump(graph))
    sections = {name: {"ros__parameters": values} for name, values in PATIENT.items()}
    (folder / "ours.yaml").write_text(yaml.safe_dump(sections))
    files = "--params-file", "franka", "--params-file", str(folder / "ours.yaml")
    return str(folder / "cell.yaml"), *files, "-p", "view:port:=0"


def engage(desk: Collection, nodes: int = 6) -> None:
    """Once the franka node is there to hear it."""
    see(desk, r"[1-9]\d*\.\d observations")
    see(desk, f"{nodes} well")
    desk.press("+")
    see(desk, r"arm +engaged")


@pytest.mark.timeout(600)
def test_an_episode_is_driven_judged_sealed_and_replayed_by_the_keys_of_one_terminal(tmp_path: Path) -> None:
    graph, spool = cell(tmp_path), tmp_path / "lab" / "practice"
    arguments = ("--graph", *graph, "--run", str(tmp_path / "lab"), "--instruction", "push the blue cube left")
    with Process(script=FAKE) as fake:
        fake.expect("fake franka ready")
        with collecting(*arguments) as desk:  # as shipped: nothing is sent to the robot
            see(desk, 'push-the-blue-cube-left: "push the blue cube left"')
            see(desk, r"arm +not engaged: it is not moved before you press \+")
            engage(desk)
            desk.press("t")
            see(desk, "READY +lab-000001")
            desk.press("cg")
            see(desk, "RUN +lab-000001")
            drive(desk, 3)
            see(desk, "DRY RUN, so the robot gets nothing and nothing is recorded")
            desk.press("n")
            see(desk, "lab-000001: 0 steps kept")
            assert desk.stop() == 130
        with collecting(*arguments, "-p", "dry_run:=false") as desk:
            engage(desk)
            desk.press("t")
            see(desk, "READY +lab-000002")
            desk.press("cg")
            see(desk, "RUN +lab-000002")
            drive(desk, 12)
            desk.press("y")
            see(desk, r"last +lab-000002  push-the-blue-cube-left  \d+ steps  success")
            assert desk.stop() == 130
        words = ["episodes", "replay", str(spool), "lab-000002", "--on", *graph, "--run", str(tmp_path / "again")]
        with on_terminal([*words, "-p", "dry_run:=false", "-p", "replay:stall_s:=5.0"]) as desk:
            engage(desk, 7)
            desk.press("t")
            see(desk, "READY +again-000001")
            desk.press("cg")
            steps = len(SpoolReader(spool).read("lab-000002"))
            see(desk, rf"the last ended: replayed all {steps} steps, the tip at most \d\.\d cm from where it was recorded")
            assert desk.stop() == 130
    assert SpoolReader(spool).ids() == ["lab-000002"]
    again = SpoolReader(tmp_path / "again" / "practice").read("again-000001")
    assert set(again.source) == {ControlSource.SCRIPT} and len(again) == steps
    episode = SpoolReader(spool).read("lab-000002")
    assert (episode.meta.mode, episode.meta.outcome) == (Mode.DEMO, Outcome.SUCCESS)
    assert len(episode) >= 12 and set(episode.source) == {ControlSource.HUMAN}
