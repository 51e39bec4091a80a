"""What an event of a gateway means for permits, grants and commands; done in the transaction that stores the event."""

import sqlalchemy as sa

from api import audit, desk, store
from api.facts import facts_for
from api.office import Office, UnlockRequest
from manway.catalogue import CATALOGUE
from manway.checks import grant_life_s
from manway.codec_mqtt import encode
from manway.entities import Lock, PermitState, Person
from manway.errors import ActionRefused
from manway.events import (
    AlarmRaised,
    AnyEvent,
    CommandRefused,
    EvacuationOrdered,
    Event,
    GrantFailed,
    GrantIssued,
    GrantRefused,
    GrantUsed,
    LockGreeted,
    PersonEntered,
    PressAwaited,
    UnlockUnconfirmed,
)
from manway.ids import GrantKind, derived_id
from manway.permit import PermitSignal


def _raw(digits: str) -> bytes:
    """Return the bytes behind hex digits, none when there are no digits: the signer then refuses the hello."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


class Meanings:
    """Moves permits, settles commands and lets the signer decide, as the events say."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def take(self, db: sa.Connection, event: AnyEvent) -> None:
        """Do, in the transaction that stores an event, what follows from it."""
        match event:
            case LockGreeted():
                self._sign(db, event)
            case GrantUsed():
                used = store.grant.c.id == event.grant
                db.execute(store.grant.update().where(used).values(used_at=event.at))
                store.touch(db, event.site)
                audit.append(db, event.at, "lock", "GrantUsed", event.lock, encode(event))
                if event.kind == GrantKind.ENTRY:
                    self._shift(db, event.space, PermitSignal.START, {PermitState.READY}, event)
            case PersonEntered():
                self._shift(db, event.space, PermitSignal.START, {PermitState.READY}, event)
            case EvacuationOrdered():
                self._shift(db, event.space, PermitSignal.HALT, {PermitState.ACTIVE}, event)
            case AlarmRaised(kind=kind) if CATALOGUE[kind].voids_tests:
                self._shift(db, event.space, PermitSignal.VOID, {PermitState.READY}, event)
            case _:
                pass
        self._settle(db, event)

    def _shift(self, db: sa.Connection, space: str, signal: PermitSignal, states: set[PermitState], event: Event) -> None:
        for permit in store.permits(db, space=space, site=event.site):
            if permit.state in states:
                desk.shift(db, self._office, permit, signal, by="", cause=event.id)

    def _settle(self, db: sa.Connection, event: AnyEvent) -> None:
        """Answer the command behind an event: done, or refused with its reason."""
        if not event.cause or isinstance(event, (LockGreeted, PressAwaited)):
            return
        state, result = "done", event.id
        if isinstance(event, (CommandRefused, GrantRefused, GrantFailed, UnlockUnconfirmed)):
            state, result = "refused", getattr(event, "reason", "lock.unconfirmed")
        table = store.command
        row = db.execute(sa.select(table.c.root).where(table.c.id == event.cause)).scalar()
        if row is None:
            return
        related = (table.c.root == row) & table.c.state.in_(("pending", "answered"))
        db.execute(table.update().where(related).values(state=state, result=result))

    def _sign(self, db: sa.Connection, event: LockGreeted) -> None:
        """Let the signer decide on an unlock whose hello has come; its refusal is an event with all failures."""
        office, request = self._office, store.get(db, UnlockRequest, event.cause)
        lock = store.get(db, Lock, event.lock)
        pending = (
            (store.command.c.id == event.cause) & (store.command.c.state == "pending") & (store.command.c.exp >= office.now())
        )
        waits = db.execute(sa.select(store.command.c.id).where(pending)).scalar() is not None
        if request is None or lock is None or not waits:
            return
        kind, by = GrantKind(request.kind), store.get(db, Person, request.by)
        facts = None
        if kind is not GrantKind.EMERGENCY:
            permit, space = desk.permit_of(db, request.permit), desk.space_of(db, request.space)
            hello = (_raw(event.hello), event.at)
            facts = facts_for(office, db, permit, space, lock=request.lock, kind=kind, by=request.by, hello=hello)
        try:
            life = grant_life_s(facts, office.timings.grant_life_s)
            cti, message = office.signer.sign(facts, kind, by.number if by else 0, lock, _raw(event.hello), life)
        except ActionRefused as error:
            desk.refuse_grant(db, office, request, error.failures)
            db.execute(store.command.update().where(pending).values(state="refused", result="CHECKS"))
            return
        now = office.now()
        issued = GrantIssued(
            id=derived_id("GrantIssued", request.id),
            at=now,
            site=request.site,
            cause=request.id,
            lock=request.lock,
            permit=request.permit,
            grant=cti,
            kind=request.kind,
            holder=request.by,
            failures=desk.failing_anyway(db, office, request) if kind is GrantKind.EMERGENCY else [],
        )
        store.add_event(db, issued)
        audit.append(db, now, request.by, "GrantIssued", request.lock, encode(issued))
        row = {"id": cti, "permit": request.permit, "lock": request.lock, "kind": request.kind, "holder": request.by}
        db.execute(store.grant.insert().values(row | {"issued_at": now, "used_at": None}))
        # Answered, not done: no second hello may take the place of the challenge this grant answers, and how it ends is open.
        db.execute(store.command.update().where(pending).values(state="answered"))
        desk.write_grant(db, office, request, cti, message)
