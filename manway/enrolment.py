"""The bytes of an enrolment: what a lock shows in its enrolment mode, and what a server answers (`locks.md` §3.2).

Exact structures, little-endian; the message is authenticated by the 16-byte secret printed inside the lock's case, so
only somebody who stood at the open lock can have sent it.
"""

import hmac
import struct

import msgspec

from manway import cose
from manway.errors import DecodeRejected

ENROL_REQUEST = b"\x01"  # over MQTT, where nothing can be read: asks for `EnrolInfo`
INFO_BYTES = 62
MESSAGE_BYTES = 157
SECRET_BYTES = 16
NONCE_BYTES = 16

# What a gateway's radio says in the lock's place where a message could not be brought to it.
NOT_PAIRED = b"\x00"  # it did not pair: another passkey
NOT_REACHED = b"\x02"

_VERSION = 1
_DOMAIN = b"manway-enrol-v1"
_INFO = struct.Struct("<B32s16s8s4sB")
_CLAIMS = struct.Struct("<B8s16s32s32s32sI")


class EnrolInfo(msgspec.Struct, frozen=True):
    """What a lock shows of itself; `nonce` (16 bytes) is all zeros unless it is in enrolment mode."""

    public_key: bytes
    nonce: bytes
    hardware_id: bytes
    firmware: tuple[int, int, int, int]
    in_mode: bool


class Enrolment(msgspec.Struct, frozen=True):
    """What a lock is told: for whom (`lock_id` 8, `nonce` 16 bytes), three keys of 32 bytes, Unix seconds (0 = unknown)."""

    lock_id: bytes
    nonce: bytes
    issuer_key: bytes
    site_key: bytes
    advertisement_key: bytes
    time: int = 0


def encode_info(info: EnrolInfo) -> bytes:
    """Return the 62 bytes that are read from Enrol."""
    return _INFO.pack(_VERSION, info.public_key, info.nonce, info.hardware_id, bytes(info.firmware), info.in_mode)


def decode_info(data: bytes) -> EnrolInfo:
    """Read the 62 bytes of Enrol.

    Raises:
        DecodeRejected: another length, version or mode, or a key that may not be enrolled.
    """
    if len(data) != INFO_BYTES or data[0] != _VERSION or data[-1] > 1:
        raise DecodeRejected("enrol", "not the 62 bytes of a lock")
    _, public_key, nonce, hardware_id, firmware, mode = _INFO.unpack(data)
    if not cose.is_usable(public_key):
        raise DecodeRejected("enrol", "the lock's key is of small order")
    return EnrolInfo(public_key, nonce, hardware_id, (firmware[0], firmware[1], firmware[2], firmware[3]), bool(mode))


def encode(enrolment: Enrolment, secret: bytes) -> bytes:
    """Return the 157 bytes that enrol a lock whose case holds `secret` (16 bytes).

    Raises:
        ValueError: a length or the time is wrong, or a key may not be enrolled.
    """
    lengths = [len(part) for part in (enrolment.lock_id, enrolment.nonce, enrolment.advertisement_key, secret)]
    if lengths != [8, NONCE_BYTES, 32, SECRET_BYTES] or not _keys_usable(enrolment):
        message = "an enrolment needs a lock id of 8, a nonce of 16, keys of 32 usable bytes and a secret of 16"
        raise ValueError(message)
    try:
        claims = _CLAIMS.pack(
            _VERSION,
            enrolment.lock_id,
            enrolment.nonce,
            enrolment.issuer_key,
            enrolment.site_key,
            enrolment.advertisement_key,
            enrolment.time,
        )
    except struct.error as error:
        message = f"an enrolment's time is Unix seconds below 2**32, not {enrolment.time}"
        raise ValueError(message) from error
    return claims + _mac(secret, claims)


def decode(message: bytes) -> Enrolment:
    """Read the claims of an enrolment; nobody believes them before `is_authentic`.

    Raises:
        DecodeRejected: another length or version, or keys that may not be enrolled.
    """
    if len(message) != MESSAGE_BYTES or message[0] != _VERSION:
        raise DecodeRejected("enrolment", "not the 157 bytes of an enrolment")
    enrolment = Enrolment(*_CLAIMS.unpack(message[: _CLAIMS.size])[1:])
    if not _keys_usable(enrolment):
        raise DecodeRejected("enrolment", "issuer and site need two different keys, none of small order")
    return enrolment


def is_authentic(message: bytes, secret: bytes) -> bool:
    """Return, in constant time, whether an enrolment of 157 bytes was made with this secret; an empty secret fits none."""
    mac = _mac(secret, message[: _CLAIMS.size])
    return len(secret) == SECRET_BYTES and hmac.compare_digest(mac, message[_CLAIMS.size :])


def _keys_usable(enrolment: Enrolment) -> bool:
    keys = (enrolment.issuer_key, enrolment.site_key)
    return all(map(cose.is_usable, keys)) and cose.kid_of(keys[0]) != cose.kid_of(keys[1])


def _mac(secret: bytes, claims: bytes) -> bytes:
    return hmac.digest(secret, _DOMAIN + claims, "sha256")
