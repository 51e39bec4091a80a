"""Grants and orders: the content a lock obeys, as bytes of exactly one form (`locks.md` §1.1-1.2).

Pure: the signature is checked by whoever holds the key. The reader takes values from fixed places and accepts them only
if encoding them again gives the same bytes, so long integers, other orders, doubled or extra keys and tails all fail.
"""

import msgspec

from manway import cose
from manway.entities import Grant, RefusalReason
from manway.errors import DecodeRejected
from manway.ids import GrantKind

GRANT_AAD = cose.GRANT_AAD

# The longest life of a grant, in seconds from the challenge by the lock's tick: a revocation bites within it.
MAX_LIFE_S = 60
# A SET_TIME is worth less the later it comes, so a lock takes none older than this (`locks.md` §1.1).
SET_TIME_LIFE_S = 10
MAX_OPEN_S = 86_400
OPENING = frozenset({GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY})

_KEY_BYTES = 36
_KEY_AT = 4
_KEY_ROLES = (0, 2)  # issuer, site emergency key
_UINT16, _UINT32 = 2**16, 2**32
_SCOPE_AT, _CHALLENGE_AT, _LIFE_AT = 41, 45, 63
_OWN_KEY_BYTES = 5  # a private claim key, 3a 00 01 00 0x

# The claim a kind carries beside the six of all kinds, as the argument of a negative CBOR integer: -65537 is 65536.
_OWN_KEY = dict.fromkeys(OPENING, 65536) | {GrantKind.ROTATE_KEY: 65537, GrantKind.SET_TIME: 65538}


class NewKey(msgspec.Struct, frozen=True):
    """What a ROTATE_KEY brings: a key for role 0 (issuer) or 2 (site emergency); `generation` must rise per role."""

    role: int
    generation: int
    public_key: bytes


class GrantRejected(DecodeRejected):
    """Bytes that are no grant; `refusal` is the reason a lock writes to its log."""

    def __init__(self, refusal: RefusalReason) -> None:
        self.refusal = refusal
        super().__init__("grant", refusal.name.lower())


class ParsedGrant(msgspec.Struct, frozen=True):
    """A grant of the right form whose `signature` over `signed` by key `kid` is still to be verified."""

    kid: bytes
    grant: Grant
    signature: bytes
    signed: bytes


def encode_payload(grant: Grant) -> bytes:
    """Return the claims of a grant as deterministic CBOR.

    Raises:
        ValueError: a length or a range is wrong, or a field is set that this kind does not carry.
    """
    _check(grant)
    own = _own_claim(grant)
    return b"".join((
        cose.head(5, 7 if own else 6),
        *(b"\x02", cose.bstr(grant.holder)),
        *(b"\x03", cose.bstr(grant.lock_id)),
        *(b"\x07", cose.bstr(grant.cti)),
        *(b"\x09", cose.bstr(bytes([grant.kind]))),
        *(cose.head(0, 39), cose.bstr(grant.challenge)),
        *(cose.head(0, 40), cose.head(0, grant.life_s)),
        own,
    ))  # fmt: skip


def _own_claim(grant: Grant) -> bytes:
    if grant.kind not in _OWN_KEY:
        return b""
    key = cose.head(1, _OWN_KEY[grant.kind])
    match grant.kind:
        case GrantKind.ROTATE_KEY:
            return key + cose.bstr(grant.new_key)
        case GrantKind.SET_TIME:
            return key + cose.head(0, grant.time)
        case _:
            return key + cose.head(0, grant.max_open_s)


def _check(grant: Grant) -> None:
    lengths = [len(part) for part in (grant.holder, grant.lock_id, grant.cti, grant.challenge)]
    opens, dated, keyed = (grant.kind in kinds for kinds in (OPENING, {GrantKind.SET_TIME}, {GrantKind.ROTATE_KEY}))
    right = (
        lengths == [8, 8, 16, 16]
        and 1 <= grant.life_s <= MAX_LIFE_S
        and 0 <= grant.max_open_s <= (MAX_OPEN_S if opens else 0)
        and 0 <= grant.time < (_UINT32 if dated else 1)
        and (_is_new_key(grant.new_key) if keyed else not grant.new_key)
    )
    if not right:
        message = f"no grant of kind {grant.kind.name}: {grant}"
        raise ValueError(message)


def _is_new_key(new_key: bytes) -> bool:
    """Role, a zero, the generation (u16), an Ed25519 public key that is not of small order."""
    right = len(new_key) == _KEY_BYTES and new_key[0] in _KEY_ROLES and new_key[1] == 0
    return right and cose.is_usable(new_key[_KEY_AT:])


def encode_new_key(new: NewKey) -> bytes:
    """Return the 36 bytes of a `Grant.new_key`.

    Raises:
        ValueError: the role is not 0 or 2, the generation not of 16 bits, or the key not usable.
    """
    if not 0 <= new.generation < _UINT16:
        message = f"a generation has 16 bits: {new.generation}"
        raise ValueError(message)
    data = bytes([new.role, 0]) + new.generation.to_bytes(2, "little") + new.public_key
    if not _is_new_key(data):
        message = f"no key for role 0 or 2: {data.hex()}"
        raise ValueError(message)
    return data


def decode_new_key(new_key: bytes) -> NewKey:
    """Read the `new_key` of a decoded ROTATE_KEY."""
    return NewKey(new_key[0], int.from_bytes(new_key[2:_KEY_AT], "little"), new_key[_KEY_AT:])


def claimed_kind(payload: bytes) -> GrantKind:
    """Return the kind a payload of at least 24 bytes claims, before anything else in it is believed.

    Raises:
        GrantRejected: KIND for an unknown kind, PAYLOAD where there is none.
    """
    if len(payload) <= _SCOPE_AT:
        raise GrantRejected(RefusalReason.PAYLOAD)
    try:
        return GrantKind(payload[_SCOPE_AT])
    except ValueError as error:
        raise GrantRejected(RefusalReason.KIND) from error


def decode_payload(payload: bytes) -> Grant:
    """Read the claims.

    Raises:
        GrantRejected: KIND or PAYLOAD.
    """
    kind = claimed_kind(payload)
    try:
        grant = _read(kind, payload)
        if encode_payload(grant) == payload:
            return grant
    except ValueError as error:
        raise GrantRejected(RefusalReason.PAYLOAD) from error
    raise GrantRejected(RefusalReason.PAYLOAD)


def _read(kind: GrantKind, payload: bytes) -> Grant:
    # The heads between the values are not looked at here: encoding again compares every one of them.
    life_s, own_at = _read_uint(payload, _LIFE_AT)
    max_open_s, time, new_key = 0, 0, b""
    value_at = own_at + _OWN_KEY_BYTES
    match kind:
        case GrantKind.ROTATE_KEY:
            new_key = payload[value_at + 2 :]
        case GrantKind.SET_TIME:
            time, _ = _read_uint(payload, value_at)
        case GrantKind.CLOSE_OUT:
            pass
        case _:
            max_open_s, _ = _read_uint(payload, value_at)
    return Grant(
        kind=kind,
        holder=payload[3:11],
        lock_id=payload[13:21],
        cti=payload[23:39],
        challenge=payload[_CHALLENGE_AT:61],
        life_s=life_s,
        max_open_s=max_open_s,
        time=time,
        new_key=new_key,
    )


def _read_uint(payload: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned integer and where it ends; what is no such integer becomes a number that encodes otherwise."""
    first = payload[at] if at < len(payload) else 0
    size = {24: 1, 25: 2, 26: 4}.get(first, 0)
    value = int.from_bytes(payload[at + 1 : at + 1 + size], "big") if size else first
    return value, at + 1 + size


def parse(message: bytes) -> ParsedGrant:
    """Read a whole grant or order of 1-244 bytes, in the lock's order: shape, payload, form of the signature.

    Raises:
        GrantRejected: SHAPE, KIND, PAYLOAD or SIGNATURE (S not below the group's order).
    """
    envelope = open_envelope(message)
    grant = decode_payload(envelope.payload)
    if not cose.is_canonical(envelope.signature):
        raise GrantRejected(RefusalReason.SIGNATURE)
    return ParsedGrant(envelope.kid, grant, envelope.signature, envelope.signed)


def open_envelope(message: bytes) -> cose.Envelope:
    """Cut a grant into its parts.

    Raises:
        GrantRejected: SHAPE.
    """
    try:
        return cose.split(message, GRANT_AAD)
    except DecodeRejected as error:
        raise GrantRejected(RefusalReason.SHAPE) from error
