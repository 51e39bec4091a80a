"""Builders: valid by default, with keywords for what the test is about.

The default site is one shaft of 6 m with one lock and one four-gas instrument, a permit that is ready, tested and in time,
and an attendant who has just checked in. `EPOCH` is now.
"""

from collections.abc import Iterable

import msgspec

from manway.checks import Facts, LiveInstrument, LockFacts, Question, questions
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    OpenForRescue,
    OrderEvacuation,
    RaiseSos,
    RecordCheckIn,
    RecordCount,
    RecordEntry,
    ResetAlarm,
    ShelveAlarm,
    UnshelveAlarm,
    WriteGrant,
)
from manway.engine import Engine
from manway.entities import (
    Bolt,
    Confirmation,
    Delegation,
    Door,
    Entrance,
    Frame,
    GasTest,
    Instrument,
    Lock,
    LockFlag,
    LockResult,
    LockState,
    Permit,
    PermitState,
    Person,
    Plan,
    Reading,
    ResultCode,
    Signature,
    Space,
    TestPoint,
    Training,
)
from manway.events import AlarmEvent, Event
from manway.gas import Channel
from manway.ids import GrantKind, Status
from manway.inputs import AnyInput, CommandReceived, FrameReceived, LockReported, PlanReceived, ResultReceived
from manway.limits import LimitProfile, Timings
from manway.runtime import settings
from tests.kit.clock import EPOCH

LIMITS: LimitProfile = settings.limits("CN")
TIMINGS: Timings = settings.timings(yard=False)
GASES = ["O2", "LEL", "H2S", "CO"]
UNITS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm"}
NEVER_DUE = EPOCH + 30 * 86_400
CTI = bytes(range(16))
NO_FLAGS = LockFlag(0)


def a_space(name: str = "n01", *, depth_m: float = 6.0, lock: str = "lock-1", required_gases: Iterable[str] = GASES) -> Space:
    """A sewer well with one locked entrance and its rescue kit."""
    entrances = [Entrance(f"{name}-a", lock)]
    kit = {"scba": 2, "tripod": 1}
    return Space(name, "yard", "sewer_well", {"en": "Well"}, depth_m, list(required_gases), entrances, rescue_kit=kit)


def a_test(at: float = EPOCH - 300, *, points: list[TestPoint] | None = None, tester: str = "tester") -> GasTest:
    """A clean pre-entry test of a shaft of 6 m, signed five minutes ago: after the ventilation, young enough."""
    clean = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
    three = [TestPoint(d, 120.0, dict(clean)) for d in (0.5, 3.0, 5.5)]
    return GasTest(tester, "gas-1", at, three if points is None else points, LIMITS.version, passed=True)


def a_permit(
    permit: str = "permit-1",
    *,
    space: str = "n01",
    state: PermitState = PermitState.READY,
    start: float = EPOCH - 3600,
    end: float = EPOCH + 7200,
    entrants: Iterable[str] = ("ann", "bob"),
    attendant: str = "attendant",
    tester: str = "tester",
    signatures: list[Signature] | None = None,
    ventilated_at: float | None = EPOCH - 1800,
    gas_test: GasTest | None = None,
) -> Permit:
    """A permit that is ready: agreed and approved, ventilated for half an hour, tested five minutes ago, all confirmed."""
    signed = [Signature("supervisor", "supervisor", EPOCH - 5000), Signature("approver", "approver", EPOCH - 4900)]
    bare = Permit(
        id=permit,
        number="2027-0001",
        site="yard",
        space=space,
        work="desilting",
        drill=True,
        state=state,
        requester="supervisor",
        supervisor="supervisor",
        attendant=attendant,
        tester=tester,
        entrants=list(entrants),
        instruments=["gas-1"],
        start=start,
        end=end,
        signatures=signed if signatures is None else signatures,
        ventilated_at=ventilated_at,
        gas_test=a_test() if gas_test is None else gas_test,
    )
    return confirmed(bare)


def confirmed(permit: Permit, space: Space | None = None, *, at: float = EPOCH - 60) -> Permit:
    """The permit with every item it asks of people answered by the first who may, a minute ago."""
    asked = questions(permit, a_space(permit.space) if space is None else space)
    return msgspec.structs.replace(permit, confirmations=[a_yes(question, at) for question in asked if question.by])


def a_yes(question: Question, at: float = EPOCH - 60) -> Confirmation:
    """A yes to one item, with a photo where it wants one."""
    return Confirmation(question.key, question.by[0], at, "a1" * 32 if question.item.photo else "")


def a_person(person: str, *roles: str) -> Person:
    """Somebody trained a month ago; an approver holds the principal's word."""
    word = Delegation("doc-1", EPOCH - 1e6, EPOCH + 1e6) if "approver" in roles else None
    return Person(person, 1, {"en": person}, list(roles), [Training("entry", EPOCH - 30 * 86_400, NEVER_DUE)], delegation=word)


PEOPLE = {
    "ann": a_person("ann", "worker"),
    "bob": a_person("bob", "worker"),
    "supervisor": a_person("supervisor", "worker"),
    "attendant": a_person("attendant", "attendant"),
    "tester": a_person("tester", "attendant"),
    "approver": a_person("approver", "approver"),
}


def an_instrument(
    device: str = "gas-1",
    *,
    space: str = "n01",
    channels: dict[str, str] | None = None,
    bump_due: float = NEVER_DUE,
    calibration_due: float = NEVER_DUE,
    **more: object,
) -> Instrument:
    """A four-gas instrument that was bumped this morning; `more` names further fields."""
    units = dict(UNITS) if channels is None else channels
    plain = Instrument(device, f"SN-{device}", space, units, bump_due=bump_due, calibration_due=calibration_due)
    return msgspec.structs.replace(plain, **more)


def a_lock(device: str = "lock-1", *, space: str = "n01") -> Lock:
    """An enrolled lock of that space."""
    return Lock(device, b"lockid-1", bytes(32), space)


def a_plan(
    version: int = 1,
    *,
    spaces: list[Space] | None = None,
    locks: list[Lock] | None = None,
    instruments: list[Instrument] | None = None,
    permits: list[Permit] | None = None,
    used_grants: dict[str, str] | None = None,
) -> Plan:
    """The default site; its permit is active, so that people may be inside."""
    return Plan(
        site="yard",
        version=version,
        made_at=EPOCH,
        profile="CN",
        limits_version=LIMITS.version,
        spaces=[a_space()] if spaces is None else spaces,
        locks=[a_lock()] if locks is None else locks,
        instruments=[an_instrument()] if instruments is None else instruments,
        permits=[a_permit(state=PermitState.ACTIVE)] if permits is None else permits,
        used_grants=used_grants or {},
    )


def a_frame(
    seq: int = 1,
    *,
    at: float = EPOCH,
    device: str = "gas-1",
    boot: int = 7,
    o2: float = 20.9,
    lel: float = 0.0,
    h2s_ppm: float = 0.0,
    co_ppm: float = 0.0,
    statuses: dict[str, Status] | None = None,
    without: Iterable[str] = (),
    replayed: bool = False,
    **beside: float,
) -> Frame:
    """Clean air at `at`; `statuses` takes the number of a channel away, `without` the whole channel.

    `beside` adds channels that are no gas: `fan_a=2.0`, `wearer_state=1`, `battery_percent=40`.
    """
    values = {"O2": o2, "LEL": lel, "H2S": h2s_ppm, "CO": co_ppm}
    bad = statuses or {}
    readings = {g: Reading(bad[g]) if g in bad else Reading(Status.OK, v) for g, v in values.items() if g not in without}
    readings |= {name: Reading(Status.OK, float(value)) for name, value in beside.items()}
    return Frame(device, boot, seq, int(at * 1000), at, readings, replayed)


def a_lock_state(
    bolt: Bolt = Bolt.LOCKED,
    *,
    door: Door = Door.CLOSED,
    tick: int = 1,
    boot: int = 1,
    session: int = 0,
    flags: LockFlag = NO_FLAGS,
    log_seq: int = 1,
) -> LockState:
    """A lock at rest: bolt thrown, door closed, battery good."""
    return LockState(bolt, door, session, flags, 0, 90, 0, log_seq, boot, tick)


def a_result(
    code: ResultCode = ResultCode.OPENED, *, state: LockState | None = None, cti: bytes = CTI, head: bytes = bytes(32)
) -> LockResult:
    """A lock's word that it opened on the grant `CTI`."""
    opened = a_lock_state(Bolt.RETRACTED, session=2, tick=10, log_seq=3)
    return LockResult(b"lockid-1", cti, code, opened if state is None else state, head)


def live(
    device: str = "gas-1", *, age_s: float = 1.0, frame: Frame | None = None, bump_due: float = NEVER_DUE
) -> LiveInstrument:
    """An instrument that reads clean air now, set to the law's limits, its battery good for the day."""
    readings = {"battery_percent": Reading(Status.OK, 90.0), **(frame or a_frame()).readings}
    setpoints = {"O2": 19.5, "LEL": 10.0, "H2S": 7.0, "CO": 25.0}
    return LiveInstrument(
        device, age_s, readings, dict(UNITS), bump_due, NEVER_DUE, setpoints=setpoints, battery_life_s=10 * 3600
    )


def facts(**changed: object) -> Facts:
    """Facts under which every check passes, with the named ones changed."""
    passing = Facts(
        now=EPOCH,
        kind=GrantKind.ENTRY,
        permit=a_permit(),
        space=a_space(),
        lock="lock-1",
        by="attendant",
        limits=LIMITS,
        timings=TIMINGS,
        people=dict(PEOPLE),
        attendant_seen_at=EPOCH - 10,
        attendant_elsewhere=[],
        exposed=frozenset(),
        fan_running=True,
        instruments=[live()],
        pumped={"gas-1": True},
        open_p1=[],
        other_open_permits=[],
        picture_age_s=1.0,
        gateway_faults=[],
        alarm_path_at=EPOCH - 60,
        notices=[],
        lock_now=LockFacts(EPOCH - 5, "locked", 90),
        authenticated=True,
        photos_elsewhere=frozenset(),
        inside=0,
    )
    return msgspec.structs.replace(passing, **changed)


class Desk:
    """Commands with fresh ids: `desk.enter("ann")`. `exp` is a minute after `at`."""

    def __init__(self, *, space: str = "n01", permit: str = "permit-1") -> None:
        self._space, self._permit = space, permit
        self._count = 0

    def _envelope(self, by: str, at: float) -> dict[str, object]:
        self._count += 1
        return {"id": f"command-{self._count}", "site": "yard", "at": at, "exp": at + 60, "by": by}

    def _received(self, command: type[AnyCommand], by: str, at: float, /, **fields: object) -> CommandReceived:
        return CommandReceived(msgspec.convert(self._envelope(by, at) | fields, command))

    def count(
        self,
        direction: str,
        person: str,
        at: float = EPOCH,
        *,
        permit: str | None = None,
        space: str | None = None,
        source: str = "attendant",
    ) -> CommandReceived:
        named = {"space": space or self._space, "permit": permit or self._permit, "source": source}
        return self._received(RecordEntry, "attendant", at, **named, person=person, direction=direction)

    def recount(self, *people: str, at: float = EPOCH, by: str = "attendant") -> CommandReceived:
        return self._received(RecordCount, by, at, space=self._space, permit=self._permit, people=list(people))

    def sos(self, person: str, at: float = EPOCH, *, space: str | None = None) -> CommandReceived:
        return self._received(RaiseSos, person, at, space=space or self._space, permit=self._permit, person=person)

    def answer(self, person: str, at: float = EPOCH, *, by: str = "attendant") -> CommandReceived:
        named = {"space": self._space, "permit": self._permit}
        return self._received(RecordCheckIn, by, at, **named, person=person)

    def shelve(self, alarm: str, at: float, *, until: float, reason: str = "known, on the list") -> CommandReceived:
        return self._received(ShelveAlarm, "manager", at, alarm=alarm, reason=reason, until=until)

    def unshelve(self, alarm: str, at: float) -> CommandReceived:
        return self._received(UnshelveAlarm, "manager", at, alarm=alarm)

    def enter(self, person: str, at: float = EPOCH) -> CommandReceived:
        return self.count("in", person, at)

    def leave(self, person: str, at: float = EPOCH) -> CommandReceived:
        return self.count("out", person, at)

    def check_in(self, at: float = EPOCH, *, space: str | None = None) -> CommandReceived:
        return self._received(RecordCheckIn, "attendant", at, space=space or self._space, permit=self._permit)

    def evacuate(self, at: float = EPOCH, *, space: str | None = None) -> CommandReceived:
        return self._received(OrderEvacuation, "attendant", at, space=space or self._space, permit=self._permit)

    def acknowledge(self, alarm: str, at: float, by: str = "attendant") -> CommandReceived:
        return self._received(AcknowledgeAlarm, by, at, alarm=alarm)

    def reset(self, alarm: str, at: float, by: str = "manager") -> CommandReceived:
        return self._received(ResetAlarm, by, at, alarm=alarm, reason="sludge was stirred", verdict="real")

    def rescue(self, at: float = EPOCH, *, coded: bool = True, lock: str = "lock-1") -> CommandReceived:
        return self._received(OpenForRescue, "“Li Wei”", at, lock=lock, space=self._space, coded=coded)

    def write_grant(
        self, kind: GrantKind = GrantKind.ENTRY, at: float = EPOCH, *, lock: str = "lock-1", grant: bytes = CTI
    ) -> CommandReceived:
        named = {"lock": lock, "space": self._space, "grant": grant.hex(), "kind": int(kind), "message": "00"}
        return self._received(WriteGrant, "attendant", at, **named)


class Bench:
    """An engine with the default site applied at `EPOCH`, its lock reported locked, and its clock moved by `at`.

    Every event that ever came out is kept in `events`, every input that went in in `journal` with its time.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        locked: bool = True,
        counted: bool = True,
        profile: str = "CN",
        timings: Timings = TIMINGS,
    ) -> None:
        self.engine = Engine("yard", settings.limits(profile), timings)
        self.events: list[Event] = []
        self.journal: list[tuple[float, list[AnyInput]]] = []
        self.desk = Desk()
        self._seq = 0
        self._tick = 100
        first = plan or a_plan()
        if counted:  # nobody was inside before the permit came; a new journal under one believes nothing
            self.give(PlanReceived(msgspec.structs.replace(first, version=first.version - 1, permits=[])))
        self.give(PlanReceived(first))
        if locked:
            self.lock(a_lock_state())

    def give(self, *items: AnyInput, at: float = 0.0) -> list[Event]:
        """Give inputs `at` seconds after EPOCH and return the events."""
        now = EPOCH + at
        self.journal.append((now, list(items)))
        return self._keep(self.engine.receive(items, now))

    def wait(self, at: float) -> list[Event]:
        """Advance to `at` seconds after EPOCH."""
        return self._keep(self.engine.advance(EPOCH + at))

    def read(self, at: float, **air: object) -> list[Event]:
        """One frame of the instrument at `at` seconds after EPOCH, numbered next; `air` as in `a_frame`."""
        self._seq += 1
        return self.give(FrameReceived(a_frame(self._seq, at=EPOCH + at, **air)), at=at)  # type: ignore[arg-type]

    def breathe(self, start: float, end: float, **air: object) -> list[Event]:
        """A frame a second from `start` to `end`, both included, and the attendant present every minute."""
        events = []
        for second in range(int(start), int(end) + 1):
            if second % 60 == 0:
                events += self.give(self.desk.check_in(EPOCH + second), at=second)
            events += self.read(second, **air)
        return events

    def lock(self, state: LockState, at: float = 0.0, *, retained: bool = False) -> list[Event]:
        """The lock reports; its tick moves on by itself."""
        self._tick += 1
        report = msgspec.structs.replace(state, tick=self._tick)
        return self.give(LockReported("lock-1", report, retained), at=at)

    def report(self, device: str, state: LockState) -> LockReported:
        """Another lock's next report, not yet given."""
        self._tick += 1
        return LockReported(device, msgspec.structs.replace(state, tick=self._tick))

    def result(self, code: ResultCode, *, state: LockState, cti: bytes = CTI) -> ResultReceived:
        """The lock's next signed result, not yet given."""
        self._tick += 1
        report = msgspec.structs.replace(state, tick=self._tick, log_seq=self._tick)
        return ResultReceived("lock-1", a_result(code, state=report, cti=cti, head=self._tick.to_bytes(32, "big")))

    def open_by_grant(self, kind: GrantKind = GrantKind.ENTRY, at: float = 0.0) -> list[Event]:
        """A grant is written and the lock opens on it."""
        events = self.give(self.desk.write_grant(kind, EPOCH + at), at=at)
        used = self.result(ResultCode.OPENED, state=a_lock_state(Bolt.RETRACTED, session=int(kind)))
        return events + self.give(used, at=at)

    def move_instrument(self, space: str, at: float) -> list[Event]:
        """A new plan: the instrument works in another space now."""
        site = self.engine.site.plan
        version = site.version + 1 if site else 1
        plan = a_plan(version, spaces=[a_space(), a_space("n02", lock="lock-2")], instruments=[an_instrument(space=space)])
        return self.give(PlanReceived(plan), at=at)

    def channel(self, gas: str, device: str = "gas-1") -> Channel:
        """A channel as the engine has it now."""
        site = self.engine.site
        return site.channels_of(site.instruments[device])[gas]

    def alarm(self, kind: str, obj: str) -> str:
        """The state of one alarm, `absent` when it was never raised."""
        found = [a for a in self.engine.site.alarms.values() if a.kind == kind and a.object == obj]
        return found[0].state.value if found else "absent"

    def alarm_id(self, kind: str, obj: str) -> str:
        """The id of the present episode of one alarm."""
        return next(a.id for a in self.engine.site.alarms.values() if a.kind == kind and a.object == obj)

    def _keep(self, events: list[Event]) -> list[Event]:
        self.events += events
        return events


def names(events: Iterable[Event]) -> list[str]:
    """The kinds of events, in order; alarms with their catalogue kind: `AlarmRaised GAS_LOW`."""
    return [f"{type(e).__name__} {e.kind}" if isinstance(e, AlarmEvent) else type(e).__name__ for e in events]


def replay(journal: list[tuple[float, list[AnyInput]]]) -> tuple[Engine, list[Event]]:
    """A fresh engine given what a journal holds, with no calls in between."""
    engine = Engine("yard", LIMITS, TIMINGS)
    return engine, [event for at, items in journal for event in engine.receive(items, at)]
