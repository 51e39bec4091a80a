"""One person, one gas: who is inside, what counts as known, what a gap costs, when a shift begins, when the budget ends."""

import math
from typing import get_args

import msgspec
import pytest

from manway.exposure import Average, Exposure
from tests.kit.clock import EPOCH

NEW_SHIFT_S = 28_800.0
AVERAGES: tuple[Average, ...] = get_args(Average)


def inside(at: float = 0.0) -> Exposure:
    one = Exposure()
    one.enter(EPOCH + at, new_shift_s=NEW_SHIFT_S)
    return one


def steady(c: float, seconds: int) -> Exposure:
    one = inside()
    for second in range(seconds + 1):
        one.take(EPOCH + second, c)
    return one


def dose(one: Exposure, at: float) -> float:
    """The dose of the shift, in units times seconds."""
    return one.shift(EPOCH + at) * 28_800


def averages(one: Exposure, at: float) -> list[float]:
    return [one.stel(EPOCH + at), one.twa8(EPOCH + at), one.shift(EPOCH + at)]


# -- who is inside ------------------------------------------------------------------------------------------------------


def test_nobody_who_never_went_in_was_exposed() -> None:
    one = Exposure()
    for second in range(60):
        one.take(EPOCH + second, 500.0)
    assert averages(one, 60) == [0.0, 0.0, 0.0]
    assert (one.covered_minutes(EPOCH + 60), one.uncovered_s(EPOCH + 60)) == (0.0, 0.0)


def test_time_outside_counts_nothing_whatever_the_instrument_says_there() -> None:
    one = steady(10.0, 60)
    one.leave(EPOCH + 60)
    for second in range(61, 120):
        one.take(EPOCH + second, 500.0)
    assert dose(one, 120) == pytest.approx(600.0)
    assert one.covered_minutes(EPOCH + 120) == 1.0


def test_a_second_word_for_the_same_entry_or_exit_changes_nothing() -> None:
    one = inside()
    one.take(EPOCH, 10.0)
    one.enter(EPOCH + 2, new_shift_s=NEW_SHIFT_S)
    one.leave(EPOCH + 4)
    one.leave(EPOCH + 8)
    assert dose(one, 8) == pytest.approx(40.0)


def test_the_line_between_two_samples_counts_only_from_the_entry_on() -> None:
    one = Exposure()
    one.take(EPOCH, 0.0)
    one.enter(EPOCH + 2, new_shift_s=NEW_SHIFT_S)
    one.take(EPOCH + 4, 40.0)
    assert dose(one, 4) == pytest.approx(2 * 30.0)


def test_going_out_and_in_again_between_two_values_counts_both_stays_and_not_the_time_between() -> None:
    one = inside()
    one.take(EPOCH, 10.0)
    one.leave(EPOCH + 50)
    one.enter(EPOCH + 70, new_shift_s=NEW_SHIFT_S)
    assert dose(one, 100) == pytest.approx(50 * 10.0 + 30 * 10.0)
    assert one.uncovered_s(EPOCH + 100) == 30.0
    one.take(EPOCH + 100, 20.0)
    assert dose(one, 100) == pytest.approx(50 * 10.0 + 30 * 20.0)
    assert one.uncovered_s(EPOCH + 100) == 30.0


def test_an_exit_without_another_value_holds_the_last_one() -> None:
    one = inside()
    one.take(EPOCH, 10.0)
    one.leave(EPOCH + 90)
    assert dose(one, 5000) == pytest.approx(900.0)
    assert (one.covered_minutes(EPOCH + 5000), one.uncovered_s(EPOCH + 5000)) == (1.0, 30.0)


# -- what is known ------------------------------------------------------------------------------------------------------


def test_time_before_the_first_value_is_uncovered_and_counts_at_that_value_when_it_comes() -> None:
    one = inside()
    assert dose(one, 20) == 0.0
    assert one.uncovered_s(EPOCH + 20) == 20.0
    one.take(EPOCH + 20, 15.0)
    assert dose(one, 20) == pytest.approx(300.0)
    assert (one.covered_minutes(EPOCH + 20), one.uncovered_s(EPOCH + 20)) == (0.0, 20.0)


def test_a_whole_stay_without_a_value_waits_for_the_first_one_ever() -> None:
    one = inside()
    one.leave(EPOCH + 100)
    one.take(EPOCH + 300, 7.0)
    assert dose(one, 300) == pytest.approx(700.0)
    assert one.uncovered_s(EPOCH + 300) == 100.0


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_changes_nothing_known(nothing: float | None) -> None:
    one, other = steady(10.0, 10), steady(10.0, 10)
    for second in (11, 12, 13):
        one.take(EPOCH + second, nothing)
    assert averages(one, 13) == averages(other, 13)
    one.take(EPOCH + 15, 20.0)
    other.take(EPOCH + 15, 20.0)
    assert dose(one, 15) == dose(other, 15) == pytest.approx(100.0 + 75.0)


@pytest.mark.parametrize("value", [-0.0, -1.0, -1e300])
def test_a_value_below_zero_counts_as_zero(value: float) -> None:
    one = steady(10.0, 10)
    for second in range(10, 20):
        one.take(EPOCH + second, value)
    assert dose(one, 19) == pytest.approx(100.0)


def test_an_absurd_number_is_capped_and_keeps_every_average_finite() -> None:
    one = inside()
    for second in range(0, 20_000, 100):
        one.take(EPOCH + second, 1.7e308)
    assert one.stel(EPOCH + 20_000) == pytest.approx(1e9)
    assert all(math.isfinite(x) for x in averages(one, 20_000))


@pytest.mark.parametrize("at", [9.0, 4.0, -1e9, math.nan, math.inf, -math.inf])
def test_a_sample_older_than_the_newest_instant_or_without_a_time_is_counted_nowhere(at: float) -> None:
    one = steady(10.0, 10)
    before = msgspec.json.encode(one)
    one.take(EPOCH + at, 500.0)
    assert msgspec.json.encode(one) == before


def test_a_late_word_of_entry_or_exit_counts_from_now_and_a_late_question_is_answered_now() -> None:
    one = Exposure()
    one.take(EPOCH + 10, 10.0)
    one.enter(EPOCH + 5, new_shift_s=NEW_SHIFT_S)
    one.take(EPOCH + 14, 10.0)
    one.leave(EPOCH + 12)
    assert dose(one, 0) == dose(one, 14) == pytest.approx(40.0)
    assert one.stel(EPOCH) == one.stel(EPOCH + 14)


def test_a_line_that_rounding_bends_below_zero_takes_nothing_from_the_dose() -> None:
    """7.1 falling to 0, entered within the last microsecond: the line's last point is -9e-16 in floating point."""
    one = Exposure()
    one.take(1_800_000_000.62169, 7.1)
    one.enter(1_800_000_001.3567564, new_shift_s=NEW_SHIFT_S)
    one.take(1_800_000_000.62169 + 0.7350666711263543, 0.0)
    assert one.dose >= 0.0


def test_two_values_of_the_same_instant_leave_the_later_one_standing() -> None:
    one = steady(10.0, 10)
    one.take(EPOCH + 10, 30.0)
    assert dose(one, 11) == pytest.approx(100.0 + 30.0)


# -- windows ------------------------------------------------------------------------------------------------------------


def test_the_windows_forget_second_by_second_and_end_at_exactly_nothing() -> None:
    one = steady(9.0, 900)
    one.leave(EPOCH + 900)
    assert [one.stel(EPOCH + 900 + x) for x in (0, 100, 450, 899, 900, 901)] == pytest.approx([9.0, 8.0, 4.5, 0.01, 0.0, 0.0])
    assert one.stel(EPOCH + 1800) == 0.0
    assert one.twa8(EPOCH + 900 + 28_800) == 0.0
    assert one.shift(EPOCH + 900 + 28_800) == pytest.approx(9.0 * 900 / 28_800)


def test_a_steady_value_is_its_own_average_between_whole_seconds_too() -> None:
    one = steady(10.0, 2000)
    assert [one.stel(EPOCH + 2000 + x) for x in (0.0, 0.25, 0.9, 31.4)] == pytest.approx([10.0] * 4, rel=1e-12)


def test_a_burst_inside_the_oldest_second_errs_by_the_stated_bound_and_no_more() -> None:
    """100 ppm for the first half of the oldest second, all of it out of the window: the ring still counts a quarter of 100."""
    one = inside()
    one.take(EPOCH, 100.0)
    one.take(EPOCH + 0.5, 100.0)
    one.leave(EPOCH + 0.5)
    assert one.stel(EPOCH + 900.5) == pytest.approx(100.0 / 3600)
    assert one.stel(EPOCH + 901.0) == 0.0


def test_years_without_a_word_are_one_step() -> None:
    one = inside()
    one.take(EPOCH, 2.0)
    later = 20 * 365 * 86_400.0
    assert averages(one, later)[:2] == pytest.approx([2.0, 2.0])
    one.take(EPOCH + later, 3.0)
    assert averages(one, later)[:2] == pytest.approx([3.0, 3.0])
    assert one.shift(EPOCH + later) == pytest.approx((60 * 2.0 + (later - 60) * 3.0) / 28_800)


# -- shifts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("out_s", "new"), [(28_799.0, False), (28_800.0, True), (100_000.0, True)])
def test_a_shift_begins_after_eight_hours_outside(out_s: float, *, new: bool) -> None:
    one = steady(10.0, 3600)
    one.leave(EPOCH + 3600)
    assert dose(one, 3600 + out_s) == pytest.approx(36_000.0), "the old shift stands until the next entry"
    one.enter(EPOCH + 3600 + out_s, new_shift_s=NEW_SHIFT_S)
    assert dose(one, 3600 + out_s) == pytest.approx(0.0 if new else 36_000.0)
    assert one.covered_minutes(EPOCH + 3600 + out_s) == (0.0 if new else 60.0)
    assert one.uncovered_s(EPOCH + 3600 + out_s) == 0.0


def test_a_new_shift_takes_nothing_over_from_a_gap_of_the_old_one_and_clears_no_rolling_window() -> None:
    one = inside()
    one.take(EPOCH, 10.0)
    one.leave(EPOCH + 100)
    one.enter(EPOCH + 200, new_shift_s=100.0)
    assert dose(one, 200) == 0.0
    assert one.stel(EPOCH + 200) * 900 == pytest.approx(1000.0)
    one.take(EPOCH + 210, 50.0)
    assert dose(one, 210) == pytest.approx(500.0)
    assert one.stel(EPOCH + 210) * 900 == pytest.approx(1500.0)
    assert one.uncovered_s(EPOCH + 210) == 10.0


# -- snapshot -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_goes_on_as_if_nothing_had_happened_and_a_question_leaves_no_trace() -> None:
    one = steady(10.0, 1000)
    one.leave(EPOCH + 1030)
    image = msgspec.json.encode(one)
    averages(one, 9000)
    one.covered_minutes(EPOCH + 9000)
    one.uncovered_s(EPOCH + 9000)
    assert [one.time_to(20.0, which=which, c=30.0, at=EPOCH + 9000) for which in AVERAGES] != [None] * 3
    assert msgspec.json.encode(one) == image
    again = msgspec.json.decode(image, type=Exposure)
    assert again == one
    for exposure in (one, again):
        exposure.enter(EPOCH + 1100, new_shift_s=NEW_SHIFT_S)
        exposure.take(EPOCH + 1200, 12.0)
    assert averages(again, 1200) == averages(one, 1200)


def test_two_people_share_no_ring() -> None:
    one, other = steady(10.0, 100), inside()
    assert other.seconds.marks is not one.seconds.marks
    assert averages(other, 0) == [0.0, 0.0, 0.0]


# -- budget -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", AVERAGES)
def test_clean_air_never_uses_the_budget_up(which: Average) -> None:
    assert steady(0.0, 100).time_to(15.0, which=which, c=0.0, at=EPOCH + 100) is None


@pytest.mark.parametrize("which", AVERAGES)
def test_air_at_the_limit_never_passes_it(which: Average) -> None:
    assert inside().time_to(15.0, which=which, c=15.0, at=EPOCH) is None


@pytest.mark.parametrize(("which", "expected"), [("stel", 450.0), ("twa8", 14_400.0), ("shift", 14_400.0)])
def test_twice_the_limit_takes_half_the_window(which: Average, expected: float) -> None:
    assert inside().time_to(15.0, which=which, c=30.0, at=EPOCH) == pytest.approx(expected)


@pytest.mark.parametrize("which", AVERAGES)
@pytest.mark.parametrize("c", [0.0, 30.0])
def test_what_has_already_passed_has_no_time_left(which: Average, c: float) -> None:
    one = steady(1000.0, 1000)
    assert one.time_to(15.0, which=which, c=c, at=EPOCH + 1000) == 0.0


def test_what_leaves_the_window_is_counted_off() -> None:
    """600 s at 20 are inside the window; after 300 s of clean air they begin to leave as fast as 20 comes in again."""
    one = steady(20.0, 600)
    for second in range(600, 901):
        one.take(EPOCH + second, 0.0)
    at = EPOCH + 900
    assert one.stel(at) * 900 == pytest.approx(12_000.0)
    assert one.time_to(14.0, which="stel", c=20.0, at=at) == pytest.approx(600 + (14 * 900 - 12_000) / 20)
    assert one.time_to(14.0, which="stel", c=10.0, at=at) is None


def test_a_budget_ends_before_an_old_burst_leaves_the_window_or_never() -> None:
    """500 s at 20 begin to leave in 399 s; until then 10 adds 3,990 to some 10,000: over 13 x 900, never over 16 x 900."""
    one = steady(20.0, 500)
    at = EPOCH + 501
    one.take(at, 10.0)
    room = 13.0 * 900 - one.stel(at) * 900
    assert one.time_to(13.0, which="stel", c=10.0, at=at) == pytest.approx(room / 10.0)
    assert one.time_to(16.0, which="stel", c=10.0, at=at) is None


def test_the_budget_counts_a_gap_that_still_lasts() -> None:
    one = inside()
    one.take(EPOCH, 20.0)
    at = EPOCH + 300.5
    assert one.time_to(15.0, which="stel", c=20.0, at=at) == pytest.approx(15 * 900 / 20 - 300.5)
    assert one.time_to(15.0, which="stel", c=0.0, at=at) is None


def test_a_gap_that_fills_the_window_leaves_it_again_as_fresh_air_comes_in() -> None:
    """20 for 1,000 s, all of it still a gap: each second 26 comes and 20 leaves, so 5 x 900 more take 750 s."""
    one = inside()
    one.take(EPOCH, 20.0)
    assert one.time_to(25.0, which="stel", c=26.0, at=EPOCH + 1000) == pytest.approx(750.0)


def test_a_gap_that_began_between_two_seconds_leaves_the_window_at_that_very_instant() -> None:
    """100 ppm from 0.5 to 1.5 s, then out; back in at 850 s to 10 ppm: the peak is when the 100 begin to leave, at 900.5 s."""
    one = inside(0.5)
    one.take(EPOCH + 0.5, 100.0)
    one.leave(EPOCH + 1.5)
    peak = (100.0 + 10.0 * 50.5) / 900
    found = one.time_to(peak - 0.001, which="stel", c=10.0, at=EPOCH + 850)
    assert found == pytest.approx(50.5 - 0.001 * 900 / 10, abs=1e-6)


@pytest.mark.parametrize("left_s", [28_760.0, 28_769.9])
def test_the_running_minute_leaves_the_window_last(left_s: float) -> None:
    """100 ppm in the half minute after a whole one: it begins to leave after 28,770 s, so 1 ppm more until then counts."""
    one = steady(0.0, 60)
    for second in range(60, 91):
        one.take(EPOCH + second, 100.0)
    found = one.time_to((3000 + left_s) / 28_800, which="twa8", c=1.0, at=EPOCH + 90)
    assert found == pytest.approx(left_s, abs=1e-3)
    assert one.time_to((3000 + 28_770.1) / 28_800, which="twa8", c=1.0, at=EPOCH + 90) is None


def test_air_that_has_brought_the_average_to_the_limit_itself_is_no_error_of_rounding() -> None:
    one, c = inside(), 73.6177629436128
    one.take(EPOCH + 18.125, c)
    limit, at = one.stel(EPOCH + 1018.125), EPOCH + 1018.125
    found = one.time_to(limit, which="stel", c=c, at=at)
    assert found is None or 0.0 <= found <= 900.0


def test_a_budget_used_up_to_the_last_drop_passes_with_the_next_one_only() -> None:
    one = steady(8.0, 3600)
    assert one.shift(EPOCH + 3600) == 1.0
    assert one.time_to(1.0, which="shift", c=0.0, at=EPOCH + 3600) is None
    assert one.time_to(1.0, which="shift", c=1.0, at=EPOCH + 3600) == 0.0
    one = steady(30.0, 450)
    assert one.stel(EPOCH + 450) == 15.0
    assert one.time_to(15.0, which="stel", c=0.0, at=EPOCH + 450) is None
    assert one.time_to(15.0, which="stel", c=1.0, at=EPOCH + 450) == 0.0


def test_the_budget_of_somebody_outside_is_that_of_going_in_now() -> None:
    one = steady(20.0, 60)
    one.leave(EPOCH + 60)
    assert one.time_to(15.0, which="stel", c=30.0, at=EPOCH + 100) == pytest.approx((15 * 900 - 1200) / 30)


def test_a_concentration_below_zero_uses_nothing() -> None:
    assert [inside().time_to(1.0, which=which, c=-5.0, at=EPOCH) for which in AVERAGES] == [None] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", AVERAGES)
def test_a_budget_is_never_computed_from_what_is_no_number(which: Average, bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        inside().time_to(15.0, which=which, c=bad, at=EPOCH)
    with pytest.raises(ValueError, match="finite"):
        inside().time_to(bad, which=which, c=1.0, at=EPOCH)
