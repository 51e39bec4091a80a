"""Locks on their way into the records, for those who propose, agree, and stand at the open lock; the secret is never shown."""

from api import store
from api.enrolments import LockEnrolment
from api.rights import RIGHTS
from api.rotations import agreement_failures
from api.texts import failure_row
from api.views.locks import enrolment_row
from api.views.view import Row, View

SILENT_S = 40.0  # (choice) the radio says after 20 s that it reached nobody, the plan and a hello take as long at most
_ROUTE = "POST /api/v1/locks/enrolments"
_UNDER_WAY = ("asked", "given", "answered")
_MOST_DONE = 10


def enrolment_page(v: View) -> Row:
    """Return what waits for somebody, the last ones done, and what may be proposed; newest first, but behind open locks."""
    every = sorted(store.every(v.db, LockEnrolment), key=lambda e: e.proposed_at, reverse=True)
    unfinished = [e for e in every if e.state not in ("done", "withdrawn")]
    done = [_done(v, e) for e in every if e.state == "done"]
    return {
        "may_propose": RIGHTS[_ROUTE].allows(v.person),
        "waiting": [_waiting(v, e) for e in sorted(unfinished, key=lambda e: e.state == "proposed")],
        "done": done[:_MOST_DONE],
        "entrances": _entrances(v),
    }


def _waiting(v: View, e: LockEnrolment) -> Row:
    silent = e.state in _UNDER_WAY and v.now - e.sent_at > SILENT_S
    may_confirm = RIGHTS[f"{_ROUTE}/{{enrolment}}/confirm"].allows(v.person)
    refusals = agreement_failures(v.db, e.proposed_by, v.person.id) if may_confirm else []
    return enrolment_row(e, v.lang) | {
        "space": v.space_name(e.space),
        "bluetooth": bool(e.address),
        "replaces": _replaced(v, e),
        "needs_confirming": e.state == "proposed",
        "may_confirm": may_confirm,
        "can_confirm": may_confirm and not refusals,
        "why_not": " ".join(failure_row(v.lang, f, v.name)["text"] for f in refusals) if e.state == "proposed" else "",
        "typing": e.state in ("confirmed", "failed") or silent,
        "wrong": v.t("ui.enrol.silent") if silent else enrolment_row(e, v.lang)["why"],
        "can_withdraw": may_confirm and (e.state not in _UNDER_WAY or silent) and e.state != "answered",
        "working": e.state in _UNDER_WAY and not silent,
        "since": e.sent_at or None,
        "steps": _steps(v, e),
    }


def _steps(v: View, e: LockEnrolment) -> list[Row]:
    asked, keyed = e.state in _UNDER_WAY, e.state in ("answered", "done")
    steps: list[Row] = [
        {"text": v.t("ui.enrol.step.proposed"), "done": True, "detail": v.name(e.proposed_by), "at": e.proposed_at},
        {
            "text": v.t("ui.enrol.step.confirmed"),
            "done": bool(e.confirmed_by),
            "detail": v.name(e.confirmed_by) if e.confirmed_by else "",
            "at": e.confirmed_at or None,
        },
        {"text": v.t("ui.enrol.step.typed"), "done": asked, "detail": v.name(e.typed_by) if asked else "", "at": None},
        {"text": v.t("ui.enrol.step.keys"), "done": keyed, "detail": "", "at": None},
        {"text": v.t("ui.enrol.step.hello"), "done": e.state == "done", "detail": "", "at": None},
    ]
    following = next((step for step in steps if not step["done"]), None)
    return [step | {"next": step is following} for step in steps]


def _done(v: View, e: LockEnrolment) -> Row:
    return {"id": e.id, "at": e.sent_at, "space": v.space_name(e.space), "device": e.device, "by": v.name(e.typed_by)}


def _replaced(v: View, e: LockEnrolment) -> str:
    """Return the lock that bars the entrance now, "" for none or this one."""
    space = v.spaces.get(e.space)
    locks = [entrance.lock for entrance in space.entrances if entrance.id == e.entrance] if space else []
    return "".join(lock for lock in locks if lock != e.device)


def _entrances(v: View) -> list[Row]:
    rows: list[Row] = [
        {"key": f"{s.id}/{e.id}", "space": s.id, "entrance": e.id, "text": f"{v.space_name(s.id)} · {e.id} · {e.lock or '—'}"}
        for s in v.spaces.values()
        for e in s.entrances
    ]
    return sorted(rows, key=lambda row: str(row["key"]))
