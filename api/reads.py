"""GET routes as a table: what each shows; the edge (`api.routes`) is the same for all of them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from api import briefs, desk, emergency, enrolments, frame_ledger, second_signature, store
from api.enrolments import LockEnrolment
from api.http import Problem
from api.office import Office
from api.rights import RIGHTS
from api.rotations import KeyRotation
from api.texts import Names, failure_row, reason_text, text
from api.views.alarm import alarm_groups
from api.views.brief import report_row
from api.views.gas import gas_rows, shown_unit
from api.views.inside import space_facts
from api.views.items import check_list
from api.views.locks import enrolment_row, rotation_row
from api.views.permit import preparation
from api.views.view import Row, View
from api.views.wall import wall
from manway.checks import Outcome
from manway.entities import Permit, Person
from manway.errors import Failure
from manway.events import AnyEvent, GrantRefused
from manway.ids import GrantKind
from manway.limits import Limit
from manway.runtime.telemetry import TelemetryStore

_MOST = 500
_LARGEST = 2.0**40
_AHEAD_S = 60.0  # (choice) a device's clock may be ahead of ours
_CURVE_S = 3600  # an hour of seconds is all a curve can show


@dataclass(frozen=True)
class Look:
    """One look: a consistent read, who looks, in which language, with the path's and query's arguments."""

    db: sa.Connection
    office: Office
    telemetry: TelemetryStore
    by: Person
    lang: str
    args: dict[str, str]

    @property
    def view(self) -> View:
        """The view models in the reader's language."""
        return View(self.office, self.db, self.by, self.lang)

    def number(self, name: str, otherwise: float) -> float:
        """Return a numeric argument.

        Raises:
            Problem: it is no number, or none that a clock or a counter can show.
        """
        try:
            value = float(self.args.get(name) or otherwise)
        except ValueError as error:
            raise Problem(422, "invalid") from error
        if not abs(value) <= _LARGEST:  # NaN is not smaller either
            raise Problem(422, "invalid")
        return value


def _items(rows: list[object]) -> Row:
    return {"items": rows, "next": None}


def _me(look: Look) -> Row:
    return {"id": look.by.id, "name": look.by.name, "roles": look.by.roles}


def _limits(look: Look) -> Row:
    limits = look.office.limits
    gases = [{"gas": g.name, "unit": g.unit, "limits": [_limit(x) for x in g.rows]} for g in limits.gas]
    return {"profile": limits.profile, "version": limits.version, "note": limits.note, "gases": gases}


def _events(look: Look) -> Row:
    after, most = int(look.number("after", 0)), int(max(1, min(look.number("limit", 200), _MOST)))
    rows = store.events(look.db, lambda c: c.c.seq > after, most=most)
    view = look.view
    return {"items": [event_row(view, seq, e) for seq, e in rows], "next": rows[-1][0] if len(rows) == most else None}


def _spaces(look: Look) -> Row:
    view, tiles = look.view, wall(look.view)["tiles"]
    rows = [tile | space_facts(view, view.spaces[tile["id"]]) for tile in tiles] if isinstance(tiles, list) else []
    return {"items": rows, "next": None}


def _alarms(look: Look) -> Row:
    loud, quiet = alarm_groups(look.view)
    return {"items": [*loud, *quiet], "next": None}


def _emergency(look: Look) -> Row:
    alarm = emergency.raised(look.db, look.args["alarm"])
    return msgspec.to_builtins(emergency.screen(look.db, look.office, alarm))  # type: ignore[no-any-return]


def _brief(look: Look) -> Row:
    """Return the report that would be filed now; with `previous` its difference to that filed one, 0 being the brief."""
    alarm = emergency.raised(look.db, look.args["alarm"])
    filed = briefs.filed(look.db, alarm)
    before = briefs.numbered(filed, int(look.number("previous", 0))) if "previous" in look.args else None
    report = briefs.draft(look.db, look.office, alarm, filed, before)
    rows = [{"number": r.number, "at": r.at, "by": r.by} for r in filed]
    return report_row(look.view, report) | {"filed": rows}


def _permits(look: Look) -> Row:
    right = RIGHTS["GET /api/v1/permits/{permit}"]  # the list shows whose door is open, no more
    return _items([permit_row(p) for p in store.permits(look.db) if right.allows(look.by, p)])


def _permit(look: Look) -> Row:
    return permit_row(desk.permit_of(look.db, look.args["permit"]))


def _waiting(look: Look) -> Row:
    return second_signature.waiting(look.db, look.office, desk.permit_of(look.db, look.args["permit"]))


def _preparation(look: Look) -> Row:
    permit = desk.permit_of(look.db, look.args["permit"])
    plan = preparation(look.office, desk.space_of(look.db, permit.space))
    return plan | {"items": check_list(look.view, permit)}


def _gases(look: Look) -> Row:
    rows: list[object] = [*gas_rows(look.view, desk.space_of(look.db, look.args["space"]))]
    return _items(rows)


def _checks(look: Look) -> Row:
    kind = look.args.get("kind", "ENTRY")
    if kind not in ("PREP", "ENTRY"):
        raise Problem(422, "invalid")
    results = desk.check(look.db, look.office, look.by, look.args["permit"], GrantKind[kind])
    order, names = {Outcome.FAILED: 0, Outcome.PASSED: 1}, look.view.name
    rows = [
        {
            "check": r.check,
            "clause": r.clause,
            "title": text(look.lang, f"check.{r.check}"),
            "outcome": r.outcome.value,
            "failures": [failure_row(look.lang, f, names) | {"evidence": f.evidence} for f in r.failures],
        }
        for r in sorted(results, key=lambda r: order[r.outcome])
    ]
    return {"results": rows}


def _telemetry(look: Look) -> Row:
    space, device = desk.space_of(look.db, look.args["space"]), look.args.get("device", "")
    if device not in {i.device for i in look.office.pictures.instruments_of(space)}:
        raise Problem(404, "not_found")
    now = look.office.now()
    span = (look.number("from", now - _CURVE_S), look.number("to", now))
    step = int(look.number("step", 0)) or None
    return _series(look.office, look.telemetry, device, look.args.get("gas", ""), span, step)


def _ledger(look: Look) -> Row:
    """Return what the engine counted beside what the store holds of the time asked for, by default the last day."""
    now = look.office.now()
    start, end = look.number("from", now - frame_ledger.DAY_S), look.number("to", now + _AHEAD_S)
    rows: list[object] = []
    for i in look.office.pictures.instruments_of(desk.space_of(look.db, look.args["space"])):
        kept = look.telemetry.ledger(i.device, int(start * 1000), int(end * 1000))
        rows.append(
            {
                "device": i.device,
                "received": i.received,
                "duplicate": i.duplicate,
                "missing": i.missing,
                "late": i.late,
                "stored": kept.received,
                "stored_missing": sum(m.last - m.first + 1 for m in kept.missing),
                "stored_twice": kept.doubled,
                "stored_late": kept.late,
                "torn": kept.torn,
            }
        )
    return _items(rows)


def _job_ledger(look: Look) -> Row:
    permit = desk.permit_of(look.db, look.args["permit"])
    return msgspec.to_builtins(frame_ledger.job_ledger(look.db, look.office, look.telemetry, permit))  # type: ignore[no-any-return]


def _command(look: Look) -> Row:
    return command_row(look.db, look.args["command"], look.by, look.lang, look.view.name)


def _enrolments(look: Look) -> Row:
    found = sorted(store.every(look.db, LockEnrolment), key=lambda e: e.proposed_at)
    return _items([enrolment_row(one, look.lang) for one in found])


def _enrolment(look: Look) -> Row:
    return enrolment_row(enrolments.of(look.db, look.args["enrolment"]), look.lang)


def _rotations(look: Look) -> Row:
    return _items([rotation_row(look.db, one) for one in store.every(look.db, KeyRotation)])


READS: dict[str, Callable[[Look], Row]] = {
    "GET /api/v1/me": _me,
    "GET /api/v1/commands/{command}": _command,
    "GET /api/v1/limits": _limits,
    "GET /api/v1/events": _events,
    "GET /api/v1/spaces": _spaces,
    "GET /api/v1/spaces/{space}/telemetry": _telemetry,
    "GET /api/v1/spaces/{space}/ledger": _ledger,
    "GET /api/v1/spaces/{space}/gases": _gases,
    "GET /api/v1/alarms": _alarms,
    "GET /api/v1/alarms/{alarm}/emergency": _emergency,
    "GET /api/v1/alarms/{alarm}/brief": _brief,
    "GET /api/v1/locks/enrolments": _enrolments,
    "GET /api/v1/locks/enrolments/{enrolment}": _enrolment,
    "GET /api/v1/keys/rotations": _rotations,
    "GET /api/v1/permits": _permits,
    "GET /api/v1/permits/{permit}": _permit,
    "GET /api/v1/permits/{permit}/ledger": _job_ledger,
    "GET /api/v1/permits/{permit}/checks": _checks,
    "GET /api/v1/permits/{permit}/preparation": _preparation,
    "GET /api/v1/permits/{permit}/waiting": _waiting,
}


def _limit(limit: Limit) -> Row:
    return {name: getattr(limit, name) for name in ("level", "side", "value", "clause", "status")}


def permit_row(p: Permit) -> Row:
    """Return a permit as the API shows it: people as ids."""
    signed = [s.person for s in p.signatures if s.step == "approver"]
    named = ("id", "number", "drill", "site", "space", "work", "requester", "supervisor", "attendant", "tester", "entrants")
    row: Row = {name: getattr(p, name) for name in (*named, "instruments", "start", "end", "ventilated_at")}
    row |= {"barrier": p.barrier, "hold": None if p.hold is None else msgspec.to_builtins(p.hold)}
    return row | {"state": p.state.value, "approved": signed, "test_passed": p.gas_test.passed if p.gas_test else None}


def event_row(view: View, seq: int, value: AnyEvent) -> Row:
    """Return an event of the log with its sentence in the reader's language."""
    name = type(value).__name__
    dotted = re.sub(r"(?<!^)(?=[A-Z])", ".", name).lower()
    return {
        "seq": seq,
        "id": value.id,
        "type": dotted,
        "v": 1,
        "at": value.at,
        "site": value.site,
        "space": getattr(value, "space", ""),
        "cause": value.cause,
        "priority": int(getattr(value, "priority", 0)),
        "text": view.sentence(value),
        "data": msgspec.to_builtins(value),
    }


def command_row(db: sa.Connection, command: str, person: Person, lang: str, names: Names = str) -> Row:
    """Return how far a command has come; only who gave it may ask."""
    row = db.execute(sa.select(store.command).where(store.command.c.id == command)).one_or_none()
    if row is None or row.by != person.id:
        raise Problem(404, "not_found")
    related = db.execute(sa.select(store.command.c.state).where(store.command.c.root == row.root)).scalars().all()
    shown = {"pending" if state in desk.WAITING else state for state in related}
    state = next((s for s in ("refused", "timed_out", "pending") if s in shown), "done")
    failures: list[Failure] = []
    for _, event in store.events(db, lambda c: (c.c.cause == command) & (c.c.type == "GrantRefused")):
        if isinstance(event, GrantRefused):
            failures = event.failures
    reason = reason_text(lang, row.result) if state == "refused" and row.result else ""
    return {
        "id": command,
        "state": state,
        "text": reason or text(lang, f"command.{state}"),
        "result": row.result,
        "failures": [failure_row(lang, f, names) for f in failures],
    }


def _series(
    office: Office, telemetry: TelemetryStore, device: str, gas: str, span: tuple[float, float], step: int | None
) -> Row:
    rule = office.limits.of(gas)
    if rule is None:
        raise Problem(404, "not_found")
    start, end = span
    if step is None and end - start > _CURVE_S:
        step = max(1, int((end - start) / 1800))
    try:
        found = telemetry.series(device, gas, int(start * 1000), int(end * 1000), step)
    except ValueError as error:
        raise Problem(422, "invalid") from error
    unit = "ppm" if rule.unit == "mg/m3" else rule.unit

    def column(values: list[float]) -> list[float | None]:
        return [None if math.isnan(v) else round(rule.in_unit(v, unit, office.limits.temperature_c), 3) for v in values]

    return {
        "t": [t / 1000 for t in found.t.tolist()],
        "lo": column(found.lo.tolist()),
        "hi": column(found.hi.tolist()),
        "mean": column(found.mean.tolist()),
        "unit": shown_unit(rule.unit),
        "limits": [{"level": x.level, "side": x.side, "value": x.value} for x in rule.limit],
    }
