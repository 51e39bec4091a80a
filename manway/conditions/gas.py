"""What the air and the instruments that read it give rise to (`domain.md` §6, §7.1)."""

from collections.abc import Iterator

from manway.alarm import Condition
from manway.conditions.base import condition, due
from manway.conditions.broadcast import counts_from, cried
from manway.gas import Channel
from manway.ids import Priority, Status
from manway.limits import Level
from manway.site import InstrumentWatch, Site

_LEVELS = (("GAS_PRE", Level.PRE), ("GAS_LOW", Level.LOW), ("GAS_HIGH", Level.HIGH), ("GAS_IDLH", Level.IDLH))
_FAULTS = (Status.FAULT, Status.PUMP, Status.UNDER, Status.INVALID, Status.POISON)


def of_instrument(site: Site, instrument: InstrumentWatch, now: float) -> Iterator[Condition]:
    """Yield the conditions of one instrument and its channels."""
    yield _silence(site, instrument, now)
    loud, setpoints = cried(instrument, now), instrument.setpoints
    yield from (condition(kind, obj, instrument.space, True) for obj, kinds in loud.items() for kind in kinds)
    fresh = now < instrument.heard_at + stale_after(site, instrument) and not loud
    watched = site.occupied(instrument.space)
    told = {alarm.object for alarm in site.alarms_of(instrument.space)}
    for gas, row in instrument.rows.items():
        obj = f"{instrument.device}/{gas}"
        if site.gas.calm(row) and obj not in told and gas not in setpoints:
            continue  # as nearly all air: no alarm to raise, and none to end
        channel = site.gas.at(row)
        yield from _air(site, obj, instrument.space, channel, fresh=fresh, said=loud.get(obj, ()))
        yield from _sensor(site, obj, instrument.space, channel, fresh=fresh, watched=watched)
        if gas in setpoints or ("SETPOINT_LAX", obj, instrument.space) in site.alarms:
            yield _lax(instrument, gas, channel)
    yield _due(site, instrument, now)


def stale_after(site: Site, instrument: InstrumentWatch) -> float:
    """Return how long an instrument may be silent, in seconds: by whether anybody is inside, or a permit holds its space."""
    t = site.timings
    if site.occupied(instrument.space):
        return t.stale_occupied_s
    return t.stale_permit_s if site.permit_of(instrument.space) is not None else t.stale_idle_s


def _silence(site: Site, instrument: InstrumentWatch, now: float) -> Condition:
    """No frame in time: P3 while nobody is inside; P2 with a person inside, P1 and out after 15 s (`domain.md` §7.1)."""
    stale = instrument.heard_at + stale_after(site, instrument)
    cries_at = counts_from(instrument)  # here its own alarm begins to count, if no frame comes before
    if cries_at is not None and now < cries_at < stale:
        return condition("DATA_LOST", instrument.device, instrument.space, False, until=cries_at)
    if not site.occupied(instrument.space):
        return due("DATA_LOST", instrument.device, instrument.space, stale, now)
    evacuate = instrument.heard_at + site.timings.silence_evacuate_s
    priority = Priority.P1 if now >= evacuate else Priority.P2
    until = stale if now < stale else evacuate
    return condition("DATA_LOST", instrument.device, instrument.space, now >= stale, priority=priority, until=until)


def _air(site: Site, obj: str, space: str, channel: Channel, *, fresh: bool, said: tuple[str, ...]) -> Iterator[Condition]:
    """Yield what holds, and what is unknown or gone of an alarm there was: of most air, most of the time, nothing.

    `said`: kinds of which the instrument itself has already told, by another way.
    """
    unit, value, known = channel.limits.unit, channel.value, channel.level is not None and fresh
    coming = channel.low_in_s is not None and channel.low_in_s < site.timings.rising_s and channel.at_least(Level.LOW) is False
    for kind, level in _LEVELS:
        holds = channel.at_least(level) if fresh else None
        unsaid = kind in said or (not holds and (kind, obj, space) not in site.alarms)
        if unsaid or (kind != "GAS_PRE" and channel.limit_of(level) is None):  # not every gas has every limit
            continue
        grown = Priority.P2 if coming and kind == "GAS_PRE" else None
        yield condition(kind, obj, space, holds, priority=grown, value=value, limit=channel.limit_of(level), unit=unit)
    if coming or ("GAS_RISING", obj, space) in site.alarms:
        limit = channel.limit_of(Level.LOW)
        yield condition("GAS_RISING", obj, space, coming if known else None, value=value, limit=limit, unit=unit)


def _sensor(site: Site, obj: str, space: str, channel: Channel, *, fresh: bool, watched: bool) -> Iterator[Condition]:
    # An over-range channel never says "gone" by itself: its later numbers are not to be trusted.
    over = channel.over_range or channel.status is Status.OVER
    known = channel.status is not None and fresh
    if over or ("OVER_RANGE", obj, space) in site.alarms:
        yield condition("OVER_RANGE", obj, space, over if over or known else None)
    # With people inside a channel that only warms up is a channel that says nothing: unknown becomes an alarm.
    blind = channel.status in _FAULTS or (watched and channel.status is Status.WARMUP)
    if blind or ("SENSOR_FAULT", obj, space) in site.alarms:
        yield condition("SENSOR_FAULT", obj, space, blind if known else None)


def _lax(instrument: InstrumentWatch, gas: str, channel: Channel) -> Condition:
    """The instrument's own low alarm is set beyond the profile's low limit, or off: it would not warn in time (§6.4)."""
    return condition("SETPOINT_LAX", f"{instrument.device}/{gas}", instrument.space, is_lax(instrument, gas, channel))


def is_lax(instrument: InstrumentWatch, gas: str, channel: Channel) -> bool:
    """Say whether the set-point an instrument was read with warns later than the low limit; unread ones are not judged."""
    own = instrument.setpoints.get(gas)
    low = next((x for x in channel.limits.limit if x.rank is Level.LOW), None)
    if own is None or low is None:
        return False
    set_at = own * channel.factor
    return own == 0 or (set_at < low.value if low.side == "below" else set_at > low.value)


def _due(site: Site, instrument: InstrumentWatch, now: float) -> Condition:
    """Bump test or calibration runs out before the permit's end; with no permit, once it has run out; poisoned: now (§7.1)."""
    permit, runs_out = site.permit_of(instrument.space), instrument.runs_out
    if instrument.poisoned or (permit is not None and runs_out < permit.end):
        return condition("INSTR_DUE", instrument.device, instrument.space, True)
    return due("INSTR_DUE", instrument.device, instrument.space, runs_out, now)
