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


class OrderEvacuation(Command, frozen=True):
    """Orders everybody out of a space."""

    space: str
    permit: str


class RecordEntry(Command, frozen=True):
    """Counts a person in or out on the attendant's word; `direction` is in or out."""

    space: str
    permit: str
    person: str
    direction: str


class RecordCheckIn(Command, frozen=True):
    """Says "I am here" for the attendant of a permit."""

    permit: str
    space: str


AnyCommand = GreetLock | WriteGrant | AcknowledgeAlarm | ResetAlarm | OrderEvacuation | RecordEntry | RecordCheckIn
