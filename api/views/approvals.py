"""The approver's desk: permits that wait for a decision, and the last ones decided."""

from api import store
from api.views.permit import permit_head
from api.views.view import Row, View
from manway.entities import Permit, PermitState


def approvals(v: View) -> Row:
    """Return what waits for an approver, with what speaks for and against it."""
    every = store.permits(v.db)
    waiting = [_waiting(v, p) for p in every if p.state is PermitState.SUBMITTED]
    decided = [p for p in every if len(p.signatures) > 1 or p.state is PermitState.REJECTED]
    return {"waiting": waiting, "decided": [_decided(v, p) for p in reversed(decided[-10:])]}


def _waiting(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    own = v.person.id == p.requester
    return {
        "id": p.id,
        "number": p.number,
        "drill": p.drill,
        "space": v.space_name(p.space),
        "space_id": p.space,
        "hazards": v.hazards(space),
        "work": p.work,
        "requester": v.name(p.requester),
        "supervisor": v.name(p.supervisor),
        "attendant": v.name(p.attendant),
        "tester": v.name(p.tester),
        "entrants": [v.name(e) for e in p.entrants],
        "start": p.start,
        "end": p.end,
        "submitted_at": p.signatures[0].at if p.signatures else p.start,
        "items": _items(v, p),
        "can_approve": not own,
        "why_not": v.t("failure.approval.same_person") if own else "",
    }


def _items(v: View, p: Permit) -> list[Row]:
    space = v.spaces[p.space]
    calm = not v.urgent(space) if space.site in v.states else None
    live = any(not i.lost and i.at and v.now - i.at < v.office.timings.live_reading_s for i in v.instruments(space))
    return [
        {"text": v.t("ui.approvals.item.agreed"), "ok": bool(p.signatures), "detail": v.name(p.supervisor)},
        {"text": v.t("ui.approvals.item.no_alarm"), "ok": calm, "detail": ""},
        {"text": v.t("ui.approvals.item.instrument"), "ok": live, "detail": ", ".join(p.instruments)},
        {"text": v.t("ui.approvals.item.attendant"), "ok": p.attendant not in p.entrants, "detail": v.name(p.attendant)},
    ]


def _decided(v: View, p: Permit) -> Row:
    last = p.signatures[-1] if p.signatures else None
    return permit_head(v, p) | {"by": v.name(last.person) if last else "", "at": last.at if last else p.start}
