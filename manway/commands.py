"""Imperative requests from a person, through the api, to a gateway's engine.

A command is *pending* until an event whose `cause` is its id comes back; past `exp` it is not executed. `by` is a person id.
"""

import msgspec


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


AnyCommand = (
    GreetLock
    | WriteGrant
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
