"""What an engine is given, in order, and what the journal keeps to replay it: verified facts, never bytes to be trusted."""

import msgspec

from manway.codec_adv import InstrumentAdvertisement, LockAdvertisement
from manway.codec_gas import InstrumentReport, SetPoint
from manway.commands import AnyCommand
from manway.entities import Frame, LockHello, LockResult, LockState, LogRecord, Plan


class FrameReceived(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A decoded frame of an enrolled instrument."""

    frame: Frame


class FrameHeld(msgspec.Struct, frozen=True, tag=True):
    """Frames that came before their device's birth (brokers keep order within a topic only): kept until they can be read."""

    device: str
    payload: bytes


class ClockBegan(msgspec.Struct, frozen=True, tag=True):
    """When a device whose frames have no clock must have been switched on, as was known at `at` (Unix seconds).

    The rules take nothing from it. A replay of the journal does: without it a backlog would pass for live air.
    """

    device: str
    boot: int
    began_at: float
    at: float


class LockReported(msgspec.Struct, frozen=True, tag=True):
    """A lock's state; a retained copy fills the picture and is no sign of life."""

    lock: str
    state: LockState
    retained: bool = False


class HelloReceived(msgspec.Struct, frozen=True, tag=True):
    """A hello whose signature verified under the enrolled key; `message` is its bytes, `command` who asked for it.

    `repeated`: one as new or newer came before in the same boot of the lock; its challenge may be dead, and it answers nobody.
    """

    lock: str
    hello: LockHello
    message: bytes
    command: str
    repeated: bool = False


class ResultReceived(msgspec.Struct, frozen=True, tag=True):
    """A result whose signature verified, or None when the lock answered with a refusal byte."""

    lock: str
    result: LockResult | None


class LogReceived(msgspec.Struct, frozen=True, tag=True):
    """Records of a lock's log, in order."""

    lock: str
    records: list[LogRecord]


class EnrolmentReceived(msgspec.Struct, frozen=True, tag=True):
    """What a lock that is being enrolled answered; nobody has verified a byte of it yet."""

    lock: str
    message: bytes


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


class InstrumentDescribed(msgspec.Struct, frozen=True, tag=True):
    """What an instrument said of itself over a link: its dates, its battery."""

    device: str
    report: InstrumentReport


class SetPointsRead(msgspec.Struct, frozen=True, tag=True):
    """The alarms an instrument itself is set to."""

    device: str
    points: list[SetPoint]


class InstrumentAdvertised(msgspec.Struct, frozen=True, tag=True):
    """What an instrument broadcast, its mac verified: it may raise an alarm and clears none."""

    device: str
    said: InstrumentAdvertisement


class LockAdvertised(msgspec.Struct, frozen=True, tag=True):
    """What a lock broadcast, its mac verified: it may raise an alarm, clears none and is no report."""

    lock: str
    said: LockAdvertisement


AnyInput = (
    FrameReceived
    | FrameHeld
    | ClockBegan
    | LockReported
    | HelloReceived
    | ResultReceived
    | LogReceived
    | EnrolmentReceived
    | CommandReceived
    | PlanReceived
    | InputRejected
    | HealthReported
    | InstrumentDescribed
    | SetPointsRead
    | InstrumentAdvertised
    | LockAdvertised
)
