"""The virtual lock obeys `locks.md` §1.3-1.5 step by step, with real signatures (conformance cases are in the names)."""

from collections.abc import Callable
from inspect import getsource

import pytest

from firmware_sim import (
    lock_chip,
    lock_enrolment,
    lock_firmware,
    lock_guard,
    lock_keys,
    lock_log,
    lock_orders,
    lock_turns,
    lock_update,
)
from firmware_sim.lock import Body, Publish, VirtualLock
from manway import codec_ble, cose
from manway.codec_ble import LogCount, LogDone, LogOp, LogRequest
from manway.entities import Bolt, Door, LockFlag, LogEvent, RefusalReason, ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import kid_of, verify
from tests.kit.locks import FIRMWARE, HOLDER, ISSUER, LOCK, SITE, LockBench, only

REFUSED, THROTTLED = codec_ble.REFUSED, codec_ble.THROTTLED
PREP, ENTRY, EMERGENCY, CLOSE_OUT = GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT


def an_open_body() -> Body:
    return Body(bolt=Bolt.RETRACTED, session=ENTRY)


def flip(message: bytes, at: int) -> bytes:
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


class PowerLost(BaseException):
    """The supply breaks at the moment a test names."""


class BreakingFlash(list[bytes]):
    """A flash that raises on the n-th record from now, before or after keeping it."""

    left = -1
    error: BaseException = OSError("flash full")
    keeps = False

    def append(self, record: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self.keeps:
            raise self.error
        super().append(record)
        if self.left == 0:
            raise self.error


class DeadFlash(list[bytes]):
    dead = False

    def append(self, record: bytes) -> None:
        if self.dead:
            raise OSError("flash full")
        super().append(record)


# --- opening


def test_l06_entry_opens_after_the_press_and_the_result_says_so() -> None:
    bench = LockBench()
    assert bench.send(bench.order(ENTRY)) == [ResultCode.PRESS_WANTED]
    assert bench.state.bolt is Bolt.LOCKED
    assert bench.press() == [ResultCode.OPENED]
    assert (bench.state.bolt, bench.state.session) == (Bolt.RETRACTED, ENTRY)
    assert bench.events == [LogEvent.BOOT, LogEvent.ACCEPTED, LogEvent.PRESS, LogEvent.RETRACTED]
    assert bench.log[-1].ref == bench.log[1].ref != bytes(16)


def test_l07_prep_opens_with_its_own_session() -> None:
    bench = LockBench()
    bench.open_with(PREP)
    assert (bench.state.session, bench.log[-1].kind) == (PREP, PREP)


def test_l08_entry_after_prep_changes_the_session_and_moves_nothing() -> None:
    bench = LockBench()
    bench.open_with(PREP)
    assert bench.send(bench.order(ENTRY)) == [ResultCode.PRESS_WANTED]
    assert bench.press() == [ResultCode.SESSION_CHANGED]
    assert bench.state.session == ENTRY
    assert bench.events.count(LogEvent.RETRACTED) == 1


def test_l09_without_a_press_nothing_moves_and_the_grant_is_spent() -> None:
    bench = LockBench()
    message = bench.order(ENTRY)
    bench.send(message)
    assert bench.wait(9.9) == []
    assert bench.wait(0.1) == [ResultCode.NO_PRESS]
    assert bench.press() == []
    assert bench.send(message) == [ResultCode.NO_PRESS]  # the stored answer
    assert bench.state.bolt is Bolt.LOCKED
    assert bench.events[-2:] == [LogEvent.NO_PRESS, LogEvent.PRESS]


def test_a_late_press_is_late_even_when_nobody_woke_the_lock_in_time() -> None:
    bench = LockBench()
    bench.send(bench.order(ENTRY))
    bench.now += 11
    assert bench.press() == [ResultCode.NO_PRESS]
    assert bench.state.bolt is Bolt.LOCKED


@pytest.mark.parametrize(("before_s", "code"), [(9, ResultCode.OPENED), (11, ResultCode.PRESS_WANTED)])
def test_a_press_up_to_ten_seconds_earlier_counts(before_s: int, code: ResultCode) -> None:
    bench = LockBench()
    message = bench.order(ENTRY)
    bench.press()
    bench.wait(before_s)
    assert bench.send(message) == [code]


def test_one_press_opens_one_grant_only() -> None:
    bench = LockBench()
    bench.open_with(PREP)
    assert bench.send(bench.order(ENTRY)) == [ResultCode.PRESS_WANTED]


def test_l10_emergency_opens_without_a_press_for_issuer_and_site() -> None:
    for signer in (ISSUER, SITE):
        bench = LockBench()
        assert bench.send(bench.order(EMERGENCY, signer=signer)) == [ResultCode.OPENED]
        assert (bench.state.bolt, bench.state.session) == (Bolt.RETRACTED, EMERGENCY)


def test_a_training_lock_presses_its_own_button() -> None:
    bench = LockBench(auto_press_s=3)
    bench.send(bench.order(ENTRY))
    assert bench.lock.next_deadline() == pytest.approx(bench.now + 3)
    assert bench.wait(60) == [ResultCode.OPENED]
    bench.send(bench.order(CLOSE_OUT))
    assert bench.wait(3) == [ResultCode.LOCKED]


def test_a_seeded_scene_starts_in_its_session() -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    assert (bench.state.bolt, bench.state.session, bench.state.door) == (Bolt.RETRACTED, ENTRY, Door.OPEN)
    assert bench.events == [LogEvent.BOOT]


# --- refusals: one byte on air, the reason in the log


def other_lock(bench: LockBench) -> bytes:
    return bench.order(ENTRY, lock_id=bytes(8))


def rotate(bench: LockBench) -> bytes:
    new_key = bytes(2) + b"\x02\x00" + HOLDER.public_key
    return bench.order(GrantKind.ROTATE_KEY, signer=SITE, new_key=new_key)


def unknown_kind(bench: LockBench) -> bytes:
    payload = bytearray(bench.order(ENTRY)[15:-66])
    payload[41] = 7
    return ISSUER.sign(cose.GRANT_AAD, bytes(payload))


REFUSALS: dict[str, tuple[Callable[[LockBench], bytes], RefusalReason]] = {
    "nothing": (lambda _: b"", RefusalReason.SHAPE),
    "a tail": (lambda bench: bench.order(ENTRY) + b"\x00", RefusalReason.SHAPE),
    "a bit of the header": (lambda bench: flip(bench.order(ENTRY), 6), RefusalReason.SHAPE),
    "a bit of the kid": (lambda bench: flip(bench.order(ENTRY), 8), RefusalReason.KID),
    "a stranger's key": (lambda bench: bench.order(ENTRY, signer=HOLDER), RefusalReason.KID),
    "the firmware key": (lambda bench: bench.order(ENTRY, signer=FIRMWARE), RefusalReason.KIND),
    "a bit of a claim's key": (lambda bench: flip(bench.order(ENTRY), 15 + 11), RefusalReason.PAYLOAD),
    "another lock": (other_lock, RefusalReason.OTHER_LOCK),
    "another challenge": (lambda bench: bench.order(ENTRY, challenge=bytes(16)), RefusalReason.CHALLENGE),
    "entry by the site key": (lambda bench: bench.order(ENTRY, signer=SITE), RefusalReason.KIND),
    "a key rotation by the site": (rotate, RefusalReason.KIND),
    "kind 7": (unknown_kind, RefusalReason.KIND),
    "a bit of the signature": (lambda bench: flip(bench.order(ENTRY), 100), RefusalReason.SIGNATURE),
    "a bit of max_open": (lambda bench: flip(bench.order(ENTRY, max_open_s=3600), 87), RefusalReason.SIGNATURE),
    "close-out of a locked lock": (lambda bench: bench.order(CLOSE_OUT), RefusalReason.PRECONDITION),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_l13_l19_l20_a_refusal_is_the_same_byte_for_every_reason_and_the_log_names_it(name: str) -> None:
    make, reason = REFUSALS[name]
    bench = LockBench()
    assert bench.send(make(bench)) == [REFUSED]
    assert bench.refusals == [reason]
    bench.press()
    assert bench.state.bolt is Bolt.LOCKED


def test_l18_an_s_plus_l_signature_is_refused() -> None:
    bench = LockBench(verifier=lambda _key, _message, _signature: True)
    message = bench.order(ENTRY)
    s = int.from_bytes(message[-32:], "little") + 2**252 + 27742317777372353535851937790883648493
    assert bench.send(message[:-32] + s.to_bytes(32, "little")) == [REFUSED]
    assert bench.refusals == [RefusalReason.SIGNATURE]


def raise_memory_error(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    raise MemoryError


def test_a_verifier_that_fails_or_says_anything_but_true_refuses() -> None:  # T02
    for verifier in (raise_memory_error, lambda _key, _message, _signature: b"yes"):
        bench = LockBench(verifier=verifier)  # type: ignore[arg-type]
        assert bench.send(bench.order(EMERGENCY)) == [REFUSED]
        assert bench.refusals == [RefusalReason.SIGNATURE]
        assert bench.state.bolt is Bolt.LOCKED


def test_an_exception_after_acceptance_refuses_and_no_press_follows() -> None:  # T02
    bench = LockBench()
    message = bench.order(ENTRY)
    bench.lock._sign = lambda _aad, _payload: (_ for _ in ()).throw(RuntimeError("no entropy"))
    assert bench.send(message) == [REFUSED]
    bench.lock._sign = LOCK.sign
    assert bench.press() == []
    assert bench.send(message) == [REFUSED]
    assert bench.state.bolt is Bolt.LOCKED
    assert LogEvent.FAULT in bench.events


@pytest.mark.parametrize(
    ("life_s", "age_s", "reason"),
    [(60, 60, None), (60, 60.1, RefusalReason.AGE), (60, 61, RefusalReason.AGE), (40, 39, None), (40, 41, RefusalReason.AGE)],
)
def test_l15_a_grant_lives_from_its_challenge_by_the_locks_tick(
    life_s: int, age_s: float, reason: RefusalReason | None
) -> None:  # B05
    bench = LockBench()
    message = bench.order(ENTRY, life_s=life_s)
    bench.wait(age_s)
    assert bench.send(message) == [REFUSED if reason else ResultCode.PRESS_WANTED]
    assert bench.refusals == ([reason] if reason else [])


def test_l15_a_life_of_61_seconds_is_refused() -> None:
    bench = LockBench()
    payload = bench.order(ENTRY)[15:-66].replace(b"\x18\x28\x18\x3c", b"\x18\x28\x18\x3d")
    assert bench.send(ISSUER.sign(cose.GRANT_AAD, payload)) == [REFUSED]
    assert bench.refusals == [RefusalReason.PAYLOAD]


def test_setting_the_clock_makes_no_grant_younger() -> None:  # T08
    bench = LockBench()
    old = bench.order(ENTRY)
    bench.wait(61)
    bench.send(bench.order(GrantKind.SET_TIME, time=1_000_000_000))
    assert bench.send(old) == [REFUSED]


# --- once


def test_a_replay_a_foreign_lock_a_flipped_bit_and_an_old_grant_are_four_refusals() -> None:
    bench, other = LockBench(), LockBench(key=HOLDER)
    used = bench.order(ENTRY)
    bench.send(used)
    bench.press()
    bench.send(bench.order(CLOSE_OUT))
    bench.wait(2)
    bench.press()
    assert bench.state.bolt is Bolt.LOCKED
    assert bench.send(used) == [REFUSED]
    assert bench.send(other.order(ENTRY, challenge=bench.hello().challenge)) == [REFUSED]
    assert bench.send(flip(bench.order(ENTRY), 150)) == [REFUSED]
    late = bench.order(ENTRY)
    bench.wait(61)
    assert bench.send(late) == [REFUSED]
    assert bench.refusals == [
        RefusalReason.CHALLENGE, RefusalReason.OTHER_LOCK, RefusalReason.SIGNATURE, RefusalReason.AGE,
    ]  # fmt: skip
    assert bench.state.bolt is Bolt.LOCKED


def test_l11_a_duplicate_gets_the_stored_result_and_opens_nothing() -> None:
    bench = LockBench()
    message = bench.order(ENTRY)
    bench.send(message)
    opened = only(bench.lock.press(bench.now), "result")
    length = len(bench.flash)
    assert only(bench.lock.receive("grant", message, bench.now), "result") == opened
    assert len(bench.flash) == length


def test_a_second_grant_for_the_same_challenge_is_refused() -> None:
    bench = LockBench()
    challenge = bench.hello().challenge
    bench.send(bench.order(ENTRY, challenge=challenge))
    assert bench.send(bench.order(ENTRY, challenge=challenge)) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE]


def test_l04_l14_a_new_hello_and_a_lost_link_end_the_challenge() -> None:
    bench = LockBench()
    first = bench.order(ENTRY)
    second = bench.order(ENTRY)
    assert bench.send(first) == [REFUSED]
    bench.lock.link_lost(bench.now)
    assert bench.send(second) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE] * 2


def test_l22_whatever_was_sent_before_a_reboot_opens_nothing_after_it() -> None:  # T01
    bench = LockBench()
    sent = [bench.order(ENTRY), bench.order(EMERGENCY)]
    bench.send(sent[1])
    bench.lock.body = Body()
    bench.lock.reboot(bench.now)
    bench.hello()
    assert [bench.send(message) for message in sent] == [[REFUSED], [REFUSED]]
    assert bench.state.bolt is Bolt.LOCKED


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("kind", [ENTRY, EMERGENCY])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_l12_power_cut_at_any_record_leaves_no_opening_for_later(nth: int, kind: GrantKind, *, keeps: bool) -> None:
    flash = BreakingFlash()
    bench = LockBench(flash=flash)
    message = bench.order(kind)
    flash.left, flash.error, flash.keeps = nth, PowerLost(), keeps
    with pytest.raises(PowerLost):  # noqa: PT012 - the cut comes in one of the two
        bench.send(message)
        bench.press()
    bench.lock.lose_power()
    before = bench.lock.body.bolt
    assert bench.lock.reboot(bench.now)
    bench.hello()
    assert bench.send(message) == [REFUSED]
    bench.press()
    assert bench.lock.body.bolt is before
    moved = before is Bolt.RETRACTED
    assert bench.state.session == (kind if moved else 0)
    boot = next(record for record in bench.log if record.event == LogEvent.BOOT and record.boot == 2)
    assert boot.bolt == before
    if nth == 1:  # between burning the challenge and the record that must come before the motion
        assert not moved


def test_the_bolt_moves_only_after_its_record_is_on_flash() -> None:
    bench = LockBench()
    seen: list[tuple[int, Bolt]] = []

    class Watched(list[bytes]):
        def append(self, record: bytes) -> None:
            seen.append((codec_ble.decode_record(record).event, bench.lock.body.bolt))
            super().append(record)

    bench.lock._flash = Watched(bench.flash)
    bench.lock.reboot(bench.now)
    bench.send(bench.order(EMERGENCY))
    assert seen[-2:] == [(LogEvent.ACCEPTED, Bolt.LOCKED), (LogEvent.RETRACTED, Bolt.RETRACTED)]


def test_a_dead_flash_stops_entry_and_close_out_but_no_rescue() -> None:
    flash = DeadFlash()
    bench = LockBench(flash=flash)
    flash.dead = True
    assert bench.send(bench.order(ENTRY)) == [ResultCode.FAULT]
    assert bench.press() == []
    assert (bench.state.bolt, bench.state.fault) == (Bolt.LOCKED, 2)
    assert bench.send(bench.order(EMERGENCY)) == [ResultCode.OPENED]
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.FAULT]
    assert bench.state.bolt is Bolt.RETRACTED
    flash.dead = False
    bench.press()
    assert bench.state.fault == 0


# --- throttle


def test_l21_after_five_refusals_it_answers_fe_and_looks_at_one_message_in_five_seconds() -> None:
    bench = LockBench()
    assert [bench.send(b"x") for _ in range(8)] == [[REFUSED]] * 5 + [[THROTTLED]] * 3
    good = bench.order(ENTRY)
    assert bench.send(good) == [THROTTLED]
    bench.wait(5)
    assert bench.send(good) == [ResultCode.PRESS_WANTED]
    assert bench.refusals == [RefusalReason.SHAPE] * 5 + [RefusalReason.THROTTLED]


def test_the_throttle_ends_a_minute_after_the_refusals() -> None:
    bench = LockBench()
    for _ in range(5):
        bench.send(b"x")
    bench.wait(60)
    assert [bench.send(b"x") for _ in range(2)] == [[REFUSED]] * 2


def test_a_good_emergency_opens_at_once_after_ten_thousand_bad_grants() -> None:  # T25
    bench = LockBench()
    bad = flip(bench.order(ENTRY), 100)
    for _ in range(10_000):
        bench.send(bad)
    assert bench.send(bench.order(EMERGENCY)) == [ResultCode.OPENED]
    assert len(bench.flash) < 20


def test_forged_emergencies_cost_at_most_four_signatures_a_second() -> None:
    checked: list[bytes] = []

    def verifier(key: bytes, message: bytes, signature: bytes) -> bool:
        checked.append(signature)
        return verify(key, message, signature)

    bench = LockBench(verifier=verifier)
    for _ in range(5):
        bench.send(b"x")
    forged = flip(bench.order(EMERGENCY), 100)
    for _ in range(100):
        bench.now += 0.01
        bench.send(forged)
    assert 3 <= len(checked) <= 4
    good = bench.order(EMERGENCY)
    assert bench.send(good) == [ResultCode.OPENED]


def test_one_record_tells_of_a_whole_flood() -> None:
    bench = LockBench()
    for _ in range(3000):  # five minutes: every fifth second one message is looked at, and refused for its shape
        bench.wait(0.1)
        bench.send(b"x")
    assert bench.refusals == [RefusalReason.SHAPE] * 5 + [RefusalReason.THROTTLED]
    bench.wait(61)
    bench.send(b"x")
    assert bench.refusals[-1] == RefusalReason.SHAPE
    for _ in range(6):
        bench.send(b"x")
    assert bench.refusals[-2:] == [RefusalReason.SHAPE, RefusalReason.THROTTLED]


def test_what_the_issuer_signed_is_refused_on_the_record_in_a_flood_too() -> None:
    bench = LockBench()
    for _ in range(8):
        bench.send(b"x")
    bench.wait(5)
    assert bench.send(bench.order(CLOSE_OUT)) == [REFUSED]  # of a locked lock
    assert bench.refusals[-2:] == [RefusalReason.THROTTLED, RefusalReason.PRECONDITION]
    bench.send(b"x")
    assert bench.refusals[-1] == RefusalReason.PRECONDITION


# --- closing


def armed_bench() -> LockBench:
    bench = LockBench(body=an_open_body())
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.ARMED]
    assert (bench.state.session, bench.state.bolt) == (4, Bolt.RETRACTED)
    return bench


def test_l24_close_out_arms_and_the_press_throws_the_bolt() -> None:
    bench = armed_bench()
    assert bench.press() == [ResultCode.LOCKED]
    assert (bench.state.bolt, bench.state.session) == (Bolt.LOCKED, 0)
    assert bench.events == [LogEvent.BOOT, LogEvent.ACCEPTED, LogEvent.ARMED, LogEvent.PRESS, LogEvent.THROWN]


def test_a_press_before_the_order_does_not_close() -> None:
    bench = LockBench(body=an_open_body())
    message = bench.order(CLOSE_OUT)
    bench.press()
    assert bench.send(message) == [ResultCode.ARMED]
    assert bench.state.bolt is Bolt.RETRACTED


def test_l25_close_out_with_the_door_open_is_refused() -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    assert bench.send(bench.order(CLOSE_OUT)) == [REFUSED]
    assert bench.refusals == [RefusalReason.PRECONDITION]


def test_l25_a_close_out_that_answers_a_hello_at_the_open_door_is_refused_and_a_new_one_is_not() -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    message = bench.order(CLOSE_OUT)
    bench.lock.close_door(bench.now)
    bench.wait(5)
    assert bench.send(message) == [REFUSED]
    assert bench.refusals == [RefusalReason.PRECONDITION]
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.ARMED]


@pytest.mark.parametrize("kind", [PREP, ENTRY, EMERGENCY])
def test_a_cover_that_falls_shut_takes_no_opening_away(kind: GrantKind) -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    message = bench.order(kind)
    bench.lock.close_door(bench.now)
    assert bench.send(message)[0] in (ResultCode.PRESS_WANTED, ResultCode.SESSION_CHANGED)


def test_l25_a_door_opened_after_the_hello_ends_the_order() -> None:
    bench = LockBench(body=an_open_body())
    message = bench.order(CLOSE_OUT)
    bench.lock.open_door(bench.now)
    bench.lock.close_door(bench.now)
    assert bench.send(message) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE]


def test_l25_a_door_opened_after_arming_disarms() -> None:
    bench = armed_bench()
    assert bench.codes(bench.lock.open_door(bench.now)) == [ResultCode.NOT_CLOSED]
    bench.lock.close_door(bench.now)
    bench.wait(5)
    assert bench.press() == []
    assert bench.state.bolt is Bolt.RETRACTED
    assert bench.state.session == ENTRY
    assert LogEvent.DISARMED in bench.events


def test_the_bolt_waits_until_the_door_was_closed_for_two_seconds() -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    bench.lock.close_door(bench.now)
    bench.send(bench.order(CLOSE_OUT))
    assert bench.press() == []
    assert bench.state.bolt is Bolt.RETRACTED
    bench.wait(2)
    assert bench.press() == [ResultCode.LOCKED]


BY_HAND = pytest.mark.parametrize("draw", [VirtualLock.pull_inside_release, VirtualLock.break_seal])


@BY_HAND
def test_l25_a_bolt_drawn_by_hand_after_arming_disarms(draw: Callable[[VirtualLock, float], list[Publish]]) -> None:
    bench = armed_bench()
    assert bench.codes(draw(bench.lock, bench.now)) == [ResultCode.NOT_CLOSED]
    bench.wait(5)
    assert bench.press() == []
    assert bench.lock.body.bolt is Bolt.RETRACTED


@BY_HAND
def test_l25_a_motor_that_struggles_to_close_stops_when_somebody_pulls(
    draw: Callable[[VirtualLock, float], list[Publish]],
) -> None:
    bench = armed_bench()
    bench.lock.body.motor_stuck = True
    bench.press()
    assert bench.codes(draw(bench.lock, bench.now)) == [ResultCode.NOT_CLOSED]
    bench.lock.body.motor_stuck = False
    assert bench.wait(60) == []
    assert (bench.state.bolt, bench.state.fault) == (Bolt.RETRACTED, 0)


def test_l25_a_close_out_signed_before_somebody_pulled_the_release_arms_nothing() -> None:
    bench = LockBench(body=an_open_body())
    message = bench.order(CLOSE_OUT)
    bench.lock.pull_inside_release(bench.now)
    assert bench.send(message) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE]
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.ARMED]


def test_a_jammed_bolt_that_is_drawn_by_hand_is_jammed_no_more() -> None:
    bench = LockBench()
    bench.lock.body.motor_stuck = True
    assert bench.send(bench.order(EMERGENCY)) == []
    assert bench.codes(bench.lock.pull_inside_release(bench.now)) == [ResultCode.JAMMED]
    assert (bench.state.bolt, bench.state.fault) == (Bolt.RETRACTED, 0)
    assert bench.wait(10) == []


def test_l26_an_unused_close_out_ends_after_120_seconds() -> None:
    bench = armed_bench()
    assert bench.wait(119.9) == []
    assert bench.wait(0.2) == [ResultCode.NOT_CLOSED]
    bench.press()
    assert bench.state.bolt is Bolt.RETRACTED


@pytest.mark.parametrize("kind", [PREP, ENTRY, EMERGENCY])
def test_an_opening_grant_takes_the_arming_away(kind: GrantKind) -> None:
    bench = armed_bench()
    assert bench.send(bench.order(kind))[0] is ResultCode.NOT_CLOSED
    bench.press()
    assert (bench.state.bolt, bench.state.session) == (Bolt.RETRACTED, kind)


def test_l27_nothing_but_close_out_throws_the_bolt() -> None:
    bench = LockBench()
    bench.open_with(ENTRY, max_open_s=10)
    bench.lock.open_door(bench.now)
    bench.lock.close_door(bench.now)
    bench.lock.set_battery(0, bench.now)
    bench.lock.link_lost(bench.now)
    bench.lock.lose_power()
    assert bench.wait(3600) == []
    bench.lock.reboot(bench.now)
    bench.wait(86_400)
    bench.press()
    assert (bench.state.bolt, bench.state.session) == (Bolt.RETRACTED, ENTRY)


def test_l30_a_lock_left_open_says_so_and_shuts_nothing() -> None:
    bench = LockBench()
    bench.open_with(ENTRY, max_open_s=10)
    bench.wait(9.9)
    assert LockFlag.LEFT_OPEN not in bench.state.flags
    bench.wait(0.2)
    assert LockFlag.LEFT_OPEN in bench.state.flags
    assert bench.events[-1] == LogEvent.LEFT_OPEN
    bench.send(bench.order(CLOSE_OUT))
    bench.press()
    assert LockFlag.LEFT_OPEN not in bench.state.flags


# --- battery, motor, random source


def test_l10_below_ten_percent_only_rescue_opens() -> None:
    bench = LockBench()
    bench.lock.set_battery(9, bench.now)
    assert bench.events[-1] == LogEvent.BATTERY_LOW
    assert LockFlag.BATTERY_LOW in bench.state.flags
    assert bench.send(bench.order(ENTRY)) == [REFUSED]
    assert bench.refusals == [RefusalReason.PRECONDITION]
    assert bench.log[-1].ref != bytes(16)
    assert bench.send(bench.order(EMERGENCY)) == [ResultCode.OPENED]


def test_a_jammed_motor_reports_and_rescue_tries_again() -> None:
    bench = LockBench()
    bench.lock.body.motor_stuck = True
    bench.send(bench.order(ENTRY))
    assert bench.press() == []
    assert (bench.state.bolt, bench.lock.next_deadline()) == (Bolt.MOVING, bench.now + 1.5)
    assert bench.wait(2.9) == []
    assert bench.wait(0.1) == [ResultCode.JAMMED]
    assert (bench.state.bolt, bench.state.fault, bench.state.session) == (Bolt.JAMMED, 1, 0)
    assert bench.send(bench.order(ENTRY)) == [REFUSED]
    bench.lock.body.motor_stuck = False
    assert bench.send(bench.order(EMERGENCY)) == [ResultCode.OPENED]
    assert (bench.state.bolt, bench.state.fault) == (Bolt.RETRACTED, 0)


def test_a_motor_jammed_while_closing_keeps_the_session() -> None:
    bench = armed_bench()
    bench.lock.body.motor_stuck = True
    assert bench.press() == []
    assert bench.state.session == 4
    assert bench.wait(3) == [ResultCode.JAMMED]
    assert (bench.lock.body.bolt, bench.state.session) == (Bolt.RETRACTED, ENTRY)


def test_a_rescue_on_a_bolt_that_jammed_on_its_way_shut_says_when_the_motor_is_still_stuck() -> None:
    bench = armed_bench()
    bench.lock.body.motor_stuck = True
    bench.press()
    assert bench.wait(3) == [ResultCode.JAMMED]
    assert bench.send(bench.order(EMERGENCY)) == []
    assert bench.state.bolt is Bolt.MOVING
    assert bench.wait(3) == [ResultCode.JAMMED]


def test_a_motor_that_gets_free_within_its_two_retries_opens_after_all() -> None:
    for within_s in (1.4, 2.9):
        bench = LockBench()
        bench.lock.body.motor_stuck = True
        assert bench.send(bench.order(EMERGENCY)) == []
        bench.wait(within_s)
        bench.lock.body.motor_stuck = False
        assert bench.wait(3 - within_s) == [ResultCode.OPENED]
        assert (bench.state.bolt, bench.state.fault) == (Bolt.RETRACTED, 0)


def test_a_rescue_takes_the_place_of_a_bolt_that_does_not_move() -> None:
    bench = LockBench()
    message = bench.order(ENTRY)
    bench.press()
    bench.lock.body.motor_stuck = True
    assert bench.send(message) == []
    rescue = bench.order(EMERGENCY)
    bench.lock.body.motor_stuck = False
    assert bench.send(rescue) == [ResultCode.JAMMED, ResultCode.OPENED]
    assert bench.events.count(LogEvent.JAMMED) == 1


def test_l25_a_door_opened_while_the_motor_struggles_to_close_stops_it() -> None:
    bench = armed_bench()
    bench.lock.body.motor_stuck = True
    bench.press()
    assert bench.codes(bench.lock.open_door(bench.now)) == [ResultCode.NOT_CLOSED]
    bench.lock.body.motor_stuck = False
    assert bench.wait(60) == []
    assert bench.lock.body.bolt is Bolt.RETRACTED


def test_a_random_source_that_repeats_itself_gives_no_challenge() -> None:
    draws = iter([bytes(16), b"a" * 16, b"a" * 16, b"b" * 16])
    bench = LockBench(random_bytes=lambda _size: next(draws))
    message = bench.order(EMERGENCY)
    bench.wait(1)
    out = bench.lock.receive("hello", b"\x01", bench.now)
    assert [sent.name for sent in out] == ["state"]
    assert bench.state.fault == 3
    assert bench.send(message) == [REFUSED]
    assert bench.hello().state.fault == 0


def test_hellos_asked_of_a_dead_random_source_do_not_wash_the_log_away() -> None:
    bench = LockBench()
    bench.lock.body.random_stuck = True
    for _ in range(2000):
        bench.wait(0.5)
        bench.lock.receive("hello", b"\x01", bench.now, link="stranger")
    assert bench.events == [LogEvent.BOOT, LogEvent.FAULT]


# --- hands


def test_l29_a_door_opened_on_a_thrown_bolt_is_forced() -> None:
    bench = LockBench()
    out = bench.lock.open_door(bench.now)
    assert codec_ble.decode_state(only(out, "state")).flags & LockFlag.FORCED
    assert [(record.event, record.cause) for record in bench.log[1:]] == [(LogEvent.DOOR_OPENED, 0), (LogEvent.FORCED, 1)]
    assert bench.lock.open_door(bench.now) == []
    bench.lock.close_door(bench.now)
    assert bench.lock.close_door(bench.now) == []
    assert LockFlag.FORCED in bench.state.flags
    bench.open_with(ENTRY)
    assert LockFlag.FORCED not in bench.state.flags


def test_a_door_opened_in_a_session_is_not_forced() -> None:
    bench = LockBench(body=an_open_body())
    bench.lock.open_door(bench.now)
    assert LogEvent.FORCED not in bench.events


HANDS: list[tuple[Callable[[VirtualLock, float], object], LogEvent, int, LockFlag]] = [
    (VirtualLock.cut_shackle, LogEvent.FORCED, 2, LockFlag.FORCED),
    (VirtualLock.open_case, LogEvent.TAMPER, 0, LockFlag.TAMPER),
    (VirtualLock.break_seal, LogEvent.SEAL_BROKEN, 0, LockFlag.SEAL_BROKEN),
    (VirtualLock.pull_inside_release, LogEvent.INSIDE_RELEASE, 0, LockFlag.INSIDE_RELEASE),
]


@pytest.mark.parametrize(("act", "event", "cause", "flag"), HANDS, ids=[event.name for _, event, _, _ in HANDS])
@pytest.mark.parametrize("powered", [True, False])
def test_l28_l29_what_hands_do_is_logged_at_once_or_at_the_next_power(
    act: Callable[[VirtualLock, float], object], event: LogEvent, cause: int, flag: LockFlag, *, powered: bool
) -> None:
    bench = LockBench()
    if not powered:
        bench.lock.lose_power()
    act(bench.lock, bench.now)
    drawn = event in (LogEvent.SEAL_BROKEN, LogEvent.INSIDE_RELEASE)
    assert bench.lock.body.bolt is (Bolt.RETRACTED if drawn else Bolt.LOCKED)
    if not powered:
        bench.lock.reboot(bench.now)
    assert (bench.log[-1].event, bench.log[-1].cause) == (event, cause)
    assert flag in bench.state.flags
    assert bench.state.session == 0


def test_a_door_forced_without_power_is_found_at_the_next_boot() -> None:
    bench = LockBench()
    bench.lock.lose_power()
    bench.lock.open_door(bench.now)
    bench.lock.close_door(bench.now)
    bench.lock.open_door(bench.now)
    bench.lock.reboot(bench.now)
    assert [record.event for record in bench.log] == [LogEvent.BOOT, LogEvent.BOOT, LogEvent.FORCED]


# --- hello, state, time, log


def test_at_most_two_hellos_a_second_and_only_for_01() -> None:
    bench = LockBench()
    bench.hello()
    bench.now += 0.4
    assert bench.lock.receive("hello", b"\x01", bench.now) == []
    bench.now += 0.1
    assert bench.lock.receive("hello", b"\x02", bench.now) == []
    assert bench.lock.receive("voucher", b"\x01", bench.now) == []
    assert bench.lock.receive("hello", b"\x01", bench.now) != []


def test_l03_l31_the_hello_carries_who_what_and_the_head_of_the_log() -> None:
    bench = LockBench()
    hello = bench.hello()
    assert hello.lock_id == codec_ble.lock_id_of(LOCK.public_key)
    assert hello.kids == (kid_of(ISSUER.public_key), bytes(4))
    assert hello.log_head == codec_ble.chain(codec_ble.log_head_0(hello.lock_id), bench.flash)
    assert hello.state.flags == LockFlag.TIME_UNKNOWN
    assert hello.time == 0


def test_l04_a_thousand_challenges_differ() -> None:
    bench = LockBench()
    assert len({bench.hello().challenge for _ in range(1000)}) == 1000


def test_l38_the_state_is_published_on_change_and_every_minute() -> None:
    bench = LockBench()
    assert [sent.name for sent in bench.lock.advance(0)] == ["state"]
    assert bench.lock.advance(59.9) == []
    assert bench.lock.next_deadline() == 60
    assert [sent.name for sent in bench.lock.advance(60)] == ["state"]
    assert [sent.name for sent in bench.lock.open_door(61)] == ["state"]
    assert bench.lock.next_deadline() == 121


def test_the_result_goes_out_before_the_state() -> None:
    bench = LockBench()
    out = bench.lock.receive("grant", bench.order(EMERGENCY), bench.now)
    assert [sent.name for sent in out] == ["result", "state"]
    envelope, result = codec_ble.open_result(out[0].payload)
    assert verify(LOCK.public_key, envelope.signed, envelope.signature)
    assert result.log_head == codec_ble.chain(codec_ble.log_head_0(result.lock_id), bench.flash)


def test_l34_set_time_sets_the_evidence_clock_until_the_next_boot() -> None:
    bench = LockBench()
    message = bench.order(GrantKind.SET_TIME, life_s=10, time=1_782_864_000)
    assert bench.send(message) == [ResultCode.TIME_SET]
    bench.wait(9.5)
    hello = bench.hello()
    assert hello.time == 1_782_864_010
    assert LockFlag.TIME_UNKNOWN not in hello.state.flags
    assert bench.send(bench.order(GrantKind.SET_TIME, time=1_782_864_000)) == [ResultCode.TIME_SET]
    assert bench.log[-1].arg == 10
    assert bench.send(message) == [REFUSED]
    bench.lock.reboot(bench.now)
    assert bench.hello().time == 0


def test_set_time_leaves_a_waiting_grant_alone() -> None:
    bench = LockBench()
    bench.send(bench.order(ENTRY))
    assert bench.send(bench.order(GrantKind.SET_TIME, time=1)) == [ResultCode.TIME_SET]
    assert bench.press() == [ResultCode.OPENED]


def test_l31_a_reboot_keeps_log_and_sequence_and_counts_boots() -> None:
    bench = LockBench()
    bench.open_with(ENTRY)
    before = list(bench.flash)
    bench.wait(30)
    out = bench.lock.reboot(bench.now)
    assert bench.flash[: len(before)] == before
    assert [record.seq for record in bench.log] == list(range(1, len(before) + 2))
    state = codec_ble.decode_state(only(out, "state"))
    assert (state.boot, state.tick, state.session, state.bolt) == (2, 0, ENTRY, Bolt.RETRACTED)
    again = LockBench(flash=bench.flash)
    assert again.state.boot == 3


def test_l32_the_log_is_read_from_any_record_and_never_deleted() -> None:
    bench = LockBench()
    for _ in range(205):
        bench.press()

    def ask(request: bytes) -> tuple[list[bytes], LogCount | LogDone]:
        out = bench.lock.receive("logctl", request, bench.now)
        messages = [sent.payload for sent in out if sent.name == "log"]
        return messages, codec_ble.decode_log_answer(only(out, "logctl"))

    messages, done = ask(codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 1)))
    assert [len(codec_ble.split_log(message)) for message in messages] == [100, 100, 6]
    assert b"".join(messages) == b"".join(bench.flash)
    assert done == LogDone(LogOp.REPORT, supported=True)
    messages, _ = ask(codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 206)))
    assert messages == bench.flash[-1:]
    assert ask(codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 207)))[0] == []
    assert ask(codec_ble.encode_log_request(LogRequest(LogOp.COUNT, 200)))[1] == LogCount(7, 1, 206)
    assert ask(codec_ble.encode_log_request(LogRequest(LogOp.ABORT)))[1] == LogDone(LogOp.ABORT, supported=True)
    assert ask(b"\x02\x01") == ([], LogDone(2, supported=False))
    assert ask(b"") == ([], LogDone(0, supported=False))
    assert len(bench.flash) == 206


def test_without_power_it_neither_answers_nor_moves() -> None:
    bench = LockBench()
    message = bench.order(EMERGENCY)
    bench.lock.lose_power()
    assert bench.lock.receive("grant", message, bench.now) == []
    assert bench.press() == []
    assert bench.lock.next_deadline() is None
    assert bench.state.bolt is Bolt.LOCKED


def test_one_line_of_the_firmware_moves_the_bolt() -> None:
    parts = (lock_chip, lock_enrolment, lock_firmware, lock_guard, lock_keys, lock_log, lock_orders, lock_turns, lock_update)
    source = "".join(getsource(module) for module in parts)
    assert source.count("body.bolt = ") == 1
