"""What a collection is made of: counting from files, undo, quality, whose turn it is, and finding a device's axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.collection import Choice, Job, TaskTally, least_done, task_name
from irevla_ros.core.config import build_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Clip
from irevla_ros.core.pad_search import AxisSearch, ButtonSearch, Found, Rest, as_parameters, mapping_of
from irevla_ros.core.quality import QualityCheck, QualityConfig
from irevla_ros.core.rotation import POINTING_DOWN, exp, multiply
from irevla_ros.core.teleop import Action, Pad, PadMapping, in_hand
from irevla_ros.core.types import Mode, Observation, Outcome
from irevla_ros.data.labels import Label, LabelHistory
from irevla_ros.data.paths import sealed_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.data.tally import count
from irevla_ros.nodes.orders import OrdersConfig, OwnOrders
from spool_toys import toy_episode

MS = 1_000_000
PERIOD = 100 * MS

# ---- counting --------------------------------------------------------------------------------------------------------


def test_the_count_is_that_of_the_files_with_their_labels(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number, (task, outcome, mode) in enumerate([
        ("red", Outcome.SUCCESS, Mode.DEMO), ("red", Outcome.SUCCESS, Mode.DEMO), ("green", Outcome.FAILURE, Mode.DEMO),
        ("green", Outcome.UNKNOWN, Mode.TRAIN), ("green", Outcome.SUCCESS, Mode.EVAL), ("red", Outcome.SUCCESS, Mode.DEMO),
    ]):  # fmt: skip
        spool.write_episode(toy_episode(f"run-{number:06d}", steps=4, task=task, outcome=outcome, mode=mode))
    spool.write_episode(toy_episode("other-arm-000009", steps=4, task="red", outcome=Outcome.FAILURE, mode=Mode.DEMO,
                                    defects=("too short",)))  # fmt: skip
    spool.label("run-000001", None, "ada", discard=True)
    spool.label("run-000005", Outcome.FAILURE, "ada")
    sealed_path(tmp_path, "run-000000").write_bytes(b"rubbish")
    found = count(SpoolReader(tmp_path), lambda name: name.startswith("run-"))
    assert found.tasks == (TaskTally("green", failure=1, unknown=1, steps=8), TaskTally("red", failure=2, discarded=1, steps=8))
    assert (found.damaged, found.defective) == (1, 1)
    assert found.last is not None
    assert (found.last.episode_id, found.last.outcome, found.last.discarded) == ("run-000005", Outcome.FAILURE, False)


def test_an_episode_keeps_what_was_wrong_with_it_and_that_it_was_disturbed(tmp_path: Path) -> None:
    Spool(tmp_path).write_episode(toy_episode("a-1", steps=3, defects=("frozen camera: front", "too short"), perturbed=True))
    meta = SpoolReader(tmp_path).read("a-1").meta
    assert (meta.defects, meta.perturbed) == (("frozen camera: front", "too short"), True)


# ---- undo ------------------------------------------------------------------------------------------------------------

SUCCESS, FAILURE = Outcome.SUCCESS, Outcome.FAILURE


class Book:
    """Labels as a recorder appends them."""

    def __init__(self, sealed: Outcome) -> None:
        self.sealed, self.labels = sealed, LabelHistory()

    def label(self, outcome: Outcome | None, discard: bool = False, note: str = "") -> None:
        labels = self.labels.labels
        self.labels = LabelHistory((*labels, Label(len(labels) + 1, outcome, "ada", discard, note)))

    def undo(self) -> None:
        outcome, discard, note = self.labels.undo(self.sealed)
        self.label(outcome, discard, note)

    @property
    def state(self) -> tuple[Outcome, bool]:
        return self.labels.outcome(self.sealed), self.labels.discarded


def test_undo_takes_back_the_last_verdict_then_the_episode_then_that() -> None:
    book = Book(SUCCESS)
    book.label(FAILURE)
    book.label(None, note="a note is no act")
    states = []
    for _ in range(4):
        book.undo()
        states.append(book.state)
    assert states == [(SUCCESS, False), (SUCCESS, True), (SUCCESS, False), (SUCCESS, True)]


def test_a_verdict_after_an_undo_is_a_new_act() -> None:
    book = Book(SUCCESS)
    book.undo()
    book.undo()
    book.label(FAILURE)
    assert book.state == (FAILURE, False)
    book.undo()
    assert book.state == (SUCCESS, False)


@given(st.lists(st.sampled_from([(SUCCESS, False), (FAILURE, False), (None, True), (SUCCESS, True)]), max_size=6))
def test_as_many_undos_as_acts_lead_back(acts: list[tuple[Outcome | None, bool]]) -> None:
    book = Book(SUCCESS)
    states = [book.state]
    for outcome, discard in acts:
        book.label(outcome, discard)
        book.label(None, discard, note="undo")  # an operator's note of that wording is no undo where nothing changes
        if book.state != states[-1]:
            states.append(book.state)
    for before in reversed(states[:-1]):
        book.undo()
        assert book.state == before


# ---- quality ---------------------------------------------------------------------------------------------------------


def look(camera: int, x: float) -> Observation:
    """A picture of one grey, and the hand at ``x`` m (0.5 is the middle of the proprioception, 0.2 its scale)."""
    proprio = np.array([(x - 0.5) / 0.2, 0, 0, 1, 0, 1], np.float32)
    return Observation({"front": np.full((4, 4, 3), camera, np.uint8)}, proprio, "")


def checked(**settings: float) -> QualityCheck:
    return QualityCheck(build_config(QualityConfig, {"enabled": True, **settings}, "quality"), PERIOD)


def test_a_sound_episode_has_no_defects() -> None:
    check = checked()
    for k in range(20):
        check.arrived(k * PERIOD + (k % 3) * MS)
        check.taken(look(k, 0.4 + 0.01 * k))
        check.acted(())
    assert check.defects(20) == ()


def test_each_defect_is_said_with_its_numbers() -> None:
    check = checked()
    for k in (0, 1, 2, 5, 6, 7, 8):  # frames 3 and 4 of 9 are missing
        check.arrived(k * PERIOD)
    for k in range(7):  # one picture, while the hand goes 6 cm
        check.taken(look(7, 0.40 + 0.01 * k))
    for k in range(8):
        check.acted((Clip.ACTION, Clip.BOX) if k < 3 else ())
    assert check.defects(7) == (
        "too short: 7 steps, at least 10 wanted",
        "missing frames: 2 of 9, longest gap 0.30 s at 100 ms a frame",
        "frozen camera: front showed one picture while the hand moved 6.0 cm",
        "clipped actions: 38% of the steps (action 38%, box 38%)",
    )


def test_a_hand_that_rests_freezes_no_camera_and_a_pause_of_the_operator_is_no_missing_frame() -> None:
    check = checked()
    for k in range(30):
        check.arrived(k * PERIOD)  # all frames came; only some of them were acted on
        if k < 6 or k > 20:
            check.taken(look(1, 0.5))
            check.acted(())
    assert check.defects(15) == ()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="shares from 0 to 1"):
        QualityConfig(clipped_share=1.5)


# ---- whose turn ------------------------------------------------------------------------------------------------------


def test_next_is_the_task_with_the_fewest_successes_then_the_fewest_episodes() -> None:
    tasks = ["a", "b", "c"]
    assert least_done(tasks, []) == 0
    assert least_done(tasks, [TaskTally("a", success=1), TaskTally("b", success=2)]) == 2
    assert least_done(tasks, [TaskTally("a", success=1), TaskTally("b", 1, failure=3), TaskTally("c", 1)]) == 0
    assert least_done(tasks, [TaskTally("a", 1, failure=1), TaskTally("b", 1, failure=3), TaskTally("c", 1)]) == 2


def test_the_operators_choice_stays_until_it_is_taken_back() -> None:
    own = OwnOrders(OrdersConfig(tasks=("a", "b"), instructions=("do a", "do b"), order="balanced", seed=7, operator="ada",
                                 perturbed=True), PERIOD, False)  # fmt: skip
    own.tally = [TaskTally("a", success=3)]
    start = own.start(5)
    assert start is not None
    assert (start.task, start.instruction, start.seed, start.operator, start.perturbed) == ("b", "do b", 12, "ada", True)
    own.choose(Choice("a"))
    assert [own.next(n) for n in (5, 6)] == [Job("a", "do a")] * 2 and own.agenda(6).chosen
    own.choose(Choice(instruction="do b"))
    assert own.next(6) == Job("b", "do b")
    own.choose(Choice(instruction="Stack the cups!"))
    assert own.next(6) == Job("stack-the-cups", "Stack the cups!")
    own.choose(Choice("unheard-of"))
    assert own.next(6) == Job("stack-the-cups", "Stack the cups!")
    own.choose(Choice())
    assert own.next(6) == Job("b", "do b") and not own.agenda(6).chosen


def test_a_list_in_turns_does_not_look_at_the_count() -> None:
    own = OwnOrders(OrdersConfig(tasks=("a", "b"), instructions=("do a", "do b")), PERIOD, False)
    own.tally = [TaskTally("a", success=3)]
    assert [job.task for n in range(4) if (job := own.next(n)) is not None] == ["a", "b", "a", "b"]


def test_no_list_and_no_choice_is_nothing_to_do() -> None:
    own = OwnOrders(OrdersConfig(), PERIOD, False)
    assert own.start(1) is None and own.agenda(1).next is None
    own.choose(Choice(instruction="open the drawer"))
    assert own.next(1) == Job("open-the-drawer", "open the drawer")


@given(st.text(max_size=200))
def test_any_words_make_a_name_that_can_name_a_task_or_none(text: str) -> None:
    name = task_name(text)
    assert len(name) <= 60 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.startswith("-") and not name.endswith("-")


# ---- the hand's axes -------------------------------------------------------------------------------------------------


def test_the_hands_axes_are_the_bases_while_it_points_down() -> None:
    assert in_hand([0.1, 0.2, 0.3], np.asarray(POINTING_DOWN)) == pytest.approx([0.1, 0.2, 0.3])
    quarter = multiply(exp(np.array([0.0, 0.0, np.pi / 2])), np.asarray(POINTING_DOWN))  # turned to the left
    assert in_hand([0.1, 0.0, 0.3], quarter) == pytest.approx([0.0, 0.1, 0.3])
    tipped = multiply(exp(np.array([0.0, -np.pi / 2, 0.0])), np.asarray(POINTING_DOWN))  # the fingers point forward
    assert in_hand([0.0, 0.0, -1.0], tipped) == pytest.approx([1.0, 0.0, 0.0])  # "down" is where the fingers point


# ---- calibration -----------------------------------------------------------------------------------------------------


def swing(search: AxisSearch, rest: list[float], axis: int, peak: float) -> Found | None:
    found = None
    for share in (0.1, 0.5, 1.0, 0.7, 0.4, 0.1, 0.0):
        values = list(rest)
        values[axis] += share * peak
        found = search.see(values)
        if found is not None:
            return found
    return found


def test_axes_and_buttons_are_found_and_the_written_mapping_steers() -> None:
    resting = [0.0, 0.02, 1.0, 0.0]  # the third is a trigger, which rests at 1
    rest = Rest.of([[0.0, 0.02, 1.0, 0.0], [0.0, 0.02, 1.0, 0.02], [0.0, 0.02, 1.0, -0.02]])
    forward, left = swing(AxisSearch(rest), resting, 1, -0.8), swing(AxisSearch(rest), resting, 3, 0.35)
    assert forward is not None and left is not None
    assert (forward.number, forward.sign, left.number, left.sign) == (1, -1.0, 3, 1.0)
    assert (forward.full, left.full) == pytest.approx((0.8, 0.35))
    assert swing(AxisSearch(rest), resting, 0, 0.1) is None  # hardly touched
    mapping = mapping_of(rest, [forward, left, None, None, None, None], 4, {Action.START: 7})
    text = as_parameters("gamepad", mapping)
    read = yaml.safe_load(text)["/**/teleop"]["ros__parameters"]
    assert read.pop("device") == "gamepad"
    tree = {name.removeprefix("gamepad."): value for name, value in read.items()}
    again = build_config(PadMapping, tree, "file")
    assert again == mapping and again.buttons[Action.SUCCESS] == -1
    pad = Pad(again, 1000 * MS)
    pad.press([0] * 8, 0, 0)
    pad.steer([0.0, -0.8, 1.0, 0.35], 50 * MS, 50 * MS)
    pad.press([0, 0, 0, 0, 1, 0, 0, 0], 50 * MS, 50 * MS)
    assert pad.hand(50 * MS, 50 * MS).motion == (1, 1, 0, 0, 0, 0)


def test_a_button_counts_once_all_were_up() -> None:
    search = ButtonSearch()
    assert [search.see(b) for b in ([0, 1], [0, 0], [0, 0], [1, 0])] == [None, None, None, 0]


def test_a_button_for_two_things_is_refused() -> None:
    with pytest.raises(ConfigError, match="each button once"):
        mapping_of(Rest((0.0,), 0.0), [None] * 6, 3, {Action.STOP: 3})
