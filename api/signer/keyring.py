"""The issuer's keys: the current one, and the next one that locks are given beforehand."""

from collections.abc import Callable
from pathlib import Path

from manway.entities import Grant, LockHello
from manway.grant import GRANT_AAD, encode_payload
from manway.runtime.signing import SigningKey, load_key

CURRENT, NEXT = "issuer.key", "issuer-next.key"


class Keyring:
    """Signs under the newest of the issuer's keys that a lock knows, so that a rotation needs no moment at which all change.

    The first message under the next key makes the lock forget the old one (`locks.md` §3.1).
    """

    def __init__(self, current: SigningKey, following: SigningKey | None, random_bytes: Callable[[int], bytes]) -> None:
        """Hold the keys; `random_bytes` makes the ids of what is signed."""
        self._current, self._next, self._random = current, following, random_bytes

    @property
    def public_key(self) -> bytes:
        """What locks are enrolled with."""
        return self._current.public_key

    @property
    def next_public_key(self) -> bytes:
        """What a rotation gives to locks; b"" when none is prepared."""
        return self._next.public_key if self._next else b""

    def new_id(self) -> bytes:
        """Return the 16 bytes that name a grant."""
        return self._random(16)

    def sign(self, claims: Grant, hello: LockHello) -> bytes:
        """Return a signed grant or order for the lock that said this hello."""
        knows_next = self._next is not None and self._next.kid in hello.kids
        key = self._next if self._next is not None and knows_next else self._current
        return key.sign(GRANT_AAD, encode_payload(claims))


def load_keyring(keys: Path, random_bytes: Callable[[int], bytes]) -> Keyring:
    """Read the issuer's keys of a folder, which belong to the signer alone; without a next one locks keep the present one.

    Raises:
        ProfileInvalid: the current key is missing, or one of them is not a key, or is everybody's to read.
    """
    following = load_key(keys / NEXT) if (keys / NEXT).exists() else None
    return Keyring(load_key(keys / CURRENT), following, random_bytes)
