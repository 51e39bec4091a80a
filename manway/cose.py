"""The one COSE_Sign1 shape (RFC 9052) of every signed message of a lock: grants, orders, hellos, results.

`d2 84 49 a2 01 27 04 44 <kid 4> a0 58 <n> <payload n> 58 40 <signature 64>` and nothing else. A general CBOR reader
takes tails, long integers and doubled keys, so the reader here cuts at fixed places, builds the message again and
accepts it only if both are the same bytes (`locks.md` §1.1-1.2).
"""

from hashlib import sha256

import msgspec

from manway.errors import DecodeRejected

# External data under each signature: a signed hello can never pass for a grant (`locks.md` §1.1).
GRANT_AAD = b"manway-grant-v1"
HELLO_AAD = b"manway-hello-v1"
RESULT_AAD = b"manway-result-v1"
FIRMWARE_AAD = b"manway-firmware-v1"

# The most one BLE write takes at MTU 247 (`locks.md` §1.1); over MQTT the same limit holds.
MAX_MESSAGE = 244

# All but the payload; payloads below 24 bytes would need another CBOR head and do not exist.
_OVERHEAD = 15 + 66
_MIN_PAYLOAD = 24

# Order of the Ed25519 base point (RFC 8032 5.1). A signature whose S is not below it is a second form of another one.
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493

# The y of the points whose order divides 8 (RFC 7748 7, RFC 8032 5.1): under such a key one signature fits many
# messages. The last two are the points of order 8; the sign of x and values above the field change nothing.
_FIELD = 2**255 - 19
_ORDER_8_Y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD - 1, _ORDER_8_Y, _FIELD - _ORDER_8_Y})
_PUBLIC_KEY_BYTES = 32

# Largest CBOR argument that fits each form of the head (RFC 8949 3): in the head itself, in one byte, in two.
_IN_HEAD, _IN_ONE, _IN_TWO = 0x17, 0xFF, 0xFFFF


class Envelope(msgspec.Struct, frozen=True):
    """A message cut into its parts; `signed` is what the signature covers. Nothing is verified yet."""

    kid: bytes
    payload: bytes
    signature: bytes
    signed: bytes


def head(major: int, argument: int) -> bytes:
    """Return the shortest CBOR head of a major type (0-7) and an argument below 2**32."""
    major <<= 5
    if argument <= _IN_HEAD:
        return bytes([major | argument])
    if argument <= _IN_ONE:
        return bytes([major | 24, argument])
    if argument <= _IN_TWO:
        return bytes([major | 25]) + argument.to_bytes(2, "big")
    return bytes([major | 26]) + argument.to_bytes(4, "big")


def bstr(data: bytes) -> bytes:
    """Return a CBOR byte string."""
    return head(2, len(data)) + data


def _protected(kid: bytes) -> bytes:
    # {1: -8, 4: kid}: EdDSA. The algorithm belongs to the key's slot; this template is compared, never read.
    return bytes.fromhex("a2012704") + bstr(kid)


def to_be_signed(aad: bytes, kid: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052 4.4: what the key named by `kid` (4 bytes) signs."""
    return b"\x84\x6aSignature1" + bstr(_protected(kid)) + bstr(aad) + bstr(payload)


def assemble(kid: bytes, payload: bytes, signature: bytes) -> bytes:
    """Return the whole message; lengths in bytes: 4, 24-163, 64."""
    return b"\xd2\x84" + bstr(_protected(kid)) + b"\xa0" + bstr(payload) + bstr(signature)


def split(message: bytes, aad: bytes) -> Envelope:
    """Cut a message at its fixed places.

    Raises:
        DecodeRejected: a byte differs from the one shape, or the length is not 105-244.
    """
    if not _OVERHEAD + _MIN_PAYLOAD <= len(message) <= MAX_MESSAGE:
        raise DecodeRejected(aad.decode(), f"{len(message)} bytes")
    kid, payload, signature = message[8:12], message[15:-66], message[-64:]
    if assemble(kid, payload, signature) != message:
        raise DecodeRejected(aad.decode(), "not the one shape")
    return Envelope(kid, payload, signature, to_be_signed(aad, kid, payload))


def kid_of(public_key: bytes) -> bytes:
    """Return the 4 bytes that name a public key on the wire."""
    return sha256(public_key).digest()[:4]


def is_canonical(signature: bytes) -> bool:
    """Return whether S, the signature's second half, is below the group's order (RFC 8032 5.1.7)."""
    return int.from_bytes(signature[32:], "little") < _GROUP_ORDER


def is_usable(public_key: bytes) -> bool:
    """Return whether an Ed25519 public key may be trusted at all: 32 bytes and no point of small order."""
    if len(public_key) != _PUBLIC_KEY_BYTES:
        return False
    y = int.from_bytes(public_key, "little") % 2**255
    return y % _FIELD not in _SMALL_ORDER_Y
