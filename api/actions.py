"""POST and PUT routes as a table: body schema and what it does; the edge (`api.routes`) is the same for all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from api import alarm_desk, briefs, confirmations, desk, enrolments, key_changes, schemas, second_signature, store, turns
from api.enrolments import LockEnrolment
from api.office import Office
from api.texts import Names, failure_row
from api.views.brief import report_row
from api.views.locks import enrolment_row, rotation_row
from api.views.view import View
from manway.entities import ExtraPermit, Permit, Person, TestPoint
from manway.errors import Failure
from manway.ids import GrantKind
from manway.permit import PermitSignal

Row = dict[str, object]


@dataclass(frozen=True)
class Call:
    """One action being carried out: transaction, who, on which object of the path, in which language; `args` of its path."""

    db: sa.Connection
    office: Office
    by: Person
    target: str
    lang: str
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """A POST or PUT route: its body and its deed. `emergency` works without an Idempotency-Key and is never limited."""

    body: type[BaseModel]
    act: Callable[[Call, Any], tuple[int, Row]]
    emergency: bool = False


def _permit(permit: Permit, status: int = 200) -> tuple[int, Row]:
    return status, {"id": permit.id, "number": permit.number, "state": permit.state.value}


def _pending(command: str) -> tuple[int, Row]:
    return 202, {"id": command, "state": "pending"}


def refused(lang: str, failures: list[Failure], names: Names = str) -> tuple[int, Row]:
    """Return a 409 with every failure; it is an answer, stored like any other, not an error that rolls back."""
    rows: list[object] = [failure_row(lang, f, names) for f in failures]
    return 409, {"type": "/problems/entry-refused", "code": "entry_refused", "status": 409, "failures": rows}


def _submit(c: Call, b: schemas.NewPermit) -> tuple[int, Row]:
    start = c.office.now() + b.start_in_s
    draft = desk.Draft(
        b.space,
        b.work,
        start,
        start + b.minutes * 60,
        b.attendant,
        b.tester,
        b.entrants,
        work_kinds=list(b.work_kinds),
        isolation=b.isolation,
        extra_permits=[ExtraPermit(x.kind, x.number, x.start, x.end) for x in b.extra_permits],
        contractor=b.contractor,
        task_s=b.task_minutes * 60,
    )
    return _permit(desk.submit(c.db, c.office, c.by, draft), 201)


def _gas_test(c: Call, b: schemas.NewGasTest) -> tuple[int, Row]:
    points = [TestPoint(p.distance_m, p.dwell_s, p.readings) for p in b.points]
    permit, failures = desk.record_test(c.db, c.office, c.by, c.target, points, upwind=b.upwind, stirred=b.stirred)
    rows: list[object] = [failure_row(c.lang, f, _names(c)) for f in failures]
    return 201, {"id": permit.id, "passed": not failures, "state": permit.state.value, "failures": rows}


def _unlock(c: Call, b: schemas.Unlock) -> tuple[int, Row]:
    command, failures = desk.unlock(c.db, c.office, c.by, c.target, b.lock, GrantKind[b.kind])
    return refused(c.lang, failures, _names(c)) if failures else _pending(command)


def _names(c: Call) -> Names:
    called = {p.id: p.name.get(c.lang, p.id) for p in store.every(c.db, Person)}
    return lambda person: called.get(person, person)


def _confirm(c: Call, b: schemas.Yes) -> tuple[int, Row]:
    return _permit(confirmations.confirm(c.db, c.office, c.by, c.target, c.args.get("item", ""), b.evidence, b.taken_at))


def _close_out(c: Call, b: schemas.LockOnly) -> tuple[int, Row]:
    command, failures = desk.close_out(c.db, c.office, c.by, c.target, b.lock)
    return refused(c.lang, failures) if failures else _pending(command)


def _decline(signal: PermitSignal) -> Callable[[Call, schemas.Reason], tuple[int, Row]]:
    return lambda c, b: _permit(desk.decline(c.db, c.office, c.by, c.target, signal, b.reason))


def _count(direction: str) -> Callable[[Call, schemas.PersonAt], tuple[int, Row]]:
    return lambda c, b: _pending(desk.count_person(c.db, c.office, c.by, c.target, b.person, direction))


def _finish(c: Call, _: schemas.Empty) -> tuple[int, Row]:
    permit = desk.permit_of(c.db, c.target)
    return _permit(desk.shift(c.db, c.office, permit, PermitSignal.FINISH, by=c.by.id, cause=c.office.new_id()))


def _suspend(c: Call, b: schemas.Barrier) -> tuple[int, Row]:
    said = {"barrier": b.barrier, "temporary": b.temporary}
    return _permit(turns.suspend(c.db, c.office, c.by, c.target, reason=b.reason, **said))


def _extend(c: Call, b: schemas.Later) -> tuple[int, Row]:
    permit, wanted = second_signature.extend(c.db, c.office, c.by, c.target, b.minutes, b.reason)
    return 201, _permit(permit)[1] | {"request": wanted.id, "end": wanted.end}


def _approve_extension(c: Call, b: schemas.Requested) -> tuple[int, Row]:
    permit = second_signature.approve_extension(c.db, c.office, c.by, c.target, b.request)
    return 200, _permit(permit)[1] | {"end": permit.end}


def _hand_over(c: Call, b: schemas.Duty) -> tuple[int, Row]:
    offer = second_signature.offer_duty(c.db, c.office, c.by, c.target, b.duty, b.to)
    return 201, {
        "id": c.target,
        "duty": offer.duty,
        "to": offer.to,
        "good_until": offer.signatures[0].at + second_signature.OFFER_S,
    }


def _take_over(c: Call, b: schemas.Taken) -> tuple[int, Row]:
    return _permit(second_signature.take_duty(c.db, c.office, c.by, c.target, b.duty, b.inside))


def _acknowledge(c: Call, _: schemas.Empty) -> tuple[int, Row]:
    return _pending(desk.press_alarm(c.db, c.office, c.by, _site_of(c), c.target))


def _reset(c: Call, b: schemas.Reset) -> tuple[int, Row]:
    return _pending(desk.press_alarm(c.db, c.office, c.by, _site_of(c), c.target, reset=(b.reason, b.verdict)))


def _shelve(c: Call, b: schemas.Shelving) -> tuple[int, Row]:
    until = b.until if b.until is not None else alarm_desk.end_after(c.office, b.minutes or 0.0)
    return _pending(alarm_desk.shelve(c.db, c.office, c.by, (_site_of(c), c.target), b.reason, until))


def _unshelve(c: Call, _: schemas.Empty) -> tuple[int, Row]:
    return _pending(alarm_desk.unshelve(c.db, c.office, c.by, (_site_of(c), c.target)))


def _file(c: Call, b: schemas.NewReport) -> tuple[int, Row]:
    report = briefs.file(c.db, c.office, c.by, c.target, b.by_hand.model_dump(), list(dict.fromkeys(b.done)))
    view = View(c.office, c.db, c.by, c.lang)
    return 201, {"id": report.id, "by": report.by} | report_row(view, report.report)


def _enrolment(wanted: LockEnrolment, lang: str, status: int = 200) -> tuple[int, Row]:
    return status, enrolment_row(wanted, lang)


def _propose_lock(c: Call, b: schemas.NewEnrolment) -> tuple[int, Row]:
    wanted = enrolments.propose(c.db, c.office, c.by, b.space, b.entrance, b.device, address=b.address)
    return _enrolment(wanted, c.lang, 201)


def _present(c: Call, b: schemas.Secret) -> tuple[int, Row]:
    return _enrolment(enrolments.present(c.db, c.office, c.by, c.target, bytes.fromhex(b.secret), b.passkey), c.lang)


def _propose_rotation(c: Call, b: schemas.NewRotation) -> tuple[int, Row]:
    return 201, rotation_row(c.db, key_changes.propose(c.db, c.office, c.by, b.site, b.role))


def _site_of(c: Call) -> str:
    rows = store.events(c.db, lambda t: (t.c.subject == c.target) & (t.c.type == "AlarmRaised"), most=1)
    if not rows:
        raise desk.NotFound(c.target)
    return rows[0][1].site


ACTIONS = {
    "POST /api/v1/permits": Action(schemas.NewPermit, _submit),
    "POST /api/v1/permits/{permit}/approve": Action(
        schemas.Empty, lambda c, _: _permit(desk.approve(c.db, c.office, c.by, c.target))
    ),
    "POST /api/v1/permits/{permit}/reject": Action(schemas.Reason, _decline(PermitSignal.REJECT)),
    "POST /api/v1/permits/{permit}/return": Action(schemas.Reason, _decline(PermitSignal.RETURN)),
    "PUT /api/v1/permits/{permit}/checklist/{item}": Action(schemas.Yes, _confirm),
    "POST /api/v1/permits/{permit}/ventilation": Action(
        schemas.Empty, lambda c, _: _permit(desk.start_ventilation(c.db, c.office, c.by, c.target))
    ),
    "POST /api/v1/permits/{permit}/gas-tests": Action(schemas.NewGasTest, _gas_test),
    "POST /api/v1/permits/{permit}/unlock": Action(schemas.Unlock, _unlock),
    "POST /api/v1/permits/{permit}/close-out": Action(schemas.LockOnly, _close_out),
    "POST /api/v1/permits/{permit}/entries": Action(schemas.PersonAt, _count("in")),
    "POST /api/v1/permits/{permit}/exits": Action(schemas.PersonAt, _count("out")),
    "POST /api/v1/permits/{permit}/check-ins": Action(
        schemas.Answered, lambda c, b: _pending(desk.check_in(c.db, c.office, c.by, c.target, b.person))
    ),
    "POST /api/v1/permits/{permit}/sos": Action(
        schemas.Caller, lambda c, b: _pending(desk.sos(c.db, c.office, c.by, c.target, b.person)), emergency=True
    ),
    "POST /api/v1/permits/{permit}/evacuate": Action(
        schemas.Empty, lambda c, _: _pending(desk.evacuate(c.db, c.office, c.by, c.target)), emergency=True
    ),
    "POST /api/v1/permits/{permit}/recount": Action(
        schemas.Counted, lambda c, b: _pending(turns.recount(c.db, c.office, c.by, c.target, b.people))
    ),
    "POST /api/v1/permits/{permit}/suspend": Action(schemas.Barrier, _suspend),
    "POST /api/v1/permits/{permit}/resume": Action(
        schemas.Empty, lambda c, _: _permit(turns.resume(c.db, c.office, c.by, c.target))
    ),
    "POST /api/v1/permits/{permit}/cancel": Action(
        schemas.Reason, lambda c, b: _permit(turns.cancel(c.db, c.office, c.by, c.target, b.reason))
    ),
    "POST /api/v1/permits/{permit}/extend": Action(schemas.Later, _extend),
    "POST /api/v1/permits/{permit}/approve-extension": Action(schemas.Requested, _approve_extension),
    "POST /api/v1/permits/{permit}/handover": Action(schemas.Duty, _hand_over),
    "POST /api/v1/permits/{permit}/take-over": Action(schemas.Taken, _take_over),
    "POST /api/v1/permits/{permit}/hold": Action(
        schemas.Reason, lambda c, b: _permit(turns.hold(c.db, c.office, c.by, c.target, b.reason))
    ),
    "POST /api/v1/permits/{permit}/release": Action(
        schemas.Reason, lambda c, b: _permit(turns.release(c.db, c.office, c.by, c.target, b.reason))
    ),
    "POST /api/v1/permits/{permit}/finish": Action(schemas.Empty, _finish),
    "POST /api/v1/permits/{permit}/close": Action(
        schemas.HandBack, lambda c, b: _permit(desk.close(c.db, c.office, c.by, c.target, b.items))
    ),
    "POST /api/v1/emergency-openings": Action(
        schemas.LockOnly, lambda c, b: _pending(desk.emergency(c.db, c.office, c.by, b.lock)), emergency=True
    ),
    "POST /api/v1/locks/enrolments": Action(schemas.NewEnrolment, _propose_lock),
    "POST /api/v1/locks/enrolments/{enrolment}/confirm": Action(
        schemas.Empty, lambda c, _: _enrolment(enrolments.confirm(c.db, c.office, c.by, c.target), c.lang)
    ),
    "POST /api/v1/locks/enrolments/{enrolment}/secret": Action(schemas.Secret, _present),
    "POST /api/v1/locks/enrolments/{enrolment}/withdraw": Action(
        schemas.Empty, lambda c, _: _enrolment(enrolments.withdraw(c.db, c.office, c.by, c.target), c.lang)
    ),
    "POST /api/v1/keys/rotations": Action(schemas.NewRotation, _propose_rotation),
    "POST /api/v1/keys/rotations/{rotation}/confirm": Action(
        schemas.Empty, lambda c, _: (200, rotation_row(c.db, key_changes.confirm(c.db, c.office, c.by, c.target)))
    ),
    "POST /api/v1/alarms/{alarm}/acknowledge": Action(schemas.Empty, _acknowledge),
    "POST /api/v1/alarms/{alarm}/reset": Action(schemas.Reset, _reset),
    "POST /api/v1/alarms/{alarm}/brief": Action(schemas.NewReport, _file),
    "POST /api/v1/alarms/{alarm}/shelve": Action(schemas.Shelving, _shelve),
    "POST /api/v1/alarms/{alarm}/unshelve": Action(schemas.Empty, _unshelve),
}
