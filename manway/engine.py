"""The rules of one site without any I/O: inputs in, events out, time as an argument.

`receive` first runs every deadline that has passed, each at its own time, so that a live run and a replay of the journal see
the same sequence and derive the same event ids. After every input the spaces it touched are judged again, so an opening that
is shut within the same batch is not missed. Conditions are levels, and the next deadline is simply the earliest time at which
one of them, or a running off-delay, may change by time alone.

What an input does to the picture stands in `reports` and `orders`; what is so then, in `conditions`. Here it is judged.
"""

from collections.abc import Iterable

from manway import orders, reports
from manway.alarm import RETURNED, Alarm, Change, Condition
from manway.catalogue import CATALOGUE
from manway.commands import AnyCommand, GreetLock, OrderEvacuation, RecordCheckIn, RecordEntry, WriteGrant
from manway.conditions import conditions
from manway.errors import TimeWentBackwards
from manway.events import (
    AlarmRaised,
    AlarmRepeated,
    AlarmReturned,
    CommandRefused,
    Event,
    FramesMissed,
    InstrumentLost,
    UnlockUnconfirmed,
)
from manway.ids import Priority
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameReceived,
    HelloReceived,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from manway.limits import LimitProfile, Timings
from manway.lock import LockSignal, move
from manway.site import Site
from manway.step import Step


class Engine:
    """One site's rules. Not safe for threads; the gateway's loop owns it."""

    def __init__(self, site: str, limits: LimitProfile, timings: Timings) -> None:
        self.site = Site(site, limits, timings)
        self._step = Step(self.site)
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
            for space in _touched(self.site, item):
                self._judge(space)
        return events + self._step.drain()

    def advance(self, now: float) -> list[Event]:
        """Run every deadline up to `now`, each at its own time, and return what follows.

        Raises:
            TimeWentBackwards: `now` is earlier than the last.
        """
        step = self._step
        if now < step.now:
            raise TimeWentBackwards(step.now, now)
        while (at := self.next_deadline()) is not None and at <= now:
            step.now = max(step.now, at)
            for space in [space for space, due in self._due.items() if due <= at]:
                self._judge(space)
        step.now = now
        return step.drain()

    @property
    def now(self) -> float:
        """The time of the last step, Unix seconds."""
        return self._step.now

    def next_deadline(self) -> float | None:
        """Return when time alone may change something, Unix seconds."""
        return min(self._due.values(), default=None)

    def refuses_grant(self, space: str) -> str | None:
        """Return the kind of an open P1 that forbids PREP and ENTRY grants for a space, here or next door, or None."""
        return orders.blocking_alarm(self.site, space)

    def accepted(self, command: str) -> bool:
        """Say whether a command was carried out; a repeated id is answered once and never carried out again."""
        return self._done.get(command, (0.0, False))[1]

    def _take(self, item: AnyInput) -> None:
        if isinstance(item, CommandReceived):
            self._obey(item.command)
        else:
            reports.take(self._step, item)

    def _obey(self, command: AnyCommand) -> None:
        """Carry a command out, once and in time; ids are kept until their commands have expired anyway."""
        now = self._step.now
        if command.id in self._done:
            return
        reason = "command.expired" if now > command.exp else orders.obey(self._step, command)
        self._done = {k: v for k, v in self._done.items() if v[0] >= now} | {command.id: (command.exp, reason is None)}
        if reason is not None:
            self._step.emit(CommandRefused, command.id, reason, cause=command.id, reason=reason)

    def _judge(self, space: str) -> None:
        """Hold every alarm of a space against its condition, now, and note when to look there again."""
        step, until = self._step, []
        now, delay = step.now, self.site.timings.alarm_off_delay_s
        _time_out_grants(step, space)
        for condition in list(conditions(self.site, space, now)):
            if condition.until is not None and condition.until > now:
                until.append(condition.until)
            _feel(step, condition)
        alarms = [alarm for alarm in self.site.alarms.values() if alarm.space == space]
        until += [at for alarm in alarms if (at := alarm.off_at(delay)) is not None and at > now]
        until += _announce_gaps(step, space)
        _mark_silence(step, space)
        _evacuate_where_due(step, alarms)
        self._due.pop(space, None)
        if until:
            self._due[space] = min(until)


# -- what to judge ----------------------------------------------------------------------------------------------------


def _touched(site: Site, item: AnyInput) -> list[str]:
    """Return the spaces an input can change anything in; nothing is judged that nothing has touched."""
    match item:
        case FrameReceived(frame=frame):
            watch = site.instruments.get(frame.device)
            return [watch.space] if watch else []
        case LockReported(lock=name) | HelloReceived(lock=name) | ResultReceived(lock=name) | LogReceived(lock=name):
            return _space_of(site, name)
        case CommandReceived(command=command):
            return _commanded(site, command)
        case PlanReceived():
            places = [*(w.space for w in site.instruments.values()), *(w.space for w in site.locks.values())]
            return list(dict.fromkeys([*site.spaces, *places]))
        case _:
            return []


def _commanded(site: Site, command: AnyCommand) -> list[str]:
    match command:
        case OrderEvacuation(space=space) | RecordEntry(space=space) | RecordCheckIn(space=space):
            return [space]
        case GreetLock(lock=lock) | WriteGrant(lock=lock):
            return _space_of(site, lock)
        case _:
            return []  # a pressed button changes an alarm, not what it is about


def _space_of(site: Site, lock: str) -> list[str]:
    watch = site.locks.get(lock)
    return [watch.space] if watch else []


# -- judging one space ------------------------------------------------------------------------------------------------


def _time_out_grants(step: Step, space: str) -> None:
    for lock in step.site.locks_of(space):
        if lock.written is None or step.now < lock.written.confirm_by:
            continue
        command = lock.written.command
        step.emit(UnlockUnconfirmed, command, "unconfirmed", lock=lock.device, space=lock.space, cause=command)
        lock.position = move(lock.position, LockSignal.TIMED_OUT)
        lock.written, lock.unconfirmed = None, True


def _feel(step: Step, condition: Condition) -> None:
    site, key = step.site, (condition.kind, condition.object, condition.space)
    alarm = site.alarms.get(key)
    if alarm is None:
        if condition.holds is not True:
            return
        alarm = site.alarms[key] = Alarm(site.id, condition.kind, condition.object, condition.space)
    change = alarm.feel(condition, step.now, site.timings.alarm_off_delay_s)
    if change is Change.RAISED:
        _raise(step, alarm)
    elif change is Change.REPEATED:
        step.emit(AlarmRepeated, alarm.id, "repeated", alarm.count, **alarm.named, count=alarm.count)
    elif change is Change.RETURNED:
        step.emit(AlarmReturned, alarm.id, "returned", alarm.count, **alarm.named)


def _raise(step: Step, alarm: Alarm) -> None:
    step.emit(
        AlarmRaised,
        alarm.id,
        "raised",
        **alarm.named,
        priority=alarm.priority,
        value=alarm.value,
        limit=alarm.limit,
        unit=alarm.unit,
        clause=alarm.clause,
        evacuate=_evacuates(alarm),
    )


def _evacuates(alarm: Alarm) -> bool:
    return alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].evacuates


def _announce_gaps(step: Step, space: str) -> list[float]:
    """Announce gaps that have stood long enough; return when the next one will have."""
    wait, soon = step.site.timings.missed_frames_s, []
    for watch in step.site.instruments_of(space):
        boot = watch.ledger.boot or 0
        for gap in watch.ledger.standing(step.now, wait):
            named = {"device": watch.device, "boot": boot, "first": gap.first, "last": gap.last}
            step.emit(FramesMissed, watch.device, boot, gap.first, gap.last, **named)
        soon += [gap.at + wait for gap in watch.ledger.gaps[:1]]
    return soon


def _mark_silence(step: Step, space: str) -> None:
    for watch in step.site.instruments_of(space):
        alarm = step.site.alarms.get(("DATA_LOST", watch.device, watch.space))
        silent = alarm is not None and alarm.holds is True
        if silent and not watch.lost:
            key = (watch.device, watch.heard_at, "lost")
            step.emit(InstrumentLost, *map(str, key), device=watch.device, space=watch.space, last_frame_at=watch.heard_at)
            watch.troubled = True
        watch.lost = silent


def _evacuate_where_due(step: Step, alarms: list[Alarm]) -> None:
    """Order people out where an evacuating P1 is on, also those who went in after it rose."""
    for alarm in alarms:
        space = step.site.spaces.get(alarm.space)
        if space is None or space.evacuating or not space.occupancy.occupied:
            continue
        if alarm.open and alarm.state not in RETURNED and _evacuates(alarm):
            step.evacuate(space, cause=alarm.id, by="")
