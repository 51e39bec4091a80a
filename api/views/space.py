"""One space: who, air, locks, its ledger of frames, and everything that happened there."""

from collections.abc import Callable

from api import store
from api.desk import space_of
from api.views.gas import gas_rows
from api.views.view import Row, View, battery
from manway.codec_mqtt import InstrumentNow, LockNow
from manway.entities import Instrument, Lock, Space
from manway.permit import HOLDING

Stored = Callable[[str], int]  # device -> torn frames in the telemetry store


def space_page(v: View, space_id: str, stored: Stored) -> Row:
    """Return one space: who, air, locks, ledger of frames, and everything that happened there."""
    space = space_of(v.db, space_id)
    permit = next((p for p in store.permits(v.db, space=space.id) if p.state in HOLDING), None)
    log = store.events(v.db, lambda c: c.c.space == space.id, most=40, newest=True)
    lock = store.get(v.db, Lock, space.entrances[0].lock) if space.entrances else None
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site_name": v.site_name(space.site),
        "kind_text": v.t(f"kind.{space.kind}"),
        "depth": space.depth_m,
        "hazards": v.hazards(space),
        "priority": v.priority(space),
        "inside_count": v.inside(space),
        "inside": v.people_inside(space),
        "entrances": [_entrance(v, x) for x in v.locks(space)],
        "instruments": [_instrument(v, space, i, stored) for i in v.instruments(space)],
        "permit": {
            "id": permit.id,
            "number": permit.number,
            "state_text": v.t(f"permit_state.{permit.state.value}"),
            "end": permit.end,
        }
        if permit
        else None,
        "curves": [{"device": i.device, "gas": gas} for i in v.instruments(space) for gas in space.required_gases],
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in log],
        "emergency": {"lock": lock.device}
        if lock and set(v.person.roles) & {"worker", "attendant", "approver", "manager"}
        else None,
    }


def _entrance(v: View, x: LockNow) -> Row:
    return {
        "lock": x.device,
        "position": x.position,
        "position_text": v.t(f"lock_position.{x.position}"),
        "at": x.at,
        "battery": battery(x),
    }


def _instrument(v: View, space: Space, i: InstrumentNow, stored: Stored) -> Row:
    return {
        "device": i.device,
        "serial": known.serial if (known := store.get(v.db, Instrument, i.device)) else "",
        "at": i.at or None,
        "lost": i.lost,
        "gases": gas_rows(v, space, i),
        "ledger": {"received": i.received, "duplicate": i.duplicate, "missing": i.missing, "torn": stored(i.device)},
    }
