"""The turns of a permit's life through the HTTP edge: suspend, resume, cancel, a later end, a hand-over, a stop, a recount."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from httpx2 import Response

from api import second_signature, store
from manway.entities import Confirmation, Delegation, Permit, PermitState, Person, Signature, Space
from manway.events import AlarmRaised, PermitExtended, PermitHandedOver
from manway.ids import Priority
from manway.permit import TERMINAL
from manway.runtime import settings
from tests.kit.api import GAS, LOCK, PEOPLE, SPACE, Bench, an_api
from tests.kit.clock import EPOCH

S = PermitState
OTHER = "p12"  # another attendant
HOUR_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        for account in ("approver", "manager"):
            change_person(bench, account, principal=True)
        bench.look()
        yield bench


def change_person(bench: Bench, account: str, **changed: object) -> Person:
    person = msgspec.structs.replace(bench.person(account), **changed)
    with bench.records.change() as db:
        store.put(db, "Person", person.id, person)
    return person


def follow(bench: Bench, profile: str) -> None:
    """Let the office work by the rules of another profile on interruptions; its gases stay those of the yard."""
    rules = settings.limits(profile)
    named = {"after_evacuation": rules.after_evacuation, "after_break": rules.after_break, "permit_max_s": rules.permit_max_s}
    bench.office.limits = msgspec.structs.replace(bench.office.limits, **named)


def press(bench: Bench, account: str, permit: Permit, turn: str, body: object = None) -> Response:
    return bench.post(account, f"/api/v1/permits/{permit.id}/{turn}", body)


def refusals(answer: Response) -> list[str]:
    """What a refusal says, in words."""
    assert answer.status_code == 409, answer.text
    return [failure["text"] for failure in answer.json()["failures"]]


def told(bench: Bench, permit: Permit) -> list[str]:
    """What the api said of a permit, by name."""
    names = [type(e).__name__ for e in bench.events() if getattr(e, "permit", "") == permit.id]
    return [name for name in names if name.startswith(("Permit", "Ventilation", "GasTest"))]


def confirm(bench: Bench, permit: Permit, **items: str) -> None:
    """Somebody answers items with yes: item -> person."""
    now, permit = bench.now(), bench.permit(permit.id)
    given = [Confirmation(item.replace("__", ":"), by, now) for item, by in items.items()]
    with bench.records.change() as db:
        store.put_permit(db, msgspec.structs.replace(permit, confirmations=[*permit.confirmations, *given]))


def air_and_test(bench: Bench, permit: Permit, *, at_once: bool = False) -> Response:
    """Ventilate and test as the attendant, who is the tester too, by the routes."""
    assert press(bench, "attendant", permit, "ventilation").status_code == 200
    if not at_once:
        bench.wait(bench.timings.ventilation_s)
    bench.look()
    readings = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
    dwell_s = bench.timings.dwell_s + 3 * bench.timings.dwell_per_m_s
    points = [{"distance_m": d, "dwell_s": dwell_s, "readings": readings} for d in (0.5, 1.5, 2.5)]
    return press(bench, "attendant", permit, "gas-tests", {"points": points, "upwind": True})


def suspended(bench: Bench, state: PermitState = S.ACTIVE) -> Permit:
    permit = bench.make_permit(state, confirmations=[Confirmation("clean_air", "p02", bench.now())])
    answer = press(bench, "worker", permit, "suspend", {"barrier": True, "temporary": True})
    assert answer.json()["state"] == "suspended", answer.text
    return bench.permit(permit.id)


# ---- suspend or cancel (`domain.md` §4.2)


@pytest.mark.parametrize("state", [S.ACTIVE, S.EVACUATING])
@pytest.mark.parametrize(
    ("profile", "temporary", "after"),
    [
        ("CN", False, "suspended"),
        ("CN_CHEM", True, "suspended"),
        ("US_CONSTRUCTION", True, "suspended"),
        ("US_CONSTRUCTION", False, "cancelled"),
        ("US_GENERAL", True, "cancelled"),
        ("US_GENERAL", False, "cancelled"),
    ],
)
def test_an_interruption_ends_as_the_profile_says(
    state: PermitState, profile: str, after: str, bench: Bench, *, temporary: bool
) -> None:
    follow(bench, profile)
    permit = bench.make_permit(state)
    answer = press(bench, "worker", permit, "suspend", {"barrier": True, "temporary": temporary, "reason": "lunch"})
    assert (answer.status_code, answer.json()["state"]) == (200, after)
    assert told(bench, permit) == ["PermitSuspended" if after == "suspended" else "PermitCancelled"]
    assert bench.audit_actions()[-1] == f"p01 {told(bench, permit)[0]}"
    now = bench.permit(permit.id)
    assert (now.gas_test, now.ventilated_at) == (None, None)
    assert now.barrier is (after == "suspended")


def test_whether_a_break_was_harmless_only_the_supervisor_or_a_manager_says(bench: Bench) -> None:
    follow(bench, "US_CONSTRUCTION")
    permit = bench.make_permit(S.ACTIVE)
    body = {"barrier": True, "temporary": True}
    assert refusals(press(bench, "attendant", permit, "suspend", body)) == ["Only this permit's supervisor may do this"]
    assert press(bench, "manager", permit, "suspend", body).json()["state"] == "suspended"


def test_without_a_barrier_nothing_is_suspended(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert len(refusals(press(bench, "worker", permit, "suspend", {"barrier": False}))) == 1
    assert bench.permit(permit.id) == permit


@pytest.mark.parametrize("profile", ["CN", "US_CONSTRUCTION", "US_GENERAL"])
@pytest.mark.parametrize("state", sorted(set(S) - {S.ACTIVE, S.EVACUATING}, key=str))
def test_only_work_that_goes_on_is_interrupted(state: PermitState, profile: str, bench: Bench) -> None:
    follow(bench, profile)
    permit = bench.make_permit(state)
    assert len(refusals(press(bench, "worker", permit, "suspend", {"barrier": True}))) == 1
    assert bench.permit(permit.id) == permit


@pytest.mark.parametrize("profile", ["CN", "US_CONSTRUCTION", "US_GENERAL"])
def test_with_somebody_inside_no_profile_ends_the_work(profile: str, bench: Bench) -> None:
    follow(bench, profile)
    permit = bench.make_permit(S.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    for body in ({"barrier": True}, {"barrier": True, "temporary": True}):
        assert refusals(press(bench, "worker", permit, "suspend", body)) == ["1 people are still inside"]
    bench.office.pictures.heard_at.clear()
    for body in ({"barrier": True}, {"barrier": True, "temporary": True}):
        assert refusals(press(bench, "worker", permit, "suspend", body)) == [
            "The count inside is unknown and counts as occupied"
        ]


# ---- resume


def test_work_resumes_after_new_air_and_a_new_test_on_the_supervisors_word(bench: Bench) -> None:
    permit = suspended(bench)
    tested = air_and_test(bench, permit)
    assert (tested.json()["passed"], tested.json()["state"]) == (True, "suspended"), tested.text
    answer = press(bench, "worker", permit, "resume")
    assert (answer.status_code, answer.json()["state"]) == (200, "ready"), answer.text
    assert told(bench, permit) == ["PermitSuspended", "VentilationRecorded", "GasTestRecorded", "PermitResumed"]
    assert bench.audit_actions()[-1] == "p01 PermitResumed"


def test_nothing_resumes_untested(bench: Bench) -> None:
    permit = suspended(bench)
    said = refusals(press(bench, "worker", permit, "resume"))
    assert "There is no gas test" in said
    assert len(said) >= 3  # no air, no test, no proof of their order
    assert bench.permit(permit.id) == permit


def test_a_test_too_soon_after_the_fan_resumes_nothing(bench: Bench) -> None:
    permit = suspended(bench)
    assert air_and_test(bench, permit, at_once=True).json()["passed"] is False
    assert refusals(press(bench, "worker", permit, "resume"))
    assert bench.permit(permit.id).state is S.SUSPENDED


def test_an_alarm_after_the_test_makes_it_void_though_it_is_over(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    alarm = AlarmRaised(id="alarm-9", at=bench.now() + 1, site="yard-north", alarm="alarm-9", kind="GAS_LOW",
                        object=f"{GAS}/H2S", space=SPACE, priority=Priority.P1)  # fmt: skip
    bench.add_events(alarm, msgspec.structs.replace(alarm, id="alarm-8", alarm="alarm-8", space="n01"))
    bench.wait(1)
    bench.look()
    assert len(refusals(press(bench, "worker", permit, "resume"))) == 1
    air_and_test(bench, permit)
    assert press(bench, "worker", permit, "resume").json()["state"] == "ready"


def test_a_reminder_voids_no_test(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    bench.add_events(
        AlarmRaised(id="alarm-9", at=bench.now(), site="yard-north", alarm="alarm-9", kind="LOCK_BATTERY", object=LOCK,
                    space=SPACE, priority=Priority.P4)
    )  # fmt: skip
    assert press(bench, "worker", permit, "resume").json()["state"] == "ready"


def test_open_danger_resumes_nothing(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    bench.wait(1)
    bench.look(air={"H2S": 50.0})
    assert len(refusals(press(bench, "worker", permit, "resume"))) >= 1
    assert bench.permit(permit.id).state is S.SUSPENDED


def test_somebody_inside_resumes_nothing(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    bench.count(permit, "p15")
    assert refusals(press(bench, "worker", permit, "resume")) == ["1 people are still inside"]


def test_only_the_supervisor_or_a_manager_resumes(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    assert refusals(press(bench, "attendant", permit, "resume")) == ["Only this permit's supervisor may do this"]
    assert press(bench, "approver", permit, "resume").status_code == 403
    assert press(bench, "manager", permit, "resume").json()["state"] == "ready"


@pytest.mark.parametrize("state", [s for s in S if s is not S.SUSPENDED])
def test_only_a_suspended_permit_resumes(state: PermitState, bench: Bench) -> None:
    permit = bench.make_permit(state)
    assert len(refusals(press(bench, "worker", permit, "resume"))) == 1
    assert bench.permit(permit.id) == permit


def test_without_the_barrier_nothing_resumes(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    with bench.records.change() as db:
        store.put_permit(db, msgspec.structs.replace(bench.permit(permit.id), barrier=False))
    assert refusals(press(bench, "worker", permit, "resume")) == ["The barrier and sign at the opening are not confirmed"]


def test_in_us_construction_everything_is_assessed_anew(bench: Bench) -> None:
    follow(bench, "US_CONSTRUCTION")
    permit = bench.make_permit(
        S.ACTIVE,
        isolation=["pump P-1"],
        confirmations=[Confirmation(item, "p01", bench.now()) for item in ("hazard_analysis", "isolation:pump P-1")],
    )
    press(bench, "worker", permit, "suspend", {"barrier": True, "temporary": True})
    assert bench.permit(permit.id).confirmations == []
    confirm(bench, permit, clean_air="p02")
    air_and_test(bench, permit)
    before = refusals(press(bench, "worker", permit, "resume"))
    assert len(before) == 5  # hazards, both sides of the briefing (two entrants), isolation
    confirm(bench, permit, hazard_analysis="p01", briefing_supervisor="p01")
    confirm(bench, permit, briefing_entrant__p15="p15", briefing_entrant__p16="p16")
    assert len(refusals(press(bench, "worker", permit, "resume"))) == 1
    confirm(bench, permit, **{"isolation__pump P-1": "p01"})
    assert press(bench, "worker", permit, "resume").json()["state"] == "ready"


def test_in_us_general_industry_nothing_resumes(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    follow(bench, "US_GENERAL")
    assert refusals(press(bench, "worker", permit, "resume")) == ["Under this rule set an interrupted permit has ended"]


# ---- cancel


@pytest.mark.parametrize("account", ["worker", "approver", "manager"])
def test_who_asked_leads_or_decides_may_cancel(account: str, bench: Bench) -> None:
    permit = bench.make_permit(S.APPROVED)
    answer = press(bench, account, permit, "cancel", {"reason": "rain"})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    (event,) = bench.events("PermitCancelled")
    assert (getattr(event, "reason", ""), getattr(event, "by", "")) == ("rain", PEOPLE[account])


def test_nobody_else_cancels(bench: Bench) -> None:
    permit = bench.make_permit(S.APPROVED)
    assert refusals(press(bench, "attendant", permit, "cancel", {"reason": "rain"})) == ["This permit is not yours to cancel"]
    for account in ("regulator", "auditor", OTHER):
        assert press(bench, account, permit, "cancel", {"reason": "rain"}).status_code == 403
    assert press(bench, "worker", permit, "cancel", {}).status_code == 422


@pytest.mark.parametrize("state", S)
def test_what_has_ended_is_not_cancelled(state: PermitState, bench: Bench) -> None:
    permit = bench.make_permit(state)
    answer = press(bench, "worker", permit, "cancel", {"reason": "rain"})
    assert answer.status_code == (409 if state in TERMINAL else 200)


def test_with_somebody_inside_or_unknown_nothing_is_cancelled(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    assert refusals(press(bench, "manager", permit, "cancel", {"reason": "rain"})) == ["1 people are still inside"]
    bench.wait(60)
    assert len(refusals(press(bench, "manager", permit, "cancel", {"reason": "rain"}))) == 1
    assert bench.permit(permit.id).state is S.ACTIVE


def test_a_cancelled_space_is_locked_up_as_ever(bench: Bench) -> None:
    permit = bench.make_permit(S.CANCELLED)
    assert press(bench, "attendant", permit, "close-out", {"lock": LOCK}).status_code == 202


# ---- a later end


def ask(bench: Bench, permit: Permit, minutes: float = 60.0, account: str = "worker") -> Response:
    return press(bench, account, permit, "extend", {"minutes": minutes, "reason": "the valve is stuck"})


def test_a_later_end_is_asked_for_and_approved_by_two(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    asked = ask(bench, permit)
    assert (asked.status_code, asked.json()["end"]) == (201, permit.end + HOUR_S)
    assert bench.permit(permit.id) == permit  # nothing has changed yet
    waits = bench.get("approver", f"/api/v1/permits/{permit.id}/waiting").json()["extension"]
    assert (waits["id"], waits["end"], waits["reason"]) == (asked.json()["request"], permit.end + HOUR_S, "the valve is stuck")
    answer = press(bench, "approver", permit, "approve-extension", {"request": waits["id"]})
    assert (answer.status_code, answer.json()["end"], answer.json()["state"]) == (200, permit.end + HOUR_S, "active")
    now = bench.permit(permit.id)
    assert (now.end, now.version, now.signatures) == (permit.end + HOUR_S, permit.version + 1, permit.signatures)
    (event,) = bench.events("PermitExtended")
    assert isinstance(event, PermitExtended)
    assert (event.end, event.by, event.reason) == (now.end, "p03", "the valve is stuck")
    assert bench.audit_actions()[-3:] == ["p01 PermitAgreed", "p03 ExtensionApproved", "p03 PermitExtended"]
    assert bench.get("approver", f"/api/v1/permits/{permit.id}/waiting").json()["extension"] is None


def test_an_approval_counts_once_and_only_for_what_was_read(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    first = ask(bench, permit).json()["request"]
    second = ask(bench, permit, 120).json()["request"]
    none = ["There is no such request for a later end"]
    assert refusals(press(bench, "approver", permit, "approve-extension", {"request": first})) == none
    assert press(bench, "approver", permit, "approve-extension", {"request": second}).json()["end"] == permit.end + 2 * HOUR_S
    assert refusals(press(bench, "manager", permit, "approve-extension", {"request": second})) == none
    other = bench.make_permit(S.ACTIVE, space="n05")
    assert refusals(press(bench, "approver", other, "approve-extension", {"request": second})) == none


def test_only_the_supervisor_asks_and_nobody_with_a_part_approves(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, entrants=["p15", "p13"], attendant="p04")
    assert refusals(ask(bench, permit, account="manager")) == ["Only this permit's supervisor may do this"]
    request = {"request": ask(bench, permit).json()["request"]}
    for account in ("manager", "p13"):  # its attendant, and an entrant, both with the role
        said = refusals(press(bench, account, permit, "approve-extension", request))
        assert said == ["Requester, supervisor and approver must be different people"]
    for account in ("worker", OTHER, "regulator"):
        assert press(bench, account, permit, "approve-extension", request).status_code == 403
    assert bench.permit(permit.id).end == permit.end


def test_the_requester_approves_no_later_end_of_the_own_permit(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, requester="p03")
    request = {"request": ask(bench, permit).json()["request"]}
    assert len(refusals(press(bench, "approver", permit, "approve-extension", request))) == 1


def test_after_its_end_a_permit_is_not_extended_neither_asked_nor_approved(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, end=bench.now() + 600)
    request = {"request": ask(bench, permit).json()["request"]}
    bench.wait(600)
    late = ["The permit's end has passed; it cannot be extended any more"]
    assert refusals(press(bench, "approver", permit, "approve-extension", request)) == late
    assert refusals(ask(bench, permit)) == late
    assert bench.permit(permit.id).end == permit.end
    assert bench.get("approver", f"/api/v1/permits/{permit.id}/waiting").json()["extension"] is None


def test_no_chain_of_extensions_passes_the_longest_a_permit_may_last(bench: Bench) -> None:
    follow(bench, "US_GENERAL")  # 12 h
    permit = bench.make_permit(S.ACTIVE)
    longest = permit.start + 12 * HOUR_S - permit.end
    assert len(refusals(ask(bench, permit, longest / 60 + 1))) == 1
    request = {"request": ask(bench, permit, longest / 60).json()["request"]}
    assert press(bench, "approver", permit, "approve-extension", request).status_code == 200
    assert refusals(ask(bench, permit, 1)) == ["A permit may last 12.0 h in all, no longer"]


def test_an_approval_of_h2s_work_needs_the_principals_word_today(bench: Bench) -> None:
    with bench.records.change() as db:
        space = store.get(db, Space, SPACE)
        assert space is not None
        store.put(db, "Space", SPACE, msgspec.structs.replace(space, hazards=["h2s"]), site="yard-north")
    permit = bench.make_permit(S.ACTIVE)
    change_person(bench, "approver", principal=False, delegation=Delegation("letter 7", EPOCH - 60, EPOCH - 1))
    request = {"request": ask(bench, permit).json()["request"]}
    assert len(refusals(press(bench, "approver", permit, "approve-extension", request))) == 1
    change_person(bench, "approver", principal=False, delegation=Delegation("letter 8", EPOCH - 60, EPOCH + 9000))
    assert press(bench, "approver", permit, "approve-extension", request).status_code == 200


def test_contracted_work_is_extended_by_both_approvers(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, contractor=True)
    change_person(bench, "approver", owner=False)
    request = {"request": ask(bench, permit).json()["request"]}
    first = press(bench, "approver", permit, "approve-extension", request)
    assert (first.status_code, first.json()["end"]) == (200, permit.end)
    assert len(refusals(press(bench, "approver", permit, "approve-extension", request))) == 1  # not twice the same
    assert press(bench, "manager", permit, "approve-extension", request).json()["end"] == permit.end + HOUR_S


def test_without_the_owners_approver_contracted_work_is_not_extended(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, contractor=True)
    for account in ("approver", "manager"):
        change_person(bench, account, owner=False)
    request = {"request": ask(bench, permit).json()["request"]}
    press(bench, "approver", permit, "approve-extension", request)
    assert len(refusals(press(bench, "manager", permit, "approve-extension", request))) == 1
    assert bench.permit(permit.id).end == permit.end


def test_a_later_end_does_not_run_into_the_next_permit_of_the_space(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    bench.make_permit(S.APPROVED, start=permit.end, end=permit.end + HOUR_S)
    request = {"request": ask(bench, permit).json()["request"]}
    assert refusals(press(bench, "approver", permit, "approve-extension", request)) == [
        f"Permit {permit.number} already holds this space"
    ]
    assert bench.permit(permit.id).end == permit.end
    assert not bench.events("PermitExtended")


def test_another_broken_rule_of_the_database_is_no_refusal(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    request = ask(bench, permit).json()["request"]
    with bench.records.change() as db:
        db.exec_driver_sql("CREATE TRIGGER no BEFORE UPDATE ON permit BEGIN SELECT raise(ABORT, 'something else'); END")
    with pytest.raises(Exception, match="something else"), bench.records.change() as db:
        second_signature.approve_extension(db, bench.office, bench.person("approver"), permit.id, request)


# ---- a duty passes on


def offer(bench: Bench, permit: Permit, duty: str = "attendant", to: str = OTHER, account: str = "attendant") -> Response:
    return press(bench, account, permit, "handover", {"duty": duty, "to": to})


def take(bench: Bench, permit: Permit, duty: str = "attendant", inside: int = 0, account: str = OTHER) -> Response:
    return press(bench, account, permit, "take-over", {"duty": duty, "inside": inside})


def test_an_attendant_hands_over_with_two_signatures_and_a_head_count(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    offered = offer(bench, permit)
    assert (offered.status_code, offered.json()["to"], offered.json()["good_until"]) == (201, OTHER, bench.now() + 600)
    assert bench.permit(permit.id) == permit
    waits = bench.get("manager", f"/api/v1/permits/{permit.id}/waiting").json()["hand_over"]
    assert (waits["duty"], waits["to"]) == ("attendant", OTHER)
    assert refusals(take(bench, permit, inside=0)) == ["You counted 0 inside, the system 1"]
    answer = take(bench, permit, inside=1)
    assert (answer.status_code, bench.permit(permit.id).attendant) == (200, OTHER)
    (event,) = bench.events("PermitHandedOver")
    assert isinstance(event, PermitHandedOver)
    assert (event.role, event.person, event.by) == ("attendant", OTHER, OTHER)
    assert bench.audit_actions()[-3:] == ["p02 HandOverOffered", "p12 HandOverTaken", "p12 PermitHandedOver"]
    assert len(refusals(take(bench, permit, inside=1))) == 1  # taken once
    assert press(bench, OTHER, permit, "check-ins").status_code == 202
    assert refusals(press(bench, "attendant", permit, "check-ins")) == ["You are not this permit's attendant"]  # the tester


def test_a_supervisor_hands_over_and_the_first_signature_stays(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert offer(bench, permit, "supervisor", "p11", "worker").status_code == 201
    assert take(bench, permit, "supervisor", 0, "p11").status_code == 200
    now = bench.permit(permit.id)
    assert (now.supervisor, now.requester) == ("p11", "p01")
    assert now.signatures == [*permit.signatures, Signature("hand_over", "p11", bench.now())]
    results = bench.get("manager", f"/api/v1/permits/{permit.id}/checks").json()["results"]
    assert [r["outcome"] for r in results if r["check"] == "G02"] == ["passed"]  # the approvals still hold
    assert len(refusals(offer(bench, permit, "supervisor", "p16", "worker"))) == 1  # not the requester's any more
    assert ask(bench, permit, account="p11").status_code == 201


def test_with_the_count_unknown_nothing_is_handed_over(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    offer(bench, permit)
    bench.office.pictures.heard_at.clear()
    assert refusals(take(bench, permit)) == ["The count inside is unknown and counts as occupied"]
    assert bench.permit(permit.id) == permit


@pytest.mark.parametrize(
    ("duty", "to", "account"),
    [
        ("attendant", OTHER, "worker"),  # not the worker's duty
        ("supervisor", OTHER, "attendant"),
        ("attendant", "nobody", "attendant"),
        ("attendant", "p11", "attendant"),  # no attendant
        ("attendant", "p02", "attendant"),  # already
    ],
)
def test_an_offer_that_cannot_hold_is_refused(duty: str, to: str, account: str, bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert len(refusals(offer(bench, permit, duty, to, account))) >= 1
    assert not [row for row in bench.audit_actions() if "HandOver" in row]


def test_only_who_was_offered_a_duty_takes_it_while_the_offer_is_fresh(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert len(refusals(take(bench, permit))) == 1  # nobody offered anything
    offer(bench, permit)
    assert len(refusals(take(bench, permit, account="manager"))) == 1
    assert len(refusals(take(bench, permit, duty="supervisor"))) == 1
    bench.wait(600.1)
    bench.look()
    assert len(refusals(take(bench, permit))) == 1
    assert bench.get("manager", f"/api/v1/permits/{permit.id}/waiting").json()["hand_over"] is None
    assert bench.permit(permit.id).attendant == "p02"


def test_who_lost_a_duty_since_the_offer_cannot_pass_it_on(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    offer(bench, permit)
    with bench.records.change() as db:
        store.put_permit(db, msgspec.structs.replace(permit, attendant="p13"))
    assert refusals(take(bench, permit)) == ["This duty is not yours to hand over"]


def test_who_became_an_entrant_since_the_offer_does_not_attend(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    offer(bench, permit)
    with bench.records.change() as db:
        store.put_permit(db, msgspec.structs.replace(permit, entrants=[OTHER]))
    assert refusals(take(bench, permit)) == ["This person has another part in this work"]


def test_the_named_attendant_recounts_by_name(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert press(bench, "attendant", permit, "recount", {"people": ["p15", "p15", "p16"]}).status_code == 202
    assert bench.commands() == {"RecordCount": "pending"}
    assert len(refusals(press(bench, "attendant", permit, "recount", {"people": ["nobody"]}))) == 1
    assert press(bench, OTHER, permit, "recount", {"people": []}).status_code == 403
    other = bench.make_permit(S.ACTIVE, space="n05", attendant="p12", tester="p02")
    assert len(refusals(press(bench, "attendant", other, "recount", {"people": []}))) == 1


# ---- an authority's stop


def test_a_stop_evacuates_and_only_its_regulator_lifts_it(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    answer = press(bench, "regulator", permit, "hold", {"reason": "accident next door"})
    assert (answer.status_code, answer.json()["state"]) == (200, "active")
    assert bench.commands() == {"OrderEvacuation": "pending"}
    now = bench.permit(permit.id)
    assert now.hold is not None
    assert (now.hold.by, now.hold.reason, now.hold.at) == ("p05", "accident next door", bench.now())
    change_person(bench, "auditor", roles=["regulator"])
    for account, turn in (("auditor", "release"), ("regulator", "hold")):
        said = refusals(press(bench, account, permit, turn, {"reason": "x"}))
        assert said == ["An authority has stopped this permit: accident next door"]
    for account in ("manager", "approver", "attendant", "worker"):
        assert press(bench, account, permit, "release", {"reason": "x"}).status_code == 403
    assert press(bench, "regulator", permit, "release", {"reason": "reviewed"}).status_code == 200
    assert bench.permit(permit.id).hold is None
    assert told(bench, permit) == ["PermitHeld", "PermitReleased"]
    assert bench.audit_actions()[-2:] == ["p05 PermitHeld", "p05 PermitReleased"]
    assert len(refusals(press(bench, "regulator", permit, "release", {"reason": "x"}))) == 1


@pytest.mark.parametrize("state", S)
def test_a_stop_is_for_whatever_has_not_ended_and_evacuates_where_people_may_be(state: PermitState, bench: Bench) -> None:
    permit = bench.make_permit(state)
    answer = press(bench, "regulator", permit, "hold", {"reason": "accident next door"})
    assert answer.status_code == (409 if state in TERMINAL else 200)
    assert bool(bench.commands()) is (state in {S.ACTIVE, S.EVACUATING})


def test_a_stopped_permit_neither_resumes_nor_lasts_longer(bench: Bench) -> None:
    permit = suspended(bench)
    air_and_test(bench, permit)
    press(bench, "regulator", permit, "hold", {"reason": "accident next door"})
    assert bench.get("worker", f"/api/v1/permits/{permit.id}/waiting").json()["hold"]["by"] == "p05"
    stopped = ["An authority has stopped this permit: accident next door"]
    assert refusals(press(bench, "worker", permit, "resume")) == stopped
    assert refusals(ask(bench, permit)) == stopped
    press(bench, "regulator", permit, "release", {"reason": "reviewed"})
    assert press(bench, "worker", permit, "resume").json()["state"] == "ready"
