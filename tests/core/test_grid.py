"""State machines as text grids: every cell is decided, or the table does not load."""

import enum

import pytest

from manway.errors import ProfileInvalid
from manway.grid import parse_grid


class Door(enum.Enum):
    OPEN = "open"
    SHUT = "shut"


class Hand(enum.Enum):
    PUSH = "push"
    PULL = "pull"


def test_a_cell_is_the_next_state_or_the_same_or_a_refusal() -> None:
    table = parse_grid(
        """
               pull push
        open   x    shut
        shut   open =
        """,
        Door,
        Hand,
    )
    assert table == {
        (Door.OPEN, Hand.PUSH): Door.SHUT,
        (Door.OPEN, Hand.PULL): None,
        (Door.SHUT, Hand.PUSH): Door.SHUT,
        (Door.SHUT, Hand.PULL): Door.OPEN,
    }


@pytest.mark.parametrize(
    "text",
    [
        "push\nopen =\nshut =",
        "push push\nopen = =\nshut = =",
        "push pull\nopen = =",
        "push pull\nshut = =\nopen = =",
        "push pull\nopen = =\nopen = =\nshut = =",
        "push pull\nopen = =\nshut =",
        "push pull\nopen = =\nshut = = =",
    ],
    ids=[
        "a signal is missing",
        "a signal stands twice",
        "a state is missing",
        "the states are out of order",
        "a state stands twice",
        "a cell is empty",
        "a cell too many",
    ],
)
def test_a_grid_with_a_hole_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse_grid(text, Door, Hand)


@pytest.mark.parametrize("text", ["push kick\nopen = =\nshut = =", "push pull\nopen ajar =\nshut = ="])
def test_a_word_that_is_no_state_and_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse_grid(text, Door, Hand)
