"""State machines as text grids: one row a state, one column a signal, every cell decided.

A cell is the next state, `=` (a report is recorded, nothing moves) or `x` (a command is refused).
"""

import enum
from typing import TypeVar

from manway.errors import ProfileInvalid

S = TypeVar("S", bound=enum.Enum)
G = TypeVar("G", bound=enum.Enum)

STAY = "="
REFUSE = "x"


def parse_grid(text: str, states: type[S], signals: type[G]) -> dict[tuple[S, G], S | None]:
    """Return the table of a grid: (state, signal) -> next state; STAY is the state itself, REFUSE is None.

    Raises:
        ProfileInvalid: a state or signal is missing, doubled or unknown; a cell is empty.
    """
    try:
        return _parse(text, states, signals)
    except ValueError as error:
        raise ProfileInvalid(states.__name__, str(error)) from error


def _parse(text: str, states: type[S], signals: type[G]) -> dict[tuple[S, G], S | None]:
    head, *rows = [line.split() for line in text.strip().splitlines()]
    columns = [signals(name) for name in head]
    if len(set(columns)) != len(signals) or [row[0] for row in rows] != [s.value for s in states]:
        raise ProfileInvalid(states.__name__, "the grid needs every signal as a column and every state as a row, in order")
    table: dict[tuple[S, G], S | None] = {}
    for name, *cells in rows:
        if len(cells) != len(columns):
            raise ProfileInvalid(states.__name__, f"row {name} has {len(cells)} cells for {len(columns)} signals")
        state = states(name)
        for signal, cell in zip(columns, cells, strict=True):
            table[state, signal] = None if cell == REFUSE else state if cell == STAY else states(cell)
    return table
