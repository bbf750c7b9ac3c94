"""`irevla collect` as an operator has it: one terminal, real nodes, wrong keys, kill -9, a count that is right after all."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irevla_ros.core.types import ControlSource, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.nodes.checking import check_names
from irevla_ros.nodes.graph import load_graph
from irevla_ros.nodes.parameters.reading import read_settings, reader_of
from irevla_ros.ros.given import in_file
from operator_toys import PATIENCE_S, OnTerminal, begin, collecting, drive, operator, see, until


def test_without_a_terminal_it_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from irevla_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run([*command, "collect", "--run", str(tmp_path)], stdin=subprocess.DEVNULL, start_new_session=True,
                          capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"irevla: error: terminal '/dev/tty': it cannot be opened .*\n", done.stderr)


@pytest.mark.timeout(600)
def test_a_session_with_every_accident(tmp_path: Path) -> None:
    run = tmp_path / "by-hand"
    arguments = ("--run", str(run), "--tasks", "press-red,press-green", "--goal", "3", "--operator", "ada",
                 "-p", "recorder:quality.least_steps:=1000", "-p", "view:port:=0")  # fmt: skip
    with collecting(*arguments) as desk:
        see(desk, "next +press-red")
        begin(desk)
        drive(desk, 4)
        desk.press("b")
        see(desk, "PERTURBED")
        desk.press("n")
        see(desk, r"last +by-hand-000001  press-red  \d+ steps  failure  perturbed")
        assert "! too short" in desk.screen()
        see(desk, r"press-red +0/3 +1 ")
        desk.press("y")  # it was none: the late verdict is the last
        see(desk, r"press-red +1/3 +0 ")
        see(desk, "next +press-green")
        desk.press("u")
        see(desk, r"press-red +0/3 +1 ")
        desk.press("mthe cup wobbled\r")
        see(desk, "note on by-hand-000001")
        desk.press("1")
        see(desk, "next +press-red.*your choice")
        begin(desk)
        desk.press("z")
        see(desk, "by-hand-000002: 0 steps kept")
        begin(desk)
        drive(desk, 20)  # a row is on the disk once its late parts have been waited for
        desk.kill()
    spool = run / "practice"
    assert (spool / "by-hand-000003.log").exists()  # as the dead recorder left it
    with collecting(*arguments) as desk:
        see(desk, r"press-red +0/3 +1 +1 ")  # the open episode was recovered, its outcome unknown
        see(desk, "2 episodes,")
        desk.press("u")
        see(desk, "by-hand-000003 is taken back")
        see(desk, r"press-red +0/3 +1 +0 +1 ")
        assert desk.stop() == 130
    reader = SpoolReader(spool)
    first, third = reader.record("by-hand-000001"), reader.record("by-hand-000003")
    assert (first.meta.outcome, first.meta.perturbed, first.meta.operator) == (Outcome.FAILURE, True, "ada")
    assert first.meta.defects[0].startswith("too short") and third.discarded
    labels = reader.labels("by-hand-000001").labels
    assert [(label.outcome, label.note) for label in labels] == [
        (Outcome.SUCCESS, ""), (Outcome.FAILURE, "undo"), (None, "the cup wobbled"),
    ]  # fmt: skip
    assert set(reader.read("by-hand-000001").source) == {ControlSource.HUMAN}
    assert [reader.verify(name).episode_id for name in reader.ids()] == ["by-hand-000001", "by-hand-000003"]


@pytest.mark.timeout(300)
def test_the_arm_is_engaged_stopped_and_resumed_by_keys(tmp_path: Path) -> None:
    with collecting("--run", str(tmp_path / "keys"), "-p", "arbiter:await_engage:=true", "-p", "view:port:=0") as desk:
        see(desk, r"arm +not engaged: it is not moved before you press \+")
        begin(desk)
        desk.press("w")
        see(desk, "the last ended: the arm could not be engaged for 5 s: engage: the operator has not let this arm be")
        desk.press("+")
        see(desk, "arm engage: the arm may be moved")
        see(desk, r"arm +engaged\n")
        begin(desk)
        drive(desk, 3)
        desk.press("h")
        see(desk, "arm stop: the arm holds until resume")
        see(desk, r"arm +HELD: stopped by the operator; \. resumes")
        steps = int(re.findall(r"(\d+) steps, held: stopped", see(desk, r"\d+ steps, held: stopped by the operator"))[0])
        desk.press("wwww")
        time.sleep(0.5)
        assert f"{steps} steps, held: stopped" in desk.screen()
        desk.press(".")
        see(desk, "arm resume: what is engaged may move the arm again")
        drive(desk, steps + 3)
        desk.press("-")
        see(desk, "the last ended: the operator has disengaged the arm")
        see(desk, r"arm +not engaged")
        assert desk.stop() == 130


def test_a_calibration_asks_for_each_axis_and_button_and_writes_what_the_teleop_node_reads(tmp_path: Path) -> None:
    out = tmp_path / "pad.yaml"
    with operator() as hands:
        asked = OnTerminal(["teleop", "calibrate", "gamepad", "--out", str(out)])

        def wait_for(text: str) -> None:
            until(lambda: text in asked.printed, PATIENCE_S, f"{text!r} in {asked.printed[-300:]!r}")

        def move(what: str, axis: int, peak: float) -> None:
            wait_for(f"let go: {what}")
            time.sleep(0.3)
            for values in ([0.0] * axis + [peak] + [0.0] * (5 - axis), [0.0] * 6):
                hands.axes = values
                time.sleep(0.6)

        def press(what: str, name: str) -> None:
            wait_for(f"button for: {what}")
            time.sleep(0.3)
            hands.press(name, 0.6)
            time.sleep(0.8)

        hands.axes = [0.0] * 6
        move("forward", 4, -0.8)
        move("to the left", 3, 0.9)
        wait_for("let go: up")
        asked.press("\n")
        for what in ("tilt it to the right", "tilt it forward", "turn it"):
            wait_for(f"let go: {what}")
            asked.press("\n")
        press("deadman", "close")
        press("start", "success")
        others = "success failure stop discard undo confirm engage disturb open close gripper"
        for what in (*others.split(), "arm stop", "arm resume", "arm engage", "arm disengage"):
            wait_for(f"button for: {what}")
            asked.press("\n")
        assert asked.process.wait(60) == 0, asked.printed
    given = in_file(out)[0]
    assert given.values["gamepad.axes"] == [4, 3, -1, -1, -1, -1] and given.values["gamepad.signs"][:2] == [-1.0, 1.0]
    assert given.values["gamepad.full"][:2] == pytest.approx([0.776, 0.873], abs=0.01)
    assert (given.values["gamepad.deadman"], given.values["gamepad.start"], given.values["gamepad.undo"]) == (0, 3, -1)
    check_names(load_graph("collect"), [out])
    read_settings("teleop", reader_of("pad.yaml", given.values))
