"""What people do to permits, locks and alarms: one function an action, one transaction each.

A permit moves along its table here and nowhere else. What only the engine may do becomes a command: pending until its event
comes back.
"""

from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from api import audit, auth, store, suspicions, watchdog
from api.facts import facts_for
from api.office import Office, UnlockRequest, fan_running
from manway.checks import (
    CheckResult,
    approver_failures,
    chain,
    chain_failures,
    emergency_failures,
    evaluate,
    failures_of,
    judge_test,
)
from manway.codec_mqtt import encode
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    GreetLock,
    OrderEvacuation,
    RaiseSos,
    RecordCheckIn,
    RecordEntry,
    ResetAlarm,
)
from manway.entities import ExtraPermit, GasTest, Instrument, Lock, Permit, PermitState, Person, Signature, Space, TestPoint
from manway.errors import ActionRefused, Failure
from manway.events import (
    GasTestRecorded,
    GrantRefused,
    PermitAgreed,
    PermitApproved,
    PermitCancelled,
    PermitClosed,
    PermitEvent,
    PermitExpired,
    PermitFinished,
    PermitHalted,
    PermitReadied,
    PermitRejected,
    PermitResumed,
    PermitReturned,
    PermitStarted,
    PermitSubmitted,
    PermitSuspended,
    PermitVoided,
    VentilationRecorded,
)
from manway.ids import GrantKind, derived_id
from manway.permit import HOLDING, PermitSignal, move

COMMAND_LIFE_S = 10.0
UNLOCK_LIFE_S = 30.0  # to the lock's hello; the grant that follows has its own
WAITING = ("pending", "greeted")
"""States of a command that still waits: for its gateway, or, its lock's hello being there, for the signer."""
_EVENT_OF = {
    PermitSignal.APPROVE: PermitApproved,
    PermitSignal.REJECT: PermitRejected,
    PermitSignal.RETURN: PermitReturned,
    PermitSignal.PREPARE: PermitReadied,
    PermitSignal.VOID: PermitVoided,
    PermitSignal.START: PermitStarted,
    PermitSignal.HALT: PermitHalted,
    PermitSignal.SUSPEND: PermitSuspended,
    PermitSignal.RESUME: PermitResumed,
    PermitSignal.FINISH: PermitFinished,
    PermitSignal.CLOSE: PermitClosed,
    PermitSignal.EXPIRE: PermitExpired,
    PermitSignal.CANCEL: PermitCancelled,
    PermitSignal.SUBMIT: PermitSubmitted,
}
HAND_BACK = ("people_out", "kit_out", "entrance_closed", "isolation_removed")  # GB 46768-2025 7.1.1


class NotFound(Exception):
    """The object does not exist, or is none of this person's business: the same answer for both."""


def refuse(key: str, fix: str, clause: str = "", **params: str | float) -> ActionRefused:
    """Return a refusal with one reason, for actions that are no check."""
    return ActionRefused([Failure("ACTION", clause, key, fix, dict(params))])


@dataclass(frozen=True)
class Draft:
    """What a worker asks for: times in Unix seconds, people by id; `task_s` 0 = the work takes as long as the permit."""

    space: str
    work: str
    start: float
    end: float
    attendant: str
    tester: str
    entrants: list[str]
    work_kinds: list[str] = field(default_factory=list)
    isolation: list[str] = field(default_factory=list)
    extra_permits: list[ExtraPermit] = field(default_factory=list)
    contractor: bool = False
    task_s: float = 0.0


def permit_of(db: sa.Connection, permit: str) -> Permit:
    """Return a permit by id, or raise NotFound."""
    rows = store.permits(db, id=permit)
    if not rows:
        raise NotFound(permit)
    return rows[0]


def space_of(db: sa.Connection, space: str) -> Space:
    """Return a space by id, or raise NotFound."""
    found = store.get(db, Space, space)
    if found is None:
        raise NotFound(space)
    return found


def shift(
    db: sa.Connection, office: Office, permit: Permit, signal: PermitSignal, *, by: str, cause: str, reason: str = ""
) -> Permit:
    """Move a permit along its table, store it, and write its event and audit row; unchanged states write nothing."""
    space = space_of(db, permit.space)
    after = move(permit.state, signal, inside=office.inside(space))
    if after is permit.state:
        return permit
    permit = msgspec.structs.replace(permit, state=after, version=permit.version + 1)
    if signal is PermitSignal.VOID:
        permit = msgspec.structs.replace(permit, gas_test=None)
    store.put_permit(db, permit)
    note(db, office, _EVENT_OF[signal], permit, by=by, cause=cause, reason=reason)
    return permit


def note(
    db: sa.Connection,
    office: Office,
    kind: type[PermitEvent],
    permit: Permit,
    *,
    by: str,
    cause: str,
    reason: str = "",
    **more: str | float,
) -> None:
    """Write an event of a permit into the log and its row into the audit chain; `more` are fields of its own."""
    now = office.now()
    key = derived_id(kind.__name__, permit.id, str(permit.version), cause)
    named = {"site": permit.site, "permit": permit.id, "space": permit.space, "by": by, "reason": reason}
    event = kind(id=key, at=now, cause=cause, **named, **more)  # type: ignore[arg-type]
    store.add_event(db, event)
    audit.append(db, now, by or "system", kind.__name__, permit.id, encode(event))


def submit(db: sa.Connection, office: Office, by: Person, draft: Draft) -> Permit:
    """Hand in a request; the requester signs as the supervisor of the work (GB 46768-2025 5.2.1)."""
    space, now = space_of(db, draft.space), office.now()
    named = [draft.attendant, draft.tester, *draft.entrants]
    if unknown := [p for p in named if store.get(db, Person, p) is None]:
        raise refuse("form.unknown_person", "form.choose_person", person=", ".join(unknown))
    if not draft.entrants or draft.end <= max(draft.start, now):
        raise refuse("form.incomplete", "form.complete")
    task_s = draft.task_s or draft.end - draft.start
    if draft.end - draft.start > min(task_s, office.limits.permit_max_s):
        hours = round(min(task_s, office.limits.permit_max_s) / 3600, 1)
        raise refuse("form.too_long", "form.complete", "29 CFR 1910.146(e)(4)", hours=hours)
    if draft.attendant in draft.entrants or draft.tester in draft.entrants:
        raise refuse("attendant.conflict", "attendant.name_another", "GB 46768-2025 6.3")
    count = int(db.execute(sa.select(sa.func.count()).select_from(store.permit_table)).scalar_one())
    year = int(1970 + now / 31_556_952)
    permit = Permit(
        id=office.new_id(),
        number=f"{year}-{count + 1:04d}",
        site=space.site,
        space=space.id,
        work=draft.work,
        drill=office.yard,
        state=PermitState.DRAFT,
        requester=by.id,
        supervisor=by.id,
        attendant=draft.attendant,
        tester=draft.tester,
        entrants=draft.entrants,
        instruments=[i.device for i in store.every(db, Instrument, site=space.site) if i.space == space.id],
        start=draft.start,
        end=draft.end,
        work_kinds=draft.work_kinds,
        isolation=draft.isolation,
        extra_permits=draft.extra_permits,
        contractor=draft.contractor,
        task_s=task_s,
        profile=office.limits.profile,
    )
    permit = shift(db, office, permit, PermitSignal.SUBMIT, by=by.id, cause=permit.id)
    permit = msgspec.structs.replace(permit, signatures=[Signature("supervisor", by.id, now)])
    store.put_permit(db, permit)
    note(db, office, PermitAgreed, permit, by=by.id, cause=permit.id)
    return permit


def approve(db: sa.Connection, office: Office, by: Person, permit_id: str) -> Permit:
    """Sign as an approver who may approve this space, with no other part in the work; the last of the chain approves it."""
    permit = permit_of(db, permit_id)
    others = {permit.requester, permit.attendant, *permit.entrants, *(s.person for s in permit.signatures)}
    if by.id in others:
        raise refuse("approval.same_person", "approval.get_another", "GB 46768-2025 5.2.1")
    move(permit.state, PermitSignal.APPROVE, inside=0)
    if failures := approver_failures(by, space_of(db, permit.space), office.now()):
        raise ActionRefused(failures)
    signed = [*permit.signatures, Signature("approver", by.id, office.now())]
    permit = msgspec.structs.replace(permit, signatures=signed)
    if len(signed) < len(chain(permit)):  # a contractor's work: the owner's approver has still to sign
        store.put_permit(db, permit)
        note(db, office, PermitAgreed, permit, by=by.id, cause=office.new_id())
        return permit
    if permit.contractor and (failures := chain_failures(permit, {p.id: p for p in store.every(db, Person)})):
        raise ActionRefused(failures)
    try:
        return shift(db, office, permit, PermitSignal.APPROVE, by=by.id, cause=office.new_id())
    except sa.exc.IntegrityError as error:
        if "permit_overlap" not in str(error):
            raise
        raise refuse("permit.another_open", "permit.close_other", "MEM Order 13 art. 6", permit=permit.number) from error


def decline(db: sa.Connection, office: Office, by: Person, permit_id: str, signal: PermitSignal, reason: str) -> Permit:
    """Reject a request for good, or return it to its draft, with a reason."""
    permit = permit_of(db, permit_id)
    if by.id == permit.requester:
        raise refuse("approval.same_person", "approval.get_another", "GB 46768-2025 5.2.1")
    return shift(db, office, permit, signal, by=by.id, cause=office.new_id(), reason=reason)


def start_ventilation(db: sa.Connection, office: Office, by: Person, permit_id: str) -> Permit:
    """Begin to count the minutes of ventilation; only the fan's own current proves that it runs."""
    permit = permit_of(db, permit_id)
    space = space_of(db, permit.space)
    if permit.state not in (PermitState.APPROVED, PermitState.SUSPENDED):
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="ventilation")
    if fan_running(office, space) is not True:
        raise refuse("ventilation.not_running", "ventilation.start", "MEM Order 13 art. 14")
    permit = msgspec.structs.replace(permit, ventilated_at=office.now(), gas_test=None, version=permit.version + 1)
    store.put_permit(db, permit)
    note(db, office, VentilationRecorded, permit, by=by.id, cause=office.new_id())
    return permit


def record_test(
    db: sa.Connection,
    office: Office,
    by: Person,
    permit_id: str,
    points: list[TestPoint],
    *,
    upwind: bool,
    stirred: bool = False,
) -> tuple[Permit, list[Failure]]:
    """Store a pre-entry test, pass or fail; a pass after enough ventilation makes an approved permit ready."""
    permit = permit_of(db, permit_id)
    space, now = space_of(db, permit.space), office.now()
    if permit.state not in (PermitState.APPROVED, PermitState.READY, PermitState.SUSPENDED):
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="gas_test")
    instrument = permit.instruments[0] if permit.instruments else ""
    limits, known = office.limits, store.get(db, Instrument, instrument)
    test = GasTest(by.id, instrument, now, points, limits.version, passed=False, profile=limits.profile, upwind=upwind)
    test = msgspec.structs.replace(test, stirred=stirred)
    pumped = None if known is None else known.pumped
    failures = judge_test(test, space, permit, limits, office.timings, pumped=pumped)
    if permit.ventilated_at is None or now - permit.ventilated_at < office.timings.ventilation_s:
        failures.append(Failure("G12", "MEM Order 13 art. 14", "order.not_proven", "order.ventilate_test_enter"))
    test = msgspec.structs.replace(test, passed=not failures)
    permit = msgspec.structs.replace(permit, gas_test=test, version=permit.version + 1)
    store.put_permit(db, permit)
    key = derived_id("GasTestRecorded", permit.id, str(permit.version))
    event = GasTestRecorded(
        id=key, at=now, site=permit.site, permit=permit.id, space=permit.space, by=by.id, passed=test.passed
    )
    store.add_event(db, event)
    audit.append(db, now, by.id, "GasTestRecorded", permit.id, encode(test))
    suspicions.of_test(db, office, permit)
    if test.passed and permit.state is not PermitState.SUSPENDED:
        permit = shift(db, office, permit, PermitSignal.PREPARE, by=by.id, cause=key)
    return permit, failures


def check(db: sa.Connection, office: Office, by: Person, permit_id: str, kind: GrantKind) -> list[CheckResult]:
    """Return the outcome of every check for an unlock, as it would be now."""
    permit = permit_of(db, permit_id)
    space = space_of(db, permit.space)
    lock = space.entrances[0].lock if space.entrances else ""
    return evaluate(facts_for(office, db, permit, space, lock=lock, kind=kind, by=by.id))


def unlock(
    db: sa.Connection, office: Office, by: Person, permit_id: str, lock: str, kind: GrantKind
) -> tuple[str, list[Failure]]:
    """Ask for an opening: either the id of the pending unlock, or every failing check (stored as `GrantRefused`)."""
    permit = permit_of(db, permit_id)
    space = space_of(db, permit.space)
    if store.get(db, Lock, lock) is None:
        raise NotFound(lock)
    failures = failures_of(evaluate(facts_for(office, db, permit, space, lock=lock, kind=kind, by=by.id)))
    if failures:
        refuse_grant(db, office, UnlockRequest("", permit.id, space.id, space.site, lock, int(kind), by.id), failures)
        return "", failures
    return greet(db, office, UnlockRequest(office.new_id(), permit.id, space.id, space.site, lock, int(kind), by.id)), []


def emergency(db: sa.Connection, office: Office, by: Person, lock: str) -> str:
    """Ask for an emergency opening: one authenticated person and the space's own lock; no other check may stop it."""
    known = store.get(db, Lock, lock)
    if known is None:
        raise NotFound(lock)
    space = space_of(db, known.space)
    request = UnlockRequest(office.new_id(), "", space.id, space.site, lock, int(GrantKind.EMERGENCY), by.id)
    authenticated = auth.has_session(db, by.id, office.now())
    if failures := emergency_failures(space, lock=lock, by=by.id, authenticated=authenticated):
        raise ActionRefused(failures)
    return greet(db, office, request)


def failing_anyway(db: sa.Connection, office: Office, request: UnlockRequest) -> list[Failure]:
    """Return what an ordinary opening would be refused for: an emergency asks nobody, but its review will (`domain.md` 5)."""
    space = space_of(db, request.space)
    permit = next((p for p in store.permits(db, space=space.id) if p.state in HOLDING), None)
    if permit is None:
        seen = [{"kind": "space", "id": space.id}]
        return [Failure("G01", "MEM Order 13 art. 7", "permit.none", "permit.prepare", {}, seen)]
    kind = GrantKind.EMERGENCY
    return failures_of(evaluate(facts_for(office, db, permit, space, lock=request.lock, kind=kind, by=request.by)))


def refuse_grant(db: sa.Connection, office: Office, request: UnlockRequest, failures: list[Failure]) -> None:
    """Write a refusal with all its failures: denied attempts are evidence."""
    now = office.now()
    event = GrantRefused(
        id=derived_id("GrantRefused", request.id or office.new_id()),
        at=now,
        site=request.site,
        lock=request.lock,
        reason="CHECKS",
        permit=request.permit,
        kind=request.kind,
        by=request.by,
        failures=failures,
        cause=request.id,
    )
    store.add_event(db, event)
    audit.append(db, now, request.by, "GrantRefused", request.lock, encode(event))


def greet(db: sa.Connection, office: Office, request: UnlockRequest) -> str:
    """Keep what is asked of a lock, and ask the lock for its hello; return the id to follow."""
    store.put(db, "UnlockRequest", request.id, request, site=request.site)
    now = office.now()
    send(db, GreetLock(id=request.id, site=request.site, at=now, exp=now + UNLOCK_LIFE_S, by=request.by, lock=request.lock))
    return request.id


def send(db: sa.Connection, command: AnyCommand, *, root: str = "") -> str:
    """Queue a command for its gateway; `root` is the id a person follows when several commands make one action."""
    row = {
        "id": command.id,
        "site": command.site,
        "by": command.by,
        "root": root or command.id,
        "exp": command.exp,
        "state": "pending",
        "result": "",
        "sent_at": 0.0,
        "body": encode(command),
    }
    db.execute(store.command.insert().values(row))
    return command.id


def count_person(db: sa.Connection, office: Office, by: Person, permit_id: str, person: str, direction: str) -> str:
    """Count a person in or out on the word of the permit's attendant; in only while it holds its space, out always."""
    permit, now = permit_of(db, permit_id), office.now()
    if by.id != permit.attendant:
        raise refuse("attendant.not_you", "attendant.sign_in", "MEM Order 13 art. 15")
    if direction == "in" and permit.state not in HOLDING:
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="entries")
    envelope = {"id": office.new_id(), "site": permit.site, "at": now, "exp": now + COMMAND_LIFE_S, "by": by.id}
    return send(db, RecordEntry(**envelope, space=permit.space, permit=permit.id, person=person, direction=direction))  # type: ignore[arg-type]


def check_in(db: sa.Connection, office: Office, by: Person, permit_id: str, person: str = "") -> str:
    """Say "I am here" for the attendant, or on their word that an entrant, `person`, has answered."""
    permit, now = permit_of(db, permit_id), office.now()
    if by.id != permit.attendant:
        raise refuse("attendant.not_you", "attendant.sign_in", "MEM Order 13 art. 15")
    if permit.state not in HOLDING:
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="check_in")
    exp = now + COMMAND_LIFE_S
    command = RecordCheckIn(
        id=office.new_id(), site=permit.site, at=now, exp=exp, by=by.id, permit=permit.id, space=permit.space, person=person
    )
    return send(db, command)


def sos(db: sa.Connection, office: Office, by: Person, permit_id: str, person: str = "") -> str:
    """Call for help for a person at a permit's space; no state refuses it, and for somebody unknown the caller calls."""
    permit, now = permit_of(db, permit_id), office.now()
    named = person if person and store.get(db, Person, person) is not None else by.id
    exp = now + COMMAND_LIFE_S
    command = RaiseSos(
        id=office.new_id(), site=permit.site, at=now, exp=exp, by=by.id, space=permit.space, permit=permit.id, person=named
    )
    return send(db, command)


def evacuate(db: sa.Connection, office: Office, by: Person, permit_id: str) -> str:
    """Order everybody out."""
    permit, now = permit_of(db, permit_id), office.now()
    exp = now + COMMAND_LIFE_S
    command = OrderEvacuation(
        id=office.new_id(), site=permit.site, at=now, exp=exp, by=by.id, space=permit.space, permit=permit.id
    )
    return send(db, command)


def press_alarm(
    db: sa.Connection, office: Office, by: Person, site: str, alarm: str, *, reset: tuple[str, str] | None = None
) -> str:
    """Acknowledge an alarm, or reset it with (reason, verdict); the engine decides, of its own alarms the api."""
    now, key = office.now(), office.new_id()
    exp = now + COMMAND_LIFE_S
    if suspicions.is_about(db, site, alarm, by.id):
        raise refuse("suspicion.subject", "suspicion.ask_another", "domain.md 10")
    command: AcknowledgeAlarm | ResetAlarm = AcknowledgeAlarm(id=key, site=site, at=now, exp=exp, by=by.id, alarm=alarm)
    if reset is not None:
        reason, verdict = reset
        command = ResetAlarm(id=key, site=site, at=now, exp=exp, by=by.id, alarm=alarm, reason=reason, verdict=verdict)
    send(db, command)
    watchdog.obey_own(db, office, command)
    return key


def close_out(db: sa.Connection, office: Office, by: Person, permit_id: str, lock: str) -> tuple[str, list[Failure]]:
    """Ask for the order that arms a lock's button for the last press; it moves no bolt itself (`locks.md` §1.5)."""
    permit = permit_of(db, permit_id)
    if permit.state not in (PermitState.CLOSING, PermitState.SUSPENDED, PermitState.EXPIRED, PermitState.CANCELLED):
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="close_out")
    if lock not in {e.lock for e in space_of(db, permit.space).entrances}:  # in another space somebody may be inside
        raise refuse("lock.other_space", "lock.choose_own", "locks.md 1.5", lock=lock)
    return unlock(db, office, by, permit_id, lock, GrantKind.CLOSE_OUT)


def close(db: sa.Connection, office: Office, by: Person, permit_id: str, items: dict[str, bool]) -> Permit:
    """Hand the space back: four things confirmed (GB 46768-2025 7.1.1), and every lock reports its bolt thrown."""
    permit = permit_of(db, permit_id)
    if missing := [item for item in HAND_BACK if items.get(item) is not True]:
        raise refuse("close.missing", "close.confirm", "GB 46768-2025 7.1.1", items=", ".join(missing))
    space, state = space_of(db, permit.space), office.pictures.state.get(permit.site)
    locked = {x.device for x in state.locks if x.position == "locked"} if state else set()
    if unlocked := [e.lock for e in space.entrances if e.lock not in locked]:
        raise refuse("close.not_locked", "close.close_out", "GB 46768-2025 7.1.1", lock=", ".join(unlocked))
    return shift(db, office, permit, PermitSignal.CLOSE, by=by.id, cause=office.new_id())
