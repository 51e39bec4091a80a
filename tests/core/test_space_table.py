"""Every (state, signal) cell of a space, written down again from `domain.md` §4.3, and what lies over it."""

from itertools import product

import pytest

from manway.ids import GrantKind
from manway.space import TABLE, Overlay, allows_grants, may_go_out_of_service, move, occupied, overlay, signal_of
from manway.space import SpaceSignal as G
from manway.space import SpaceState as S

ARROWS = {
    (S.IDLE, G.PREP_USED): S.PREPARING,
    (S.IDLE, G.ENTRY_USED): S.PREPARING,  # open, and nobody counted in yet
    (S.IDLE, G.OPENED): S.PREPARING,
    (S.IDLE, G.ENTERED): S.OCCUPIED,
    (S.PREPARING, G.ENTERED): S.OCCUPIED,
    (S.PREPARING, G.ALL_LOCKED): S.IDLE,
    (S.OCCUPIED, G.LEFT_LAST): S.PREPARING,
}
CELLS = list(product(S, G))
FLAGS = list(product((True, False), repeat=4))


def name(value: S | G) -> str:
    return str(value.value)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    assert TABLE[state, signal] is ARROWS.get((state, signal), state)
    assert move(state, signal) is ARROWS.get((state, signal), state)


def test_only_the_last_exit_ends_an_occupation() -> None:
    assert {signal for signal in G if TABLE[S.OCCUPIED, signal] is not S.OCCUPIED} == {G.LEFT_LAST}


def test_an_occupied_space_that_is_locked_is_still_occupied() -> None:
    assert move(S.OCCUPIED, G.ALL_LOCKED) is S.OCCUPIED


@pytest.mark.parametrize("state", S, ids=name)
def test_somebody_counted_in_occupies_a_space_from_every_state(state: S) -> None:
    assert move(state, G.ENTERED) is S.OCCUPIED


def test_a_space_is_idle_only_because_every_entrance_reports_locked() -> None:
    into_idle = {(state, signal) for (state, signal), after in TABLE.items() if after is S.IDLE is not state}
    assert into_idle == {(S.PREPARING, G.ALL_LOCKED)}


@pytest.mark.parametrize(
    ("kind", "signal"),
    [
        (GrantKind.PREP, G.PREP_USED),
        (GrantKind.ENTRY, G.ENTRY_USED),
        (GrantKind.EMERGENCY, G.OPENED),
        (GrantKind.CLOSE_OUT, None),
        (GrantKind.ROTATE_KEY, None),
        (GrantKind.SET_TIME, None),
    ],
)
def test_a_used_grant_opens_its_space_and_an_order_opens_nothing(kind: GrantKind, signal: G | None) -> None:
    assert signal_of(kind) is signal


@pytest.mark.parametrize(("count_known", "locks_known", "emergency", "out_of_service"), FLAGS)
def test_an_emergency_comes_before_the_unknown_and_that_before_out_of_service(
    *, count_known: bool, locks_known: bool, emergency: bool, out_of_service: bool
) -> None:
    shown = overlay(count_known=count_known, locks_known=locks_known, emergency=emergency, out_of_service=out_of_service)
    unknown = not count_known or not locks_known
    order = [(emergency, Overlay.EMERGENCY), (unknown, Overlay.UNKNOWN), (out_of_service, Overlay.OUT_OF_SERVICE)]
    assert shown is next((over for holds, over in order if holds), None)
    assert allows_grants(shown) is not (emergency or unknown or out_of_service)


@pytest.mark.parametrize("state", S, ids=name)
def test_an_unknown_count_counts_as_occupied(state: S) -> None:
    assert occupied(state, count_known=False)
    assert occupied(state, count_known=True) is (state is S.OCCUPIED)


@pytest.mark.parametrize("state", S, ids=name)
@pytest.mark.parametrize("over", [None, *Overlay])
def test_maintenance_takes_only_a_shut_and_quiet_space(state: S, over: Overlay | None) -> None:
    assert may_go_out_of_service(state, over) is (state is S.IDLE and over is None)
