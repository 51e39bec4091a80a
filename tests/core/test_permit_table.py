"""Every (state, signal) cell of the permit, written down again from `domain.md` §4.1, and what the table promises."""

import math
from collections.abc import Callable

import msgspec
import pytest

from manway.entities import Hold, Person
from manway.entities import PermitState as S
from manway.errors import ActionRefused, Failure, ProfileInvalid
from manway.permit import (
    HOLDING,
    OPEN,
    TABLE,
    TERMINAL,
    after_break,
    after_evacuation,
    extension_failures,
    hand_over_failures,
    head_count_failures,
    held,
    move,
    reassesses,
)
from manway.permit import PermitSignal as G
from tests.kit.builders import a_permit
from tests.kit.clock import EPOCH

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


# ---- what an interruption leads to (`domain.md` §4.2)


@pytest.mark.parametrize("after", [after_evacuation, after_break])
@pytest.mark.parametrize(
    ("rule", "temporary", "signal"),
    [
        ("suspend", False, G.SUSPEND),  # CN, CN_CHEM
        ("suspend", True, G.SUSPEND),
        ("supervisor", True, G.SUSPEND),  # US_CONSTRUCTION: temporary, configuration and hazards unchanged
        ("supervisor", False, G.CANCEL),
        ("cancel", False, G.CANCEL),  # US_GENERAL, whatever anybody says
        ("cancel", True, G.CANCEL),
    ],
)
def test_an_interruption_ends_as_the_profile_says(after: Callable[..., G], rule: str, signal: G, *, temporary: bool) -> None:
    assert after(rule, temporary=temporary) is signal
    assert reassesses(rule) is (rule == "supervisor")


@pytest.mark.parametrize("rule", ["", "Suspend", "resume"])
def test_a_rule_that_is_none_stops_rather_than_guesses(rule: str) -> None:
    with pytest.raises(ProfileInvalid):
        after_evacuation(rule, temporary=True)


# ---- a later end

DAY_S = 86_400.0


def keys(failures: list[Failure]) -> list[str]:
    return [failure.key for failure in failures]


@pytest.mark.parametrize("state", S, ids=name)
def test_a_later_end_is_for_a_permit_that_is_prepared_or_worked_on(state: S) -> None:
    permit = a_permit(state=state)
    found = keys(extension_failures(permit, permit.end + 60, EPOCH, DAY_S))
    assert found == ([] if state in {S.APPROVED, S.READY, S.ACTIVE, S.SUSPENDED} else ["permit.wrong_state"])


@pytest.mark.parametrize(
    ("end_s", "now_s", "key"),
    [
        (7201, 0, None),
        (7201, 7199.9, None),
        (7201, 7200, "extension.too_late"),  # at its end a permit has ended
        (7201, 9000, "extension.too_late"),
        (7200, 0, "extension.not_later"),
        (100, 0, "extension.not_later"),
        (math.nan, 0, "extension.not_later"),
        (DAY_S - 3600, 0, None),  # the permit began an hour ago: 24 h in all
        (DAY_S - 3599, 0, "extension.too_long"),
        (math.inf, 0, "extension.too_long"),
    ],
)
def test_a_later_end_comes_before_the_old_one_and_within_the_longest_a_permit_may_last(
    end_s: float, now_s: float, key: str | None
) -> None:
    found = keys(extension_failures(a_permit(), EPOCH + end_s, EPOCH + now_s, DAY_S))
    assert found[:1] == ([] if key is None else [key])


def test_every_reason_against_a_later_end_is_said() -> None:
    stopped = msgspec.structs.replace(a_permit(state=S.EVACUATING), hold=Hold("p05", EPOCH, "accident next door"))
    assert held(stopped)
    assert not held(a_permit())
    assert keys(extension_failures(stopped, math.nan, EPOCH + 7200, DAY_S)) == [
        "permit.wrong_state", "permit.held", "extension.too_late", "extension.not_later", "extension.too_long",
    ]  # fmt: skip


# ---- a duty passes on


def someone(person: str = "eve", *roles: str) -> Person:
    return Person(person, 1, {"en": person}, list(roles))


@pytest.mark.parametrize(
    ("duty", "to", "key"),
    [
        ("attendant", someone("eve", "attendant"), None),
        ("attendant", someone("tester", "attendant"), None),  # the tester may be the attendant
        ("attendant", someone("eve", "worker"), "hand_over.no_right"),
        ("attendant", someone("eve"), "hand_over.no_right"),
        ("attendant", someone("ann", "attendant"), "hand_over.conflict"),  # an entrant
        ("attendant", someone("approver", "attendant"), "hand_over.conflict"),
        ("attendant", someone("attendant", "attendant"), "hand_over.conflict"),
        ("supervisor", someone("eve", "worker"), None),
        ("supervisor", someone("eve", "manager"), None),
        ("supervisor", someone("ann", "worker"), None),
        ("supervisor", someone("eve", "regulator"), "hand_over.no_right"),
        ("supervisor", someone("approver", "manager"), "hand_over.conflict"),  # every step another person
        ("supervisor", someone("supervisor", "worker"), "hand_over.conflict"),
    ],
)
def test_a_duty_passes_to_somebody_who_may_have_it(duty: str, to: Person, key: str | None) -> None:
    assert keys(hand_over_failures(a_permit(state=S.ACTIVE), duty, to)) == ([] if key is None else [key])


@pytest.mark.parametrize("state", S, ids=name)
def test_a_duty_passes_on_while_the_permit_holds_its_space(state: S) -> None:
    found = keys(hand_over_failures(a_permit(state=state), "attendant", someone("eve", "attendant")))
    assert found == ([] if state in HOLDING else ["permit.wrong_state"])


@pytest.mark.parametrize(
    ("counted", "inside", "key"),
    [
        (0, 0, None),
        (2, 2, None),
        (1, 2, "hand_over.count_differs"),
        (2, 1, "hand_over.count_differs"),
        (0, None, "permit.count_unknown"),
    ],
)
def test_a_head_count_equals_the_known_count(counted: int, inside: int | None, key: str | None) -> None:
    assert keys(head_count_failures(counted, inside)) == ([] if key is None else [key])


@pytest.mark.parametrize(("inside", "key"), [(1, "permit.people_inside"), (None, "permit.count_unknown")])
def test_nothing_resumes_round_somebody_who_is_still_inside(inside: int | None, key: str) -> None:
    with pytest.raises(ActionRefused) as refused:
        move(S.SUSPENDED, G.RESUME, inside=inside)
    assert keys(refused.value.failures) == [key]
