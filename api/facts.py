"""The picture the checks judge, put together from the records of now and the gateway's newest picture.

Whatever is not known here is None, and None fails its check. The page, the unlock and the signer all ask this one function.
"""

from typing import get_args

import sqlalchemy as sa

from api import auth, store
from api.office import Sight, fan_running
from manway import codec_ble
from manway.catalogue import CATALOGUE
from manway.checks import Facts, LiveInstrument, LockFacts, is_photo
from manway.codec_mqtt import InstrumentNow, SiteState
from manway.entities import Instrument, Notice, Permit, Person, Reading, Space
from manway.errors import DecodeRejected
from manway.events import ENGINE_EVENTS, AlarmEvent, AlarmRaised, AnyEvent, LockGreeted
from manway.ids import GrantKind, Priority, Status
from manway.permit import OPEN

# What the gateway says of itself that makes its word on everything else doubtful (`trust.md` §7).
GATEWAY_FAULTS = frozenset({"UPLINK_LOST", "JOURNAL_FAILING", "ALARM_PATH_FAILED", "CLOCK_UNTRUSTED"})
CLOCK_OFF_S = 2.0
"""(choice, `locks.md` §3.3) Beyond it the clock of a lock is set; G19 refuses beyond 5 s."""
_ENGINE = [kind.__name__ for kind in get_args(ENGINE_EVENTS)]


def facts_for(
    office: Sight,
    db: sa.Connection,
    permit: Permit,
    space: Space,
    *,
    lock: str,
    kind: GrantKind,
    by: str,
    hello: tuple[bytes, float] | None = None,
) -> Facts:
    """Return the picture the checks judge; `hello` is the lock's greeting and when it came, once there is one."""
    now, state = office.now(), office.pictures.state.get(space.site)
    here = next((s for s in state.spaces if s.space == space.id), None) if state else None
    ledger = {i.device: i for i in store.every(db, Instrument, site=space.site)}
    bound = [i for i in office.pictures.instruments_of(space) if i.device in permit.instruments]
    every = store.permits(db)
    return Facts(
        now=now,
        kind=kind,
        permit=permit,
        space=space,
        lock=lock,
        by=by,
        limits=office.limits,
        timings=office.timings,
        people={p.id: p for p in store.every(db, Person)},
        attendant_seen_at=here.attendant_at if here else None,
        attendant_elsewhere=_posts(every, permit),
        exposed=_exposed(office, db) if state else None,
        fan_running=fan_running(office, space),
        instruments=[_live(office, i, ledger.get(i.device)) for i in bound],
        pumped={device: known.pumped and not known.out_of_service for device, known in ledger.items()},
        open_p1=_open_p1(state, space),
        other_open_permits=[p.number for p in every if p.space == space.id and p.id != permit.id and p.state in OPEN],
        picture_age_s=office.pictures.age_s(space.site, now),
        gateway_faults=_gateway_faults(state),
        alarm_path_at=alarm_path_at(db, space.site),
        notices=store.every(db, Notice, site=space.site),
        lock_now=_lock(state, lock, hello),
        authenticated=auth.has_session(db, by, now),
        photos_elsewhere=photos_used(db, besides=permit.id),
        inside=office.inside(space),
        signing=hello is not None,
    )


def _posts(every: list[Permit], permit: Permit) -> list[str]:
    """Return the numbers of the permits with people inside that the same attendant watches."""
    return [p.number for p in every if p.attendant == permit.attendant and p.id != permit.id and p.state in OPEN]


def _open_p1(state: SiteState | None, space: Space) -> list[str]:
    watched = {space.id, *space.connected}
    alarms = state.alarms if state else []
    return sorted({a.kind for a in alarms if a.space in watched and a.priority == Priority.P1})


def _gateway_faults(state: SiteState | None) -> list[str] | None:
    if state is None:
        return None
    return sorted({a.kind for a in state.alarms if a.kind in GATEWAY_FAULTS and a.holds is not False})


def _exposed(office: Sight, db: sa.Connection) -> frozenset[str]:
    """Return who has reached a shift's limit lately: whoever has is not let in again before a new shift (`domain.md` 8.2)."""
    since = office.now() - office.timings.new_shift_s
    raised = store.events(db, lambda t: (t.c.type == "AlarmRaised") & (t.c.at >= since), most=100_000)
    return frozenset(e.object.partition("/")[0] for _, e in raised if isinstance(e, AlarmRaised) and e.kind == "GAS_TWA")


def alarm_path_at(db: sa.Connection, site: str) -> float | None:
    """Return when an event of the engine last came all the way into these records, which is what acknowledges it.

    Alarms travel the same way: an attendant's check-in tests it each time, there and back.
    """
    rows = store.events(db, lambda t: (t.c.site == site) & t.c.type.in_(_ENGINE), most=50, newest=True)
    return next((e.at for _, e in rows if not _ours(e)), None)


def _ours(event: AnyEvent) -> bool:
    """Say whether the api wrote an alarm's event itself, or may have: it came no way at all."""
    return isinstance(event, AlarmEvent) and (CATALOGUE[event.kind].writer == "api" or event.kind == "SUSPICION")


def photos_used(db: sa.Connection, *, besides: str = "") -> frozenset[str]:
    """Return the hashes of every photo that confirmations came with, those of one permit aside."""
    every = (c.evidence for p in store.permits(db) if p.id != besides for c in p.confirmations)
    return frozenset(evidence for evidence in every if is_photo(evidence))


def _lock(state: SiteState | None, lock: str, hello: tuple[bytes, float] | None) -> LockFacts | None:
    now = next((x for x in state.locks if x.device == lock), None) if state else None
    if now is None:
        return None
    battery = None if now.battery_percent == codec_ble.BATTERY_UNKNOWN else now.battery_percent
    return LockFacts(now.at, now.position, battery, clock_offset_s(*hello) if hello else None)


def hello_of(event: LockGreeted) -> bytes:
    """Return the hello of an event, nothing where its digits are none: as a hello that is then refused."""
    try:
        return bytes.fromhex(event.hello)
    except ValueError:
        return b""


def clock_offset_s(hello: bytes, came_at: float) -> float | None:
    """Return how far a lock's clock is ahead of ours by its hello, None when it does not know the time."""
    try:
        _, said = codec_ble.open_hello(hello)
    except DecodeRejected:
        return None
    return said.time - came_at if said.time else None


def _live(office: Sight, now: InstrumentNow, known: Instrument | None) -> LiveInstrument:
    slopes = {gas: slope for gas in now.readings if (slope := office.pictures.slope(now.device, gas)) is not None}
    units = {name: r.unit for name, r in now.readings.items()}
    due = min(known.bump_due, now.runs_out or known.bump_due) if known else 0.0  # by the ledger or by its own word
    return LiveInstrument(
        device=now.device,
        age_s=max(0.0, office.now() - now.at),
        readings={name: Reading(Status(r.status), r.value) for name, r in now.readings.items()},
        units=(known.channels if known else {}) | units,
        bump_due=0.0 if now.poisoned else due,  # what may be poisoned is due now (`domain.md` §7.1)
        calibration_due=known.calibration_due if known else 0.0,
        setpoints=(known.setpoints if known else {}) if now.setpoints is None else now.setpoints,
        battery_life_s=known.battery_life_s if known else 0.0,
        out_of_service=known is None or known.out_of_service,
        worn_by=known.worn_by if known else "",
        slopes=slopes,
        lel_base_vol=known.lel_base_vol if known else 0.0,
        correction=known.correction if known else {},
    )
