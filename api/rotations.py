"""What two persons agreed on about the keys in a site's locks; the signer reads it for itself before it signs an order."""

import msgspec
import sqlalchemy as sa

from api import store
from manway.cose import kid_of
from manway.entities import Person
from manway.errors import Failure
from manway.grant import NewKey, encode_new_key
from manway.ids import Role

ROLES = {"issuer": 0, "emergency": 2}
"""Whose key is replaced -> its role on the wire (`locks.md` §1.1)."""
FIRST_GENERATION = 1
"""(choice) What a lock is enrolled with; every rotation of a role counts up from it, over all sites."""


class KeyRotation(msgspec.Struct, frozen=True):
    """A site's locks shall take `public_key` as the next one of `role`: issuer or emergency. One proposes it, another confirms.

    `done` are the locks that said so themselves, in signed results. Times in Unix seconds.
    """

    id: str
    site: str
    role: str
    generation: int
    public_key: bytes
    proposed_by: str
    proposed_at: float
    confirmed_by: str = ""
    confirmed_at: float = 0.0
    done: list[str] = []

    @property
    def new_key(self) -> bytes:
        """The claim of a ROTATE_KEY order (`locks.md` §1.1)."""
        return encode_new_key(NewKey(ROLES[self.role], self.generation, self.public_key))

    @property
    def kid(self) -> str:
        """The 4 bytes, in hex, by which messages under the key name it."""
        return kid_of(self.public_key).hex()


def next_generation(db: sa.Connection, role: str) -> int:
    """Return the number of the next rotation of a role."""
    return max((r.generation for r in store.every(db, KeyRotation) if r.role == role), default=FIRST_GENERATION) + 1


def agreement_failures(db: sa.Connection, proposed_by: str, confirmed_by: str) -> list[Failure]:
    """Return why a thing that takes two safety managers is not agreed on (`trust.md` §5)."""
    failures = []
    if not proposed_by or not confirmed_by or confirmed_by == proposed_by:
        failures.append(Failure("TWO_PERSONS", "trust.md 5", "two_persons.one", "two_persons.ask_another"))
    for person in sorted({proposed_by, confirmed_by} - {""}):
        known = store.get(db, Person, person)
        if known is None or Role.MANAGER.value not in known.roles:
            failures.append(
                Failure("TWO_PERSONS", "trust.md 5", "two_persons.no_right", "two_persons.ask_another", {"person": person})
            )
    return failures
