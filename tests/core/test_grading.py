"""Grades: the table of `domain.md` §2.2 at every bound, the twelve months, and a regulator's word beside the proposal."""

from importlib.resources import files

import msgspec
import pytest

from manway.entities import Person
from manway.errors import ActionRefused, Failure
from manway.grading import (
    DAY_S,
    INSPECTION_DAYS,
    WINDOW_S,
    Decision,
    Grade,
    Mark,
    Record,
    decide,
    next_inspection,
    propose,
    refusals,
)
from manway.ids import Role
from tests.kit.clock import EPOCH

REGULATOR = Person("zhou", 5, {"en": "Zhou"}, [Role.REGULATOR.value])
MANAGER = Person("chen", 4, {"en": "Chen"}, [Role.MANAGER.value])
A, U, G, P2, L, C = (
    Mark.ACCIDENT,
    Mark.UNAUTHORISED_OPEN,
    Mark.OVERTIME_P1,
    Mark.OVERTIME,
    Mark.LATE_CLOSURE,
    Mark.EXPIRED_CALIBRATION,
)
BOUNDS: list[tuple[dict[Mark, int], Grade, str]] = [
    ({}, Grade.BLUE, "none"),
    ({A: 1}, Grade.RED, "accident"),
    ({A: 1, U: 3}, Grade.RED, "accident"),
    ({U: 1}, Grade.ORANGE, "opened"),
    ({U: 2}, Grade.ORANGE, "opened"),
    ({U: 3}, Grade.RED, "opened_often"),
    ({U: 4}, Grade.RED, "opened_often"),
    ({G: 1}, Grade.YELLOW, "overtime"),
    ({G: 2}, Grade.YELLOW, "overtime"),
    ({G: 2, P2: 9}, Grade.YELLOW, "overtime"),
    ({G: 3}, Grade.ORANGE, "overtime_grave"),
    ({P2: 1}, Grade.YELLOW, "overtime"),
    ({P2: 50}, Grade.YELLOW, "overtime"),
    ({L: 2}, Grade.BLUE, "none"),
    ({L: 3}, Grade.YELLOW, "late"),
    ({C: 2}, Grade.BLUE, "none"),
    ({C: 3}, Grade.YELLOW, "late"),
    ({L: 1, C: 1}, Grade.BLUE, "none"),
    ({L: 2, C: 1}, Grade.YELLOW, "late"),
    ({L: 99, C: 99}, Grade.YELLOW, "late"),
    ({U: 2, G: 3, P2: 3, L: 3}, Grade.ORANGE, "opened"),
]


def records(counts: dict[Mark, int], at: float = EPOCH - DAY_S) -> list[Record]:
    return [Record(f"{mark.value}-{i}", mark, at) for mark, n in counts.items() for i in range(n)]


@pytest.mark.parametrize(("counts", "grade", "rule"), BOUNDS, ids=str)
def test_the_proposal_follows_the_table(counts: dict[Mark, int], grade: Grade, rule: str) -> None:
    proposal = propose(records(counts), EPOCH)
    assert (proposal.grade, proposal.rule) == (grade, f"grade.rule.{rule}")
    assert {mark: n for mark, n in proposal.counts.items() if n} == counts


@pytest.mark.parametrize(
    ("at", "counts"),
    [(EPOCH - WINDOW_S, False), (EPOCH - WINDOW_S + 1, True), (EPOCH, True), (EPOCH + 1, False), (float("nan"), False)],
)
def test_only_the_last_twelve_months_count(at: float, *, counts: bool) -> None:
    proposal = propose(records({A: 1}, at), EPOCH)
    assert (proposal.grade is Grade.RED) is counts
    assert (proposal.start, proposal.end) == (EPOCH - 365 * 86_400, EPOCH)


def test_drills_do_not_count_and_an_event_told_twice_counts_once() -> None:
    one = Record("x", U, EPOCH - 1)
    assert propose([one] * 3, EPOCH).grade is Grade.ORANGE
    assert propose([Record(str(i), U, EPOCH - 1, drill=True) for i in range(5)], EPOCH).grade is Grade.BLUE


def test_more_records_never_better_the_grade() -> None:
    order = list(Grade)
    for counts, grade, _ in BOUNDS:
        for mark in Mark:
            worse = counts | {mark: counts.get(mark, 0) + 1}
            assert order.index(propose(records(worse), EPOCH).grade) <= order.index(grade), (counts, mark)


def test_the_grade_sets_the_next_inspection() -> None:
    days = {Grade.RED: 30, Grade.ORANGE: 91, Grade.YELLOW: 182, Grade.BLUE: 365}
    assert {g: next_inspection(g, EPOCH) for g in days} == {g: EPOCH + n * 86_400 for g, n in days.items()}
    assert next_inspection(Grade.UNGRADED, EPOCH) is None
    assert set(INSPECTION_DAYS) == set(Grade)


def test_the_decision_is_a_regulators_and_may_differ_from_the_proposal() -> None:
    proposal = propose(records({U: 1}), EPOCH)
    decision = decide(proposal, Grade.RED, REGULATOR, " second firm of this owner ", inspected_at=EPOCH - DAY_S, now=EPOCH)
    assert decision.grade is Grade.RED
    assert decision.proposal.grade is Grade.ORANGE, "deciding changes no proposal"
    assert not decision.follows
    assert (decision.by, decision.reason, decision.at) == ("zhou", "second firm of this owner", EPOCH)
    assert decision.next_inspection == EPOCH + 29 * DAY_S
    assert decide(proposal, Grade.ORANGE, REGULATOR, "as proposed", inspected_at=EPOCH, now=EPOCH).follows
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


@pytest.mark.parametrize(
    ("by", "reason", "keys"),
    [
        (REGULATOR, "seen", []),
        (REGULATOR, "  ", ["grade.no_reason"]),
        (MANAGER, "seen", ["grade.not_regulator"]),
        (MANAGER, "", ["grade.not_regulator", "grade.no_reason"]),
    ],
)
def test_nobody_else_decides_and_never_without_a_reason(by: Person, reason: str, keys: list[str]) -> None:
    assert [failure.key for failure in refusals(by, reason)] == keys
    if keys:
        with pytest.raises(ActionRefused) as refused:
            decide(propose([], EPOCH), Grade.BLUE, by, reason, inspected_at=EPOCH, now=EPOCH)
        assert refused.value.failures == refusals(by, reason)


def test_a_refusal_says_whom_to_ask_and_what_is_missing() -> None:
    assert refusals(MANAGER, "") == [
        Failure("GRADE", "domain.md 2.2", "grade.not_regulator", "grade.ask_regulator", {"by": "chen"}),
        Failure("GRADE", "domain.md 2.2", "grade.no_reason", "grade.give_reason"),
    ]


FAILURES = {"failure.grade.not_regulator", "fix.grade.ask_regulator", "failure.grade.no_reason", "fix.grade.give_reason"}


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_every_key_has_a_text(language: str) -> None:
    texts = msgspec.json.decode((files("manway") / "locales" / f"{language}.json").read_bytes(), type=dict[str, str])
    keys = {f"grade.{grade.value}" for grade in Grade} | {f"grade.rule.{rule}" for _, _, rule in BOUNDS} | FAILURES
    assert sorted(keys - texts.keys()) == []
