from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from irevla_ros.sim.captions import CENTRE, COLOUR_NAMES, SCALE, frames
from irevla_ros.sim.suite import load_suite, suite_names
from irevla_ros.sim.world import FRONT, WORKSPACE_HIGH, WORKSPACE_LOW

SIZE = 96
# Which channels are bright or dark where a colour is seen, whatever the light on it.
LOOKS = {
    "red": lambda r, g, b: r > 2.5 * g and r > 2.5 * b,
    "green": lambda r, g, b: g > 1.8 * r and g > 1.8 * b,
    "blue": lambda r, g, b: b > 2 * r and b > 2 * g,
    "yellow": lambda r, g, b: r > 3 * b and g > 0.75 * r,
    "purple": lambda r, g, b: r > 1.8 * g and b > 1.8 * g,
    "orange": lambda r, g, b: r > 1.4 * g and g > 2 * b,
    "cyan": lambda r, g, b: g > 2.5 * r and b > 2.5 * r,
    "black": lambda r, g, b: max(r, g, b) < 60,
}


@pytest.fixture(scope="module")
def some():
    return list(islice(frames(3, SIZE), 60))


def pixels_near(image, place):
    """The 5 x 5 pixels around a normalised place."""
    x, y = SIZE * FRONT.project(place * SCALE + CENTRE)
    row, column = int(np.clip(y, 2, SIZE - 3)), int(np.clip(x, 2, SIZE - 3))
    return image[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3).astype(float)


def named_colour(caption):
    words = [word for word in caption.question.split() if word in COLOUR_NAMES]
    return words[0] if len(words) == 1 and caption.colour is None else None


def test_equal_seeds_give_equal_frames_and_others_differ(some):
    for one, other in zip(some[:8], frames(3, SIZE), strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.tip, other.tip)
        assert [c.question for c in one.captions] == [c.question for c in other.captions]
        for a, b in zip(one.captions, other.captions, strict=True):
            assert (a.colour, a.state) == (b.colour, b.state)
            np.testing.assert_array_equal(a.place, b.place)
    other = next(frames(4, SIZE))
    assert (other.image != some[0].image).any()


def test_places_lie_on_things_of_the_named_colour(some):
    """What the hand hides cannot be seen, so nearly all, not all."""
    found = []
    for frame in some:
        for caption in frame.captions:
            colour = named_colour(caption)
            if caption.place is not None and colour:
                found.append(any(LOOKS[colour](*pixel) for pixel in pixels_near(frame.image, caption.place)))
    assert len(found) > 60
    assert np.mean(found) > 0.8


def test_answers_about_relations_name_the_colour_that_is_there(some):
    found = []
    for frame in some:
        for caption in frame.captions:
            if caption.colour is not None:
                look = LOOKS[COLOUR_NAMES[caption.colour]]
                found.append(any(look(*pixel) for pixel in pixels_near(frame.image, caption.place)))
                assert caption.question.startswith(("what is left of the ", "what is right of the "))
    assert len(found) > 15
    assert np.mean(found) > 0.8


def test_relations_are_on_the_side_that_they_name(some):
    checked = 0
    for frame in some:
        places = {word: c.place for c in frame.captions if c.place is not None and c.colour is None
                  for word in [" ".join(c.question.split()[-2:])]}  # fmt: skip
        for caption in frame.captions:
            if caption.colour is not None and (origin := places.get(" ".join(caption.question.split()[-2:]))) is not None:
                offset = (caption.place - origin)[1] * SCALE[1]
                assert offset > 0.04 if " left " in caption.question else offset < -0.04
                checked += 1
    assert checked > 10


def test_states_and_tips_are_sane_and_both_answers_occur(some):
    states = {}
    for frame in some:
        tip = frame.tip * SCALE + CENTRE
        assert (tip > WORKSPACE_LOW - 0.01).all() and (tip < WORKSPACE_HIGH + 0.01).all()
        assert frame.image.shape == (SIZE, SIZE, 3) and frame.image.dtype == np.uint8
        for caption in frame.captions:
            assert caption.place is not None or caption.state is not None
            if caption.state is not None:
                states.setdefault(caption.question.split()[-2], set()).add(caption.state)
    assert states and all(answers <= {0, 1} for answers in states.values())
    assert {0, 1} in states.values()


def test_no_instruction_of_a_task_is_among_the_questions(some):
    instructions = {task.instruction for name in suite_names() for task in load_suite(name).tasks}
    assert not instructions & {caption.question for frame in some for caption in frame.captions}
