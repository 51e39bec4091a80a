"""Key slots, rotation and the evidence clock of the virtual lock (`locks.md` §3.1, §3.3; L19, L33, L34)."""

import pytest

from firmware_sim.lock import Body
from firmware_sim.lock_keys import FILLS, FIRST_GENERATION, KINDS, SUCCEEDS, Key, Keys, Slot
from manway import codec_ble, cose, grant
from manway.entities import LockFlag, LogEvent, RefusalReason, ResultCode
from manway.grant import NewKey
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify
from tests.kit.locks import FIRMWARE, HOLDER, ISSUER, LOCK, SITE, LockBench, only, seeded_key

REFUSED = codec_ble.REFUSED
NEXT, AFTER = HOLDER, seeded_key(0xA0)
ROTATE, SET_TIME, EMERGENCY = GrantKind.ROTATE_KEY, GrantKind.SET_TIME, GrantKind.EMERGENCY
NOON = 1_782_864_000


def new_key(key: SigningKey = NEXT, *, role: int = 0, generation: int = 2) -> bytes:
    return grant.encode_new_key(NewKey(role, generation, key.public_key))


def rotated(role: int = 0) -> LockBench:
    bench = LockBench()
    assert bench.send(bench.order(ROTATE, new_key=new_key(role=role))) == [ResultCode.KEY_SET]
    return bench


# --- who may sign what


OPENING = {GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY}
CLAIMS: dict[GrantKind, dict[str, object]] = {ROTATE: {"new_key": new_key(AFTER)}, SET_TIME: {"time": NOON, "life_s": 10}}
SIGNERS = {"issuer": ISSUER, "site": SITE, "firmware": FIRMWARE, "lock": LOCK, "stranger": seeded_key(0xB0)}


@pytest.mark.parametrize("kind", GrantKind)
@pytest.mark.parametrize("signer", SIGNERS)
def test_l19_every_kind_by_every_signer(signer: str, kind: GrantKind) -> None:
    allowed = signer == "issuer" or (signer == "site" and kind is EMERGENCY)
    bench = LockBench(body=None)
    if kind is GrantKind.CLOSE_OUT:
        bench.open_with()
    before = bench.lock.body.bolt
    answer = bench.send(bench.order(kind, signer=SIGNERS[signer], **CLAIMS.get(kind, {})))  # type: ignore[arg-type]
    assert (answer == [REFUSED]) is not allowed
    if not allowed:
        known = signer in ("site", "firmware")
        assert bench.refusals == [RefusalReason.KIND if known else RefusalReason.KID]
        bench.press()
        assert bench.lock.body.bolt is before


def test_a_key_opens_by_the_slot_it_lies_in_and_by_nothing_else() -> None:
    assert {slot: kinds for slot, kinds in KINDS.items() if kinds == frozenset(GrantKind)}.keys() == {0, 1}
    assert {slot for slot, kinds in KINDS.items() if kinds == {EMERGENCY}} == {2, 3}
    assert {slot for slot, kinds in KINDS.items() if not kinds} == {Slot.FIRMWARE, Slot.NEXT_FIRMWARE}
    assert {*FILLS.values(), Slot.NEXT_FIRMWARE} == set(SUCCEEDS)


# --- rotation


def test_l33_the_next_issuer_works_and_its_first_use_erases_the_old() -> None:
    bench = rotated()
    assert bench.hello().kids == (ISSUER.kid, NEXT.kid)
    assert bench.send(bench.order(GrantKind.PREP)) == [ResultCode.PRESS_WANTED]  # the old one still works
    assert bench.send(bench.order(GrantKind.PREP, signer=NEXT)) == [ResultCode.NO_PRESS, ResultCode.PRESS_WANTED]
    assert bench.hello().kids == (NEXT.kid, bytes(4))
    assert bench.send(bench.order(EMERGENCY, signer=ISSUER)) == [REFUSED]
    assert bench.refusals == [RefusalReason.KID]
    set_records = [record for record in bench.log if record.event == LogEvent.KEY_SET]
    assert [(record.cause, record.arg) for record in set_records] == [(Slot.NEXT_ISSUER, 2), (Slot.ISSUER, 2)]


def test_l33_the_next_site_key_works_and_its_first_use_erases_the_old() -> None:
    bench = rotated(role=2)
    assert bench.send(bench.order(GrantKind.ENTRY, signer=NEXT)) == [REFUSED]
    assert bench.send(bench.order(EMERGENCY, signer=SITE)) == [ResultCode.OPENED]
    assert bench.send(bench.order(EMERGENCY, signer=NEXT)) == [ResultCode.SESSION_CHANGED]
    assert bench.send(bench.order(EMERGENCY, signer=SITE)) == [REFUSED]
    assert bench.refusals == [RefusalReason.KIND, RefusalReason.KID]
    assert bench.hello().kids == (ISSUER.kid, bytes(4))


@pytest.mark.parametrize("generation", [0, 1, 2])
@pytest.mark.parametrize("promoted", [False, True])
def test_l33_a_generation_that_does_not_rise_is_refused(generation: int, *, promoted: bool) -> None:
    bench = rotated()
    signer = ISSUER
    if promoted:
        bench.open_with(signer=NEXT)  # type: ignore[arg-type]
        signer = NEXT
    message = bench.order(ROTATE, signer=signer, new_key=new_key(AFTER, generation=generation))
    assert bench.send(message) == [REFUSED]
    assert bench.refusals == [RefusalReason.PRECONDITION]
    assert bench.send(bench.order(ROTATE, signer=signer, new_key=new_key(AFTER, generation=3))) == [ResultCode.KEY_SET]


def test_generations_of_the_two_roles_rise_apart() -> None:
    bench = rotated()
    assert bench.send(bench.order(ROTATE, new_key=new_key(AFTER, role=2, generation=2))) == [ResultCode.KEY_SET]


def test_a_rotation_by_the_next_key_moves_it_up_first() -> None:
    bench = rotated()
    message = bench.order(ROTATE, signer=NEXT, new_key=new_key(AFTER, generation=3))
    assert bench.send(message) == [ResultCode.KEY_SET]
    assert bench.hello().kids == (NEXT.kid, AFTER.kid)


@pytest.mark.parametrize("key", [ISSUER, SITE, FIRMWARE], ids=["issuer", "site", "firmware"])
def test_a_key_that_lies_in_a_slot_gets_no_second_one(key: SigningKey) -> None:
    bench = LockBench()
    assert bench.send(bench.order(ROTATE, new_key=new_key(key))) == [REFUSED]
    assert bench.refusals == [RefusalReason.PRECONDITION]


@pytest.mark.parametrize("weak", [bytes(32), b"\x01" + bytes(31)], ids=["order 4", "identity"])
def test_l18_a_key_of_small_order_is_no_new_key(weak: bytes) -> None:
    with pytest.raises(ValueError, match="no key for role"):
        grant.encode_new_key(NewKey(0, 2, weak))
    bench = LockBench()
    payload = bench.order(ROTATE, new_key=new_key())[15:-66]
    message = ISSUER.sign(cose.GRANT_AAD, payload[:-32] + weak)
    assert bench.send(message) == [REFUSED]
    assert bench.refusals == [RefusalReason.PAYLOAD]


@pytest.mark.parametrize("role", [1, 3, 4, 255])
def test_no_other_role_has_a_next_slot(role: int) -> None:
    with pytest.raises(ValueError, match="no key for role"):
        grant.encode_new_key(NewKey(role, 2, NEXT.public_key))


def test_a_generation_has_16_bits_and_survives() -> None:
    for generation in (0, 1, 258, 65_535):
        new = NewKey(2, generation, NEXT.public_key)
        assert grant.decode_new_key(grant.encode_new_key(new)) == new
    for generation in (-1, 65_536):
        with pytest.raises(ValueError, match="16 bits"):
            grant.encode_new_key(NewKey(2, generation, NEXT.public_key))


def test_slots_outlive_power_and_reboot() -> None:
    bench = rotated()
    bench.lock.lose_power()
    bench.lock.reboot(bench.now)
    assert bench.hello().kids == (ISSUER.kid, NEXT.kid)
    bench.open_with(signer=NEXT)  # type: ignore[arg-type]
    again = LockBench(body=bench.lock.body, flash=bench.flash)  # built anew with the factory's keys: the flash wins
    assert again.hello().kids == (NEXT.kid, bytes(4))


def test_a_rotation_leaves_a_waiting_grant_alone() -> None:
    bench = LockBench()
    bench.send(bench.order(GrantKind.ENTRY))
    assert bench.send(bench.order(ROTATE, new_key=new_key())) == [ResultCode.KEY_SET]
    assert bench.press() == [ResultCode.OPENED]


def test_a_dead_flash_takes_no_key_and_promotes_none() -> None:
    bench = rotated()
    bench.lock.body.flash_broken = True
    assert bench.send(bench.order(ROTATE, new_key=new_key(AFTER, generation=3))) == [ResultCode.FAULT]
    assert bench.send(bench.order(EMERGENCY, signer=NEXT)) == [ResultCode.OPENED]
    assert bench.lock.body.keys.kid(Slot.ISSUER) == ISSUER.kid
    assert bench.lock.body.keys.kid(Slot.NEXT_ISSUER) == NEXT.kid


def test_an_enrolment_forgets_every_rotation_and_keeps_the_firmware_key() -> None:
    keys = rotated().lock.body.keys
    keys.fill(NewKey(2, 7, AFTER.public_key))
    keys.enrol(AFTER.public_key, NEXT.public_key)
    assert keys == Keys({
        Slot.ISSUER: Key(AFTER.public_key, FIRST_GENERATION),
        Slot.SITE: Key(NEXT.public_key, FIRST_GENERATION),
        Slot.FIRMWARE: Key(FIRMWARE.public_key),
    })  # fmt: skip


# --- the evidence clock


def test_l34_set_time_sets_within_a_second_and_a_replay_is_refused() -> None:
    bench = LockBench()
    message = bench.order(SET_TIME, life_s=10, time=NOON)
    assert bench.send(message) == [ResultCode.TIME_SET]
    at = bench.now
    bench.wait(100)
    hello = bench.hello()
    assert abs(hello.time - (NOON + bench.now - at)) <= 1
    assert LockFlag.TIME_UNKNOWN not in hello.state.flags
    assert bench.send(message) == [REFUSED]


@pytest.mark.parametrize("life_s", [10, 60])
def test_a_set_time_older_than_ten_seconds_is_refused_whatever_life_it_claims(life_s: int) -> None:
    for age_s, answer in ((10.0, ResultCode.TIME_SET), (10.1, REFUSED)):
        bench = LockBench()
        message = bench.order(SET_TIME, life_s=life_s, time=NOON)
        bench.wait(age_s)
        assert bench.send(message) == [answer]


@pytest.mark.parametrize(("back_s", "arg"), [(10, 10), (-10, 0x10000 - 10), (100_000, 0x7FFF), (-100_000, 0x8000)])
def test_only_a_set_time_moves_the_clock_back_and_the_log_says_by_how_much(back_s: int, arg: int) -> None:
    bench = LockBench(clock_ahead_s=NOON)
    bench.send(bench.order(SET_TIME, time=NOON - back_s))
    assert (bench.log[-1].event, bench.log[-1].arg) == (LogEvent.TIME_SET, arg)
    assert bench.hello().time == NOON - back_s
    bench.send(bench.order(EMERGENCY))
    assert bench.log[-1].time >= NOON - back_s


def test_l34_a_power_cut_makes_the_time_unknown() -> None:
    bench = LockBench(clock_ahead_s=NOON)
    assert bench.hello().time == NOON
    bench.lock.lose_power()
    bench.lock.reboot(bench.now)
    hello = bench.hello()
    assert (hello.time, LockFlag.TIME_UNKNOWN in hello.state.flags) == (0, True)


def test_a_signature_of_a_next_key_verifies_under_that_key_alone() -> None:
    bench = rotated()
    message = bench.order(EMERGENCY, signer=NEXT)
    forged = message[:8] + ISSUER.kid + message[12:]
    assert bench.send(forged) == [REFUSED]
    assert bench.refusals == [RefusalReason.SIGNATURE]
    assert bench.send(message) == [ResultCode.OPENED]


def test_the_hello_of_a_factory_lock_names_nobody() -> None:
    bench = LockBench(factory=True, body=Body())
    assert bench.hello().kids == (bytes(4), bytes(4))
    out = bench.lock.receive("grant", bench.order(EMERGENCY), bench.now)
    assert only(out, "result") == REFUSED
    assert bench.refusals == [RefusalReason.KID]
    assert verify(LOCK.public_key, b"", b"") is False
