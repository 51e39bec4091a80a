"""The signer: the only holder of the issuer's key; it believes nobody and re-evaluates every check before it signs.

Its interface is final and passes values only, because it becomes a process of its own: a picture of the facts, the lock's
signed hello, and out comes the signed grant or every failing check.
"""

from collections.abc import Callable

from manway import codec_ble, cose, grant
from manway.checks import Facts, evaluate, failures_of
from manway.entities import Grant, Lock
from manway.errors import ActionRefused, DecodeRejected, Failure
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify

MOST_OPEN_S = 86_400
_NO_HELLO = Failure("SIGNER", "locks.md 2", "signer.hello", "unlock.again")


class Signer:
    """Signs grants for fresh hellos of enrolled locks; `random_bytes` makes grant ids."""

    def __init__(self, key: SigningKey, random_bytes: Callable[[int], bytes]) -> None:
        self._key, self.random_bytes = key, random_bytes

    @property
    def public_key(self) -> bytes:
        """What locks are enrolled with."""
        return self._key.public_key

    def sign(
        self, facts: Facts | None, kind: GrantKind, holder: int, lock: Lock, hello_message: bytes, life_s: int
    ) -> tuple[str, bytes]:
        """Return the grant's id (hex) and its signed bytes.

        `facts` is None for EMERGENCY only: one authenticated person suffices, failing checks are recorded, never asked.

        Raises:
            ActionRefused: checks fail, with all of them; or the hello is not this lock's.
        """
        if kind is not GrantKind.EMERGENCY and (failures := _failures(facts, kind, lock)):
            raise ActionRefused(failures)
        try:
            envelope, hello = codec_ble.open_hello(hello_message)
        except DecodeRejected as error:
            raise ActionRefused([_NO_HELLO]) from error
        if hello.lock_id != lock.lock_id or not verify(lock.public_key, envelope.signed, envelope.signature):
            raise ActionRefused([_NO_HELLO])
        cti = self.random_bytes(16)
        max_open_s = 0
        if facts is not None and kind in (GrantKind.PREP, GrantKind.ENTRY):
            max_open_s = max(0, min(MOST_OPEN_S, int(facts.permit.end - facts.now)))
        value = Grant(kind, holder.to_bytes(8, "big"), lock.lock_id, cti, hello.challenge, life_s, max_open_s)
        return cti.hex(), self._key.sign(cose.GRANT_AAD, grant.encode_payload(value))


def _failures(facts: Facts | None, kind: GrantKind, lock: Lock) -> list[Failure]:
    """Return why these facts do not allow this kind of grant for this lock; facts of another kind or lock prove nothing."""
    if facts is None or facts.kind is not kind:
        return [Failure("SIGNER", "README.md 6", "signer.no_facts", "unlock.again")]
    failures = failures_of(evaluate(facts))
    if lock.device != facts.lock or lock.device not in {e.lock for e in facts.space.entrances}:
        failures.append(Failure("SIGNER", "locks.md 1.5", "lock.other_space", "lock.choose_own", {"lock": lock.device}))
    return failures
