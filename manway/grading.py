"""The grade of a firm, 红橙黄蓝: proposed from twelve months of records, decided by a regulator (`domain.md` §2.2).

Theory: the proposal is arithmetic and says which rule decided; the decision is a person's, may differ, and always carries
a reason. Neither changes the other. A grade sets how often the firm is inspected and is never an alarm colour. Drills do
not count.
"""

import enum
from collections import Counter
from collections.abc import Iterable

import msgspec

from manway.entities import Person
from manway.errors import ActionRefused, Failure
from manway.ids import Role

DAY_S = 86_400.0
WINDOW_S = 365 * DAY_S
"""The twelve months of records that are looked at, as days (choice)."""


class Grade(enum.Enum):
    """Red is the worst. Ungraded is a firm nobody has decided on yet: inspected at random."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    BLUE = "blue"
    UNGRADED = "ungraded"


INSPECTION_DAYS = {Grade.RED: 30, Grade.ORANGE: 91, Grade.YELLOW: 182, Grade.BLUE: 365, Grade.UNGRADED: None}
"""Monthly, quarterly, half-yearly, yearly [SZ: Pingshan]; as days (choice), never longer than the word says."""


class Mark(enum.Enum):
    """What counts for a grade. OVERTIME is one that stayed P2, OVERTIME_P1 one that grew to P1."""

    ACCIDENT = "accident"
    UNAUTHORISED_OPEN = "unauthorised_open"
    OVERTIME_P1 = "overtime_p1"
    OVERTIME = "overtime"
    LATE_CLOSURE = "late_closure"
    EXPIRED_CALIBRATION = "expired_calibration"


class Record(msgspec.Struct, frozen=True):
    """One thing that counts: `id` is its event's, so that the same one told twice counts once."""

    id: str
    mark: Mark
    at: float
    drill: bool = False


class Proposal(msgspec.Struct, frozen=True):
    """A proposed grade, the text key of the rule that decided, and the counts between `start` and `end` (Unix seconds)."""

    grade: Grade
    rule: str
    counts: dict[Mark, int]
    start: float
    end: float


class Decision(msgspec.Struct, frozen=True):
    """A regulator's word: the proposal as it was, the grade decided, by whom, why, when, and the next inspection."""

    proposal: Proposal
    grade: Grade
    by: str
    reason: str
    at: float
    next_inspection: float | None

    @property
    def follows(self) -> bool:
        """True when the decision is what was proposed."""
        return self.grade is self.proposal.grade


def propose(records: Iterable[Record], now: float) -> Proposal:
    """Return the grade that the records of the twelve months up to `now` (Unix seconds) ask for."""
    start = now - WINDOW_S
    counted = {r.id: r.mark for r in records if start < r.at <= now and not r.drill}
    counts = Counter(counted.values())
    grade, rule = _graded(counts)
    return Proposal(grade, rule, {mark: counts[mark] for mark in Mark}, start, now)


def _graded(n: Counter[Mark]) -> tuple[Grade, str]:
    """Return the grade and the rule of `domain.md` §2.2, the worst first.

    "≥3 late closures or expired calibrations" is read as three of either kind together: the stricter reading (choice).
    """
    opened, grave = n[Mark.UNAUTHORISED_OPEN], n[Mark.OVERTIME_P1]
    rules = (
        (Grade.RED, "grade.rule.accident", n[Mark.ACCIDENT] >= 1),
        (Grade.RED, "grade.rule.opened_often", opened >= 3),  # noqa: PLR2004  the law of the table, not a setting
        (Grade.ORANGE, "grade.rule.opened", opened >= 1),
        (Grade.ORANGE, "grade.rule.overtime_grave", grave >= 3),  # noqa: PLR2004
        (Grade.YELLOW, "grade.rule.overtime", grave + n[Mark.OVERTIME] >= 1),
        (Grade.YELLOW, "grade.rule.late", n[Mark.LATE_CLOSURE] + n[Mark.EXPIRED_CALIBRATION] >= 3),  # noqa: PLR2004
    )
    return next(((grade, rule) for grade, rule, holds in rules if holds), (Grade.BLUE, "grade.rule.none"))


def next_inspection(grade: Grade, last_at: float) -> float | None:
    """Return when a firm of this grade is inspected next (Unix s), counted from its last inspection; None: at random."""
    days = INSPECTION_DAYS[grade]
    return None if days is None else last_at + days * DAY_S


def refusals(by: Person, reason: str) -> list[Failure]:
    """Return why this person may not decide so; empty = may."""
    clause, found = "domain.md 2.2", list[Failure]()
    if Role.REGULATOR.value not in by.roles:
        found.append(Failure("GRADE", clause, "grade.not_regulator", "grade.ask_regulator", {"by": by.id}))
    if not reason.strip():
        found.append(Failure("GRADE", clause, "grade.no_reason", "grade.give_reason"))
    return found


def decide(proposal: Proposal, grade: Grade, by: Person, reason: str, *, inspected_at: float, now: float) -> Decision:
    """Return a regulator's decision; the reason is asked for even where it follows the proposal.

    Raises:
        ActionRefused: not a regulator, or no reason.
    """
    if failures := refusals(by, reason):
        raise ActionRefused(failures)
    return Decision(proposal, grade, by.id, reason.strip(), now, next_inspection(grade, inspected_at))
