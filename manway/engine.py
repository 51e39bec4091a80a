"""The rules of one site without any I/O: inputs in, events out, time as an argument.

`receive` first runs every deadline that has passed, each at its own time, so that a live run and a replay of the journal see
the same sequence and derive the same event ids. After every input the spaces it touched are judged again, so an opening that
is shut within the same batch is not missed. Conditions are levels, and the next deadline is simply the earliest time at which
one of them, or a running off-delay, may change by time alone.
"""

from collections.abc import Callable, Iterable
from functools import singledispatchmethod
from typing import assert_never

from manway.alarm import RETURNED, Alarm, AlarmSignal, AlarmState, Change, Condition
from manway.catalogue import CATALOGUE
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    GreetLock,
    OrderEvacuation,
    RecordCheckIn,
    RecordEntry,
    ResetAlarm,
    WriteGrant,
)
from manway.conditions import conditions
from manway.entities import Instrument, LockResult, LockState, LogEvent, LogRecord, Plan, Reading, RefusalReason, ResultCode
from manway.errors import TimeWentBackwards
from manway.events import (
    AlarmAcknowledged,
    AlarmRaised,
    AlarmRepeated,
    AlarmReset,
    AlarmReturned,
    CheckInRecorded,
    CommandRefused,
    DeviceRestarted,
    EntranceClosed,
    EntranceOpened,
    EvacuationCompleted,
    EvacuationOrdered,
    Event,
    FramesMissed,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    InstrumentFaulted,
    InstrumentLost,
    InstrumentRecovered,
    LockArmed,
    LockForced,
    LockGreeted,
    LockLocked,
    LockUnlocked,
    MessageRejected,
    PersonEntered,
    PersonLeft,
    PlanApplied,
    PlanRejected,
    PressAwaited,
    UnlockUnconfirmed,
)
from manway.gas import Channel
from manway.ids import GrantKind, Priority, Status, derived_id
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameHeld,
    FrameReceived,
    HelloReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from manway.limits import LimitProfile, Timings
from manway.lock import LockPosition, LockSignal, move, signal_of
from manway.site import InstrumentWatch, LockWatch, Site, SpaceWatch, WrittenGrant

_OPENED = (ResultCode.OPENED, ResultCode.SESSION_CHANGED)
_DID_NOT_ACT = (ResultCode.NO_PRESS, ResultCode.JAMMED, ResultCode.FAULT, ResultCode.NOT_CLOSED)
_FORCED = {LogEvent.FORCED: "opened without a grant", LogEvent.TAMPER: "case opened", LogEvent.SEAL_BROKEN: "seal broken"}


# A channel that its frame does not name says nothing: unknown, never the number it had before.
_MISSING = Reading(Status.INVALID)


class Engine:
    """One site's rules. Not safe for threads; the gateway's loop owns it."""

    def __init__(self, site: str, limits: LimitProfile, timings: Timings) -> None:
        self.site = Site(site, limits, timings)
        self._now = 0.0
        self._out: list[Event] = []
        self._done: dict[str, tuple[float, bool]] = {}
        self._due: dict[str, float] = {}  # space -> when time alone may change something there

    def receive(self, batch: Iterable[AnyInput], now: float) -> list[Event]:
        """Take inputs in arrival order at `now` (Unix seconds) and return what follows from them.

        Raises:
            TimeWentBackwards: `now` is earlier than the last.
        """
        events = self.advance(now)
        for item in batch:
            self._take(item)
            for space in self._touched(item):
                self._judge(space)
        return events + self._drain()

    def advance(self, now: float) -> list[Event]:
        """Run every deadline up to `now`, each at its own time, and return what follows.

        Raises:
            TimeWentBackwards: `now` is earlier than the last.
        """
        if now < self._now:
            raise TimeWentBackwards(self._now, now)
        while (at := self.next_deadline()) is not None and at <= now:
            self._now = max(self._now, at)
            for space in [space for space, due in self._due.items() if due <= at]:
                self._judge(space)
        self._now = now
        return self._drain()

    @property
    def now(self) -> float:
        """The time of the last step, Unix seconds."""
        return self._now

    def next_deadline(self) -> float | None:
        """Return when time alone may change something, Unix seconds."""
        return min(self._due.values(), default=None)

    def refuses_grant(self, space: str) -> str | None:
        """Return the kind of an open P1 that forbids PREP and ENTRY grants for a space, here or next door, or None."""
        plan = self.site.plan
        near = {space, *(c for s in (plan.spaces if plan else []) if s.id == space for c in s.connected)}
        for alarm in self.site.alarms.values():
            if alarm.space in near and alarm.open and alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].blocks_grants:
                return alarm.kind
        return None

    def accepted(self, command: str) -> bool:
        """Say whether a command was carried out; a repeated id is answered once and never carried out again."""
        return self._done.get(command, (0.0, False))[1]

    # -- judging ------------------------------------------------------------------------------------------------------

    def _touched(self, item: AnyInput) -> list[str]:
        """Return the spaces an input can change anything in; nothing is judged that nothing has touched."""
        site = self.site
        match item:
            case FrameReceived(frame=frame):
                watch = site.instruments.get(frame.device)
                return [watch.space] if watch else []
            case LockReported(lock=name) | HelloReceived(lock=name) | ResultReceived(lock=name) | LogReceived(lock=name):
                return self._space_of(name)
            case CommandReceived(command=command):
                return self._commanded(command)
            case PlanReceived():
                places = [*(w.space for w in site.instruments.values()), *(w.space for w in site.locks.values())]
                return list(dict.fromkeys([*site.spaces, *places]))
            case _:
                return []

    def _commanded(self, command: AnyCommand) -> list[str]:
        match command:
            case OrderEvacuation(space=space) | RecordEntry(space=space) | RecordCheckIn(space=space):
                return [space]
            case GreetLock(lock=lock) | WriteGrant(lock=lock):
                return self._space_of(lock)
            case _:
                return []  # a pressed button changes an alarm, not what it is about

    def _space_of(self, lock: str) -> list[str]:
        watch = self.site.locks.get(lock)
        return [watch.space] if watch else []

    def _judge(self, space: str) -> None:
        """Hold every alarm of a space against its condition, now, and note when to look there again."""
        now, delay, until = self._now, self.site.timings.alarm_off_delay_s, []
        self._time_out_grants(space)
        for condition in list(conditions(self.site, space, now)):
            if condition.until is not None and condition.until > now:
                until.append(condition.until)
            self._feel(condition, delay)
        alarms = [alarm for alarm in self.site.alarms.values() if alarm.space == space]
        until += [at for alarm in alarms if (at := alarm.off_at(delay)) is not None and at > now]
        until += self._announce_gaps(space)
        self._mark_silence(space)
        self._evacuate_where_due(alarms)
        self._due.pop(space, None)
        if until:
            self._due[space] = min(until)

    def _feel(self, condition: Condition, delay: float) -> None:
        key = (condition.kind, condition.object, condition.space)
        alarm = self.site.alarms.get(key)
        if alarm is None:
            if condition.holds is not True:
                return
            alarm = Alarm(self.site.id, condition.kind, condition.object, condition.space)
            self.site.alarms[key] = alarm
        change = alarm.feel(condition, self._now, delay)
        named = {"alarm": alarm.id, "kind": alarm.kind, "object": alarm.object, "space": alarm.space}
        if change is Change.RAISED:
            self._raise(alarm)
        elif change is Change.REPEATED:
            self._emit(AlarmRepeated, alarm.id, "repeated", alarm.count, **named, count=alarm.count)
        elif change is Change.RETURNED:
            self._emit(AlarmReturned, alarm.id, "returned", alarm.count, **named)

    def _raise(self, alarm: Alarm) -> None:
        evacuates = CATALOGUE[alarm.kind].evacuates and alarm.priority is Priority.P1
        self._emit(
            AlarmRaised,
            alarm.id,
            "raised",
            alarm=alarm.id,
            kind=alarm.kind,
            object=alarm.object,
            space=alarm.space,
            priority=alarm.priority,
            value=alarm.value,
            limit=alarm.limit,
            unit=alarm.unit,
            clause=alarm.clause,
            evacuate=evacuates,
        )

    def _evacuate_where_due(self, alarms: list[Alarm]) -> None:
        """Order people out where an evacuating P1 is on, also those who went in after it rose."""
        for alarm in alarms:
            space = self.site.spaces.get(alarm.space)
            if space is None or space.evacuating or not space.occupancy.occupied:
                continue
            on = alarm.open and alarm.state not in RETURNED
            if on and alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].evacuates:
                self._evacuate(space, cause=alarm.id, by="")

    def _evacuate(self, space: SpaceWatch, *, cause: str, by: str) -> None:
        space.evacuating = True
        permit = self.site.permit_of(space.id)
        named = {"space": space.id, "permit": permit.id if permit else ""}
        self._emit(EvacuationOrdered, cause, str(self._now), **named, by=by, cause=cause)
        self._complete_evacuation(space, named["permit"], cause)

    def _complete_evacuation(self, space: SpaceWatch, permit: str, cause: str) -> None:
        if space.evacuating and space.occupancy.count == 0:
            space.evacuating = False
            self._emit(EvacuationCompleted, cause, "all out", space=space.id, permit=permit, cause=cause)

    def _time_out_grants(self, space: str) -> None:
        for lock in self.site.locks_of(space):
            if lock.written is None or self._now < lock.written.confirm_by:
                continue
            self._emit(
                UnlockUnconfirmed,
                lock.written.command,
                "unconfirmed",
                lock=lock.device,
                space=lock.space,
                cause=lock.written.command,
            )
            lock.position = move(lock.position, LockSignal.TIMED_OUT)
            lock.written, lock.unconfirmed = None, True

    def _announce_gaps(self, space: str) -> list[float]:
        """Announce gaps that have stood long enough; return when the next one will have."""
        wait, soon = self.site.timings.missed_frames_s, []
        for watch in self.site.instruments_of(space):
            boot = watch.ledger.boot or 0
            for gap in watch.ledger.standing(self._now, wait):
                named = {"device": watch.device, "boot": boot, "first": gap.first, "last": gap.last}
                self._emit(FramesMissed, watch.device, boot, gap.first, gap.last, **named)
            soon += [gap.at + wait for gap in watch.ledger.gaps[:1]]
        return soon

    def _mark_silence(self, space: str) -> None:
        for watch in self.site.instruments_of(space):
            alarm = self.site.alarms.get(("DATA_LOST", watch.device, watch.space))
            silent = alarm is not None and alarm.holds is True
            if silent and not watch.lost:
                key = (watch.device, watch.heard_at, "lost")
                self._emit(InstrumentLost, *map(str, key), device=watch.device, space=watch.space, last_frame_at=watch.heard_at)
                watch.troubled = True
            watch.lost = silent

    # -- taking inputs ------------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _take(self, item: object) -> None:
        raise TypeError(item)

    @_take.register
    def _(self, item: InputRejected) -> None:
        self._emit(MessageRejected, item.id, source=item.source, reason=item.reason, first_bytes=item.first_bytes)

    @_take.register
    def _(self, item: FrameHeld) -> None:
        """Nothing is known of it yet; the frames follow as `FrameReceived` once the birth has come."""

    @_take.register
    def _(self, item: FrameReceived) -> None:
        frame = item.frame
        watch = self.site.instruments.get(frame.device)
        if watch is None:
            self._unknown(frame.device, "the plan does not name this device", frame.boot, frame.seq)
            return
        was_boot = watch.ledger.boot
        new = watch.ledger.take(frame.boot, frame.seq, self._now)
        if was_boot not in (None, watch.ledger.boot):
            self._emit(DeviceRestarted, frame.device, frame.boot, device=frame.device, boot=frame.boot)
            for channel in watch.channels.values():
                channel.over_range = False
        # A broker may repeat old messages behind newer ones: those are counted and stored, the present is not theirs.
        if not new or frame.replayed or frame.seq < watch.ledger.highest:
            return
        watch.heard_at, watch.frame = max(watch.heard_at, frame.received_at), frame
        self._read(watch, key=(frame.device, frame.boot, frame.seq))
        good = all(c.status is Status.OK for c in watch.channels.values())
        if good and watch.troubled:
            watch.troubled = False
            self._emit(InstrumentRecovered, frame.device, frame.boot, frame.seq, "ok", device=frame.device, space=watch.space)

    def _unknown(self, device: str, reason: str, *cause: int) -> None:
        """Refuse a device the plan does not name; before the first plan nobody is named, and that is no fault."""
        if self.site.plan is not None:
            self._emit(MessageRejected, device, *cause, source=device, reason=reason)

    def _read(self, watch: InstrumentWatch, key: tuple[str, int, int]) -> None:
        readings = watch.frame.readings if watch.frame else {}
        for name, channel in watch.channels.items():
            reading, was = readings.get(name, _MISSING), channel.status
            channel.take(reading)
            if channel.status not in (was, Status.OK, Status.WARMUP):
                self._emit(InstrumentFaulted, *key, name, device=watch.device, channel=name, status=reading.status.value)
                watch.troubled = True

    @_take.register
    def _(self, item: LockReported) -> None:
        lock = self.site.locks.get(item.lock)
        if lock is None:
            self.site.early[item.lock] = item.state
            self._unknown(item.lock, "the plan does not name this lock", item.state.boot, item.state.tick)
            return
        if not item.retained:
            lock.heard_at = self._now
        if not self._is_news(lock, item.state):
            return
        lock.reported = item.state
        self._move(lock, signal_of(item.state))

    def _is_news(self, lock: LockWatch, state: LockState) -> bool:
        was = lock.reported
        return was is None or (state.boot, state.tick) > (was.boot, was.tick)

    def _move(self, lock: LockWatch, signal: LockSignal) -> None:
        was, lock.position = lock.position, move(lock.position, signal)
        if lock.position is was:
            return
        stamp = lock.reported.tick if lock.reported else 0
        boot = lock.reported.boot if lock.reported else 0
        kinds: dict[LockPosition, type[Event]] = {
            LockPosition.LOCKED: LockLocked,
            LockPosition.UNLOCKED: LockUnlocked,
            LockPosition.OPEN: EntranceOpened,
            LockPosition.CLOSED_UNLOCKED: EntranceClosed,
        }
        if lock.position in kinds:
            lock.unconfirmed = False
            self._emit(kinds[lock.position], lock.device, boot, stamp, signal.value, lock=lock.device, space=lock.space)
        if lock.position is LockPosition.LOCKED and signal is LockSignal.SEES_LOCKED:
            lock.used_grant, lock.used_kind = "", None

    @_take.register
    def _(self, item: HelloReceived) -> None:
        if item.command:  # a repeat, or one that nobody asked for
            self._emit(LockGreeted, item.command, "hello", lock=item.lock, hello=item.message.hex(), cause=item.command)

    @_take.register
    def _(self, item: ResultReceived) -> None:
        lock = self.site.locks.get(item.lock)
        if lock is None:
            return
        if item.result is None:
            lock.heard_at = self._now
            self._refused_on_air(lock, lock.written)
            return
        result, state = item.result, item.result.state
        heard = (state.boot, state.tick, state.log_seq)
        if heard <= lock.heard_result:  # repeated by the network: a grant used yesterday covers no opening today
            return
        lock.heard_at, lock.heard_result = self._now, heard
        self._result(lock, result)
        if self._is_news(lock, state):
            lock.reported = state
            self._move(lock, signal_of(state))

    def _result(self, lock: LockWatch, result: LockResult) -> None:
        grant = result.cti.hex()
        key = (lock.device, result.state.boot, result.log_head.hex(), result.code.name)
        mine = lock.written if lock.written is not None and lock.written.grant == grant else None
        cause = mine.command if mine is not None else ""
        if result.code is ResultCode.PRESS_WANTED:
            if mine is not None:
                later = self._now + self.site.timings.lock_press_s
                lock.written = WrittenGrant(mine.grant, mine.kind, mine.command, later)
            self._emit(PressAwaited, *key, lock=lock.device, grant=grant, cause=cause)
            return
        if mine is not None:
            lock.written, lock.unconfirmed = None, False
        if result.code in _OPENED:
            kind = mine.kind if mine is not None else GrantKind(max(result.state.session, 1))
            if lock.position is not LockPosition.LOCKED or self._is_news(lock, result.state):
                lock.used_grant, lock.used_kind = grant, kind
            self._emit(GrantUsed, *key, lock=lock.device, space=lock.space, grant=grant, kind=int(kind), cause=cause)
        elif result.code in _DID_NOT_ACT:
            self._emit(GrantFailed, *key, lock=lock.device, grant=grant, reason=result.code.name, cause=cause)
        elif result.code is ResultCode.ARMED:
            self._emit(LockArmed, *key, lock=lock.device, grant=grant, cause=cause)

    def _refused_on_air(self, lock: LockWatch, written: WrittenGrant | None) -> None:
        """The air says only "no"; the reason follows from the lock's log (`LogReceived`)."""
        if written is None:
            return
        lock.written = None
        lock.position = move(lock.position, LockSignal.REFUSED)
        self._emit(
            GrantFailed,
            written.command,
            "refused",
            lock=lock.device,
            grant=written.grant,
            reason="REFUSED",
            cause=written.command,
        )

    @_take.register
    def _(self, item: LogReceived) -> None:
        lock = self.site.locks.get(item.lock)
        if lock is None:
            return
        lock.heard_at = self._now
        for record in item.records:
            if record.seq <= lock.log_seq:
                continue
            lock.log_seq = record.seq
            self._log(lock, record)

    def _log(self, lock: LockWatch, record: LogRecord) -> None:
        key = (lock.device, record.seq)
        if record.event == LogEvent.REFUSED:
            reason = RefusalReason(record.cause).name if record.cause in set(RefusalReason) else str(record.cause)
            self._emit(GrantRefused, *key, lock=lock.device, reason=f"LOCK_{reason}", kind=record.kind)
        elif record.event in _FORCED:
            reason = _FORCED[LogEvent(record.event)]
            self._emit(LockForced, *key, lock=lock.device, space=lock.space, reason=reason)

    @_take.register
    def _(self, item: PlanReceived) -> None:
        self._apply(item.plan)

    def _apply(self, plan: Plan) -> None:
        site, now = self.site, self._now
        if site.plan is not None and plan.version <= site.plan.version:
            if plan.version < site.plan.version:
                self._reject(plan, "older than the one applied")
            return
        if wrong := self._unreadable(plan):
            self._reject(plan, f"no limit of {wrong[0]} can be compared with {wrong[1]}")
            return
        first = site.plan is None
        site.plan = plan
        for space in plan.spaces:
            site.spaces.setdefault(space.id, SpaceWatch(space.id))
        for lock in plan.locks:
            known = site.locks.setdefault(lock.device, LockWatch(lock.device, lock.space, now))
            if first and (grant := plan.used_grants.get(lock.device)):
                known.used_grant, known.used_kind = grant, GrantKind.ENTRY
            if (said := site.early.pop(lock.device, None)) is not None and known.reported is None:
                known.reported = said
                self._move(known, signal_of(said))
        for instrument in plan.instruments:
            self._bind(instrument)
        self._emit(PlanApplied, plan.version, version=plan.version)

    def _reject(self, plan: Plan, reason: str) -> None:
        applied = self.site.plan.version if self.site.plan is not None else 0
        self._emit(PlanRejected, plan.version, applied, version=plan.version, reason=reason)

    def _unreadable(self, plan: Plan) -> tuple[str, str] | None:
        """Return the first (gas, unit) of a plan that has limits in a unit of no conversion: it could never be judged."""
        pairs = ((gas, unit) for instrument in plan.instruments for gas, unit in instrument.channels.items())
        return next(((g, u) for g, u in pairs if (rule := self.site.limits.of(g)) is not None and not rule.takes(u)), None)

    def _bind(self, instrument: Instrument) -> None:
        """Watch an instrument where it works now; over-range and its ledger go with it, its numbers do not."""
        site, was = self.site, self.site.instruments.get(instrument.device)
        rules = {gas: rule for gas in instrument.channels if (rule := site.limits.of(gas)) is not None}
        units = {gas: instrument.channels[gas] for gas in rules}
        if was is not None and was.space == instrument.space and {g: c.unit for g, c in was.channels.items()} == units:
            return
        heard = self._now if was is None else was.heard_at
        watch = InstrumentWatch(instrument.device, instrument.space, heard, {})
        for gas, rule in rules.items():
            before = was.channels.get(gas) if was is not None else None
            over = before is not None and before.over_range
            watch.channels[gas] = Channel(rule, units[gas], site.limits.temperature_c, over_range=over)
        if was is not None:
            watch.ledger, watch.troubled = was.ledger, was.troubled
        site.instruments[instrument.device] = watch

    # -- commands -----------------------------------------------------------------------------------------------------

    @_take.register
    def _(self, item: CommandReceived) -> None:
        command = item.command
        if command.id in self._done:
            return
        reason = "command.expired" if self._now > command.exp else self._obey(command)
        self._done = {k: v for k, v in self._done.items() if v[0] >= self._now} | {command.id: (command.exp, reason is None)}
        if reason is not None:
            self._emit(CommandRefused, command.id, reason, cause=command.id, reason=reason)

    def _obey(self, command: AnyCommand) -> str | None:
        """Carry a command out; return why not, as a key of the catalogue."""
        match command:
            case AcknowledgeAlarm() | ResetAlarm():
                return self._press(command)
            case OrderEvacuation():
                return self._in_space(command.space, lambda s: self._evacuate(s, cause=command.id, by=command.by))
            case RecordEntry():
                return self._record_entry(command)
            case RecordCheckIn():
                return self._in_space(command.space, lambda s: self._check_in(s, command))
            case GreetLock():
                return None if command.lock in self.site.locks else "lock.unknown"
            case WriteGrant():
                return self._write_grant(command)
            case _:
                assert_never(command)

    def _in_space(self, space: str, act: Callable[[SpaceWatch], None]) -> str | None:
        watch = self.site.spaces.get(space)
        if watch is None:
            return "space.unknown"
        act(watch)
        return None

    def _check_in(self, space: SpaceWatch, command: RecordCheckIn) -> None:
        space.attendant_at = self._now
        named = {"permit": command.permit, "space": command.space, "person": command.by}
        self._emit(CheckInRecorded, command.id, "here", **named, cause=command.id)

    def _press(self, command: AcknowledgeAlarm | ResetAlarm) -> str | None:
        alarm = next((a for a in self.site.alarms.values() if a.id == command.alarm and a.open), None)
        if alarm is None:
            return "alarm.not_open"
        named = {"alarm": alarm.id, "kind": alarm.kind, "object": alarm.object, "space": alarm.space}
        if isinstance(command, AcknowledgeAlarm):
            if not alarm.signal(AlarmSignal.ACKNOWLEDGE):
                return "alarm.already_acknowledged"
            alarm.acknowledged_by = command.by
            self._emit(AlarmAcknowledged, command.id, "acknowledged", **named, by=command.by, cause=command.id)
            return None
        if alarm.state is not AlarmState.LATCHED_ACKED or alarm.holds is not False:
            return "alarm.not_returned"
        if alarm.priority is Priority.P1 and alarm.acknowledged_by == command.by:
            return "alarm.same_person"
        alarm.signal(AlarmSignal.RESET)
        self._emit(
            AlarmReset,
            command.id,
            "reset",
            **named,
            by=command.by,
            reason=command.reason,
            verdict=command.verdict,
            cause=command.id,
        )
        return None

    def _record_entry(self, command: RecordEntry) -> str | None:
        space = self.site.spaces.get(command.space)
        if space is None:
            return "permit.unknown"
        refusal = space.occupancy.refuses(command.person, command.direction)
        # Whoever is counted in can be counted out, whatever has become of the permit.
        if refusal is not None or command.direction == "in":
            refusal = self._refuses_entry(space, command) or refusal
        if refusal is not None:
            return refusal
        space.occupancy.record(command.person, command.direction, self._now)
        kind: type[Event] = PersonEntered if command.direction == "in" else PersonLeft
        named = {"space": space.id, "permit": command.permit, "person": command.person, "source": "attendant"}
        self._emit(kind, command.id, command.direction, **named, cause=command.id)
        self._complete_evacuation(space, command.permit, command.id)
        return None

    def _refuses_entry(self, space: SpaceWatch, command: RecordEntry) -> str | None:
        permit = self.site.permit_of(space.id)
        if permit is None or permit.id != command.permit:
            return "permit.unknown"
        if command.person not in permit.entrants:
            return "entry.not_on_permit"
        return "entry.evacuating" if command.direction == "in" and space.evacuating else None

    def _write_grant(self, command: WriteGrant) -> str | None:
        lock = self.site.locks.get(command.lock)
        if lock is None:
            return "lock.unknown"
        kind = GrantKind(command.kind)
        blocked = self.refuses_grant(lock.space) if kind in (GrantKind.PREP, GrantKind.ENTRY) else None
        if blocked is not None:
            self._emit(
                GrantRefused, command.id, "P1", lock=lock.device, reason=f"ALARM_{blocked}", kind=command.kind, by=command.by
            )
            return "alarm.open"
        confirm_by = self._now + self.site.timings.lock_confirm_s
        lock.written = WrittenGrant(command.grant, kind, command.id, confirm_by)
        lock.position = move(lock.position, LockSignal.WRITTEN)
        return None

    # -- events -------------------------------------------------------------------------------------------------------

    def _emit(self, event: type[Event], /, *cause: str | int, **fields: object) -> None:
        event_id = derived_id(self.site.id, event.__name__, *cause)
        self._out.append(event(id=event_id, at=self._now, site=self.site.id, **fields))  # type: ignore[arg-type]

    def _drain(self) -> list[Event]:
        events, self._out = self._out, []
        return events
