"""Every (state, signal) cell of a person, written down again from `domain.md` §4.6, and what silence leads to."""

import math
from itertools import product

import pytest

from manway.person import IN_DANGER, IN_SPACE, SILENCE, TABLE, exposed, move, overdue, silent_until
from manway.person import PersonSignal as G
from manway.person import PersonState as S

ARROWS = {
    (S.OUTSIDE, G.ADMIT): S.ADMITTED,
    (S.OUTSIDE, G.ENTER): S.INSIDE,
    (S.ADMITTED, G.ENTER): S.INSIDE,
    (S.INSIDE, G.STILL): S.NO_MOTION,
    (S.NO_MOTION, G.MOVES): S.INSIDE,
    (S.NO_MOTION, G.NO_ANSWER): S.NO_ANSWER,
    (S.NO_ANSWER, G.MOVES): S.INSIDE,
    (S.NO_ANSWER, G.ATTENDANT_NO_REPLY): S.DOWN,
    **{(state, signal): S.DOWN for state in (S.INSIDE, S.NO_MOTION, S.NO_ANSWER) for signal in (G.SOS, G.FALL)},
    **{(state, G.LEAVE): S.OUTSIDE for state in S if state is not S.OUTSIDE},
}
CELLS = list(product(S, G))
WAITS = {"still_s": 120.0, "answer_s": 30.0, "reply_s": 30.0}


def name(value: S | G) -> str:
    return str(value.value)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    assert TABLE[state, signal] is ARROWS.get((state, signal), state)
    assert move(state, signal) is ARROWS.get((state, signal), state)


def test_whoever_is_down_is_so_until_counted_out() -> None:
    assert {signal for signal in G if TABLE[S.DOWN, signal] is not S.DOWN} == {G.LEAVE}


def test_nobody_leaves_a_space_but_by_leaving() -> None:
    out = {signal for (state, signal), after in TABLE.items() if state in IN_SPACE and after not in IN_SPACE}
    assert out == {G.LEAVE}


def test_nobody_gets_into_a_space_but_by_entering() -> None:
    into = {signal for (state, signal), after in TABLE.items() if state not in IN_SPACE and after in IN_SPACE}
    assert into == {G.ENTER}


def test_silence_alone_leads_from_inside_to_down_in_three_minutes() -> None:
    state, at, seen = S.INSIDE, 1000.0, []
    while (due := silent_until(state, at, **WAITS)) is not None:
        state, at = move(state, SILENCE[state]), due
        seen.append((state, at - 1000.0))
    assert seen == [(S.NO_MOTION, 120.0), (S.NO_ANSWER, 150.0), (S.DOWN, 180.0)]
    assert {S.NO_ANSWER, S.DOWN} == IN_DANGER


@pytest.mark.parametrize("state", S, ids=name)
def test_time_alone_leads_on_exactly_where_silence_has_a_signal(state: S) -> None:
    assert (silent_until(state, 0.0, **WAITS) is not None) is (state in SILENCE)
    if state in SILENCE:
        assert move(state, SILENCE[state]) is not state


@pytest.mark.parametrize(
    ("entered_at", "now", "permit_end", "late"),
    [
        (0.0, 7199.9, 8000.0, False),
        (0.0, 7200.0, 8000.0, True),
        (7000.0, 8000.0, 8000.0, True),
        (7000.0, 7999.9, 8000.0, False),
        (math.nan, 1.0, 8000.0, True),
        (0.0, 1.0, math.nan, True),
    ],
)
def test_a_stay_is_over_at_its_limit_or_at_the_permits_end(
    entered_at: float, now: float, permit_end: float, *, late: bool
) -> None:
    assert overdue(entered_at, now, stay_s=7200.0, permit_end=permit_end) is late


@pytest.mark.parametrize(
    ("shares", "reached"),
    [([], False), ([0.0, 0.999], False), ([0.2, 1.0], True), ([1.5], True), ([math.nan], True), ([math.inf], True)],
)
def test_a_share_of_a_limit_that_is_whole_or_no_number_admits_nobody(shares: list[float], *, reached: bool) -> None:
    assert exposed(shares) is reached
