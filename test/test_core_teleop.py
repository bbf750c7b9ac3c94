from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.messages import MessageError
from irevla_ros.core.teleop import (
    ACTION_KEYS,
    GRIPPER_ACTIONS,
    MOTION_KEYS,
    SPACEMOUSE,
    STILL,
    XBOX,
    Action,
    Deadman,
    Hand,
    Keys,
    Pad,
    PadMapping,
    Say,
    Speeds,
)

MS = 1_000_000
HOLD = LIMIT = 250 * MS


def test_a_key_acts_for_a_short_while_after_each_press() -> None:
    keys = Keys(HOLD)
    assert keys.hand(0) == Hand(True, False)
    keys.press("w", 0)
    assert keys.hand(249 * MS).motion == (1, 0, 0, 0, 0, 0)
    assert keys.hand(250 * MS) == Hand(True, False)
    keys.press("wwaq", 300 * MS)
    assert keys.hand(300 * MS).motion == (1, 1, 0, 0, 0, 1)
    keys.press("s", 400 * MS)
    assert keys.hand(400 * MS).motion == (0, 1, 0, 0, 0, 1)  # forward and back at once
    assert keys.hand(600 * MS).motion == (-1, 0, 0, 0, 0, 0)


def test_a_clock_that_went_back_holds_no_key() -> None:
    keys = Keys(HOLD)
    keys.press("w", 10_000 * MS)
    assert not keys.hand(5_000 * MS).deadman


def test_verbs_are_told_once_and_hold_nothing_but_the_gripper_does() -> None:
    keys = Keys(HOLD)
    keys.press("yx\x1b[A~9W", 0)
    assert keys.hand(0) == Hand(True, False, STILL, (Action.SUCCESS, Action.STOP))
    assert keys.hand(0).actions == ()
    keys.press(" ", 0)
    assert keys.hand(0) == Hand(True, True, STILL, (Action.GRIPPER,))
    assert not set(MOTION_KEYS) & set(ACTION_KEYS)


def joy(pad: Pad, at: int, deadman: bool = True, axes: Any = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0), *more: int) -> Hand:
    pad.steer(axes, at, at)
    pad.press([int(n in more or (deadman and n == 5)) for n in range(11)], at, at)
    return pad.hand(at, at)


def test_a_pad_moves_the_arm_only_while_its_deadman_is_held() -> None:
    pad = Pad(XBOX, LIMIT)
    assert joy(pad, 0, False) == Hand(True, False)
    assert joy(pad, 50 * MS).motion == (1, 0, 0, 0, 0, 0)
    half = joy(pad, 100 * MS, True, (-0.55, 0.05, 0.0, -1.0, 0.1, 0.0))
    assert half.motion == pytest.approx((0, -0.5, 0, 0, 0, -1))  # (0.55 - 0.1) / 0.9; the rest in the dead zone
    assert joy(pad, 150 * MS, False) == Hand(True, False)


def test_what_is_older_than_its_limit_is_no_command_by_either_clock() -> None:
    for now, wall in ((301 * MS, 300 * MS), (300 * MS, 301 * MS)):
        pad = Pad(XBOX, LIMIT)
        joy(pad, 0, False)
        assert joy(pad, 50 * MS).deadman
        assert pad.hand(300 * MS, 300 * MS).deadman
        assert pad.hand(now, wall) == Hand(False, False)


def test_a_deadman_counts_from_a_press_that_was_seen() -> None:
    pad = Pad(XBOX, LIMIT)
    assert not joy(pad, 0).fresh  # already pressed when the device appeared
    assert joy(pad, 50 * MS, False).fresh
    assert joy(pad, 100 * MS).deadman
    assert not pad.hand(400 * MS, 400 * MS).fresh  # unplugged
    assert not joy(pad, 500 * MS).fresh  # and back, still pressed
    assert joy(pad, 550 * MS, False).fresh
    assert joy(pad, 600 * MS).deadman
    assert not joy(pad, 2000 * MS).deadman  # nobody looked while it was away


def test_buttons_ask_when_they_go_down() -> None:
    pad = Pad(XBOX, LIMIT)
    assert joy(pad, 0, False, (0.0,) * 6, 3).actions == ()  # nobody saw it go down
    assert joy(pad, 50 * MS, False, (0.0,) * 6).actions == ()
    assert joy(pad, 100 * MS, False, (0.0,) * 6, 3, 6).actions == (Action.SUCCESS, Action.STOP)
    assert joy(pad, 150 * MS, False, (0.0,) * 6, 3, 6).actions == ()


@pytest.mark.parametrize("axes", [(0.0,) * 4, (0.0, math.nan, 0.0, 0.0, 0.0)])
def test_malformed_axes_silence_the_device(axes: Any) -> None:
    pad = Pad(XBOX, LIMIT)
    joy(pad, 0, False)
    joy(pad, 50 * MS)
    with pytest.raises(MessageError, match="axis|axes"):
        pad.steer(axes, 60 * MS, 60 * MS)
    assert pad.hand(60 * MS, 60 * MS) == Hand(False, False)


def test_missing_buttons_silence_the_device() -> None:
    pad = Pad(XBOX, LIMIT)
    joy(pad, 0, False)
    joy(pad, 50 * MS)
    with pytest.raises(MessageError, match="button 10 is mapped"):
        pad.press([0] * 7, 60 * MS, 60 * MS)
    assert not pad.hand(60 * MS, 60 * MS).fresh


def test_the_release_is_said_once_and_silence_is_not_a_release() -> None:
    deadman = Deadman()
    held, released, silent = Hand(True, True), Hand(True, False), Hand(False, False)
    said = [deadman.tick(h) for h in (silent, released, held, held, silent, silent, held, released, released)]
    assert said == [Say.NOTHING, Say.NOTHING, Say.TWIST, Say.TWIST, Say.STOP, Say.NOTHING, Say.TWIST, Say.RELEASED, Say.NOTHING]


def test_the_gripper_goes_to_the_other_side_of_where_it_is() -> None:
    width: list[float | None] = [None]
    deadman = Deadman(0.08, lambda: width[0])
    toggle = Hand(True, True, STILL, (Action.GRIPPER,))
    deadman.tick(toggle)
    assert deadman.gripper is None  # nobody knows where it is
    width[0] = 0.07
    deadman.tick(toggle)
    assert deadman.gripper == 0.0
    deadman.tick(toggle)  # it has not closed yet
    assert deadman.gripper == 0.08
    deadman.tick(Hand(True, True, STILL, (Action.CLOSE,)))
    assert deadman.gripper == 0.0
    deadman.tick(Hand(True, False))
    assert deadman.gripper is None  # the policy may use it before the next press
    deadman.tick(Hand(True, False, STILL, (Action.OPEN,)))
    assert deadman.gripper is None


def test_a_diagonal_is_not_faster() -> None:
    linear, angular = Speeds(0.3, 1.0).twist((1, 1, 0, 0, 0, 0.5))
    assert linear == pytest.approx([0.3 / math.sqrt(2), 0.3 / math.sqrt(2), 0])
    assert angular == [0, 0, 0.5]


VALUE = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-2, 2)
EVENT = st.one_of(
    st.tuples(st.just("axes"), st.lists(VALUE, min_size=4, max_size=7), st.integers(-400, 400)),
    st.tuples(st.just("buttons"), st.lists(st.integers(0, 1), min_size=7, max_size=9), st.integers(-400, 400)),
    st.tuples(st.just("wait"), st.integers(0, 400), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
)


@given(st.lists(EVENT, max_size=60), st.sampled_from([XBOX, SPACEMOUSE]))
def test_whatever_comes_no_twist_without_deadman_and_none_above_the_speeds(events: Any, mapping: PadMapping) -> None:
    pad, deadman, speeds, wall = Pad(mapping, LIMIT), Deadman(), Speeds(0.2, 0.7), 10**12
    down, told, steered = False, -(10**15), -(10**15)
    before = Say.NOTHING
    for kind, value, skew in events:
        stamp = wall + skew * MS
        try:
            if kind == "wait":
                wall += value * MS
            elif kind == "axes":
                steered = -(10**15)
                pad.steer(value, stamp, wall)
                steered = stamp
            elif kind == "buttons":
                told = -(10**15)
                pad.press(value, stamp, wall)
                down, told = bool(value[mapping.deadman]), stamp
        except MessageError:
            pass
        if kind != "tick":
            continue
        hand = pad.hand(wall, wall)
        say = deadman.tick(hand)
        linear, angular = speeds.twist(hand.motion)
        assert math.hypot(*linear) <= 0.2 + 1e-9 and math.hypot(*angular) <= 0.7 + 1e-9
        if say is Say.TWIST:
            assert down and abs(wall - told) <= LIMIT and abs(wall - steered) <= LIMIT
        else:
            assert (linear, angular) == ([0, 0, 0], [0, 0, 0])
        if say is Say.RELEASED:
            assert not down and before is not Say.RELEASED
        before = say if say is not Say.NOTHING else before


@given(st.lists(st.tuples(st.text("wasdrfqeijkl yn\x1b[", max_size=4), st.integers(0, 300)), max_size=40))
def test_a_keyboard_says_nothing_once_its_keys_have_run_out(strokes: Any) -> None:
    keys, deadman, wall, pressed = Keys(HOLD), Deadman(), 0, -(10**12)
    for text, wait in strokes:
        keys.press(text, wall)
        if any(key in MOTION_KEYS or ACTION_KEYS.get(key) in GRIPPER_ACTIONS for key in text):
            pressed = wall
        wall += wait * MS
        hand = keys.hand(wall)
        assert (deadman.tick(hand) is Say.TWIST) == (wall - pressed < HOLD)
        assert math.hypot(*Speeds(0.1, 0.1).twist(hand.motion)[0]) <= 0.1 + 1e-9


@pytest.mark.parametrize("wrong", [
    {"axes": (0, 1)}, {"signs": (1.0, 1.0, 1.0, 1.0, 1.0, 2.0)}, {"full": (0.0,) * 6}, {"full": (1.0,)},
    {"dead_zone": 1.0}, {"deadman": -1},
    {"success": 5},
])  # fmt: skip
def test_a_mapping_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PadMapping(**wrong)
    with pytest.raises(ConfigError):
        Speeds(math.inf, 1.0)
    with pytest.raises(ConfigError):
        Keys(0)
