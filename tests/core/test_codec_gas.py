"""What a gas instrument says, byte for byte (I02, I11); and that nothing else is taken for it."""

import math
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from manway import channels
from manway.codec_gas import (
    GasReading,
    InstrumentReport,
    ReadingFlag,
    Sensor,
    SensorKind,
    SetPoint,
    SetPointKind,
    decode_instrument,
    decode_reading,
    decode_setpoints,
    encode_instrument,
    encode_reading,
    encode_setpoints,
    is_authentic,
    sign_reading,
)
from manway.entities import Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.runtime import settings
from tests.kit.vectors import FOLDER

VECTORS: dict[str, Any] = tomllib.loads((FOLDER / "instrument.toml").read_text("utf-8"))
KEY = bytes(range(VECTORS["device_key_from"], VECTORS["device_key_from"] + 32))
ID = bytes.fromhex(VECTORS["device_id"])
PLAIN, SIGNED = (bytes.fromhex(VECTORS["reading"][name]) for name in ("plain", "signed"))
ABOUT, POINTS = (bytes.fromhex(VECTORS[name]["message"]) for name in ("instrument", "setpoints"))
AIR = {
    "O2": Reading(Status.OK, 20.9),
    "LEL": Reading(Status.OK, 0.0),
    "CO": Reading(Status.OK, 12.0),
    "H2S": Reading(Status.OVER),
}
READING = GasReading(5, 1234, 36610, ReadingFlag.A1, AIR)


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


# -- readings ---------------------------------------------------------------------------------------------------------


def test_i02_a_reading_is_the_31_bytes_of_the_vector_both_ways() -> None:
    assert len(PLAIN) == 31
    assert encode_reading(READING) == PLAIN
    assert decode_reading(PLAIN) == READING


def test_i11_a_signed_reading_is_the_39_bytes_of_the_vector_and_proves_its_device() -> None:
    assert sign_reading(READING, KEY, ID) == SIGNED
    assert len(SIGNED) == 39
    said = decode_reading(SIGNED)
    assert (said.mac.hex(), said.flags) == ("44406529fb85114b", ReadingFlag.A1 | ReadingFlag.MAC_PRESENT)
    assert encode_reading(said) == SIGNED
    assert is_authentic(SIGNED, KEY, ID)
    assert not is_authentic(SIGNED, bytes(32), ID)
    assert not is_authentic(SIGNED, KEY, bytes(8))
    assert not is_authentic(PLAIN, KEY, ID), "what is not signed proves nothing"
    assert not is_authentic(b"", KEY, ID)


def test_i11_a_thousand_frames_prove_themselves_and_no_flipped_bit_does() -> None:
    for seq in range(1, 1001):
        assert is_authentic(sign_reading(replace(READING, seq=seq), KEY, ID), KEY, ID)
    for bit in range(len(SIGNED) * 8):
        bent = bytearray(SIGNED)
        bent[bit // 8] ^= 1 << bit % 8
        assert not is_authentic(bytes(bent), KEY, ID)


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        (PLAIN[:-1], "30 bytes for 4 channels"),
        (PLAIN + b"\x00", "32 bytes for 4 channels"),
        (with_byte(PLAIN, 1, 0x81), "31 bytes for 4 channels"),
        (with_byte(SIGNED, 1, 0x01), "39 bytes for 4 channels"),
        (b"", "0 bytes"),
        (PLAIN[:10], "10 bytes"),
        (with_byte(PLAIN, 0, 0x24), "version 2"),
        (with_byte(PLAIN, 0, 0x10)[:11], "0 channels"),
        (with_byte(PLAIN, 0, 0x1D) + bytes(45), "13 channels"),
        (with_byte(PLAIN, 11, 99), "channel 99 is not in the table"),
        (with_byte(PLAIN, 16, 1), "a channel is named twice"),
        (with_byte(PLAIN, 12, 8), "status 8 of O2"),
        (with_byte(PLAIN, 12, 4), "status 4 of O2 with the number 209"),
        (with_byte(PLAIN, 27, 0), "status 0 of H2S with the number -32768"),
        (with_byte(PLAIN, 15, 5), "exponent 5"),
        (with_byte(PLAIN, 15, 0xF9), "exponent -7"),
        (PLAIN[:4] + bytes(4) + PLAIN[8:], "sequence numbers begin with 1"),
    ],
    ids=str,
)
def test_i02_what_is_not_exactly_a_reading_is_rejected_with_its_reason(bent: bytes, says: str) -> None:
    with pytest.raises(DecodeRejected, match=says):
        decode_reading(bent)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_i02_every_status_travels_without_a_number(status: Status) -> None:
    data = encode_reading(replace(READING, channels={"LEL": Reading(status)}))
    assert data[-3:-1] == (-32768).to_bytes(2, "little", signed=True)
    assert decode_reading(data).channels == {"LEL": Reading(status)}


def test_a_message_of_twelve_channels_is_the_longest() -> None:
    said = {name: Reading(Status.OK, 1.0) for name in list(channels.CODES)[:13]}
    twelve = replace(READING, channels=dict(list(said.items())[:12]))
    assert decode_reading(encode_reading(twelve)) == twelve
    for wrong in (said, {}):
        with pytest.raises(ValueError, match="channels"):
            encode_reading(replace(READING, channels=wrong))


def test_ticks_go_round_after_nineteen_days() -> None:
    assert decode_reading(encode_reading(replace(READING, tick=(1 << 24) + 7))).tick == 7


def test_a_channel_of_no_code_is_not_sent() -> None:
    with pytest.raises(ValueError, match="channel argon has no code"):
        encode_reading(replace(READING, channels={"argon": Reading(Status.OK, 1.0)}))


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (20.9, (209, -1)),
        (0.0, (0, 0)),
        (-0.0, (0, 0)),
        (12.0, (12, 0)),
        (120.0, (120, 0)),
        (-3.5, (-35, -1)),
        (0.001, (1, -3)),
        (32767.0, (32767, 0)),
        (40_000.0, (4000, 1)),
        (100_000.0, (10_000, 1)),
    ],
)
def test_a_number_is_scaled_without_binary_noise(value: float, wire: tuple[int, int]) -> None:
    assert channels.scaled(value) == wire
    assert channels.number(*wire) == value


@pytest.mark.parametrize("value", [0.1 + 0.2, 32768.5, 1e-7, 4e12, math.inf, -math.inf, math.nan])
def test_a_number_that_16_bits_cannot_hold_is_not_bent(value: float) -> None:
    with pytest.raises(ValueError, match=r"16 bits|can be sent"):
        channels.scaled(value)


@given(mantissa=st.integers(-32767, 32767), exponent=st.integers(-6, 4))
def test_every_number_of_the_wire_comes_back_as_itself(mantissa: int, exponent: int) -> None:
    value = channels.number(mantissa, exponent)
    assert channels.number(*channels.scaled(value)) == value
    assert repr(value) == repr(float(f"{mantissa}e{exponent}")) or value == 0


@pytest.mark.parametrize("profile", ["CN", "US_GENERAL"])
def test_every_gas_of_the_table_is_one_the_limits_know_by_the_same_name(profile: str) -> None:
    limits = settings.limits(profile)
    gases = [name for name in channels.CODES if "_" not in name]
    assert {gas for gas in gases if limits.of(gas) is None} <= {"NO", "H2", "O3", "CH4", "VOC"}
    for gas in gases:
        if (rule := limits.of(gas)) is not None:
            assert rule.factor(channels.UNITS[gas], limits.temperature_c) > 0


# -- noise ------------------------------------------------------------------------------------------------------------

DECODERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_reading, PLAIN),
    (decode_reading, SIGNED),
    (decode_instrument, ABOUT),
    (decode_setpoints, POINTS),
]


def taken(decode: Callable[[bytes], object], message: bytes) -> bool:
    """Say whether a message is taken; any other exception than the one of the codec fails the test."""
    try:
        decode(message)
    except DecodeRejected:
        return False
    return True


@pytest.mark.parametrize(("decode", "data"), DECODERS, ids=["plain", "signed", "instrument", "set-points"])
def test_every_flipped_bit_is_rejected_or_another_message_and_every_cut_is_rejected(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    bent = [data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :] for at in range(len(data) * 8)]
    seen = [taken(decode, message) for message in bent]
    assert any(seen), "a number is another number"
    assert not all(seen), "a version is none"
    assert not any(taken(decode, data[:length]) for length in range(len(data)))
    assert not any(taken(decode, data + bytes(more)) for more in range(1, 40))


@given(st.binary(max_size=90))
def test_random_bytes_are_rejected_or_a_whole_message(data: bytes) -> None:
    for decode, _ in DECODERS:
        taken(decode, data)


# -- instrument and set-points ----------------------------------------------------------------------------------------

AT = 1782864000
REPORT = InstrumentReport(
    device_id=ID,
    boot=5,
    firmware=(0, 1, 4, 2),
    bump_at=AT,
    bump_due=AT + 86_400,
    calibration_due=AT + 180 * 86_400,
    warmup_s=30,
    battery_percent=87,
    sensors=(
        Sensor("O2", SensorKind.EC, 30.0, 0.0, 30),
        Sensor("LEL", SensorKind.PELLISTOR, 100.0, 4.4, 30),
        Sensor("CO", SensorKind.EC, 500.0, 0.0, 30),
        Sensor("H2S", SensorKind.EC, 100.0, 0.0, 30),
    ),
)


def test_i02_an_instrument_describes_itself_as_the_vector_says() -> None:
    assert encode_instrument(REPORT) == ABOUT
    assert decode_instrument(ABOUT) == REPORT


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, 2, "version 2"),
        (29, 101, "battery 101 %"),
        (30, 0, "0 sensors"),
        (30, 13, "13 sensors"),
        (30, 3, "63 bytes for 3 sensors"),
        (31, 77, "channel 77"),
        (32, 5, "5 is not a valid SensorKind"),
        (33, 0, "full scale 0"),
        (39, 1, "a channel is named twice"),
    ],
)
def test_what_is_not_exactly_an_instrument_is_rejected(at: int, value: int, says: str) -> None:
    with pytest.raises(DecodeRejected, match=says):
        decode_instrument(with_byte(ABOUT, at, value))


def test_an_instrument_may_not_know_its_battery() -> None:
    assert decode_instrument(with_byte(ABOUT, 29, 255)).battery_percent == 255


SET_POINTS = (
    SetPoint("O2", SetPointKind.LOW, enabled=True, value=19.5),
    SetPoint("O2", SetPointKind.HIGH, enabled=True, value=23.5),
    SetPoint("LEL", SetPointKind.LOW, enabled=True, value=10.0),
    SetPoint("LEL", SetPointKind.HIGH, enabled=True, value=20.0),
    SetPoint("H2S", SetPointKind.LOW, enabled=True, value=7.0),
    SetPoint("H2S", SetPointKind.HIGH, enabled=False, value=0.0),
    SetPoint("H2S", SetPointKind.STEL, enabled=True, value=15.0),
    SetPoint("CO", SetPointKind.TWA, enabled=True, value=35.0),
)


def test_i09_set_points_are_read_as_they_are_set_and_what_is_off_reads_off() -> None:
    assert encode_setpoints(SET_POINTS) == POINTS
    assert decode_setpoints(POINTS) == SET_POINTS
    assert decode_setpoints(b"\x00") == ()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no bytes"),
        (POINTS[:-1], "48 bytes for 8 set-points"),
        (with_byte(POINTS, 1, 77), "channel 77"),
        (with_byte(POINTS, 2, 5), "5 is not a valid SetPointKind"),
        (with_byte(POINTS, 3, 2), "enabled 2"),
        (with_byte(POINTS, 8, 1), "an alarm is named twice"),
        (POINTS[:4] + b"\x00\x80" + POINTS[6:], "without a number"),
    ],
    ids=str,
)
def test_what_is_not_exactly_set_points_is_rejected(data: bytes, says: str) -> None:
    with pytest.raises(DecodeRejected, match=says):
        decode_setpoints(data)
