"""Accounts, passwords and sessions: argon2id with fixed cost, opaque tokens of which only the hash is stored."""

import hashlib
import secrets
import threading
from collections import OrderedDict

import msgspec
import sqlalchemy as sa
from pwdlib.hashers.argon2 import Argon2Hasher

from api import store
from manway.entities import Person

# m = 19 MiB, t = 2, p = 1 (OWASP's argon2id minimum; 38 ms here); at most two at once, or 20 logins would take 400 MB.
_hasher = Argon2Hasher(memory_cost=19_456, time_cost=2, parallelism=1)
_two_at_once = threading.Semaphore(2)
_NOBODY = _hasher.hash(secrets.token_hex(16))

IDLE_S = 30 * 60.0  # an open stream is no activity
LONG_IDLE_S = 12 * 3600.0  # a wall on watch and the attendant's phone
_LONG = frozenset({"attendant", "manager"})
_QUICK_TRIES = 5
_LONGEST_DELAY_S = 60.0
_FORGOTTEN_AFTER_S = 15 * 60.0  # (choice) then five quick tries again: fewer than the one a minute they would have had
# (choice) Whoever tries names at random to push one out needs as many tries as this in between: at two hashes at once of 38 ms
# each that is three minutes, three times the longest delay it would undo.
_MOST_ACCOUNTS = 10_000


class Account(msgspec.Struct, frozen=True):
    """A login: account name -> person, with the password's argon2id hash."""

    name: str
    person: str
    password_hash: str


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password."""
    with _two_at_once:
        return _hasher.hash(password)


class Guesses:
    """Slows guessing per account: five quick tries, then 1 to 60 s between two; never a lock-out.

    Remembers the accounts tried last, in the order of their last try, and no more of them than memory is meant for.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, account: str, now: float) -> float:
        """Return how long this account must wait before the next try."""
        count, at = self._failed.get(account, (0, 0.0))
        delay = 0.0 if count < _QUICK_TRIES else min(2.0 ** min(count - _QUICK_TRIES, 10), _LONGEST_DELAY_S)
        return max(0.0, at + delay - now)

    def note(self, account: str, now: float, *, right: bool) -> None:
        """Remember how a try went."""
        with self._lock:
            count = self._failed.pop(account, (0, 0.0))[0]
            if not right:
                self._failed[account] = (count + 1, now)
            while self._failed and self._is_past(now):
                self._failed.popitem(last=False)

    def _is_past(self, now: float) -> bool:
        """Say whether the account that was tried longest ago is to be forgotten."""
        _, at = next(iter(self._failed.values()))
        return len(self._failed) > _MOST_ACCOUNTS or now - at > _FORGOTTEN_AFTER_S


def sign_in(known: Account | None, password: str) -> str | None:
    """Return the person of an account with its right password; the same time passes for unknown accounts (None)."""
    with _two_at_once:
        right = _hasher.verify(password, known.password_hash if known else _NOBODY)
    return known.person if known and right else None


def open_session(db: sa.Connection, person: str, now: float) -> str:
    """Return a new session's token (256 bit); the database keeps its hash only."""
    token = secrets.token_urlsafe(32)
    db.execute(store.session.insert().values(token_hash=_hash(token), person=person, made_at=now, seen_at=now))
    return token


def close_session(db: sa.Connection, token: str) -> None:
    """End a session."""
    db.execute(store.session.delete().where(store.session.c.token_hash == _hash(token)))


def person_of(db: sa.Connection, token: str, now: float) -> Person | None:
    """Return whose session a token is, or None when it is unknown or idle too long."""
    if not token:
        return None
    row = db.execute(sa.select(store.session).where(store.session.c.token_hash == _hash(token))).one_or_none()
    person = store.get(db, Person, row.person) if row is not None else None
    if row is None or person is None:
        return None
    return person if now - row.seen_at <= _idle_s(person) else None


def has_session(db: sa.Connection, person: str, now: float) -> bool:
    """Say whether a person is signed in somewhere: the token lies on the device that signed in, nowhere else."""
    known = store.get(db, Person, person)
    if known is None:
        return False
    mine = store.session.c.person == person
    newest = db.execute(sa.select(sa.func.max(store.session.c.seen_at)).where(mine)).scalar()
    return newest is not None and now - newest <= _idle_s(known)


def _idle_s(person: Person) -> float:
    return LONG_IDLE_S if _LONG & set(person.roles) else IDLE_S


def touch(db: sa.Connection, token: str, now: float) -> None:
    """Note that a person acted."""
    db.execute(store.session.update().where(store.session.c.token_hash == _hash(token)).values(seen_at=now))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
