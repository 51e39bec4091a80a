"""What people confirm item by item: who may, how long it is good for, which photo counts, and when an item is asked at all."""

import msgspec
import pytest

from manway.checks import (
    BLOCKS,
    CHECKS,
    ITEMS,
    WORK_KINDS,
    answer,
    evaluate,
    failures_of,
    good_until,
    is_photo,
    judge_item,
    questions,
)
from manway.entities import Confirmation, Permit, Space
from manway.ids import GrantKind
from tests.kit.builders import TIMINGS, a_permit, a_space, confirmed, facts
from tests.kit.clock import EPOCH

WORST = msgspec.structs.replace(a_space(), hazards=["CH4", "h2s"], complicated=True)
ALL = confirmed(msgspec.structs.replace(a_permit(), isolation=["pump 3", "inlet valve"]), WORST)
CALM = confirmed(msgspec.structs.replace(a_permit(), isolation=["pump 3", "inlet valve"]))
BOTH = {q.key: (ALL, WORST) for q in questions(ALL, WORST)} | {q.key: (CALM, a_space()) for q in questions(CALM, a_space())}


def reasons(permit: Permit, space: Space, **changed: object) -> list[tuple[str, str, str]]:
    found = failures_of(evaluate(facts(permit=permit, space=space, **changed)))
    return [(f.check, f.key, f.evidence[0]["id"]) for f in found]


def question(key: str) -> tuple[Permit, Space, str]:
    permit, space = BOTH[key]
    return permit, space, next(q.item.check for q in questions(permit, space) if q.key == key)


def changed(permit: Permit, key: str, **fields: object) -> Permit:
    given = [msgspec.structs.replace(c, **fields) if c.item == key else c for c in permit.confirmations]
    return msgspec.structs.replace(permit, confirmations=given)


def test_together_the_two_permits_ask_every_item() -> None:
    assert {q.item.id for p, s in ((ALL, WORST), (CALM, a_space())) for q in questions(p, s)} == {item.id for item in ITEMS}
    assert reasons(ALL, WORST) == reasons(CALM, a_space()) == []


def test_every_item_belongs_to_a_check_and_a_block_and_names_who_and_by_which_law() -> None:
    assert {item.check for item in ITEMS} <= {check.id for check in CHECKS}
    assert {item.block for item in ITEMS} | {"gas_test"} == set(BLOCKS)  # the gas test has its own form
    assert all(item.by and item.clause and set(item.by) <= {"supervisor", "attendant", "tester", "entrant"} for item in ITEMS)
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    assert all(getattr(TIMINGS, item.age) > 0 for item in ITEMS if item.age)
    assert len(set(WORK_KINDS)) == len(WORK_KINDS)


@pytest.mark.parametrize("key", BOTH)
def test_without_its_yes_an_item_fails_its_check(key: str) -> None:
    permit, space, check = question(key)
    silent = msgspec.structs.replace(permit, confirmations=[c for c in permit.confirmations if c.item != key])
    assert reasons(silent, space) == [(check, "item.unanswered", key)]


@pytest.mark.parametrize("key", BOTH)
@pytest.mark.parametrize("by", ["approver", "stranger", ""])
def test_the_yes_of_somebody_else_is_none(key: str, by: str) -> None:
    permit, space, check = question(key)
    assert reasons(changed(permit, key, by=by), space) == [(check, "item.unanswered", key)]


@pytest.mark.parametrize("key", BOTH)
@pytest.mark.parametrize("at", [EPOCH + 0.1, float("nan"), float("inf"), float("-inf")])
def test_a_yes_of_the_future_or_of_no_time_is_none(key: str, at: float) -> None:
    permit, space, check = question(key)
    assert reasons(changed(permit, key, at=at), space) == [(check, "item.unanswered", key)]


@pytest.mark.parametrize("key", BOTH)
def test_a_yes_is_good_for_its_time_to_the_second_and_no_longer(key: str) -> None:
    permit, space, check = question(key)
    asked = next(q for q in questions(permit, space) if q.key == key)
    if not asked.item.age:
        assert good_until(asked, Confirmation(key, "x", EPOCH), TIMINGS) == float("inf")
        assert reasons(changed(permit, key, at=EPOCH - 3000.0), space) == []
        return
    good_s = getattr(TIMINGS, asked.item.age)
    assert reasons(changed(permit, key, at=EPOCH - good_s), space) == []
    assert reasons(changed(permit, key, at=EPOCH - good_s - 0.5), space) == [(check, "item.too_old", key)]


def test_the_newest_yes_counts() -> None:
    old = Confirmation("comms_test", "attendant", EPOCH - 5000)
    permit = msgspec.structs.replace(ALL, confirmations=[*ALL.confirmations, old])
    assert reasons(permit, WORST) == []
    asked = next(q for q in questions(permit, WORST) if q.key == "comms_test")
    assert answer(permit, asked) == Confirmation("comms_test", "attendant", EPOCH - 60)


PHOTO = "b2" * 32


@pytest.mark.parametrize("evidence", ["", "a photo", "A1" * 32, "a1" * 31, "g1" * 32])
def test_a_barrier_without_a_photo_is_not_confirmed(evidence: str) -> None:
    assert not is_photo(evidence)
    assert reasons(changed(ALL, "barrier_sign", evidence=evidence), WORST) == [("G18", "item.photo", "barrier_sign")]


def test_a_photo_counts_once() -> None:
    mine = changed(ALL, "barrier_sign", evidence=PHOTO)
    assert reasons(mine, WORST) == []
    assert reasons(mine, WORST, photos_elsewhere=frozenset({PHOTO})) == [("G18", "item.photo", "barrier_sign")]
    assert reasons(mine, WORST, photos_elsewhere=None) == [("G18", "item.photo", "barrier_sign")]
    again = [*mine.confirmations, Confirmation("barrier_sign", "attendant", EPOCH - 5000, PHOTO)]
    assert reasons(msgspec.structs.replace(mine, confirmations=again), WORST) == [("G18", "item.photo", "barrier_sign")]
    elsewhere = changed(mine, "signs", evidence=PHOTO)
    assert reasons(elsewhere, WORST) == [("G18", "item.photo", "barrier_sign")]


def test_an_old_photo_used_twice_is_told_both_ways() -> None:
    stale = changed(ALL, "barrier_sign", at=EPOCH - TIMINGS.signs_s - 1, evidence="")
    assert [key for _, key, _ in reasons(stale, WORST)] == ["item.too_old", "item.photo"]


def test_both_sides_sign_the_briefing_each_entrant_for_oneself() -> None:
    asked = {q.key: q.by for q in questions(ALL, WORST)}
    assert asked["briefing_supervisor"] == ["supervisor"]
    assert (asked["briefing_entrant:ann"], asked["briefing_entrant:bob"]) == (["ann"], ["bob"])
    assert reasons(changed(ALL, "briefing_entrant:ann", by="bob"), WORST)[0][1:] == ("item.unanswered", "briefing_entrant:ann")


def test_every_energy_of_the_permit_is_isolated_by_itself() -> None:
    keys = [q.key for q in questions(ALL, WORST) if q.item.check == "G09"]
    assert keys == ["isolation:pump 3", "isolation:inlet valve"]
    assert [q.key for q in questions(a_permit(), a_space()) if q.item.check == "G09"] == []


@pytest.mark.parametrize(
    ("space", "asked"),
    [
        ({}, {"ppe_escape_respirator"}),
        ({"complicated": True}, {"ppe_supplied_air", "ppe_harness"}),
        ({"hazards": ["ch4"]}, {"ppe_escape_respirator", "explosion_proof"}),
        ({"hazards": ["fire"], "complicated": True}, {"ppe_supplied_air", "ppe_harness", "explosion_proof"}),
        ({"hazards": ["h2s", "drowning"]}, {"ppe_escape_respirator"}),
    ],
)
def test_protection_follows_the_space(space: dict[str, object], asked: set[str]) -> None:
    """GB 46768-2025 5.12: good and stable air, an escape respirator; it may worsen, harness and supplied air."""
    found = questions(a_permit(), msgspec.structs.replace(a_space(), **space))
    assert {q.key for q in found if q.item.check == "G15"} == asked


def test_before_ventilating_nobody_is_asked_for_what_entering_needs() -> None:
    silent = msgspec.structs.replace(CALM, confirmations=[])
    needed = {f.evidence[0]["id"] for f in failures_of(evaluate(facts(permit=silent, kind=GrantKind.PREP)))}
    assert needed == {q.key for q in questions(CALM, a_space())} - {"clean_air", "ppe_escape_respirator"}


def test_an_item_nobody_can_answer_stays_open() -> None:
    nobody = msgspec.structs.replace(CALM, supervisor="")
    asked = next(q for q in questions(nobody, a_space()) if q.key == "hazard_analysis")
    assert (asked.by, [f.key for f in judge_item(asked, nobody, EPOCH, TIMINGS, frozenset())]) == ([], ["item.unanswered"])
