"""What an engine is given, in order, and what the journal keeps to replay it: verified facts, never bytes to be trusted."""

import msgspec

from manway.commands import AnyCommand
from manway.entities import Frame, LockHello, LockResult, LockState, LogRecord, Plan


class FrameReceived(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A decoded frame of an enrolled instrument."""

    frame: Frame


class FrameHeld(msgspec.Struct, frozen=True, tag=True):
    """Frames that came before their device's birth (brokers keep order within a topic only): kept until they can be read."""

    device: str
    payload: bytes


class LockReported(msgspec.Struct, frozen=True, tag=True):
    """A lock's state; a retained copy fills the picture and is no sign of life."""

    lock: str
    state: LockState
    retained: bool = False


class HelloReceived(msgspec.Struct, frozen=True, tag=True):
    """A hello whose signature verified under the enrolled key; `message` is its bytes, `command` who asked for it."""

    lock: str
    hello: LockHello
    message: bytes
    command: str


class ResultReceived(msgspec.Struct, frozen=True, tag=True):
    """A result whose signature verified, or None when the lock answered with a refusal byte."""

    lock: str
    result: LockResult | None


class LogReceived(msgspec.Struct, frozen=True, tag=True):
    """Records of a lock's log, in order."""

    lock: str
    records: list[LogRecord]


class CommandReceived(msgspec.Struct, frozen=True, tag=True):
    """A command from the api."""

    command: AnyCommand


class PlanReceived(msgspec.Struct, frozen=True, tag=True):
    """A plan whose signature verified."""

    plan: Plan


class InputRejected(msgspec.Struct, frozen=True, tag=True):
    """Bytes that could not be taken; the journal keeps them so that nothing vanishes. `id` tells twins apart."""

    id: str
    source: str
    reason: str
    first_bytes: str


class HealthReported(msgspec.Struct, frozen=True, tag=True):
    """What the gateway says of itself: the alarm kind `fact` (UPLINK_LOST, STORE_LAGGING …) of `object` holds, or not."""

    fact: str
    object: str
    holds: bool
    grave: bool = False


AnyInput = (
    FrameReceived
    | FrameHeld
    | LockReported
    | HelloReceived
    | ResultReceived
    | LogReceived
    | CommandReceived
    | PlanReceived
    | InputRejected
    | HealthReported
)
