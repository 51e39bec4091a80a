"""What an event of a gateway means for permits, grants and commands; done in the transaction that stores the event."""

import msgspec
import sqlalchemy as sa

from api import audit, desk, enrolments, key_changes, lock_orders, store
from api.facts import hello_of
from api.office import Office, UnlockRequest
from manway.catalogue import CATALOGUE
from manway.codec_mqtt import encode
from manway.entities import Lock, PermitState
from manway.events import (
    AlarmRaised,
    AnyEvent,
    CommandRefused,
    EnrolmentAnswered,
    EvacuationOrdered,
    Event,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    LockGreeted,
    LockKeySet,
    LockTimeSet,
    PersonEntered,
    PlanApplied,
    PressAwaited,
    RescueAsked,
    UnlockUnconfirmed,
)
from manway.ids import GrantKind
from manway.permit import PermitSignal


class Meanings:
    """Moves permits, settles commands and keeps hellos for the signer, as the events say."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def take(self, db: sa.Connection, event: AnyEvent) -> None:
        """Do, in the transaction that stores an event, what follows from it."""
        match event:
            case LockGreeted():
                self._greeted(db, event)
                enrolments.heard(db, self._office, event)
            case GrantUsed():
                used = store.grant.c.id == event.grant
                db.execute(store.grant.update().where(used).values(used_at=event.at))
                store.touch(db, event.site)
                audit.append(db, event.at, "lock", "GrantUsed", event.lock, encode(event))
                if event.kind == GrantKind.ENTRY:
                    self._shift(db, event.space, PermitSignal.START, {PermitState.READY}, event)
            case RescueAsked():
                audit.append(db, event.at, event.by, "RescueAsked", event.lock, encode(event))
            case LockTimeSet() | LockKeySet():
                audit.append(db, event.at, "lock", type(event).__name__, event.lock, encode(event))
            case EnrolmentAnswered() | PlanApplied() | CommandRefused():
                enrolments.heard(db, self._office, event)
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
        related = (table.c.root == row) & table.c.state.in_((*desk.WAITING, "answered"))
        request = store.get(db, UnlockRequest, row)
        if db.execute(table.update().where(related).values(state=state, result=result)).rowcount and request is not None:
            self._follow(db, request, event)

    def _follow(self, db: sa.Connection, request: UnlockRequest, event: AnyEvent) -> None:
        """Do what an opening or an order that has come to its end leaves to be done at the lock."""
        if isinstance(event, LockKeySet):
            key_changes.done(db, request.rotation, request.lock)
        kind = GrantKind(request.kind)
        if kind in lock_orders.ABOUT_OPENING:
            lock_orders.after_opening(db, self._office, request)
        if kind is not GrantKind.ROTATE_KEY or isinstance(event, LockKeySet):  # one that was refused waits
            key_changes.go_on(db, self._office, request)

    def _greeted(self, db: sa.Connection, event: LockGreeted) -> None:
        """Keep the hello that an opening or an order waits for; `api.issuing` takes it to the signer."""
        request = store.get(db, UnlockRequest, event.cause)
        if request is None or request.lock != event.lock or store.get(db, Lock, event.lock) is None:
            return
        command = store.command
        waits = (command.c.id == event.cause) & (command.c.state == "pending") & (command.c.exp >= self._office.now())
        if db.execute(command.update().where(waits).values(state="greeted")).rowcount:
            answered = msgspec.structs.replace(request, hello=hello_of(event), greeted_at=event.at)
            store.put(db, "UnlockRequest", request.id, answered, site=request.site)
