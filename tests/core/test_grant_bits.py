"""A grant is one row of bytes; no other row of bytes is that grant (T03, L16-L18)."""

import pytest

from manway import cose, grant
from manway.entities import Grant, RefusalReason
from manway.ids import GrantKind
from manway.runtime.signing import verify
from tests.core.test_grant_vectors import COMMON, VECTORS, claims_of
from tests.kit.locks import ISSUER, SITE

ENTRY = bytes.fromhex(VECTORS["entry"]["message"])
PAYLOAD = ENTRY[15:88]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
CHALLENGE = b"\x18\x27\x50" + COMMON["challenge"]
LIFE = b"\x18\x28\x18\x28"
MAX_OPEN = b"\x3a\x00\x01\x00\x00\x19\x0e\x10"


def accepted(message: bytes) -> bool:
    """What a lock asks of a message before it looks at lock, challenge and age."""
    try:
        parsed = grant.parse(message)
    except grant.GrantRejected:
        return False
    return parsed.kid == ISSUER.kid and verify(ISSUER.public_key, parsed.signed, parsed.signature)


def refusal_of(message: bytes) -> RefusalReason:
    with pytest.raises(grant.GrantRejected) as caught:
        grant.parse(message)
    return caught.value.refusal


def signed(payload: bytes) -> bytes:
    """A message over any payload, rightly signed: only its form can be wrong."""
    return ISSUER.sign(cose.GRANT_AAD, payload)


def changed(old: bytes, new: bytes) -> bytes:
    assert PAYLOAD.count(old) == 1
    return PAYLOAD.replace(old, new)


def test_the_vector_itself_is_accepted() -> None:
    assert accepted(ENTRY)


def test_none_of_1232_bit_flips_is_accepted() -> None:
    flips = [ENTRY[:at] + bytes([ENTRY[at] ^ 1 << bit]) + ENTRY[at + 1 :] for at in range(len(ENTRY)) for bit in range(8)]
    assert len(flips) == 1232
    assert not any(accepted(flip) for flip in flips)


def test_none_of_154_truncations_is_accepted() -> None:
    cuts = [ENTRY[:size] for size in range(len(ENTRY))]
    assert len(cuts) == 154
    assert {refusal_of(cut) for cut in cuts} == {RefusalReason.SHAPE}


def test_no_tail_is_accepted() -> None:
    tails = [ENTRY + bytes([tail]) for tail in range(256)] + [ENTRY + ENTRY, ENTRY + bytes(90), ENTRY + bytes(91)]
    assert {refusal_of(tail) for tail in tails} == {RefusalReason.SHAPE}


ENVELOPES = {
    "unprotected map not empty": ENTRY.replace(b"\xa0\x58\x49", b"\xa1\x04\x41\x00\x58\x49", 1),
    "unprotected map of indefinite length": ENTRY.replace(b"\xa0\x58\x49", b"\xbf\xff\x58\x49", 1),
    "algorithm -7": ENTRY.replace(b"\xa2\x01\x27", b"\xa2\x01\x26", 1),
    "algorithm -19": ENTRY.replace(b"\x49\xa2\x01\x27", b"\x49\xa2\x01\x32", 1),
    "protected header in another order": ENTRY.replace(
        b"\xa2\x01\x27\x04\x44" + ISSUER.kid, b"\xa2\x04\x44" + ISSUER.kid + b"\x01\x27", 1
    ),
    "no tag": ENTRY[1:],
    "long payload length": ENTRY.replace(b"\x58\x49", b"\x59\x00\x49", 1),
    "payload of indefinite length": ENTRY.replace(b"\x58\x49", b"\x5f\x58\x49", 1),
    "array of indefinite length": ENTRY.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
    "long tag": b"\xd8\x12" + ENTRY[1:],
    "a voucher's first byte": b"\x56" + ENTRY[1:],
    "nothing": b"",
    "245 bytes": ISSUER.sign(cose.GRANT_AAD, bytes(164)),
    "a payload of 23 bytes": ISSUER.sign(cose.GRANT_AAD, bytes(23)),
}


@pytest.mark.parametrize("message", ENVELOPES.values(), ids=ENVELOPES)
def test_another_form_of_the_envelope_is_refused_for_its_shape(message: bytes) -> None:
    assert refusal_of(message) is RefusalReason.SHAPE


# Each is a valid signature over claims that a lenient reader takes for the same grant, or for one out of range.
PAYLOADS = {
    "long integer for exi": changed(LIFE, b"\x18\x28\x19\x00\x28"),
    "longer integer for max_open": changed(b"\x19\x0e\x10", b"\x1a\x00\x00\x0e\x10"),
    "8-byte integer for max_open": changed(b"\x19\x0e\x10", b"\x1b" + (3600).to_bytes(8, "big")),
    "long integer for a key": changed(b"\x18\x28\x18\x28", b"\x19\x00\x28\x18\x28"),
    "map of indefinite length": b"\xbf" + PAYLOAD[1:] + b"\xff",
    "string of indefinite length": changed(b"\x50\xa0", b"\x5f\x50\xa0"),
    "long length of the challenge": changed(b"\x18\x27\x50", b"\x18\x27\x58\x10"),
    "doubled key": b"\xa8" + PAYLOAD[1:] + LIFE,
    "doubled key in the count of seven": changed(MAX_OPEN, LIFE),
    "keys in another order": changed(CHALLENGE + LIFE, LIFE + CHALLENGE),
    "extra key": b"\xa8" + PAYLOAD[1:] + b"\x3a\x00\x01\x00\x02\x01",
    "missing key": b"\xa6" + changed(MAX_OPEN, b"")[1:],
    "wrong own key": changed(b"\x3a\x00\x01\x00\x00", b"\x3a\x00\x01\x00\x01"),
    "a tail inside": PAYLOAD + b"\x00",
    "a tag before a claim": changed(b"\x18\x27\x50", b"\x18\x27\xc2\x50"),
    "a float for exi": changed(LIFE, b"\x18\x28\xf9\x51\x00"),
    "a text for the scope": changed(b"\x09\x41\x02", b"\x09\x61\x02"),
    "exi 0": changed(LIFE, b"\x18\x28\x00"),
    "exi 61": changed(LIFE, b"\x18\x28\x18\x3d"),
    "max_open 86401": changed(b"\x19\x0e\x10", b"\x1a\x00\x01\x51\x81"),
    "cut inside exi": b"\xa6" + PAYLOAD[1:63] + b"\x18",
    "cut before exi": PAYLOAD[:63],
    "only 24 bytes": PAYLOAD[:24],
    "one before the scope's value": PAYLOAD[:41],
    "an ENTRY's claims as CLOSE_OUT": changed(b"\x09\x41\x02", b"\x09\x41\x04"),
    "an ENTRY's claims as ROTATE_KEY": changed(b"\x09\x41\x02", b"\x09\x41\x05"),
    "an ENTRY's claims as SET_TIME": changed(b"\x09\x41\x02", b"\x09\x41\x06"),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_another_form_of_the_claims_is_refused_though_its_signature_holds(payload: bytes) -> None:
    message = signed(payload)
    assert verify(ISSUER.public_key, cose.to_be_signed(cose.GRANT_AAD, ISSUER.kid, payload), message[-64:])
    assert refusal_of(message) is RefusalReason.PAYLOAD


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_an_unknown_kind_is_refused_as_such(kind: int) -> None:
    assert refusal_of(signed(changed(b"\x09\x41\x02", b"\x09\x41" + bytes([kind])))) is RefusalReason.KIND


def test_a_signature_with_s_and_the_group_order_added_is_refused() -> None:
    s = int.from_bytes(ENTRY[-32:], "little") + GROUP_ORDER
    message = ENTRY[:-32] + s.to_bytes(32, "little")
    assert refusal_of(message) is RefusalReason.SIGNATURE


def test_every_vector_survives_encoding_again() -> None:
    for row in VECTORS["grant"]:
        assert grant.decode_payload(grant.encode_payload(claims_of(row))) == claims_of(row)


@pytest.mark.parametrize("life_s", [1, 23, 24, 60])
@pytest.mark.parametrize("max_open_s", [0, 23, 24, 255, 256, 65535, 65536, 86400])
def test_every_length_of_integer_survives(life_s: int, max_open_s: int) -> None:
    claims = claims_of({"kind": 1, "life_s": life_s, "max_open_s": max_open_s})
    assert grant.decode_payload(grant.encode_payload(claims)) == claims


NEW_KEY = b"\x00\x00\x02\x00" + SITE.public_key
WRONG: dict[str, dict[str, int | bytes | GrantKind]] = {
    "short cti": {"cti": bytes(15)},
    "long challenge": {"challenge": bytes(17)},
    "no life": {"life_s": 0},
    "61 s": {"life_s": 61},
    "negative max_open": {"max_open_s": -1},
    "max_open in a CLOSE_OUT": {"kind": GrantKind.CLOSE_OUT, "max_open_s": 1},
    "time in an ENTRY": {"time": 1},
    "time of 33 bits": {"kind": GrantKind.SET_TIME, "time": 2**32},
    "key in an ENTRY": {"new_key": NEW_KEY},
    "no key": {"kind": GrantKind.ROTATE_KEY},
    "key of role 1": {"kind": GrantKind.ROTATE_KEY, "new_key": b"\x01" + NEW_KEY[1:]},
    "key without its zero": {"kind": GrantKind.ROTATE_KEY, "new_key": b"\x00\x01" + NEW_KEY[2:]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_claims_are_not_encoded(wrong: dict[str, int | bytes | GrantKind]) -> None:
    right: dict[str, object] = {"kind": GrantKind.ENTRY, **COMMON, "life_s": 40}
    claims = Grant(**(right | wrong))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no grant of kind"):
        grant.encode_payload(claims)
