"""Locks on their way into the records and keys on their way into locks, as people read them; no key and no secret among it."""

import sqlalchemy as sa

from api import store
from api.enrolments import LockEnrolment
from api.rotations import KeyRotation
from api.texts import text
from api.views.view import Row
from manway.entities import Lock


def enrolment_row(wanted: LockEnrolment, lang: str) -> Row:
    """Return an enrolment: who is to agree or to act next, or why it failed."""
    why = text(lang, f"enrolment.{wanted.failure.removeprefix('enrolment.')}") if wanted.failure else ""
    return {
        "id": wanted.id,
        "space": wanted.space,
        "entrance": wanted.entrance,
        "device": wanted.device,
        "address": wanted.address,
        "state": wanted.state,
        "state_text": text(lang, f"enrolment_state.{wanted.state}"),
        "failure": wanted.failure,
        "why": why,
        "proposed_by": wanted.proposed_by,
        "confirmed_by": wanted.confirmed_by,
    }


def rotation_row(db: sa.Connection, rotation: KeyRotation) -> Row:
    """Return a change of keys, and which locks of its site have not taken it yet."""
    known = [lock.device for lock in store.every(db, Lock, site=rotation.site)]
    return {
        "id": rotation.id,
        "site": rotation.site,
        "role": rotation.role,
        "generation": rotation.generation,
        "kid": rotation.kid,
        "proposed_by": rotation.proposed_by,
        "confirmed_by": rotation.confirmed_by,
        "done": rotation.done,
        "missing": [lock for lock in known if lock not in rotation.done],
    }
