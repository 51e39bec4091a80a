"""The engine's picture of a site as one message: what the pages show, with every value beside its status and age."""

from manway.codec_mqtt import AlarmNow, InstrumentNow, LockNow, ReadingNow, SiteState, SpaceNow
from manway.engine import Engine
from manway.site import InstrumentWatch


def site_state(engine: Engine, *, gateway: str, jid: str, event: int) -> SiteState:
    """Return the picture at the engine's last step; `event` is the newest event's sequence number."""
    site = engine.site
    return SiteState(
        gw=gateway,
        jid=jid,
        site=site.id,
        event=event,
        at=engine.now,
        plan_version=site.plan.version if site.plan else 0,
        instruments=[_instrument(watch) for watch in site.instruments.values()],
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
        spaces=[
            SpaceNow(s.id, dict(s.occupancy.inside), s.occupancy.known, s.attendant_at, s.evacuating)
            for s in site.spaces.values()
        ],
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
                value=a.value,
                limit=a.limit,
                unit=a.unit,
                clause=a.clause,
                acknowledged_by=a.acknowledged_by,
                holds=a.holds,
            )
            for a in site.alarms.values()
            if a.open
        ],
    )


def _instrument(watch: InstrumentWatch) -> InstrumentNow:
    units = {name: channel.unit for name, channel in watch.channels.items()}
    readings = {}
    for name, reading in watch.frame.readings.items() if watch.frame else ():
        channel = watch.channels.get(name)
        readings[name] = ReadingNow(
            status=reading.status.value,
            value=reading.value,
            unit=units.get(name, ""),
            judged=channel.value if channel else reading.value,
            judged_unit=channel.limits.unit if channel else "",
            level=int(channel.level) if channel and channel.level is not None else None,
        )
    return InstrumentNow(
        device=watch.device,
        space=watch.space,
        at=watch.frame.received_at if watch.frame else 0.0,
        lost=watch.lost,
        readings=readings,
        received=watch.ledger.received,
        duplicate=watch.ledger.duplicate,
        missing=watch.ledger.missing_count,
    )
