"""The one countdown: the earliest known reason, unknown where a guess would look like leave to stay."""

import math
from itertools import permutations
from typing import Literal, get_args

import msgspec
import pytest

from manway.leave_by import (
    HORIZON_S,
    OPTIONAL,
    REASONS,
    SOON_S,
    Forecast,
    LeaveBy,
    Reason,
    from_battery,
    from_budget,
    from_permit,
    from_slope,
    from_stay,
    leave_by,
)
from tests.kit.clock import EPOCH as NOW
from tests.kit.docs_tables import ROOT

PERMIT = Forecast("leave.permit_end", NOW + 1800, "p-1")
STAY = Forecast("leave.stay", NOW + 3600, "zhang")
TREND = Forecast("leave.gas_slope", NOW + 600, "gas-1/H2S")
NO_AIR = Forecast("leave.gas_slope", None, "gas-1/H2S")
UNKNOWN_AIR = LeaveBy(None, "leave.unknown", "gas-1/H2S")


def test_the_earliest_known_reason_wins_in_whatever_order_they_come() -> None:
    for some in permutations([PERMIT, STAY, TREND]):
        assert leave_by(some, NOW) == LeaveBy(NOW + 600, "leave.gas_slope", "gas-1/H2S")


def test_with_nothing_known_at_all_the_answer_is_unknown() -> None:
    assert leave_by([], NOW) == LeaveBy(None, "leave.unknown", "")
    assert leave_by([Forecast("leave.battery", None, "gas-1")], NOW) == LeaveBy(None, "leave.unknown", "")


@pytest.mark.parametrize("reason", sorted(set(REASONS) - OPTIONAL))
def test_one_required_reason_unknown_makes_the_answer_unknown_and_says_of_what(reason: Reason) -> None:
    assert leave_by([PERMIT, Forecast(reason, None, "x"), STAY], NOW) == LeaveBy(None, "leave.unknown", "x")


def test_an_unknown_battery_leaves_the_clock_running() -> None:
    assert leave_by([PERMIT, Forecast("leave.battery", None, "gas-1")], NOW).at == NOW + 1800
    assert {"leave.battery"} == OPTIONAL


@pytest.mark.parametrize(
    ("left_s", "shown"), [(-3600.0, True), (-1.0, True), (0.0, True), (SOON_S, True), (SOON_S + 1, False), (600.0, False)]
)
def test_a_time_that_passed_or_comes_within_a_minute_is_acted_on_whatever_is_unknown(left_s: float, *, shown: bool) -> None:
    due = Forecast("leave.permit_end", NOW + left_s, "p-1")
    expected = LeaveBy(due.at, due.reason, due.object) if shown else UNKNOWN_AIR
    assert leave_by([NO_AIR, due, STAY], NOW) == expected
    assert leave_by([STAY, due, NO_AIR], NOW) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_number_is_unknown(bad: float) -> None:
    assert leave_by([PERMIT, Forecast("leave.stel", bad, "gas-1/CO")], NOW) == LeaveBy(None, "leave.unknown", "gas-1/CO")


def test_equal_times_and_several_unknowns_are_told_in_a_fixed_order() -> None:
    same = [Forecast(reason, NOW, of) for reason in REASONS for of in ("b", "a")]
    unknown = [Forecast(reason, None, of) for reason in REASONS for of in ("b", "a")]
    for rotated in (same, same[::-1]):
        assert leave_by(rotated, NOW) == LeaveBy(NOW, "leave.gas_slope", "a")
    for rotated in (unknown, unknown[::-1]):
        assert leave_by(rotated, NOW) == LeaveBy(None, "leave.unknown", "a")


def test_adding_a_reason_never_makes_the_clock_later() -> None:
    pool = [PERMIT, STAY, TREND, Forecast("leave.twa", NOW + 30, "gas-1/CO"), Forecast("leave.battery", NOW + 900, "gas-1")]
    for some in permutations(pool, 3):
        alone, more = leave_by(some[:2], NOW).at, leave_by(some, NOW).at
        assert alone is not None
        assert more is not None
        assert more <= alone


# -- where forecasts come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "slope", "above", "below", "left_s"),
    [
        pytest.param(4.0, 0.1, 10.0, None, 60.0, id="rising gas: (10 - 4) / 0.1"),
        pytest.param(20.9, -0.01, 23.5, 19.5, 140.0, id="falling oxygen: (20.9 - 19.5) / 0.01"),
        pytest.param(20.9, 0.01, 23.5, 19.5, 260.0, id="rising oxygen: (23.5 - 20.9) / 0.01"),
        pytest.param(4.0, -0.1, 10.0, None, None, id="a falling gas has no time"),
        pytest.param(4.0, 0.0, 10.0, None, None, id="nor has a level one"),
        pytest.param(4.0, -0.0, 10.0, 1.0, None, id="nor one of negative zero"),
        pytest.param(20.9, 0.01, None, 19.5, None, id="no limit on the side it moves to"),
        pytest.param(10.0, -1.0, 10.0, None, 0.0, id="at the limit already, though falling"),
        pytest.param(12.0, None, 10.0, None, 0.0, id="over it already, slope or not"),
        pytest.param(19.4, 1.0, 23.5, 19.5, 0.0, id="oxygen below already, though rising"),
        pytest.param(19.5, -0.5, 23.5, 19.5, 0.0, id="oxygen at its lower limit and falling"),
        pytest.param(19.5, 0.5, 23.5, 19.5, 8.0, id="oxygen at its lower limit and rising"),
        pytest.param(0.0, 10.0 / HORIZON_S, 10.0, None, HORIZON_S, id="exactly at the horizon"),
        pytest.param(0.0, 9.9 / HORIZON_S, 10.0, None, None, id="beyond the horizon"),
        pytest.param(4.0, 5e-324, 10.0, None, None, id="a slope too small to divide by"),
        pytest.param(4.0, 0.1, None, None, None, id="a gas without a low limit"),
    ],
)
def test_a_trend_ends_where_its_line_crosses_the_low_limit(
    value: float, slope: float | None, above: float | None, below: float | None, left_s: float | None
) -> None:
    found = from_slope(value, slope, above, below, NOW, of="gas-1/X")
    if left_s is None:
        assert found is None
    else:
        assert found is not None
        assert found.at == pytest.approx(NOW + left_s, abs=1e-3)
        assert (found.reason, found.object) == ("leave.gas_slope", "gas-1/X")


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_trend_without_a_value_or_a_slope_is_unknown_and_not_absent(bad: float | None) -> None:
    assert from_slope(bad, 0.1, 10.0, None, NOW, of="gas-1/H2S") == NO_AIR
    assert from_slope(4.0, bad, 10.0, None, NOW, of="gas-1/H2S") == NO_AIR


@pytest.mark.parametrize(("which", "reason"), [("stel", "leave.stel"), ("twa8", "leave.twa"), ("shift", "leave.shift")])
def test_a_budget_tells_never_from_not_known(which: Literal["stel", "twa8", "shift"], reason: Reason) -> None:
    assert from_budget(which, 90.0, NOW, of="gas-1/CO", known=True) == Forecast(reason, NOW + 90, "gas-1/CO")
    assert from_budget(which, 0.0, NOW, of="gas-1/CO", known=True) == Forecast(reason, NOW, "gas-1/CO")
    assert from_budget(which, None, NOW, of="gas-1/CO", known=True) is None
    assert from_budget(which, None, NOW, of="gas-1/CO", known=False) == Forecast(reason, None, "gas-1/CO")
    assert from_budget(which, 90.0, NOW, of="gas-1/CO", known=False) == Forecast(reason, None, "gas-1/CO")


@pytest.mark.parametrize(
    ("percent", "life_s", "left_s"),
    [
        (50.0, 36_000.0, 18_000.0),
        (100.0, 36_000.0, 36_000.0),
        (0.0, 36_000.0, 0.0),
        (None, 36_000.0, None),
        (50.0, None, None),
        (math.nan, 36_000.0, None),
        (50.0, math.inf, None),
        (-1.0, 36_000.0, None),
        (100.5, 36_000.0, None),
        (50.0, 0.0, None),
    ],
)
def test_a_battery_lasts_its_share_of_a_full_life(percent: float | None, life_s: float | None, left_s: float | None) -> None:
    at = None if left_s is None else NOW + left_s
    assert from_battery(percent, life_s, NOW, of="gas-1") == Forecast("leave.battery", at, "gas-1")


def test_a_stay_ends_its_length_after_the_entry_and_a_permit_at_its_end() -> None:
    assert from_stay(NOW, 7200.0, of="zhang") == Forecast("leave.stay", NOW + 7200, "zhang")
    assert from_stay(None, 7200.0, of="zhang") == Forecast("leave.stay", None, "zhang")
    assert from_permit(NOW + 60, of="p-1") == Forecast("leave.permit_end", NOW + 60, "p-1")
    assert from_permit(None, of="p-1") == Forecast("leave.permit_end", None, "p-1")


# -- what people read ---------------------------------------------------------------------------------------------------


def test_every_reason_reads_in_brackets_in_both_languages() -> None:
    assert get_args(Reason) == REASONS
    files = (ROOT / "manway" / "locales" / f"{language}.json" for language in ("zh_CN", "en"))
    zh, en = (msgspec.json.decode(file.read_bytes(), type=dict[str, str]) for file in files)
    assert "LEAVE BY 10:21 ({})".format(en["leave.gas_slope"].format(gas="H2S")) == "LEAVE BY 10:21 (H2S trend)"
    assert "10:21 前撤出（{}）".format(zh["leave.gas_slope"].format(gas="H2S")) == "10:21 前撤出（H2S 趋势）"
    for words in (zh, en):
        assert len({words[reason].format(gas="CO") for reason in REASONS}) == len(REASONS)
