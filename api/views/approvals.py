"""The approver's desk: permits that wait for a decision, and the last ones decided."""

import msgspec

from api import second_signature, store
from api.texts import failure_row
from api.views.permit import permit_head
from api.views.view import Row, View
from manway.checks import approver_failures
from manway.entities import Permit, PermitState
from manway.permit import EXTENDABLE, extension_failures


def approvals(v: View) -> Row:
    """Return what waits for an approver, with what speaks for and against it."""
    every = store.permits(v.db)
    waiting = [_waiting(v, p) for p in every if p.state is PermitState.SUBMITTED]
    decided = [p for p in every if p.state is PermitState.REJECTED or any(s.step == "approver" for s in p.signatures)]
    later = [row for p in every if p.state in EXTENDABLE and (row := _extension(v, p)) is not None]
    return {"waiting": waiting, "extensions": later, "decided": [_decided(v, p) for p in reversed(decided[-10:])]}


def _waiting(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    own = v.person.id in {p.requester, p.attendant, *p.entrants, *(s.person for s in p.signatures)}
    refusals = approver_failures(v.person, space, v.now)  # in a space with H2S, CO or CO2: the principal, or in writing
    why_not = v.t("failure.approval.same_person") if own else "".join(failure_row(v.lang, f, v.name)["text"] for f in refusals)
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
        "can_approve": not why_not,
        "why_not": why_not,
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


def _extension(v: View, p: Permit) -> Row | None:
    """Return a request for a later end that waits for an approver, and why this reader may not approve it."""
    asked = second_signature.waiting(v.db, v.office, p)["extension"]
    if asked is None:
        return None
    wanted = msgspec.convert(asked, second_signature.ExtensionRequest)
    others = {p.requester, p.supervisor, p.attendant, *p.entrants, *(s.person for s in wanted.signatures)}
    failures = approver_failures(v.person, v.spaces[p.space], v.now)
    failures += extension_failures(p, wanted.end, v.now, v.office.limits.permit_max_s)
    words = [failure_row(v.lang, f, v.name)["text"] for f in failures]
    why_not = v.t("failure.approval.same_person") if v.person.id in others else " ".join(words)
    return permit_head(v, p) | {
        "work": p.work,
        "request": wanted.id,
        "old_end": p.end,
        "new_end": wanted.end,
        "reason": wanted.reason,
        "by": v.name(wanted.signatures[0].person),
        "at": wanted.signatures[0].at,
        "inside_count": v.office.inside(v.spaces[p.space]),
        "can_approve": not why_not,
        "why_not": why_not,
    }


def _decided(v: View, p: Permit) -> Row:
    last = next((s for s in reversed(p.signatures) if s.step == "approver"), None)
    return permit_head(v, p) | {"by": v.name(last.person) if last else "", "at": last.at if last else p.start}
