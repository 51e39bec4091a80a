"""Everything an engine knows, as bytes and back: a restart is the newest snapshot and the inputs behind it.

Rows of gases may be shared with other sites. A snapshot holds those of its own instruments, numbered in their order, so that
equal knowledge is equal bytes, in whatever rows it stands. They were judged by the limits of their time: under other limits
everything else of a snapshot stays true, and the rows begin anew: unknown until their next reading, over-range as before.
"""

import itertools

import msgspec
from msgspec.structs import replace

from manway.alarm import Alarm, Alarms
from manway.entities import LockState, Plan
from manway.errors import SnapshotUnusable
from manway.exposure import Exposure
from manway.gas_columns import ROW_BYTES, over_range
from manway.inputs import HealthReported
from manway.site import AirEnrolment, InstrumentWatch, LockWatch, Relayed, Site, SpaceWatch

SCHEMA = 3  # raised with every change of a struct below; an older snapshot is then read from the journal instead


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
    enrolling: dict[str, Relayed] = {}
    enrolling_on_air: dict[str, AirEnrolment] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def freeze(site: Site, at: float, done: dict[str, tuple[float, bool]], due: dict[str, float]) -> bytes:
    """Return the whole picture of a site as bytes; `at` is Unix seconds."""
    numbers = itertools.count()
    instruments = {
        device: replace(watch, newest=watch.frame, rows={gas: next(numbers) for gas in watch.rows}, unread=msgspec.UNSET)
        for device, watch in site.instruments.items()
    }
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
            instruments=instruments,
            locks=site.locks,
            spaces=site.spaces,
            exposures=site.exposures,
            alarms=list(site.alarms.values()),
            health=list(site.health.values()),
            early=site.early,
            enrolling=site.enrolling,
            enrolling_on_air=site.enrolling_on_air,
            rows=site.gas.saved([row for watch in site.instruments.values() for row in watch.rows.values()]),
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
    if len(kept.rows) != ROW_BYTES * sum(len(watch.rows) for watch in kept.instruments.values()):
        raise SnapshotUnusable("its rows are not those of its instruments")
    site.plan, site.instruments, site.locks, site.spaces = kept.plan, kept.instruments, kept.locks, kept.spaces
    site.exposures, site.early, site.enrolling = kept.exposures, kept.early, kept.enrolling
    site.enrolling_on_air = kept.enrolling_on_air
    site.alarms = Alarms(kept.alarms)
    site.health = {(h.fact, h.object): h for h in kept.health}
    if kept.limits == f"{site.limits.profile} {site.limits.version}":
        rows = site.gas.load(kept.rows)
        for watch in site.instruments.values():
            watch.rows = {gas: rows[number] for gas, number in watch.rows.items()}
    else:
        _judge_anew(site, over_range(kept.rows))
    site.arrange()
    return kept


def _judge_anew(site: Site, over: list[bool]) -> None:
    """Bind every instrument to rows of the present limits; `over` by the numbers its rows have in the snapshot."""
    for watch in site.instruments.values():
        known, was = watch.known, watch.rows
        watch.rows = site.gas.bind(known.channels, lel_base_vol=known.lel_base_vol, correction=known.correction)
        site.gas.latch([row for gas, row in watch.rows.items() if gas in was and over[was[gas]]])
