"""What a virtual lock remembers: its messages, its body, which outlives power, and its RAM, which does not."""

import msgspec

from firmware_sim.lock_keys import Keys, Slot
from manway.entities import Bolt, Door, Grant, LockFlag, LockState, LogEvent
from manway.firmware_manifest import Manifest

NEVER = float("-inf")
NEVER_AGAIN = float("inf")
BROKER = ""  # the link of the lock's broker session


class Publish(msgspec.Struct, frozen=True):
    """One message of the lock: for `{root}/up/{name}` (hello, result, state, log, logctl, enrol).

    `link` is the link that asked, "" for the broker session; a state, always "", is for whoever listens.
    """

    name: str
    payload: bytes
    link: str = BROKER


class Image(msgspec.Struct, frozen=True):
    """A firmware in one of the two image slots; `crashes` where its self-test fails."""

    version: tuple[int, int, int, int]
    crashes: bool = False


class Body(msgspec.Struct):
    """What a power cut leaves as it is: mechanics, latching switches, keys and the cell that keeps an open session.

    `bolt` is where the bolt truly is; `session` is 0 or the kind of the opening grant. `unlogged` holds what switches
    latched while there was no power; `log_base` is the head of the log before the oldest record that the ring still keeps.
    `image` runs, `previous` runs again unless `image` is confirmed by `trial_until`. What is broken is named so.
    """

    bolt: Bolt = Bolt.LOCKED
    door: Door = Door.CLOSED
    door_since: float = NEVER
    session: int = 0
    max_open_s: int = 0
    battery_percent: int = 100
    flags: LockFlag = LockFlag(0)
    motor_stuck: bool = False
    unlogged: list[tuple[LogEvent, int]] = []
    keys: Keys = msgspec.field(default_factory=Keys)
    advertisement_key: bytes = bytes(32)
    log_base: bytes = b""
    case_open: bool = False
    announced: Manifest | None = None
    image: Image | None = None
    previous: Image | None = None
    button_broken: bool = False
    flash_broken: bool = False
    random_stuck: bool = False


class Accepted(msgspec.Struct, frozen=True):
    """A grant or order that passed steps 1-9, the slot of its key, and the link that hears its results."""

    grant: Grant
    slot: Slot
    link: str


class Pending(msgspec.Struct):
    """An accepted grant or order that waits for the button; `press_at` is when the button presses itself."""

    order: Accepted
    until: float
    press_at: float


class Motion(msgspec.Struct):
    """A bolt that has not come where it should: when the motor tries again, and how often it still may."""

    order: Accepted
    bolt: Bolt
    retries: int
    again_at: float


class Remembered(msgspec.Struct):
    """The message accepted last, and the result that its copy gets on the same link."""

    message: bytes
    link: str
    cti: bytes
    result: bytes


class EnrolmentMode(msgspec.Struct, frozen=True):
    """The lock takes an enrolment for this nonce until then."""

    nonce: bytes
    until: float


class Ram(msgspec.Struct):
    """What every boot starts anew, beside the guard. `links` holds when each link last brought a valid message."""

    booted_at: float
    random: bytes
    jammed: bool = False
    fault: int = 0
    pressed_at: float = NEVER
    pending: Pending | None = None
    motion: Motion | None = None
    left_open_at: float = NEVER_AGAIN
    unix_offset: float | None = None
    last_event: int = 0
    remembered: Remembered | None = None
    flood_logged: bool = False
    shown: LockState | None = None
    state_at: float = NEVER
    links: dict[str, float] = {}
    held_until: float = NEVER_AGAIN
    enrolment: EnrolmentMode | None = None
    enrol_refused_at: float = NEVER
    trial_until: float = NEVER_AGAIN
