"""Every golden vector of the lock's wire, byte for byte, and a lock that does with each what its row says."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from manway import codec_adv, codec_ble, cose, enrolment, firmware_manifest, grant
from manway.codec_adv import LockAdvertisement
from manway.codec_ble import Capability, LockInfo, LogOp
from manway.enrolment import EnrolInfo, Enrolment
from manway.entities import Bolt, Door, LockHello, LockResult, ResultCode
from manway.firmware_manifest import Manifest
from manway.gatt import LOCK_SERVICE
from manway.ids import GrantKind
from manway.runtime.signing import verify
from tests.kit.locks import SECRET, LockBench, only
from tests.kit.vectors import COMMON, GRANTS, KEYS, VECTORS, claims_of, rising


def short_hash(message: bytes) -> str:
    return sha256(message).hexdigest()[:8]


def hexed(section: str, name: str = "message") -> bytes:
    return bytes.fromhex(VECTORS[section][name])


@pytest.mark.parametrize("name", VECTORS["keys"])
def test_a_key_has_its_name(name: str) -> None:
    assert KEYS[name].kid.hex() == VECTORS["keys"][name]["kid"]
    assert KEYS[name].public_key.hex() == VECTORS["keys"][name]["public"]


def test_a_lock_id_is_the_hash_of_its_key() -> None:
    assert codec_ble.lock_id_of(KEYS["lock"].public_key) == COMMON["lock_id"]


@pytest.mark.parametrize("row", VECTORS["grant"], ids=lambda row: row["name"])
def test_a_grant_is_encoded_and_read_as_the_vector_says(row: dict[str, Any]) -> None:
    signer, claims = KEYS[row["signer"]], claims_of(row)
    message = signer.sign(cose.GRANT_AAD, grant.encode_payload(claims))
    assert (message.hex(), len(message), short_hash(message)) == (row["message"], row["size"], row["sha256"])
    parsed = grant.parse(message)
    assert (parsed.kid, parsed.grant) == (signer.kid, claims)
    assert verify(signer.public_key, parsed.signed, parsed.signature)


def test_every_kind_has_a_vector() -> None:
    assert {row["kind"] for row in VECTORS["grant"]} == set(GrantKind)


# --- what a lock does with them


def greeted() -> LockBench:
    """An enrolled lock, locked and closed, that has just given out the challenge of the vectors."""
    draws = [bytes(16), COMMON["challenge"]]
    bench = LockBench(random_bytes=lambda _size: draws.pop(0))
    assert bench.hello().challenge == COMMON["challenge"]
    return bench


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["name"])
def test_a_lock_refuses_for_the_reason_of_the_row(row: dict[str, Any]) -> None:
    bench = greeted()
    out = bench.lock.receive("grant", bytes.fromhex(row["message"]), bench.now)
    assert only(out, "result") == hexed("result", "refused")
    assert bench.refusals == [row["reason"]]
    bench.press()
    assert bench.state.bolt is Bolt.LOCKED


def test_every_reason_a_grant_alone_can_give_has_a_row() -> None:
    # The others need more than a message: 6 time, 10 a flood, 11 a broken flash, 12 is of no lock of this version.
    assert {row["reason"] for row in VECTORS["refused"]} == {1, 2, 3, 4, 5, 7, 8, 9}


ACCEPTED = {
    "PREP": ResultCode.PRESS_WANTED,
    "ENTRY": ResultCode.PRESS_WANTED,
    "EMERGENCY by issuer": ResultCode.OPENED,
    "EMERGENCY by site key": ResultCode.OPENED,
    "ROTATE_KEY of the site": ResultCode.KEY_SET,
    "SET_TIME": ResultCode.TIME_SET,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_lock_accepts_the_others(name: str) -> None:
    assert greeted().send(GRANTS[name]) == [ACCEPTED[name]]


def test_a_lock_that_is_open_and_closed_accepts_the_close_out() -> None:
    bench = greeted()
    bench.lock.body.bolt = Bolt.RETRACTED
    assert bench.send(GRANTS["CLOSE_OUT"]) == [ResultCode.ARMED]


# --- vouchers are of no lock of this version; their envelope is kept for the one that will take them


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
    assert greeted().send(presentation) == [codec_ble.REFUSED]


# --- enrolment, firmware


def test_the_enrolment_is_these_bytes() -> None:
    row = VECTORS["enrolment"]
    keys = (KEYS["issuer"].public_key, KEYS["site"].public_key, rising(row["advertisement_key_from"]))
    claims = Enrolment(COMMON["lock_id"], hexed("enrolment", "nonce"), *keys, row["time"])
    message, secret = enrolment.encode(claims, hexed("enrolment", "secret")), hexed("enrolment", "secret")
    assert (message.hex(), len(message)) == (row["message"], row["size"])
    assert enrolment.decode(message) == claims
    assert enrolment.is_authentic(message, secret)
    assert not enrolment.is_authentic(message, bytes(16))
    assert secret == SECRET


def test_a_lock_from_the_factory_takes_the_enrolment_and_then_the_entry() -> None:
    draws = [bytes(16), hexed("enrolment", "nonce"), COMMON["challenge"]]
    bench = LockBench(random_bytes=lambda _size: draws.pop(0), factory=True)
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.wait(5)
    assert bench.enrol(hexed("enrolment")) == [ResultCode.ENROLLED]
    bench.wait(10)
    bench.hello()
    assert bench.send(GRANTS["ENTRY"]) == [ResultCode.PRESS_WANTED]


def test_enrol_reads_as_these_bytes() -> None:
    info = EnrolInfo(KEYS["lock"].public_key, hexed("enrolment", "nonce"), b"MW-SIM-1", (0, 1, 4, 2), in_mode=True)
    assert enrolment.encode_info(info) == hexed("enrol")
    assert enrolment.decode_info(hexed("enrol")) == info


def test_the_manifest_is_these_bytes() -> None:
    row = VECTORS["manifest"]
    image = row["image_of"].encode() * row["image_times"]
    versions = (tuple(row["version"]), tuple(row["min_version"]))
    manifest = Manifest(hexed("manifest", "hardware_id"), *versions, len(image), sha256(image).digest())
    message = KEYS["firmware"].sign(cose.FIRMWARE_AAD, firmware_manifest.encode(manifest))
    assert (message.hex(), len(message)) == (row["message"], row["size"])
    assert firmware_manifest.open_manifest(message)[1] == manifest
    bench = LockBench()
    bench.lock.receive("firmware", message, bench.now)
    bench.lock.install(image, bench.now)
    assert bench.hello().firmware == (0, 2, 0, 0)


# --- what a lock says


def test_the_log_chain_gives_the_heads() -> None:
    log = {name: bytes.fromhex(text) for name, text in VECTORS["log"].items()}
    assert codec_ble.log_head_0(COMMON["lock_id"]) == log["head_0"]
    assert codec_ble.chain(log["head_0"], [log["record_1"], log["record_2"]]) == log["head_2"]


@pytest.mark.parametrize("name", ["record_1", "record_2"])
def test_a_log_record_reads_and_writes_back(name: str) -> None:
    data = hexed("log", name)
    assert codec_ble.encode_record(codec_ble.decode_record(data)) == data


@pytest.mark.parametrize("row", VECTORS["log_control"], ids=lambda row: row["name"])
def test_a_lock_with_that_log_answers_log_control_so(row: dict[str, str]) -> None:
    bench = LockBench(flash=[hexed("log", "record_1"), hexed("log", "record_2")])
    del bench.flash[2:]  # its own boot
    out = bench.lock.receive("logctl", bytes.fromhex(row["to"]), bench.now)
    assert only(out, "logctl").hex() == row["answer"]
    answer = codec_ble.decode_log_answer(bytes.fromhex(row["answer"]))
    assert codec_ble.encode_log_answer(answer).hex() == row["answer"]


def test_every_request_to_a_log_has_a_vector() -> None:
    assert {int(row["to"][:2], 16) for row in VECTORS["log_control"]} == {*LogOp, 2}


def hello_of_the_vector() -> LockHello:
    return LockHello(
        lock_id=COMMON["lock_id"],
        challenge=COMMON["challenge"],
        state=codec_ble.decode_state(hexed("hello", "state")),
        log_head=hexed("log", "head_2"),
        time=0,
        kids=(KEYS["issuer"].kid, bytes(4)),
        firmware=(0, 1, 4, 2),
    )


def test_the_hello_is_signed_as_the_vector_says() -> None:
    hello = hello_of_the_vector()
    assert list(hello.firmware) == VECTORS["hello"]["firmware"]
    message = KEYS["lock"].sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))
    assert message == hexed("hello")
    assert (len(message), short_hash(message)) == (VECTORS["hello"]["size"], VECTORS["hello"]["sha256"])
    envelope, read = codec_ble.open_hello(message)
    assert read == hello
    assert verify(KEYS["lock"].public_key, envelope.signed, envelope.signature)


def test_the_opened_result_is_signed_as_the_vector_says() -> None:
    hello = hello_of_the_vector()
    state = msgspec.structs.replace(hello.state, bolt=Bolt.RETRACTED, session=2, log_seq=3, tick=970)
    result = LockResult(COMMON["lock_id"], COMMON["cti"], ResultCode.OPENED, state, hello.log_head)
    message = KEYS["lock"].sign(cose.RESULT_AAD, codec_ble.encode_result(result))
    assert message == hexed("result")
    assert (len(message), short_hash(message)) == (VECTORS["result"]["size"], VECTORS["result"]["sha256"])
    envelope, read = codec_ble.open_result(message)
    assert read == result
    assert verify(KEYS["lock"].public_key, envelope.signed, envelope.signature)


def test_the_refusal_bytes_are_these() -> None:
    assert (hexed("result", "refused"), hexed("result", "throttled")) == (codec_ble.REFUSED, codec_ble.THROTTLED)


def test_info_reads_as_these_bytes() -> None:
    info = LockInfo(b"MW-SIM-1", (0, 1, 4, 2), ~Capability(0), 1024, 1)
    assert codec_ble.encode_info(info) == hexed("info")
    assert codec_ble.decode_info(hexed("info")) == info


def test_the_advertisement_is_these_31_bytes() -> None:
    key = rising(VECTORS["enrolment"]["advertisement_key_from"])
    said = LockAdvertisement(Bolt.LOCKED, Door.CLOSED, False, False, False, 0, 87, 2)
    data = codec_adv.encode_lock_advertisement(said, COMMON["lock_id"], key)
    whole = codec_adv.advertising_data(LOCK_SERVICE, data)
    assert (whole, len(whole)) == (hexed("advertisement", "whole"), 31)
    assert codec_adv.decode_advertisement(COMMON["lock_id"], key, whole[-10:]) == said
