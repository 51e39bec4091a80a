"""What locks and instruments broadcast, byte for byte (I14), and who can have said it."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway import gatt
from manway.codec_adv import (
    InstrumentAdvertisement,
    InstrumentFlag,
    Level,
    LockAdvertisement,
    advertisement_key,
    advertising_data,
    decode_advertisement,
    encode_instrument_advertisement,
    encode_lock_advertisement,
)
from manway.entities import Bolt, Door
from manway.errors import DecodeRejected
from tests.core.test_codec_gas import ID, KEY, VECTORS

WHOLE = bytes.fromhex(VECTORS["advertisement"]["whole"])
KEY_ON_AIR = advertisement_key(KEY)
SAID = InstrumentAdvertisement(Level.A1, InstrumentFlag(0), "H2S", 87, 1234)
LOCK = LockAdvertisement(
    Bolt.RETRACTED,
    Door.OPEN,
    tampered=True,
    session_open=True,
    enrolment=False,
    session=2,
    battery_percent=90,
    log_seq=0xFEDC,
)


def sealed(body: bytes) -> bytes:
    """Return a body with a right mac: as a device of other firmware would send it."""
    return body + hmac.digest(KEY_ON_AIR, ID + body, "sha256")[:4]


def test_i14_an_instruments_advertisement_is_the_31_bytes_of_the_vector() -> None:
    data = encode_instrument_advertisement(SAID, ID, KEY_ON_AIR)
    assert advertising_data(gatt.GAS_SERVICE, data) == WHOLE
    assert len(WHOLE) == 31
    assert decode_advertisement(ID, KEY_ON_AIR, data) == SAID


def test_a_locks_advertisement_says_bolt_door_and_case() -> None:
    data = encode_lock_advertisement(LOCK, ID, KEY_ON_AIR)
    assert data[:6].hex() == "1172025adcfe"  # 0b01_1_10_010: session, case, door open, bolt retracted
    assert decode_advertisement(ID, KEY_ON_AIR, data) == LOCK
    assert advertising_data(gatt.LOCK_SERVICE, data)[:5].hex() == "0201061b21"


def test_numbers_are_broadcast_by_their_low_16_bits() -> None:
    calm = InstrumentAdvertisement(Level.WITHIN, InstrumentFlag.DUE, "", 255, 65_537)
    data = encode_instrument_advertisement(calm, ID, KEY)
    said = decode_advertisement(ID, KEY, data)
    assert isinstance(said, InstrumentAdvertisement)
    assert (said.seq, said.channel, said.battery_percent) == (1, "", 255)


@pytest.mark.parametrize("at", range(80))
def test_no_flipped_bit_is_the_devices_word(at: int) -> None:
    data = bytearray(WHOLE[-10:])
    data[at // 8] ^= 1 << at % 8
    with pytest.raises(DecodeRejected, match="the mac is not this device's"):
        decode_advertisement(ID, KEY_ON_AIR, bytes(data))


def test_i11_another_key_another_id_or_none_at_all_proves_nothing() -> None:
    for device_id, key in ((ID, KEY), (bytes(8), KEY_ON_AIR), (ID, b"")):
        with pytest.raises(DecodeRejected, match="the mac is not this device's"):
            decode_advertisement(device_id, key, WHOLE[-10:])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("210204570100", "version 2, kind 1"),
        ("130204570100", "version 1, kind 3"),
        ("120204650100", "battery 101 %"),
        ("120263570100", "channel 99 is not in the table"),
        ("110700570100", "7 is not a valid Bolt"),
        ("111900570100", "3 is not a valid Door"),
        ("110105570100", "session 5"),
    ],
)
def test_a_word_outside_the_vocabulary_is_rejected_even_with_a_right_mac(body: str, says: str) -> None:
    with pytest.raises(DecodeRejected, match=says):
        decode_advertisement(ID, KEY_ON_AIR, sealed(bytes.fromhex(body)))


@given(st.binary(max_size=31).filter(lambda data: len(data) != 10))
def test_another_length_is_rejected(data: bytes) -> None:
    with pytest.raises(DecodeRejected, match="bytes"):
        decode_advertisement(ID, KEY_ON_AIR, data)


def test_a_channel_of_no_code_is_not_broadcast() -> None:
    with pytest.raises(ValueError, match="channel argon has no code"):
        encode_instrument_advertisement(InstrumentAdvertisement(Level.A1, InstrumentFlag(0), "argon", 87, 1), ID, KEY)


def test_every_characteristic_has_one_name_and_every_name_one_characteristic() -> None:
    assert VECTORS["advertisement"]["gas_service"] == gatt.GAS_SERVICE
    assert gatt.LOCK_SERVICE == "d3450001-3f77-4bf1-8d6f-39fbb83b22c8"
    assert gatt.INFO.startswith("d345000a-")
    assert len(set(gatt.CHARACTERISTIC_NAMES.values())) == len(gatt.CHARACTERISTIC_NAMES) == 12
