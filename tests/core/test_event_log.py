"""One shift in one well, event by event: what each says, what caused it, and which id it has.

Ids are derived from causes (`manway/ids.py`), and api and stores know an event by its id alone: a gateway that is updated
between a crash and its replay must make the same ones again, or every alarm is told twice. So ids are a contract and stand
in `vectors/events.txt`. Whoever changes one on purpose reads the new lines and writes them there:
`.venv/bin/python -m tests.core.test_event_log`.
"""

from pathlib import Path

import msgspec

from manway.commands import GreetLock
from manway.engine import Engine
from manway.entities import Bolt, Door, LockFlag, LockHello, LogEvent, LogRecord, PermitState, RefusalReason, ResultCode
from manway.events import AlarmRaised, Event
from manway.ids import GrantKind, Status
from manway.inputs import (
    CommandReceived,
    FrameReceived,
    HealthReported,
    HelloReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from tests.kit.builders import (
    LIMITS,
    TIMINGS,
    Bench,
    a_frame,
    a_lock,
    a_lock_state,
    a_permit,
    a_plan,
    a_space,
    an_instrument,
    replay,
)
from tests.kit.clock import EPOCH

FILE = Path(__file__).parent / "vectors" / "events.txt"
OPEN = a_lock_state(Bolt.RETRACTED, door=Door.OPEN)
AJAR = a_lock_state(Bolt.RETRACTED)


def record(seq: int, event: LogEvent, **fields: object) -> LogRecord:
    """A record of the lock's own log."""
    rest = dict.fromkeys(LogRecord.__struct_fields__, 0) | {"seq": seq, "event": event, "ref": bytes(16)} | fields
    return msgspec.convert(rest, LogRecord)


def well(bench: Bench, start: int, until: int, **air: object) -> None:
    """The well's instrument and the one Ann wears, once a second, and the attendant every minute; both ends included."""
    for second in range(start, until + 1):
        bench.read(second, **air)
        worn(bench, second, wearer_state=0)
        if second % 60 == 0:
            bench.give(bench.desk.check_in(EPOCH + second), at=second)


def worn(bench: Bench, second: int, *, wearer_state: float) -> None:
    frame = a_frame(second, at=EPOCH + second, device="gas-2", boot=3, wearer_state=wearer_state)
    bench.give(FrameReceived(frame), at=second)


def rebooted(bench: Bench, second: int, seq: int) -> None:
    bench.give(FrameReceived(a_frame(seq, at=EPOCH + second, boot=8)), at=second)


def story() -> Bench:
    """Everything a well, its lock, its people and its air can say in a shift, each at least once."""
    bench = Bench(
        a_plan(
            5,
            spaces=[msgspec.structs.replace(a_space(), connected=["n02"]), a_space("n02", lock="lock-2")],
            instruments=[an_instrument(), an_instrument("gas-2", worn_by="ann")],
            locks=[a_lock(), a_lock("lock-2", space="n02")],
            permits=[a_permit(state=PermitState.ACTIVE, end=EPOCH + 4000)],
        )
    )
    for part in (nobodys, unlocking, people, gas, reminder, instruments, locks, end):
        part(bench)
    return bench


def nobodys(bench: Bench) -> None:
    """What is nobody's, or cannot be read."""
    bench.give(FrameReceived(a_frame(device="gas-9")), LockReported("lock-9", OPEN, retained=False))
    bench.give(InputRejected("in-1", "mqtt", "not JSON", "7b7b"))
    strange = [an_instrument(channels={"H2S": "furlong"})]
    bench.give(PlanReceived(a_plan(3)), PlanReceived(a_plan(6, instruments=strange)))
    bench.give(bench.report("lock-2", a_lock_state()))


def unlocking(bench: Bench) -> None:
    """Refused by the lock, not pressed, opened; then the hatch opens."""
    hello = LockHello(b"lockid-1", bytes(16), AJAR, bytes(32), 0, (b"kid0", bytes(4)), (0, 1, 0, 0))
    greet = {"id": "greet-1", "site": "yard", "at": EPOCH, "exp": EPOCH + 60, "by": "attendant", "lock": "lock-1"}
    bench.give(CommandReceived(msgspec.convert(greet, GreetLock)), at=1)
    bench.give(HelloReceived("lock-1", hello, b"\x01\x02", "greet-1"), at=1)
    bench.give(bench.desk.write_grant(GrantKind.PREP, EPOCH + 2), ResultReceived("lock-1", None), at=2)
    bench.give(LogReceived("lock-1", [record(1, LogEvent.REFUSED, cause=RefusalReason.AGE, kind=1)]), at=2)
    bench.give(bench.desk.write_grant(GrantKind.ENTRY, EPOCH + 3), at=3)
    bench.give(bench.result(ResultCode.PRESS_WANTED, state=a_lock_state()), at=4)
    bench.give(bench.result(ResultCode.NO_PRESS, state=a_lock_state()), at=5)
    bench.open_by_grant(at=6)
    bench.lock(OPEN, at=7)


def people(bench: Bench) -> None:
    """In, told twice, a stranger, a report that does not fit, answers, silence, a call."""
    desk = bench.desk
    bench.give(desk.check_in(EPOCH + 8), desk.enter("ann", EPOCH + 8), desk.enter("bob", EPOCH + 8), at=8)
    bench.give(desk.enter("ann", EPOCH + 9), desk.enter("carl", EPOCH + 9), desk.answer("ann", EPOCH + 9, by="ann"), at=9)
    bench.give(desk.count("in", "bob", EPOCH + 9, source="tag"), at=9)
    well(bench, 9, 20)
    for second in range(21, 33):
        worn(bench, second, wearer_state=2)
        bench.read(second)
    bench.give(desk.answer("ann", EPOCH + 33), desk.sos("bob", EPOCH + 33), at=33)
    well(bench, 34, 40)


def gas(bench: Bench) -> None:
    """Everybody out, no grant, counted anew; gone, seen, closed."""
    desk = bench.desk
    well(bench, 41, 44, h2s_ppm=8.0)
    bench.give(desk.leave("ann", EPOCH + 45), desk.write_grant(GrantKind.ENTRY, EPOCH + 45), at=45)
    bench.give(desk.recount("carl", at=EPOCH + 46), at=46)
    bench.give(desk.recount(at=EPOCH + 47), at=47)
    well(bench, 47, 80)
    for kind, of in (("DATA_LOST", "gas-2"), ("GAS_LOW", "gas-1/H2S"), ("SOS", "bob")):
        alarm = bench.alarm_id(kind, of)
        bench.give(desk.acknowledge(alarm, EPOCH + 81), desk.reset(alarm, EPOCH + 81), at=81)


def reminder(bench: Bench) -> None:
    """A reminder is shelved, and comes back by hand and by itself."""
    bench.lock(msgspec.structs.replace(OPEN, battery_percent=10), at=82)
    low = bench.alarm_id("LOCK_BATTERY", "lock-1")
    bench.give(bench.desk.shelve(low, EPOCH + 83, until=EPOCH + 300), at=83)
    bench.give(bench.desk.unshelve(low, EPOCH + 84), at=84)
    low = bench.alarm_id("LOCK_BATTERY", "lock-1")
    bench.give(bench.desk.shelve(low, EPOCH + 85, until=EPOCH + 90), at=85)
    well(bench, 87, 92)


def instruments(bench: Bench) -> None:
    """A fault, a restart, a gap, silence, and back."""
    well(bench, 93, 97, statuses={"CO": Status.FAULT})
    rebooted(bench, 98, 1)
    rebooted(bench, 99, 9)
    bench.wait(170)
    rebooted(bench, 171, 10)


def locks(bench: Bench) -> None:
    """Shut, locked, armed, tampered with, forced, and a grant of which nothing more is heard."""
    bench.lock(AJAR, at=172)
    bench.lock(a_lock_state(), at=173)
    bench.give(bench.result(ResultCode.ARMED, state=a_lock_state()), at=174)
    bench.give(LogReceived("lock-1", [record(2, LogEvent.TAMPER), record(3, LogEvent.FORCED)]), at=175)
    bench.lock(a_lock_state(flags=LockFlag.FORCED), at=176)
    bench.lock(OPEN, at=177)
    bench.give(bench.desk.write_grant(GrantKind.EMERGENCY, EPOCH + 178, lock="lock-2"), at=178)


def end(bench: Bench) -> None:
    """Everybody out on a person's word, the uplink lost, nothing heard any more, and the time of the permit passes."""
    desk = bench.desk
    bench.give(desk.enter("ann", EPOCH + 178), desk.evacuate(EPOCH + 178), at=178)
    bench.give(HealthReported("UPLINK_LOST", "gw-1", holds=True), at=179)
    bench.give(desk.evacuate(EPOCH + 100, space="n02"), desk.evacuate(EPOCH + 180, space="n02"), at=180)
    bench.wait(4100)
    bench.give(desk.leave("ann", EPOCH + 4100), at=4100)


def line(event: Event) -> str:
    """One event: when, which, its id, then every field that is not empty, by name."""
    fields = msgspec.to_builtins(event)
    head = f"+{fields.pop('at') - EPOCH:g} {type(event).__name__} {fields.pop('id')}"
    site = fields.pop("site")
    said = {name: value for name, value in sorted(fields.items()) if name != "type" and value not in ("", None, [], {})}
    return f"{head} {site} {msgspec.json.encode(said).decode()}"


def test_a_shift_says_what_it_always_said_with_the_same_ids() -> None:
    assert [line(event) for event in story().events] == FILE.read_text("utf-8").splitlines()


def test_every_id_is_one_event_and_every_cause_was_there_before() -> None:
    bench = story()
    seen = {event.id for event in bench.events}
    assert len(seen) == len(bench.events)
    commands = {item.command.id for _, items in bench.journal for item in items if isinstance(item, CommandReceived)}
    read = [item.frame for _, items in bench.journal for item in items if isinstance(item, FrameReceived)]
    frames = {f"{frame.device}-{frame.boot}-{frame.seq}" for frame in read}
    causes = {cause for event in bench.events if (cause := getattr(event, "cause", ""))}
    alarms = {event.alarm for event in bench.events if isinstance(event, AlarmRaised)}
    assert causes <= alarms | commands | frames


def test_a_restart_anywhere_makes_the_same_events() -> None:
    whole = story()
    ids = [event.id for event in replay(whole.journal)[1]]
    for stop in range(1, len(whole.journal), 29):
        engine, events = replay(whole.journal[:stop])
        kept = engine.snapshot()
        again = Engine.restored(kept, "yard", LIMITS, TIMINGS)
        assert again.snapshot() == kept
        assert (again.now, again.next_deadline()) == (engine.now, engine.next_deadline())
        assert (again.site.id, again.site.limits, again.site.timings) == ("yard", LIMITS, TIMINGS)
        events += [event for at, items in whole.journal[stop:] for event in again.receive(items, at)]
        assert [event.id for event in events] == ids


if __name__ == "__main__":
    FILE.write_text("".join(f"{line(event)}\n" for event in story().events), "utf-8")
