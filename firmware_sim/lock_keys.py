"""The key slots of a lock: whose signature means what, and how a next key takes its predecessor's place (`locks.md` §3.1).

Theory: what a key may sign is a property of the slot it lies in, never of the message. A *next* key has its
predecessor's rights from the moment it lies in its slot; the first message accepted under it moves it up and erases the
predecessor, so that a rotation nobody could use is never the end of the old key. All of it is rows of the tables below.
"""

import enum

import msgspec

from manway import cose
from manway.grant import NewKey
from manway.ids import GrantKind

FIRST_GENERATION = 1  # what an enrolment gives; a rotation's must be higher (choice)


class Slot(enum.IntEnum):
    """The places for keys in a lock's flash; the last two are called F0 and F1."""

    ISSUER = 0
    NEXT_ISSUER = 1
    SITE = 2
    NEXT_SITE = 3
    FIRMWARE = 4
    NEXT_FIRMWARE = 5


_EVERY, _RESCUE, _NONE = frozenset(GrantKind), frozenset({GrantKind.EMERGENCY}), frozenset[GrantKind]()

KINDS: dict[Slot, frozenset[GrantKind]] = {
    Slot.ISSUER: _EVERY,
    Slot.NEXT_ISSUER: _EVERY,
    Slot.SITE: _RESCUE,
    Slot.NEXT_SITE: _RESCUE,
    Slot.FIRMWARE: _NONE,
    Slot.NEXT_FIRMWARE: _NONE,
}

# Where a ROTATE_KEY of a role puts its key, and whose place a next key takes once it was used.
FILLS = {0: Slot.NEXT_ISSUER, 2: Slot.NEXT_SITE}
SUCCEEDS = {Slot.NEXT_ISSUER: Slot.ISSUER, Slot.NEXT_SITE: Slot.SITE, Slot.NEXT_FIRMWARE: Slot.FIRMWARE}


class Key(msgspec.Struct, frozen=True):
    """A public key in its slot."""

    public_key: bytes
    generation: int = FIRST_GENERATION

    @property
    def kid(self) -> bytes:
        """The 4 bytes by which messages name it."""
        return cose.kid_of(self.public_key)


class Keys(msgspec.Struct):
    """The slots that are filled. A lock from the factory has the firmware key at most, and opens for nobody."""

    held: dict[Slot, Key] = {}

    def find(self, kid: bytes) -> Slot | None:
        """Return the slot of the key that a message names."""
        return next((slot for slot, key in self.held.items() if key.kid == kid), None)

    def kid(self, slot: Slot) -> bytes:
        """Return the name of a slot's key, zeros when it is empty."""
        key = self.held.get(slot)
        return key.kid if key else bytes(4)

    def generation(self, slot: Slot) -> int:
        """Return the generation of a slot's key, 0 when it is empty."""
        return self.held[slot].generation if slot in self.held else 0

    def enrol(self, issuer_key: bytes, site_key: bytes) -> None:
        """Trust a new issuer and a new site, and nobody that an earlier enrolment or rotation named."""
        firmware = {slot: key for slot, key in self.held.items() if not KINDS[slot]}
        self.held = {Slot.ISSUER: Key(issuer_key), Slot.SITE: Key(site_key), **firmware}

    def takes(self, new: NewKey) -> bool:
        """Return whether a rotation may fill its slot: its generation rises, and no slot holds a key of this name."""
        slot = FILLS[new.role]
        newest = max(self.generation(slot), self.generation(SUCCEEDS[slot]))
        return new.generation > newest and self.find(cose.kid_of(new.public_key)) is None

    def fill(self, new: NewKey) -> Slot:
        """Put a new key in its *next* slot."""
        slot = FILLS[new.role]
        self.held[slot] = Key(new.public_key, new.generation)
        return slot

    def promote(self, slot: Slot) -> Slot | None:
        """After a message accepted under `slot`: if it is a *next* slot, move its key up and return where it lies now."""
        place = SUCCEEDS.get(slot)
        if place is not None:
            self.held[place] = self.held.pop(slot)
        return place
