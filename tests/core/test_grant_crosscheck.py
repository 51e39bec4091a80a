"""Two COSE libraries that know nothing of us make and read the same bytes: the one shape is no dialect (`locks.md` §1.2)."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from cwt import COSE, COSEKey
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys.curves import Ed25519
from pycose.keys.okp import OKPKey
from pycose.messages.cosemessage import CoseMessage
from pycose.messages.sign1message import Sign1Message

from manway import codec_ble, cose, grant
from manway.entities import ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify
from tests.kit.locks import LockBench
from tests.kit.vectors import GRANTS, KEYS, SIGNERS, VECTORS, claims_of, rising

SEEDS = {KEYS[name].kid: rising(row["seed_from"]) for name, row in VECTORS["keys"].items()}
FROM_LOCK = {name: (bytes.fromhex(VECTORS[name]["message"]), KEYS["lock"], aad) for name, aad in (
    ("hello", cose.HELLO_AAD), ("result", cose.RESULT_AAD)
)}  # fmt: skip
FROM_FIRMWARE = {"manifest": (bytes.fromhex(VECTORS["manifest"]["message"]), KEYS["firmware"], cose.FIRMWARE_AAD)}
SIGNED: dict[str, tuple[bytes, SigningKey, bytes]] = {
    **{name: (message, SIGNERS[name], cose.GRANT_AAD) for name, message in GRANTS.items()},
    **FROM_LOCK,
    **FROM_FIRMWARE,
}
Maker = Callable[[bytes, SigningKey, bytes], bytes]
EVERY = pytest.mark.parametrize(("message", "signer", "aad"), SIGNED.values(), ids=SIGNED)


def made_by_pycose(payload: bytes, signer: SigningKey, aad: bytes) -> bytes:
    message = Sign1Message(phdr={Algorithm: EdDSA, KID: signer.kid}, uhdr={}, payload=payload, external_aad=aad)
    message.key = OKPKey(crv=Ed25519, d=SEEDS[signer.kid], x=signer.public_key)
    encoded: bytes = message.encode()
    return encoded


def made_by_cwt(payload: bytes, signer: SigningKey, aad: bytes) -> bytes:
    # COSE_Key: kty OKP, kid, alg EdDSA, crv Ed25519, x, d (RFC 9053 7.2)
    key = COSEKey.new({1: 1, 2: signer.kid, 3: -8, -1: 6, -2: signer.public_key, -4: SEEDS[signer.kid]})
    encoded = COSE.new().encode(payload, key, protected={1: -8, 4: signer.kid}, unprotected={}, external_aad=aad)
    assert isinstance(encoded, bytes)
    return encoded


MAKERS = pytest.mark.parametrize("make", [made_by_pycose, made_by_cwt])


@EVERY
def test_pycose_verifies_it(message: bytes, signer: SigningKey, aad: bytes) -> None:
    read: Any = CoseMessage.decode(message)
    assert type(read).__name__ == "Sign1Message"
    assert (read.phdr, read.uhdr) == ({Algorithm: EdDSA, KID: signer.kid}, {})
    read.external_aad, read.key = aad, OKPKey(crv=Ed25519, x=signer.public_key)
    assert read.verify_signature()
    read.external_aad = b"manway-voucher-v1"
    assert not read.verify_signature()


@EVERY
def test_cwt_verifies_it(message: bytes, signer: SigningKey, aad: bytes) -> None:
    key = COSEKey.new({1: 1, 2: signer.kid, 3: -8, -1: 6, -2: signer.public_key})
    assert COSE.new().decode(message, key, external_aad=aad) == message[15:-66]


@MAKERS
@EVERY
def test_they_make_the_same_bytes(make: Maker, message: bytes, signer: SigningKey, aad: bytes) -> None:
    assert make(message[15:-66], signer, aad) == message


@pytest.mark.parametrize("row", VECTORS["grant"], ids=lambda row: row["name"])
def test_the_claims_are_the_cbor_that_a_library_writes(row: dict[str, Any]) -> None:
    claims = claims_of(row)
    own: dict[int, object] = {-65537: claims.max_open_s} if claims.kind in grant.OPENING else {}
    own |= {-65538: claims.new_key} if claims.new_key else {}
    own |= {-65539: claims.time} if claims.time else {}
    said: dict[int, object] = {2: claims.holder, 3: claims.lock_id, 7: claims.cti}
    said |= {9: bytes([claims.kind]), 39: claims.challenge, 40: claims.life_s}
    payload = bytes.fromhex(row["message"])[15:-66]
    assert cbor2.dumps(said | own, canonical=True) == payload == grant.encode_payload(claims)
    assert cbor2.loads(payload) == said | own


@MAKERS
@pytest.mark.parametrize("kind", [GrantKind.ENTRY, GrantKind.EMERGENCY])
def test_a_lock_obeys_what_they_make(make: Maker, kind: GrantKind) -> None:
    bench = LockBench()
    payload = bench.order(kind)[15:-66]
    assert bench.send(make(payload, KEYS["issuer"], cose.GRANT_AAD)) in ([ResultCode.PRESS_WANTED], [ResultCode.OPENED])


@MAKERS
def test_we_verify_what_they_make_and_they_verify_what_a_lock_says(make: Maker) -> None:
    message = make(rising(0), KEYS["issuer"], cose.GRANT_AAD)
    envelope = cose.split(message, cose.GRANT_AAD)
    assert verify(KEYS["issuer"].public_key, envelope.signed, envelope.signature)
    envelope, hello = codec_ble.open_hello(make(FROM_LOCK["hello"][0][15:-66], KEYS["lock"], cose.HELLO_AAD))
    assert hello.challenge == bytes(range(0xA0, 0xB0))
    assert verify(KEYS["lock"].public_key, envelope.signed, envelope.signature)


# Why a library is no parser here: what it takes for this grant, a lock must not.
LENIENT = {
    "a tail": lambda m: m + b"\x00",
    "an unprotected header": lambda m: m.replace(b"\xa0\x58\x49", b"\xa1\x04\x41\x00\x58\x49", 1),
    "a long payload length": lambda m: m.replace(b"\xa0\x58\x49", b"\xa0\x59\x00\x49", 1),
    "an array of indefinite length": lambda m: m.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
    "a long tag": lambda m: b"\xd8\x12" + m[1:],
}


@pytest.mark.parametrize("change", LENIENT.values(), ids=LENIENT)
def test_what_a_library_takes_for_the_same_grant_is_refused_here(change: Callable[[bytes], bytes]) -> None:
    altered = change(GRANTS["ENTRY"])
    read: Any = CoseMessage.decode(altered)
    read.external_aad, read.key = cose.GRANT_AAD, OKPKey(crv=Ed25519, x=KEYS["issuer"].public_key)
    assert read.verify_signature()
    with pytest.raises(grant.GrantRejected):
        grant.parse(altered)
