"""Golden vectors of the checks: numbers of the law, written down by hand (`domain.md` §12 and the clauses named)."""

import msgspec
import pytest

from manway.checks import Outcome, evaluate, failures_of, points_needed, sampling_distances, spacing_m
from manway.checks.air import seconds_to_low
from manway.entities import GasTest, Reading, Space
from manway.entities import TestPoint as Point
from manway.ids import Status
from manway.runtime import settings
from tests.kit.builders import LIMITS, TIMINGS, a_permit, a_space, a_test, facts, live
from tests.kit.clock import EPOCH

CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}


def keys(check: str, **changed: object) -> list[str]:
    return [f.key for f in failures_of(evaluate(facts(**changed))) if f.check == check]


def sampled(*distances: float, dwell_s: float = 600.0) -> GasTest:
    return a_test(points=[Point(d, dwell_s, dict(CLEAN)) for d in distances])


@pytest.mark.parametrize(("depth_m", "needed"), [
    (20.0, 4), (5.0, 3), (1.5, 2),  # vector 10
    (0.5, 2), (1.99, 2), (2.0, 3), (18.0, 3), (18.1, 4), (26.0, 4), (26.1, 5), (100.0, 14),
])  # fmt: skip
def test_a_shaft_needs_points_by_its_depth(depth_m: float, needed: int) -> None:
    """Vector 10, GB 46768-2025 5.8.6: ends within 1 m, spacing 8 m, at least three; below 2 m two."""
    assert points_needed(depth_m) == needed


def test_vector_15_a_test_31_minutes_old_fails_and_one_before_the_ventilation_too() -> None:
    old = a_permit(ventilated_at=EPOCH - 4000, gas_test=a_test(EPOCH - 31 * 60))
    assert keys("G11", permit=old) == ["gas_test.too_old"]
    assert keys("G12", permit=old) == []
    first_tested = a_permit(ventilated_at=EPOCH - 1000, gas_test=a_test(EPOCH - 1200))
    assert keys("G12", permit=first_tested) == ["order.not_proven"]
    assert keys("G11", permit=a_permit(ventilated_at=EPOCH - 4000, gas_test=a_test(EPOCH - 30 * 60))) == []


@pytest.mark.parametrize(("lel", "outcome"), [(9.9, Outcome.PASSED), (10.0, Outcome.FAILED)])
def test_vector_4_lel_10_passes_the_test_and_is_refused_live(lel: float, outcome: Outcome) -> None:
    readings = live().readings | {"LEL": Reading(Status.OK, lel)}
    results = evaluate(facts(instruments=[msgspec.structs.replace(live(), readings=readings)]))
    assert next(r.outcome for r in results if r.check == "G14") is outcome
    assert (
        keys("G11", permit=a_permit(gas_test=a_test(points=[Point(d, 120, CLEAN | {"LEL": lel}) for d in (0.5, 3, 5.5)]))) == []
    )


def length(length_m: float) -> Space:
    return msgspec.structs.replace(a_space(), depth_m=length_m, vertical=False)


@pytest.mark.parametrize(
    ("length_m", "distances", "found"),
    [
        (30.0, (0.5, 2.0), []),
        (30.0, (0.4, 2.0), ["gas_test.wrong_places"]),
        (30.0, (0.5, 1.9), ["gas_test.wrong_places"]),
        (30.0, (0.5,), ["gas_test.too_few_points", "gas_test.wrong_places"]),
        (30.0, (2.0, 0.5), ["gas_test.wrong_order"]),
        (1.5, (0.5, 1.4), []),
        (1.5, (0.5, 1.0), ["gas_test.wrong_places"]),
    ],
)
def test_a_duct_is_sampled_half_a_metre_and_two_metres_in_or_at_its_end(
    length_m: float, distances: tuple[float, ...], found: list[str]
) -> None:
    """GB 46768-2025 5.8.6, horizontal: at least two, one >= 0.5 m and one >= 2 m in; shorter than 2 m: the farthest place."""
    assert keys("G11", space=length(length_m), permit=a_permit(gas_test=sampled(*distances))) == found
    proposed = sampling_distances(length_m, vertical=False)
    assert keys("G11", space=length(length_m), permit=a_permit(gas_test=sampled(*proposed))) == []


@pytest.mark.parametrize(
    ("depth_m", "vertical", "needed"), [(6.0, True, 5), (20.0, True, 16), (1.5, True, 2), (10.0, False, 9), (1.5, False, 2)]
)
def test_the_us_profiles_sample_every_four_feet(depth_m: float, vertical: bool, needed: int) -> None:  # noqa: FBT001  a column
    """29 CFR 1910.146 App. B: every 4 ft (1.22 m) in the direction of travel."""
    assert spacing_m("US_GENERAL") == spacing_m("US_CONSTRUCTION") == 1.22
    assert points_needed(depth_m, vertical=vertical, spacing=1.22) == needed
    proposed = sampling_distances(depth_m, vertical=vertical, spacing=1.22)
    space = msgspec.structs.replace(a_space(), depth_m=depth_m, vertical=vertical)
    us = settings.limits("US_GENERAL")
    assert len(proposed) == needed
    assert keys("G11", space=space, limits=us, permit=a_permit(gas_test=sampled(*proposed))) == []
    missing = [d for i, d in enumerate(proposed) if i != len(proposed) // 2]
    if len(missing) > 1:
        assert "gas_test.wrong_places" in keys("G11", space=space, limits=us, permit=a_permit(gas_test=sampled(*missing)))


@pytest.mark.parametrize(("at_m", "dwell_s"), [(0.5, 61.5), (6.0, 78.0), (20.0, 120.0)])
def test_a_point_is_held_a_minute_and_three_seconds_a_metre_of_hose(at_m: float, dwell_s: float) -> None:
    """`domain.md` 7.1 (choice): >= 60 s + 3 s per metre of hose."""
    deep = msgspec.structs.replace(a_space(), depth_m=20.0)
    others = [d for d in (0.5, 6.0, 13.0, 20.0) if d != at_m]
    for held, found in ((dwell_s, []), (dwell_s - 0.1, ["gas_test.dwell"])):
        points = sorted(
            [Point(d, 600.0, dict(CLEAN)) for d in others] + [Point(at_m, held, dict(CLEAN))], key=lambda p: p.distance_m
        )
        assert keys("G11", space=deep, permit=a_permit(gas_test=a_test(points=points))) == found


@pytest.mark.parametrize(
    ("gas", "setpoint", "lax"),
    [
        ("H2S", 10.0, True),  # the US default: 14.2 mg/m3 over MAC 10 (domain.md 1.2)
        ("H2S", 7.06, True),  # 10.002 mg/m3
        ("H2S", 7.05, False),
        ("CO", 35.0, True),  # 40.8 mg/m3 over PC-STEL 30
        ("CO", 25.7, False),
        ("LEL", 20.0, True),
        ("O2", 19.0, True),
        ("O2", 19.5, False),
    ],
)
def test_an_instrument_set_to_another_law_backs_no_grant(gas: str, setpoint: float, lax: bool) -> None:  # noqa: FBT001  a column
    set_so = msgspec.structs.replace(live(), setpoints=live().setpoints | {gas: setpoint})
    assert (keys("G13", instruments=[set_so]) == ["instrument.lax"]) is lax


@pytest.mark.parametrize(
    ("gas", "value", "slope", "seconds"),
    [
        ("H2S", 4.0, 0.1, 60.0),
        ("H2S", 4.0, -0.1, float("inf")),
        ("O2", 20.7, -0.02, 60.0),
        ("O2", 20.9, 0.05, 52.0),
        ("LEL", 4.0, 0.2, 30.0),
    ],
)
def test_a_gas_on_its_way_to_the_limit_says_when(gas: str, value: float, slope: float, seconds: float) -> None:
    """`domain.md` 7.2: tau = (low - c) / s; below 60 s nobody goes in (G14)."""
    rule = LIMITS.of(gas)
    assert rule is not None
    assert seconds_to_low(rule, value, slope) == pytest.approx(seconds)


def test_the_numbers_the_checks_rest_on() -> None:
    assert (TIMINGS.gas_test_age_s, TIMINGS.attendant_checkin_s, TIMINGS.permit_left_s) == (1800, 180, 600)
    assert (TIMINGS.comms_test_s, TIMINGS.alarm_path_s, TIMINGS.lock_clock_s, TIMINGS.rising_s) == (600, 86_400, 5, 60)
    assert (TIMINGS.live_reading_s, TIMINGS.ventilation_s, TIMINGS.grant_life_s) == (10, 900, 60)
