"""How a lock gets into the records: two safety managers agree, somebody at its open case types the secret printed inside.

Nothing is believed before it is proven (`locks.md` §3.2): the lock's answer must be signed by the key it showed, for the nonce
it showed; only then does it enter the plan, and only its hello, verified by the gateway under that key, makes it enrolled. The
secret is kept in memory between its typing and its use, and nowhere else.
"""

import msgspec
import sqlalchemy as sa

from api import audit, desk, store
from api.desk import refuse
from api.office import Office
from api.rotations import agreement_failures
from manway import codec_ble, enrolment
from manway.codec_ble import lock_id_of, open_result
from manway.codec_mqtt import encode
from manway.commands import GreetLock, RelayEnrolment
from manway.cose import kid_of
from manway.entities import Entrance, Instrument, Lock, Person, ResultCode, Space
from manway.errors import ActionRefused, DecodeRejected
from manway.events import CommandRefused, EnrolmentAnswered, LockEnrolled, LockGreeted, PlanApplied
from manway.ids import derived_id
from manway.permit import HOLDING
from manway.runtime.signing import verify

_KEY_BYTES = 32
_LIFE_S = 10.0  # (choice) of each message to the lock; its mode lasts 120 s
_GREET_LIFE_S = 30.0
_OVER = ("done", "withdrawn")
_NOT_BROUGHT = {enrolment.NOT_PAIRED: "enrolment.not_paired", enrolment.NOT_REACHED: "enrolment.not_reached"}


class LockEnrolment(msgspec.Struct, frozen=True):
    """A lock on its way into the records: `device` shall bar `entrance` of `space`, over Bluetooth where it has an `address`.

    `state` is proposed, confirmed, asked (what it is), given (its keys), answered (it has them), done, withdrawn, or failed, as
    `failure` says. `command` is what the lock has still to answer, `sent_at` when it was sent. Times in Unix seconds.
    """

    id: str
    site: str
    space: str
    entrance: str
    device: str
    proposed_by: str
    proposed_at: float
    address: str = ""
    state: str = "proposed"
    confirmed_by: str = ""
    confirmed_at: float = 0.0
    failure: str = ""
    command: str = ""
    sent_at: float = 0.0
    typed_by: str = ""
    public_key: bytes = b""
    nonce: bytes = b""
    advertisement_key: bytes = b""


def propose(
    db: sa.Connection, office: Office, by: Person, space: str, entrance: str, device: str, *, address: str = ""
) -> LockEnrolment:
    """Say that a lock shall bar an entrance; it counts once another safety manager has confirmed it."""
    place = desk.space_of(db, space)
    if entrance not in {e.id for e in place.entrances}:
        raise refuse("enrolment.entrance", "enrolment.choose_entrance", "locks.md 3.2", entrance=entrance)
    if other := _elsewhere(db, device, place.id):
        raise refuse("enrolment.lock_elsewhere", "enrolment.look_at_device", "locks.md 3.2", device=device, space=other)
    if address and (other := _at(db, address)) not in ("", device):
        raise refuse("enrolment.address_taken", "enrolment.look_at_address", address=address, device=other)
    key, now = office.new_id(), office.now()
    wanted = LockEnrolment(key, place.site, place.id, entrance, device, by.id, now, address=address)
    _keep(db, wanted)
    audit.append(db, now, by.id, "LockEnrolmentProposed", device, encode(wanted))
    return wanted


def confirm(db: sa.Connection, office: Office, by: Person, key: str) -> LockEnrolment:
    """Agree as a second safety manager."""
    wanted = of(db, key)
    if wanted.state != "proposed":
        raise refuse("enrolment.wrong_state", "enrolment.look_at_state", state=wanted.state)
    if failures := agreement_failures(db, wanted.proposed_by, by.id):
        raise ActionRefused(failures)
    now = office.now()
    wanted = msgspec.structs.replace(wanted, state="confirmed", confirmed_by=by.id, confirmed_at=now)
    _keep(db, wanted)
    audit.append(db, now, by.id, "LockEnrolmentConfirmed", wanted.device, encode(wanted))
    return wanted


def withdraw(db: sa.Connection, office: Office, by: Person, key: str) -> LockEnrolment:
    """Give it up, as for a mistyped name; not once the lock has its keys, for then it is in the plan."""
    wanted = of(db, key)
    if wanted.state in ("answered", *_OVER):
        raise refuse("enrolment.wrong_state", "enrolment.look_at_state", state=wanted.state)
    office.enrolment_secrets.pop(key, b"")
    wanted = msgspec.structs.replace(wanted, state="withdrawn", command="")
    _keep(db, wanted)
    audit.append(db, office.now(), by.id, "LockEnrolmentWithdrawn", wanted.device, encode(wanted))
    return wanted


def _elsewhere(db: sa.Connection, device: str, space: str) -> str:
    """Return the other space whose entrance a device bars, "" for none: taken from it, nobody could open that any more."""
    known = store.get(db, Lock, device)
    return "" if known is None or known.space == space else known.space


def _at(db: sa.Connection, address: str) -> str:
    """Return the device that the ledger has at a Bluetooth address, "" for none."""
    known: list[Lock | Instrument] = [*store.every(db, Lock), *store.every(db, Instrument)]
    return next((one.device for one in known if one.address.upper() == address), "")


def present(db: sa.Connection, office: Office, by: Person, key: str, secret: bytes, passkey: str = "") -> LockEnrolment:
    """Take the secret of an open lock in its enrolment mode, and ask the lock what it is; again after every failure.

    `passkey`, six digits beside the secret, is for a lock with an address: its gateway pairs with it before it asks.
    """
    wanted = of(db, key)
    if wanted.state in ("proposed", *_OVER):
        raise refuse("enrolment.wrong_state", "enrolment.look_at_state", state=wanted.state)
    if bool(wanted.address) != bool(passkey):
        raise refuse("enrolment.passkey", "enrolment.read_passkey", "locks.md 3.2")
    if not (office.keys.issuer and office.keys.site):
        raise refuse("enrolment.no_keys", "keys.make")
    if any(p.state in HOLDING for p in store.permits(db, space=wanted.space)):
        raise refuse("enrolment.space_held", "permit.close_other", "locks.md 3.2", space=wanted.space)
    office.enrolment_secrets[key] = secret
    wanted = msgspec.structs.replace(wanted, state="asked", failure="", typed_by=by.id)
    return _relay(db, office, wanted, enrolment.ENROL_REQUEST, passkey)


def of(db: sa.Connection, key: str) -> LockEnrolment:
    """Return an enrolment by id, or raise NotFound."""
    found = store.get(db, LockEnrolment, key)
    if found is None:
        raise desk.NotFound(key)
    return found


def _keep(db: sa.Connection, wanted: LockEnrolment) -> None:
    store.put(db, "LockEnrolment", wanted.id, wanted, site=wanted.site)


def _relay(db: sa.Connection, office: Office, wanted: LockEnrolment, message: bytes, passkey: str = "") -> LockEnrolment:
    """Send the lock a message; its answer comes back as `EnrolmentAnswered`."""
    now, key = office.now(), office.new_id()
    command = RelayEnrolment(
        id=key,
        site=wanted.site,
        at=now,
        exp=now + _LIFE_S,
        by=wanted.typed_by,
        lock=wanted.device,
        message=message.hex(),
        address=wanted.address,
        passkey=passkey,
    )
    desk.send(db, command, root=key)
    wanted = msgspec.structs.replace(wanted, command=key, sent_at=now)
    _keep(db, wanted)
    return wanted


# -- what comes back ------------------------------------------------------------------------------------------------------


def heard(db: sa.Connection, office: Office, event: EnrolmentAnswered | LockGreeted | PlanApplied | CommandRefused) -> None:
    """Take an enrolment one step further by an event, in the transaction that stores it."""
    under_way = [e for e in store.every(db, LockEnrolment, site=event.site) if e.state in ("asked", "given", "answered")]
    for wanted in under_way:
        mine = event.cause == wanted.command
        match event:
            case EnrolmentAnswered() if mine and event.lock == wanted.device:
                _answered(db, office, wanted, bytes.fromhex(event.message))
            case PlanApplied() if wanted.state == "answered":
                _greet(db, office, wanted)  # its plan may name the lock now; a hello asked for too early is refused
            case LockGreeted() if mine and wanted.state == "answered":
                _greeted(db, office, wanted, event)
            case CommandRefused() if mine and wanted.state != "answered":
                _end_badly(db, wanted, event.reason)
            case _:
                pass


def _answered(db: sa.Connection, office: Office, wanted: LockEnrolment, message: bytes) -> None:
    if message in _NOT_BROUGHT:
        office.enrolment_secrets.pop(wanted.id, b"")
        _end_badly(db, wanted, _NOT_BROUGHT[message])
    elif wanted.state == "asked":
        _give(db, office, wanted, message)
    elif wanted.state == "given":
        _proven(db, office, wanted, message)


def _give(db: sa.Connection, office: Office, wanted: LockEnrolment, message: bytes) -> None:
    """Make the message for the lock that has shown itself: keys, and the proof that somebody stands at its open case."""
    secret = office.enrolment_secrets.pop(wanted.id, b"")
    try:
        info = enrolment.decode_info(message)
        given = enrolment.Enrolment(
            lock_id=lock_id_of(info.public_key),
            nonce=info.nonce,
            issuer_key=office.keys.issuer,
            site_key=office.keys.site,
            advertisement_key=office.random_bytes(_KEY_BYTES),
            time=round(office.now()),
        )
    except DecodeRejected:
        _end_badly(db, wanted, "enrolment.unreadable")
        return
    if not info.in_mode or not secret:
        _end_badly(db, wanted, "enrolment.not_in_mode" if secret else "enrolment.secret_gone")
        return
    shown = {"public_key": info.public_key, "nonce": info.nonce, "advertisement_key": given.advertisement_key}
    wanted = msgspec.structs.replace(wanted, state="given", **shown)
    _relay(db, office, wanted, enrolment.encode(given, secret))


def _proven(db: sa.Connection, office: Office, wanted: LockEnrolment, message: bytes) -> None:
    """Believe the lock that signed, for its own nonce, that it took the keys: it enters the plan, and must greet once more."""
    try:
        envelope, result = open_result(message)
    except DecodeRejected:
        _end_badly(db, wanted, "enrolment.refused")  # one byte: a wrong secret, or its mode has ended
        return
    signed = verify(wanted.public_key, envelope.signed, envelope.signature)
    if not signed or (result.code, result.cti) != (ResultCode.ENROLLED, wanted.nonce):
        _end_badly(db, wanted, "enrolment.not_proven")
        return
    space = store.get(db, Space, wanted.space)
    if space is None or wanted.entrance not in {e.id for e in space.entrances}:
        _end_badly(db, wanted, "enrolment.entrance_gone")
        return
    if _elsewhere(db, wanted.device, space.id):  # enrolled there since it was proposed here
        _end_badly(db, wanted, "enrolment.lock_elsewhere")
        return
    entrances = [Entrance(e.id, wanted.device) if e.id == wanted.entrance else e for e in space.entrances]
    store.put(db, "Space", space.id, msgspec.structs.replace(space, entrances=entrances), site=space.site)
    lock = Lock(
        device=wanted.device,
        lock_id=lock_id_of(wanted.public_key),
        public_key=wanted.public_key,
        space=space.id,
        address=wanted.address,
        advertisement_key=wanted.advertisement_key,
    )
    store.put(db, "Lock", lock.device, lock, site=space.site)
    _keep(db, msgspec.structs.replace(wanted, state="answered", command="", sent_at=office.now()))


def _greet(db: sa.Connection, office: Office, wanted: LockEnrolment) -> None:
    now, key = office.now(), office.new_id()
    named = {"site": wanted.site, "at": now, "exp": now + _GREET_LIFE_S, "by": wanted.typed_by}
    desk.send(db, GreetLock(id=key, lock=wanted.device, **named))  # type: ignore[arg-type]
    _keep(db, msgspec.structs.replace(wanted, command=key))


def _greeted(db: sa.Connection, office: Office, wanted: LockEnrolment, event: LockGreeted) -> None:
    """End well: the gateway verified a fresh hello of the lock under its new key, and so do we."""
    try:
        envelope, hello = codec_ble.open_hello(bytes.fromhex(event.hello))
    except (DecodeRejected, ValueError):
        return
    if kid_of(office.keys.issuer) not in hello.kids or not verify(wanted.public_key, envelope.signed, envelope.signature):
        _end_badly(db, wanted, "enrolment.not_proven")
        return
    done = LockEnrolled(
        id=derived_id("LockEnrolled", wanted.id),
        at=event.at,
        site=wanted.site,
        cause=wanted.id,
        lock=wanted.device,
        space=wanted.space,
        by=wanted.typed_by,
    )
    store.add_event(db, done)
    audit.append(db, office.now(), wanted.typed_by, "LockEnrolled", wanted.device, encode(done))
    _keep(db, msgspec.structs.replace(wanted, state="done"))


def _end_badly(db: sa.Connection, wanted: LockEnrolment, reason: str) -> None:
    _keep(db, msgspec.structs.replace(wanted, state="failed", failure=reason, command=""))
