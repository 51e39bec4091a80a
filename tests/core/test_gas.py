"""One channel: status before any number, hysteresis, over-range that stays, unknown that decides nothing."""

import math

import pytest

from manway.entities import Reading
from manway.gas import Channel
from manway.ids import Status
from manway.limits import Level
from tests.kit.builders import LIMITS, UNITS


def a_channel(gas: str = "H2S", unit: str | None = None) -> Channel:
    limits = LIMITS.of(gas)
    assert limits is not None
    return Channel(limits, unit or UNITS[gas], LIMITS.temperature_c)


def ok(value: float) -> Reading:
    return Reading(Status.OK, value)


def levels(channel: Channel, *values: float) -> list[Level | None]:
    found = []
    for value in values:
        channel.take(ok(value))
        found.append(channel.level)
    return found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_an_ok_reading_without_a_finite_number_cannot_be_made(value: float | None) -> None:
    with pytest.raises(ValueError, match="finite value exactly when it is ok"):
        Reading(Status.OK, value)


@pytest.mark.parametrize("value", [0.0, 20.9, math.nan])
@pytest.mark.parametrize("status", set(Status) - {Status.OK}, ids=lambda s: s.value)
def test_a_faulty_reading_carries_no_number(status: Status, value: float) -> None:
    with pytest.raises(ValueError, match="finite value exactly when it is ok"):
        Reading(status, value)


def test_a_new_channel_knows_nothing() -> None:
    channel = a_channel()
    assert [channel.at_least(level) for level in Level] == [None] * 4
    assert channel.limit_of(Level.LOW) is not None


def test_it_judges_in_the_unit_of_the_limit() -> None:
    channel = a_channel("H2S", "ppm")
    channel.take(ok(7.1))
    assert channel.level is Level.LOW
    assert channel.value == pytest.approx(10.06, abs=0.005)
    assert channel.broken is not None
    assert channel.broken.clause == "GBZ 2.1-2019 MAC"


def test_a_level_is_at_least_every_lesser_one() -> None:
    channel = a_channel("H2S", "mg/m3")
    channel.take(ok(15.0))
    assert [channel.at_least(level) for level in Level] == [True, True, True, False]


def test_noise_at_a_limit_is_one_crossing() -> None:
    channel = a_channel("H2S", "mg/m3")
    found = levels(channel, 9.9, 10.0, 9.9, 9.6, 9.51, 9.5, 9.9, 10.0)
    assert found == [Level.PRE, Level.LOW, Level.LOW, Level.LOW, Level.LOW, Level.PRE, Level.PRE, Level.LOW]


def test_oxygen_is_held_on_its_own_side() -> None:
    channel = a_channel("O2")
    assert levels(channel, 19.4, 19.6, 19.7) == [Level.LOW, Level.LOW, Level.PRE]
    assert levels(channel, 20.9, 23.6, 23.4, 23.3) == [Level.WITHIN, Level.LOW, Level.LOW, Level.PRE]


@pytest.mark.parametrize(("value", "side", "limit"), [(19.0, "below", 19.5), (24.0, "over", 23.5)])
def test_the_limit_shown_is_that_of_the_broken_side(value: float, side: str, limit: float) -> None:
    channel = a_channel("O2")
    channel.take(ok(value))
    shown = channel.limit_of(Level.LOW)
    assert shown is not None
    assert (shown.side, shown.value) == (side, limit)


@pytest.mark.parametrize("status", set(Status) - {Status.OK}, ids=lambda s: s.value)
def test_a_status_that_is_not_ok_makes_it_unknown_and_not_safe(status: Status) -> None:
    channel = a_channel()
    channel.take(ok(50.0))
    channel.take(Reading(status))
    assert (channel.level, channel.value, channel.status) == (None, None, status)
    assert channel.at_least(Level.PRE) is None


def test_hysteresis_survives_a_hole_in_the_data() -> None:
    channel = a_channel("H2S", "mg/m3")
    channel.take(ok(10.0))
    channel.take(Reading(Status.FAULT))
    assert levels(channel, 9.8) == [Level.LOW]


def test_over_range_stays_and_a_later_zero_is_not_believed() -> None:
    channel = a_channel("LEL")
    channel.take(Reading(Status.OVER))
    assert levels(channel, 0.0, 50.0) == [None, None]
    assert channel.over_range
