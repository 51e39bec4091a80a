"""Averages against numbers that can be checked by hand (`domain.md` §12, vectors 7 to 9, and as many again from the clauses).

Limits used: H2S US STEL 15 ppm and CO US TWA 35 ppm, both the instrument defaults [ISC] of `domain.md` §6.3; CO in China
PC-TWA 20 and PC-STEL 30 mg/m3 (GBZ 2.1-2019).
"""

import pytest

from manway.exposure import Average, Exposure
from tests.kit.clock import EPOCH

NEW_SHIFT_S = 28_800.0
HOUR = 3600.0
QUARTER = EPOCH - EPOCH % 900 + 900  # a quarter hour of the clock on the wall


def breathing(start: float, *parts: tuple[float, float], exposure: Exposure | None = None) -> Exposure:
    """A person who is inside from `start` on; each part is seconds and concentration, a sample at every second of it.

    The change from one part to the next happens at once: the last sample of one and the first of the next share a second.
    """
    one = exposure or Exposure()
    one.enter(start, new_shift_s=NEW_SHIFT_S)
    at = start
    for seconds, c in parts:
        for _ in range(int(seconds)):
            one.take(at, c)
            at += 1.0
        one.take(at, c)
    return one


def first_second_over(limit: float, c: float, which: Average, hours: float = 1.0) -> int:
    """The first whole second from power-on at which the average is over the limit, everything before being 0."""
    one = Exposure()
    one.enter(QUARTER, new_shift_s=NEW_SHIFT_S)
    for second in range(int(hours * HOUR)):
        one.take(QUARTER + second, c)
        average = {"stel": one.stel, "twa8": one.twa8, "shift": one.shift}[which]
        if average(QUARTER + second) > limit:
            return second
    raise AssertionError("never")


def aligned_quarters(start: float, end: float, c: float) -> list[float]:
    """What 15-minute windows nailed to the clock would say: the way not to do it."""
    first = start - start % 900
    windows = [first + 900 * i for i in range(int((end - first) // 900) + 1)]
    return [c * max(0.0, min(end, w + 900) - max(start, w)) / 900 for w in windows]


def test_vector_7_twelve_minutes_across_a_quarter_hour_are_seen_only_by_a_rolling_window() -> None:
    start, end = QUARTER - 360, QUARTER + 360
    one = breathing(start, (720, 20.0))
    one.leave(end)
    assert one.stel(end) == 16.0, "over the limit of 15: alarm"
    assert one.stel(QUARTER + 539) == 16.0
    assert aligned_quarters(start, end, 20.0) == [8.0, 8.0]
    assert max(aligned_quarters(start, end, 20.0)) < 15.0, "the aligned windows miss it"


def test_vector_8_thirty_ppm_from_power_on_pass_15_at_451_s() -> None:
    """At 450 s the average is 15.0, which is not over 15; samples come every second, so 451 s (15.03) is the first over."""
    assert first_second_over(15.0, 30.0, "stel") == 451
    one = breathing(QUARTER, (450, 30.0))
    assert one.stel(QUARTER + 450) == 15.0
    assert one.stel(QUARTER + 451) == pytest.approx(15.0333, abs=1e-4)


def test_vector_9_twelve_hours_at_30_ppm_are_30_rolling_and_45_by_the_shift() -> None:
    one = breathing(QUARTER, (12 * HOUR, 30.0))
    at = QUARTER + 12 * HOUR
    assert one.twa8(at) == pytest.approx(30.0, rel=1e-12)
    assert one.shift(at) == pytest.approx(45.0, rel=1e-12)
    assert one.stel(at) == pytest.approx(30.0, rel=1e-12)
    assert one.covered_minutes(at) == 720.0
    assert one.uncovered_s(at) == 0.0


def test_the_example_of_29_cfr_1910_1000_d_1_ii_is_81_25_ppm() -> None:
    """Two hours at 150 ppm, two at 75, four at 50: (2 x 150 + 2 x 75 + 4 x 50) / 8 = 81.25 ppm."""
    one = breathing(QUARTER, (2 * HOUR, 150.0), (2 * HOUR, 75.0), (4 * HOUR, 50.0))
    at = QUARTER + 8 * HOUR
    assert one.shift(at) == pytest.approx(81.25, rel=1e-12)
    assert one.twa8(at) == pytest.approx(81.25, rel=1e-12)


@pytest.mark.parametrize(("hours", "c", "expected"), [(4, 60.0, 30.0), (10, 40.0, 50.0), (1, 35.0, 4.375)])
def test_the_divisor_of_the_shift_is_8_h_however_long_it_was(hours: int, c: float, expected: float) -> None:
    """29 CFR 1915.1000: E = sum of C x T over 8; ten hours at 40 are over the TWA of 50 ppm (OSHA CO PEL) they seem to keep."""
    one = breathing(QUARTER, (hours * HOUR, c))
    assert one.shift(QUARTER + hours * HOUR) == pytest.approx(expected, rel=1e-12)


def test_h2s_at_67_5_ppm_reaches_the_us_stel_at_200_s() -> None:
    """H2S US STEL 15 ppm [ISC]: 67.5 x 200 / 900 = 15.0, not over; one second more is."""
    one = breathing(QUARTER, (200, 67.5))
    assert one.stel(QUARTER + 200) == 15.0
    assert first_second_over(15.0, 67.5, "stel") == 201


def test_h2s_at_100_ppm_passes_the_us_stel_in_136_s() -> None:
    """H2S US STEL 15 ppm [ISC], at the IDLH of 100 ppm: 15 x 900 / 100 = 135 s is the limit itself."""
    assert first_second_over(15.0, 100.0, "stel") == 136


def test_co_at_60_mg_m3_passes_the_cn_stel_at_451_s_and_the_twa_at_2_h_40_min() -> None:
    """CO PC-STEL 30: 30 x 900 / 60 = 450 s. PC-TWA 20: 20 x 8 / 60 h = 9,600 s (GBZ 2.1-2019)."""
    assert first_second_over(30.0, 60.0, "stel") == 451
    assert first_second_over(20.0, 60.0, "twa8", hours=3) == 9601
    assert first_second_over(20.0, 60.0, "shift", hours=3) == 9601


def test_co_exactly_at_the_cn_stel_for_an_hour_never_passes_it() -> None:
    """CO PC-STEL 30 mg/m3 (GBZ 2.1-2019); an average passes at >, domain.md 6.3."""
    one = Exposure()
    one.enter(QUARTER, new_shift_s=NEW_SHIFT_S)
    worst = 0.0
    for second in range(3601):
        one.take(QUARTER + second, 30.0)
        worst = max(worst, one.stel(QUARTER + second))
    assert worst == 30.0


def test_two_bursts_of_450_s_15_minutes_apart_are_never_more_than_one() -> None:
    """H2S US STEL 15 ppm [ISC]: 30 ppm x 450 s is 15.0; when the second burst comes the first has left second by second."""
    one = breathing(QUARTER, (450, 30.0), (450, 0.0), (450, 30.0))
    assert [one.stel(QUARTER + at) for at in (450, 900)] == [15.0, 15.0]
    assert one.stel(QUARTER + 1350) == pytest.approx(15.0)
    assert one.twa8(QUARTER + 1350) == pytest.approx(30.0 * 900 / 28_800)


def test_a_gap_of_100_s_holds_60_and_counts_40_at_the_greater_value() -> None:
    """domain.md 7.2: 10 ppm before, 25 after: 60 s x 10 + 40 s x 25 = 1,600; provisionally 100 s x 10 = 1,000."""
    one = breathing(QUARTER, (60, 10.0))
    back = QUARTER + 60 + 100
    assert one.stel(back) * 900 == pytest.approx(600 + 1000)
    one.take(back, 25.0)
    assert one.stel(back) * 900 == pytest.approx(600 + 1600)
    assert (one.covered_minutes(back), one.uncovered_s(back)) == (2.0, 40.0)


def test_the_same_gap_with_a_lower_value_after_it_stays_at_the_value_before() -> None:
    one = breathing(QUARTER, (60, 25.0))
    back = QUARTER + 160
    one.take(back, 10.0)
    assert one.stel(back) * 900 == pytest.approx(160 * 25.0)


@pytest.mark.parametrize(
    ("gap_s", "dose", "uncovered_s"),
    [(1, 15.0, 0), (5, 75.0, 0), (5.5, 55.0, 0), (60, 600.0, 0), (60.5, 610.0, 0.5), (61, 620.0, 1)],
)
def test_a_gap_is_a_line_to_5_s_a_held_value_to_60_s_and_uncovered_beyond(
    gap_s: float, dose: float, uncovered_s: float
) -> None:
    """domain.md 7.2, 10 before and 20 after: trapezoid 15 x gap; 10 x gap; 600 + 20 for every second more."""
    one = Exposure()
    one.enter(QUARTER, new_shift_s=NEW_SHIFT_S)
    one.take(QUARTER, 10.0)
    one.take(QUARTER + gap_s, 20.0)
    assert one.shift(QUARTER + gap_s) * 28_800 == pytest.approx(dose, rel=1e-12)
    assert one.uncovered_s(QUARTER + gap_s) == uncovered_s


def test_40_minutes_at_co_210_ppm_leave_1_h_of_budget_at_the_us_twa() -> None:
    """CO US TWA 35 ppm [ISC]: 35 x 8 h = 280 ppm h; 40 min at 210 use 140, the other 140 last 4 h at 35, 1 h at 140."""
    one = breathing(QUARTER, (40 * 60, 210.0))
    at = QUARTER + 40 * 60
    assert one.time_to(35.0, which="shift", c=140.0, at=at) == pytest.approx(HOUR)
    assert one.time_to(35.0, which="twa8", c=140.0, at=at) == pytest.approx(HOUR)
    assert one.time_to(35.0, which="shift", c=35.0, at=at) == pytest.approx(4 * HOUR)
