"""What an observer knows of a lock that he cannot look into: challenges, keys and clock as signed and told, never as stored.

Two locks of one issuer, their links, and every message ever signed; `tests/property/test_lock_machine.py` plays the world.
"""

import msgspec

from manway import cose
from manway.entities import Bolt
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey
from tests.kit.locks import FIRMWARE, HOLDER, ISSUER, SITE, seeded_key

ISSUERS = {"issuer": ISSUER, "issuer 2": seeded_key(0xA0), "issuer 3": seeded_key(0xB0)}
SITES = {"site": SITE, "site 2": seeded_key(0xC0)}
SIGNERS: dict[str, SigningKey] = {**ISSUERS, **SITES, "stranger": HOLDER, "firmware": FIRMWARE}
NAMES = {cose.kid_of(key.public_key): name for name, key in SIGNERS.items()} | {bytes(4): ""}
ISSUER_ROLE, SITE_ROLE = 0, 2
LINKS = ("", "ble 1", "ble 2")
_RESCUE = frozenset({GrantKind.EMERGENCY})


class PowerLost(BaseException):
    """The supply breaks while a record is written."""


class CuttableFlash(list[bytes]):
    """A flash in which the n-th write from now loses power; 0 is never."""

    cut_in = 0

    def append(self, record: bytes) -> None:
        self.cut_in -= 1
        if self.cut_in == 0:
            raise PowerLost
        super().append(record)


class Rotation(msgspec.Struct, frozen=True):
    """The next key that a ROTATE_KEY brings."""

    role: int
    generation: int
    name: str


class Signed(msgspec.Struct):
    """A message and what was true of it when it was signed."""

    message: bytes
    at: int
    kind: GrantKind
    signer: str
    challenge: bytes
    life_s: int
    cti: bytes
    rotation: Rotation | None = None
    time: int = 0


class Heard(msgspec.Struct, frozen=True):
    """A challenge as it came, when, and whether its hello said that the door was closed."""

    value: bytes
    at: float
    door_closed: bool


class TrustedKey(msgspec.Struct, frozen=True):
    """A key by its name, and its generation."""

    name: str
    generation: int


class Model(msgspec.Struct):
    """One lock from outside: outstanding challenges by link, the last one heard on each, and what it was told to trust."""

    outstanding: dict[str, Heard] = {}
    heard: dict[str, bytes] = {}
    now: dict[int, TrustedKey] = msgspec.field(
        default_factory=lambda: {ISSUER_ROLE: TrustedKey("issuer", 1), SITE_ROLE: TrustedKey("site", 1)}
    )
    following: dict[int, TrustedKey] = {}
    boot_at: float = 0.0
    clock_ahead_s: float | None = None
    mode_until: float = 0.0
    seen_bolt: Bolt = Bolt.LOCKED

    def reboot(self, at: float) -> None:
        """Forget what the lock forgets."""
        self.outstanding, self.boot_at, self.clock_ahead_s, self.mode_until = {}, at, None, 0.0

    def allows(self, signer: str, kind: GrantKind) -> bool:
        """Say whether this signer may sign this kind for the lock."""
        roles = {role for keys in (self.now, self.following) for role, key in keys.items() if key.name == signer}
        return ISSUER_ROLE in roles or (SITE_ROLE in roles and kind in _RESCUE)

    def takes(self, rotation: Rotation) -> bool:
        """Say whether a rotation brings what is new: a higher generation of its role, and a key that no slot holds."""
        same = [keys[rotation.role].generation for keys in (self.now, self.following) if rotation.role in keys]
        held = {key.name for keys in (self.now, self.following) for key in keys.values()} | {"firmware"}
        return rotation.generation > max(same) and rotation.name not in held

    def used(self, sent: Signed) -> None:
        """Note an accepted message: a next key that was used takes its predecessor's place, a rotation fills the next place."""
        self.outstanding = {}
        for role, key in list(self.following.items()):
            if key.name == sent.signer:
                self.now[role] = self.following.pop(role)

    def rotated(self, rotation: Rotation) -> None:
        """Note that a rotation was carried out."""
        self.following[rotation.role] = TrustedKey(rotation.name, rotation.generation)

    def enrolled(self, issuer: str, site: str) -> None:
        """Note an enrolment: nobody else is trusted any more."""
        self.outstanding, self.following = {}, {}
        self.now = {ISSUER_ROLE: TrustedKey(issuer, 1), SITE_ROLE: TrustedKey(site, 1)}

    def age_ticks(self, link: str, now: float) -> int:
        """Return how old a link's challenge is by the lock's own tick of 100 ms."""
        return int((now - self.boot_at) * 10) - int((self.outstanding[link].at - self.boot_at) * 10)
