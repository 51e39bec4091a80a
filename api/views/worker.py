"""The worker's page: what may be asked for, and one sentence on each of the own permits."""

from api import store
from api.texts import hour_and_minute
from api.views.inside import heard, leave_by, overlay
from api.views.items import check_list
from api.views.no_opening import no_opening
from api.views.permit import permit_head, permit_steps
from api.views.turns import offers, turning
from api.views.view import Row, View
from manway.entities import Permit, PermitState
from manway.permit import HOLDING, OPEN, TERMINAL


def worker(v: View) -> Row:
    """Return what a worker may ask for, and one sentence on each of the own permits."""
    every = store.permits(v.db)
    busy = {p.space: p for p in every if p.state in HOLDING or p.state is PermitState.SUBMITTED}

    def role(name: str) -> list[Row]:
        return [{"id": p.id, "name": v.name(p.id)} for p in v.people.values() if name in p.roles]

    spaces: list[Row] = [
        {
            "id": s.id,
            "name": v.space_name(s.id),
            "kind_text": v.t(f"kind.{s.kind}"),
            "hazards": v.hazards(s),
            "gases": s.required_gases,
            "free": s.id not in busy,
            "why_not": v.t("ui.worker.busy", number=busy[s.id].number) if s.id in busy else "",
        }
        for s in v.spaces.values()
    ]
    mine = [p for p in every if v.person.id in {p.requester, p.supervisor, *p.entrants}]
    return {
        "spaces": sorted(spaces, key=lambda s: not s["free"]),
        "attendants": role("attendant"),
        "testers": role("attendant"),
        "entrants": role("worker"),
        "permits": [_own(v, p) for p in reversed(mine[-6:])],
        "offers": offers(v),
    }


def _own(v: View, p: Permit) -> Row:
    verdict, sentence = _verdict(v, p)
    leave = leave_by(v, v.spaces[p.space]) if p.state in OPEN else None
    leave = leave if leave is not None and leave["somebody"] else None
    return (
        permit_head(v, p)
        | {
            "work": p.work,
            "verdict": verdict,
            "sentence": sentence,
            "until": p.end if verdict == "go" and leave is None else None,
            "leave_by": leave,
            "no_opening": no_opening(v, v.spaces[p.space]) if p.state in HOLDING else None,
            "steps": permit_steps(v, p),
            "items": check_list(v, p),
        }
        | turning(v, p)
    )


def _verdict(v: View, p: Permit) -> tuple[str, str]:
    space = v.spaces[p.space]
    urgent, forbidden = v.urgent(space), _forbidden(v, p)
    if p.state is PermitState.ACTIVE and not urgent and v.now < p.end and v.opened(space) and heard(v, space) and not forbidden:
        return "go", v.t("enter.may", time=hour_and_minute(p.end))
    if p.state in TERMINAL or p.state in (PermitState.EVACUATING, PermitState.SUSPENDED, PermitState.CLOSING) or urgent:
        reason = v.t(f"alarm.{urgent[0].kind}") if urgent else v.t(f"permit_state.{p.state.value}")
        return "stop", v.t("enter.not", reason=reason)
    if forbidden and p.state is not PermitState.SUBMITTED:
        return "stop", v.t("enter.not", reason=forbidden)
    if p.state is PermitState.ACTIVE:
        return "stop", v.t("enter.not", reason=v.t("ui.worker.not_confirmed"))
    who = v.t("role.approver") if p.state is PermitState.SUBMITTED else v.name(p.attendant)
    return "wait", v.t("enter.wait", who=who)


def _forbidden(v: View, p: Permit) -> str:
    """Return what forbids entry, or this reader's, with no alarm open: a stop, an overlay, what they breathed."""
    space = v.spaces[p.space]
    here, over = v.here(space), overlay(v, space)
    if p.hold is not None:
        return v.t("failure.permit.held", reason=p.hold.reason)
    if over is not None:
        return str(over["text"])
    return v.t("ui.exposed") if here is not None and v.person.id in here.exposed else ""
