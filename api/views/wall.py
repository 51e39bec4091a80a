"""The wall: every open alarm, every space."""

from api import store
from api.views.alarm import alarm_groups, counts
from api.views.gas import gas_rows
from api.views.reviews import reviews
from api.views.view import QUIET, Row, View
from manway.entities import Permit, Space
from manway.permit import HOLDING, OPEN


def wall(v: View) -> Row:
    """Return the safety manager's wall: every open alarm, every space."""
    alarms, quiet = alarm_groups(v)
    permits = [p for p in store.permits(v.db) if p.state in HOLDING]
    tiles = [_tile(v, space, permits) for space in v.spaces.values()]
    return {
        "counts": counts(a for _, a in v.alarms() if a.state not in QUIET),
        "inside": None if any(t["inside"] is None for t in tiles) else sum(int(str(t["inside"])) for t in tiles),
        "jobs": sum(1 for p in permits if p.state in OPEN),
        "alarms": alarms,
        "quiet": quiet,
        "reviews": reviews(v),
        "sites": [{"id": s, "name": v.site_name(s)} for s in sorted({s.site for s in v.spaces.values()})],
        "tiles": tiles,
    }


def _tile(v: View, space: Space, permits: list[Permit]) -> Row:
    instrument, lock, inside = v.instrument(space), v.lock(space), v.inside(space)
    permit = next((p for p in permits if p.space == space.id), None)
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site": space.site,
        "site_name": v.site_name(space.site),
        "kind_text": v.t(f"kind.{space.kind}"),
        "inside": inside,
        "occupied": inside != 0,
        "priority": v.priority(space),
        "worst": max(gas_rows(v, space), key=_badness, default=None),
        "at": instrument.at if instrument and instrument.at else None,
        "lock": lock.position if lock else "unknown",
        "lock_text": v.t(f"lock_position.{lock.position if lock else 'unknown'}"),
        "permit_number": permit.number if permit else None,
        "permit_state": permit.state.value if permit else None,
        "permit_text": v.t(f"permit_state.{permit.state.value}") if permit else None,
        "drill": permit.drill if permit else False,
    }


def _badness(gas: Row) -> tuple[int, float]:
    level = gas["level"]
    fraction = gas["fraction"]
    return (-1 if level is None else int(str(level)), float(str(fraction)))
