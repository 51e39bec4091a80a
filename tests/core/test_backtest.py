"""The back-test: as the engine on every frame, and what it makes of a changed limit."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from manway.backtest import Comparison, Outbreak, Rules, compare, laxer, replay
from manway.entities import Frame, Reading
from manway.gas import GasRows
from manway.gas_columns import SLOPE_POINTS
from manway.ids import Priority, Status
from manway.limits import changed
from manway.recording import Recording, recorded
from manway.stretches import changes
from tests.kit.builders import LIMITS, TIMINGS, UNITS
from tests.kit.clock import EPOCH
from tests.kit.recorded_air import awkward_day, judged_one_by_one

PRESENT = Rules(LIMITS, TIMINGS)


def under(**limits: float) -> Rules:
    """The present rules with limits changed: `under(H2S_low=8)`."""
    return Rules(changed(LIMITS, {name.replace("_", "."): value for name, value in limits.items()}), TIMINGS)


def recording(*values: float | Status | None, gas: str = "H2S", every_s: float = 1.0, device: str = "gas-1") -> list[Recording]:
    """One channel of one device, a value a frame; None = no frame at that second."""
    rows = []
    for i, value in enumerate(values):
        at = EPOCH + i * every_s
        if value is not None:
            reading = Reading(value) if isinstance(value, Status) else Reading(Status.OK, float(value))
            rows.append((Frame(device, 7, i + 1, round(at * 1000), at, {gas: reading}), "n01"))
    return recorded(rows)


def alarms(recordings: list[Recording], rules: Rules = PRESENT, *, end: float = 0.0, occupied: bool = False) -> list[Outbreak]:
    last = max(float(one.at[-1]) for one in recordings)
    return replay(recordings, rules, UNITS | {"H2S": "mg/m3"}, last + end, occupied=occupied)


def kinds(outbreaks: list[Outbreak]) -> list[str]:
    return [outbreak.kind for outbreak in outbreaks]


# -- exactness ----------------------------------------------------------------------------------------------------------


def _both(seed: int, rules: Rules, *, occupied: bool) -> int:
    recordings = recorded(awkward_day(seed, frames=150))
    end = max(float(one.at[-1]) for one in recordings) + 100
    slow = judged_one_by_one(recordings, rules, end, occupied=occupied)
    fast = replay(recordings, rules, UNITS, end, occupied=occupied)
    assert [msgspec.structs.replace(outbreak, peak=None) for outbreak in fast] == slow
    return len(slow)


@given(seed=st.integers(0, 2**32), limits=st.sampled_from([{}, {"H2S_low": 8.0}, {"LEL_low": 15.0}]))
@budget(max_examples=6, deadline=None, derandomize=True)
def test_it_finds_what_every_frame_through_the_engine_finds(seed: int, limits: dict[str, float]) -> None:
    for occupied in (False, True):
        _both(seed, under(**limits), occupied=occupied)


def test_awkward_days_have_alarms_of_every_kind() -> None:
    """Else the comparison above would prove nothing."""
    found = [o for seed in (0, 2) for o in replay(recorded(awkward_day(seed)), PRESENT, UNITS, EPOCH + 2e4, occupied=True)]
    assert {*kinds(found)} >= {"GAS_PRE", "GAS_LOW", "GAS_HIGH", "GAS_RISING", "OVER_RANGE", "SENSOR_FAULT", "DATA_LOST"}


def test_numbers_of_the_space_it_left_are_not_taken_for_those_of_the_next() -> None:
    """An instrument that came over-range, was moved, and reads again only after its restart: seed 181 of the search."""
    recordings = recorded(awkward_day(181))
    end = max(float(one.at[-1]) for one in recordings)
    rules = Rules(LIMITS, TIMINGS)
    slow = judged_one_by_one(recordings, rules, end, occupied=False)
    fast = replay(recordings, rules, UNITS, end, occupied=False)
    assert [msgspec.structs.replace(outbreak, peak=None) for outbreak in fast] == slow


def test_a_quiet_hour_and_a_steady_alarm_are_stepped_over() -> None:
    [quiet] = recording(*[0.1, 0.0] * 1800)
    [steady] = recording(*[0.0] * 100, *[12.0] * 3500)
    rule = LIMITS.of("H2S")
    assert rule is not None
    found = [len(changes(one, {"H2S": (rule, 1.0)}, stale_s=180.0, rising_s=60.0).frames) for one in (quiet, steady)]
    assert found[0] == SLOPE_POINTS + 1
    assert found[1] < 40


def test_the_reading_that_ends_a_rise_is_news() -> None:
    """Else its alarm would stay on until somebody looks there for another reason, up to three minutes later."""
    air = recording(*[0.0] * 20, *[i * 0.4 for i in range(12)], *[4.4] * 60)
    [rising] = [outbreak for outbreak in alarms(air) if outbreak.kind == "GAS_RISING"]
    assert rising.ended is not None
    assert rising.ended < EPOCH + 20 + 12 + SLOPE_POINTS + TIMINGS.alarm_off_delay_s


def test_a_recalled_trend_is_the_one_that_was_taken() -> None:
    taken, recalled = GasRows(LIMITS), GasRows(LIMITS)
    values, at = np.arange(14, dtype=np.float64) * 0.3, EPOCH + np.arange(14, dtype=np.float64)
    rows = [gas.bind({"H2S": "mg/m3"})["H2S"] for gas in (taken, recalled)]
    for i in range(14):
        taken.take(np.array(rows[:1]), values[i : i + 1], np.zeros(1, np.int8), at[i : i + 1])
    recalled.take(np.array(rows[1:]), values[:1], np.zeros(1, np.int8), at[:1])
    recalled.recall(rows[1], values[2:13], at[2:13], 13)
    recalled.take(np.array(rows[1:]), values[13:], np.zeros(1, np.int8), at[13:])
    assert recalled.at(rows[1]) == taken.at(rows[0])


# -- one limit ----------------------------------------------------------------------------------------------------------


def test_an_outbreak_says_when_for_how_long_how_much_and_beyond_which_limit() -> None:
    found = alarms(recording(*[0.0] * 20, *[8.0, 9.0, 8.0] * 5, *[0.0] * 60))
    [pre] = [outbreak for outbreak in found if outbreak.kind == "GAS_PRE"]
    assert pre == Outbreak(
        "GAS_PRE",
        "gas-1/H2S",
        "n01",
        EPOCH + 20,
        EPOCH + 35 + TIMINGS.alarm_off_delay_s,
        pre.priority,
        5.0,
        "mg/m3",
        pre.clause,
        9.0,
    )


def test_a_stricter_limit_gains_and_a_laxer_one_loses_the_p1() -> None:
    air = recording(*[0.0] * 20, *[9.0] * 30, *[0.0] * 60, *[10.5] * 30, *[0.0] * 60)
    present = alarms(air)
    stricter = compare(present, alarms(air, under(H2S_low=8.0)))
    assert kinds(stricter.gained) == ["GAS_LOW"]
    assert kinds(stricter.lost) == ["GAS_RISING"]  # it is there before anybody could see it coming
    weaker = compare(present, alarms(air, under(H2S_low=11.0)))
    assert [(o.kind, o.priority, o.peak, o.limit) for o in weaker.lost] == [("GAS_LOW", Priority.P1, 10.5, 10.0)]
    assert kinds(weaker.gained) == ["GAS_RISING"]  # it is seen coming, and never comes


def test_a_limit_that_is_reached_later_is_told_of() -> None:
    air = recording(*[0.0] * 20, *[5.0 + i * 0.1 for i in range(100)], *[0.0] * 60)
    found = compare(alarms(air), alarms(air, under(H2S_low=11.0)))
    assert [(late.outbreak.kind, late.seconds) for late in found.later if late.outbreak.kind == "GAS_LOW"] == [
        ("GAS_LOW", 10.0)
    ]


def test_a_changed_delay_is_tried_too() -> None:
    air = recording(*[0.0] * 20, *([6.0] * 5 + [0.0] * 20) * 4, *[0.0] * 60)
    quicker = Rules(LIMITS, msgspec.structs.replace(TIMINGS, alarm_off_delay_s=5.0))
    assert len([o for o in alarms(air, quicker) if o.kind == "GAS_PRE"]) > len([o for o in alarms(air) if o.kind == "GAS_PRE"])


def test_laxer_rows_are_named_with_what_they_were() -> None:
    [(gas, row, value)] = laxer(PRESENT, under(H2S_low=11.0))
    assert (gas, row.id, row.value, value) == ("H2S", "H2S.low", 10.0, 11.0)
    assert laxer(PRESENT, under(H2S_low=8.0)) == []


def test_a_gas_that_the_changed_limits_have_not_is_no_laxer() -> None:
    fewer = msgspec.structs.replace(LIMITS, gas=[gas for gas in LIMITS.gas if gas.name != "H2S"])
    assert laxer(PRESENT, Rules(fewer, TIMINGS)) == []


def test_what_meets_at_another_object_or_time_is_not_the_same() -> None:
    plain = Outbreak("GAS_LOW", "gas-1/H2S", "n01", 10.0, 20.0, Priority.P1, 10.0, "mg/m3", "")
    other = [msgspec.structs.replace(plain, object="gas-2/H2S"), msgspec.structs.replace(plain, began=21.0, ended=None)]
    assert compare([plain], other) == Comparison([plain], other, [plain], [other[0], other[1]], [])
    endless = msgspec.structs.replace(plain, ended=None)
    assert compare([endless], other[1:]).lost == []


# -- what is judged ------------------------------------------------------------------------------------------------------


def test_silence_counts_from_the_first_frame_to_the_end() -> None:
    late = recording(*[None] * 400, *[0.0] * 30)
    assert kinds(alarms(late)) == []
    [lost] = alarms(late, end=200.0)
    assert (lost.kind, lost.began, lost.ended, lost.peak) == ("DATA_LOST", EPOCH + 429 + TIMINGS.stale_idle_s, None, None)


def test_somebody_inside_makes_silence_a_p1_in_seconds() -> None:
    gap = recording(*[0.0] * 30, *[None] * 20, *[0.0] * 60)
    assert kinds(alarms(gap)) == []
    [lost] = alarms(gap, occupied=True)
    assert (lost.kind, lost.priority, lost.began) == ("DATA_LOST", Priority.P1, EPOCH + 29 + TIMINGS.stale_occupied_s)


def test_a_fault_is_an_alarm_without_a_peak_and_its_numbers_count_for_nothing() -> None:
    found = alarms(recording(*[0.0] * 20, *[Status.FAULT] * 5, *[0.0] * 60))
    assert [(o.kind, o.peak) for o in found] == [("SENSOR_FAULT", None)]


def test_falling_oxygen_peaks_at_its_least() -> None:
    air = recording(*[20.9] * 20, *[19.0, 18.8, 19.0] * 5, *[20.9] * 60, gas="O2")
    [low] = [outbreak for outbreak in alarms(air) if outbreak.kind == "GAS_LOW"]
    assert (low.peak, low.limit) == (18.8, 19.5)


def test_a_channel_that_says_nothing_more_keeps_its_alarm_and_has_the_peak_it_had() -> None:
    found = alarms(recording(*[0.0] * 20, 12.0, *[Status.FAULT] * 60))
    [low] = [outbreak for outbreak in found if outbreak.kind == "GAS_LOW"]
    assert (low.ended, low.peak) == (None, 12.0)


def test_a_gas_without_a_unit_is_not_judged() -> None:
    assert replay(recording(*[50.0] * 30), PRESENT, {"CO": "ppm"}, EPOCH + 30, occupied=False) == []


# -- what was recorded ---------------------------------------------------------------------------------------------------


def test_frames_come_in_any_order_and_twice() -> None:
    [plain] = recording(0.0, 1.0, 2.0)
    rows = [(plain.frame(i), "n01") for i in (2, 0, 1, 1)]
    [again] = recorded(rows)
    assert again.at.tolist() == plain.at.tolist() == [EPOCH, EPOCH + 1, EPOCH + 2]
    assert again.channels["H2S"].value.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        ([(7, 1), (7, 2), (7, 2), (7, 3)], [1, 2, 3]),
        ([(7, 1), (7, 5), (7, 3), (7, 6)], [1, 5, 6]),
        ([(7, 1), (8, 1), (7, 2), (8, 2)], [1, 1, 2]),
        ([(7, 1), (7, 2_000_000), (7, 2)], [1, 2]),
    ],
    ids=["repeat", "late", "old boot", "wild"],
)
def test_what_an_engine_would_not_judge_is_left_out(numbers: list[tuple[int, int]], kept: list[int]) -> None:
    rows = [
        (Frame("gas-1", boot, seq, round(EPOCH * 1000) + i, EPOCH, {"O2": Reading(Status.OK, 20.9)}), "n01")
        for i, (boot, seq) in enumerate(numbers)
    ]
    [one] = recorded(rows)
    assert one.seq.tolist() == kept


def test_a_channel_that_a_frame_does_not_name_is_invalid() -> None:
    rows = [
        (Frame("gas-1", 7, i + 1, round(EPOCH * 1000) + i, EPOCH, {gas: Reading(Status.OK, 1.0)}), "n01")
        for i, gas in enumerate(["CO", "H2S"])
    ]
    [one] = recorded(rows)
    assert one.samples == 4
    assert math.isnan(one.channels["CO"].value[1])
    assert one.frame(1).readings == {"CO": Reading(Status.INVALID), "H2S": Reading(Status.OK, 1.0)}
