"""Checks before an unlock: each reason to refuse alone, all of them at once, and nothing passes for want of evidence."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway.checks import (
    CHECKS,
    Facts,
    Outcome,
    close_out_failures,
    evaluate,
    failures_of,
    gases_needed,
    judge_test,
    points_needed,
    sampling_distances,
)
from manway.entities import PermitState, Reading, Signature
from manway.entities import TestPoint as Point
from manway.ids import GrantKind, Status
from tests.kit.builders import LIMITS, TIMINGS, a_frame, a_permit, a_space, a_test, facts, live
from tests.kit.clock import EPOCH

BUILT = ["G01", "G02", "G03", "G04", "G06", "G10", "G11", "G12", "G13", "G14"]
BUILT_PREP = ["G01", "G02", "G03", "G04", "G06", "G13"]
PREP = ["G01", "G02", "G03", "G04", "G05", "G06", "G08", "G09", "G13", "G16", "G18", "G19", "G21"]  # domain.md §5
CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
SUPERVISOR = Signature("supervisor", "supervisor", EPOCH - 5000)
APPROVER = Signature("approver", "approver", EPOCH - 4900)


def points(*distances: float, dwell_s: float = 120.0, **air: float) -> list[Point]:
    return [Point(d, dwell_s, CLEAN | air) for d in distances]


def with_test(*samples: Point, at: float = EPOCH - 300, tester: str = "tester") -> dict[str, object]:
    return {"permit": a_permit(gas_test=a_test(at, points=list(samples), tester=tester))}


def breathing(**air: object) -> dict[str, object]:
    return {"instruments": [live(frame=a_frame(**air))]}  # type: ignore[arg-type]


def unsigned() -> dict[str, object]:
    return {"permit": msgspec.structs.replace(a_permit(), gas_test=None)}


# Why a grant is refused: check, reason, and the facts that differ from passing ones.
REASONS: list[tuple[str, str, dict[str, object]]] = [
    ("G01", "permit.not_begun", {"permit": a_permit(start=EPOCH + 1)}),
    ("G01", "permit.too_little_time", {"permit": a_permit(end=EPOCH + 599)}),
    ("G02", "approval.incomplete", {"permit": a_permit(signatures=[])}),
    ("G02", "approval.incomplete", {"permit": a_permit(signatures=[SUPERVISOR])}),
    ("G02", "approval.incomplete", {"permit": a_permit(signatures=[APPROVER])}),
    ("G02", "approval.no_right", {"roles": {"approver": ["worker"]}}),
    ("G02", "approval.no_right", {"roles": {}}),
    ("G02", "approval.no_right", {"permit": a_permit(signatures=[Signature("supervisor", "ann", EPOCH - 5000), APPROVER])}),
    ("G02", "approval.wrong_order", {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "approver", 0.0)])}),
    ("G03", "alarm.open", {"open_p1": ["GAS_LOW"]}),
    ("G03", "gateway.silent", {"picture_age_s": 10.1}),
    ("G03", "gateway.silent", {"picture_age_s": None}),
    ("G04", "lock.other_space", {"lock": "lock-2"}),
    ("G04", "lock.other_space", {"permit": a_permit(space="n02")}),
    ("G04", "lock.other_space", {"space": a_space(lock="lock-2")}),
    ("G04", "permit.another_open", {"other_open_permits": ["2027-0002"]}),
    ("G06", "attendant.not_you", {"by": "ann"}),
    ("G06", "attendant.conflict", {"permit": a_permit(entrants=["ann", "attendant"])}),
    ("G06", "attendant.absent", {"attendant_seen_at": None}),
    ("G06", "attendant.absent", {"attendant_seen_at": EPOCH - 180.1}),
    ("G10", "ventilation.too_short", {"permit": a_permit(ventilated_at=EPOCH - 899)}),
    ("G10", "ventilation.not_running", {"fan_running": False}),
    ("G10", "ventilation.not_running", {"fan_running": None}),
    ("G11", "gas_test.too_old", {"permit": a_permit(ventilated_at=EPOCH - 3000, gas_test=a_test(EPOCH - 1801))}),
    ("G11", "gas_test.wrong_tester", with_test(*points(0.5, 3.0, 5.5), tester="attendant")),
    ("G11", "gas_test.wrong_tester", {"permit": a_permit(entrants=["tester"])}),
    ("G11", "gas_test.too_few_points", with_test(*points(0.5, 5.5))),
    ("G11", "gas_test.wrong_order", with_test(*points(5.5, 3.0, 0.5))),
    ("G11", "gas_test.wrong_places", with_test(*points(1.1, 3.0, 5.5))),
    ("G11", "gas_test.wrong_places", with_test(*points(0.5, 3.0, 4.9))),
    ("G11", "gas_test.wrong_places", with_test(*points(0.5, 0.6, 0.7))),
    ("G11", "gas_test.dwell", with_test(*points(0.5, 3.0), *points(5.5, dwell_s=76.4))),
    ("G11", "gas_test.dwell", with_test(*points(0.5, 3.0), *points(5.5, dwell_s=float("nan")))),
    ("G11", "gas_test.gas_missing", with_test(*points(0.5, 3.0), Point(5.5, 120.0, {"O2": 20.9, "LEL": 0.0, "H2S": 0.0}))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, H2S=10.1))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, O2=19.4))),
    ("G11", "gas_test.out_of_limits", with_test(*points(0.5, 3.0), *points(5.5, CO=float("nan")))),
    ("G12", "order.not_proven", {"permit": a_permit(ventilated_at=EPOCH - 1000, gas_test=a_test(EPOCH - 1001))}),
    ("G12", "order.not_proven", with_test(*points(0.5, 3.0, 5.5), at=EPOCH + 1)),
    ("G13", "instrument.silent", {"instruments": [live(age_s=10.1)]}),
    ("G13", "instrument.due", {"instruments": [live(bump_due=EPOCH + 7199)]}),
    ("G14", "live.out_of_limits", breathing(h2s_ppm=7.1)),
    ("G14", "live.out_of_limits", breathing(lel=10.0)),
    ("G14", "live.out_of_limits", breathing(o2=23.6)),
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


def test_passing_facts_pass_every_built_check() -> None:
    results = evaluate(facts())
    assert failures_of(results) == []
    assert [r.check for r in results if r.outcome is Outcome.PASSED] == BUILT


def test_what_is_not_looked_at_is_listed_in_every_answer() -> None:
    results = evaluate(facts())
    assert [r.check for r in results] == [f"G{n:02d}" for n in range(1, 23)]
    assert {r.check for r in results if r.outcome is Outcome.NOT_CHECKED} == {c.id for c in CHECKS} - set(BUILT)


def test_an_opening_to_ventilate_needs_its_own_list() -> None:
    results = evaluate(facts(kind=GrantKind.PREP))
    assert [r.check for r in results] == PREP
    assert [r.check for r in results if r.outcome is Outcome.PASSED] == BUILT_PREP


@pytest.mark.parametrize("state", [PermitState.APPROVED, PermitState.SUSPENDED])
def test_an_opening_to_ventilate_needs_no_test_yet(state: PermitState) -> None:
    permit = msgspec.structs.replace(a_permit(state=state, ventilated_at=None), gas_test=None)
    assert refusals(kind=GrantKind.PREP, permit=permit, fan_running=None) == []


@pytest.mark.parametrize(("check", "key", "changed"), REASONS, ids=[f"{c} {k} {i}" for i, (c, k, _) in enumerate(REASONS)])
def test_each_reason_alone_refuses(check: str, key: str, changed: dict[str, object]) -> None:
    assert refusals(**changed) == [(check, key)]


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        (
            {"permit": a_permit(signatures=[SUPERVISOR, Signature("approver", "supervisor", EPOCH - 4900)])},
            {("G02", "approval.same_person"), ("G02", "approval.no_right")},
        ),
        (
            {"permit": a_permit(attendant="approver"), "by": "approver"},
            {("G06", "attendant.conflict")},
        ),
        (
            {"permit": a_permit(ventilated_at=None)},
            {("G10", "ventilation.missing"), ("G12", "order.not_proven")},
        ),
        (unsigned(), {("G11", "gas_test.missing"), ("G12", "order.not_proven")}),
        (
            {"instruments": []},
            {("G13", "instrument.none"), ("G14", "live.unknown")},
        ),
        (
            breathing(statuses={"H2S": Status.WARMUP}),
            {("G13", "instrument.cannot_tell"), ("G14", "live.unknown")},
        ),
        (breathing(without=["CO"]), {("G13", "instrument.cannot_tell"), ("G14", "live.unknown")}),
        (
            {"space": a_space(required_gases=["O2", "LEL", "H2S", "CO", "PH3"])},
            {("G11", "gas_test.gas_missing"), ("G13", "instrument.cannot_tell"), ("G14", "live.unknown")},
        ),
    ],
)
def test_one_missing_thing_may_fail_more_than_one_check(changed: dict[str, object], keys: set[tuple[str, str]]) -> None:
    assert set(refusals(**changed)) == keys


def test_all_failures_are_answered_together_with_clause_and_fix() -> None:
    everything: dict[str, object] = {
        "permit": msgspec.structs.replace(a_permit(state=PermitState.DRAFT, signatures=[], ventilated_at=None), gas_test=None),
        "open_p1": ["GAS_LOW", "TAMPER"],
        "lock": "lock-9",
        "by": "nobody",
        "instruments": [],
    }
    failures = failures_of(evaluate(facts(**everything)))
    assert sorted({f.check for f in failures}) == BUILT
    assert [f.check for f in failures] == sorted(f.check for f in failures), "in check order"
    assert all(f.clause and f.fix for f in failures)
    assert [f.params["alarm"] for f in failures if f.check == "G03"] == ["GAS_LOW", "TAMPER"]


# Evidence that can be absent; with each removed the failing facts must go on failing.
EVIDENCE: dict[str, object] = {
    "attendant_seen_at": None,
    "fan_running": None,
    "instruments": [],
    "roles": {},
    "picture_age_s": None,
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
}


@pytest.mark.parametrize("removed", EVIDENCE)
@pytest.mark.parametrize(("check", "key", "changed"), REASONS, ids=[f"{c} {k} {i}" for i, (c, k, _) in enumerate(REASONS)])
def test_removing_evidence_never_turns_a_failure_into_a_pass(
    check: str, key: str, changed: dict[str, object], removed: str
) -> None:
    assert outcome(changed | {removed: EVIDENCE[removed]}, check) is Outcome.FAILED, key


@pytest.mark.parametrize("removed", PERMIT_EVIDENCE)
@pytest.mark.parametrize(("check", "key", "changed"), REASONS, ids=[f"{c} {k} {i}" for i, (c, k, _) in enumerate(REASONS)])
def test_removing_evidence_from_the_permit_never_turns_a_failure_into_a_pass(
    check: str, key: str, changed: dict[str, object], removed: str
) -> None:
    whole = facts(**changed).permit
    permit = msgspec.structs.replace(whole, **{removed: PERMIT_EVIDENCE[removed]})
    assert outcome(changed | {"permit": permit}, check) is Outcome.FAILED, key


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


def test_a_live_value_in_a_unit_without_conversion_is_unknown() -> None:
    strange = msgspec.structs.replace(live(), units={"O2": "% vol", "LEL": "ppm", "H2S": "ppm", "CO": "ppm"})
    assert refusals(instruments=[strange]) == [("G14", "live.unknown")]


def test_the_four_gases_are_needed_whatever_the_ledger_says() -> None:
    assert gases_needed(a_space(required_gases=[])) == ["O2", "LEL", "H2S", "CO"]
    assert gases_needed(a_space(required_gases=["CO2", "O2"])) == ["O2", "LEL", "H2S", "CO", "CO2"]
    bare = a_space(required_gases=[])
    assert outcome({"space": bare, **breathing(h2s_ppm=50.0)}, "G14") is Outcome.FAILED


def test_a_second_instrument_that_sees_gas_is_not_outvoted() -> None:
    assert refusals(instruments=[live(), live("gas-2", frame=a_frame(h2s_ppm=8.0))]) == [("G14", "live.out_of_limits")]


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
    ],
)
def test_the_bounds_themselves_pass(changed: dict[str, object]) -> None:
    """Vector 4 stands among them: LEL 10.0 passes the test, while live it is refused."""
    assert refusals(**changed) == []


@pytest.mark.parametrize(
    ("depth_m", "needed"), [(0.5, 2), (1.5, 2), (1.99, 2), (2.0, 3), (5.0, 3), (18.0, 3), (18.1, 4), (20.0, 4)]
)
def test_deeper_shafts_need_more_points(depth_m: float, needed: int) -> None:
    """Vector 10, GB 46768-2025 5.8.6: ends at most 1 m from top and bottom, spacing at most 8 m."""
    assert points_needed(depth_m) == needed


@given(st.floats(2.0, 500.0))
def test_no_two_points_are_further_apart_than_the_law_allows(depth_m: float) -> None:
    assert (depth_m - 2) / (points_needed(depth_m) - 1) <= 8.0 + 1e-9


@pytest.mark.parametrize(("inside", "key"), [(1, "permit.people_inside"), (None, "permit.count_unknown")])
def test_nobody_arms_a_closing_with_people_inside_or_unknown(inside: int | None, key: str) -> None:
    """Vector 14; only the count matters, and it is the only thing asked."""
    results = evaluate(facts(kind=GrantKind.CLOSE_OUT, inside=inside))
    assert [(r.check, r.outcome) for r in results] == [("CLOSE_OUT", Outcome.FAILED)]
    assert [f.key for f in failures_of(results)] == [key]


def test_a_known_zero_allows_the_closing() -> None:
    assert close_out_failures(facts(inside=0)) == []
    assert [r.outcome for r in evaluate(facts(kind=GrantKind.CLOSE_OUT, inside=0))] == [Outcome.PASSED]


def test_an_emergency_is_told_everything_that_fails() -> None:
    assert ("G14", "live.out_of_limits") in refusals(kind=GrantKind.EMERGENCY, **breathing(h2s_ppm=100.0))


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


@pytest.mark.parametrize(
    ("depth_m", "where"),
    [
        (1.8, [0.5, 1.4]),  # a pit: two points
        (6.0, [1.0, 3.0, 5.0]),
        (12.0, [1.0, 6.0, 11.0]),
        (20.0, [1.0, 7.0, 13.0, 19.0]),
        (40.0, [1.0, 8.6, 16.2, 23.8, 31.4, 39.0]),
    ],
)
def test_the_points_proposed_reach_both_ends_and_stand_at_most_eight_metres_apart(depth_m: float, where: list[float]) -> None:
    proposed = sampling_distances(depth_m)

    assert proposed == pytest.approx(where, abs=0.051)
    assert len(proposed) == points_needed(depth_m)


def test_a_pit_below_two_metres_has_no_rule_of_places() -> None:
    shallow = msgspec.structs.replace(a_space(), depth_m=1.9)
    test = a_test(points=points(0.1, 0.2))

    assert judge_test(test, shallow, a_permit(gas_test=test), LIMITS, TIMINGS) == []
