"""Everything that can be wrong with the virtual lock, by name, and what it does then (`locks.md` §9; L10, L12, L28-L32)."""

import pytest

from firmware_sim import lock_faults
from firmware_sim.lock import Body
from firmware_sim.lock_faults import FAULTS, STEPS
from manway import codec_adv, codec_ble
from manway.codec_adv import LockAdvertisement
from manway.codec_ble import Capability, LockInfo, LogCount, LogOp, LogRequest
from manway.entities import Bolt, Door, LockFlag, LogEvent, ResultCode
from manway.ids import GrantKind
from tests.kit.locks import ADVERTISEMENT_KEY, LockBench, only

REFUSED = codec_ble.REFUSED
ENTRY, EMERGENCY, CLOSE_OUT = GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT
DARK = {"battery_dead"}  # no rescue by radio: the seal and the inside release are left
DEAF = {"rng_fail"}  # no challenge is given out
BY_HAND = {"seal_broken"}  # the bolt is drawn already
CUTS = {f"power_cut_at_step_{step}" for step in STEPS}


def apply(bench: LockBench, name: str) -> None:
    lock_faults.apply(name, bench.lock, bench.now)


def test_every_fault_of_the_design_has_its_name() -> None:
    assert STEPS == (10, 11, 12, 13, 14)
    others = (
        "reboot clock_skew jam no_press door_forced tamper shackle_cut seal_broken battery_low battery_dead "
        "flash_full flash_fail rng_fail log_gap"
    )
    assert set(FAULTS) == CUTS | set(others.split())


def test_an_unknown_fault_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"no fault 'rust'; choose one of .*battery_dead, .*tamper"):
        apply(LockBench(), "rust")


@pytest.mark.parametrize("name", sorted(set(FAULTS) - DARK - DEAF - BY_HAND - CUTS))
def test_l10_no_fault_but_darkness_and_deafness_refuses_a_rescue(name: str) -> None:
    bench = LockBench()
    apply(bench, name)
    answer = bench.send(bench.order(EMERGENCY))
    answer += bench.wait(3)
    jammed = name == "jam"  # a bolt that does not move is no refusal
    assert answer == [ResultCode.JAMMED if jammed else ResultCode.OPENED]
    assert bench.lock.body.bolt is (Bolt.LOCKED if jammed else Bolt.RETRACTED)


@pytest.mark.parametrize("name", FAULTS)
def test_l27_no_fault_and_no_mending_throws_a_bolt(name: str) -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY))
    apply(bench, name)
    bench.press()
    bench.wait(86_400)
    lock_faults.mend(bench.lock, bench.now)
    assert (bench.lock.body.bolt, bench.state.session) == (Bolt.RETRACTED, ENTRY)


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"log_gap"} - BY_HAND - CUTS))
def test_after_mending_an_ordinary_opening_works_and_the_log_is_whole(name: str) -> None:
    bench = LockBench()
    apply(bench, name)
    bench.wait(11)
    lock_faults.mend(bench.lock, bench.now)
    bench.open_with()
    base, seqs = bench.lock.body.log_base, [record.seq for record in bench.log]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert bench.hello().log_head == codec_ble.chain(base, bench.flash)


# --- power


CUT_AT = [(step, kind) for step in STEPS for kind in (GrantKind.PREP, ENTRY, EMERGENCY, CLOSE_OUT)]


@pytest.mark.parametrize(("step", "kind"), CUT_AT, ids=lambda value: getattr(value, "name", str(value)))
def test_l12_power_cut_at_a_step_leaves_no_motion_for_later_and_state_and_log_agree(step: int, kind: GrantKind) -> None:
    closing = kind is CLOSE_OUT
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY) if closing else None)
    start = bench.lock.body.bolt
    message = bench.order(kind)
    apply(bench, f"power_cut_at_step_{step}")
    bench.send(message)
    bench.press()
    assert bench.lock.powered is False
    after_cut = bench.lock.body.bolt
    assert (after_cut is not start) is (step == 14)  # power fails as the step begins; 13 is the one that moves
    out = bench.lock.reboot(bench.now)
    state = codec_ble.decode_state(only(out, "state"))
    assert (state.bolt, state.boot) == (after_cut, 2)
    moved = step == 14
    opened = (kind if not closing else ENTRY) if moved is not closing else 0
    assert state.session == opened
    assert (bench.log[-1].event, bench.log[-1].bolt) == (LogEvent.BOOT, after_cut)
    bench.hello()
    assert bench.send(message) == [REFUSED]
    bench.press()
    bench.wait(120)
    assert bench.lock.body.bolt is after_cut
    assert (LogEvent.ACCEPTED in bench.events) is (step > 11)


def test_a_dead_battery_is_dark_and_back_with_everything_it_had() -> None:
    bench = LockBench()
    bench.open_with(ENTRY, max_open_s=600)
    apply(bench, "battery_dead")
    assert bench.wait(3600) == []
    assert bench.lock.receive("hello", b"\x01", bench.now) == []
    lock_faults.mend(bench.lock, bench.now)
    assert (bench.state.bolt, bench.state.session, bench.state.battery_percent) == (Bolt.RETRACTED, ENTRY, 100)
    assert LogEvent.BATTERY_LOW in bench.events
    assert LockFlag.TIME_UNKNOWN in bench.state.flags


def test_l28_the_inside_release_opens_a_dead_lock_by_hand_and_says_so_at_the_next_power() -> None:
    bench = LockBench()
    apply(bench, "battery_dead")
    assert bench.lock.pull_inside_release(bench.now) == []
    assert bench.lock.body.bolt is Bolt.RETRACTED
    out = lock_faults.mend(bench.lock, bench.now)
    assert LockFlag.INSIDE_RELEASE in codec_ble.decode_state(only(out, "state")).flags
    assert bench.events[-1] == LogEvent.INSIDE_RELEASE


def test_a_low_battery_still_opens_and_says_so() -> None:
    bench = LockBench()
    apply(bench, "battery_low")
    assert LockFlag.BATTERY_LOW in bench.state.flags
    bench.open_with(ENTRY)


# --- what no longer works


def test_without_a_button_no_grant_but_a_rescue_opens() -> None:
    bench = LockBench()
    apply(bench, "no_press")
    assert bench.send(bench.order(ENTRY)) == [ResultCode.PRESS_WANTED]
    assert bench.press() == []
    assert bench.wait(10) == [ResultCode.NO_PRESS]
    assert LogEvent.PRESS not in bench.events


def test_a_dead_random_source_gives_no_hello_and_a_fault() -> None:
    bench = LockBench()
    challenge = bench.hello().challenge
    apply(bench, "rng_fail")
    bench.wait(1)
    out = bench.lock.receive("hello", b"\x01", bench.now)
    assert [sent.name for sent in out] == ["state"]
    assert bench.state.fault == 3
    assert bench.send(bench.order(EMERGENCY, challenge=challenge)) == [REFUSED]
    lock_faults.mend(bench.lock, bench.now)
    assert bench.hello().state.fault == 0


def test_a_flash_that_does_not_write_is_a_fault_and_refuses_all_but_a_rescue() -> None:
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY))
    apply(bench, "flash_fail")
    before = list(bench.flash)
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.FAULT]
    assert bench.send(bench.order(GrantKind.SET_TIME, time=1)) == [ResultCode.FAULT]
    assert bench.send(bench.order(EMERGENCY)) == [ResultCode.SESSION_CHANGED]
    assert bench.state.fault == 2
    assert bench.flash == before


def test_a_skewed_clock_is_wrong_and_an_unset_one_stays_unset() -> None:
    bench = LockBench(clock_ahead_s=1000)
    apply(bench, "clock_skew")
    assert bench.hello().time == 1000 + 60
    unset = LockBench()
    apply(unset, "clock_skew")
    assert unset.hello().time == 0


# --- hands


FLAGS = {
    "door_forced": LockFlag.FORCED,
    "tamper": LockFlag.TAMPER,
    "shackle_cut": LockFlag.FORCED,
    "seal_broken": LockFlag.SEAL_BROKEN,
}


@pytest.mark.parametrize("name", FLAGS)
def test_l29_force_is_in_state_log_and_advertisement_at_once(name: str) -> None:
    bench = LockBench()
    out = lock_faults.apply(name, bench.lock, bench.now)
    state = codec_ble.decode_state(only(out, "state"))
    assert state.flags & FLAGS[name]
    said = advertised(bench)
    assert (said.tampered, said.log_seq) == (True, state.log_seq)


def test_a_new_seal_ends_the_flag_and_not_the_record() -> None:
    bench = LockBench()
    apply(bench, "seal_broken")
    bench.lock.renew_seal(bench.now)
    assert LockFlag.SEAL_BROKEN not in bench.state.flags
    assert LogEvent.SEAL_BROKEN in bench.events


def advertised(bench: LockBench) -> LockAdvertisement:
    key = bench.lock.body.advertisement_key
    said = codec_adv.decode_advertisement(bench.lock.lock_id, key, bench.lock.advertisement(bench.now))
    assert isinstance(said, LockAdvertisement)
    return said


def test_the_advertisement_says_what_the_state_says() -> None:
    bench = LockBench(body=Body(advertisement_key=ADVERTISEMENT_KEY))
    bench.lock.set_battery(77, bench.now)
    assert advertised(bench) == LockAdvertisement(Bolt.LOCKED, Door.CLOSED, False, False, False, 0, 77, 1)
    bench.open_with(GrantKind.PREP)
    bench.lock.open_door(bench.now)
    said = advertised(bench)
    assert (said.bolt, said.door, said.session_open, said.session) == (Bolt.RETRACTED, Door.OPEN, True, GrantKind.PREP)
    bench.lock.open_case(bench.now)
    bench.lock.hold_button(bench.now)
    bench.wait(5)
    assert advertised(bench).enrolment is True


# --- the ring


def asked(bench: LockBench, op: LogOp, seq: int) -> tuple[list[bytes], object]:
    out = bench.lock.receive("logctl", codec_ble.encode_log_request(LogRequest(op, seq)), bench.now)
    records = [record for sent in out if sent.name == "log" for record in codec_ble.split_log(sent.payload)]
    return records, codec_ble.decode_log_answer(only(out, "logctl"))


def test_l32_the_ring_keeps_a_thousand_records_and_counts_what_gives_way() -> None:
    bench = LockBench()
    assert bench.lock.log_capacity >= 1000
    apply(bench, "flash_full")
    assert len(bench.flash) == bench.lock.log_capacity
    (first,) = [record for record in bench.log if record.event == LogEvent.OVERWRITTEN]
    assert first.arg == 1
    for _ in range(500):
        bench.press()
    counted = [record.arg for record in bench.log if record.event == LogEvent.OVERWRITTEN]
    assert counted == [1, 100, 200, 300, 400, 500]
    oldest = bench.log[0].seq
    newest = bench.lock.state(bench.now).log_seq
    assert newest - oldest + 1 == bench.lock.log_capacity
    assert asked(bench, LogOp.COUNT, 1)[1] == LogCount(bench.lock.log_capacity, oldest, newest)
    assert asked(bench, LogOp.COUNT, newest)[1] == LogCount(1, oldest, newest)
    records, _ = asked(bench, LogOp.REPORT, 1)
    assert records == bench.flash


def test_l31_the_chain_gives_the_signed_head_over_overwriting_and_reboots() -> None:
    bench = LockBench(log_capacity=8)
    kept: list[bytes] = []
    for at in range(60):
        bench.press()
        if at % 7 == 0:
            bench.lock.reboot(bench.now)
        kept += [record for record in bench.flash if record not in kept]
    assert [codec_ble.decode_record(record).seq for record in kept] == list(range(1, len(kept) + 1))
    assert bench.hello().log_head == codec_ble.chain(codec_ble.log_head_0(bench.lock.lock_id), kept)


def test_a_power_cut_between_a_record_and_the_one_that_gives_way_to_it_is_mended_at_boot() -> None:
    bench = LockBench(log_capacity=8)
    for _ in range(7):
        bench.press()
    extra = bench.flash[0]
    bench.press()
    bench.flash.insert(0, extra)  # as if the oldest had not yet been given up
    bench.lock.body.log_base = codec_ble.log_head_0(bench.lock.lock_id)
    bench.lock.reboot(bench.now)
    assert len(bench.flash) == 8
    assert bench.hello().log_head == codec_ble.chain(bench.lock.body.log_base, bench.flash)


def test_a_lost_record_leaves_a_gap_that_its_readers_see() -> None:
    bench = LockBench()
    for _ in range(9):
        bench.press()
    apply(bench, "log_gap")
    records, _ = asked(bench, LogOp.REPORT, 1)
    seqs = [codec_ble.decode_record(record).seq for record in records]
    assert seqs == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert bench.hello().log_head != codec_ble.chain(codec_ble.log_head_0(bench.lock.lock_id), records)
    assert asked(bench, LogOp.REPORT, 8)[0] == records[-3:]


def test_info_names_hardware_parts_and_log() -> None:
    bench = LockBench(log_capacity=8)
    info = bench.lock.info()
    assert len(info) == 23
    assert codec_ble.decode_info(info) == LockInfo(b"MW-SIM-1", (0, 1, 0, 0), Capability(63), 8, 1)
    for _ in range(10):
        bench.press()
    assert codec_ble.decode_info(bench.lock.info()).oldest_seq == bench.log[0].seq > 1
