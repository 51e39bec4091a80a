"""What is so now: every alarm condition of a site as a function of its picture and the time.

Levels, not edges: a condition that already holds at start-up is there at once. Each condition also says when time alone may
change its answer, and that is the only timer the engine has.
"""

from collections.abc import Iterator

from manway.alarm import Condition
from manway.catalogue import CATALOGUE
from manway.entities import LockFlag, Permit
from manway.gas import Channel
from manway.ids import GrantKind, Priority, Status
from manway.limits import Level
from manway.lock import LockPosition
from manway.site import InstrumentWatch, LockWatch, Site, SpaceWatch

_LEVELS = (("GAS_PRE", Level.PRE), ("GAS_LOW", Level.LOW), ("GAS_HIGH", Level.HIGH))
_FAULTS = (Status.FAULT, Status.PUMP, Status.UNDER, Status.INVALID, Status.POISON)


def conditions(site: Site, space: str, now: float) -> Iterator[Condition]:
    """Yield every condition of one space, its instruments and its locks at `now` (Unix seconds)."""
    for instrument in site.instruments_of(space):
        yield _silence(site, instrument, now)
        fresh = now < instrument.heard_at + _stale_after(site, instrument)
        for gas, channel in instrument.channels.items():
            yield from _channel(instrument, gas, channel, fresh=fresh, watched=_occupied(site, space))
    for lock in site.locks_of(space):
        yield from _lock(site, lock, now)
    if (watch := site.spaces.get(space)) is not None:
        yield from _space(site, watch, now)


def _condition(
    kind: str,
    obj: str,
    space: str,
    holds: bool | None,  # noqa: FBT001  yes, no or unknown is what a condition is
    *,
    priority: Priority | None = None,
    until: float | None = None,
) -> Condition:
    row = CATALOGUE[kind]
    return Condition(kind, obj, space, holds, priority or row.priority, until=until, clause=row.clause)


def _occupied(site: Site, space: str) -> bool:
    watch = site.spaces.get(space)
    return watch is not None and watch.occupancy.occupied


def _stale_after(site: Site, instrument: InstrumentWatch) -> float:
    t = site.timings
    if _occupied(site, instrument.space):
        return t.stale_occupied_s
    return t.stale_permit_s if site.permit_of(instrument.space) is not None else t.stale_idle_s


def _silence(site: Site, instrument: InstrumentWatch, now: float) -> Condition:
    """No frame in time: P3 while nobody is inside; P2 with a person inside, P1 and out after 15 s (`domain.md` §7.1)."""
    stale = instrument.heard_at + _stale_after(site, instrument)
    if not _occupied(site, instrument.space):
        return _condition("DATA_LOST", instrument.device, instrument.space, now >= stale, until=stale)
    evacuate = instrument.heard_at + site.timings.silence_evacuate_s
    priority = Priority.P1 if now >= evacuate else Priority.P2
    until = stale if now < stale else evacuate
    return _condition("DATA_LOST", instrument.device, instrument.space, now >= stale, priority=priority, until=until)


def _channel(instrument: InstrumentWatch, gas: str, channel: Channel, *, fresh: bool, watched: bool) -> Iterator[Condition]:
    obj = f"{instrument.device}/{gas}"
    for kind, level in _LEVELS:
        limit = channel.limit_of(level)
        yield Condition(
            kind,
            obj,
            instrument.space,
            channel.at_least(level) if fresh else None,
            CATALOGUE[kind].priority,
            value=channel.value,
            limit=limit.value if limit else None,
            unit=channel.limits.unit,
            clause=limit.clause if limit else CATALOGUE[kind].clause,
        )
    # An over-range channel never says "gone" by itself: its later numbers are not to be trusted.
    over = channel.over_range or channel.status is Status.OVER
    known = channel.status is not None and fresh
    yield _condition("OVER_RANGE", obj, instrument.space, over if over or known else None)
    # With people inside a channel that only warms up is a channel that says nothing: unknown becomes an alarm.
    blind = channel.status in _FAULTS or (watched and channel.status is Status.WARMUP)
    yield _condition("SENSOR_FAULT", obj, instrument.space, blind if known else None)


def _lock(site: Site, lock: LockWatch, now: float) -> Iterator[Condition]:
    space = site.spaces.get(lock.space)
    opening = lock.written is not None and lock.written.kind <= GrantKind.EMERGENCY  # orders open nothing
    # A grant covers an opening only while its permit holds the space; a rescue needs no permit.
    rescue = lock.used_kind is GrantKind.EMERGENCY
    covered = opening or (bool(lock.used_grant) and (rescue or site.permit_of(lock.space) is not None))
    unknown = lock.position in (LockPosition.UNKNOWN, LockPosition.JAMMED)
    unauthorised = None if unknown else lock.unsecured and not covered
    yield _condition("UNAUTHORISED_OPEN", lock.device, lock.space, unauthorised)
    flags = lock.reported.flags if lock.reported else None
    yield _condition("TAMPER", lock.device, lock.space, None if flags is None else LockFlag.TAMPER in flags)
    release = flags is not None and bool(flags & (LockFlag.SEAL_BROKEN | LockFlag.INSIDE_RELEASE))
    emergency = release or (lock.used_kind is GrantKind.EMERGENCY and lock.unsecured)
    yield _condition("EMERGENCY_OPEN", lock.device, lock.space, None if flags is None else emergency)
    shut_in = lock.position is LockPosition.LOCKED and space is not None and bool(space.occupancy.inside)
    ways_out = any(other.unsecured for other in site.locks_of(lock.space))
    yield _condition("RELOCK_WITH_PERSON", lock.device, lock.space, None if unknown else shut_in and not ways_out)
    confirm_by = lock.written.confirm_by if lock.written else None
    yield _condition("LOCK_UNCONFIRMED", lock.device, lock.space, lock.unconfirmed, until=confirm_by)
    offline = lock.heard_at + site.timings.lock_offline_s
    yield _condition("LOCK_OFFLINE", lock.device, lock.space, now >= offline, until=offline)


def _space(site: Site, space: SpaceWatch, now: float) -> Iterator[Condition]:
    inside = bool(space.occupancy.inside) or not space.occupancy.known
    in_prep = inside and not site.entry_allowed(space.id)
    yield _condition("ENTRY_IN_PREP", space.id, space.id, in_prep)
    permit = site.permit_of(space.id)
    yield _overtime(site, space, permit, now, inside=inside)
    yield _attendant(site, space, permit, now, inside=inside)


def _overtime(site: Site, space: SpaceWatch, permit: Permit | None, now: float, *, inside: bool) -> Condition:
    if permit is None or not inside:
        return _condition("OVERTIME", space.id, space.id, False)
    grave = permit.end + site.timings.overtime_p1_s
    priority = Priority.P1 if now >= grave else Priority.P2
    until = permit.end if now < permit.end else grave
    return _condition("OVERTIME", space.id, space.id, now >= permit.end, priority=priority, until=until)


def _attendant(site: Site, space: SpaceWatch, permit: Permit | None, now: float, *, inside: bool) -> Condition:
    if not inside or permit is None:
        return _condition("ATTENDANT_ABSENT", space.id, space.id, False)
    if space.attendant_at is None:
        return _condition("ATTENDANT_ABSENT", space.id, space.id, True)
    due = space.attendant_at + site.timings.attendant_checkin_s
    return _condition("ATTENDANT_ABSENT", space.id, space.id, now >= due, until=due)
