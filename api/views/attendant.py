"""The attendant's desk: the permits one attends, and the chosen one with air, lock, people and what may be done."""

from api import store
from api.office import fan_running
from api.texts import failure_row
from api.views.gas import gas_rows
from api.views.permit import permit_head, permit_steps, preparation
from api.views.view import Row, View, battery
from manway.entities import Permit, PermitState, Space
from manway.events import GrantRefused
from manway.permit import HOLDING, OPEN


def attendant(v: View, permit: str = "") -> Row:
    """Return the attendant's desk: the permits one attends, and the chosen one in full."""
    mine = [
        p for p in store.permits(v.db) if p.state in HOLDING and (p.attendant == v.person.id or "manager" in v.person.roles)
    ]
    one = next((p for p in mine if p.id == permit), None) or next(
        (p for p in mine if p.state in OPEN), mine[0] if mine else None
    )
    rows = [permit_head(v, p) | {"current": one is not None and p.id == one.id} for p in mine]
    return {"permits": rows, "one": None if one is None else _attended(v, one)}


def _attended(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    here, instrument = v.here(space), v.instrument(space)
    inside = here.inside if here else {}
    seen = here.attendant_at if here else None
    return permit_head(v, p) | {
        "drill": p.drill,
        "space_id": p.space,
        "work": p.work,
        "start": p.start,
        "end": p.end,
        "leave_by": {"at": p.end, "cause": v.t("ui.leave_by.permit_end")} if p.state in OPEN else None,
        "gases": gas_rows(v, space),
        "at": instrument.at if instrument and instrument.at else None,
        "instrument": instrument.device if instrument else "",
        "inside_count": v.inside(space),
        "entrants": [{"id": e, "name": v.name(e), "inside": e in inside, "since": inside.get(e)} for e in p.entrants],
        "lock": _lock(v, space),
        "attendant_at": seen,
        "checkin_due": None if seen is None else seen + v.office.timings.attendant_checkin_s,
        "evacuating": bool(here and here.evacuating) or p.state is PermitState.EVACUATING,
        "steps": permit_steps(v, p),
        "ventilation": {
            "started_at": p.ventilated_at,
            "need_s": v.office.timings.ventilation_s,
            "running": fan_running(v.office, space),
        },
        "test": _test(v, p),
        "can": _can(v, p),
        "denied": _denied(v, [p.id, *(x.device for x in v.locks(space))]),
    }


def _test(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    prepare = preparation(v.office, space)
    return {
        "points_needed": prepare["points_needed"],
        "distances": prepare["distances"],
        "dwell_s": prepare["dwell_s"],
        "gases": space.required_gases,
        "passed": p.gas_test.passed if p.gas_test else None,
        "at": p.gas_test.at if p.gas_test else None,
    }


def _lock(v: View, space: Space) -> Row:
    lock = v.lock(space)
    if lock is None:
        device = space.entrances[0].lock if space.entrances else ""
        return {"device": device, "commanded": "", "reported": v.t("lock_position.unknown"), "position": "unknown", "at": None,
                "battery": None}  # fmt: skip
    return {
        "device": lock.device,
        "commanded": v.t(f"ui.commanded.{lock.commanded}") if lock.commanded else "",
        "reported": v.t(f"lock_position.{lock.position}"),
        "position": lock.position,
        "at": lock.at,
        "battery": battery(lock),
    }


def _can(v: View, p: Permit) -> dict[str, Row]:
    space = v.spaces[p.space]
    empty = v.inside(space) == 0
    locked = all(x.position == "locked" for x in v.locks(space))

    def row(*, ok: bool, why: str) -> Row:
        return {"ok": ok, "why": "" if ok else v.t(why)}

    return {
        "unlock_prep": row(ok=p.state is PermitState.APPROVED, why="ui.can.prep"),
        "unlock_entry": row(ok=p.state in (PermitState.READY, PermitState.ACTIVE), why="ui.can.entry"),
        "ventilate": row(ok=p.state is PermitState.APPROVED, why="ui.can.ventilate"),
        "test": row(ok=p.state in (PermitState.APPROVED, PermitState.READY) and p.ventilated_at is not None, why="ui.can.test"),
        "enter": row(ok=p.state is PermitState.ACTIVE, why="ui.can.enter"),
        "finish": row(ok=p.state in (PermitState.ACTIVE, PermitState.SUSPENDED) and empty, why="ui.can.finish"),
        "suspend": row(ok=p.state in OPEN and empty, why="ui.can.suspend"),
        "close_out": row(ok=p.state is PermitState.CLOSING and empty and not locked, why="ui.can.close_out"),
        "close": row(ok=p.state is PermitState.CLOSING and empty and locked, why="ui.can.close"),
    }


def _denied(v: View, subjects: list[str]) -> list[Row]:
    """Return the newest refusals: those of the checks are about the permit, those of gateway and lock about the lock."""
    rows = store.events(v.db, lambda c: (c.c.type == "GrantRefused") & c.c.subject.in_(subjects), most=5, newest=True)
    shown = []
    for _, event in rows:
        if isinstance(event, GrantRefused):
            why = [failure_row(v.lang, f)["text"] for f in event.failures] or [v.t(f"refusal.{event.reason}")]
            shown.append({"at": event.at, "text": "; ".join(why)})
    return shown
