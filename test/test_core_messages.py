from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.messages import MAX_LENGTH, Message, MessageError


class Colour(str, Enum):
    RED = "red"
    BLUE = "dark blue"


class Gear(IntEnum):
    PARK = 0
    DRIVE = 7


@dataclass(frozen=True)
class Wheel:
    radius: float
    name: str


@dataclass(frozen=True)
class Car(Message):
    KIND: ClassVar[str] = "test/car"
    FORMAT: ClassVar[int] = 3

    colour: Colour
    gear: Gear | None
    seats: int
    open: bool
    wheels: tuple[Wheel, ...]
    size: tuple[float, float]
    note: str | None = None

    def __post_init__(self) -> None:
        if self.seats < 0:
            raise MessageError(f"{self.seats} seats", "not negative", "count again")


CAR = Car(Colour.BLUE, Gear.DRIVE, 4, True, (Wheel(0.3, "front"),), (4.0, 1.8))
numbers = st.floats(allow_nan=False, allow_infinity=False)
cars = st.builds(
    Car,
    st.sampled_from(Colour),
    st.none() | st.sampled_from(Gear),
    st.integers(0, 2**63 - 1),
    st.booleans(),
    st.lists(st.builds(Wheel, numbers, st.text())).map(tuple),
    st.tuples(numbers, numbers),
    st.none() | st.text(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def changed(**values: object) -> str:
    tree = json.loads(CAR.to_json())
    tree.update(values)
    return json.dumps({key: value for key, value in tree.items() if value is not ...})


def test_one_line_of_plain_json_with_name_and_format() -> None:
    assert json.loads(CAR.to_json()) == {
        "message": "test/car", "format": 3, "colour": "dark blue", "gear": "drive", "seats": 4, "open": True,
        "wheels": [{"radius": 0.3, "name": "front"}], "size": [4.0, 1.8], "note": None,
    }  # fmt: skip
    assert "\n" not in CAR.to_json()


@given(cars)
def test_round_trip(car: Car) -> None:
    assert Car.from_json(car.to_json()) == car


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "message 'test/car': it is not strict JSON"),
        ("[1]", "message 'test/car' is a list of 1: a JSON object is required; send what to_json gives"),
        ('{"a": 1, "a": 2}', "it is not strict JSON (a key is given twice)"),
        ("[" * 100_000, "it is not strict JSON"),
        ('{"a": NaN}', "it is not strict JSON (NaN is no number)"),
        ("1" * 10_000, "it is not strict JSON"),
        (" " * (MAX_LENGTH + 1), f"at most {MAX_LENGTH} are read"),
        (changed(message="test/cart"), "message 'test/cart': 'test/car' is expected here; check the remapping of topics"),
        (changed(format=4), "message 'test/car' of format 4: this release reads 3; run the same release"),
        (changed(format=True), "of format true: this release reads 3"),
        (changed(format=...), "of format null: this release reads 3"),
        (changed(seat=5), "test/car field 'seat': no such field; did you mean 'seats'?"),
        (changed(seats=...), "test/car without field 'seats': every field is required"),
        (changed(seats=True), "test/car field 'seats' is true: a whole number is required"),
        (changed(seats=1.0), "test/car field 'seats' is 1.0: a whole number is required"),
        (changed(seats=2**63), "a whole number of 64 bits is required"),
        (changed(seats=-1), "-1 seats: not negative; count again"),
        (changed(open=1), "test/car field 'open' is 1: true or false is required"),
        (changed(note=1), "test/car field 'note' is 1: text is required"),
        (changed(colour="green"), "test/car field 'colour' is 'green': one of 'red', 'dark blue' is required"),
        (changed(gear=7), "test/car field 'gear' is 7: one of 'park', 'drive' is required"),
        (changed(size=[1.0]), "test/car field 'size' is a list of 1: a list of 2 is required"),
        (changed(size=[1.0, "2"]), "test/car field 'size'[1] is '2': a number is required"),
        (changed(size=[1.0, 10**400]), "test/car field 'size'[1] is 1000"),
        (changed(size=[1.0, 1]).replace("1]", "1e999]"), "a finite number is required"),
        (changed(wheels={}), "test/car field 'wheels' is a dict of 0: a list is required"),
        (changed(wheels=[{"radius": 1}]), "test/car field 'wheels'[0] without field 'name': every field is required"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_on_one_line(text: str, message: str) -> None:
    with pytest.raises(MessageError) as error:
        Car.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_number_that_is_not_finite_is_not_sent() -> None:
    with pytest.raises(MessageError, match="a number that is not finite: JSON carries finite numbers only"):
        Car(Colour.RED, None, 1, False, (), (float("nan"), 0.0)).to_json()


@given(st.text() | json_values.map(json.dumps))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(MessageError):
        Car.from_json(text)


@given(st.sampled_from(["colour", "gear", "seats", "open", "wheels", "size", "note"]), json_values)
def test_no_value_of_a_field_raises_anything_else(name: str, value: object) -> None:
    text = changed(**{name: value})
    try:
        car = Car.from_json(text)
    except MessageError:
        return
    assert Car.from_json(car.to_json()) == car
