"""What the people of a space, its permit and its clocks give rise to (`domain.md` §4.1, §4.6, §8.2)."""

import math
from collections.abc import Iterator

from manway import people
from manway.alarm import Condition
from manway.checks import gases_needed
from manway.conditions.base import condition, due
from manway.entities import Permit, PermitState
from manway.ids import Priority
from manway.person import IN_DANGER
from manway.record import record_due
from manway.site import PersonWatch, Site, SpaceWatch

# What only people inside, or their permit, can give rise to.
_OF_THE_INSIDE = (
    "ENTRY_IN_PREP",
    "HEADCOUNT_MISMATCH",
    "OVERTIME_SOON",
    "OVERTIME",
    "ATTENDANT_ABSENT",
    "VENT_STOP",
    "REC_15MIN_MISSED",
)
_ENDS_WITH_THEM = frozenset({*_OF_THE_INSIDE, "DATA_LOST"})


def of_space(site: Site, space: SpaceWatch, now: float) -> Iterator[Condition]:
    """Yield the conditions of one space, its permit, its attendant and everybody inside."""
    permit = site.permit_of(space.id)
    if space.occupancy.occupied:
        yield from _of_the_inside(site, space, permit, now)
    else:
        yield from _of_nobody(site, space)
    test = permit.gas_test if permit is not None and permit.state is PermitState.READY else None
    if test is not None:
        yield due("TEST_STALE", space.id, space.id, test.at + site.timings.gas_test_age_s, now)
    elif ("TEST_STALE", space.id, space.id) in site.alarms:
        yield condition("TEST_STALE", space.id, space.id, False)
    for person in space.people.values():
        yield from _person(site, space, person, now)


def _of_nobody(site: Site, space: SpaceWatch) -> Iterator[Condition]:
    """Nobody is inside: what there was an alarm of is gone, and nothing else is asked."""
    if not any(alarm.kind in _ENDS_WITH_THEM for alarm in site.alarms_of(space.id)):
        return
    named = [(kind, space.id) for kind in _OF_THE_INSIDE] + [("DATA_LOST", f"{space.id}/{gas}") for gas in _needed(site, space)]
    yield from (condition(kind, obj, space.id, False) for kind, obj in named if (kind, obj, space.id) in site.alarms)


def _of_the_inside(site: Site, space: SpaceWatch, permit: Permit | None, now: float) -> Iterator[Condition]:
    since = space.occupancy.inside.values()
    into_danger = space.evacuating and any(at > space.evacuating_since for at in since)  # a rescuer without air, perhaps
    yield condition("ENTRY_IN_PREP", space.id, space.id, not site.entry_allowed(space.id) or into_danger)
    twice = any(len(site.spaces_of(person)) > 1 for person in space.occupancy.inside)
    yield condition("HEADCOUNT_MISMATCH", space.id, space.id, bool(space.occupancy.mismatch) or twice)
    yield from _blind(site, space, now)
    yield from _clock(site, space, permit, now)
    yield _attendant(site, space, permit, now)
    yield _ventilation(site, space, permit)
    yield _record(site, space, permit, now)


def _needed(site: Site, space: SpaceWatch) -> list[str]:
    """Return the gases that must be measured in a space."""
    ledger = site.ledger_of(space.id)
    return gases_needed(ledger) if ledger is not None else []


def _clock(site: Site, space: SpaceWatch, permit: Permit | None, now: float) -> Iterator[Condition]:
    """Before the end a reminder, after it an alarm: the permit stays what it is, the people are late."""
    if permit is None:  # nobody knows their end
        yield condition("OVERTIME_SOON", space.id, space.id, None)
        yield condition("OVERTIME", space.id, space.id, None)
        return
    t, end = site.timings, permit.end
    soon, near, grave = end - t.overtime_soon_s, end - t.overtime_near_s, end + t.overtime_p1_s
    next_at = next((at for at in (soon, near, end) if now < at), None)
    close = Priority.P3 if now >= near else None
    yield condition("OVERTIME_SOON", space.id, space.id, soon <= now < end, priority=close, until=next_at)
    late = Priority.P1 if now >= grave else None
    yield condition("OVERTIME", space.id, space.id, now >= end, priority=late, until=end if now < end else grave)


def _attendant(site: Site, space: SpaceWatch, permit: Permit | None, now: float) -> Condition:
    if permit is None:
        return condition("ATTENDANT_ABSENT", space.id, space.id, None)
    heard_at = space.watched_since if space.attendant_at is None else space.attendant_at
    if heard_at is None or site.spaces_of(permit.attendant):
        return condition("ATTENDANT_ABSENT", space.id, space.id, True)
    return due("ATTENDANT_ABSENT", space.id, space.id, heard_at + site.timings.attendant_checkin_s, now)


def _ventilation(site: Site, space: SpaceWatch, permit: Permit | None) -> Condition:
    """The fan's current is lost: it ran under this permit and runs no more, or it must run and does not (1926.1206(e))."""
    required = site.needs_fan(space.id)
    running = site.fan_running(space.id)
    missed = space.fan_seen or required
    holds: bool | None
    if required:
        holds = running is not True  # where the fan may not stop, nobody's word that it runs is a fan that stands
    else:
        holds = None if running is None and missed else permit is not None and missed and running is False
    return condition("VENT_STOP", space.id, space.id, holds, priority=Priority.P1 if required else None)


def _blind(site: Site, space: SpaceWatch, now: float) -> Iterator[Condition]:
    """Yield, for every gas that must be measured, whether no instrument beside the people inside gives a number of it.

    A silent instrument says so itself (DATA_LOST of the device); here is the gas that nobody carries, whose sensor is at fault,
    or whose instrument was taken away (GB 46768-2025 6.2.2; golden vector 13). What is over its range is not blind but danger.
    """
    t = site.timings
    since = -math.inf if space.watched_since is None else space.watched_since
    began = min(space.occupancy.inside.values(), default=since)
    for gas in _needed(site, space):
        obj = f"{space.id}/{gas}"
        tellers = [x for x in site.instruments_of(space.id) if gas in x.rows]
        channels = [site.gas.at(x.rows[gas]) for x in tellers]
        if any(x.over_range for x in channels):
            yield condition("DATA_LOST", obj, space.id, False)
        elif tellers and all(now >= x.heard_at + t.stale_occupied_s for x in tellers):
            yield condition("DATA_LOST", obj, space.id, None)
        else:
            read_at = max((x.at for x in channels), default=-math.inf)
            stale = max(read_at, began) + t.stale_occupied_s
            grave = max(read_at, began) + t.silence_evacuate_s
            priority = Priority.P1 if now >= grave else Priority.P2
            until = stale if now < stale else grave
            yield condition("DATA_LOST", obj, space.id, now >= stale, priority=priority, until=until)


def _record(site: Site, space: SpaceWatch, permit: Permit | None, now: float) -> Condition:
    """The statutory record of an occupied space is late: it could not be taken when it was due (GB 46768-2025 6.2.3)."""
    if permit is None or not space.occupancy.inside:
        return condition("REC_15MIN_MISSED", space.id, space.id, False)
    first = min(space.occupancy.inside.values())
    at = record_due(space.recorded_at, now, site.timings.record_every_s, first) + site.timings.record_grace_s
    return due("REC_15MIN_MISSED", space.id, space.id, at, now)


def _person(site: Site, space: SpaceWatch, person: PersonWatch, now: float) -> Iterator[Condition]:
    inside, t = person.id in space.occupancy.inside, site.timings
    yield condition("SOS", person.id, space.id, person.sos)
    down = person.state in IN_DANGER and not person.sos
    yield condition("MAN_DOWN", person.id, space.id, down)
    if not inside:
        yield condition("STAY_TOO_LONG", person.id, space.id, False)
        yield condition("MISSED_CHECKIN", person.id, space.id, False)
    else:
        yield due("STAY_TOO_LONG", person.id, space.id, space.occupancy.inside[person.id] + t.stay_s, now)
        missed = person.answered_at + t.entrant_checkin_s
        grave = missed + 2 * t.entrant_answer_s  # the on-delay of the kind, and then as long again
        priority = Priority.P1 if now >= grave else None
        until = missed if now < missed else grave
        yield condition("MISSED_CHECKIN", person.id, space.id, now >= missed, priority=priority, until=until)
    for gas, exposure in site.exposures.get(person.id, {}).items():
        obj = f"{person.id}/{gas}"
        for kind, limit, average in people.averages(site.limits.of(gas), exposure, now):
            holds = inside and average > limit.value
            yield condition(kind, obj, space.id, holds, value=average, limit=limit, unit=people.unit_of(site, gas))
