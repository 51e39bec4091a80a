"""Enrolment at the lock: presence, a printed secret, and nothing stored otherwise (`locks.md` §3.2; L36, T04)."""

import hmac

import msgspec
import pytest

from firmware_sim.lock import Body
from firmware_sim.lock_keys import Slot
from manway import codec_ble, enrolment
from manway.enrolment import EnrolInfo, Enrolment
from manway.entities import Bolt, LockFlag, LogEvent, RefusalReason, ResultCode
from manway.errors import DecodeRejected
from manway.ids import GrantKind
from tests.kit.locks import ADVERTISEMENT_KEY, FIRMWARE, HOLDER, ISSUER, LOCK, SECRET, SITE, LockBench, only

REFUSED = codec_ble.REFUSED
EMERGENCY = GrantKind.EMERGENCY
NOON = 1_782_864_000


def in_mode(*, factory: bool = True) -> LockBench:
    """A lock with its case open, whose button was held for five seconds."""
    bench = LockBench(factory=factory, body=Body())
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.wait(5)
    bench.lock.release_button(bench.now)
    return bench


def info(bench: LockBench) -> EnrolInfo:
    return enrolment.decode_info(bench.lock.enrol_info())


def claims(bench: LockBench) -> Enrolment:
    nonce = info(bench).nonce
    return Enrolment(bench.lock.lock_id, nonce, ISSUER.public_key, SITE.public_key, ADVERTISEMENT_KEY, NOON)


def message(bench: LockBench, *, secret: bytes = SECRET, **changed: object) -> bytes:
    return enrolment.encode(msgspec.structs.replace(claims(bench), **changed), secret)


def trusts_nobody(bench: LockBench) -> bool:
    return set(bench.lock.body.keys.held) == {Slot.FIRMWARE} and bench.lock.body.advertisement_key == bytes(32)


def test_a_lock_from_the_factory_is_enrolled_and_then_opens() -> None:
    bench = in_mode()
    assert info(bench) == EnrolInfo(LOCK.public_key, info(bench).nonce, b"MW-SIM-1", (0, 1, 0, 0), in_mode=True)
    assert bench.send(bench.order(EMERGENCY)) == [REFUSED]
    result = only(bench.lock.receive("enrol", message(bench), bench.now), "enrol")
    _, enrolled = codec_ble.open_result(result)
    assert (enrolled.code, enrolled.cti) == (ResultCode.ENROLLED, claims_nonce(bench))
    assert bench.events[-1] == LogEvent.TIME_SET
    assert LogEvent.ENROLLED in bench.events
    assert bench.lock.body.advertisement_key == ADVERTISEMENT_KEY
    hello = bench.hello()
    assert (hello.kids, hello.time) == ((ISSUER.kid, bytes(4)), NOON)
    assert LockFlag.ENROLMENT not in hello.state.flags
    assert bench.send(bench.order(EMERGENCY, signer=SITE)) == [ResultCode.OPENED]


def claims_nonce(bench: LockBench) -> bytes:
    """The nonce of the enrolment that was taken: the random source counts, boot drew 1 and the mode 2."""
    assert info(bench).nonce == bytes(16)
    return (2).to_bytes(16, "big")


def test_the_chain_of_the_log_goes_on_over_an_enrolment() -> None:
    bench = in_mode(factory=False)
    before = list(bench.flash)
    assert bench.enrol(message(bench)) == [ResultCode.ENROLLED]
    assert bench.flash[: len(before)] == before
    assert bench.hello().log_head == codec_ble.chain(codec_ble.log_head_0(bench.lock.lock_id), bench.flash)


def test_an_enrolment_takes_all_rights_from_those_before() -> None:
    bench = in_mode(factory=False)
    challenge = bench.hello().challenge
    assert bench.enrol(message(bench, issuer_key=HOLDER.public_key)) == [ResultCode.ENROLLED]
    assert bench.send(bench.order(EMERGENCY, challenge=challenge, signer=HOLDER)) == [REFUSED]  # burned
    assert bench.send(bench.order(EMERGENCY, signer=ISSUER)) == [REFUSED]
    assert bench.send(bench.order(EMERGENCY, signer=HOLDER)) == [ResultCode.OPENED]
    assert bench.lock.body.keys.kid(Slot.FIRMWARE) == FIRMWARE.kid


def test_a_grant_that_waited_for_its_press_ends_with_the_enrolment() -> None:
    bench = in_mode(factory=False)
    bench.wait(10)  # the press that began the mode no longer counts for a grant
    assert bench.send(bench.order(GrantKind.ENTRY)) == [ResultCode.PRESS_WANTED]
    out = bench.lock.receive("enrol", message(bench), bench.now)
    assert bench.codes(out) == [ResultCode.NO_PRESS]
    assert bench.press() == []
    assert bench.state.bolt is Bolt.LOCKED


@pytest.mark.parametrize("missing", ["case", "button", "five seconds"])
def test_l36_without_hands_at_the_open_lock_nothing_is_stored(missing: str) -> None:
    bench = LockBench(factory=True, body=Body())
    if missing != "case":
        bench.lock.open_case(bench.now)
    if missing != "button":
        bench.lock.hold_button(bench.now)
    bench.wait(4.9)
    if missing == "five seconds":
        bench.lock.release_button(bench.now)
    bench.wait(60)
    assert info(bench).in_mode is False
    assert LockFlag.ENROLMENT not in bench.state.flags
    assert bench.enrol(message(bench)) == [REFUSED]
    assert trusts_nobody(bench)
    assert bench.refusals == [RefusalReason.PRECONDITION]


def test_l36_the_mode_ends_after_120_seconds() -> None:
    bench = in_mode()
    sent = message(bench)
    bench.wait(119.9)
    assert LockFlag.ENROLMENT in bench.state.flags
    bench.wait(0.1)
    assert bench.enrol(sent) == [REFUSED]
    assert trusts_nobody(bench)


def test_l36_a_wrong_secret_ends_the_mode_and_stores_nothing() -> None:
    bench = in_mode()
    good = message(bench)
    assert bench.enrol(message(bench, secret=bytes(16))) == [REFUSED]
    assert info(bench).in_mode is False
    assert bench.enrol(good) == [REFUSED]
    assert trusts_nobody(bench)
    assert bench.refusals == [RefusalReason.SIGNATURE]  # of two attempts within a minute the first is logged


def test_a_lock_without_a_printed_secret_is_never_enrolled() -> None:
    bench = in_mode()
    bench.lock._parts = msgspec.structs.replace(bench.lock._parts, secret=b"")
    claimed = message(bench)[:-32]
    assert bench.enrol(claimed + hmac.digest(b"", b"manway-enrol-v1" + claimed, "sha256")) == [REFUSED]
    assert trusts_nobody(bench)


OTHERS = {
    "another lock's": ({"lock_id": bytes(8)}, RefusalReason.OTHER_LOCK),
    "another time's": ({"nonce": b"n" * 16}, RefusalReason.CHALLENGE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_enrolment_meant_for_something_else_is_refused_and_the_mode_goes_on(name: str) -> None:
    changed, reason = OTHERS[name]
    bench = in_mode()
    assert bench.enrol(message(bench, **changed)) == [REFUSED]
    assert bench.refusals == [reason]
    assert trusts_nobody(bench)
    assert bench.enrol(message(bench)) == [ResultCode.ENROLLED]


def test_no_flipped_bit_of_an_enrolment_is_taken() -> None:
    bench = in_mode()
    good = message(bench)
    for at in range(len(good)):
        for bit in range(8):
            flipped = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            again = in_mode() if not info(bench).in_mode else bench
            bench = again
            assert bench.enrol(flipped) == [REFUSED]
            assert trusts_nobody(bench)
    assert bench.enrol(message(in_mode())) == [REFUSED]


def test_attempts_are_logged_once_a_minute() -> None:
    bench = LockBench()
    for _ in range(100):
        bench.now += 1
        bench.enrol(b"x")
    assert bench.refusals == [RefusalReason.SHAPE] * 2


def test_a_dead_flash_takes_no_enrolment() -> None:
    bench = in_mode()
    sent = message(bench)
    bench.lock.body.flash_broken = True
    assert bench.enrol(sent) == [REFUSED]
    assert trusts_nobody(bench)


def test_a_dead_random_source_gives_no_mode() -> None:
    bench = LockBench(factory=True, body=Body())
    bench.lock.body.random_stuck = True
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.wait(10)
    assert info(bench).in_mode is False
    assert bench.state.fault == 3


def test_only_a_set_time_moves_the_clock_back_an_enrolment_does_not() -> None:
    bench = LockBench(clock_ahead_s=NOON + 100)
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.wait(5)
    assert bench.enrol(message(bench)) == [ResultCode.ENROLLED]
    assert bench.hello().time == NOON + 105
    assert LogEvent.TIME_SET not in bench.events


def test_over_a_connection_the_answer_is_a_result_and_over_mqtt_it_is_its_own() -> None:
    bench = in_mode()
    for link, name in (("ble-1", "result"), ("", "enrol")):
        (answer,) = [sent for sent in bench.lock.receive("enrol", b"x", bench.now, link=link) if sent.name != "state"]
        assert (answer.name, answer.link, answer.payload) == (name, link, REFUSED)
    asked = bench.lock.receive("enrol", enrolment.ENROL_REQUEST, bench.now)
    assert only(asked, "enrol") == bench.lock.enrol_info()


def test_a_broken_button_begins_no_mode_and_no_opening() -> None:
    bench = LockBench(auto_press_s=1)
    bench.lock.body.button_broken = True
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.send(bench.order(GrantKind.ENTRY))
    assert bench.wait(10) == [ResultCode.NO_PRESS]
    assert info(bench).in_mode is False


def test_a_dark_lock_has_no_button() -> None:
    bench = LockBench()
    bench.lock.lose_power()
    assert bench.lock.hold_button(bench.now) == []


def test_the_case_that_is_closed_again_keeps_its_record_and_drops_its_flag() -> None:
    bench = LockBench()
    bench.lock.open_case(bench.now)
    assert LockFlag.TAMPER in bench.state.flags
    bench.lock.close_case(bench.now)
    assert LockFlag.TAMPER not in bench.state.flags
    assert bench.events[-1] == LogEvent.TAMPER


# --- the codec alone


def test_whatever_is_not_62_bytes_of_a_lock_is_rejected() -> None:
    good = in_mode().lock.enrol_info()
    assert enrolment.encode_info(enrolment.decode_info(good)) == good
    small_order = b"\x01" + b"\x01" + bytes(31) + good[33:]
    for wrong in (b"", good[:-1], good + b"\x00", b"\x02" + good[1:], good[:-1] + b"\x02", small_order):
        with pytest.raises(DecodeRejected, match="enrol"):
            enrolment.decode_info(wrong)


def test_whatever_is_not_157_bytes_of_an_enrolment_is_rejected() -> None:
    good = message(in_mode())
    assert enrolment.decode(good).time == NOON
    same_key = good[:57] + good[25:57] + good[89:]
    for wrong in (b"", good[:-1], good + b"\x00", b"\x02" + good[1:], good[:25] + bytes(32) + good[57:], same_key):
        with pytest.raises(DecodeRejected, match="enrolment"):
            enrolment.decode(wrong)


WRONG: dict[str, dict[str, object]] = {
    "short id": {"lock_id": bytes(7)},
    "long nonce": {"nonce": bytes(17)},
    "short advertisement key": {"advertisement_key": bytes(31)},
    "short secret": {"secret": bytes(15)},
    "weak issuer": {"issuer_key": bytes(32)},
    "one key for both": {"site_key": ISSUER.public_key},
    "time of 33 bits": {"time": 2**32},
    "time before 1970": {"time": -1},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_enrolment_is_not_encoded(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="an enrolment"):
        message(in_mode(), **wrong)  # type: ignore[arg-type]
