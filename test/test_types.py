from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irevla_ros.core.errors import ConfigError, DataError, IrevlaError, unknown_name
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import Episode, EpisodeMeta, Mode, Outcome


def episode(steps: int = 3, **columns: Any) -> Episode:
    values: dict[str, Any] = {
        "meta": EpisodeMeta("e1", "press", "press the red button", Mode.DEMO, seed=0),
        "images": {"front": np.zeros((steps + 1, 8, 8, 3), np.uint8)},
        "proprio": np.zeros((steps + 1, 6), np.float32),
        "stamps_ns": np.arange(steps + 1, dtype=np.int64),
        **{name: np.zeros((steps, 5), np.float32) for name in ("proposed", "executed", "commanded")},
        "source": np.zeros(steps, np.uint8),
        "log_prob": np.zeros(steps, np.float32),
        "head_version": np.zeros(steps, np.int64),
        "reward": np.zeros(steps, np.float32),
        "terminated": np.zeros(steps, bool),
        "truncated": np.zeros(steps, bool),
    }
    return Episode(**{**values, **columns})


def test_episode_length_is_its_steps() -> None:
    assert len(episode(3)) == 3


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("proposed", np.zeros((2, 5), np.float32), "column proposed has 2 rows: 3 are required"),
        ("proprio", np.zeros((3, 6), np.float32), "column proprio has 3 rows: 4 are required"),
        ("images", {"front": np.zeros((3, 8, 8, 3), np.uint8)}, "column images['front'] has 3 rows: 4 are required"),
        ("latents", np.zeros((3, 2, 4), np.float16), "column latents has 3 rows: 4 are required"),
    ],
)
def test_rows_that_do_not_fit_are_named(column: str, value: object, message: str) -> None:
    with pytest.raises(DataError) as error:
        episode(**{column: value})
    assert str(error.value) == f"episode 'e1' {message}; record T steps and T + 1 observations"


@pytest.mark.parametrize(
    ("terminated", "truncated"), [([0, 0, 1], [0, 0, 1]), ([1, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 0])]
)
def test_an_episode_ends_once_and_in_one_way(terminated: list[int], truncated: list[int]) -> None:
    with pytest.raises(DataError, match="terminated and truncated exclude each other and mark the last step only"):
        episode(terminated=np.array(terminated, bool), truncated=np.array(truncated, bool))


def test_success_is_the_verdict_and_not_the_reward() -> None:
    rewarded = episode(reward=np.ones(3, np.float32))
    assert not rewarded.success
    assert replace(rewarded, meta=replace(rewarded.meta, outcome=Outcome.SUCCESS)).success


def test_full_action_is_the_limit() -> None:
    spec = ActionSpec()
    physical = spec.to_physical(np.array([1, -1, 0.5, 2, -1], np.float32))
    np.testing.assert_allclose(physical, [0.04, -0.04, 0.02, 0.25, -1.0])  # metres, radians, gripper; 2 is clipped
    assert physical.dtype == np.float32


@given(arrays(np.float32, (3, 5), elements=st.floats(-1, 1, width=32)))
def test_action_units_round_trip(action: np.ndarray) -> None:
    spec = ActionSpec()
    np.testing.assert_allclose(spec.to_normalised(spec.to_physical(action)), action, atol=1e-6)


def test_proprioception_is_centred_and_scaled() -> None:
    raw = np.array([0.7, 0.25, 0.2, 1.0, 0.0, 0.08], np.float32)
    np.testing.assert_allclose(ProprioSpec().to_normalised(raw), [1, 1, 0, 1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "limits", "message"),
    [
        (("dx", "dx"), (1.0, 1.0), "one limit for each distinct name; make the two lists match"),
        (("dx",), (1.0, 1.0), "one limit for each distinct name; make the two lists match"),
        (("dx",), (0.0,), r"limits are finite and positive; give the magnitude of one step in SI units"),
        (("dx",), (float("nan"),), "limits are finite and positive"),
    ],
)
def test_bad_action_spec(names: tuple[str, ...], limits: tuple[float, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ActionSpec(names, limits)


def test_error_is_one_line_of_value_rule_remedy() -> None:
    error = ConfigError("lr -1", "must be positive", "try 3e-4")
    assert str(error) == "lr -1: must be positive; try 3e-4"
    assert (error.value, error.rule, error.remedy) == ("lr -1", "must be positive", "try 3e-4")


def test_error_survives_a_process_boundary() -> None:
    kind, arguments = DataError("a", "b", "c").__reduce__()
    rebuilt = kind(*arguments)
    assert isinstance(rebuilt, IrevlaError)
    assert str(rebuilt) == "a: b; c"


def test_unknown_name_offers_the_near_ones_or_all() -> None:
    assert str(unknown_name("task", "pres", ["press", "pick"])) == "task 'pres': no such task; did you mean 'press'?"
    assert str(unknown_name("task", "zzz", ["press", "pick"])) == "task 'zzz': no such task; choose one of: pick, press"
