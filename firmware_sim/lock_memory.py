"""What a virtual lock remembers: its messages, its body, which outlives power, and its RAM, which does not."""

import msgspec

from manway.entities import Bolt, Door, Grant, LockFlag, LockState, LogEvent

NEVER = float("-inf")


class Publish(msgspec.Struct, frozen=True):
    """One message of the lock: for `{root}/up/{name}` (hello, result, state, log, logctl)."""

    name: str
    payload: bytes


class Body(msgspec.Struct):
    """What a power cut leaves as it is: mechanics, latching switches and the cell that keeps an open session.

    `bolt` is where the bolt truly is; `session` is 0 or the kind of the opening grant. `unlogged` holds what switches
    latched while there was no power.
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


class Pending(msgspec.Struct):
    """An accepted grant or order that waits for the button; `press_at` is when the button presses itself."""

    grant: Grant
    until: float
    press_at: float


class Ram(msgspec.Struct):
    """What every boot starts anew, beside the guard."""

    booted_at: float
    random: bytes
    jammed: bool = False
    fault: int = 0
    hello_at: float = NEVER
    pressed_at: float = NEVER
    pending: Pending | None = None
    left_open_at: float = float("inf")
    unix_offset: float | None = None
    last_event: int = 0
    accepted: bytes | None = None
    accepted_cti: bytes = b""
    stored_result: bytes = b""
    throttle_logged: bool = False
    shown: LockState | None = None
    state_at: float = NEVER
