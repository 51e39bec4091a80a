"""A grant is one row of bytes; no other row of bytes is that grant (T03, L16-L18)."""

import pytest

from manway import cose, grant
from manway.entities import Bolt, Grant, RefusalReason, ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify
from tests.kit.locks import ISSUER, SITE, LockBench
from tests.kit.vectors import COMMON, GRANTS, SIGNERS, VECTORS, claims_of

ENTRY = GRANTS["ENTRY"]
PAYLOAD = ENTRY[15:88]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
CHALLENGE = b"\x18\x27\x50" + COMMON["challenge"]
LIFE = b"\x18\x28\x18\x28"
MAX_OPEN = b"\x3a\x00\x01\x00\x00\x19\x0e\x10"


def accepted(message: bytes, signer: SigningKey = ISSUER) -> bool:
    """What a lock asks of a message before it looks at lock, challenge and age."""
    try:
        parsed = grant.parse(message)
    except grant.GrantRejected:
        return False
    return parsed.kid == signer.kid and verify(signer.public_key, parsed.signed, parsed.signature)


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


@pytest.mark.parametrize("name", GRANTS)
def test_the_vector_itself_is_accepted(name: str) -> None:
    assert accepted(GRANTS[name], SIGNERS[name])


def flip(message: bytes, bit: int) -> bytes:
    """The message with one bit changed."""
    at, mask = bit // 8, 1 << bit % 8
    return message[:at] + bytes([message[at] ^ mask]) + message[at + 1 :]


def flips_of(message: bytes) -> list[bytes]:
    """Every message that differs in one bit."""
    return [flip(message, bit) for bit in range(8 * len(message))]


@pytest.mark.parametrize("name", GRANTS)
def test_l16_no_flipped_bit_is_accepted(name: str) -> None:
    flips = flips_of(GRANTS[name])
    assert len(flips) == 8 * len(GRANTS[name])
    assert not any(accepted(flip, SIGNERS[name]) for flip in flips)


@pytest.mark.parametrize("name", GRANTS)
def test_l16_no_truncation_is_accepted(name: str) -> None:
    cuts = [GRANTS[name][:size] for size in range(len(GRANTS[name]))]
    assert {refusal_of(cut) for cut in cuts} == {RefusalReason.SHAPE}


@pytest.mark.parametrize("name", GRANTS)
def test_l16_no_tail_is_accepted(name: str) -> None:
    message = GRANTS[name]
    tails = [message + bytes([tail]) for tail in range(256)] + [message + message, message + bytes(90), message + bytes(91)]
    assert {refusal_of(tail) for tail in tails} == {RefusalReason.SHAPE}


def test_the_entry_has_the_1232_bits_and_154_bytes_of_the_design() -> None:
    assert (len(flips_of(ENTRY)), len(ENTRY)) == (1232, 154)


def test_l16_a_lock_answers_everything_damaged_with_one_byte_and_opens_for_none() -> None:
    bench = LockBench()
    bits, size, answers = 8 * len(ENTRY), len(ENTRY), list[object]()
    for number in range(bits + size + 256):
        bench.now += 60  # the throttle, which would spare the lock most of this, starts anew
        good = bench.order(GrantKind.EMERGENCY, max_open_s=3600)  # of an ENTRY's length, and it needs no press
        cut = good[: number - bits] if number < bits + size else good + bytes([number - bits - size])
        answers += bench.send(flip(good, number) if number < bits else cut)
    assert answers == [b"\xff"] * (1232 + 154 + 256)
    assert (bench.state.bolt, bench.state.session) == (Bolt.LOCKED, 0)
    assert bench.send(bench.order(GrantKind.EMERGENCY)) == [ResultCode.OPENED]


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
def test_l17_another_form_of_the_envelope_is_refused_for_its_shape(message: bytes) -> None:
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
def test_l17_another_form_of_the_claims_is_refused_though_its_signature_holds(payload: bytes) -> None:
    message = signed(payload)
    assert verify(ISSUER.public_key, cose.to_be_signed(cose.GRANT_AAD, ISSUER.kid, payload), message[-64:])
    assert refusal_of(message) is RefusalReason.PAYLOAD


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_l19_an_unknown_kind_is_refused_as_such(kind: int) -> None:
    assert refusal_of(signed(changed(b"\x09\x41\x02", b"\x09\x41" + bytes([kind])))) is RefusalReason.KIND


@pytest.mark.parametrize("name", GRANTS)
def test_l18_a_signature_with_s_and_the_group_order_added_is_refused(name: str) -> None:
    s = int.from_bytes(GRANTS[name][-32:], "little") + GROUP_ORDER
    message = GRANTS[name][:-32] + s.to_bytes(32, "little")
    assert refusal_of(message) is RefusalReason.SIGNATURE


@pytest.mark.parametrize("name", GRANTS)
def test_l18_a_key_of_small_order_verifies_nothing(name: str) -> None:
    parsed = grant.parse(GRANTS[name])
    identity = b"\x01" + bytes(31)  # under it R = S * B holds for every message with this signature of its own
    assert not verify(identity, parsed.signed, identity + bytes(32))


# Each kind's own claim in forms that a lenient reader takes for the same.
OWN = {
    "SET_TIME, 8-byte integer": ("SET_TIME", b"\x1a", b"\x1b\x00\x00\x00\x00"),
    "SET_TIME, bignum": ("SET_TIME", b"\x1a", b"\xc2\x44"),
    "ROTATE_KEY, indefinite string": ("ROTATE_KEY", b"\x58\x24", b"\x5f\x58\x24"),
    "ROTATE_KEY, long length": ("ROTATE_KEY", b"\x58\x24", b"\x59\x00\x24"),
    "EMERGENCY, long zero": ("EMERGENCY by issuer", b"\x3a\x00\x01\x00\x00\x00", b"\x3a\x00\x01\x00\x00\x18\x00"),
    "CLOSE_OUT, indefinite map": ("CLOSE_OUT", b"\xa6\x02", b"\xbf\x02"),
    "PREP, negative max_open": ("PREP", b"\x19\x0e\x10", b"\x39\x0e\x10"),
}


@pytest.mark.parametrize(("name", "old", "new"), OWN.values(), ids=OWN)
def test_l17_another_form_of_a_kinds_own_claim_is_refused_though_its_signature_holds(name: str, old: bytes, new: bytes) -> None:
    payload = GRANTS[name][15:-66]
    assert old in payload
    assert refusal_of(signed(payload.replace(old, new, 1))) is RefusalReason.PAYLOAD


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
    "key of small order": {"kind": GrantKind.ROTATE_KEY, "new_key": NEW_KEY[:4] + bytes(32)},
    "key without its zero": {"kind": GrantKind.ROTATE_KEY, "new_key": b"\x00\x01" + NEW_KEY[2:]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_claims_are_not_encoded(wrong: dict[str, int | bytes | GrantKind]) -> None:
    right: dict[str, object] = {"kind": GrantKind.ENTRY, **COMMON, "life_s": 40}
    claims = Grant(**(right | wrong))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no grant of kind"):
        grant.encode_payload(claims)
