"""The rows of gas channels: status before any number, hysteresis, over-range that stays, drift, thin oxygen, slope."""

import math

import numpy as np
import pytest

from manway.engine import Engine
from manway.entities import Reading
from manway.errors import ProfileInvalid
from manway.gas import Channel, GasRows
from manway.gas_columns import CODES, ROW_BYTES
from manway.gas_few import FEW
from manway.ids import Status
from manway.inputs import FrameReceived, PlanReceived
from manway.limits import Level
from tests.kit.builders import LIMITS, TIMINGS, UNITS, a_frame, a_plan, an_instrument
from tests.kit.clock import EPOCH


class Sensor:
    """One instrument's rows and a hand that feeds them, a second apart."""

    def __init__(self, units: dict[str, str] | None = None) -> None:
        self.gas = GasRows(LIMITS)
        self.rows = self.gas.bind(units or UNITS)
        self.at = 1_000.0

    def read(self, **values: float | Status) -> dict[str, bool]:
        """Feed one frame (`H2S=7.1` or `H2S=Status.FAULT`); return which channels are loud."""
        self.at += 1.0
        rows = np.array([self.rows[gas] for gas in values])
        status = np.array([CODES[v] if isinstance(v, Status) else 0 for v in values.values()], np.int8)
        numbers = np.array([math.nan if isinstance(v, Status) else v for v in values.values()])
        _, loud = self.gas.take(rows, numbers, status, np.full(len(rows), self.at))
        return dict(zip(values, loud.tolist(), strict=True))

    def channel(self, gas: str) -> Channel:
        return self.gas.at(self.rows[gas])

    def levels(self, gas: str, *values: float | Status) -> list[Level | None]:
        found = []
        for value in values:
            self.read(**{gas: value})
            found.append(self.channel(gas).level)
        return found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_an_ok_reading_without_a_finite_number_cannot_be_made(value: float | None) -> None:
    with pytest.raises(ValueError, match="finite value exactly when it is ok"):
        Reading(Status.OK, value)


@pytest.mark.parametrize("value", [0.0, 20.9, math.nan])
@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK], ids=lambda s: s.value)
def test_a_faulty_reading_carries_no_number(status: Status, value: float) -> None:
    with pytest.raises(ValueError, match="finite value exactly when it is ok"):
        Reading(status, value)


def test_a_new_channel_knows_nothing() -> None:
    channel = Sensor().channel("H2S")
    assert [channel.at_least(level) for level in Level] == [None] * 5
    assert (channel.status, channel.value, channel.low_in_s, channel.slope) == (None, None, None, 0.0)
    assert channel.limit_of(Level.LOW) is not None


def test_it_judges_in_the_unit_of_the_limit() -> None:
    sensor = Sensor()
    sensor.read(H2S=7.1)
    channel = sensor.channel("H2S")
    assert channel.level is Level.LOW
    assert channel.value == pytest.approx(10.06, abs=0.005)
    limit = channel.limit_of(Level.LOW)
    assert limit is not None
    assert limit.clause == "GBZ 2.1-2019 MAC"


def test_a_unit_without_a_conversion_is_refused() -> None:
    with pytest.raises(ProfileInvalid, match="no conversion"):
        GasRows(LIMITS).bind({"LEL": "ppm"})


def test_a_level_is_at_least_every_lesser_one() -> None:
    sensor = Sensor({"H2S": "mg/m3"})
    sensor.read(H2S=15.0)
    assert [sensor.channel("H2S").at_least(level) for level in Level] == [True, True, True, False, False]


def test_noise_at_a_limit_is_one_crossing() -> None:
    found = Sensor({"H2S": "mg/m3"}).levels("H2S", 9.9, 10.0, 9.9, 9.6, 9.51, 9.5, 9.9, 10.0)
    assert found == [Level.PRE, Level.LOW, Level.LOW, Level.LOW, Level.LOW, Level.PRE, Level.PRE, Level.LOW]


def test_oxygen_is_held_on_its_own_side() -> None:
    sensor = Sensor()
    assert sensor.levels("O2", 19.4, 19.6, 19.7) == [Level.LOW, Level.LOW, Level.PRE]
    assert sensor.levels("O2", 20.9, 23.6, 23.4, 23.3) == [Level.WITHIN, Level.LOW, Level.LOW, Level.PRE]


@pytest.mark.parametrize(("value", "side", "limit"), [(19.0, "below", 19.5), (24.0, "over", 23.5)])
def test_the_limit_shown_is_that_of_the_broken_side(value: float, side: str, limit: float) -> None:
    sensor = Sensor()
    sensor.read(O2=value)
    shown = sensor.channel("O2").limit_of(Level.LOW)
    assert shown is not None
    assert (shown.side, shown.value) == (side, limit)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK], ids=lambda s: s.value)
def test_a_status_that_is_not_ok_makes_it_unknown_and_not_safe(status: Status) -> None:
    sensor = Sensor()
    assert sensor.levels("H2S", 50.0, status) == [Level.HIGH, None]
    channel = sensor.channel("H2S")
    assert (channel.value, channel.status, channel.at_least(Level.PRE)) == (None, status, None)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_invalid_whatever_its_status_says(number: float) -> None:
    sensor = Sensor()
    assert sensor.levels("H2S", 50.0, number) == [Level.HIGH, None]
    assert sensor.channel("H2S").status is Status.INVALID


@pytest.mark.parametrize("number", [-0.0, 5e-324, -5e-324])
def test_zeros_and_subnormals_are_plain_small_numbers(number: float) -> None:
    assert Sensor().levels("H2S", number) == [Level.WITHIN]


def test_hysteresis_survives_a_hole_in_the_data() -> None:
    assert Sensor({"H2S": "mg/m3"}).levels("H2S", 10.0, Status.FAULT, 9.8)[-1] is Level.LOW


def test_over_range_stays_and_a_later_zero_is_not_believed() -> None:
    sensor = Sensor()
    assert sensor.levels("LEL", Status.OVER, 0.0, 50.0) == [None, None, None]
    assert (sensor.channel("LEL").over_range, sensor.channel("LEL").status) == (True, Status.OVER)


def test_beyond_its_full_scale_a_combustible_sensor_is_over_its_range() -> None:
    sensor = Sensor()
    assert sensor.levels("LEL", 100.0, 100.1, 3.0) == [Level.HIGH if _idlh("LEL") is None else Level.IDLH, None, None]
    assert sensor.channel("LEL").over_range


def _idlh(gas: str) -> float | None:
    rule = LIMITS.of(gas)
    assert rule is not None
    return next((x.value for x in rule.limit if x.rank is Level.IDLH), None)


def test_only_a_restart_makes_it_believed_again() -> None:
    sensor = Sensor()
    sensor.read(LEL=Status.OVER)
    sensor.gas.restart([sensor.rows["LEL"]])
    assert sensor.levels("LEL", 1.0) == [Level.WITHIN]


@pytest.mark.parametrize(("gas", "drifted", "still"), [("LEL", -5.1, -5.0), ("H2S", -3.6, -3.5), ("CO", -8.7, -8.5)])
def test_far_below_zero_is_drift_and_a_fault(gas: str, drifted: float, still: float) -> None:
    """Half the low limit (LEL 10, H2S 10 mg/m3 = 7.06 ppm), half the TWA where there is one (CO 20 mg/m3 = 17.2 ppm) [BW]."""
    sensor = Sensor()
    assert sensor.levels(gas, still, drifted) == [Level.WITHIN, None]
    assert sensor.channel(gas).status is Status.UNDER


def test_oxygen_below_zero_is_danger_and_no_drift() -> None:
    assert Sensor().levels("O2", -1.0)[0] is not None


def test_a_combustible_sensor_without_oxygen_cannot_be_judged() -> None:
    """Golden vector 12: O2 9 % -> LEL status invalid."""
    sensor = Sensor()
    sensor.read(O2=9.0, LEL=0.0)
    assert (sensor.channel("LEL").status, sensor.channel("LEL").level) == (Status.INVALID, None)
    sensor.read(O2=10.0, LEL=0.0)
    assert sensor.channel("LEL").status is Status.OK


def test_a_high_reading_in_thin_oxygen_still_raises() -> None:
    """A starved sensor reads low, never high: what it shows beyond the limit is there."""
    sensor = Sensor()
    sensor.read(O2=9.0, LEL=15.0)
    assert sensor.channel("LEL").level is Level.LOW


def test_clean_and_steady_air_is_quiet() -> None:
    sensor = Sensor()
    assert all(sensor.read(O2=20.9, LEL=0.0, H2S=0.0, CO=0.0).values())  # the first word of all is news
    assert not any(sensor.read(O2=20.9, LEL=0.0, H2S=0.1, CO=0.0).values())
    assert sensor.read(O2=20.9, LEL=6.0) == {"O2": False, "LEL": True}
    assert sensor.read(O2=20.9, LEL=6.0) == {"O2": False, "LEL": False}  # it stands beyond a limit as before: told once
    assert sensor.read(LEL=0.0) == {"LEL": True}  # it has come back
    assert sensor.read(LEL=Status.FAULT) == {"LEL": True}


def test_a_rise_tells_when_it_reaches_the_limit() -> None:
    """H2S from 1 by 0.5 mg/m3 a second: 6.0 after ten seconds, so 8 s to the limit of 10."""
    sensor = Sensor({"H2S": "mg/m3"})
    sensor.levels("H2S", *(1.0 + 0.5 * i for i in range(11)))
    channel = sensor.channel("H2S")
    assert channel.slope == pytest.approx(0.5)
    assert channel.low_in_s == pytest.approx(8.0)


def test_falling_oxygen_tells_when_it_reaches_the_limit() -> None:
    sensor = Sensor()
    sensor.levels("O2", *(20.9 - 0.05 * i for i in range(11)))
    assert sensor.channel("O2").low_in_s == pytest.approx((20.4 - 19.5) / 0.05)


def test_at_the_very_limit_nothing_is_ahead_any_more() -> None:
    """O2 breaks its upper limit at > 23.5: at 23.5 it is within, and no time is left to speak of."""
    sensor = Sensor()
    sensor.levels("O2", *(22.5 + 0.1 * i for i in range(10)), 23.5)
    assert sensor.channel("O2").level is Level.PRE
    assert sensor.channel("O2").low_in_s is None


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 1.2, 1.1, 1.3, 1.2, 1.1],  # noise below the deadband
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0],  # falling
        [1.0, 2.0, 3.0, 4.0],  # too few points for a trend
    ],
)
def test_what_is_no_rise_reaches_nothing(values: list[float]) -> None:
    sensor = Sensor({"H2S": "mg/m3"})
    sensor.levels("H2S", *values)
    assert sensor.channel("H2S").low_in_s is None


def test_an_earlier_time_bends_no_trend() -> None:
    sensor = Sensor({"H2S": "mg/m3"})
    sensor.levels("H2S", *(1.0 + 0.5 * i for i in range(11)))
    sensor.at -= 30
    assert sensor.levels("H2S", 0.0) == [Level.WITHIN]
    assert sensor.channel("H2S").low_in_s is None


def test_rows_grow_and_are_used_again() -> None:
    gas = GasRows(LIMITS)
    bound = [gas.bind(UNITS) for _ in range(100)]
    assert len({row for rows in bound for row in rows.values()}) == 400
    new = gas.bind({"H2S": "mg/m3"})
    gas.inherit(bound[0], new)
    again = gas.bind({"O2": "% vol"})
    assert set(again.values()) <= set(bound[0].values())
    assert gas.at(again["O2"]).status is None


def test_over_range_goes_with_an_instrument_that_reads_otherwise_now() -> None:
    sensor = Sensor()
    sensor.read(H2S=Status.OVER)
    new = sensor.gas.bind({"H2S": "mg/m3", "CO": "ppm"})
    sensor.gas.inherit(sensor.rows, new)
    assert [sensor.gas.at(new[gas]).over_range for gas in ("H2S", "CO")] == [True, False]


def test_what_is_saved_is_all_of_it() -> None:
    sensor, twin = Sensor(), Sensor()
    sensor.read(O2=18.9, LEL=3.0, H2S=Status.OVER, CO=0.0)
    twin.rows = dict(zip(UNITS, twin.gas.load(sensor.gas.saved(list(sensor.rows.values()))), strict=True))
    for gas in UNITS:
        assert twin.channel(gas) == sensor.channel(gas)


def test_a_channel_takes_no_more_than_500_bytes() -> None:
    assert ROW_BYTES <= 500


def _one_by_one(sensor: Sensor, *read: tuple[str, float | None, Status]) -> tuple[list[str], list[str]]:
    """Feed one frame row by row; return the gases whose status is another, and those that are loud."""
    sensor.at += 1.0
    rows, values = [sensor.rows[gas] for gas, _, _ in read], [value for _, value, _ in read]
    told = sensor.gas.take_few(rows, values, [CODES[status] for _, _, status in read], [sensor.at] * len(read))
    other, loud = ([read[place][0] for place in some] for some in told)
    return other, loud


def test_row_by_row_calm_air_is_quiet_and_the_rest_is_judged() -> None:
    sensor = Sensor()
    for _ in range(2):
        sensor.read(O2=20.9, LEL=0.0, H2S=0.0, CO=0.0)
    assert sensor.gas.calm(sensor.rows["H2S"])
    assert _one_by_one(sensor, ("H2S", 0.1, Status.OK), ("CO", -0.1, Status.OK)) == ([], [])
    assert sensor.channel("H2S").value == pytest.approx(0.1 / 0.702, rel=0.01)
    assert _one_by_one(sensor, ("O2", 20.9, Status.OK), ("H2S", 7.1, Status.OK), ("CO", None, Status.FAULT)) == (
        ["CO"],
        ["H2S", "CO"],
    )
    assert (sensor.channel("H2S").level, sensor.channel("CO").level) == (Level.LOW, None)
    assert not sensor.gas.calm(sensor.rows["H2S"])


def test_row_by_row_a_faulty_reading_is_no_calm_one_whatever_number_comes_with_it() -> None:
    sensor = Sensor()
    for _ in range(2):
        sensor.read(O2=20.9)
    assert _one_by_one(sensor, ("O2", 20.9, Status.FAULT)) == (["O2"], ["O2"])
    assert sensor.channel("O2").level is None


def test_row_by_row_oxygen_that_turns_thin_is_known_to_the_sensor_that_burns_it_in_the_same_frame() -> None:
    sensor = Sensor()
    for _ in range(2):
        sensor.read(O2=20.9, LEL=0.0)
    other, _ = _one_by_one(sensor, ("LEL", 0.0, Status.OK), ("O2", 9.0, Status.OK))  # whichever comes first
    assert other == ["LEL"]
    assert sensor.channel("LEL").status is Status.INVALID


def test_what_is_latched_over_its_range_is_calm_no_more() -> None:
    sensor = Sensor()
    for _ in range(2):
        sensor.read(LEL=0.0, O2=20.9)
    assert sensor.gas.calm(sensor.rows["LEL"])
    sensor.gas.latch([sensor.rows["LEL"]])
    assert not sensor.gas.calm(sensor.rows["LEL"])
    assert sensor.levels("LEL", 0.0) == [None]


def test_all_rows_at_once_say_what_each_says() -> None:
    sensor = Sensor()
    sensor.read(O2=18.9, LEL=3.0, H2S=Status.FAULT, CO=0.0)
    for gas, rule, value, level in zip(sensor.rows, *sensor.gas.judged([*sensor.rows.values()]), strict=True):
        channel = sensor.channel(gas)
        assert sensor.gas.rules[rule] is channel.limits
        assert (None if level < 0 else value) == channel.value
        assert (None if level < 0 else Level(level)) is channel.level


def test_many_frames_in_one_step_are_judged_as_each_alone() -> None:
    """Six instruments are more rows than are judged one after the other (`FEW`): nothing about the site differs."""
    devices = [f"gas-{i}" for i in range(6)]
    together, alone = (Engine("yard", LIMITS, TIMINGS) for _ in range(2))
    for engine in (together, alone):
        engine.receive([PlanReceived(a_plan(instruments=[an_instrument(device) for device in devices]))], EPOCH)
    for second in range(1, 15):
        at = EPOCH + second
        frames = [a_frame(second, at=at, device=device, h2s_ppm=7.1 if second == 9 else 0.0) for device in devices[1:]]
        faulty = {"CO": Status.FAULT} if second == 12 else {}
        frames.append(a_frame(second, at=at, device=devices[0], statuses=faulty))
        assert len(frames) * len(UNITS) > FEW
        events = together.receive([FrameReceived(frame) for frame in frames], at)
        one_by_one = [event for frame in frames for event in alone.receive([FrameReceived(frame)], at)]
        assert {event.id for event in events} == {event.id for event in one_by_one}
        assert together.site.alarms == alone.site.alarms
        rows = [row for watch in together.site.instruments.values() for row in watch.rows.values()]
        assert [together.site.gas.at(row) for row in rows] == [alone.site.gas.at(row) for row in rows]
    assert {alarm.kind for alarm in together.site.alarms.values() if alarm.open} >= {"GAS_LOW", "SENSOR_FAULT"}
