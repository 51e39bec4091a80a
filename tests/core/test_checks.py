"""Checks before an unlock: each reason to refuse alone, all of them at once, and nothing passes for want of evidence."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway.checks import (
    CHECKS,
    Facts,
    LiveInstrument,
    LockFacts,
    Outcome,
    close_out_failures,
    emergency_failures,
    evaluate,
    failures_of,
    gases_needed,
    grant_life_s,
    needs_delegation,
)
from manway.entities import Delegation, ExtraPermit, Hold, Notice, Permit, PermitState, Person, Reading, Signature, Training
from manway.entities import TestPoint as Point
from manway.ids import GrantKind, Status
from tests.kit.builders import (
    LIMITS,
    PEOPLE,
    TIMINGS,
    a_frame,
    a_permit,
    a_person,
    a_space,
    a_test,
    confirmed,
    facts,
    live,
)
from tests.kit.clock import EPOCH

NAN, INF = float("nan"), float("inf")
EVERY = [f"G{n:02d}" for n in range(1, 23)]
PREP = ["G01", "G02", "G03", "G04", "G05", "G06", "G08", "G09", "G13", "G16", "G18", "G19", "G21"]  # domain.md §5
TAKEN = Signature("hand_over", "bob", EPOCH - 99)
BACK_EARLIER = Signature("hand_over", "supervisor", 0.0)
CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
SUPERVISOR = Signature("supervisor", "supervisor", EPOCH - 5000)
APPROVER = Signature("approver", "approver", EPOCH - 4900)


def points(*distances: float, dwell_s: float = 120.0, **air: float) -> list[Point]:
    return [Point(d, dwell_s, CLEAN | air) for d in distances]


def with_test(*samples: Point, at: float = EPOCH - 300, tester: str = "tester", **changed: object) -> dict[str, object]:
    test = msgspec.structs.replace(a_test(at, points=list(samples), tester=tester), **changed)
    return {"permit": a_permit(gas_test=test)}


def breathing(**air: object) -> dict[str, object]:
    return {"instruments": [live(frame=a_frame(**air))]}  # type: ignore[arg-type]


def permit(**changed: object) -> dict[str, object]:
    return {"permit": msgspec.structs.replace(a_permit(), **changed)}


def space(**changed: object) -> dict[str, object]:
    return {"space": msgspec.structs.replace(a_space(), **changed)}


def instrument(**changed: object) -> dict[str, object]:
    return {"instruments": [msgspec.structs.replace(live(), **changed)]}


def battery(percent: float | None, **changed: object) -> dict[str, object]:
    reading = Reading(Status.FAULT) if percent is None else Reading(Status.OK, percent)
    return instrument(readings=live().readings | {"battery_percent": reading}, **changed)


def setpoints(**changed: float) -> dict[str, object]:
    return instrument(setpoints=live().setpoints | changed)


def lock(**changed: object) -> dict[str, object]:
    return {"lock_now": msgspec.structs.replace(LockFacts(EPOCH - 5, "locked", 90), **changed)}


def people(name: str, **changed: object) -> dict[str, object]:
    return {"people": PEOPLE | {name: msgspec.structs.replace(PEOPLE[name], **changed)}}


def without(name: str) -> dict[str, object]:
    return {"people": {key: person for key, person in PEOPLE.items() if key != name}}


def contracted(**changed: object) -> dict[str, object]:
    """A contractor's work: their approver and the owner's have signed."""
    owner = Signature("approver", "owner", EPOCH - 4800)
    signed = {"contractor": True, "signatures": [SUPERVISOR, APPROVER, owner]} | changed
    theirs = msgspec.structs.replace(PEOPLE["approver"], owner=False)
    return permit(**signed) | {"people": PEOPLE | {"approver": theirs, "owner": a_person("owner", "manager")}}


def training(passed_at: float, valid_to: float) -> list[Training]:
    return [Training("entry", passed_at, valid_to)]


HOT = ExtraPermit("hot_work", "HW-7", EPOCH - 60, EPOCH + 60)
DAY = 86_400.0

# Why a grant is refused: check, reason, and the facts that differ from passing ones.
REASONS: list[tuple[str, str, dict[str, object]]] = [
    ("G01", "permit.not_begun", {"permit": a_permit(start=EPOCH + 1)}),
    ("G01", "permit.not_begun", permit(start=NAN)),
    ("G01", "permit.too_little_time", {"permit": a_permit(end=EPOCH + 599)}),
    ("G02", "approval.incomplete", {"permit": a_permit(signatures=[APPROVER])}),
    ("G02", "approval.incomplete", contracted(signatures=[SUPERVISOR, Signature("approver", "owner", EPOCH - 4800)])),
    ("G02", "approval.no_right", people("approver", roles=["worker"])),
    ("G02", "approval.same_person", permit(requester="approver")),
    ("G02", "approval.wrong_order", {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "approver", 0.0)])}),
    ("G02", "approval.wrong_order", {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "approver", NAN)])}),
    (
        "G02",
        "approval.not_supervisor",
        permit(signatures=[Signature("supervisor", "bob", EPOCH - 5000), APPROVER]),
    ),
    ("G02", "approval.not_supervisor", permit(signatures=[SUPERVISOR, APPROVER, Signature("hand_over", "bob", EPOCH - 9)])),
    (
        "G02",
        "approval.wrong_order",
        permit(signatures=[SUPERVISOR, APPROVER, TAKEN, Signature("hand_over", "supervisor", 0.0)]),
    ),
    ("G02", "approval.not_delegated", space(hazards=["h2s"]) | people("approver", delegation=None)),
    ("G02", "approval.not_delegated", space(hazards=["CO"]) | people("approver", delegation=Delegation("d", 0, EPOCH - 4901))),
    ("G02", "approval.not_delegated", space(hazards=["co2"]) | people("approver", delegation=Delegation("d", EPOCH, 9e9))),
    ("G02", "approval.not_delegated", space(hazards=["h2s"]) | people("approver", delegation=Delegation("", 0, 9e9))),
    ("G03", "alarm.open", {"open_p1": ["GAS_LOW"]}),
    ("G03", "permit.held", permit(hold=Hold("regulator", EPOCH - 60, "no barrier seen"))),
    ("G04", "space.not_current", space(current=False)),
    ("G04", "space.not_current", space(out_of_service=True)),
    ("G04", "lock.other_space", {"lock": "lock-2"}),
    ("G04", "lock.other_space", {"permit": a_permit(space="n02")}),
    ("G04", "lock.other_space", {"space": a_space(lock="lock-2")}),
    ("G04", "permit.another_open", {"other_open_permits": ["2027-0002"]}),
    ("G05", "training.none", people("ann", trainings=[])),
    ("G05", "training.none", without("tester")),
    ("G05", "training.none", without("supervisor")),
    ("G05", "training.expired", people("bob", trainings=training(EPOCH - DAY, EPOCH - 1))),
    ("G05", "training.expired", people("attendant", trainings=training(EPOCH + 1, EPOCH + DAY))),
    ("G05", "training.expired", people("approver", trainings=training(EPOCH - 367 * DAY, EPOCH + DAY))),
    ("G05", "training.expired", people("approver", trainings=training(NAN, EPOCH + DAY))),
    ("G06", "attendant.absent", {"attendant_seen_at": None}),
    ("G06", "attendant.absent", {"attendant_seen_at": EPOCH - 180.1}),
    ("G06", "attendant.absent", {"attendant_seen_at": EPOCH + 1}),
    ("G06", "attendant.absent", {"attendant_seen_at": NAN}),
    ("G06", "attendant.elsewhere", {"attendant_elsewhere": ["2027-0002"]}),
    ("G06", "attendant.unknown_posts", {"attendant_elsewhere": None}),
    ("G07", "entrants.roster", permit(entrants=[])),
    ("G07", "entrants.roster", permit(entrants=["ann", "ann"])),
    ("G07", "entrants.exposed", {"exposed": frozenset({"bob"})}),
    ("G07", "entrants.exposure_unknown", {"exposed": None}),
    ("G10", "ventilation.too_short", {"permit": a_permit(ventilated_at=EPOCH - 899)}),
    ("G10", "ventilation.not_running", {"fan_running": False}),
    ("G10", "ventilation.not_running", {"fan_running": None}),
    ("G11", "gas_test.too_old", {"permit": a_permit(ventilated_at=EPOCH - 3000, gas_test=a_test(EPOCH - 1801))}),
    ("G11", "gas_test.wrong_tester", with_test(*points(0.5, 3.0, 5.5), tester="attendant")),
    ("G11", "gas_test.wrong_tester", permit(tester="ann", gas_test=a_test(tester="ann"))),
    ("G11", "gas_test.not_pumped", {"pumped": {}}),
    ("G11", "gas_test.not_pumped", {"pumped": {"gas-1": False}}),
    ("G11", "gas_test.not_pumped", with_test(*points(0.5, 3.0, 5.5), instrument="gas-2") | {"pumped": {"gas-2": True}}),
    ("G11", "gas_test.not_upwind", with_test(*points(0.5, 3.0, 5.5), upwind=False)),
    ("G11", "gas_test.not_stirred", space(residue=True)),
    ("G11", "gas_test.too_few_points", with_test(*points(0.5, 5.5))),
    ("G11", "gas_test.wrong_order", with_test(*points(5.5, 3.0, 0.5))),
    ("G11", "gas_test.wrong_places", with_test(*points(1.1, 3.0, 5.5))),
    ("G11", "gas_test.wrong_places", with_test(*points(0.5, 3.0, 4.9))),
    ("G11", "gas_test.wrong_places", with_test(*points(0.5, 0.6, 0.7))),
    ("G11", "gas_test.dwell", with_test(*points(0.5, 3.0), *points(5.5, dwell_s=76.4))),
    ("G11", "gas_test.dwell", with_test(*points(0.5, 3.0), *points(5.5, dwell_s=NAN))),
    ("G11", "gas_test.wrong_places", with_test(*points(0.5, 3.0, INF, dwell_s=INF))),
    ("G11", "gas_test.gas_missing", with_test(*points(0.5, 3.0), Point(5.5, 120.0, {"O2": 20.9, "LEL": 0.0, "H2S": 0.0}))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, H2S=10.1))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, O2=19.4))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, CO=NAN))),
    ("G12", "order.not_proven", {"permit": a_permit(ventilated_at=EPOCH - 1000, gas_test=a_test(EPOCH - 1001))}),
    ("G12", "order.not_proven", with_test(*points(0.5, 3.0, 5.5), at=EPOCH + 1)),
    ("G12", "order.not_proven", with_test(*points(0.5, 3.0, 5.5), at=INF)),
    ("G13", "instrument.silent", {"instruments": [live(age_s=10.1)]}),
    ("G13", "instrument.silent", {"instruments": [live(age_s=NAN)]}),
    ("G13", "instrument.silent", {"instruments": [live(age_s=-1.0)]}),
    ("G13", "instrument.due", {"instruments": [live(bump_due=EPOCH + 7199)]}),
    ("G13", "instrument.due", instrument(calibration_due=NAN)),
    ("G13", "instrument.out_of_service", instrument(out_of_service=True)),
    ("G13", "instrument.worn_elsewhere", instrument(worn_by="carl")),
    ("G13", "instrument.lax", setpoints(H2S=7.1)),  # 10.06 mg/m3; the law's limit is 10
    ("G13", "instrument.lax", setpoints(CO=35.0)),  # the US default: 40.8 mg/m3, the law's limit is 30
    ("G13", "instrument.lax", setpoints(O2=19.4)),
    ("G13", "instrument.lax", setpoints(LEL=10.1)),
    ("G13", "instrument.lax", setpoints(LEL=0.0)),
    ("G13", "instrument.lax", setpoints(CO=NAN)),
    ("G13", "instrument.lax", setpoints(O2=INF)),
    ("G13", "instrument.lax", instrument(setpoints={"O2": 19.5, "LEL": 10.0, "H2S": 7.0})),
    ("G13", "instrument.battery_unknown", battery(None)),
    ("G13", "instrument.battery", battery(19.9)),
    ("G13", "instrument.battery", battery(19.9, battery_life_s=0.0)),
    ("G14", "live.out_of_limits", breathing(h2s_ppm=7.1)),
    ("G14", "live.out_of_limits", breathing(lel=10.0)),
    ("G14", "live.out_of_limits", breathing(o2=23.6)),
    ("G14", "live.rising", instrument(slopes={"H2S": 0.17})),  # 10 mg/m3 in 58.8 s
    ("G14", "live.rising", instrument(slopes={"O2": -0.024})),
    ("G14", "live.rising", instrument(slopes={"O2": 0.044})),  # enriched oxygen is a danger too
    ("G14", "live.rising", instrument(slopes={"LEL": NAN})),
    ("G16", "rescue.no_list", space(rescue_kit={})),
    ("G16", "rescue.no_list", space(rescue_kit={"scba": 0})),
    ("G17", "extra.missing", permit(work_kinds=["repair", "welding"])),
    ("G17", "extra.not_valid", permit(extra_permits=[msgspec.structs.replace(HOT, end=EPOCH - 1)])),
    ("G17", "extra.not_valid", permit(work_kinds=["hot_work"], extra_permits=[msgspec.structs.replace(HOT, start=EPOCH + 1)])),
    ("G17", "extra.not_valid", permit(work_kinds=["hot_work"], extra_permits=[msgspec.structs.replace(HOT, number="")])),
    ("G19", "lock.unreachable", {"lock_now": None}),
    ("G19", "lock.unreachable", lock(at=EPOCH - 120.1)),
    ("G19", "lock.unreachable", lock(at=0.0)),
    ("G19", "lock.state_unknown", lock(position="unknown")),
    ("G19", "lock.state_unknown", lock(position="jammed")),
    ("G19", "lock.state_unknown", lock(position="pending")),
    ("G19", "lock.battery", lock(battery_percent=19)),
    ("G19", "lock.battery", lock(battery_percent=255)),
    ("G19", "lock.battery", lock(battery_percent=None)),
    ("G19", "lock.clock", {"signing": True}),
    ("G19", "lock.clock", lock(clock_offset_s=5.1) | {"signing": True}),
    ("G19", "lock.clock", lock(clock_offset_s=-5.1) | {"signing": True}),
    ("G19", "lock.clock", lock(clock_offset_s=NAN) | {"signing": True}),
    ("G20", "gateway.unhealthy", {"gateway_faults": ["JOURNAL_FAILING"]}),
    ("G20", "gateway.unknown", {"gateway_faults": None}),
    ("G20", "gateway.path_untested", {"alarm_path_at": None}),
    ("G20", "gateway.path_untested", {"alarm_path_at": EPOCH - DAY - 1}),
    ("G20", "gateway.path_untested", {"alarm_path_at": EPOCH + 1}),
    ("G20", "weather.stop", {"notices": [Notice("w1", "rain", ["n01"], EPOCH, EPOCH + 60, stop=True)]}),
    ("G20", "weather.stop", {"notices": [Notice("w1", "heat", [], EPOCH - 60, EPOCH + 60, stop=True)]}),
    ("G20", "weather.stop", {"notices": [Notice("w1", "heat", [], NAN, NAN, stop=True)]}),
    ("G20", "weather.unknown", {"notices": None}),
    ("G21", "requester.not_signed_in", {"authenticated": False}),
    ("G21", "requester.not_signed_in", {"authenticated": None}),
    ("G21", "attendant.not_you", {"by": "ann"}),
    ("G22", "limits.changed", with_test(*points(0.5, 3.0, 5.5), limits_version="2020.1")),
    ("G22", "limits.changed", with_test(*points(0.5, 3.0, 5.5), profile="US_GENERAL")),
    ("G22", "limits.changed", permit(profile="US_GENERAL")),
]


REASONS += [
    ("G01", "permit.not_ready", {"permit": a_permit(state=state)})
    for state in PermitState
    if state not in (PermitState.READY, PermitState.ACTIVE)
]


def outcome(changed: dict[str, object], check: str) -> Outcome:
    return next(r.outcome for r in evaluate(facts(**changed)) if r.check == check)


def refusals(**changed: object) -> list[tuple[str, str]]:
    return [(f.check, f.key) for f in failures_of(evaluate(facts(**changed)))]


def test_passing_facts_pass_every_check() -> None:
    results = evaluate(facts())
    assert failures_of(results) == []
    assert [r.check for r in results if r.outcome is Outcome.PASSED] == EVERY == [c.id for c in CHECKS]


def test_an_opening_to_ventilate_needs_its_own_list() -> None:
    results = evaluate(facts(kind=GrantKind.PREP))
    assert [r.check for r in results] == PREP
    assert [r.check for r in results if r.outcome is Outcome.PASSED] == PREP


@pytest.mark.parametrize("state", [PermitState.APPROVED, PermitState.SUSPENDED])
def test_an_opening_to_ventilate_needs_no_test_yet(state: PermitState) -> None:
    bare = msgspec.structs.replace(a_permit(state=state, ventilated_at=None), gas_test=None)
    assert refusals(kind=GrantKind.PREP, permit=bare, fan_running=None) == []


@pytest.mark.parametrize(("check", "key", "changed"), REASONS, ids=[f"{c} {k} {i}" for i, (c, k, _) in enumerate(REASONS)])
def test_each_reason_alone_refuses(check: str, key: str, changed: dict[str, object]) -> None:
    assert refusals(**changed) == [(check, key)]


def test_every_check_that_is_no_list_of_items_has_a_reason_here() -> None:
    assert set(EVERY) - {check for check, _, _ in REASONS} == {"G08", "G09", "G15", "G18"}  # test_checks_items.py


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({"permit": a_permit(signatures=[])}, {("G02", "approval.incomplete"), ("G05", "training.no_approver")}),
        ({"permit": a_permit(signatures=[SUPERVISOR])}, {("G02", "approval.incomplete"), ("G05", "training.no_approver")}),
        (
            {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "supervisor", EPOCH - 4900)])},
            {("G02", "approval.same_person"), ("G02", "approval.no_right")},
        ),
        (
            {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "stranger", EPOCH - 4900)])},
            {("G02", "approval.no_right"), ("G05", "training.none")},
        ),
        (
            permit(supervisor="approver", signatures=[SUPERVISOR, APPROVER, Signature("hand_over", "approver", EPOCH - 9)]),
            {("G02", "approval.same_person"), ("G08", "item.unanswered"), ("G16", "item.unanswered")},
        ),
        (
            {"permit": a_permit(attendant="approver"), "by": "approver"},
            {("G06", "attendant.conflict")},
        ),
        ({"permit": a_permit(entrants=["ann", "attendant"])}, {("G06", "attendant.conflict")}),
        (permit(attendant="") | {"by": ""}, {
            ("G05", "training.none"), ("G06", "attendant.conflict"), ("G10", "item.unanswered"), ("G15", "item.unanswered"),
            ("G16", "item.unanswered"), ("G18", "item.unanswered"), ("G21", "requester.not_signed_in"),
            ("G21", "attendant.not_you"),
        }),
        (without("ann"), {("G05", "training.none"), ("G07", "entrants.unknown")}),
        (contracted() | people("approver", owner=False), {("G02", "approval.no_right"), ("G02", "approval.no_owner"),
                                                          ("G05", "training.none")}),
        (
            {"permit": a_permit(ventilated_at=None)},
            {("G10", "ventilation.missing"), ("G12", "order.not_proven")},
        ),
        ({"permit": a_permit(ventilated_at=NAN)}, {("G10", "ventilation.too_short"), ("G12", "order.not_proven")}),
        (
            permit(gas_test=None),
            {("G11", "gas_test.missing"), ("G12", "order.not_proven"), ("G22", "gas_test.missing")},
        ),
        (with_test(*points(0.5, 3.0, 5.5), at=NAN), {("G11", "gas_test.too_old"), ("G12", "order.not_proven")}),
        (
            {"instruments": []},
            {("G13", "instrument.none"), ("G14", "live.unknown")},
        ),
        (
            breathing(statuses={"H2S": Status.WARMUP}),
            {("G13", "instrument.warming_up"), ("G14", "live.unknown")},
        ),
        (
            breathing(statuses={"H2S": Status.FAULT}),
            {("G13", "instrument.cannot_tell"), ("G14", "live.unknown")},
        ),
        (breathing(without=["CO"]), {("G13", "instrument.cannot_tell"), ("G14", "live.unknown")}),
        (
            {"space": a_space(required_gases=["O2", "LEL", "H2S", "CO", "PH3"])},
            {("G11", "gas_test.gas_missing"), ("G13", "instrument.cannot_tell"), ("G14", "live.unknown")},
        ),
        ({"picture_age_s": 10.1}, {("G03", "gateway.silent"), ("G20", "gateway.silent")}),
        ({"picture_age_s": None}, {("G03", "gateway.silent"), ("G20", "gateway.silent")}),
        ({"picture_age_s": NAN}, {("G03", "gateway.silent"), ("G20", "gateway.silent")}),
        (permit(end=NAN), {("G01", "permit.too_little_time"), ("G13", "instrument.due"), ("G13", "instrument.battery")}),
    ],
)  # fmt: skip
def test_one_missing_thing_may_fail_more_than_one_check(changed: dict[str, object], keys: set[tuple[str, str]]) -> None:
    assert set(refusals(**changed)) == keys


def nothing() -> dict[str, object]:
    """A picture in which nothing is known and nothing was done."""
    bare = msgspec.structs.replace(
        a_permit(state=PermitState.DRAFT, signatures=[], ventilated_at=None), gas_test=None, confirmations=[],
        isolation=["pump"], work_kinds=["hot_work"],
    )  # fmt: skip
    return {
        "permit": bare,
        "people": {},
        "open_p1": ["GAS_LOW", "TAMPER"],
        "lock": "lock-9",
        "by": "nobody",
        "instruments": [],
        "lock_now": None,
        "notices": None,
        "attendant_seen_at": None,
    }


def test_all_failures_are_answered_together_with_clause_evidence_and_fix() -> None:
    failures = failures_of(evaluate(facts(**nothing())))
    assert sorted({f.check for f in failures}) == EVERY
    assert [f.check for f in failures] == sorted(f.check for f in failures), "in check order"
    assert all(f.clause and f.fix for f in failures)
    assert all(f.evidence and all(set(row) == {"kind", "id"} and row["kind"] for row in f.evidence) for f in failures)
    assert [f.params["alarm"] for f in failures if f.check == "G03"] == ["GAS_LOW", "TAMPER"]


# Evidence that can be absent; with each removed the failing facts must go on failing.
EVIDENCE: dict[str, object] = {
    "attendant_seen_at": None,
    "attendant_elsewhere": None,
    "exposed": None,
    "fan_running": None,
    "instruments": [],
    "pumped": {},
    "people": {},
    "picture_age_s": None,
    "gateway_faults": None,
    "alarm_path_at": None,
    "notices": None,
    "lock_now": None,
    "authenticated": None,
    "photos_elsewhere": None,
    "inside": None,
    "lock": "",
    "by": "",
}
PERMIT_EVIDENCE: dict[str, object] = {
    "signatures": [],
    "ventilated_at": None,
    "gas_test": None,
    "attendant": "",
    "tester": "",
    "supervisor": "",
    "space": "",
    "confirmations": [],
}


@pytest.mark.parametrize("removed", EVIDENCE)
def test_removing_evidence_never_turns_a_failure_into_a_pass(removed: str) -> None:
    for check, key, changed in REASONS:
        assert outcome(changed | {removed: EVIDENCE[removed]}, check) is Outcome.FAILED, (check, key)


@pytest.mark.parametrize("removed", PERMIT_EVIDENCE)
def test_removing_evidence_from_the_permit_never_turns_a_failure_into_a_pass(removed: str) -> None:
    for check, key, changed in REASONS:
        whole = facts(**changed).permit
        bare = msgspec.structs.replace(whole, **{removed: PERMIT_EVIDENCE[removed]})
        assert outcome(changed | {"permit": bare}, check) is Outcome.FAILED, (check, key)


@pytest.mark.parametrize("gas", ["O2", "LEL", "H2S", "CO"])
def test_removing_a_gas_anywhere_makes_the_live_check_fail(gas: str) -> None:
    whole = live()
    units = {g: u for g, u in whole.units.items() if g != gas}
    no_reading = msgspec.structs.replace(whole, readings={g: r for g, r in whole.readings.items() if g != gas})
    for changed in (no_reading, msgspec.structs.replace(whole, units=units)):
        assert outcome({"instruments": [changed]}, "G14") is Outcome.FAILED
    assert outcome({"limits": msgspec.structs.replace(LIMITS, gas=[g for g in LIMITS.gas if g.name != gas])}, "G14") is (
        Outcome.FAILED
    )


@pytest.mark.parametrize("changed", [{"units": live().units | {"LEL": "ppm"}}, {"correction": {"LEL": NAN}}])
def test_a_live_value_that_cannot_be_compared_is_unknown(changed: dict[str, object]) -> None:
    assert refusals(**instrument(**changed)) == [("G13", "instrument.lax"), ("G14", "live.unknown")]


def test_a_correction_of_the_ledger_counts_before_the_limit() -> None:
    """A sensor calibrated on methane reads half of pentane's true % LEL (vector 6)."""
    pentane = instrument(readings=live(frame=a_frame(lel=4.95)).readings, correction={"LEL": 2.02})
    assert refusals(**pentane) == [("G13", "instrument.lax")]
    assert refusals(**instrument(readings=live(frame=a_frame(lel=4.96)).readings, correction={"LEL": 2.02})) == [
        ("G13", "instrument.lax"),
        ("G14", "live.out_of_limits"),
    ]


def test_the_four_gases_are_needed_whatever_the_ledger_says() -> None:
    assert gases_needed(a_space(required_gases=[])) == ["O2", "LEL", "H2S", "CO"]
    assert gases_needed(a_space(required_gases=["CO2", "O2"])) == ["O2", "LEL", "H2S", "CO", "CO2"]
    bare = msgspec.structs.replace(a_space(), required_gases=[])
    assert outcome({"space": bare, **breathing(h2s_ppm=50.0)}, "G14") is Outcome.FAILED


def test_a_second_instrument_that_sees_gas_is_not_outvoted() -> None:
    assert refusals(instruments=[live(), live("gas-2", frame=a_frame(h2s_ppm=8.0))]) == [("G14", "live.out_of_limits")]


def test_instruments_together_carry_the_gases_and_each_tells_what_it_carries() -> None:
    """A four-gas instrument and a second one for CO2 alone: neither needs the other's sensors."""
    second = LiveInstrument(
        "co2-1", 1.0, {"CO2": Reading(Status.OK, 500.0), "battery_percent": Reading(Status.OK, 90.0)}, {"CO2": "ppm"},
        EPOCH + DAY, EPOCH + DAY, {"CO2": 4900.0},
    )  # fmt: skip
    wanted = msgspec.structs.replace(a_space(), required_gases=["CO2"])
    sampled = with_test(*points(0.5, 3.0, 5.5, CO2=900.0))
    assert refusals(space=wanted, instruments=[live(), second], **sampled) == []
    mute = msgspec.structs.replace(second, readings={k: r for k, r in second.readings.items() if k != "CO2"})
    assert {c for c, _ in refusals(space=wanted, instruments=[live(), mute], **sampled)} == {"G13", "G14"}


@pytest.mark.parametrize(
    "changed",
    [
        {"permit": a_permit(end=EPOCH + 600)},
        {"permit": a_permit(start=EPOCH)},
        {"attendant_seen_at": EPOCH - 180},
        {"picture_age_s": 10.0},
        {"permit": a_permit(ventilated_at=EPOCH - 900)},
        {"permit": a_permit(ventilated_at=EPOCH - 2000, gas_test=a_test(EPOCH - 1800))},
        {"instruments": [live(age_s=10.0)]},
        {"instruments": [live(bump_due=EPOCH + 7200)]},
        with_test(*points(0.5, 3.0), *points(5.5, dwell_s=76.5)),
        with_test(*points(0.5, 3.0, 5.5, H2S=10.0, LEL=10.0, O2=19.5)),
        breathing(h2s_ppm=7.0, lel=9.9, o2=19.5, co_ppm=25.7),
        {"permit": a_permit(state=PermitState.ACTIVE)},
        {"exposed": frozenset({"carl"})},
        {"notices": [Notice("w1", "rain", ["n02"], EPOCH, EPOCH + 60, stop=True)]},
        {"notices": [Notice("w1", "rain", ["n01"], EPOCH, EPOCH + 60)]},
        {"notices": [Notice("w1", "rain", ["n01"], EPOCH - 60, EPOCH, stop=True)]},
        {"alarm_path_at": EPOCH - DAY},
        lock(at=EPOCH - 120),
        lock(battery_percent=20),
        lock(position="open"),
        lock(clock_offset_s=-5.0) | {"signing": True},
        lock(clock_offset_s=None),
        instrument(worn_by="ann"),
        setpoints(H2S=7.05, CO=25.7, O2=19.5),
        setpoints(O2=20.0),
        battery(20.0),
        battery(20.0, battery_life_s=0.0),
        battery(1.0, battery_life_s=100 * 600.0) | {"permit": a_permit(end=EPOCH + 600)},
        battery(10.0) | permit(task_s=3600.0),
        instrument(slopes={"H2S": 0.166}),
        instrument(slopes={"H2S": -5.0, "O2": 0.0}),
        people("ann", trainings=training(EPOCH - 366 * DAY, EPOCH)),
        people("bob", trainings=training(EPOCH - 900 * DAY, EPOCH - 800 * DAY) + training(EPOCH, EPOCH + 1)),
        space(hazards=["h2s"]),
        space(hazards=["h2s"]) | people("approver", delegation=None, principal=True),
        space(hazards=["low_o2"]) | people("approver", delegation=None),
        permit(extra_permits=[HOT]),
        permit(work_kinds=["welding", "hot_work"], extra_permits=[HOT]),
        contracted(),
        permit(signatures=[SUPERVISOR, APPROVER, TAKEN, Signature("hand_over", "supervisor", EPOCH - 9)]),
        permit(tester="attendant", gas_test=a_test(tester="attendant")),
        with_test(*points(0.5, 3.0, 5.5), stirred=True) | space(residue=True),
    ],
)  # fmt: skip
def test_the_bounds_themselves_pass(changed: dict[str, object]) -> None:
    """Vector 4 stands among them: LEL 10.0 passes the test, while live it is refused."""
    assert refusals(**changed) == []


def test_co2_asks_for_the_principals_word_by_the_gas_too() -> None:
    assert needs_delegation(msgspec.structs.replace(a_space(), required_gases=["CO2"]))
    assert not needs_delegation(a_space())


@pytest.mark.parametrize(("inside", "key"), [(1, "permit.people_inside"), (None, "permit.count_unknown")])
def test_nobody_arms_a_closing_with_people_inside_or_unknown(inside: int | None, key: str) -> None:
    """Vector 14; only the count matters, and it is the only thing asked."""
    results = evaluate(facts(kind=GrantKind.CLOSE_OUT, inside=inside))
    assert [(r.check, r.outcome) for r in results] == [("CLOSE_OUT", Outcome.FAILED)]
    assert [f.key for f in failures_of(results)] == [key]


def test_a_known_zero_allows_the_closing() -> None:
    assert close_out_failures(facts(inside=0)) == []
    assert [r.outcome for r in evaluate(facts(kind=GrantKind.CLOSE_OUT, inside=0))] == [Outcome.PASSED]


def test_an_emergency_is_told_everything_that_fails_and_refused_by_two_things_only() -> None:
    assert ("G14", "live.out_of_limits") in refusals(kind=GrantKind.EMERGENCY, **breathing(h2s_ppm=100.0))
    assert [r.check for r in evaluate(facts(kind=GrantKind.EMERGENCY))] == EVERY
    assert emergency_failures(a_space(), lock="lock-1", by="ann", authenticated=True) == []
    failures = emergency_failures(a_space(), lock="lock-2", by="", authenticated=False)
    assert [(f.check, f.key) for f in failures] == [("G21", "requester.not_signed_in"), ("G04", "lock.other_space")]


@pytest.mark.parametrize(
    ("changed", "life_s"),
    [
        ({}, 60),
        ({"permit": a_permit(ventilated_at=EPOCH - 3000, gas_test=a_test(EPOCH - 1790.5))}, 9),
        ({"permit": a_permit(end=EPOCH + 30.9)}, 30),
        ({"permit": a_permit(end=EPOCH + 30.9), "kind": GrantKind.PREP}, 30),
        (permit(gas_test=None) | {"kind": GrantKind.PREP}, 60),
        (permit(gas_test=None, end=EPOCH) | {"kind": GrantKind.CLOSE_OUT}, 60),
    ],
)
def test_a_grant_outlives_neither_permit_nor_test(changed: dict[str, object], life_s: int) -> None:
    assert grant_life_s(facts(**changed), 60.0) == life_s
    assert grant_life_s(None, 60.0) == 60  # an emergency


def test_at_signing_the_test_must_have_a_second_left() -> None:
    last = {"permit": a_permit(ventilated_at=EPOCH - 3000, gas_test=a_test(EPOCH - 1800))} | lock(clock_offset_s=0.0)
    assert refusals(**last) == []
    assert refusals(**last, signing=True) == [("G11", "gas_test.too_old")]


def test_the_yards_shorter_dwell_is_data() -> None:
    short = msgspec.structs.replace(TIMINGS, dwell_s=2.0, dwell_per_m_s=0.2)
    quick = with_test(*points(0.5, 3.0, 5.5, dwell_s=3.2))
    assert refusals(**quick) == [("G11", "gas_test.dwell")] * 3
    assert refusals(**quick, timings=short) == []


@given(
    st.dictionaries(
        st.sampled_from(["O2", "LEL", "H2S", "CO"]),
        st.one_of(
            st.sampled_from(list(set(Status) - {Status.OK})).map(Reading),
            st.floats(-5, 90).map(lambda v: Reading(Status.OK, v)),
        ),
    )
)
def test_the_live_check_passes_only_on_four_good_numbers(readings: dict[str, Reading]) -> None:
    checked: Facts = facts(instruments=[msgspec.structs.replace(live(), readings=readings)])
    passed = next(r.outcome for r in evaluate(checked) if r.check == "G14") is Outcome.PASSED
    values = {g: r.value for g, r in readings.items() if r.value is not None}
    good = (
        set(values) == {"O2", "LEL", "H2S", "CO"}
        and 19.5 <= values["O2"] <= 23.5
        and values["LEL"] < 10.0
        and values["H2S"] * 34.081 < 10.0 * 24.0550
        and values["CO"] * 28.010 < 30.0 * 24.0550
    )
    assert passed == good


def test_the_kit_is_valid_by_default_for_any_space() -> None:
    flammable = msgspec.structs.replace(a_space(), hazards=["ch4"], complicated=True)
    ready: Permit = confirmed(a_permit(), flammable)
    someone: Person = PEOPLE["ann"]
    assert refusals(space=flammable, permit=ready) == []
    assert someone.trainings
