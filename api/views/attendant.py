"""The attendant's desk: the permits one attends, and the chosen one with air, lock, people and what may be done."""

from api import store
from api.emergency import opens_screen
from api.office import fan_running
from api.texts import failure_row
from api.views.gas import gas_rows
from api.views.inside import leave_by, overlay, people, recount
from api.views.items import check_list
from api.views.no_opening import no_opening
from api.views.permit import permit_head, permit_steps, preparation
from api.views.turns import offers, turning
from api.views.view import Row, View, battery
from manway.checks import gases_needed
from manway.entities import Permit, PermitState, Space
from manway.events import GrantRefused
from manway.permit import HOLDING, OPEN
from manway.space import Overlay


def attendant(v: View, permit: str = "") -> Row:
    """Return the attendant's desk: the permits one attends or leads, all of them for a manager, and the chosen one in full."""
    held = [p for p in store.permits(v.db) if p.state in HOLDING]
    mine = [p for p in held if v.person.id in (p.attendant, p.supervisor) or "manager" in v.person.roles]
    one = next((p for p in mine if p.id == permit), None) or next(
        (p for p in mine if p.state in OPEN), mine[0] if mine else None
    )
    rows = [permit_head(v, p) | {"current": one is not None and p.id == one.id} for p in mine]
    return {"permits": rows, "one": None if one is None else _attended(v, one), "offers": offers(v)}


def _attended(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    here, instrument = v.here(space), v.instrument(space)
    over, refused = overlay(v, space), _refused(v, space)
    seen = here.attendant_at if here else None
    return (
        permit_head(v, p)
        | {
            "drill": p.drill,
            "space_id": p.space,
            "site": space.site,
            "mine": v.person.id == p.attendant,
            "work": p.work,
            "start": p.start,
            "end": p.end,
            "leave_by": leave_by(v, space),
            "overlay": over if refused is None else None,
            "no_opening": no_opening(v, space),
            "recount": recount(v, space, p),
            "gases": gas_rows(v, space),
            "at": instrument.at if instrument and instrument.at else None,
            "instrument": instrument.device if instrument else "",
            "inside_count": v.inside(space),
            "entrants": _entrants(v, p),
            "lock": _lock(v, space),
            "attendant_at": seen,
            "checkin_due": None if seen is None else seen + v.office.timings.attendant_checkin_s,
            "refused": refused,
            "evacuating": bool(here and here.evacuating) or p.state is PermitState.EVACUATING,
            "steps": permit_steps(v, p),
            "ventilation": {
                "started_at": p.ventilated_at,
                "need_s": v.office.timings.ventilation_s,
                "running": fan_running(v.office, space),
            },
            "items": check_list(v, p),
            "test": _test(v, p),
            "can": _can(v, p),
            "denied": _denied(v, [p.id, *(x.device for x in v.locks(space))]),
        }
        | turning(v, p)
    )


def _entrants(v: View, p: Permit) -> list[Row]:
    """Return everybody of the work, and who may be asked to answer or must stay out."""
    may = bool(_can(v, p)["enter"]["ok"])
    mine = v.person.id == p.attendant
    rows = people(v, v.spaces[p.space], p)
    return [row | {"answers": row["inside"] and mine, "stay_out": row["exposed"] or not may} for row in rows]


def _refused(v: View, space: Space) -> Row | None:
    """Return that entry is refused while an emergency lies over the space, with the alarm whose screen says why."""
    here = v.here(space)
    grave = max((a for a in v.alarms_of(space) if opens_screen(a)), key=lambda a: a.since, default=None)
    if grave is None and (here is None or here.overlay != Overlay.EMERGENCY.value):
        return None
    what = v.t(f"alarm.{grave.kind}") if grave else v.t("overlay.emergency.forbids")
    return {"alarm": grave.id if grave else None, "what": what}


def _test(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    prepare = preparation(v.office, space)
    return {
        "residue": space.residue,
        "points_needed": prepare["points_needed"],
        "distances": prepare["distances"],
        "dwell_s": prepare["dwell_s"],
        "gases": gases_needed(space),
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
    empty, mine = v.office.inside(space) == 0, v.person.id == p.attendant
    airing = p.state in (PermitState.APPROVED, PermitState.SUSPENDED)
    testable = airing or p.state is PermitState.READY
    closed = no_opening(v, space) is not None
    locked = all(x.position == "locked" for x in v.reported_locks(space))

    def row(*, ok: bool, why: str) -> Row:
        return {"ok": ok, "why": "" if ok else v.t(why)}

    return {
        "unlock_prep": row(ok=airing and not closed, why="ui.no_opening" if closed else "ui.can.prep"),
        "unlock_entry": row(
            ok=p.state in (PermitState.READY, PermitState.ACTIVE) and not closed,
            why="ui.no_opening" if closed else "ui.can.entry",
        ),
        "ventilate": row(ok=airing, why="ui.can.ventilate"),
        "test": row(ok=testable and p.ventilated_at is not None, why="ui.can.test"),
        "enter": row(ok=p.state is PermitState.ACTIVE and mine, why="ui.can.enter" if mine else "failure.attendant.not_you"),
        "finish": row(ok=p.state in (PermitState.ACTIVE, PermitState.SUSPENDED) and empty, why="ui.can.finish"),
        "close_out": row(
            ok=p.state in (PermitState.CLOSING, PermitState.SUSPENDED) and empty and not locked, why="ui.can.close_out"
        ),
        "close": row(ok=p.state is PermitState.CLOSING and empty and locked, why="ui.can.close"),
    }


def _denied(v: View, subjects: list[str]) -> list[Row]:
    """Return the newest refusals: those of the checks are about the permit, those of gateway and lock about the lock."""
    rows = store.events(v.db, lambda c: (c.c.type == "GrantRefused") & c.c.subject.in_(subjects), most=5, newest=True)
    shown = []
    for _, event in rows:
        if isinstance(event, GrantRefused):
            why = [failure_row(v.lang, f, v.name)["text"] for f in event.failures] or [v.t(f"refusal.{event.reason}")]
            shown.append({"at": event.at, "text": "; ".join(why)})
    return shown
