"""A lock's words about itself: exact structures or `DecodeRejected`; and the keys that sign them."""

from pathlib import Path

import msgspec
import pytest

from manway import codec_ble, cose
from manway.codec_ble import LogCount, LogDone, LogOp, LogRequest
from manway.entities import Bolt, Door, LockFlag, LogEvent, ResultCode
from manway.errors import DecodeRejected, ProfileInvalid
from manway.runtime.signing import SigningKey, is_usable, kid_of, load_or_make_key, load_public_key, verify
from tests.core.test_grant_vectors import hello_of_the_vector
from tests.kit.locks import ISSUER, LOCK
from tests.kit.vectors import VECTORS

STATE = bytes.fromhex(VECTORS["hello"]["state"])
RECORD = bytes.fromhex(VECTORS["log"]["record_2"])
HELLO = codec_ble.encode_hello(hello_of_the_vector())
RESULT = b"\x01" + HELLO[1:9] + bytes(16) + b"\x00" + STATE + bytes(32)


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def test_a_state_reads_field_by_field() -> None:
    state = codec_ble.decode_state(bytes.fromhex("010302042a33ff0401000000020000000300 0000"))
    assert (state.bolt, state.door, state.session) == (Bolt.MOVING, Door.OPEN, 4)
    assert state.flags == LockFlag.FORCED | LockFlag.INSIDE_RELEASE | LockFlag.BATTERY_LOW
    assert (state.cause, state.battery_percent, state.fault) == (LogEvent.INSIDE_RELEASE, 255, 4)
    assert (state.log_seq, state.boot, state.tick) == (1, 2, 3)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0), (0, 2), (1, 5), (2, 3), (3, 5), (5, 0x07), (6, 101), (6, 254), (7, 5)],
    ids=str,
)
def test_a_state_outside_its_vocabulary_is_rejected(at: int, value: int) -> None:
    with pytest.raises(DecodeRejected, match="lock state"):
        codec_ble.decode_state(with_byte(STATE, at, value))


@pytest.mark.parametrize("data", [b"", STATE[:-1], STATE + b"\x00"])
def test_a_state_of_another_length_is_rejected(data: bytes) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.decode_state(data)


@pytest.mark.parametrize("data", [with_byte(HELLO, 0, 2), with_byte(HELLO, 26, 9), HELLO[:-1], HELLO + b"\x00"])
def test_a_wrong_hello_is_rejected(data: bytes) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.decode_hello(data)


def test_a_result_reads_its_code() -> None:
    assert codec_ble.decode_result(with_byte(RESULT, 25, 8)).code is ResultCode.NOT_CLOSED


@pytest.mark.parametrize(
    "data", [with_byte(RESULT, 0, 0), with_byte(RESULT, 25, 12), with_byte(RESULT, 27, 7), RESULT[:-1], RESULT + b"\x00"]
)
def test_a_wrong_result_is_rejected(data: bytes) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.decode_result(data)


def test_a_hello_is_no_result_under_its_signature() -> None:
    message = LOCK.sign(cose.HELLO_AAD, HELLO)
    as_result = cose.split(message, cose.RESULT_AAD)
    assert not verify(LOCK.public_key, as_result.signed, as_result.signature)


@pytest.mark.parametrize("message", [codec_ble.REFUSED, codec_ble.THROTTLED, b""])
def test_a_refusal_byte_is_no_result(message: bytes) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.open_result(message)


def test_a_hello_whose_signature_is_out_of_range_is_rejected() -> None:
    message = LOCK.sign(cose.HELLO_AAD, HELLO)
    with pytest.raises(DecodeRejected, match="out of range"):
        codec_ble.open_hello(message[:-1] + b"\xff")


@pytest.mark.parametrize(
    ("at", "value"), [(16, 0x07), (18, 5), (19, 3), (20, 7), (21, 101)], ids=["event", "bolt", "door", "kind", "battery"]
)
def test_a_log_record_outside_its_vocabulary_is_rejected(at: int, value: int) -> None:
    with pytest.raises(DecodeRejected, match="log record"):
        codec_ble.decode_record(with_byte(RECORD, at, value))


def test_a_refusal_record_needs_a_known_reason() -> None:
    refused = with_byte(RECORD, 16, LogEvent.REFUSED)
    assert codec_ble.decode_record(with_byte(refused, 17, 8)).cause == 8
    with pytest.raises(DecodeRejected):
        codec_ble.decode_record(with_byte(refused, 17, 13))


def test_a_log_message_is_cut_into_its_records() -> None:
    assert codec_ble.split_log(RECORD * 100) == [RECORD] * 100


@pytest.mark.parametrize("payload", [b"", RECORD[:-1], RECORD + b"\x00", RECORD * 101])
def test_a_log_message_of_another_length_is_rejected(payload: bytes) -> None:
    with pytest.raises(DecodeRejected, match="bytes"):
        codec_ble.split_log(payload)


@pytest.mark.parametrize(
    ("request_", "data"),
    [
        (LogRequest(LogOp.REPORT, 7), "010307000000"),
        (LogRequest(LogOp.COUNT, 1), "040301000000"),
        (LogRequest(LogOp.ABORT), "0300"),
    ],
)
def test_a_log_request_is_these_bytes(request_: LogRequest, data: str) -> None:
    assert codec_ble.encode_log_request(request_).hex() == data
    assert codec_ble.decode_log_request(bytes.fromhex(data)) == request_


@pytest.mark.parametrize("data", ["", "0201", "020301000000", "010101000000", "030301000000", "01030100000000"])
def test_delete_and_whatever_else_is_no_log_request(data: str) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.decode_log_request(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (LogCount(3, 1, 9), "0500030000000100000009000000"),
        (LogDone(1, supported=True), "06000101"),
        (LogDone(2, supported=False), "06000202"),
    ],
)
def test_a_log_answer_is_these_bytes(answer: LogCount | LogDone, data: str) -> None:
    assert codec_ble.encode_log_answer(answer).hex() == data
    assert codec_ble.decode_log_answer(bytes.fromhex(data)) == answer


@pytest.mark.parametrize("data", ["", "06000103", "06010101", "05000101", "0501030000000100000009000000", "0600"])
def test_a_wrong_log_answer_is_rejected(data: str) -> None:
    with pytest.raises(DecodeRejected):
        codec_ble.decode_log_answer(bytes.fromhex(data))


def test_every_encoder_is_the_inverse_of_its_decoder() -> None:
    hello = msgspec.structs.replace(hello_of_the_vector(), time=1782864000)
    assert codec_ble.decode_hello(codec_ble.encode_hello(hello)) == hello
    assert codec_ble.encode_result(codec_ble.decode_result(RESULT)) == RESULT
    assert codec_ble.encode_state(codec_ble.decode_state(STATE)) == STATE


# --- keys


def test_a_key_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "issuer.key"
    made = load_or_make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(path).public_key == made.public_key
    assert made.kid == kid_of(made.public_key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "issuer.key"
    load_or_make_key(path)
    path.chmod(mode)
    with pytest.raises(ProfileInvalid, match="0600"):
        load_or_make_key(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "issuer.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(ProfileInvalid, match="32 bytes"):
        load_or_make_key(path)


def test_a_public_key_file_is_32_usable_bytes(tmp_path: Path) -> None:
    path = tmp_path / "plan.pub"
    path.write_bytes(ISSUER.public_key)
    assert load_public_key(path) == ISSUER.public_key
    for wrong in (b"", bytes(32), ISSUER.public_key + b"\n"):
        path.write_bytes(wrong)
        with pytest.raises(ProfileInvalid, match="32 raw bytes"):
            load_public_key(path)


def test_verify_says_no_to_anything_else_and_never_raises() -> None:
    signature = ISSUER.sign_raw(b"word")
    assert verify(ISSUER.public_key, b"word", signature)
    assert not verify(ISSUER.public_key, b"other", signature)
    assert not verify(LOCK.public_key, b"word", signature)
    assert not verify(ISSUER.public_key, b"word", b"")
    assert not verify(ISSUER.public_key, b"word", signature[:-1])
    assert not verify(b"short", b"word", signature)
    assert not verify(b"\x02" + bytes(31), b"word", signature)  # no point of the curve has this y


def test_no_key_of_small_order_is_usable() -> None:
    field = 2**255 - 19
    order_8 = {small_order_8_y(field), field - small_order_8_y(field)}
    for y in {0, 1, field - 1, field, field + 1, *order_8}:
        for sign in (0, 2**255):
            assert not is_usable((y + sign).to_bytes(32, "little"))
    assert is_usable(ISSUER.public_key)
    assert not is_usable(ISSUER.public_key + b"\x00")


def small_order_8_y(p: int) -> int:
    """The y of a point whose double has order 4 (y = 0), from the curve's equation alone."""
    d = -121665 * pow(121666, -1, p) % p
    # Doubling gives y = 0 where x^2 = -y^2; with -x^2 + y^2 = 1 + d x^2 y^2 that is d y^4 + 2 y^2 - 1 = 0.
    root = square_root(1 + d, p)
    for sign in (1, -1):
        y2 = (-1 + sign * root) * pow(d, -1, p) % p
        if pow(y2, (p - 1) // 2, p) == 1:
            return square_root(y2, p)
    raise AssertionError("no point of order 8")


def square_root(a: int, p: int) -> int:
    """A square root modulo p = 5 mod 8."""
    root = pow(a, (p + 3) // 8, p)
    if root * root % p != a % p:
        root = root * pow(2, (p - 1) // 4, p) % p
    assert root * root % p == a % p
    return root


def test_a_signature_over_a_small_order_key_does_not_count() -> None:
    identity = b"\x01" + bytes(31)
    assert not verify(identity, b"anything", identity + bytes(32))


def test_a_key_needs_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        SigningKey(bytes(31))
