"""Checks before an unlock: every one is evaluated, every failing one is answered (`domain.md` §5).

Not evaluable is failing. What this version does not look at yet is listed as NOT_CHECKED in every answer, never passed over
in silence. The same function serves the page, the signer and the moment of use.
"""

import enum
import math
from itertools import pairwise

import msgspec

from manway.entities import GasTest, Permit, PermitState, Reading, Space
from manway.errors import Failure
from manway.ids import GrantKind
from manway.limits import LimitProfile, Timings


class Outcome(enum.Enum):
    """What one check came to."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not_checked"


class Check(msgspec.Struct, frozen=True):
    """One row of the check list; `prep`: also before an opening to ventilate and test."""

    id: str
    clause: str
    prep: bool
    built: bool


CHECKS = (
    Check("G01", "MEM Order 13 art. 7; 29 CFR 1910.146(e)", True, True),
    Check("G02", "GB 46768-2025 5.2.1; MEM Order 13 art. 7-8", True, True),
    Check("G03", "MEM Order 13 art. 18; GB 46768-2025 6.2.5", True, True),
    Check("G04", "MEM Order 13 art. 6", True, True),
    Check("G05", "MEM Order 13 art. 9", True, False),
    Check("G06", "MEM Order 13 art. 5, 15; GB 46768-2025 6.3", True, True),
    Check("G07", "29 CFR 1926.1206", False, False),
    Check("G08", "GB 46768-2025 5.1.1, 5.3", True, False),
    Check("G09", "GB 46768-2025 5.6.1", True, False),
    Check("G10", "MEM Order 13 art. 14; GB 46768-2025 5.10, 6.2.4", False, True),
    Check("G11", "GB 46768-2025 5.8, 5.9", False, True),
    Check("G12", "MEM Order 13 art. 14", False, True),
    Check("G13", "MEM Order 13 art. 13; GB 46768-2025 5.5", True, True),
    Check("G14", "GB 46768-2025 5.9.1", False, True),
    Check("G15", "GB 46768-2025 5.12; MEM Order 13 art. 14", False, False),
    Check("G16", "MEM Order 13 art. 10, 13", True, False),
    Check("G17", "29 CFR 1910.146(f)(15)", False, False),
    Check("G18", "MEM Order 13 art. 11-12; GB 46768-2025 6.2.6", True, False),
    Check("G19", "domain.md 5", True, False),
    Check("G20", "domain.md 5", False, False),
    Check("G21", "MEM Order 13 art. 12", True, False),
    Check("G22", "domain.md 5", False, False),
)
_BY_ID = {check.id: check for check in CHECKS}
# Measured in every space, whatever its ledger row says (GB 46768-2025 5.8.1-3).
_BASE_GASES = ("O2", "LEL", "H2S", "CO")


class LiveInstrument(msgspec.Struct, frozen=True):
    """An instrument as the gateway sees it: age of its newest frame in seconds, its readings, units and due dates."""

    device: str
    age_s: float
    readings: dict[str, Reading]
    units: dict[str, str]
    bump_due: float
    calibration_due: float


class Facts(msgspec.Struct, frozen=True):
    """Everything the checks look at, one immutable picture. Times in Unix seconds; None is unknown and fails.

    `open_p1` names the open P1 alarms of the space and its connected ones; `fan_running` is the fan current's word;
    `roles` maps person -> role names; `picture_age_s` is how old the gateway's picture is;
    `inside` the known count.
    """

    now: float
    kind: GrantKind
    permit: Permit
    space: Space
    lock: str
    by: str
    limits: LimitProfile
    timings: Timings
    attendant_seen_at: float | None
    fan_running: bool | None
    instruments: list[LiveInstrument]
    open_p1: list[str]
    other_open_permits: list[str]
    roles: dict[str, list[str]]
    picture_age_s: float | None
    inside: int | None = None


class CheckResult(msgspec.Struct, frozen=True):
    """One check's outcome with its failures (more than one reason may hold)."""

    check: str
    clause: str
    outcome: Outcome
    failures: list[Failure] = []


def close_out_failures(facts: Facts) -> list[Failure]:
    """Return why no CLOSE_OUT may be signed: the engine's count must be known and zero (`locks.md` §1.5)."""
    if facts.inside == 0:
        return []
    key = "permit.people_inside" if facts.inside else "permit.count_unknown"
    return [Failure("CLOSE_OUT", "29 CFR 1926.34(a)", key, "permit.count_everybody_out", {"inside": facts.inside or 0})]


def evaluate(facts: Facts) -> list[CheckResult]:
    """Return the outcome of every check that applies to this kind of grant, in check order."""
    if facts.kind is GrantKind.CLOSE_OUT:
        failures = close_out_failures(facts)
        outcome = Outcome.FAILED if failures else Outcome.PASSED
        return [CheckResult("CLOSE_OUT", "29 CFR 1926.34(a)", outcome, failures)]
    results = []
    for check in CHECKS:
        if facts.kind is GrantKind.PREP and not check.prep:
            continue
        if not check.built:
            results.append(CheckResult(check.id, check.clause, Outcome.NOT_CHECKED))
            continue
        failures = _RULES[check.id](facts)
        results.append(CheckResult(check.id, check.clause, Outcome.FAILED if failures else Outcome.PASSED, failures))
    return results


def failures_of(results: list[CheckResult]) -> list[Failure]:
    """Return every failure, in check order; empty means the grant may be signed."""
    return [failure for result in results for failure in result.failures]


def _fail(check: str, key: str, fix: str, **params: str | float) -> Failure:
    return Failure(check, _BY_ID[check].clause, key, fix, dict(params))


def _g01_permit_window(f: Facts) -> list[Failure]:
    p, failures = f.permit, []
    allowed = {PermitState.READY, PermitState.ACTIVE}
    if f.kind is GrantKind.PREP:
        allowed |= {PermitState.APPROVED, PermitState.SUSPENDED}
    if p.state not in allowed:
        failures.append(_fail("G01", "permit.not_ready", "permit.prepare", state=p.state.value))
    if f.now < p.start:
        failures.append(_fail("G01", "permit.not_begun", "permit.wait_for_start", start=p.start))
    if f.now + f.timings.permit_left_s > p.end:
        failures.append(_fail("G01", "permit.too_little_time", "permit.extend", end=p.end))
    return failures


def _g02_approvals(f: Facts) -> list[Failure]:
    p, failures = f.permit, []
    steps = [s.step for s in p.signatures]
    if steps != ["supervisor", "approver"]:
        failures.append(_fail("G02", "approval.incomplete", "approval.get", have=", ".join(steps) or "-"))
    people = [s.person for s in p.signatures]
    if len(set(people)) != len(people) or p.requester in people[1:]:
        failures.append(_fail("G02", "approval.same_person", "approval.get_another"))
    if any(b.at < a.at for a, b in pairwise(p.signatures)):
        failures.append(_fail("G02", "approval.wrong_order", "approval.get"))
    supervised = all(s.person == p.supervisor for s in p.signatures if s.step == "supervisor")
    if not supervised or any(not _may_approve(f.roles.get(s.person, [])) for s in p.signatures if s.step == "approver"):
        failures.append(_fail("G02", "approval.no_right", "approval.get_another"))
    return failures


def _may_approve(roles: list[str]) -> bool:
    return not {"approver", "manager"}.isdisjoint(roles)


def _g03_no_alarm(f: Facts) -> list[Failure]:
    if f.picture_age_s is None or f.picture_age_s > f.timings.live_reading_s:
        return [_fail("G03", "gateway.silent", "gateway.look")]
    return [_fail("G03", "alarm.open", "alarm.clear_first", alarm=kind) for kind in f.open_p1]


def _g04_lock_of_space(f: Facts) -> list[Failure]:
    failures = []
    if f.permit.space != f.space.id or f.lock not in {e.lock for e in f.space.entrances}:
        failures.append(_fail("G04", "lock.other_space", "lock.choose_own", lock=f.lock))
    failures += [_fail("G04", "permit.another_open", "permit.close_other", permit=p) for p in f.other_open_permits]
    return failures


def _g06_attendant(f: Facts) -> list[Failure]:
    p, failures = f.permit, []
    if f.by != p.attendant:
        failures.append(_fail("G06", "attendant.not_you", "attendant.sign_in"))
    if p.attendant in p.entrants or any(s.person == p.attendant for s in p.signatures if s.step == "approver"):
        failures.append(_fail("G06", "attendant.conflict", "attendant.name_another"))
    if f.attendant_seen_at is None or f.now - f.attendant_seen_at > f.timings.attendant_checkin_s:
        failures.append(_fail("G06", "attendant.absent", "attendant.check_in"))
    return failures


def _g10_ventilation(f: Facts) -> list[Failure]:
    p = f.permit
    if p.ventilated_at is None:
        return [_fail("G10", "ventilation.missing", "ventilation.start")]
    failures = []
    minutes = (f.now - p.ventilated_at) / 60
    if f.now - p.ventilated_at < f.timings.ventilation_s:
        need = round(f.timings.ventilation_s / 60, 1)
        failures.append(_fail("G10", "ventilation.too_short", "ventilation.go_on", minutes=round(minutes, 1), need=need))
    if f.fan_running is not True:
        failures.append(_fail("G10", "ventilation.not_running", "ventilation.start"))
    return failures


END_M = 1.0  # the first and last point lie this close to top and bottom (GB 46768-2025 5.8.6)
SPACING_M = 8.0  # and no two points lie further apart
_PIT_M = 2.0  # below this depth two points are enough


def points_needed(depth_m: float) -> int:
    """Return how many sampling points a vertical space of this depth needs (GB 46768-2025 5.8.6)."""
    return 2 if depth_m < _PIT_M else max(3, math.ceil((depth_m - 2 * END_M) / SPACING_M) + 1)


def _g11_gas_test(f: Facts) -> list[Failure]:
    test = f.permit.gas_test
    if test is None:
        return [_fail("G11", "gas_test.missing", "gas_test.do")]
    failures = []
    if f.now - test.at > f.timings.gas_test_age_s:
        failures.append(_fail("G11", "gas_test.too_old", "gas_test.repeat", minutes=round((f.now - test.at) / 60)))
    return failures + judge_test(test, f.space, f.permit, f.limits, f.timings)


def judge_test(test: GasTest, space: Space, permit: Permit, limits: LimitProfile, timings: Timings) -> list[Failure]:
    """Return what is wrong with a pre-entry test: tester, points, order, dwell, gases, limits (age is judged at use)."""
    failures = []
    if test.tester != permit.tester or test.tester in permit.entrants:
        failures.append(_fail("G11", "gas_test.wrong_tester", "gas_test.by_tester"))
    need = points_needed(space.depth_m)
    if len(test.points) < need:
        failures.append(_fail("G11", "gas_test.too_few_points", "gas_test.repeat", points=len(test.points), need=need))
    distances = [p.distance_m for p in test.points]
    if distances != sorted(distances):
        failures.append(_fail("G11", "gas_test.wrong_order", "gas_test.repeat"))
    if not _well_placed(sorted(distances), space.depth_m):
        failures.append(_fail("G11", "gas_test.wrong_places", "gas_test.repeat", depth=space.depth_m))
    for point in test.points:
        dwell = timings.dwell_s + timings.dwell_per_m_s * point.distance_m
        if not point.dwell_s >= dwell:  # NaN is not a dwell
            failures.append(_fail("G11", "gas_test.dwell", "gas_test.repeat", at=point.distance_m, need=round(dwell)))
        failures += _judge_point(point.distance_m, point.readings, gases_needed(space), limits)
    return failures


def gases_needed(space: Space) -> list[str]:
    """Return the gases that must be measured in a space: the four of every space and those of its hazards."""
    return [*_BASE_GASES, *(gas for gas in space.required_gases if gas not in _BASE_GASES)]


def sampling_distances(depth_m: float) -> list[float]:
    """Return where to sample, in metres from the entrance: top to bottom, ends within 1 m (GB 46768-2025 5.8.6)."""
    n, margin = points_needed(depth_m), min(END_M, depth_m / 4)
    return [round(margin + (depth_m - 2 * margin) * i / (n - 1), 1) for i in range(n)]


def _well_placed(distances: list[float], depth_m: float) -> bool:
    """Say whether points reach both ends of a shaft to 1 m and stand at most 8 m apart; a pit below 2 m has no such rule."""
    if depth_m < _PIT_M:
        return True
    steps = [b - a for a, b in pairwise(distances)]
    return (
        bool(distances) and distances[0] <= END_M and distances[-1] >= depth_m - END_M and max(steps, default=0.0) <= SPACING_M
    )


def _judge_point(at_m: float, values: dict[str, float], required: list[str], limits: LimitProfile) -> list[Failure]:
    failures = []
    for gas in required:
        rule, value = limits.of(gas), values.get(gas)
        if rule is None or value is None:
            failures.append(_fail("G11", "gas_test.gas_missing", "gas_test.repeat", gas=gas, at=at_m))
        elif not rule.passes_entry(value):
            shown = round(value, 1)
            failures.append(_fail("G11", "gas_test.out_of_limits", "ventilation.go_on", gas=gas, value=shown, unit=rule.unit))
    return failures


def _g12_order(f: Facts) -> list[Failure]:
    p = f.permit
    if p.ventilated_at is None or p.gas_test is None or not p.ventilated_at < p.gas_test.at <= f.now:
        return [_fail("G12", "order.not_proven", "order.ventilate_test_enter")]
    return []


def _g13_instruments(f: Facts) -> list[Failure]:
    if not f.instruments:
        return [_fail("G13", "instrument.none", "instrument.bind")]
    failures = []
    for live in f.instruments:
        if live.age_s > f.timings.live_reading_s:
            failures.append(_fail("G13", "instrument.silent", "instrument.look", device=live.device))
        if min(live.bump_due, live.calibration_due) < f.permit.end:
            failures.append(_fail("G13", "instrument.due", "instrument.bump", device=live.device))
        missing = [g for g in gases_needed(f.space) if g not in live.readings or live.readings[g].value is None]
        if missing:
            gases = ", ".join(missing)
            failures.append(_fail("G13", "instrument.cannot_tell", "instrument.look", device=live.device, gases=gases))
    return failures


def _g14_live(f: Facts) -> list[Failure]:
    failures = []
    for live in f.instruments:
        for gas in gases_needed(f.space):
            rule, reading, unit = f.limits.of(gas), live.readings.get(gas), live.units.get(gas)
            if rule is None or reading is None or reading.value is None or unit is None or not rule.takes(unit):
                failures.append(_fail("G14", "live.unknown", "instrument.look", gas=gas))
                continue
            value = rule.in_unit(reading.value, unit, f.limits.temperature_c)
            low = [x for x in rule.limit if x.level == "low" and x.breached_by(value)]
            if low or not rule.passes_entry(value):
                failures.append(_fail("G14", "live.out_of_limits", "ventilation.go_on", gas=gas, value=round(value, 1)))
    return failures or ([] if f.instruments else [_fail("G14", "live.unknown", "instrument.bind", gas="*")])


_RULES = {
    "G01": _g01_permit_window,
    "G02": _g02_approvals,
    "G03": _g03_no_alarm,
    "G04": _g04_lock_of_space,
    "G06": _g06_attendant,
    "G10": _g10_ventilation,
    "G11": _g11_gas_test,
    "G12": _g12_order,
    "G13": _g13_instruments,
    "G14": _g14_live,
}
