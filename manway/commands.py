"""Imperative requests from a person, through the api, to a gateway's engine.

A command is *pending* until an event whose `cause` is its id comes back; past `exp` it is not executed. `by` is a person id.
"""

from typing import Annotated

import msgspec

RadioAddress = Annotated[str, msgspec.Meta(pattern=r"^(|([0-9A-F]{2}:){5}[0-9A-F]{2})$")]
Passkey = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{6})?$")]


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The envelope of every command; times in Unix seconds."""

    id: str
    site: str
    at: float
    exp: float
    by: str


class GreetLock(Command, frozen=True):
    """Asks the gateway to connect to one lock and return its signed hello."""

    lock: str


class WriteGrant(Command, frozen=True):
    """Asks the gateway to write one signed grant or order, `message` in hex, on that lock's link."""

    lock: str
    space: str
    grant: str
    kind: int
    message: str


class RelayEnrolment(Command, frozen=True):
    """Asks the gateway to give `message` (hex) to a lock being enrolled, which no plan names yet, and tell its answer.

    Over Bluetooth at `address`, after pairing with the `passkey` printed inside its case; either may be empty.
    """

    lock: str
    message: str
    address: RadioAddress = ""
    passkey: Passkey = ""


class AcknowledgeAlarm(Command, frozen=True):
    """Says "seen" of one alarm episode."""

    alarm: str


class ResetAlarm(Command, frozen=True):
    """Closes one alarm episode whose condition has returned; `verdict` is real, false or test."""

    alarm: str
    reason: str
    verdict: str


class ShelveAlarm(Command, frozen=True):
    """Asks for quiet about one P3 or P4 alarm until `until` (Unix seconds, at most 30 minutes on), with a reason."""

    alarm: str
    reason: str
    until: float


class UnshelveAlarm(Command, frozen=True):
    """Ends a shelving before its time."""

    alarm: str


class OrderEvacuation(Command, frozen=True):
    """Orders everybody out of a space."""

    space: str
    permit: str


class RecordEntry(Command, frozen=True):
    """Counts a person in or out; `direction` is in or out, `source` who saw it: attendant, tag or scan."""

    space: str
    permit: str
    person: str
    direction: str
    source: str = "attendant"


class RecordCount(Command, frozen=True):
    """Says who is inside after everybody was counted again, by name; it ends an unknown count and a disagreement."""

    space: str
    permit: str
    people: list[str]


class RecordCheckIn(Command, frozen=True):
    """Says "I am here" for the attendant of a permit, or, with `person`, that this entrant has answered."""

    permit: str
    space: str
    person: str = ""


class RaiseSos(Command, frozen=True):
    """Calls for help for a person in a space; `person` may be the caller."""

    space: str
    permit: str
    person: str


class OpenForRescue(Command, frozen=True):
    """Asks the gateway itself, at its own page, to open one lock for a rescue; `by` is a typed name, `coded` the right code.

    It never comes over a wire: no broker and no api can ask for it.
    """

    lock: str
    space: str
    coded: bool


SentCommand = (
    GreetLock
    | WriteGrant
    | RelayEnrolment
    | AcknowledgeAlarm
    | ResetAlarm
    | ShelveAlarm
    | UnshelveAlarm
    | OrderEvacuation
    | RecordEntry
    | RecordCount
    | RecordCheckIn
    | RaiseSos
)
"""What the api may send."""
AnyCommand = SentCommand | OpenForRescue
"""What an engine obeys: the api's commands, and the gateway's own."""
