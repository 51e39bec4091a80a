"""POST routes as a table: body schema and what it does; the edge (`api.routes`) is the same for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from api import desk, schemas, store
from api.office import Office
from api.texts import failure_row
from manway.entities import Permit, Person, TestPoint
from manway.errors import Failure
from manway.ids import GrantKind
from manway.permit import PermitSignal

Row = dict[str, object]


@dataclass(frozen=True)
class Call:
    """One action being carried out: transaction, who, on which object of the path, in which language."""

    db: sa.Connection
    office: Office
    by: Person
    target: str
    lang: str


@dataclass(frozen=True)
class Action:
    """A POST route: its body and its deed. `emergency` works without an Idempotency-Key and is never limited."""

    body: type[BaseModel]
    act: Callable[[Call, Any], tuple[int, Row]]
    emergency: bool = False


def _permit(permit: Permit, status: int = 200) -> tuple[int, Row]:
    return status, {"id": permit.id, "number": permit.number, "state": permit.state.value}


def _pending(command: str) -> tuple[int, Row]:
    return 202, {"id": command, "state": "pending"}


def refused(lang: str, failures: list[Failure]) -> tuple[int, Row]:
    """Return a 409 with every failure; it is an answer, stored like any other, not an error that rolls back."""
    rows: list[object] = [failure_row(lang, f) for f in failures]
    return 409, {"type": "/problems/entry-refused", "code": "entry_refused", "status": 409, "failures": rows}


def _submit(c: Call, b: schemas.NewPermit) -> tuple[int, Row]:
    start = c.office.now() + b.start_in_s
    draft = desk.Draft(b.space, b.work, start, start + b.minutes * 60, b.attendant, b.tester, b.entrants)
    return _permit(desk.submit(c.db, c.office, c.by, draft), 201)


def _gas_test(c: Call, b: schemas.NewGasTest) -> tuple[int, Row]:
    points = [TestPoint(p.distance_m, p.dwell_s, p.readings) for p in b.points]
    permit, failures = desk.record_test(c.db, c.office, c.by, c.target, points)
    rows: list[object] = [failure_row(c.lang, f) for f in failures]
    return 201, {"id": permit.id, "passed": not failures, "state": permit.state.value, "failures": rows}


def _unlock(c: Call, b: schemas.Unlock) -> tuple[int, Row]:
    command, failures = desk.unlock(c.db, c.office, c.by, c.target, b.lock, GrantKind[b.kind])
    return refused(c.lang, failures) if failures else _pending(command)


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


def _acknowledge(c: Call, _: schemas.Empty) -> tuple[int, Row]:
    return _pending(desk.press_alarm(c.db, c.office, c.by, _site_of(c), c.target))


def _reset(c: Call, b: schemas.Reset) -> tuple[int, Row]:
    return _pending(desk.press_alarm(c.db, c.office, c.by, _site_of(c), c.target, reset=(b.reason, b.verdict)))


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
    "POST /api/v1/permits/{permit}/ventilation": Action(
        schemas.Empty, lambda c, _: _permit(desk.start_ventilation(c.db, c.office, c.by, c.target))
    ),
    "POST /api/v1/permits/{permit}/gas-tests": Action(schemas.NewGasTest, _gas_test),
    "POST /api/v1/permits/{permit}/unlock": Action(schemas.Unlock, _unlock),
    "POST /api/v1/permits/{permit}/close-out": Action(schemas.LockOnly, _close_out),
    "POST /api/v1/permits/{permit}/entries": Action(schemas.PersonAt, _count("in")),
    "POST /api/v1/permits/{permit}/exits": Action(schemas.PersonAt, _count("out")),
    "POST /api/v1/permits/{permit}/check-ins": Action(
        schemas.Empty, lambda c, _: _pending(desk.check_in(c.db, c.office, c.by, c.target))
    ),
    "POST /api/v1/permits/{permit}/evacuate": Action(
        schemas.Empty, lambda c, _: _pending(desk.evacuate(c.db, c.office, c.by, c.target)), emergency=True
    ),
    "POST /api/v1/permits/{permit}/suspend": Action(
        schemas.Barrier, lambda c, b: _permit(desk.suspend(c.db, c.office, c.by, c.target, barrier=b.barrier))
    ),
    "POST /api/v1/permits/{permit}/finish": Action(schemas.Empty, _finish),
    "POST /api/v1/permits/{permit}/close": Action(
        schemas.HandBack, lambda c, b: _permit(desk.close(c.db, c.office, c.by, c.target, b.items))
    ),
    "POST /api/v1/emergency-openings": Action(
        schemas.LockOnly, lambda c, b: _pending(desk.emergency(c.db, c.office, c.by, b.lock)), emergency=True
    ),
    "POST /api/v1/alarms/{alarm}/acknowledge": Action(schemas.Empty, _acknowledge),
    "POST /api/v1/alarms/{alarm}/reset": Action(schemas.Reset, _reset),
}
