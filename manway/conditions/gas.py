"""What the air and the instruments that read it give rise to (`domain.md` §6, §7.1)."""

from collections.abc import Iterator, Mapping

from manway.alarm import Alarm, Condition
from manway.conditions.base import condition, due
from manway.conditions.broadcast import counts_from, cried
from manway.gas import Channel
from manway.ids import Priority, Status
from manway.limits import Level
from manway.site import InstrumentWatch, Site

_LEVELS = (("GAS_PRE", Level.PRE), ("GAS_LOW", Level.LOW), ("GAS_HIGH", Level.HIGH), ("GAS_IDLH", Level.IDLH))
_LOW, _OVER, _WARMUP = Level.LOW, Status.OVER, Status.WARMUP  # read through their class they take three times as long
_Alarms = Mapping[tuple[str, str, str], Alarm]
_NO_ALARMS: _Alarms = {}
_NOBODY: dict[str, tuple[str, ...]] = {}
_FAULTS = (Status.FAULT, Status.PUMP, Status.UNDER, Status.INVALID, Status.POISON)


def of_instrument(site: Site, instrument: InstrumentWatch, now: float) -> Iterator[Condition]:
    """Yield the conditions of one instrument and its channels."""
    known = instrument.known
    device, space = known.device, known.space
    watched = site.occupied(space)
    stale = instrument.heard_at + stale_after(site, instrument)
    yield _silence(site, instrument, stale, now, watched=watched)
    loud = cried(instrument, now) if instrument.advertised is not None else _NOBODY
    for obj, kinds in loud.items():
        for kind in kinds:
            yield condition(kind, obj, space, True)
    fresh, setpoints, calm = now < stale and not loud, instrument.setpoints, site.gas.calm
    told = {alarm.object for alarm in site.alarms_of(space)}
    for gas, row in instrument.rows.items():
        obj = f"{device}/{gas}"
        if obj not in told and gas not in setpoints and calm(row):
            continue  # as nearly all air: no alarm to raise, and none to end
        channel = site.gas.at(row)
        alarms = site.alarms if obj in told else _NO_ALARMS
        yield from _air(site, obj, space, channel, alarms, fresh=fresh, said=loud.get(obj, ()))
        yield from _sensor(obj, space, channel, alarms, fresh=fresh, watched=watched)
        if gas in setpoints or ("SETPOINT_LAX", obj, space) in alarms:
            yield _lax(instrument, gas, channel)
    yield _due(site, instrument, now)


def stale_after(site: Site, instrument: InstrumentWatch) -> float:
    """Return how long an instrument may be silent, in seconds: by whether anybody is inside, or a permit holds its space."""
    t = site.timings
    if site.occupied(instrument.space):
        return t.stale_occupied_s
    return t.stale_permit_s if site.permit_of(instrument.space) is not None else t.stale_idle_s


def _silence(site: Site, instrument: InstrumentWatch, stale: float, now: float, *, watched: bool) -> Condition:
    """No frame in time: P3 while nobody is inside; P2 with a person inside, P1 and out after 15 s (`domain.md` §7.1)."""
    cries_at = counts_from(instrument)  # here its own alarm begins to count, if no frame comes before
    if cries_at is not None and now < cries_at < stale:
        return condition("DATA_LOST", instrument.device, instrument.space, False, until=cries_at)
    if not watched:
        return due("DATA_LOST", instrument.device, instrument.space, stale, now)
    evacuate = instrument.heard_at + site.timings.silence_evacuate_s
    priority = Priority.P1 if now >= evacuate else Priority.P2
    until = stale if now < stale else evacuate
    return condition("DATA_LOST", instrument.device, instrument.space, now >= stale, priority=priority, until=until)


def _air(
    site: Site, obj: str, space: str, channel: Channel, alarms: _Alarms, *, fresh: bool, said: tuple[str, ...]
) -> Iterator[Condition]:
    """Yield what holds, and what is unknown or gone of an alarm there was: of most air, most of the time, nothing.

    `said`: kinds of which the instrument itself has already told, by another way.
    """
    unit, value, level, low_in_s = channel.limits.unit, channel.value, channel.level, channel.low_in_s
    coming = low_in_s is not None and low_in_s < site.timings.rising_s and level is not None and level < _LOW
    for kind, rank in _LEVELS:
        holds = level >= rank if fresh and level is not None else None
        unsaid = kind in said or (not holds and (kind, obj, space) not in alarms)
        if unsaid or ((limit := channel.limit_of(rank)) is None and kind != "GAS_PRE"):  # not every gas has every limit
            continue
        grown = Priority.P2 if coming and kind == "GAS_PRE" else None
        yield condition(kind, obj, space, holds, priority=grown, value=value, limit=limit, unit=unit)
    if coming or ("GAS_RISING", obj, space) in alarms:
        known, limit = level is not None and fresh, channel.limit_of(_LOW)
        yield condition("GAS_RISING", obj, space, coming if known else None, value=value, limit=limit, unit=unit)


def _sensor(obj: str, space: str, channel: Channel, alarms: _Alarms, *, fresh: bool, watched: bool) -> Iterator[Condition]:
    # An over-range channel never says "gone" by itself: its later numbers are not to be trusted.
    over = channel.over_range or channel.status is _OVER
    known = channel.status is not None and fresh
    if over or ("OVER_RANGE", obj, space) in alarms:
        yield condition("OVER_RANGE", obj, space, over if over or known else None)
    # With people inside a channel that only warms up is a channel that says nothing: unknown becomes an alarm.
    blind = channel.status in _FAULTS or (watched and channel.status is _WARMUP)
    if blind or ("SENSOR_FAULT", obj, space) in alarms:
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
