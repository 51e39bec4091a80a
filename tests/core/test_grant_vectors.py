"""Every golden vector of the lock's wire, byte for byte."""

import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from manway import codec_ble, cose, grant
from manway.entities import Bolt, Grant, LockHello, LockResult, ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify
from tests.kit.locks import seeded_key

VECTORS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "vectors" / "lock.toml").read_text())
COMMON = {name: bytes.fromhex(text) for name, text in VECTORS["common"].items()}
KEYS: dict[str, SigningKey] = {name: seeded_key(row["seed_from"]) for name, row in VECTORS["keys"].items()}


def short_hash(message: bytes) -> str:
    return sha256(message).hexdigest()[:8]


def claims_of(row: dict[str, Any]) -> Grant:
    new_key = b""
    if "new_key_of" in row:
        generation = row["new_key_generation"].to_bytes(2, "little")
        new_key = bytes([row["new_key_role"], 0]) + generation + KEYS[row["new_key_of"]].public_key
    return Grant(
        kind=GrantKind(row["kind"]),
        **COMMON,
        life_s=row["life_s"],
        max_open_s=row.get("max_open_s", 0),
        time=row.get("time", 0),
        new_key=new_key,
    )


@pytest.mark.parametrize("name", VECTORS["keys"])
def test_a_key_has_its_name(name: str) -> None:
    assert KEYS[name].kid.hex() == VECTORS["keys"][name]["kid"]
    assert KEYS[name].public_key.hex() == VECTORS["keys"][name].get("public", KEYS[name].public_key.hex())


def test_a_lock_id_is_the_hash_of_its_key() -> None:
    assert codec_ble.lock_id_of(KEYS["lock"].public_key) == COMMON["lock_id"]


@pytest.mark.parametrize("row", VECTORS["grant"], ids=lambda row: row["name"])
def test_a_grant_is_encoded_and_read_as_the_vector_says(row: dict[str, Any]) -> None:
    signer, claims = KEYS[row["signer"]], claims_of(row)
    message = signer.sign(cose.GRANT_AAD, grant.encode_payload(claims))
    assert (len(message), short_hash(message)) == (row["size"], row["sha256"])
    parsed = grant.parse(message)
    assert (parsed.kid, parsed.grant) == (signer.kid, claims)
    assert verify(signer.public_key, parsed.signed, parsed.signature)


def test_the_entry_grant_is_these_bytes() -> None:
    row = next(row for row in VECTORS["grant"] if row["name"] == "ENTRY")
    message = KEYS["issuer"].sign(cose.GRANT_AAD, grant.encode_payload(claims_of(row)))
    assert message.hex() == VECTORS["entry"]["message"]


def test_the_voucher_presentation_has_the_same_envelope() -> None:
    row = VECTORS["voucher"]
    claims = b"".join((
        *(b"\xa7\x02\x48", COMMON["holder"], b"\x03\x48", COMMON["lock_id"]),
        *(b"\x04\x1a", row["expires"].to_bytes(4, "big"), b"\x05\x1a", row["not_before"].to_bytes(4, "big")),
        *(b"\x07\x50", COMMON["cti"], bytes.fromhex("08a101a301012006215820"), KEYS["holder"].public_key),
        b"\x09\x41\x03",
    ))  # fmt: skip
    voucher = KEYS["issuer"].sign(b"manway-voucher-v1", claims)
    proof = KEYS["holder"].sign_raw(b"manway-holder-v1" + COMMON["lock_id"] + COMMON["challenge"] + COMMON["cti"])
    presentation = b"\x56" + bytes([len(voucher)]) + voucher + proof
    assert (len(presentation), short_hash(presentation)) == (row["size"], row["sha256"])


def test_the_log_chain_gives_the_heads() -> None:
    log = {name: bytes.fromhex(text) for name, text in VECTORS["log"].items()}
    assert codec_ble.log_head_0(COMMON["lock_id"]) == log["head_0"]
    assert codec_ble.chain(log["head_0"], [log["record_1"], log["record_2"]]) == log["head_2"]


@pytest.mark.parametrize("name", ["record_1", "record_2"])
def test_a_log_record_reads_and_writes_back(name: str) -> None:
    data = bytes.fromhex(VECTORS["log"][name])
    assert codec_ble.encode_record(codec_ble.decode_record(data)) == data


def hello_of_the_vector() -> LockHello:
    return LockHello(
        lock_id=COMMON["lock_id"],
        challenge=COMMON["challenge"],
        state=codec_ble.decode_state(bytes.fromhex(VECTORS["hello"]["state"])),
        log_head=bytes.fromhex(VECTORS["log"]["head_2"]),
        time=0,
        kids=(KEYS["issuer"].kid, bytes(4)),
        firmware=(0, 1, 4, 2),
    )


def test_the_hello_is_signed_as_the_vector_says() -> None:
    hello = hello_of_the_vector()
    assert list(hello.firmware) == VECTORS["hello"]["firmware"]
    message = KEYS["lock"].sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))
    assert (len(message), short_hash(message)) == (VECTORS["hello"]["size"], VECTORS["hello"]["sha256"])
    envelope, read = codec_ble.open_hello(message)
    assert read == hello
    assert verify(KEYS["lock"].public_key, envelope.signed, envelope.signature)


def test_the_opened_result_is_signed_as_the_vector_says() -> None:
    hello = hello_of_the_vector()
    state = msgspec.structs.replace(hello.state, bolt=Bolt.RETRACTED, session=2, log_seq=3, tick=970)
    result = LockResult(COMMON["lock_id"], COMMON["cti"], ResultCode.OPENED, state, hello.log_head)
    message = KEYS["lock"].sign(cose.RESULT_AAD, codec_ble.encode_result(result))
    assert (len(message), short_hash(message)) == (VECTORS["result"]["size"], VECTORS["result"]["sha256"])
    envelope, read = codec_ble.open_result(message)
    assert read == result
    assert verify(KEYS["lock"].public_key, envelope.signed, envelope.signature)
