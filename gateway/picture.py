"""The engine's picture of a site as one message: what the pages show, with every value beside its status and age."""

from typing import NamedTuple

from manway import people
from manway.alarm import Alarm
from manway.codec_mqtt import AlarmNow, InstrumentNow, LockNow, ReadingNow, SiteState, SpaceNow
from manway.countdown import countdown
from manway.engine import Engine
from manway.entities import Frame
from manway.gas import UNKNOWN
from manway.ids import Status
from manway.orders import overlay_of
from manway.people import UNWELL
from manway.site import InstrumentWatch, Site, SpaceWatch

_OK = Status.OK.value


class _Judged(NamedTuple):
    """What the rows of a site say now (`GasRows.judged`), with the unit of each rule."""

    units: list[str]
    rules: list[int]
    values: list[float]
    levels: list[int]


def site_state(engine: Engine, *, gateway: str, jid: str, event: int) -> SiteState:
    """Return the picture at the engine's last step; `event` is the newest event's sequence number."""
    site = engine.site
    exposed = [person for person in site.exposures if people.is_exposed(site, person, engine.now)]
    return SiteState(
        gw=gateway,
        jid=jid,
        site=site.id,
        event=event,
        at=engine.now,
        plan_version=site.plan.version if site.plan else 0,
        instruments=_instruments(site),
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
                value=_value(site, a),
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


def _value(site: Site, alarm: Alarm) -> float | None:
    """Return what an alarm's channel reads now; the alarm itself keeps the number it was last judged by."""
    device, _, gas = alarm.object.partition("/")
    watch = site.instruments.get(device)
    if alarm.holds is not True or watch is None or gas not in watch.rows or watch.space != alarm.space:
        return alarm.value
    now = site.gas.at(watch.rows[gas]).value
    return alarm.value if now is None else now


def _instruments(site: Site) -> list[InstrumentNow]:
    """Return every instrument's newest frame, as sent and as judged; the judgements of all are fetched at once."""
    judged = _Judged([rule.unit for rule in site.gas.rules], *site.gas.judged())
    return [
        InstrumentNow(
            device=watch.device,
            space=watch.space,
            at=watch.frame.received_at if watch.frame else 0.0,
            lost=watch.lost,
            readings=_readings(watch, watch.frame, judged) if watch.frame else {},
            received=watch.ledger.received,
            duplicate=watch.ledger.duplicate,
            missing=watch.ledger.missing_count,
            state=watch.state.value,
            poisoned=watch.poisoned,
            late=watch.ledger.late,
            runs_out=watch.runs_out if watch.report else 0.0,
            setpoints=watch.set_to,
        )
        for watch in site.instruments.values()
    ]


def _readings(watch: InstrumentWatch, frame: Frame, judged: _Judged) -> dict[str, ReadingNow]:
    sent, rows, readings = watch.known.channels, watch.rows, {}
    for name, reading in frame.readings.items():
        value, row = reading.value, rows.get(name)
        status = _OK if reading.status is Status.OK else reading.status.value
        if row is None:  # a channel without limits is not judged
            readings[name] = ReadingNow(status, value, sent.get(name, ""), value, "", None)
            continue
        level = judged.levels[row]
        known = level != UNKNOWN
        readings[name] = ReadingNow(
            status,
            value,
            sent.get(name, ""),
            judged.values[row] if known else None,
            judged.units[judged.rules[row]],
            level if known else None,
        )
    if "battery_percent" not in readings and (left := watch.battery_percent) is not None:
        readings["battery_percent"] = ReadingNow(_OK, left, "%", left, "", None)
    return readings


def _space(site: Site, space: SpaceWatch, now: float, exposed: list[str]) -> SpaceNow:
    leave, over = countdown(site, space.id, now), overlay_of(site, space.id)
    return SpaceNow(
        space=space.id,
        inside=dict(space.occupancy.inside),
        known=space.occupancy.known,
        attendant_at=space.attendant_at,
        evacuating=space.evacuating,
        state=space.state.value,
        overlay=over.value if over else "",
        leave_by=leave.at if leave else None,
        leave_reason=leave.reason if leave else "",
        leave_object=leave.object if leave else "",
        people={p.id: "sos" if p.sos else p.state.value for p in space.people.values() if p.sos or p.state in UNWELL},
        exposed=exposed,
        mismatch=sorted({m.person for m in space.occupancy.mismatch}),
    )
