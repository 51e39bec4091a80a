"""The pre-entry test: where to sample, how long, in which order, and whether what was found lets people in.

GB 46768-2025 5.8.4-5.8.7 and 5.9.1. A space is sampled down its depth when it is `vertical`, else along its length.
"""

import math
from itertools import pairwise

from manway.checks.facts import Facts
from manway.checks.table import fail, row
from manway.entities import GasTest, Permit, Space, TestPoint
from manway.errors import Failure
from manway.limits import LimitProfile, Timings

END_M = 1.0  # the first and last point of a shaft lie this close to top and bottom (GB 46768-2025 5.8.6)
SPACING_M = 8.0  # and no two points lie further apart
US_SPACING_M = 1.22  # 4 ft (29 CFR 1910.146 App. B)
NEAR_M, FAR_M = 0.5, 2.0  # along a length: one point at least this far from the entrance, one at least that far (5.8.6)
_PIT_M = 2.0  # below this depth two points are enough
_REACH_M = 0.2  # (choice) as near as a probe gets to the far end of a short space
_HOSE_M = 0.011  # (choice) a hose is marked no finer than a centimetre
# Measured in every space, whatever its ledger row says (GB 46768-2025 5.8.1-3).
_BASE_GASES = ("O2", "LEL", "H2S", "CO")


def gases_needed(space: Space) -> list[str]:
    """Return the gases that must be measured in a space: the four of every space and those of its hazards."""
    return [*_BASE_GASES, *(gas for gas in space.required_gases if gas not in _BASE_GASES)]


def spacing_m(profile: str) -> float:
    """Return how far apart two points may lie under a limit profile, in metres."""
    return US_SPACING_M if profile.startswith("US_") else SPACING_M


def points_needed(depth_m: float, *, vertical: bool = True, spacing: float = SPACING_M) -> int:
    """Return how many sampling points a space of this depth, or length, needs (GB 46768-2025 5.8.6)."""
    if vertical:
        return 2 if depth_m < _PIT_M else max(3, math.ceil((depth_m - 2 * END_M) / spacing) + 1)
    near, far = _ends(depth_m, spacing)
    return max(2, math.ceil((far - near) / spacing) + 1)


def sampling_distances(depth_m: float, *, vertical: bool = True, spacing: float = SPACING_M) -> list[float]:
    """Return where to sample, in metres from the entrance: top to bottom, or near to far (GB 46768-2025 5.8.6)."""
    n = points_needed(depth_m, vertical=vertical, spacing=spacing)
    margin = min(END_M, depth_m / 4)
    first, last = (margin, depth_m - margin) if vertical else _ends(depth_m, spacing)
    return [round(first + (last - first) * i / (n - 1), 2) for i in range(n)]


def _ends(length_m: float, spacing: float) -> tuple[float, float]:
    """Return the nearest and the farthest point along a length: the law asks 0.5 m and 2 m, or the farthest place."""
    near = min(NEAR_M, length_m / 2)
    far = length_m - min(_REACH_M, length_m / 4)
    return near, far if spacing < SPACING_M else min(FAR_M, far)  # 4 ft "in the direction of travel" goes to the end


def judge_test(
    test: GasTest, space: Space, permit: Permit, limits: LimitProfile, timings: Timings, *, pumped: bool | None
) -> list[Failure]:
    """Return what is wrong with a pre-entry test, age aside; `pumped` is whether its instrument drew through a hose."""
    seen = row("gas_test", permit.id)
    failures = []
    if test.tester != permit.tester or test.tester in permit.entrants:
        failures.append(fail("G11", "gas_test.wrong_tester", "gas_test.by_tester", seen))
    if pumped is not True or test.instrument not in permit.instruments:
        failures.append(fail("G11", "gas_test.not_pumped", "gas_test.pump", row("instrument", test.instrument)))
    if not test.upwind:
        failures.append(fail("G11", "gas_test.not_upwind", "gas_test.stand_upwind", seen))
    if space.residue and not test.stirred:
        failures.append(fail("G11", "gas_test.not_stirred", "gas_test.stir", seen))
    failures += _judge_places(test.points, space, limits, seen)
    for point in test.points:
        dwell = timings.dwell_s + timings.dwell_per_m_s * point.distance_m
        if not point.dwell_s >= dwell:  # NaN is not a dwell
            failures.append(fail("G11", "gas_test.dwell", "gas_test.repeat", seen, at=point.distance_m, need=math.ceil(dwell)))
        failures += _judge_point(point, gases_needed(space), limits, seen)
    return failures


def _judge_places(points: list[TestPoint], space: Space, limits: LimitProfile, seen: dict[str, str]) -> list[Failure]:
    spacing, failures = spacing_m(limits.profile), []
    need = points_needed(space.depth_m, vertical=space.vertical, spacing=spacing)
    if len(points) < need:
        failures.append(fail("G11", "gas_test.too_few_points", "gas_test.repeat", seen, points=len(points), need=need))
    distances = [point.distance_m for point in points]
    if distances != sorted(distances):
        failures.append(fail("G11", "gas_test.wrong_order", "gas_test.repeat", seen))
    if not _well_placed(sorted(distances), space, spacing):
        where = ", ".join(f"{d:g}" for d in sampling_distances(space.depth_m, vertical=space.vertical, spacing=spacing))
        failures.append(fail("G11", "gas_test.wrong_places", "gas_test.repeat", seen, places=where))
    return failures


def _well_placed(distances: list[float], space: Space, spacing: float) -> bool:
    """Say whether sorted points lie where the law wants them; a pit below 2 m has no rule but that there are two."""
    if not distances or not all(math.isfinite(d) for d in distances):
        return False
    steps = max((b - a for a, b in pairwise(distances)), default=0.0)
    if not space.vertical:
        near, far = _ends(space.depth_m, spacing)
        return near - _HOSE_M <= distances[0] <= spacing and distances[-1] >= far - _HOSE_M and _within(steps, spacing)
    if space.depth_m < _PIT_M:
        return True
    ends = distances[0] <= END_M + _HOSE_M and distances[-1] >= space.depth_m - END_M - _HOSE_M
    return ends and _within(steps, spacing)


def _within(steps_m: float, spacing: float) -> bool:
    return steps_m <= spacing + _HOSE_M


def _judge_point(point: TestPoint, required: list[str], limits: LimitProfile, seen: dict[str, str]) -> list[Failure]:
    failures = []
    for gas in required:
        rule, value = limits.of(gas), point.readings.get(gas)
        if rule is None or value is None:
            failures.append(fail("G11", "gas_test.gas_missing", "gas_test.repeat", seen, gas=gas, at=point.distance_m))
        elif not rule.passes_entry(value):
            value = round(value, 2)
            failures.append(
                fail("G11", "gas_test.out_of_limits", "ventilation.go_on", seen, gas=gas, value=value, unit=rule.unit)
            )
    return failures


def test_left_s(facts: Facts) -> float:
    """Return how long the permit's test is still good for, in seconds; less than nothing when there is none."""
    test = facts.permit.gas_test
    return -1.0 if test is None else test.at + facts.timings.gas_test_age_s - facts.now


def g11_gas_test(f: Facts) -> list[Failure]:
    """The test is there, young enough, and nothing is wrong with it."""
    test, failures = f.permit.gas_test, []
    if test is None:
        return [fail("G11", "gas_test.missing", "gas_test.do", row("permit", f.permit.id))]
    if not test_left_s(f) >= (1.0 if f.signing else 0.0):  # a grant lives at least a second
        minutes = round((f.now - test.at) / 60) if math.isfinite(test.at) else 0
        failures.append(fail("G11", "gas_test.too_old", "gas_test.repeat", row("gas_test", f.permit.id), minutes=minutes))
    return failures + judge_test(test, f.space, f.permit, f.limits, f.timings, pumped=f.pumped.get(test.instrument))


def g12_order(f: Facts) -> list[Failure]:
    """Ventilation began before the test, and the test lies before now: proven by timestamps, by nothing else."""
    p = f.permit
    if p.ventilated_at is None or p.gas_test is None or not p.ventilated_at < p.gas_test.at <= f.now:
        return [fail("G12", "order.not_proven", "order.ventilate_test_enter", row("permit", p.id))]
    return []


def g22_same_limits(f: Facts) -> list[Failure]:
    """The test was judged with the limits that hold now, under the permit's own profile."""
    test, now = f.permit.gas_test, (f.limits.profile, f.limits.version)
    if test is None:
        return [fail("G22", "gas_test.missing", "gas_test.do", row("permit", f.permit.id))]
    if (test.profile, test.limits_version) != now or f.permit.profile != f.limits.profile:
        then, present = f"{test.profile} {test.limits_version}", f"{f.limits.profile} {f.limits.version}"
        return [fail("G22", "limits.changed", "gas_test.repeat", row("limits", f.limits.version), was=then, now=present)]
    return []
