"""Orders that the api gives a lock by itself: its clock is set when a hello shows it wrong, its keys as two persons agreed."""

import msgspec
import sqlalchemy as sa

from api import desk, store
from api.facts import CLOCK_OFF_S, clock_offset_s
from api.office import Office, UnlockRequest
from manway.codec_mqtt import decode_command
from manway.commands import GreetLock, WriteGrant
from manway.entities import Lock, Space
from manway.ids import GrantKind, derived_id

ABOUT_OPENING = frozenset({GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT})


def is_clock_wrong(request: UnlockRequest) -> bool:
    """Say whether the hello of an opening shows a clock that must be set: unknown, or more than 2 s off."""
    if GrantKind(request.kind) not in ABOUT_OPENING or not request.hello:
        return False
    off = clock_offset_s(request.hello, request.greeted_at)
    return off is None or abs(off) > CLOCK_OFF_S


def greet(db: sa.Connection, office: Office, lock: Lock, kind: GrantKind, *, by: str = "", rotation: str = "") -> str:
    """Ask a lock for the hello that an order needs; return the order's id.

    A lock has one challenge: one that is being opened is left alone, and "" returned, as for a lock of no space.
    """
    space = store.get(db, Space, lock.space)
    if space is None or _is_busy(db, lock.device, office.now()):
        return ""
    request = UnlockRequest(office.new_id(), "", space.id, space.site, lock.device, int(kind), by, rotation=rotation)
    return desk.greet(db, office, request)


def _is_busy(db: sa.Connection, lock: str, now: float) -> bool:
    """Say whether an opening or an order of this lock is under way: greeted, or with its grant not yet settled."""
    table = store.command
    alive = table.c.state.in_((*desk.WAITING, "answered")) & (table.c.exp >= now)
    bodies = db.execute(sa.select(table.c.body).where(alive)).scalars()
    commands = (decode_command(body, "records") for body in bodies)
    return any(isinstance(one, (GreetLock, WriteGrant)) and one.lock == lock for one in commands)


def clock_order_id(refused: UnlockRequest) -> str:
    """Return the id of the order for a clock that follows a refused opening."""
    return derived_id("clock", refused.id)


def enter_clock_order(db: sa.Connection, office: Office, refused: UnlockRequest) -> UnlockRequest:
    """Keep an order for the clock of a lock whose opening was refused: nobody else needs its challenge, which is still good."""
    now, key = office.now(), clock_order_id(refused)
    order = msgspec.structs.replace(refused, id=key, permit="", kind=int(GrantKind.SET_TIME), by="")
    store.put(db, "UnlockRequest", order.id, order, site=order.site)
    exp = now + desk.COMMAND_LIFE_S
    desk.send(db, GreetLock(id=order.id, site=order.site, at=now, exp=exp, by="", lock=order.lock))
    db.execute(store.command.update().where(store.command.c.id == order.id).values(state="greeted"))
    return order


def after_opening(db: sa.Connection, office: Office, request: UnlockRequest) -> None:
    """Set a clock that was off, but not by enough to refuse, once the opening it was seen at has come to its end."""
    lock = store.get(db, Lock, request.lock)
    if lock is not None and is_clock_wrong(request):
        greet(db, office, lock, GrantKind.SET_TIME)
