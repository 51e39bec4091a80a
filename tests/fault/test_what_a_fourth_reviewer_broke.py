"""What a fourth reader of the lock and of what speaks for it found: each story ends well only once its defect is gone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from firmware_sim.lock import Body
from firmware_sim.lock_chip import FLASH_FAULT
from manway.codec_adv import LockAdvertisement, decode_advertisement
from manway.codec_ble import HELLO_REQUEST, THROTTLED
from manway.codec_gas import (
    GasReading,
    InstrumentReport,
    ReadingFlag,
    Sensor,
    SensorKind,
    encode_instrument,
    encode_reading,
)
from manway.codec_mqtt import encode
from manway.commands import GreetLock, RelayEnrolment
from manway.entities import Bolt, Door, Lock, LogEvent, LogRecord, Reading, ResultCode
from manway.events import EnrolmentAnswered, LockForced, LockGreeted, MessageRejected
from manway.ids import GrantKind, Status
from manway.inputs import (
    AnyInput,
    CommandReceived,
    EnrolmentReceived,
    FrameReceived,
    InputRejected,
    LockAdvertised,
    LockReported,
    LogReceived,
    ResultReceived,
)
from manway.instrument import InstrumentState
from manway.runtime.ports import Message
from manway.topics import Address
from tests.contract.test_ingest import SITE_ID, Told, an_ingest, signed_plan
from tests.core.test_lock_to_engine import Visit
from tests.core.test_self_reports import lock_says, over_its_range, report
from tests.kit.builders import TIMINGS, Bench, a_plan, an_instrument
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.gateway import inputs_of, tell
from tests.kit.locks import ADVERTISEMENT_KEY, LockBench, only

ENTRY, EMERGENCY, CLOSE_OUT = GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT
FIRST_RECORD = LogRecord(1, 1, 1, 0, LogEvent.BOOT, 0, Bolt.LOCKED, Door.CLOSED, 0, 90, 0, bytes(16))

begun = list[Told]()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while begun:
        begun.pop().journal.close()


def begin(folder: Path) -> Told:
    """A host on its folder, whose journal is closed when the test is over, however it ends."""
    folder.mkdir(exist_ok=True)
    begun.append(Told(folder))
    return begun[-1]


# -- nobody is shut in, and nobody's rescue is denied ------------------------------------------------------------------


def test_whoever_climbs_in_while_the_hatch_stands_open_at_the_hello_is_not_shut_in() -> None:
    # `locks.md` §1.5: the door must have read closed SINCE the hello. Only an opening burns the challenge; a door that was open
    # already at the hello, and closes behind somebody, leaves it alive (shut.pml BUG_NO_DOOR_CHECK).
    bench = LockBench(body=Body(bolt=Bolt.RETRACTED, session=ENTRY, door=Door.OPEN))
    hello = bench.hello()
    assert hello.state.door is Door.OPEN
    bench.lock.close_door(bench.now)
    bench.send(bench.order(CLOSE_OUT, challenge=hello.challenge))
    bench.wait(3)
    bench.press()
    assert bench.state.bolt is Bolt.RETRACTED


@pytest.mark.parametrize("after_s", [0.0, 5.0], ids=["while the motor tries again", "when it has given up"])
def test_a_rescue_on_a_bolt_that_jammed_on_its_way_shut_runs_the_motor(after_s: float) -> None:
    # Where a bolt jammed while it was thrown, nobody knows that it is open; the lock answers SESSION_CHANGED (rescue done),
    # never runs the motor although it is well again, and goes on saying JAMMED.
    bench = LockBench()
    bench.open_with()
    bench.wait(3)
    assert bench.send(bench.order(CLOSE_OUT)) == [ResultCode.ARMED]
    rescue = bench.hello().challenge
    bench.lock.body.motor_stuck = True
    bench.press()
    bench.wait(after_s)
    bench.lock.body.motor_stuck = False
    assert bench.send(bench.order(EMERGENCY, challenge=rescue))[-1] is ResultCode.OPENED
    assert bench.state.bolt is Bolt.RETRACTED


def test_a_stranger_who_asks_for_hellos_all_the_time_keeps_no_rescuer_from_theirs() -> None:
    # The two hellos a second are counted over all links: on a second connection anybody takes every one, and a rescue, which
    # needs a challenge of its own link, never gets any.
    bench = LockBench()
    heard = 0
    for _ in range(50):  # five seconds
        bench.now += 0.1
        bench.lock.receive("hello", HELLO_REQUEST, bench.now, link="stranger")
        heard += len(bench.lock.receive("hello", HELLO_REQUEST, bench.now, link="rescuer"))
    assert heard


def forged_rescue(bench: LockBench, link: str) -> bytes:
    """Everything in it is right, for anybody can read it off a hello, but the signature."""
    good = bytearray(bench.order(EMERGENCY, challenge=bench.hello(link=link).challenge))
    good[-40] ^= 1
    return bytes(good)


def test_a_stranger_who_forges_rescues_all_the_time_delays_no_true_one_beyond_five_seconds() -> None:
    # The four signatures a second are counted over all links: forged EMERGENCYs of a stranger's own link use every one of them.
    bench = LockBench()
    forged = forged_rescue(bench, "stranger")
    true = bench.order(EMERGENCY, challenge=bench.hello(link="rescuer").challenge)
    for _ in range(5):
        bench.send(forged, link="stranger")
    answers = list[ResultCode | bytes]()
    for _ in range(50):  # five seconds
        bench.now += 0.1
        bench.send(forged, link="stranger")
        answers += bench.send(true, link="rescuer")
        if answers[-1] != THROTTLED:
            break
    assert answers[-1] is ResultCode.OPENED


def test_a_stranger_cannot_wash_a_forced_door_out_of_the_log_by_radio() -> None:
    # Each forged EMERGENCY that a throttled lock evaluates is a record of its own, and re-arms the record of the throttling:
    # eight records a second empty the ring of 1,024 in three minutes.
    bench = LockBench()
    bench.lock.open_door(bench.now)
    forged = forged_rescue(bench, "stranger")
    for second in range(4 * 60 * 10):
        bench.now += 0.1
        if second % 500 == 0:
            forged = forged_rescue(bench, "stranger")
        bench.send(forged, link="stranger")
    assert LogEvent.FORCED in bench.events


# -- no alarm is cleared or hidden ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [LogReceived("lock-1", [FIRST_RECORD]), ResultReceived("lock-1", None)], ids=["an old record", "a refusal byte"]
)
def test_a_broadcast_opening_stays_an_alarm_when_the_lock_says_nothing_about_it(word: AnyInput) -> None:
    # Records known since long, and the unsigned `ff`, set `heard_at`; a broadcast opening older than that counts as answered,
    # although no word has told where the bolt is.
    bench = Bench()
    bench.give(LogReceived("lock-1", [FIRST_RECORD]), at=1)
    bench.give(lock_says(Bolt.RETRACTED, Door.OPEN, log_seq=3), at=2)
    bench.give(word, at=3)
    bench.wait(3 + TIMINGS.lock_confirm_s)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"


@pytest.mark.parametrize(
    "word", [LogReceived("lock-1", [FIRST_RECORD]), ResultReceived("lock-1", None)], ids=["an old record", "a refusal byte"]
)
def test_a_lock_of_which_only_old_words_are_repeated_is_offline(word: AnyInput) -> None:
    # "An old word is no sign of life" holds for states only: the same log download, or `ff`, once a minute hides LOCK_OFFLINE.
    bench = Bench()
    for minute in range(1, 11):
        bench.give(word, at=60 * minute)
    assert bench.alarm("LOCK_OFFLINE", "lock-1") == "unacked"


def test_one_wild_record_does_not_make_the_gateway_deaf_to_a_locks_log() -> None:
    # Log records are not signed: one with a huge number moves `log_seq`, every later record is then "known", nothing is pulled
    # any more, and the signed heads that contradict it are not compared (`LogTrail._compare` waits for an equal number).
    visit = Visit()
    visit.meet()
    wild = msgspec.structs.replace(FIRST_RECORD, seq=2**32 - 9)
    visit.engine.give(LogReceived("lock-1", [wild]), at=visit.lock.now)
    visit.lock.wait(2 * TIMINGS.refused_window_s)
    visit.lock.lock.cut_shackle(visit.lock.now)
    events = visit.meet()
    visit.lock.wait(1)
    events += visit.meet()
    assert any(isinstance(event, LockForced | MessageRejected) for event in events)


def test_a_door_forced_on_a_lock_whose_flash_is_broken_is_an_alarm_although_its_log_stands_still() -> None:
    # What is broadcast under the log number of the last report is "told already", even of a lock that has reported a
    # broken flash (fault 2) and so has no other number; over Bluetooth nobody asks it either.
    lock = LockBench()
    lock.lock.body.advertisement_key = ADVERTISEMENT_KEY
    known = Lock("lock-1", lock.lock.lock_id, lock.key.public_key, "n01", advertisement_key=ADVERTISEMENT_KEY)
    bench = Bench(a_plan(locks=[known]), locked=False)
    lock.lock.body.flash_broken = True
    lock.press()
    assert lock.state.fault == FLASH_FAULT
    bench.give(LockReported("lock-1", lock.state), at=1)
    lock.wait(5)
    lock.lock.open_door(lock.now)
    said = decode_advertisement(lock.lock.lock_id, ADVERTISEMENT_KEY, lock.lock.advertisement(lock.now))
    assert isinstance(said, LockAdvertisement)
    assert (said.door, said.tampered) == (Door.OPEN, True)
    bench.give(LockAdvertised("lock-1", said), at=6)
    bench.wait(6 + TIMINGS.lock_confirm_s)
    raised = [kind for kind in ("UNAUTHORISED_OPEN", "TAMPER", "FORCED") if bench.alarm(kind, "lock-1") == "unacked"]
    assert raised


def test_an_instrument_that_forgets_and_remembers_its_bump_test_has_not_passed_another() -> None:
    # "Newer" is held against the last report alone: 0 (unknown) between two words of the SAME old test makes it a new one, and
    # numbers of a sensor that was over its range, or poisoned, count again.
    bench = over_its_range()
    bench.give(report(), at=3)
    bench.give(report(bump_at=0), at=4)
    bench.give(report(), at=5)
    bench.read(6)
    assert bench.engine.site.instruments["gas-1"].state is InstrumentState.OVER_RANGE


def test_what_another_instrument_says_of_itself_is_not_this_ones() -> None:
    # The report names its device in 8 bytes, and the plan has them; nobody compares, so a mixed-up address or topic gives one
    # instrument the bump test and the dates of another.
    ingest = an_ingest()
    ingest.know(a_plan(2, instruments=[an_instrument(device_id=b"gas--001")]))
    sensors = (Sensor("H2S", SensorKind.EC, 100.0, 0.0, 30),)
    other = InstrumentReport(b"gas--002", 7, (1, 0, 0, 0), int(EPOCH), 0, 0, 30, 87, sensors)
    message = Message("up/instrument", encode_instrument(other))
    (item,) = ingest.take(Address(SITE_ID, "gas-1", "up/instrument"), message, EPOCH)
    assert isinstance(item, InputRejected)


# -- the right answer to the right question ---------------------------------------------------------------------------


def greet(number: int, at: float) -> CommandReceived:
    envelope = {"id": f"greet-{number}", "site": SITE_ID, "at": EPOCH + at, "exp": EPOCH + at + 60, "by": "attendant"}
    return CommandReceived(msgspec.convert(envelope | {"lock": "lock-1"}, GreetLock))


def test_an_old_hello_that_the_broker_hands_out_again_does_not_answer_the_next_request(tmp_path: Path) -> None:
    # Whatever hello comes first takes the waiting command with it: a QoS 1 repeat of the last one goes to the signer, the grant
    # answers a dead challenge, and the fresh hello is passed on to nobody. For a rescue these are its seconds.
    lock = LockBench()
    known = Lock("lock-1", lock.lock.lock_id, lock.key.public_key, "n01")
    told = begin(tmp_path)
    told.tell(("api/plan", signed_plan(a_plan(locks=[known]))))
    hellos = list[bytes]()
    for number in (1, 2):
        told.tell(("api/cmd", encode(greet(number, number).command)), at=number)
        lock.wait(1)
        hellos.append(only(lock.lock.receive("hello", HELLO_REQUEST, lock.now), "hello"))
        told.tell(("up/hello", hellos[0]), at=number)  # the first time it is fresh, then it is repeated
    told.tell(("up/hello", hellos[1]), at=2.1)
    greeted = {event.cause: event.hello for event in told.said(LockGreeted) if isinstance(event, LockGreeted)}
    assert greeted["greet-2"] == hellos[1].hex()


def test_what_a_lock_answered_to_the_first_message_of_an_enrolment_does_not_answer_the_second() -> None:
    # A repeat of the 62 bytes of Enrol takes the place of the signed result; that is then "nobody enrols this lock".
    # The lock has new keys by then, and the firm has given it up.
    bench, about = Bench(), bytes([1]) + bytes(61)
    result = bytes(159)
    for number, (asked, answers) in enumerate([(b"\x01", [about]), (bytes(157), [about, result])], 1):
        envelope = {"id": f"relay-{number}", "site": SITE_ID, "at": EPOCH + number, "exp": EPOCH + 60, "by": "admin"}
        told = msgspec.convert(envelope | {"lock": "lock-1", "message": asked.hex()}, RelayEnrolment)
        bench.give(CommandReceived(told), at=number)
        for answer in answers:
            bench.give(EnrolmentReceived("lock-1", answer), at=number)
    answered = {event.cause: event.message for event in bench.events if isinstance(event, EnrolmentAnswered)}
    assert answered["relay-2"] == result.hex()


# -- packed frames and time -------------------------------------------------------------------------------------------


def packed(seq: int, tick: int, *, boot: int = 7) -> bytes:
    air = {gas: Reading(Status.OK, value) for gas, value in {"O2": 20.9, "LEL": 0.0, "CO": 0.0, "H2S": 0.0}.items()}
    return encode_reading(GasReading(boot, seq, tick, ReadingFlag(0), air))


def give_frames(told: Told, frames: list[bytes], at: float) -> None:
    address = Address(SITE_ID, "gas-1", "up/frame")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        messages = [(address, Message("up/frame", frame)) for frame in frames]
        runner.run(tell(told.host, told.journal, messages, EPOCH + at, told.bus))


def test_the_backlog_of_a_gateways_death_is_no_live_air_of_an_instrument_switched_on_since_the_last_snapshot(
    tmp_path: Path,
) -> None:
    # `Waiting.clocks` is all that knows when a packed instrument was switched on, and a replay of the journal makes none again:
    # air of a minute ago counts as now, and an instrument that is silent since passes for heard.
    heard, late = list[float](), list[bool]()
    for restarts in (False, True):
        told = begin(tmp_path / str(restarts))
        told.tell(("api/plan", signed_plan()))
        give_frames(told, [packed(1, 10)], 1)
        if restarts:
            told.restart()
        give_frames(told, [packed(seq, 10 * seq) for seq in range(2, 61)], 125)  # its last word is of the sixtieth second
        heard.append(told.host.engine.site.instruments["gas-1"].heard_at - EPOCH)
        late = [x.frame.replayed for x in inputs_of(told.journal, SITE_ID) if isinstance(x, FrameReceived)]
    assert heard[0] == heard[1]
    assert all(late[1:])


@pytest.mark.parametrize("seq", [3, 6], ids=["an old number", "a new number"])
def test_one_frame_with_a_wild_tick_does_not_silence_an_instrument(seq: int) -> None:
    # An old number with later ticks pulls `began_at` back for good: every frame after it is "late", never judged. A new number
    # with wild ticks makes every frame after it "stand still". Both last until the instrument is switched off and on.
    ingest = an_ingest()
    address = Address(SITE_ID, "gas-1", "up/frame")
    for second in range(1, 6):
        ingest.take(address, Message("up/frame", packed(second, 10 * second)), EPOCH + second)
    ingest.take(address, Message("up/frame", packed(seq, 60_000)), EPOCH + 6)
    live = 0
    for second in range(7, 67):
        (item,) = ingest.take(address, Message("up/frame", packed(second, 10 * second)), EPOCH + second)
        live += isinstance(item, FrameReceived) and not item.frame.replayed
    assert live >= 50  # of sixty


def test_air_of_before_a_restart_of_the_instrument_that_comes_late_is_not_taken_for_the_air_of_now() -> None:
    # Of a packed instrument only one boot's clock is kept (JSON keeps two births): a late frame of the boot before begins a
    # "new" clock, counts as live, restarts the rows, and may bear a true frame's millisecond, which it then replaces.
    ingest = an_ingest()
    address = Address(SITE_ID, "gas-1", "up/frame")
    for second in range(1, 6):
        ingest.take(address, Message("up/frame", packed(second, 10 * second)), EPOCH + second)
    for second in range(1, 6):
        ingest.take(address, Message("up/frame", packed(second, 10 * second, boot=8)), EPOCH + 60 + second)
    (late,) = ingest.take(address, Message("up/frame", packed(6, 60)), EPOCH + 66)
    assert isinstance(late, FrameReceived)
    assert late.frame.replayed
