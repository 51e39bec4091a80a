"""Bytes <-> what a lock says of itself: state, hello, result, log (`locks.md` §2, §4, §6).

Little-endian, no padding, exact length; the same bytes travel over BLE and MQTT. Whatever is not exactly one of these
structures raises `DecodeRejected`.
"""

import enum
import struct
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from manway import cose
from manway.entities import (
    Bolt,
    Door,
    LockFlag,
    LockHello,
    LockResult,
    LockState,
    LogEvent,
    LogRecord,
    RefusalReason,
    ResultCode,
)
from manway.errors import DecodeRejected, rejecting, require
from manway.ids import GrantKind

HELLO_REQUEST = b"\x01"
REFUSED = b"\xff"
THROTTLED = b"\xfe"

VERSION = 1
RECORD_BYTES = 40
MAX_RECORDS = 100  # in one MQTT message (`locks.md` §6)
ARMED_SESSION = 4
BATTERY_UNKNOWN = 255
LAST_FAULT = 4  # 0 none, 1 motor, 2 flash, 3 random numbers, 4 contact

_STATE = struct.Struct("<8B3I")
_HELLO = struct.Struct("<B8s16s20s32sI4s4s4s")
_RESULT = struct.Struct("<B8s16sB20s32s")
_RECORD = struct.Struct("<4I6BH16s")
_LOG_REQUEST = struct.Struct("<BBI")
_LOG_COUNT = struct.Struct("<BB3I")

_INFO = struct.Struct("<B8s4sHII")

_ALL_OR_FROM = 3  # Record Access Control Point: operator "greater than or equal to"
_ANSWER_COUNT = 5
_ANSWER_DONE = 6
_DONE_BYTES = 4


NOT_SUPPORTED = b"\x02"  # last byte of the answer to a log request the lock does not know


class Capability(enum.IntFlag):
    """What a lock is fitted with."""

    MOTOR = 1
    DOOR_CONTACT = 2
    BUTTON = 4
    RELEASE_SWITCH = 8
    SEAL = 16
    HORN = 32


class LockInfo(msgspec.Struct, frozen=True):
    """What a lock is: kind of hardware (8 bytes), firmware, parts, and the room and oldest record of its log."""

    hardware_id: bytes
    firmware: tuple[int, int, int, int]
    fitted: Capability
    log_capacity: int
    oldest_seq: int


class LogOp(enum.IntEnum):
    """What a log request asks for; there is no delete."""

    REPORT = 1
    ABORT = 3
    COUNT = 4


class LogRequest(msgspec.Struct, frozen=True):
    """A request to a lock's log: the records from `seq` on, their number, or an end of reporting (`seq` 0)."""

    op: LogOp
    seq: int = 0


class LogCount(msgspec.Struct, frozen=True):
    """How many records there are from the asked one on, and the oldest and newest sequence numbers kept."""

    count: int
    oldest: int
    newest: int


class LogDone(msgspec.Struct, frozen=True):
    """The end of a request; `op` as it was asked, `supported` false when the lock does not know it."""

    op: int
    supported: bool


def _require_battery(percent: int) -> None:
    require(fact=percent <= 100 or percent == BATTERY_UNKNOWN, otherwise=f"battery {percent} %")  # noqa: PLR2004


def encode_state(state: LockState) -> bytes:
    """Return the 20 bytes of a lock state."""
    return _STATE.pack(
        VERSION,
        state.bolt,
        state.door,
        state.session,
        state.flags,
        state.cause,
        state.battery_percent,
        state.fault,
        state.log_seq,
        state.boot,
        state.tick,
    )


def decode_state(data: bytes) -> LockState:
    """Read the 20 bytes of a lock state; `cause` 0 means that nothing was logged yet."""
    with rejecting("lock state"):
        version, bolt, door, session, flags, cause, battery, fault, log_seq, boot, tick = _STATE.unpack(data)
        require(fact=version == VERSION, otherwise=f"version {version}")
        require(fact=session <= ARMED_SESSION, otherwise=f"session {session}")
        require(fact=fault <= LAST_FAULT, otherwise=f"fault {fault}")
        _require_battery(battery)
        return LockState(
            bolt=Bolt(bolt),
            door=Door(door),
            session=session,
            flags=LockFlag(flags),
            cause=LogEvent(cause) if cause else 0,
            battery_percent=battery,
            fault=fault,
            log_seq=log_seq,
            boot=boot,
            tick=tick,
        )


def encode_hello(hello: LockHello) -> bytes:
    """Return the 93 bytes a lock signs as its hello."""
    return _HELLO.pack(
        VERSION,
        hello.lock_id,
        hello.challenge,
        encode_state(hello.state),
        hello.log_head,
        hello.time,
        *hello.kids,
        bytes(hello.firmware),
    )


def decode_hello(data: bytes) -> LockHello:
    """Read the 93 bytes of a hello."""
    with rejecting("hello"):
        version, lock_id, challenge, state, log_head, time, kid_0, kid_1, firmware = _HELLO.unpack(data)
        require(fact=version == VERSION, otherwise=f"version {version}")
    return LockHello(
        lock_id=lock_id,
        challenge=challenge,
        state=decode_state(state),
        log_head=log_head,
        time=time,
        kids=(kid_0, kid_1),
        firmware=(firmware[0], firmware[1], firmware[2], firmware[3]),
    )


def encode_result(result: LockResult) -> bytes:
    """Return the 78 bytes a lock signs as its result."""
    state = encode_state(result.state)
    return _RESULT.pack(VERSION, result.lock_id, result.cti, result.code, state, result.log_head)


def decode_result(data: bytes) -> LockResult:
    """Read the 78 bytes of a result."""
    with rejecting("result"):
        version, lock_id, cti, code, state, log_head = _RESULT.unpack(data)
        require(fact=version == VERSION, otherwise=f"version {version}")
        return LockResult(lock_id, cti, ResultCode(code), decode_state(state), log_head)


def open_hello(message: bytes) -> tuple[cose.Envelope, LockHello]:
    """Read a signed hello of 174 bytes; the caller verifies it under the enrolled key before believing a word."""
    envelope = _open(message, cose.HELLO_AAD)
    return envelope, decode_hello(envelope.payload)


def open_result(message: bytes) -> tuple[cose.Envelope, LockResult]:
    """Read a signed result of 159 bytes; the caller verifies it. `ff` and `fe` are no results and are rejected here."""
    envelope = _open(message, cose.RESULT_AAD)
    return envelope, decode_result(envelope.payload)


def _open(message: bytes, aad: bytes) -> cose.Envelope:
    envelope = cose.split(message, aad)
    if not cose.is_canonical(envelope.signature):
        raise DecodeRejected(aad.decode(), "signature out of range")
    return envelope


def encode_record(record: LogRecord) -> bytes:
    """Return the 40 bytes of a log record."""
    return _RECORD.pack(
        record.seq,
        record.boot,
        record.tick,
        record.time,
        record.event,
        record.cause,
        record.bolt,
        record.door,
        record.kind,
        record.battery_percent,
        record.arg,
        record.ref,
    )


def decode_record(data: bytes) -> LogRecord:
    """Read the 40 bytes of a log record."""
    with rejecting("log record"):
        seq, boot, tick, time, event, cause, bolt, door, kind, battery, arg, ref = _RECORD.unpack(data)
        _require_battery(battery)
        if LogEvent(event) is LogEvent.REFUSED:
            RefusalReason(cause)
        return LogRecord(
            seq=seq,
            boot=boot,
            tick=tick,
            time=time,
            event=LogEvent(event),
            cause=cause,
            bolt=Bolt(bolt),
            door=Door(door),
            kind=GrantKind(kind) if kind else 0,
            battery_percent=battery,
            arg=arg,
            ref=ref,
        )


def encode_info(info: LockInfo) -> bytes:
    """Return the 23 bytes that are read from Info."""
    firmware = bytes(info.firmware)
    return _INFO.pack(VERSION, info.hardware_id, firmware, info.fitted, info.log_capacity, info.oldest_seq)


def decode_info(data: bytes) -> LockInfo:
    """Read the 23 bytes of Info; parts of a later version are left out."""
    with rejecting("lock info"):
        version, hardware_id, firmware, fitted, capacity, oldest = _INFO.unpack(data)
        require(fact=version == VERSION, otherwise=f"version {version}")
    known = Capability(fitted & ~Capability(0))
    return LockInfo(hardware_id, (firmware[0], firmware[1], firmware[2], firmware[3]), known, capacity, oldest)


def split_log(payload: bytes) -> list[bytes]:
    """Cut a log message into its 1-100 records of 40 bytes, still undecoded because the chain is over bytes."""
    count, rest = divmod(len(payload), RECORD_BYTES)
    if rest or not 1 <= count <= MAX_RECORDS:
        source = "log"
        raise DecodeRejected(source, f"{len(payload)} bytes")
    return [payload[at : at + RECORD_BYTES] for at in range(0, len(payload), RECORD_BYTES)]


def lock_id_of(public_key: bytes) -> bytes:
    """Return the 8-byte id of the lock that signs with this key."""
    return sha256(public_key).digest()[:8]


def log_head_0(lock_id: bytes) -> bytes:
    """Return the head of an empty log."""
    return sha256(b"manway-log-v1" + lock_id).digest()


def next_head(head: bytes, record: bytes) -> bytes:
    """Return the head of a log after one more record of 40 bytes."""
    return sha256(head + record).digest()


def chain(head: bytes, records: Sequence[bytes]) -> bytes:
    """Return the head of a log after more records."""
    for record in records:
        head = next_head(head, record)
    return head


def encode_log_request(request: LogRequest) -> bytes:
    """Return a request to a lock's log: `01 03 u32`, `04 03 u32` or `03 00`."""
    if request.op is LogOp.ABORT:
        return bytes([LogOp.ABORT, 0])
    return _LOG_REQUEST.pack(request.op, _ALL_OR_FROM, request.seq)


def decode_log_request(data: bytes) -> LogRequest:
    """Read a request to a lock's log; a lock answers what this rejects, delete included, with *not supported*."""
    if data == bytes([LogOp.ABORT, 0]):
        return LogRequest(LogOp.ABORT)
    with rejecting("log request"):
        op, operator, seq = _LOG_REQUEST.unpack(data)
        known = op in (LogOp.REPORT, LogOp.COUNT) and operator == _ALL_OR_FROM
        require(fact=known, otherwise=f"operation {op}, operator {operator}")
        return LogRequest(LogOp(op), seq)


def encode_log_answer(answer: LogCount | LogDone) -> bytes:
    """Return a lock's answer on Log Control: `05 00 count oldest newest`, or the end `06 00 op 01|02`."""
    if isinstance(answer, LogCount):
        return _LOG_COUNT.pack(_ANSWER_COUNT, 0, answer.count, answer.oldest, answer.newest)
    return bytes([_ANSWER_DONE, 0, answer.op, 1 if answer.supported else 2])


def decode_log_answer(data: bytes) -> LogCount | LogDone:
    """Read a lock's answer on Log Control."""
    with rejecting("log answer"):
        if len(data) == _DONE_BYTES:
            answer, zero, op, code = data
            right = (answer, zero) == (_ANSWER_DONE, 0) and code in (1, 2)
            require(fact=right, otherwise=data.hex())
            return LogDone(op, supported=code == 1)
        answer, zero, count, oldest, newest = _LOG_COUNT.unpack(data)
        require(fact=(answer, zero) == (_ANSWER_COUNT, 0), otherwise=data.hex())
        return LogCount(count, oldest, newest)
