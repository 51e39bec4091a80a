"""The items that a person confirms one by one, as data: what, by whom, how long a yes is good for, and when it is asked.

Theory: what no device can see, a named person answers for with a yes (MEM Order 13 art. 14: item by item). A yes counts while
its person may still give it, while it is young enough, and while the photo it came with was not used before. Silence is no
answer, and there is no way to confirm several items at once. The blocks are the seven of `domain.md` §2.1.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from manway.checks.facts import Facts
from manway.checks.table import fail, row
from manway.entities import Confirmation, Permit, Space
from manway.errors import Failure
from manway.limits import Timings

BLOCKS = ("approval", "training", "ventilation", "gas_test", "ppe", "attendant", "rescue")
FLAMMABLE = frozenset({"ch4", "lel", "h2", "fire", "explosion"})  # hazards of the ledger that can ignite
# Work that is dangerous in itself, and the permit of its own that it needs (GB 30871-2022; 29 CFR 1910.146(f)(15)).
EXTRA_PERMITS = {
    "hot_work": "hot_work",
    "welding": "hot_work",
    "electrical": "electrical",
    "height": "height",
    "lifting": "lifting",
}
WORK_KINDS = (
    "inspection", "repair", "cleaning", "desilting", "painting", "waterproofing", "anticorrosion", *EXTRA_PERMITS,
)  # fmt: skip


class Item(msgspec.Struct, frozen=True):
    """One question of the check list.

    Attributes:
        by: who may answer, as parts on the permit: supervisor, attendant, tester, entrant.
        age: the timing (a field of `Timings`) for which a yes is good; "" = as long as the permit.
        photo: a yes comes with the sha256 of a photo that nobody has used before.
        subjects: what the question is asked of, one by one, or None for once a permit; none at all = it is not asked.
    """

    id: str
    check: str
    block: str
    by: tuple[str, ...]
    clause: str
    age: str = ""
    photo: bool = False
    asked: Callable[[Permit, Space], bool] = lambda _permit, _space: True
    subjects: Callable[[Permit], list[str]] | None = None


class Question(msgspec.Struct, frozen=True):
    """An item as one permit asks it: `key` names the answer, `subject` what it is about, `by` the people who may answer."""

    key: str
    item: Item
    subject: str
    by: list[str]


def _flammable(_: Permit, space: Space) -> bool:
    return not FLAMMABLE.isdisjoint(hazard.lower() for hazard in space.hazards)


def _complicated(_: Permit, space: Space) -> bool:
    return space.complicated


def _steady(_: Permit, space: Space) -> bool:
    return not space.complicated


_S, _A = ("supervisor",), ("attendant",)
# A yes about what stands at the opening is good for a shift, unless the row says otherwise; a permit's papers as long as it.
ITEMS = (
    Item("hazard_analysis", "G08", "approval", _S, "GB 46768-2025 5.1.1"),
    Item("isolation", "G09", "approval", _S, "GB 46768-2025 5.6.1", "new_shift_s", subjects=lambda p: p.isolation),
    Item("briefing_supervisor", "G08", "training", _S, "GB 46768-2025 5.3"),
    Item("briefing_entrant", "G08", "training", ("entrant",), "GB 46768-2025 5.3", subjects=lambda p: p.entrants),
    Item("clean_air", "G10", "ventilation", _A, "GB 46768-2025 5.10", "new_shift_s"),
    Item("ppe_escape_respirator", "G15", "ppe", _A, "GB 46768-2025 5.12", "new_shift_s", asked=_steady),
    Item("ppe_supplied_air", "G15", "ppe", _A, "GB 46768-2025 5.12; GB/T 18664-2002", "new_shift_s", asked=_complicated),
    Item("ppe_harness", "G15", "ppe", _A, "GB 46768-2025 5.12", "new_shift_s", asked=_complicated),
    Item("explosion_proof", "G15", "ppe", _A, "MEM Order 13 art. 14", "new_shift_s", asked=_flammable),
    Item("signs", "G18", "attendant", _A, "MEM Order 13 art. 11", "signs_s"),
    Item("barrier_sign", "G18", "attendant", _A, "MEM Order 13 art. 12; GB 46768-2025 6.2.6", "signs_s", photo=True),
    Item("rescue_plan", "G16", "rescue", _S, "MEM Order 13 art. 10"),
    Item("rescue_kit", "G16", "rescue", _A, "MEM Order 13 art. 13; GB 46768-2025 4.5", "new_shift_s"),
    Item("rescue_team", "G16", "rescue", _A, "MEM Order 13 art. 10", "new_shift_s"),
    Item("comms_test", "G16", "rescue", _A, "MEM Order 13 art. 13; 29 CFR 1910.146(f)(11)", "comms_test_s"),
)


def questions(permit: Permit, space: Space) -> list[Question]:
    """Return every item this permit asks, in the order of the list."""
    asked = (item for item in ITEMS if item.asked(permit, space))
    return [question for item in asked for question in _questions(item, permit)]


def _questions(item: Item, permit: Permit) -> Iterator[Question]:
    if item.subjects is None:
        yield Question(item.id, item, "", _answerers(item, permit))
        return
    for subject in item.subjects(permit):
        by = [subject] if item.by == ("entrant",) else _answerers(item, permit)  # nobody is briefed for somebody else
        yield Question(f"{item.id}:{subject}", item, subject, by)


def _answerers(item: Item, permit: Permit) -> list[str]:
    parts = {"supervisor": permit.supervisor, "attendant": permit.attendant, "tester": permit.tester}
    return [parts[part] for part in item.by if parts.get(part)]


def answer(permit: Permit, question: Question) -> Confirmation | None:
    """Return the newest yes to a question by somebody who may give it."""
    given = [c for c in permit.confirmations if c.item == question.key and c.by in question.by and math.isfinite(c.at)]
    return max(given, key=lambda c: c.at, default=None)


def good_until(question: Question, given: Confirmation, timings: Timings) -> float:
    """Return until when a yes is good, Unix seconds; infinity for as long as its permit."""
    age = question.item.age
    return given.at + float(getattr(timings, age)) if age else math.inf


def item_failures(f: Facts, check: str) -> list[Failure]:
    """Return what is not confirmed, or not any more, among the items of one check."""
    asked = [q for q in questions(f.permit, f.space) if q.item.check == check]
    return [failure for q in asked for failure in judge_item(q, f.permit, f.now, f.timings, f.photos_elsewhere)]


def judge_item(
    question: Question, permit: Permit, now: float, timings: Timings, photos_elsewhere: frozenset[str] | None
) -> list[Failure]:
    """Return why one item does not hold now: no answer, too old, or a photo that is none or not its own."""
    item, given, check = question.item, answer(permit, question), question.item.check
    asked = row("item", question.key)
    if given is None or not given.at <= now:
        return [
            fail(check, "item.unanswered", "item.confirm", asked, item=item.id, subject=question.subject, by=_names(question))
        ]
    failures = []
    if not now <= good_until(question, given, timings):
        minutes = round((now - given.at) / 60)
        failures.append(
            fail(check, "item.too_old", "item.again", asked, item=item.id, subject=question.subject, minutes=minutes)
        )
    if item.photo and not _own_photo(permit, given, photos_elsewhere):
        failures.append(fail(check, "item.photo", "item.take_photo", asked, item=item.id, subject=question.subject))
    return failures


def _names(question: Question) -> str:
    return ", ".join(question.by)


def _own_photo(permit: Permit, given: Confirmation, photos_elsewhere: frozenset[str] | None) -> bool:
    """Say whether an answer came with a photo's sha256 that no other answer, here or elsewhere, has used."""
    uses = Counter(c.evidence for c in permit.confirmations)[given.evidence]
    elsewhere = photos_elsewhere is None or given.evidence in photos_elsewhere
    return is_photo(given.evidence) and uses == 1 and not elsewhere


_SHA256_DIGITS = 64


def is_photo(evidence: str) -> bool:
    """Say whether evidence is a sha256 in hex."""
    return len(evidence) == _SHA256_DIGITS and set(evidence) <= set("0123456789abcdef")
