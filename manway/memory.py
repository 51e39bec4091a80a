"""Everything an engine knows, as bytes and back: a restart is the newest snapshot and the inputs behind it.

Rows were judged by the limits of their time. Under other limits everything else of a snapshot stays true, and the rows begin
anew: unknown until their next reading, over-range as before.
"""

import msgspec

from manway.alarm import Alarm, Alarms
from manway.entities import LockState, Plan
from manway.errors import SnapshotUnusable
from manway.exposure import Exposure
from manway.gas import ROW_BYTES, GasRows
from manway.inputs import HealthReported
from manway.site import AirEnrolment, InstrumentWatch, LockWatch, Relayed, Site, SpaceWatch

SCHEMA = 2  # raised with every change of a struct below; an older snapshot is then read from the journal instead


class Snapshot(msgspec.Struct, frozen=True):
    """An engine at one instant. `done` and `due` are the engine's own: commands carried out, when to look at a space again."""

    schema: int
    site: str
    limits: str
    row_bytes: int
    at: float
    done: dict[str, tuple[float, bool]]
    due: dict[str, float]
    plan: Plan | None
    instruments: dict[str, InstrumentWatch]
    locks: dict[str, LockWatch]
    spaces: dict[str, SpaceWatch]
    exposures: dict[str, dict[str, Exposure]]
    alarms: list[Alarm]
    health: list[HealthReported]
    early: dict[str, LockState]
    rows: bytes
    free: list[int]
    enrolling: dict[str, Relayed] = {}
    enrolling_on_air: dict[str, AirEnrolment] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def freeze(site: Site, at: float, done: dict[str, tuple[float, bool]], due: dict[str, float]) -> bytes:
    """Return the whole picture of a site as bytes; `at` is Unix seconds."""
    rows, free = site.gas.saved()
    return _encoder.encode(
        Snapshot(
            schema=SCHEMA,
            site=site.id,
            limits=f"{site.limits.profile} {site.limits.version}",
            row_bytes=ROW_BYTES,
            at=at,
            done=done,
            due=due,
            plan=site.plan,
            instruments=site.instruments,
            locks=site.locks,
            spaces=site.spaces,
            exposures=site.exposures,
            alarms=list(site.alarms.values()),
            health=list(site.health.values()),
            early=site.early,
            enrolling=site.enrolling,
            enrolling_on_air=site.enrolling_on_air,
            rows=rows,
            free=free,
        )
    )


def thaw(data: bytes, site: Site) -> Snapshot:
    """Fill a new site from a snapshot and return it.

    Raises:
        SnapshotUnusable: it is damaged, of another site or schema.
    """
    try:
        kept = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise SnapshotUnusable(str(error)) from error
    if (kept.schema, kept.site, kept.row_bytes) != (SCHEMA, site.id, ROW_BYTES):
        raise SnapshotUnusable(f"made for {kept.site}, schema {kept.schema}")
    site.plan, site.instruments, site.locks, site.spaces = kept.plan, kept.instruments, kept.locks, kept.spaces
    site.exposures, site.early, site.enrolling = kept.exposures, kept.early, kept.enrolling
    site.enrolling_on_air = kept.enrolling_on_air
    site.alarms = Alarms(kept.alarms)
    site.health = {(h.fact, h.object): h for h in kept.health}
    site.gas.load(kept.rows, kept.free)
    if kept.limits != f"{site.limits.profile} {site.limits.version}":
        _judge_anew(site)
    site.arrange()
    return kept


def _judge_anew(site: Site) -> None:
    """Bind every instrument to rows of the present limits."""
    over = {device: site.gas.over_range(watch.rows) for device, watch in site.instruments.items()}
    site.gas = GasRows(site.limits, site.timings.rising_s)
    for device, watch in site.instruments.items():
        known = watch.known
        watch.rows = site.gas.bind(known.channels, lel_base_vol=known.lel_base_vol, correction=known.correction)
        site.gas.latch([row for gas, row in watch.rows.items() if gas in over[device]])
