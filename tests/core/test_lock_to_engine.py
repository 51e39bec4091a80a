"""What a lock's log tells an engine that was away: every refusal with its reason, no gap, and the chain the lock signed."""

import msgspec

from firmware_sim.lock import Body
from manway import codec_ble
from manway.codec_ble import HELLO_REQUEST, LogOp, LogRequest
from manway.entities import Bolt, Lock, LogEvent, RefusalReason
from manway.events import Event, GrantRefused, LockForced, MessageRejected
from manway.ids import GrantKind
from manway.inputs import HelloReceived, LockReported, LogReceived, ResultReceived
from manway.log_trail import LogTrail
from tests.core.test_virtual_lock import REFUSALS
from tests.kit.builders import Bench, a_plan
from tests.kit.locks import LockBench, only

LOGGED = tuple(REFUSALS.values())


class Visit:
    """A gateway's engine and a lock that meet now and then; `at` is seconds after EPOCH, as the lock's own clock."""

    def __init__(self, *, log_capacity: int = 1024) -> None:
        self.lock = LockBench(log_capacity=log_capacity)
        known = Lock("lock-1", self.lock.lock.lock_id, self.lock.key.public_key, "n01")
        self.engine = Bench(a_plan(locks=[known]), locked=False)

    @property
    def heard(self) -> int:
        return self.engine.engine.site.locks["lock-1"].log_seq

    def meet(self) -> list[Event]:
        """Hear the state, a signed hello, and every record since the last meeting."""
        at, lock = self.lock.now, self.lock.lock
        state = LockReported("lock-1", lock.state(at))
        self.lock.wait(0.5)
        message = only(lock.receive("hello", HELLO_REQUEST, self.lock.now), "hello")
        greeting = HelloReceived("lock-1", codec_ble.open_hello(message)[1], message, "")
        events = self.engine.give(state, greeting, at=at)
        request = codec_ble.encode_log_request(LogRequest(LogOp.REPORT, self.heard + 1))
        for sent in lock.receive("logctl", request, self.lock.now):
            if sent.name == "log":
                records = [codec_ble.decode_record(record) for record in codec_ble.split_log(sent.payload)]
                events += self.engine.give(LogReceived("lock-1", records), at=at)
        return events

    @property
    def suspicion(self) -> str:
        return self.engine.alarm("SUSPICION", "lock-1")


def test_after_an_hour_away_all_forty_refusals_arrive_with_their_reasons() -> None:
    visit = Visit()
    visit.meet()
    wanted: list[str] = []
    for at in range(40):
        make, reason = LOGGED[at % len(LOGGED)]
        visit.lock.wait(90)  # an hour in all, and slow enough that nothing is throttled
        visit.lock.send(make(visit.lock))
        wanted.append(f"LOCK_{reason.name}")
    assert visit.lock.now > 3600
    events = visit.meet()
    assert [e.reason for e in events if isinstance(e, GrantRefused)] == wanted
    assert {reason.removeprefix("LOCK_") for reason in wanted} == {
        "SHAPE", "KID", "PAYLOAD", "OTHER_LOCK", "CHALLENGE", "KIND", "SIGNATURE", "PRECONDITION",
    }  # fmt: skip
    assert not [e for e in events if isinstance(e, MessageRejected)]
    assert visit.heard == visit.lock.state.log_seq
    head = codec_ble.chain(codec_ble.log_head_0(visit.lock.lock.lock_id), visit.lock.flash)
    trail = visit.engine.engine.site.locks["lock-1"].log_trail
    assert (trail.seq, trail.head) == (visit.heard, head)
    assert visit.lock.hello().log_head == head


def test_throttled_and_late_attempts_have_their_reasons_too() -> None:
    visit = Visit()
    late = visit.lock.order(GrantKind.ENTRY)
    visit.lock.wait(61)
    visit.lock.send(late)
    for _ in range(9):
        visit.lock.send(b"x")
    reasons = [e.reason for e in visit.meet() if isinstance(e, GrantRefused)]
    assert reasons == ["LOCK_AGE", *["LOCK_SHAPE"] * 4, "LOCK_THROTTLED"]


def test_a_whole_log_gives_no_doubt_over_meetings_reboots_and_openings() -> None:
    visit = Visit()
    for _ in range(5):
        visit.lock.wait(30)
        visit.lock.send(visit.lock.order(GrantKind.EMERGENCY))
        visit.lock.lock.body.bolt = Bolt.LOCKED
        visit.lock.lock.reboot(visit.lock.now)
        assert not [e for e in visit.meet() if isinstance(e, MessageRejected)]
    assert visit.suspicion == "absent"


def test_a_lost_record_is_told_and_raises_a_suspicion() -> None:
    visit = Visit()
    visit.meet()
    for _ in range(9):
        visit.lock.press()
    visit.lock.lock.lose_record(visit.lock.now)
    told = [e.reason for e in visit.meet() if isinstance(e, MessageRejected)]
    assert told == ["records of its log are missing"]
    assert visit.suspicion == "unacked"


def test_records_that_gave_way_while_nobody_listened_are_told_as_missing() -> None:
    visit = Visit(log_capacity=16)
    visit.meet()
    for _ in range(40):
        visit.lock.press()
    told = [e.reason for e in visit.meet() if isinstance(e, MessageRejected)]
    assert told == ["records of its log are missing"]


def test_a_log_first_heard_in_its_middle_is_believed_from_the_first_signed_head_on() -> None:
    visit = Visit(log_capacity=16)
    for _ in range(40):
        visit.lock.press()
    assert not [e for e in visit.meet() if isinstance(e, MessageRejected)]
    visit.lock.press()
    visit.meet()
    trail = visit.engine.engine.site.locks["lock-1"].log_trail
    assert trail.head == visit.lock.hello().log_head
    assert visit.suspicion == "absent"


def test_a_record_that_was_changed_on_its_way_breaks_the_chain() -> None:
    visit = Visit()
    visit.meet()
    visit.lock.send(b"x")
    record = visit.lock.flash[-1]
    visit.lock.flash[-1] = record[:17] + bytes([RefusalReason.AGE]) + record[18:]
    told = [e.reason for e in visit.meet() if isinstance(e, MessageRejected)]
    assert told == ["its log is not the one it signed"]
    assert visit.suspicion == "unacked"
    visit.engine.wait(visit.lock.now + 700)
    assert visit.suspicion != "unacked"  # the doubt is told once; the alarm is a person's to close


def test_a_signed_result_holds_the_chain_as_well() -> None:
    visit = Visit()
    visit.meet()
    out = visit.lock.lock.receive("grant", visit.lock.order(GrantKind.EMERGENCY), visit.lock.now)
    result = codec_ble.open_result(only(out, "result"))[1]
    forged = msgspec.structs.replace(result, log_head=bytes(32))
    visit.engine.give(ResultReceived("lock-1", forged), at=visit.lock.now)
    records = [codec_ble.decode_record(record) for record in visit.lock.flash[visit.heard :]]
    events = visit.engine.give(LogReceived("lock-1", records), at=visit.lock.now)
    assert [e.reason for e in events if isinstance(e, MessageRejected)] == ["its log is not the one it signed"]


# --- the trail alone


def test_an_older_signed_head_is_not_compared_with_a_newer_record() -> None:
    bench = LockBench(body=Body())
    for _ in range(3):
        bench.press()
    trail = LogTrail()
    first = codec_ble.log_head_0(bench.lock.lock_id)
    for number, record in enumerate(bench.log, start=1):
        assert trail.follow(record, bench.lock.lock_id) == ""
        assert trail.head == codec_ble.chain(first, bench.flash[:number])
    assert trail.believe(2, bytes(32)) == ""
    assert trail.believe(4, codec_ble.chain(first, bench.flash)) == ""
    assert trail.believe(3, bytes(32)) == ""  # repeated by the network: the newer word stands
    assert trail.signed[0] == 4
    assert trail.believe(4, bytes(range(32))) == "its log is not the one it signed"
    assert trail.head == bytes(range(32))
    assert trail.believe(3, bytes(32), newest=True) == "its log has numbers that it never reached"
    assert (trail.seq, trail.head, trail.signed) == (3, bytes(32), (3, bytes(32)))


# --- numbers that the lock never gave


def test_a_record_beyond_what_the_lock_has_told_of_is_refused_and_hides_no_true_one() -> None:
    visit = Visit()
    visit.meet()
    heard, heard_at = visit.heard, visit.engine.engine.site.locks["lock-1"].heard_at
    wild = msgspec.structs.replace(visit.lock.log[-1], seq=heard + 2)
    events = visit.engine.give(LogReceived("lock-1", [wild]), at=visit.lock.now + 1)
    assert [e.reason for e in events if isinstance(e, MessageRejected)] == [
        f"record {heard + 2} is beyond every number that it has told of"
    ]
    assert (visit.heard, visit.suspicion) == (heard, "unacked")
    forced = msgspec.structs.replace(wild, event=LogEvent.FORCED)
    assert [e for e in visit.engine.give(LogReceived("lock-1", [forced]), at=visit.lock.now + 1) if isinstance(e, LockForced)]
    assert visit.engine.engine.site.locks["lock-1"].heard_at == heard_at
    visit.lock.wait(2)
    visit.lock.send(b"x")
    visit.lock.send(b"y")
    assert [e.reason for e in visit.meet() if isinstance(e, GrantRefused)] == ["LOCK_SHAPE"] * 2


def test_records_made_up_one_behind_the_other_are_contradicted_by_the_next_signed_word() -> None:
    visit = Visit()
    visit.meet()
    true = visit.heard
    made_up = [msgspec.structs.replace(visit.lock.log[-1], seq=true + n) for n in range(1, 51)]
    visit.engine.give(LogReceived("lock-1", made_up), at=visit.lock.now)
    assert visit.heard == true + 50
    visit.lock.wait(1)
    told = [e.reason for e in visit.meet() if isinstance(e, MessageRejected)]
    assert told == ["its log has numbers that it never reached"]
    assert visit.suspicion == "unacked"
    visit.lock.send(b"x")
    visit.lock.wait(1)
    events = visit.meet()
    assert [e.reason for e in events if isinstance(e, GrantRefused)] == ["LOCK_SHAPE"]
    assert not [e for e in events if isinstance(e, MessageRejected)]


def test_a_result_that_comes_late_contradicts_no_record_that_is_newer() -> None:
    visit = Visit()
    visit.meet()
    out = visit.lock.lock.receive("grant", visit.lock.order(GrantKind.EMERGENCY), visit.lock.now)
    late = ResultReceived("lock-1", codec_ble.open_result(only(out, "result"))[1])
    visit.lock.wait(5)
    visit.meet()
    events = visit.engine.give(late, at=visit.lock.now)
    assert not [e for e in events if isinstance(e, MessageRejected)]
    assert visit.heard == visit.lock.state.log_seq
