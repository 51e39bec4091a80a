"""The rules of one site without any I/O: inputs in, events out, time as an argument.

`receive` first runs every deadline that has passed, each at its own time, so that a live run and a replay of the journal see
the same sequence and derive the same event ids. After every input the spaces it touched are judged again, so an opening that
is shut within the same batch is not missed. Conditions are levels, and the next deadline is simply the earliest time at which
one of them, or a running off-delay, may change by time alone.

What an input does to the picture stands in `reports` and `orders`; what is so then, in `conditions`. Here it is judged.
"""

import heapq
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Self, cast

from msgspec.structs import replace

from manway import air, duties, orders, reports
from manway.alarm import RETURNED, Alarm, Around, Change, Condition, incident_of, said_better
from manway.catalogue import CATALOGUE
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    GreetLock,
    OrderEvacuation,
    RaiseSos,
    RecordCount,
    RecordEntry,
    RelayEnrolment,
    ResetAlarm,
    ShelveAlarm,
    UnshelveAlarm,
    WriteGrant,
)
from manway.conditions import conditions
from manway.entities import Frame
from manway.errors import TimeWentBackwards
from manway.events import (
    AlarmRaised,
    AlarmRepeated,
    AlarmReturned,
    AlarmUnshelved,
    CommandRefused,
    Event,
)
from manway.gas import GasRows
from manway.ids import Priority
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameReceived,
    HealthReported,
    HelloReceived,
    InstrumentAdvertised,
    InstrumentDescribed,
    LockAdvertised,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
    SetPointsRead,
)
from manway.limits import LimitProfile, Timings
from manway.memory import freeze, thaw
from manway.site import InstrumentWatch, Site
from manway.step import Step


class Engine:
    """One site's rules. Not safe for threads; the gateway's loop owns it.

    `gas` are the rows of all sites of a process, made of the same limits and timings; without it the site has its own.
    `version` counts whatever was more than plain frames: as long as it is the same, what `air.quiet` says is.
    """

    def __init__(self, site: str, limits: LimitProfile, timings: Timings, gas: GasRows | None = None) -> None:
        self.site = Site(site, limits, timings, gas or GasRows(limits, timings.rising_s))
        self.version = 0
        self._step = Step(self.site)
        self._done: dict[str, tuple[float, bool]] = {}
        self._due: dict[str, float] = {}  # space -> when time alone may change something there
        self._queue: list[tuple[float, str]] = []  # the same in order, with what is no longer so

    def receive(self, batch: Iterable[AnyInput], now: float) -> list[Event]:
        """Take inputs in arrival order at `now` (Unix seconds) and return what follows from them.

        Raises:
            TimeWentBackwards: `now` is earlier than the last.
        """
        events = self.advance(now)
        self.version += 1
        for kind, items in groupby(batch, type):
            if kind is FrameReceived:
                self._breathe([item.frame for item in items if isinstance(item, FrameReceived)])
            else:
                for item in items:
                    self._take(cast("CommandReceived | reports.Report", item))
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
            self.version += 1
            self._judge(self._queue[0][1])
        step.now = now
        return step.drain()

    def tick(self, now: float) -> None:
        """Let `now` (Unix seconds) be the present where no deadline is due: plain frames that came then were taken elsewhere.

        Raises:
            TimeWentBackwards: `now` is earlier than the last, or a deadline was to be run before it.
        """
        if now < self._step.now:
            raise TimeWentBackwards(self._step.now, now)
        if self._queue and self._queue[0][0] <= now and (due := self.next_deadline()) is not None and due <= now:
            raise TimeWentBackwards(now, due)
        self._step.now = now

    def hear(self, watches: Sequence[InstrumentWatch], other: AbstractSet[int], noticed: AbstractSet[int]) -> list[Event]:
        """Return what follows from frames of the present that `Heard` has kept; arguments as of `air.answer`.

        It may change what `air.quiet` says of instruments in the spaces of these, and of no others.
        """
        for space in air.answer(self._step, watches, other, noticed):
            self._judge(space)
        return self._step.drain()

    @property
    def now(self) -> float:
        """The time of the last step, Unix seconds."""
        return self._step.now

    def next_deadline(self) -> float | None:
        """Return when time alone may change something, Unix seconds."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def snapshot(self) -> bytes:
        """Return everything the engine knows, for `Engine.restored`."""
        return freeze(self.site, self._step.now, self._done, self._due)

    @classmethod
    def restored(cls, snapshot: bytes, site: str, limits: LimitProfile, timings: Timings, gas: GasRows | None = None) -> Self:
        """Return the engine a snapshot was taken of; given the inputs behind it, it equals the one never interrupted.

        `gas` as of `Engine`.

        Raises:
            SnapshotUnusable: damaged, of another site, or made under other limits.
        """
        engine = cls(site, limits, timings, gas)
        kept = thaw(snapshot, engine.site)
        engine._step.now, engine._done, engine._due = kept.at, kept.done, kept.due
        engine._queue = sorted((at, space) for space, at in kept.due.items())
        return engine

    def refuses_grant(self, space: str) -> str | None:
        """Return the kind of an open P1 that forbids PREP and ENTRY grants for a space, here or next door, or None."""
        return orders.blocking_alarm(self.site, space)

    def accepted(self, command: str) -> bool:
        """Say whether a command was carried out; a repeated id is answered once and never carried out again."""
        return self._done.get(command, (0.0, False))[1]

    def _breathe(self, frames: list[Frame]) -> None:
        for round_ in air.rounds(frames):
            for space in air.breathe(self._step, round_):
                self._judge(space)
            while self._step.overtaken:
                watch, frame, newest = self._step.overtaken.pop(0)
                if air.look_back(self._step, watch, frame, newest):
                    self._judge(watch.space)
                    air.look_again(self._step, watch, newest)
                    self._judge(watch.space)

    def _take(self, item: CommandReceived | reports.Report) -> None:
        if isinstance(item, CommandReceived):
            self._obey(item.command)
        else:
            reports.take(self._step, item)
        for space in _touched(self.site, item):
            self._judge(space)

    def _obey(self, command: AnyCommand) -> None:
        """Carry a command out, once and in time; ids are kept until their commands have expired anyway."""
        now = self._step.now
        if command.id in self._done:
            return
        late = now > command.exp and not isinstance(command, (RaiseSos, OrderEvacuation))  # a cry for help is never too late
        reason = "command.expired" if late else orders.obey(self._step, command)
        self._done = {k: v for k, v in self._done.items() if v[0] >= now} | {command.id: (command.exp, reason is None)}
        if reason is not None:
            self._step.emit(CommandRefused, command.id, reason, cause=command.id, reason=reason)

    def _judge(self, space: str) -> None:
        """Hold every alarm of a space against its condition, now, and note when to look there again."""
        step = self._step
        now, delay = step.now, self.site.timings.alarm_off_delay_s
        until = duties.pass_time(step, space)
        found = list(conditions(self.site, space, now))
        for condition in found:
            if condition.until is not None:
                until.append(condition.until)
            feel(step, condition)
        alarms = self.site.alarms_of(space)
        felt = {(condition.kind, condition.object) for condition in found} if alarms else set()
        for alarm in alarms:
            if (alarm.kind, alarm.object) not in felt and (alarm.open or alarm.rises_at is not None):
                # What is watched no more clears nothing while somebody may be inside; of an empty space it is known gone, and
                # what latched still waits for its person.
                feel(step, replace(alarm.unknown, holds=None if self.site.occupied(space) else False))
        until += [at for alarm in alarms if (at := alarm.due(delay)) is not None]
        until += duties.tell_losses(step, space)
        _evacuate_where_due(step, alarms)
        self._due.pop(space, None)
        if later := [at for at in until if at > now]:
            self._due[space] = min(later)
            heapq.heappush(self._queue, (self._due[space], space))


# -- what to judge ----------------------------------------------------------------------------------------------------


def _touched(site: Site, item: AnyInput) -> list[str]:
    """Return the spaces an input can change anything in; nothing is judged that nothing has touched."""
    match item:
        case (
            LockReported(lock=name)
            | HelloReceived(lock=name)
            | ResultReceived(lock=name)
            | LogReceived(lock=name)
            | LockAdvertised(lock=name)
            | InstrumentDescribed(device=name)
            | SetPointsRead(device=name)
            | InstrumentAdvertised(device=name)
        ):
            return _space_of(site, name)
        case CommandReceived(command=command):
            return _commanded(site, command)
        case PlanReceived():
            watched = (site.instruments.values(), site.locks.values(), site.alarms.values())
            places = [x.space for some in watched for x in some]
            return list(dict.fromkeys(["", *site.spaces, *places]))
        case HealthReported():
            return [""]
        case _:
            return []


def _commanded(site: Site, command: AnyCommand) -> list[str]:
    match command:
        case GreetLock(lock=lock) | WriteGrant(lock=lock) | RelayEnrolment(lock=lock):
            return _space_of(site, lock)
        case AcknowledgeAlarm(alarm=alarm) | ResetAlarm(alarm=alarm) | ShelveAlarm(alarm=alarm) | UnshelveAlarm(alarm=alarm):
            return list(dict.fromkeys(a.space for a in site.alarms.values() if a.id == alarm))
        case RecordEntry(space=space) | RecordCount(space=space):
            # Whoever goes in somewhere may be missed elsewhere: as the attendant, or as somebody believed inside.
            return list(dict.fromkeys([space, *(s.id for s in site.spaces.values() if s.occupancy.occupied)]))
        case _:
            return [command.space]


def _space_of(site: Site, device: str) -> list[str]:
    watch = site.locks.get(device) or site.instruments.get(device)
    return [watch.space] if watch else []


# -- judging one space ------------------------------------------------------------------------------------------------


def feel(step: Step, condition: Condition) -> None:
    """Hold one alarm of a site against its condition, now, and emit what that changes."""
    site, key = step.site, (condition.kind, condition.object, condition.space)
    alarm = site.alarms.get(key)
    if alarm is None:
        if condition.holds is not True:
            return
        alarm = site.alarms.add(Alarm(site.id, condition.kind, condition.object, condition.space))
    elif condition.holds is alarm.holds is False and not alarm.open and alarm.rises_at is None:
        return  # gone since long, as most of what a space ever had
    around = Around(
        occupied=site.occupied(condition.space),
        suppressed=bool(CATALOGUE[condition.kind].suppressed_by)
        and said_better(condition.kind, condition.object, site.alarms_of(condition.space)),
        removed=site.out_of_service(condition.object, condition.space),
    )
    change = alarm.feel(condition, step.now, site.timings.alarm_off_delay_s, around)
    if change is Change.UNSHELVED:
        step.emit(AlarmUnshelved, alarm.id, "unshelved", str(step.now), **alarm.named)
        change = alarm.feel(condition, step.now, site.timings.alarm_off_delay_s, around)
    if change is Change.RAISED:
        alarm.incident = incident_of(site.alarms_of(alarm.space), alarm)
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
        incident=alarm.incident,
    )


def _evacuates(alarm: Alarm) -> bool:
    return alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].evacuates


def _evacuate_where_due(step: Step, alarms: list[Alarm]) -> None:
    """Order people out where an evacuating P1 is on, also those who went in after it rose."""
    for alarm in alarms:
        space = step.site.spaces.get(alarm.space)
        if space is None or space.evacuating or not space.occupancy.occupied:
            continue
        if alarm.open and alarm.state not in RETURNED and _evacuates(alarm):
            step.evacuate(space, cause=alarm.id, by="")
