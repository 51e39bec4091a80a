"""The simulated instrument behaves like hardware: lag, warm-up, range, drift, poison, pump, bump test, wearer (I01 to I15)."""

import math
import re
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.instrument_acts import ACTS, DRIFT_PER_S, LAX_H2S_PPM, WARMUP_S
from firmware_sim.sensor import FIELD, INFRARED_CH4, LAMP_VOC, YARD, Make, Sensor
from firmware_sim.world import Air
from manway.codec_adv import (
    InstrumentAdvertisement,
    InstrumentFlag,
    Level,
    advertisement_key,
    decode_advertisement,
)
from manway.codec_gas import (
    GasReading,
    ReadingFlag,
    SensorKind,
    SetPointKind,
    decode_instrument,
    decode_reading,
    decode_setpoints,
    is_authentic,
)
from manway.entities import Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.runtime.yard import SETPOINTS
from tests.kit.clock import EPOCH

DAY_S = 86_400
OWN = Enrolment(bytes.fromhex("0000000000000021"), bytes(range(0x40, 0x60)))
QUIET = tuple(replace(make, noise=0.0) for make in FIELD)


_NOISE = Random(1)  # noqa: S311  a repeatable instrument, not a secret


class Bench:
    """An instrument without noise, its air in hand, and a second at a time."""

    def __init__(self, *, boot: int = 7, signs: bool = False, **made: object) -> None:
        self.air = Air()
        own = Enrolment(OWN.device_id, OWN.device_key, signs)
        made = {"makes": QUIET, "enrolment": own} | made
        self.now = EPOCH
        self.instrument = VirtualInstrument("gas-1", "YD4-1", self.air, boot, self.now, _NOISE, **made)  # type: ignore[arg-type]

    def act(self, name: str) -> None:
        ACTS[name](self.instrument, self.now)

    def raw(self) -> bytes:
        self.now += 1
        data = self.instrument.reading(self.now)
        assert data is not None
        return data

    def read(self, seconds: int = 1) -> GasReading:
        for _ in range(seconds - 1):
            self.raw()
        return decode_reading(self.raw())

    def gas(self, name: str, seconds: int = 1) -> Reading:
        return self.read(seconds).channels[name]

    def heard(self) -> InstrumentAdvertisement:
        data = self.instrument.advertisement(self.now)
        said = decode_advertisement(OWN.device_id, advertisement_key(OWN.device_key), data)
        assert isinstance(said, InstrumentAdvertisement)
        return said


# -- frames -----------------------------------------------------------------------------------------------------------


def test_i01_four_gases_are_31_bytes_and_39_signed_and_5_more_for_each_channel_beside() -> None:
    assert len(Bench().raw()) == 31
    assert len(Bench(signs=True).raw()) == 39
    beside = Bench(beside=("battery_percent", "fan_a"), worn=True)
    beside.air.fan_on = True
    said = decode_reading(beside.raw()).channels
    assert [said[name].value for name in ("battery_percent", "fan_a", "wearer_state")] == [86.0, 2.4, 0.0]


def test_i03_a_frame_a_second_for_ten_minutes_each_numbered_next_and_a_reboot_counts_anew() -> None:
    bench = Bench()
    frames = [bench.read() for _ in range(600)]
    assert [frame.seq for frame in frames] == list(range(1, 601))
    assert {b.tick - a.tick for a, b in pairwise(frames)} == {10}
    assert bench.instrument.sent == (7, 600)
    bench.instrument.reboot(bench.now)
    after = bench.read()
    assert (after.boot, after.seq, after.tick) == (8, 1, 10)


def test_the_packed_wire_has_the_low_16_bits_of_the_boot() -> None:
    bench = Bench(boot=0x1_0005)
    assert bench.read().boot == 5
    assert bench.instrument.sent == (5, 1)
    assert decode_instrument(bench.instrument.about()).boot == 5
    json = Bench(boot=0x1_0005).instrument
    frame = json.frame(EPOCH + 1)
    assert frame is not None
    assert (frame.b, json.sent) == (0x1_0005, (0x1_0005, 1))


def test_both_languages_say_the_same_air() -> None:
    packed, json = Bench(worn=True), Bench(worn=True)
    for bench in (packed, json):
        bench.air.concentration |= {"H2S": 12.0, "O2": 18.4}
        bench.instrument.faults["CO"] = "fault"
    said, frame = packed.read(20), None
    for second in range(1, 21):
        frame = json.instrument.frame(EPOCH + second)
    assert frame is not None
    assert {name: column[0] for name, column in frame.v.items() if name not in ("fan_a", "battery_percent")} == {
        name: reading.value for name, reading in said.channels.items()
    }
    assert frame.q == {"CO": ["fault"]}
    assert set(json.instrument.birth().ch) == set(frame.v)
    assert json.instrument.birth(online=False).online is False
    assert set(Bench().instrument.birth().ch) == set(frame.v) - {"wearer_state"}


def test_i13_a_silent_instrument_says_nothing_and_what_was_not_sent_is_not_numbered() -> None:
    bench = Bench()
    bench.raw()
    bench.instrument.silent = True
    assert bench.instrument.reading(bench.now + 1) is None
    assert bench.instrument.frame(bench.now + 2) is None
    bench.instrument.silent = False
    bench.now += 2
    assert bench.read().seq == 2


def test_i13_frames_that_nobody_heard_are_missed_and_none_comes_twice() -> None:
    bench = Bench()
    seen = {bench.read().seq} | {bench.read(60).seq}
    assert seen == {1, 61}


# -- sensors ----------------------------------------------------------------------------------------------------------


def test_i04_no_number_before_it_is_warm() -> None:
    bench = Bench(warmup_s=30.0)
    for second in range(1, 30):
        said = bench.read()
        assert {reading.status for reading in said.channels.values()} == {Status.WARMUP}, second
        assert said.flags == ReadingFlag.WARMUP
    assert {reading.status for reading in bench.read().channels.values()} == {Status.OK}


def test_i04_the_act_warmup_is_a_new_boot() -> None:
    bench = Bench()
    bench.act("warmup")
    assert (bench.read().boot, bench.gas("O2").status) == (8, Status.WARMUP)
    assert bench.gas("O2", int(WARMUP_S)).status is Status.OK
    assert decode_instrument(bench.instrument.about()).warmup_s == WARMUP_S


@pytest.mark.parametrize("make", [*FIELD, INFRARED_CH4, LAMP_VOC], ids=lambda make: make.channel)
def test_i05_nine_tenths_of_a_step_within_its_t90(make: Make) -> None:
    sensor = Sensor(make, 0.0)
    step = make.full_scale / 2
    for _ in range(round(make.t90_s)):
        sensor.follow(step, 1.0, honest=True)
    assert sensor.shown == pytest.approx(step * 0.9)


def test_a_reading_stays_on_the_display_whatever_the_noise() -> None:
    sensor = Sensor(YARD[2], 0.0)
    assert sensor.reading(-3.0, 20.9) == Reading(Status.OK, 0.0)
    assert sensor.reading(300.0, 20.9) == Reading(Status.OK, 100.0)
    assert sensor.reading(0.26, 20.9) == Reading(Status.OK, 0.3)


def test_i06_over_its_range_it_says_so_and_never_0_again_before_a_bump_test() -> None:
    bench = Bench()
    bench.air.concentration["LEL"] = 300.0
    said = bench.read(40)
    assert said.channels["LEL"] == Reading(Status.OVER)
    assert said.flags & ReadingFlag.A2
    assert bench.heard().level is Level.A2
    bench.air.concentration["LEL"] = 0.0
    assert bench.gas("LEL", 600).status is Status.OVER
    bench.instrument.reboot(bench.now)
    assert bench.gas("LEL", 60).status is Status.OVER, "switching it off proves nothing"
    bench.instrument.bump(bench.now)
    bench.read(31)
    assert bench.gas("LEL", 600) == Reading(Status.OK, 0.0)


def test_i06_other_firmware_forgets_an_over_range_and_reads_0_ever_after() -> None:
    bench = Bench(makes=[replace(make, noise=0.0) for make in YARD])
    bench.act("over_range_then_zero")
    assert bench.gas("LEL", 5).status is Status.OVER
    assert bench.gas("LEL", 60) == Reading(Status.OK, 0.0)
    bench.air.concentration["LEL"] = 50.0
    assert bench.gas("LEL", 60) == Reading(Status.OK, 0.0), "a burnt sensor"
    bench.air.concentration["H2S"] = 300.0
    bench.read(60)
    bench.air.concentration["H2S"] = 20.0
    assert bench.gas("H2S", 60).value == pytest.approx(20.0, abs=0.3), "gas burns no electrochemical cell"


def test_i07_a_pulled_sensor_is_a_fault_and_the_others_go_on() -> None:
    bench = Bench()
    bench.instrument.faults["CO"] = "fault"
    said = bench.read()
    assert said.channels["CO"] == Reading(Status.FAULT)
    assert said.channels["O2"].value == 20.9
    assert said.flags == ReadingFlag.FAULT
    assert bench.heard().flags == InstrumentFlag.FAULT


def test_i07_a_blocked_pump_is_told_within_5_s_and_nothing_new_reaches_the_sensors() -> None:
    bench = Bench()
    bench.raw()
    bench.act("pump_block")
    bench.air.concentration["H2S"] = 80.0
    said = bench.read(5)
    assert {reading.status for reading in said.channels.values()} == {Status.PUMP}
    assert said.flags == ReadingFlag.PUMP_FAULT
    assert bench.heard().flags == InstrumentFlag.PUMP
    assert bench.instrument.chamber.sensors["H2S"].shown == 0.0
    bench.instrument.chamber.pump_blocked_at = math.inf
    assert bench.gas("H2S", 30).value == pytest.approx(72.0, abs=0.2)


def test_i08_negative_drift_is_no_number() -> None:
    bench = Bench()
    bench.act("negative")
    said = bench.read().channels
    assert [said[gas].status for gas in ("LEL", "H2S", "CO")] == [Status.UNDER] * 3
    assert said["O2"].status is Status.OK


def test_i08_a_catalytic_sensor_cannot_judge_without_oxygen_and_an_infrared_one_can() -> None:
    bench = Bench(makes=(*QUIET, INFRARED_CH4))
    bench.act("low_o2")
    said = bench.read(200).channels
    assert said["O2"].value == pytest.approx(8.0, abs=0.1)
    assert said["LEL"] == Reading(Status.INVALID)
    assert said["CH4"].status is Status.OK


def test_an_instrument_without_oxygen_sensor_believes_in_clean_air() -> None:
    lel = Bench(makes=[make for make in QUIET if make.channel == "LEL"])
    lel.act("low_o2")
    assert lel.gas("LEL", 100).status is Status.OK


def test_drift_creeps_and_a_calibration_ends_it() -> None:
    bench = Bench()
    bench.act("drift")
    assert bench.gas("H2S", 120).value == pytest.approx(100.0 * DRIFT_PER_S * 120, abs=0.1)
    for sensor in bench.instrument.chamber.sensors.values():
        sensor.drift_per_s = 0.0
    bench.instrument.calibrate(bench.now)
    assert bench.gas("H2S", 300).value == pytest.approx(2.5, abs=0.4), "known gas is set to what it had reached by then"


def test_stuck_sensors_say_the_same_for_ever_and_fail_their_bump_test() -> None:
    bench = Bench()
    bench.raw()
    bench.act("stuck")
    bench.air.concentration |= {"H2S": 200.0, "O2": 5.0}
    said = bench.read(100)
    assert [reading.value for reading in said.channels.values()] == [20.9, 0.0, 0.0, 0.0]
    assert said.seq == 101
    bench.instrument.bump(bench.now)
    bench.read(40)
    assert decode_instrument(bench.instrument.about()).bump_at == EPOCH


# -- bump test, calibration, set-points -------------------------------------------------------------------------------


def test_i10_a_real_bump_test_sounds_every_alarm_and_moves_the_date() -> None:
    bench = Bench()
    before = decode_instrument(bench.instrument.about())
    bench.now += 2 * DAY_S
    assert bench.read().flags == ReadingFlag.BUMP_OVERDUE
    assert bench.heard().flags == InstrumentFlag.DUE
    bench.instrument.bump(bench.now)
    said = bench.read(29)
    assert said.channels["H2S"].value == pytest.approx(25.0 * 0.9, abs=0.3)
    assert (bench.heard().level, bench.instrument.horn) == (Level.A2, True)
    ended = bench.now + 1
    bench.read(2)
    after = decode_instrument(bench.instrument.about())
    assert (before.bump_at, after.bump_at) == (int(EPOCH), int(ended))
    assert after.bump_due == int(ended) + DAY_S
    assert after.calibration_due == before.calibration_due
    assert bench.read(300).flags == ReadingFlag(0)


def test_i10_no_gas_no_bump_test() -> None:
    bench = Bench()
    bench.instrument.bump(bench.now, {"O2": 18.0, "LEL": 50.0, "H2S": 25.0, "CO": 100.0}, seconds=3)
    bench.read(200)
    assert decode_instrument(bench.instrument.about()).bump_at == EPOCH, "too short"
    bench.instrument.bump(bench.now, {"H2S": 25.0})
    bench.read(200)
    assert decode_instrument(bench.instrument.about()).bump_at == EPOCH, "one gas is not all"
    with pytest.raises(ValueError, match="no sensor for NH3: choose of O2, LEL, H2S, CO"):
        bench.instrument.bump(bench.now, {"NH3": 25.0})


def test_i10_a_poisoned_sensor_looks_well_in_clean_air_and_fails_its_bump_test() -> None:
    bench = Bench()
    bench.act("poison")
    assert bench.read(10).flags == ReadingFlag(0)
    bench.air.concentration["LEL"] = 40.0
    assert bench.gas("LEL", 60).value == pytest.approx(2.0, abs=0.1)
    bench.air.concentration["LEL"] = 0.0
    bench.instrument.bump(bench.now)
    said = bench.read(200)
    assert said.channels["LEL"] == Reading(Status.POISON)
    assert said.flags == ReadingFlag.FAULT
    assert decode_instrument(bench.instrument.about()).bump_at == EPOCH
    bench.instrument.calibrate(bench.now)
    assert bench.gas("LEL", 100).status is Status.POISON, "there is nothing left to adjust"


def test_i10_a_calibration_moves_both_dates() -> None:
    bench = Bench()
    bench.instrument.calibrate(bench.now, seconds=60)
    bench.read(61)
    after = decode_instrument(bench.instrument.about())
    assert (after.bump_at, after.calibration_due) == (EPOCH + 60, EPOCH + 60 + 180 * DAY_S)


def test_a_dead_electrochemical_cell_is_a_fault_after_its_bump_test() -> None:
    bench = Bench()
    bench.instrument.chamber.sensors["H2S"].gain = 0.0
    bench.instrument.bump(bench.now)
    assert bench.gas("H2S", 40) == Reading(Status.FAULT)


def test_i09_its_set_points_are_what_the_ledger_has_and_what_somebody_sets() -> None:
    bench = Bench()
    low = {p.channel: p.value for p in decode_setpoints(bench.instrument.setpoints()) if p.kind is SetPointKind.LOW}
    assert low == SETPOINTS
    bench.act("lax_setpoint")
    bench.instrument.set_point("CO", SetPointKind.LOW, 25.0, enabled=False)
    points = {(p.channel, p.kind): p for p in decode_setpoints(bench.instrument.setpoints())}
    assert points["H2S", SetPointKind.LOW].value == LAX_H2S_PPM
    assert points["CO", SetPointKind.LOW].enabled is False


# -- its own alarms, its wearer, its radio ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("air", "level", "channel"),
    [
        ({}, Level.WITHIN, ""),
        ({"O2": 19.0}, Level.A1, "O2"),
        ({"O2": 25.0}, Level.A1, "O2"),
        ({"H2S": 8.0}, Level.A1, "H2S"),
        ({"H2S": 8.0, "CO": 60.0}, Level.A2, "CO"),
        ({"LEL": 300.0}, Level.A2, "LEL"),
    ],
)
def test_i14_i15_level_horn_and_broadcast_follow_the_air(air: dict[str, float], level: Level, channel: str) -> None:
    bench = Bench()
    assert bench.heard().level is Level.WITHIN, "before its first frame"
    bench.air.concentration |= air
    said = bench.read(200)
    heard = bench.heard()
    assert (heard.level, heard.channel, heard.seq) == (level, channel, 200)
    assert bench.instrument.horn is (level >= Level.A1)
    assert said.flags == {Level.A2: ReadingFlag.A1 | ReadingFlag.A2, Level.A1: ReadingFlag.A1}.get(level, ReadingFlag(0))


def test_i15_the_horn_needs_no_link_and_no_frame_to_be_heard() -> None:
    bench = Bench()
    bench.air.concentration["H2S"] = 30.0
    bench.instrument.silent = True
    for _ in range(60):
        bench.now += 1
        bench.instrument.reading(bench.now)
    assert (bench.heard().level, bench.instrument.horn) == (Level.A2, True)


def test_an_alarm_that_is_switched_off_or_set_to_0_is_none() -> None:
    bench = Bench()
    bench.instrument.set_point("H2S", SetPointKind.LOW, 0.0)
    bench.instrument.set_point("H2S", SetPointKind.HIGH, 14.0, enabled=False)
    bench.air.concentration["H2S"] = 50.0
    bench.read(100)
    assert (bench.heard().level, bench.instrument.horn) == (Level.WITHIN, False)


def test_i14_nothing_is_known_of_the_air_while_it_warms_up() -> None:
    bench = Bench(warmup_s=30.0)
    bench.read()
    assert (bench.heard().level, bench.heard().flags) == (Level.UNKNOWN, InstrumentFlag.WARMUP)


def test_i11_every_frame_and_broadcast_proves_its_device_and_with_a_wrong_key_none() -> None:
    bench = Bench(signs=True)
    assert all(is_authentic(bench.raw(), OWN.device_key, OWN.device_id) for _ in range(1000))
    bench.act("bad_mac")
    assert not is_authentic(bench.raw(), OWN.device_key, OWN.device_id)
    with pytest.raises(DecodeRejected, match="the mac is not this device's"):
        bench.heard()


def test_i12_a_call_is_told_at_once_and_stays_until_it_is_taken_back() -> None:
    bench = Bench(worn=True)
    wearer = bench.instrument.wearer
    assert wearer is not None
    assert bench.gas("wearer_state").value == 0
    bench.act("sos")
    assert bench.gas("wearer_state").value == 1
    assert (bench.heard().flags, bench.instrument.horn) == (InstrumentFlag.HELP, True)
    wearer.move()
    assert bench.gas("wearer_state", 60).value == 1
    wearer.take_back()
    assert bench.gas("wearer_state").value == 0


@pytest.mark.parametrize(("act", "after_s", "code"), [("no_motion", 120, 2), ("fall", 30, 3)])
def test_i12_who_lies_still_or_fell_is_told_of_by_its_rule(act: str, after_s: int, code: int) -> None:
    bench = Bench(worn=True)
    wearer = bench.instrument.wearer
    assert wearer is not None
    bench.act(act)
    assert bench.gas("wearer_state", after_s - 1).value == 0
    assert bench.gas("wearer_state").value == code
    wearer.move()
    assert bench.gas("wearer_state").value == 0


@pytest.mark.parametrize("act", ["sos", "no_motion", "fall"])
def test_nobody_calls_from_an_instrument_that_nobody_wears(act: str) -> None:
    with pytest.raises(ValueError, match="nobody wears gas-1"):
        Bench().act(act)


def test_a_counter_that_stands_and_a_frame_that_comes_twice() -> None:
    bench = Bench()
    first = bench.raw()
    bench.act("repeat_frame")
    assert bench.raw() == first
    assert bench.read().seq == 2
    bench.act("seq_stands")
    a, b = bench.read(), bench.read()
    assert (a.seq, b.seq, b.tick - a.tick) == (2, 2, 10)
    json = Bench()
    one = json.instrument.frame(EPOCH + 1)
    json.act("repeat_frame")
    assert json.instrument.frame(EPOCH + 2) == one
    early = Bench()
    early.act("repeat_frame")
    early.act("seq_stands")
    assert early.read().seq == 1, "there is nothing to repeat yet, and numbers begin with 1"


def test_a_battery_runs_down_to_nothing() -> None:
    bench = Bench(battery_life_s=1000.0, beside=("battery_percent",))
    assert bench.gas("battery_percent", 100).value == 76.0
    assert bench.heard().battery_percent == 76
    assert bench.gas("battery_percent", 2000).value == 0.0


def test_every_kind_of_sensor_and_every_named_fault_is_there() -> None:
    assert {make.kind for make in (*FIELD, INFRARED_CH4, LAMP_VOC)} == set(SensorKind)
    named = "warmup stuck drift negative over_range_then_zero poison pump_block low_o2 seq_stands repeat_frame bad_mac"
    assert set(ACTS) == {*named.split(), "lax_setpoint", "sos", "no_motion", "fall"}


def test_every_row_of_the_conformance_list_has_its_test() -> None:
    tests = Path(__file__).parents[1]
    found = {row for path in tests.rglob("test_*.py") for row in re.findall(r"def test_(?:i\d\d_)*?(i\d\d)_", path.read_text())}
    assert found >= {f"i{row:02d}" for row in range(1, 16)}
