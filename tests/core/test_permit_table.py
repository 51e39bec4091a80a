"""Every (state, signal) cell of the permit, written down again from `domain.md` §4.1, and what the table promises."""

import pytest

from manway.entities import PermitState as S
from manway.errors import ActionRefused
from manway.permit import HOLDING, OPEN, TABLE, TERMINAL, move
from manway.permit import PermitSignal as G

# The arrows of the design, one line each; whatever is not here moves nothing.
ARROWS = {
    (S.DRAFT, G.SUBMIT): S.SUBMITTED,
    (S.SUBMITTED, G.APPROVE): S.APPROVED,
    (S.SUBMITTED, G.REJECT): S.REJECTED,
    (S.SUBMITTED, G.RETURN): S.DRAFT,
    (S.APPROVED, G.PREPARE): S.READY,
    (S.READY, G.VOID): S.APPROVED,  # gas voids the tests
    (S.READY, G.HALT): S.APPROVED,  # nobody is inside: the same gas, the same answer
    (S.READY, G.START): S.ACTIVE,
    (S.ACTIVE, G.HALT): S.EVACUATING,
    (S.ACTIVE, G.SUSPEND): S.SUSPENDED,
    (S.EVACUATING, G.SUSPEND): S.SUSPENDED,
    (S.SUSPENDED, G.RESUME): S.READY,
    (S.ACTIVE, G.FINISH): S.CLOSING,
    (S.SUSPENDED, G.FINISH): S.CLOSING,
    (S.CLOSING, G.CLOSE): S.CLOSED,
    (S.APPROVED, G.EXPIRE): S.EXPIRED,
    (S.READY, G.EXPIRE): S.EXPIRED,
    (S.SUSPENDED, G.EXPIRE): S.EXPIRED,
    (S.DRAFT, G.CANCEL): S.CANCELLED,
    (S.SUBMITTED, G.CANCEL): S.CANCELLED,
    (S.APPROVED, G.CANCEL): S.CANCELLED,
    (S.READY, G.CANCEL): S.CANCELLED,
    (S.ACTIVE, G.CANCEL): S.CANCELLED,
    (S.EVACUATING, G.CANCEL): S.CANCELLED,
    (S.SUSPENDED, G.CANCEL): S.CANCELLED,
    (S.CLOSING, G.CANCEL): S.CANCELLED,
}
# Unlisted cells: a report is recorded and moves nothing, a command is refused.
REPORTS = {G.VOID, G.HALT, G.EXPIRE}
# A repeated step that already holds is no reason to refuse: the second test of a ready permit, the second person in.
REPEATS = {(S.READY, G.PREPARE), (S.ACTIVE, G.START), (S.EVACUATING, G.START)}
CELLS = [(state, signal) for state in S for signal in G]


def name(value: S | G) -> str:
    return str(value.value)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    stays = signal in REPORTS or (state, signal) in REPEATS
    assert TABLE[state, signal] is ARROWS.get((state, signal), state if stays else None)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_with_nobody_inside_a_move_follows_its_cell(state: S, signal: G) -> None:
    after = TABLE[state, signal]
    if after is None:
        with pytest.raises(ActionRefused) as refused:
            move(state, signal, inside=0)
        assert refused.value.failures[0].key == "permit.wrong_state"
        assert refused.value.failures[0].params == {"state": state.value, "signal": signal.value}
    else:
        assert move(state, signal, inside=0) is after


@pytest.mark.parametrize("inside", [1, 2, None])
@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_with_people_inside_or_unknown_no_permit_ends_or_leaves_the_watched_states(
    state: S, signal: G, inside: int | None
) -> None:
    try:
        after = move(state, signal, inside=inside)
    except ActionRefused:
        return
    assert after is state or after not in TERMINAL - {S.REJECTED}
    assert state not in OPEN or after in OPEN


@pytest.mark.parametrize(("inside", "key"), [(2, "permit.people_inside"), (None, "permit.count_unknown")])
def test_the_refusal_says_whether_people_are_inside_or_the_count_is_unknown(inside: int | None, key: str) -> None:
    with pytest.raises(ActionRefused) as refused:
        move(S.ACTIVE, G.CANCEL, inside=inside)
    assert [f.key for f in refused.value.failures] == [key]


def test_no_cell_leaves_evacuating_for_active() -> None:
    assert {TABLE[S.EVACUATING, signal] for signal in G} <= {S.EVACUATING, S.SUSPENDED, S.CANCELLED, None}


def test_the_way_back_from_an_evacuation_goes_through_a_new_test() -> None:
    """Nothing but ready becomes active, and ready again only by a person's resume or a passing preparation."""
    into_active = {(state, signal) for (state, signal), after in TABLE.items() if after is S.ACTIVE is not state}
    into_ready = {(state, signal) for (state, signal), after in TABLE.items() if after is S.READY is not state}
    assert into_active == {(S.READY, G.START)}
    assert into_ready == {(S.APPROVED, G.PREPARE), (S.SUSPENDED, G.RESUME)}


@pytest.mark.parametrize("state", TERMINAL, ids=name)
def test_a_terminal_permit_never_moves_again(state: S) -> None:
    assert {TABLE[state, signal] for signal in G} <= {state, None}


@pytest.mark.parametrize("state", OPEN, ids=name)
def test_the_end_passing_leaves_people_their_permit(state: S) -> None:
    assert move(state, G.EXPIRE, inside=2) is state


def test_closing_does_not_expire() -> None:
    assert TABLE[S.CLOSING, G.EXPIRE] is S.CLOSING


def test_people_may_be_inside_only_under_a_permit_that_holds_its_space() -> None:
    assert OPEN < HOLDING
    assert not HOLDING & TERMINAL
