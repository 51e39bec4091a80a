"""The check list over HTTP: one yes, one item, by the person it belongs to; stored, told, audited, and judged at the unlock."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import desk, store
from api.views.approvals import approvals
from api.views.view import View
from manway.checks import questions
from manway.entities import Delegation, Permit, PermitState, Person, Space
from tests.kit.api import SPACE, Bench, an_api, checks_of

PHOTO = "c3" * 32


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def unconfirmed(bench: Bench, state: PermitState = PermitState.APPROVED, **changed: object) -> Permit:
    return bench.make_permit(state, confirmations=[], entrants=["p01"], **changed)


def say_yes(bench: Bench, account: str, permit: Permit, item: str, evidence: str = "") -> tuple[int, str]:
    answer = bench.put(account, f"/api/v1/permits/{permit.id}/checklist/{item}", {"answer": "yes", "evidence": evidence})
    return answer.status_code, answer.json().get("detail", "")


def asked(bench: Bench, account: str, permit: Permit) -> dict[str, dict[str, object]]:
    answer = bench.get(account, f"/api/v1/permits/{permit.id}/preparation").json()
    return {item["id"]: item for block in answer["items"]["blocks"] for item in block["items"]}


def test_each_says_yes_to_what_is_theirs_and_the_unlock_goes_through(bench: Bench) -> None:
    permit = unconfirmed(bench)
    bench.look()
    unlock = {"lock": "lock-n04", "kind": "PREP"}
    assert set(checks_of(bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", unlock))) == {"G08", "G16", "G18"}
    for account in ("worker", "attendant"):
        mine = [item for item in asked(bench, account, permit).values() if item["yes"]]
        assert mine
        for item in mine:
            assert say_yes(bench, account, permit, str(item["id"]), PHOTO if item["photo"] else "")[0] == 200
    assert all(item["state"] == "good" and not item["yes"] for item in asked(bench, "manager", permit).values())
    assert bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", unlock).status_code == 202


def test_a_yes_is_stored_told_and_audited(bench: Bench) -> None:
    permit = unconfirmed(bench)
    assert say_yes(bench, "attendant", permit, "comms_test") == (200, "")
    (given,) = bench.permit(permit.id).confirmations
    assert (given.item, given.by, given.at) == ("comms_test", "p02", bench.now())
    (event,) = bench.events("ItemConfirmed")
    assert (getattr(event, "item", ""), getattr(event, "by", "")) == ("comms_test", "p02")
    assert bench.audit_actions()[-1] == "p02 ItemConfirmed"
    told = bench.get("manager", "/api/v1/events?after=0").json()["items"][-1]["text"]
    assert told == "Li Na confirmed: Talking to the attendant has been tried and works"


@pytest.mark.parametrize(
    ("account", "item", "evidence", "why"),
    [
        ("attendant", "hazard_analysis", "", "This item is for p01 to confirm"),
        ("attendant", "briefing_entrant:p01", "", "This item is for p01 to confirm"),
        ("worker", "comms_test", "", "This item is for p02 to confirm"),
        ("attendant", "no_such_item", "", "This permit has no such item: no_such_item"),
        ("attendant", "isolation:pump", "", "This permit has no such item: isolation:pump"),
        ("attendant", "barrier_sign", "", "Barrier and sign stand: the photo is missing or was used before"),
        ("attendant", "barrier_sign", "seen it", "Barrier and sign stand: the photo is missing or was used before"),
    ],
)
def test_what_does_not_count_is_refused_at_once(account: str, item: str, evidence: str, why: str, bench: Bench) -> None:
    permit = unconfirmed(bench)
    assert say_yes(bench, account, permit, item, evidence) == (409, why)
    assert bench.permit(permit.id) == permit
    assert not bench.events("ItemConfirmed")


def test_a_photo_is_taken_once_for_one_permit(bench: Bench) -> None:
    first = unconfirmed(bench)
    assert say_yes(bench, "attendant", first, "barrier_sign", PHOTO)[0] == 200
    assert say_yes(bench, "attendant", first, "barrier_sign", PHOTO)[0] == 409
    other = unconfirmed(bench, PermitState.SUBMITTED)
    assert say_yes(bench, "attendant", other, "barrier_sign", PHOTO)[0] == 409
    assert say_yes(bench, "attendant", other, "barrier_sign", "d4" * 32)[0] == 200


@pytest.mark.parametrize("state", PermitState)
def test_items_are_confirmed_while_an_opening_may_follow(state: PermitState, bench: Bench) -> None:
    permit = unconfirmed(bench, state)
    open_in = {"submitted", "approved", "ready", "active", "suspended"}
    assert say_yes(bench, "attendant", permit, "signs")[0] == (200 if state.value in open_in else 409)
    assert asked(bench, "attendant", permit)["rescue_team"]["yes"] is (state.value in open_in)


def test_an_item_says_who_until_when_and_by_which_law(bench: Bench) -> None:
    permit = unconfirmed(bench, isolation=["inlet valve"])
    items = asked(bench, "worker", permit)
    assert set(items) == {q.key for q in questions(permit, bench_space(bench))}
    assert items["isolation:inlet valve"]["text"] == "Isolated, locked and tagged: inlet valve"
    assert items["briefing_entrant:p01"]["by"] == "Zhang Wei"
    assert (items["comms_test"]["by"], items["comms_test"]["mine"]) == ("Li Na", False)
    assert "SCBA 2" in str(items["rescue_kit"]["text"])
    assert items["signs"]["clause"] == "MEM Order 13 art. 11"
    assert say_yes(bench, "attendant", permit, "comms_test")[0] == 200
    assert asked(bench, "attendant", permit)["comms_test"]["until"] == bench.now() + bench.timings.comms_test_s
    bench.wait(bench.timings.comms_test_s + 1)
    again = asked(bench, "attendant", permit)["comms_test"]
    assert (again["state"], again["yes"]) == ("old", True)
    assert say_yes(bench, "worker", permit, "isolation%3Ainlet%20valve")[0] == 200


def bench_space(bench: Bench) -> Space:
    with bench.records.look() as db:
        return desk.space_of(db, SPACE)


def test_a_repeated_press_is_one_yes(bench: Bench) -> None:
    permit = unconfirmed(bench)
    path = f"/api/v1/permits/{permit.id}/checklist/signs"
    for _ in range(2):
        assert bench.put("attendant", path, {"answer": "yes"}, key="one-press-of-it").status_code == 200
    assert len(bench.permit(permit.id).confirmations) == 1
    other = f"/api/v1/permits/{permit.id}/checklist/rescue_team"
    assert bench.put("attendant", other, {"answer": "yes"}, key="one-press-of-it").status_code != 200


@pytest.mark.parametrize("body", [{}, {"answer": "no"}, {"answer": True}, {"answer": "yes", "evidence": "x" * 201}])
def test_only_a_yes_is_an_answer(body: dict[str, object], bench: Bench) -> None:
    permit = unconfirmed(bench)
    assert bench.put("attendant", f"/api/v1/permits/{permit.id}/checklist/signs", body).status_code == 422


def request(bench: Bench, **changed: object) -> str:
    asked_for = {"space": "n02", "work": "x", "minutes": 60, "attendant": "p02", "tester": "p12", "entrants": ["p15"]}
    answer = bench.post("worker", "/api/v1/permits", asked_for | changed)
    assert answer.status_code == 201, answer.json()
    return str(answer.json()["id"])


def edit(bench: Bench, person: str, **changed: object) -> None:
    with bench.records.change() as db:
        known = store.get(db, Person, person)
        assert known is not None
        store.put(db, "Person", person, msgspec.structs.replace(known, **changed))


def test_a_space_with_h2s_is_approved_by_the_principal_or_in_writing(bench: Bench) -> None:
    permit = request(bench)
    edit(bench, "p03", delegation=None)
    assert bench.post("approver", f"/api/v1/permits/{permit}/approve").status_code == 409
    edit(bench, "p03", delegation=Delegation("doc", bench.now() - 1, bench.now() + 1))
    assert bench.post("approver", f"/api/v1/permits/{permit}/approve").json()["state"] == "approved"


def test_a_contractors_work_needs_the_owners_approval_too(bench: Bench) -> None:
    edit(bench, "p03", owner=False)
    permit = request(bench, contractor=True)
    assert bench.post("approver", f"/api/v1/permits/{permit}/approve").json()["state"] == "submitted"
    assert bench.post("approver", f"/api/v1/permits/{permit}/approve").status_code == 409
    edit(bench, "p04", owner=False)
    assert "owner" in bench.post("manager", f"/api/v1/permits/{permit}/approve").json()["detail"]
    edit(bench, "p04", owner=True)
    assert bench.post("manager", f"/api/v1/permits/{permit}/approve").json()["state"] == "approved"


def test_a_request_may_name_what_must_be_isolated_and_what_else_must_be_permitted(bench: Bench) -> None:
    extra = {"kind": "hot_work", "number": "HW-1", "start": 0.0, "end": bench.now() + 60}
    permit = bench.permit(request(bench, work_kinds=["welding"], isolation=["inlet"], extra_permits=[extra], task_minutes=90.0))
    assert (permit.work_kinds, permit.isolation, permit.task_s, permit.profile) == (["welding"], ["inlet"], 5400.0, "CN")
    assert [x.number for x in permit.extra_permits] == ["HW-1"]


@pytest.mark.parametrize(
    "changed",
    [{"work_kinds": ["dancing"]}, {"isolation": ["a/b"]}, {"isolation": [""]}, {"extra_permits": [{"kind": "x"}]}],
)
def test_a_request_in_other_words_is_refused(changed: dict[str, object], bench: Bench) -> None:
    asked_for = {"space": "n04", "work": "x", "minutes": 60, "attendant": "p02", "tester": "p12", "entrants": ["p15"]}
    assert bench.post("worker", "/api/v1/permits", asked_for | changed).status_code == 422


def test_a_permit_lasts_no_longer_than_the_work_or_the_profile_allows(bench: Bench) -> None:
    asked_for = {"space": "n04", "work": "x", "minutes": 60, "attendant": "p02", "tester": "p12", "entrants": ["p15"]}
    assert bench.post("worker", "/api/v1/permits", asked_for | {"task_minutes": 59.0}).status_code == 409


def test_the_approvals_page_says_who_may_not_approve_this_space_and_why(bench: Bench) -> None:
    request(bench)

    def waiting() -> tuple[bool, str]:
        with bench.records.look() as db:
            waits = approvals(View(bench.office, db, bench.person("approver"), "en"))["waiting"]
        (row,) = msgspec.convert(waits, list[dict[str, object]])
        return bool(row["can_approve"]), str(row["why_not"])

    assert waiting() == (True, "")
    edit(bench, "p03", delegation=None)
    allowed, why = waiting()
    assert not allowed
    assert why.startswith("Wang Qiang is not the principal")
