"""What locks and hatches give rise to (`domain.md` §4.4, §8.2)."""

from collections.abc import Iterator

from manway.alarm import Condition
from manway.checks.air import BATTERY_LOW_PERCENT
from manway.codec_ble import BATTERY_UNKNOWN
from manway.conditions.base import condition, due
from manway.entities import LockFlag, PermitState
from manway.ids import GrantKind
from manway.lock import LockPosition
from manway.site import LockWatch, Rescue, Site

REFUSALS = 3  # (choice, `domain.md` §4.4) within the window of `refused_window_s`


def of_lock(site: Site, lock: LockWatch, now: float) -> Iterator[Condition]:
    """Yield the conditions of one lock."""
    yield from _opening(site, lock, now)
    yield from _case(lock)
    yield from _shut(site, lock)
    yield _unconfirmed(lock, now)
    yield due("LOCK_OFFLINE", lock.device, lock.space, lock.heard_at + site.timings.lock_offline_s, now)
    yield _guessing(site, lock, now)


def _opening(site: Site, lock: LockWatch, now: float) -> Iterator[Condition]:
    unknown = lock.position in (LockPosition.UNKNOWN, LockPosition.JAMMED)
    unauthorised = None if unknown else lock.unsecured and not covered(site, lock)
    confirm_by = _broadcast_open(site, lock)
    if confirm_by is not None and now >= confirm_by:
        unauthorised = True
    yield condition("UNAUTHORISED_OPEN", lock.device, lock.space, unauthorised, until=confirm_by)
    yield _left_open(site, lock, now, unknown=unknown)
    flags = _flags(lock)
    release = flags is not None and bool(flags & (LockFlag.SEAL_BROKEN | LockFlag.INSIDE_RELEASE))
    rescue = rescue_under_way(lock, now)
    emergency = release or rescue is not None or (lock.used_kind is GrantKind.EMERGENCY and lock.unsecured)
    holds = None if flags is None and rescue is None else emergency
    # From the asking on, whatever the lock then does: somebody is in need there, or means no good.
    yield condition("EMERGENCY_OPEN", lock.device, lock.space, holds, until=rescue.until if rescue else None)


def _broadcast_open(site: Site, lock: LockWatch) -> float | None:
    """Return until when a lock that broadcasts an opening may still report it, Unix seconds; None when none is waited for.

    A broadcast moves nothing in the picture: the gateway asks the lock. One that cannot be asked has been opened.
    """
    told = not lock.broadcast_open_at or lock.position is not LockPosition.LOCKED
    return None if told or covered(site, lock) else lock.broadcast_open_at + site.timings.lock_confirm_s


def rescue_under_way(lock: LockWatch, now: float) -> Rescue | None:
    """Return the rescue that was asked for at the gateway's own page and is not over."""
    return lock.rescue if lock.rescue is not None and now < lock.rescue.until else None


def _unconfirmed(lock: LockWatch, now: float) -> Condition:
    """A grant without a report, a jam, or a rescue that no lock has answered: people stand in front of a shut hatch."""
    written, rescue = lock.written, rescue_under_way(lock, now)
    unanswered = rescue is not None and not rescue.opened and not lock.unsecured and now >= rescue.confirm_by
    stuck = lock.unconfirmed or lock.position is LockPosition.JAMMED or unanswered
    ends = [x.confirm_by for x in (written, rescue) if x is not None and x.confirm_by > now]
    return condition("LOCK_UNCONFIRMED", lock.device, lock.space, stuck, until=min(ends, default=None))


def covered(site: Site, lock: LockWatch) -> bool:
    """Say whether a grant covers an opening now: only while its permit holds the space; a rescue needs no permit."""
    opening = lock.written is not None and lock.written.kind <= GrantKind.EMERGENCY  # orders open nothing
    rescue = lock.used_kind is GrantKind.EMERGENCY
    return opening or (bool(lock.used_grant) and (rescue or site.permit_of(lock.space) is not None))


def _left_open(site: Site, lock: LockWatch, now: float, *, unknown: bool) -> Condition:
    """Open while the permit is suspended, unless a PREP grant airs it; or long after the work was said to be done."""
    permit, space = site.permit_of(lock.space), site.spaces.get(lock.space)
    suspended = permit is not None and permit.state is PermitState.SUSPENDED and lock.used_kind is not GrantKind.PREP
    until = None
    if permit is not None and permit.state is PermitState.CLOSING and space is not None and space.closing_since is not None:
        until = space.closing_since + site.timings.closing_open_s
    late = until is not None and now >= until
    holds = None if unknown else lock.unsecured and (suspended or late)
    return condition("DOOR_LEFT_OPEN", lock.device, lock.space, holds, until=until)


def _flags(lock: LockWatch) -> LockFlag | None:
    """Return what the lock reports, and what only its log has told since; None before it said anything."""
    return (lock.reported.flags | lock.told) if lock.reported else lock.told or None


def _case(lock: LockWatch) -> Iterator[Condition]:
    flags = _flags(lock)
    began = 0.0 if LockFlag.TAMPER in lock.told else None  # what a log tells is past: it waits no more
    yield condition("TAMPER", lock.device, lock.space, None if flags is None else LockFlag.TAMPER in flags, since=began)
    yield condition("FORCED", lock.device, lock.space, None if flags is None else LockFlag.FORCED in lock.told)
    percent = lock.reported.battery_percent if lock.reported else BATTERY_UNKNOWN
    low = None if percent == BATTERY_UNKNOWN else percent < BATTERY_LOW_PERCENT
    if flags is not None and LockFlag.BATTERY_LOW in flags:
        low = True
    yield condition("LOCK_BATTERY", lock.device, lock.space, low, value=None if low is None else float(percent), unit="%")


def _shut(site: Site, lock: LockWatch) -> Iterator[Condition]:
    # An unknown count is somebody (`locks.md` §1.5), and a bolt that jams behind a shut door holds them as well.
    shut = lock.position in (LockPosition.LOCKED, LockPosition.JAMMED) and site.occupied(lock.space)
    ways_out = any(other.unsecured for other in site.locks_of(lock.space))
    holds = None if lock.position is LockPosition.UNKNOWN or _uncounted(site, lock.space) else shut and not ways_out
    yield condition("RELOCK_WITH_PERSON", lock.device, lock.space, holds)


def _uncounted(site: Site, space: str) -> bool:
    """Say whether a new journal has not been told yet who is inside: JOURNAL_GAP speaks of that, and nobody threw this bolt."""
    watch = site.spaces.get(space)
    return watch is not None and not (watch.occupancy.known or watch.occupancy.inside or watch.occupancy.mismatch)


def _guessing(site: Site, lock: LockWatch, now: float) -> Condition:
    """Three refused attempts on one lock in ten minutes (`domain.md` §4.4): somebody tries, or something is broken."""
    window = site.timings.refused_window_s
    recent = [at for at in lock.refused_at if at > now - window]
    until = recent[-REFUSALS] + window if len(recent) >= REFUSALS else None
    if until is None and lock.log_broken_at and now < lock.log_broken_at + window:
        until = lock.log_broken_at + window  # its log has a gap, or is not the one it signed
    return condition("SUSPICION", lock.device, lock.space, until is not None, until=until)
