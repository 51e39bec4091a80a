"""The judgement before every signature: what is asked is checked against the records and the gateways' own words, from scratch.

Nothing in a request is believed. It says which permit, which lock, who; whether that permit is approved, that person the
attendant, the air fit and the picture fresh, it finds out itself. So a fault of the api mints no grant (`trust.md` T10).
"""

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
import structlog

from api import auth, store
from api.dialects import RecordsUnavailable
from api.facts import CLOCK_OFF_S, clock_offset_s, facts_for, hello_of
from api.office import Sight
from api.records import Reading
from api.rotations import KeyRotation, agreement_failures
from api.signer.keyring import Keyring
from api.signer.messages import Answer, AnyRequest, Declined, Introduce, Introduction, Signed, SignGrant, SignRotation, SignTime
from manway import codec_ble
from manway.checks import Facts, emergency_failures, evaluate, failures_of, grant_life_s
from manway.cose import is_usable
from manway.entities import Grant, Lock, LockHello, Person, Space
from manway.errors import ActionRefused, DecodeRejected, Failure
from manway.events import LockGreeted
from manway.grant import MAX_LIFE_S, MAX_OPEN_S, SET_TIME_LIFE_S
from manway.ids import GrantKind
from manway.runtime.signing import verify

_UNHEARD_S = 15.0  # (choice) three times the age at which a live reading is none: then a site counts as not heard
_log = structlog.get_logger("signer")


class Signer:
    """Signs for fresh hellos of enrolled locks what the records and the picture allow, and nothing else."""

    def __init__(self, sight: Sight, records: Reading, keys: Keyring, sites: list[str]) -> None:
        self._sight, self._records, self._keys, self._sites = sight, records, keys, sites

    def answer(self, request: AnyRequest) -> Answer:
        """Judge one request; every refusal is an answer."""
        if isinstance(request, Introduce):
            return self._introduction()
        try:
            with self._records.look() as db:
                return self._sign(db, request)
        except ActionRefused as error:
            return Declined(error.failures)
        except (RecordsUnavailable, sa.exc.SQLAlchemyError) as error:
            _log.error("records cannot be read", reason=str(error))
            return Declined([_fail("SIGNER", "signer.records", "signer.use_panel")])

    def _introduction(self) -> Introduction:
        ages = {site: self._sight.pictures.age_s(site, self._sight.now()) for site in self._sites}
        deaf = [site for site, age in ages.items() if age is None or age > _UNHEARD_S]
        return Introduction(self._keys.public_key, self._keys.next_public_key, deaf)

    def _sign(self, db: sa.Connection, request: SignGrant | SignTime | SignRotation) -> Signed:
        lock = store.get(db, Lock, request.lock)
        if lock is None:
            raise ActionRefused([_fail("SIGNER", "signer.lock", "unlock.again", lock=request.lock)])
        hello = _hello_of(lock, request.hello)
        match request:
            case SignGrant():
                return self._grant(db, request, lock, hello)
            case SignTime():
                return self._time(lock, hello, request.hello)
            case SignRotation():
                return self._rotation(db, request, lock, hello)

    # -- grants -------------------------------------------------------------------------------------------------------

    def _grant(self, db: sa.Connection, request: SignGrant, lock: Lock, hello: LockHello | None) -> Signed:
        kind, facts = GrantKind(request.kind), None
        failures = list[Failure]()
        if kind is GrantKind.EMERGENCY:
            failures += self._no_emergency(db, request, lock)
        else:
            facts = self._facts(db, request, kind, hello)
            failures += _failures(facts, lock)
            if hello and self._overtaken(db, lock, hello):
                failures.append(_fail("SIGNER", "signer.old_hello", "unlock.again"))
        failures += [] if hello else [_fail("SIGNER", "signer.hello", "unlock.again")]
        if failures or hello is None:
            raise ActionRefused(failures)
        holder = store.get(db, Person, request.by)
        life_s = grant_life_s(facts, self._sight.timings.grant_life_s)
        return self._signed(hello, kind, life_s, holder=holder.number if holder else 0, max_open_s=_max_open_s(facts))

    def _no_emergency(self, db: sa.Connection, request: SignGrant, lock: Lock) -> list[Failure]:
        """Return why an emergency opening is refused: no person with a live session asks, or the space is not the lock's."""
        authenticated = auth.has_session(db, request.by, self._sight.now())
        space = store.get(db, Space, lock.space)
        if space is None:
            return [_fail("SIGNER", "signer.lock", "unlock.again", lock=lock.device)]
        return emergency_failures(space, lock=lock.device, by=request.by, authenticated=authenticated)

    def _facts(self, db: sa.Connection, request: SignGrant, kind: GrantKind, hello: LockHello | None) -> Facts:
        permit = next(iter(store.permits(db, id=request.permit)), None)
        space = store.get(db, Space, permit.space) if permit else None
        if permit is None or space is None:
            raise ActionRefused([Failure("G01", "MEM Order 13 art. 7", "permit.none", "permit.prepare")])
        heard = (request.hello, self._came_at(db, request)) if hello else None
        return facts_for(self._sight, db, permit, space, lock=request.lock, kind=kind, by=request.by, hello=heard)

    def _came_at(self, db: sa.Connection, request: SignGrant) -> float:
        """Return when a hello came, by the gateway that verified it; now where the records do not tell."""
        told = (event.at for event in _greetings(db, request.lock) if event.hello == request.hello.hex())
        return next(told, self._sight.now())

    def _overtaken(self, db: sa.Connection, lock: Lock, hello: LockHello) -> bool:
        """Say whether the lock has said a newer hello while this one could live: then somebody repeats an old one."""
        now = self._sight.now()
        recent = [event for event in _greetings(db, lock.device) if now - event.at <= MAX_LIFE_S]
        later = [said for event in recent if (said := _hello_of(lock, hello_of(event))) is not None]
        mine = (hello.state.boot, hello.state.tick)
        return any(mine < (x.state.boot, x.state.tick) or hello.state.log_seq < x.state.log_seq for x in later)

    # -- orders about the lock itself ---------------------------------------------------------------------------------

    def _time(self, lock: Lock, hello: LockHello | None, message: bytes) -> Signed:
        if hello is None:
            raise ActionRefused([_fail("SIGNER", "signer.hello", "unlock.again")])
        now = self._sight.now()
        off = clock_offset_s(message, now)
        if off is not None and abs(off) <= CLOCK_OFF_S:
            raise ActionRefused([_fail("SIGNER", "signer.clock_right", "unlock.again", lock=lock.device)])
        return self._signed(hello, GrantKind.SET_TIME, SET_TIME_LIFE_S, time=round(now))

    def _rotation(self, db: sa.Connection, request: SignRotation, lock: Lock, hello: LockHello | None) -> Signed:
        rotation = store.get(db, KeyRotation, request.rotation)
        if rotation is None:
            raise ActionRefused([_fail("SIGNER", "signer.rotation", "keys.propose")])
        failures = agreement_failures(db, rotation.proposed_by, rotation.confirmed_by)
        if lock.device not in {known.device for known in store.every(db, Lock, site=rotation.site)}:
            failures.append(_fail("SIGNER", "signer.lock", "unlock.again", lock=lock.device))
        if not self._may_give(rotation):
            failures.append(_fail("SIGNER", "signer.key", "keys.propose"))
        if hello is None:
            raise ActionRefused([*failures, _fail("SIGNER", "signer.hello", "unlock.again")])
        if failures:
            raise ActionRefused(failures)
        return self._signed(hello, GrantKind.ROTATE_KEY, MAX_LIFE_S, new_key=rotation.new_key)

    def _may_give(self, rotation: KeyRotation) -> bool:
        """Say whether the key is what it is said to be: the own next one, or of a site and no issuer's."""
        own = {self._keys.public_key, self._keys.next_public_key}
        if rotation.role == "issuer":
            return rotation.public_key != b"" and rotation.public_key == self._keys.next_public_key
        return is_usable(rotation.public_key) and rotation.public_key not in own

    def _signed(self, hello: LockHello, kind: GrantKind, life_s: int, *, holder: int = 0, **claims: object) -> Signed:
        cti = self._keys.new_id()
        value = Grant(kind, holder.to_bytes(8, "big"), hello.lock_id, cti, hello.challenge, life_s, **claims)  # type: ignore[arg-type]
        return Signed(cti.hex(), self._keys.sign(value, hello))


def _failures(facts: Facts, lock: Lock) -> list[Failure]:
    failures = failures_of(evaluate(facts))
    if lock.device not in {e.lock for e in facts.space.entrances}:
        failures.append(Failure("SIGNER", "locks.md 1.5", "lock.other_space", "lock.choose_own", {"lock": lock.device}))
    return failures


def _max_open_s(facts: Facts | None) -> int:
    if facts is None or facts.kind not in (GrantKind.PREP, GrantKind.ENTRY):
        return 0
    return max(0, min(MAX_OPEN_S, int(facts.permit.end - facts.now)))


def _hello_of(lock: Lock, message: bytes) -> LockHello | None:
    """Return what a hello says if it is this lock's own and true, else None."""
    with contextlib.suppress(DecodeRejected):
        envelope, hello = codec_ble.open_hello(message)
        if hello.lock_id == lock.lock_id and verify(lock.public_key, envelope.signed, envelope.signature):
            return hello
    return None


def _greetings(db: sa.Connection, lock: str) -> Iterator[LockGreeted]:
    """Yield the newest hellos of a lock that its gateway verified."""
    rows = store.events(db, lambda t: (t.c.subject == lock) & (t.c.type == "LockGreeted"), most=10, newest=True)
    return (event for _, event in rows if isinstance(event, LockGreeted))


def _fail(check: str, key: str, fix: str, **params: str) -> Failure:
    return Failure(check, "trust.md 2", key, fix, dict(params))
