"""The engine's picture of a site as one message: what the pages show, with every value beside its status and age."""

from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

from msgspec import UNSET

from manway import people
from manway.alarm import Alarm
from manway.codec_mqtt import AlarmNow, InstrumentNow, LockNow, ReadingNow, SiteState, SpaceNow
from manway.countdown import countdown
from manway.engine import Engine
from manway.gas_columns import UNKNOWN
from manway.ids import Status
from manway.orders import overlay_of
from manway.people import UNWELL
from manway.site import InstrumentWatch, Site, SpaceWatch

_FINE, _OK = Status.OK, Status.OK.value
_ALL_OK = repeat(_OK)


class _Judged(NamedTuple):
    """What the rows of a site say now (`GasRows.judged`), each at its place, with the unit of its rule."""

    places: dict[int, int]
    units: list[str]
    values: list[float]
    levels: list[int]


def site_state(engine: Engine, *, gateway: str, jid: str, event: int) -> SiteState:
    """Return the picture at the engine's last step; `event` is the newest event's sequence number."""
    site = engine.site
    judged = _judged(site)
    exposed = [person for person in site.exposures if people.is_exposed(site, person, engine.now)]
    return SiteState(
        gw=gateway,
        jid=jid,
        site=site.id,
        event=event,
        at=engine.now,
        plan_version=site.plan.version if site.plan else 0,
        instruments=[_instrument(watch, judged) for watch in site.instruments.values()],
        locks=[
            LockNow(
                device=lock.device,
                space=lock.space,
                at=lock.heard_at,
                position=lock.position.value,
                commanded=lock.written.kind.name if lock.written else "",
                battery_percent=lock.reported.battery_percent if lock.reported else 255,
                used_kind=int(lock.used_kind or 0),
                used_grant=lock.used_grant,
            )
            for lock in site.locks.values()
        ],
        spaces=[_space(site, space, engine.now, exposed) for space in site.spaces.values()],
        alarms=[
            AlarmNow(
                id=a.id,
                kind=a.kind,
                object=a.object,
                space=a.space,
                state=a.state.value,
                priority=int(a.priority),
                since=a.since,
                count=a.count,
                value=_value(site, a, judged),
                limit=a.limit,
                unit=a.unit,
                clause=a.clause,
                acknowledged_by=a.acknowledged_by,
                holds=a.holds,
                incident=a.incident,
                shelved_until=a.shelved_until,
                shelved_by=a.shelved_by,
                shelve_reason=a.shelve_reason,
            )
            for a in site.alarms.values()
            if a.open
        ],
    )


def _value(site: Site, alarm: Alarm, judged: _Judged) -> float | None:
    """Return what an alarm's channel reads now; the alarm itself keeps the number it was last judged by."""
    device, _, gas = alarm.object.partition("/")
    watch = site.instruments.get(device)
    if alarm.holds is not True or watch is None or gas not in watch.rows or watch.space != alarm.space:
        return alarm.value
    place = judged.places[watch.rows[gas]]
    return alarm.value if judged.levels[place] == UNKNOWN else judged.values[place]


def _judged(site: Site) -> _Judged:
    """Return the judgements of all instruments of a site, fetched at once: its rows may lie anywhere among other sites'."""
    rows = [row for watch in site.instruments.values() for row in watch.rows.values()]
    units = [rule.unit for rule in site.gas.rules]
    rules, values, levels = site.gas.judged(rows)
    return _Judged(dict(zip(rows, range(len(rows)), strict=True)), [units[rule] for rule in rules], values, levels)


def _instrument(watch: InstrumentWatch, judged: _Judged) -> InstrumentNow:
    """Return an instrument's newest frame, as sent and as judged."""
    known, ledger, plain = watch.known, watch.ledger, watch.plain_frame
    at, readings = 0.0, dict[str, ReadingNow]()
    if plain is not UNSET:  # said without making the frame, which nobody else may ever ask for
        at, readings = plain.received_at, _readings(watch, zip(plain.channels, _ALL_OK, plain.numbers, strict=False), judged)
    elif (frame := watch.frame) is not None:
        at, sent = frame.received_at, frame.readings
        statuses = [_OK if x.status is _FINE else x.status.value for x in sent.values()]
        readings = _readings(watch, zip(sent, statuses, [x.value for x in sent.values()], strict=True), judged)
    return InstrumentNow(
        device=known.device,
        space=known.space,
        at=at,
        lost=watch.lost,
        readings=readings,
        received=ledger.received,
        duplicate=ledger.duplicate,
        missing=ledger.missing_count if ledger.gaps else ledger.lost,
        state=watch.state.value,
        poisoned=watch.poisoned,
        late=ledger.late,
        runs_out=watch.runs_out if watch.report else 0.0,
        setpoints=watch.set_to,
    )


def _readings(watch: InstrumentWatch, said: Iterable[tuple[str, str, float | None]], judged: _Judged) -> dict[str, ReadingNow]:
    sent, rows, readings = watch.known.channels, watch.rows, dict[str, ReadingNow]()
    places, units, values, levels = judged
    for name, status, value in said:
        row = rows.get(name)
        if row is None:  # a channel without limits is not judged
            readings[name] = ReadingNow(status, value, sent.get(name, ""), value, "", None)
            continue
        place = places[row]
        level, unit = levels[place], units[place]
        if level == UNKNOWN:
            readings[name] = ReadingNow(status, value, sent.get(name, ""), None, unit, None)
        else:
            readings[name] = ReadingNow(status, value, sent.get(name, ""), values[place], unit, level)
    if watch.report is not None and "battery_percent" not in readings and (left := watch.battery_percent) is not None:
        readings["battery_percent"] = ReadingNow(_OK, left, "%", left, "", None)
    return readings


def _space(site: Site, space: SpaceWatch, now: float, exposed: list[str]) -> SpaceNow:
    over, occupancy = overlay_of(site, space.id), space.occupancy
    leave = countdown(site, space.id, now) if occupancy.occupied else None
    return SpaceNow(
        space=space.id,
        inside=dict(occupancy.inside),
        known=occupancy.known,
        attendant_at=space.attendant_at,
        evacuating=space.evacuating,
        state=space.state.value,
        overlay=over.value if over else "",
        leave_by=leave.at if leave else None,
        leave_reason=leave.reason if leave else "",
        leave_object=leave.object if leave else "",
        people={p.id: "sos" if p.sos else p.state.value for p in space.people.values() if p.sos or p.state in UNWELL},
        exposed=exposed,
        mismatch=sorted({m.person for m in occupancy.mismatch}) if occupancy.mismatch else [],
    )
