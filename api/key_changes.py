"""Changing the keys in the locks: one safety manager proposes it, another confirms, then every lock of the site gets its order.

A lock that is away, or being opened, gets it after its next opening. The signer uses the next key at each lock that has it
(`api.signer.keyring`), so there is no moment at which all must change at once.
"""

import msgspec
import sqlalchemy as sa

from api import audit, desk, lock_orders, store
from api.office import Office, UnlockRequest
from api.rotations import KeyRotation, agreement_failures, next_generation
from manway.codec_mqtt import encode
from manway.entities import Lock, Person, SiteEntry
from manway.errors import ActionRefused
from manway.ids import GrantKind


def propose(db: sa.Connection, office: Office, by: Person, site: str, role: str) -> KeyRotation:
    """Say that a site's locks shall take the next key of a role; it counts once another safety manager has confirmed it."""
    if store.get(db, SiteEntry, site) is None:
        raise desk.NotFound(site)
    key = office.keys.following(role)
    if not key:
        raise desk.refuse("keys.none", "keys.make")
    if any(r.site == site and r.role == role and r.public_key == key and r.confirmed_by for r in store.every(db, KeyRotation)):
        raise desk.refuse("keys.same", "keys.promote")
    # An emergency key is taken into use by its first rescue, which may be years away. Another one before that would take the
    # place of the very key that the gateway holds.
    if role == "emergency" and any(r.site == site and r.role == role and r.confirmed_by for r in store.every(db, KeyRotation)):
        raise desk.refuse("keys.unused", "enrolment.anew")
    now = office.now()
    wanted = KeyRotation(office.new_id(), site, role, next_generation(db, role), key, by.id, now)
    store.put(db, "KeyRotation", wanted.id, wanted, site=site)
    audit.append(db, now, by.id, "KeyRotationProposed", site, encode(wanted))
    return wanted


def confirm(db: sa.Connection, office: Office, by: Person, key: str) -> KeyRotation:
    """Agree as a second safety manager; every lock of the site is then asked for the hello that its order needs."""
    wanted = store.get(db, KeyRotation, key)
    if wanted is None:
        raise desk.NotFound(key)
    if wanted.confirmed_by:
        raise desk.refuse("keys.confirmed", "enrolment.look_at_state")
    if failures := agreement_failures(db, wanted.proposed_by, by.id):
        raise ActionRefused(failures)
    now = office.now()
    wanted = msgspec.structs.replace(wanted, confirmed_by=by.id, confirmed_at=now)
    store.put(db, "KeyRotation", wanted.id, wanted, site=wanted.site)
    audit.append(db, now, by.id, "KeyRotationConfirmed", wanted.site, encode(wanted))
    for lock in store.every(db, Lock, site=wanted.site):
        lock_orders.greet(db, office, lock, GrantKind.ROTATE_KEY, by=by.id, rotation=wanted.id)
    return wanted


def waiting_for(db: sa.Connection, site: str, lock: str) -> KeyRotation | None:
    """Return a confirmed rotation that a lock has not taken yet; of each role the newest, for none takes an older key back."""
    known = sorted(store.every(db, KeyRotation, site=site), key=lambda r: r.generation)
    newest = {r.role: r for r in known if r.confirmed_by}
    return next((r for r in newest.values() if lock not in r.done), None)


def go_on(db: sa.Connection, office: Office, request: UnlockRequest) -> None:
    """Give a lock that has just been reached the key it has not taken yet."""
    wanted, lock = waiting_for(db, request.site, request.lock), store.get(db, Lock, request.lock)
    if wanted is not None and lock is not None:
        lock_orders.greet(db, office, lock, GrantKind.ROTATE_KEY, by=wanted.confirmed_by, rotation=wanted.id)


def done(db: sa.Connection, rotation: str, lock: str) -> None:
    """Note that a lock has said, signed, that it keeps the key of a rotation."""
    known = store.get(db, KeyRotation, rotation)
    if known is not None and lock not in known.done:
        store.put(db, "KeyRotation", rotation, msgspec.structs.replace(known, done=[*known.done, lock]), site=known.site)
