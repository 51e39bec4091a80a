"""What a virtual lock is made of, whatever it does: clock, log, state, links, and the order in which things happen.

`lock_orders.py` adds what it obeys, `lock_firmware.py` the messages it takes, `lock.py` the hands that touch it.
"""

from collections.abc import Callable

import msgspec

from firmware_sim import lock_log
from firmware_sim.lock_guard import TICKS_PER_S
from firmware_sim.lock_log import LockLog
from firmware_sim.lock_memory import Body, Image, Publish, Ram
from manway import codec_ble
from manway.entities import Bolt, Door, Grant, LockFlag, LockState, LogEvent, LogRecord

STATE_EVERY_S = 60.0
BATTERY_FLAG_PERCENT = 20  # (choice)

MOTOR_FAULT, FLASH_FAULT, RANDOM_FAULT = 1, 2, 3
DOOR_FORCED, SHACKLE_CUT = 1, 2  # causes of event 30
_NO_REF = bytes(16)
_UINT16, _UINT32 = 0xFFFF, 0xFFFF_FFFF


class PowerCut(BaseException):
    """The supply breaks inside the firmware; nothing of the firmware may catch it."""


class Parts(msgspec.Struct, frozen=True):
    """What does not change in a lock's life.

    Args:
        public_key: the lock's own Ed25519 key; its id follows from it.
        sign: (external data, payload) -> signed message, with the lock's private key.
        verify: (public key, signed bytes, signature) -> whether it is right.
        random_bytes: the hardware's random source.
        secret: 16 bytes printed inside the case; empty: this lock cannot be enrolled.
        hardware_id: 8 bytes, the kind of hardware that a firmware is made for.
        log_capacity: records the ring holds.
        auto_press_s: see `Firmware`.
    """

    public_key: bytes
    sign: Callable[[bytes, bytes], bytes]
    verify: Callable[[bytes, bytes, bytes], bool]
    random_bytes: Callable[[int], bytes]
    secret: bytes
    hardware_id: bytes
    log_capacity: int = lock_log.CAPACITY
    auto_press_s: float | None = None


class Chip:
    """Clock, log, state and publishing; every public method of a lock runs through `_run`."""

    def __init__(self, parts: Parts, body: Body, flash: list[bytes], firmware: tuple[int, int, int, int]) -> None:
        self.lock_id = codec_ble.lock_id_of(parts.public_key)
        self.body = body
        self._parts, self._flash = parts, flash
        self._sign = parts.sign
        self._factory_image = Image(firmware)
        self._out: list[Publish] = []
        self._boot = 0
        self._cut_at: int | None = None

    def _power_up(self, now: float) -> None:
        """Begin a boot: RAM is new, the log is read from the flash, and what happened in the dark is written down."""
        self.powered = True
        self._log = LockLog(self.lock_id, self._flash, self.body, self._parts.log_capacity)
        self._ram = Ram(booted_at=now, random=self._parts.random_bytes(16))
        last = self._log.last
        self._boot = max(self._boot, last.boot if last else 0) + 1
        self._write(LogEvent.BOOT, now)
        latched, self.body.unlogged = self.body.unlogged, []
        for event, cause in latched:
            self._write(event, now, cause=cause)
        self._find_forced_door(now)
        self._watch_left_open(now)

    # --- time

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do, None without power."""
        if not self.powered:
            return None
        return min(self._ram.state_at, *(at for at, _ in self._deadlines()))

    def advance(self, now: float) -> list[Publish]:
        """Run every deadline that has passed and report the state if it changed or 60 s have gone by."""
        return self._run(lambda _at: None, now)

    def _deadlines(self) -> list[tuple[float, Callable[[float], None]]]:
        return [(self._ram.left_open_at, self._report_left_open)]

    def _run(self, act: Callable[[float], None], now: float) -> list[Publish]:
        """Do what was due before `now`, then the act: a press after the tenth second is late whoever wakes us when."""
        try:
            while self.powered:
                at, due = min(self._deadlines(), key=lambda deadline: deadline[0])
                if at > now:
                    break
                due(at)
            act(now)
        except PowerCut:
            self._go_dark()
        return self._flush(now)

    def _go_dark(self) -> None:
        self.powered = False
        self._out = []

    def _reach(self, step: int) -> None:
        """Mark that a step of `locks.md` §1.3 begins: here a test or a simulator may have the power fail."""
        if self._cut_at == step:
            self._cut_at = None
            raise PowerCut

    def _flush(self, now: float) -> list[Publish]:
        # The result goes first, the state after it: whoever sees the bolt move has heard why.
        if not self.powered:
            return []
        state = self.state(now)
        shown = msgspec.structs.replace(state, tick=0)
        if shown != self._ram.shown or now >= self._ram.state_at:
            self._ram.shown, self._ram.state_at = shown, now + STATE_EVERY_S
            self._out.append(Publish("state", codec_ble.encode_state(state)))
        out, self._out = self._out, []
        return out

    def _tick(self, now: float) -> int:
        return int((now - self._ram.booted_at) * TICKS_PER_S) & _UINT32

    def _unix(self, now: float) -> int:
        return 0 if self._ram.unix_offset is None else int(now + self._ram.unix_offset) & _UINT32

    # --- what it says of itself

    @property
    def log_capacity(self) -> int:
        """How many records its log keeps."""
        return self._parts.log_capacity

    def state(self, now: float) -> LockState:
        """Return what the lock says of itself; it goes on saying it without power, only nobody hears it."""
        body, ram = self.body, self._ram
        return LockState(
            bolt=self._bolt(),
            door=body.door,
            session=self._session(),
            flags=body.flags | self._passing_flags(),
            cause=ram.last_event,
            battery_percent=body.battery_percent,
            fault=MOTOR_FAULT if ram.jammed else ram.fault,
            log_seq=self._log.last_seq,
            boot=self._boot,
            tick=self._tick(now),
        )

    def _bolt(self) -> Bolt:
        if self._ram.motion is not None:
            return Bolt.MOVING
        return Bolt.JAMMED if self._ram.jammed else self.body.bolt

    def _session(self) -> int:
        return self.body.session

    def _passing_flags(self) -> LockFlag:
        flags = {
            LockFlag.TIME_UNKNOWN: self._ram.unix_offset is None,
            LockFlag.BATTERY_LOW: self.body.battery_percent < BATTERY_FLAG_PERCENT,
            LockFlag.ENROLMENT: self._ram.enrolment is not None,
        }
        return LockFlag(sum(flag for flag, holds in flags.items() if holds))

    def _find_forced_door(self, now: float) -> None:
        if self.body.bolt is Bolt.LOCKED and self.body.door is Door.OPEN:
            self._sense(LogEvent.FORCED, now, cause=DOOR_FORCED, flag=LockFlag.FORCED)

    def _watch_left_open(self, now: float) -> None:
        watched = self.body.bolt is Bolt.RETRACTED and self.body.max_open_s
        self._ram.left_open_at = now + self.body.max_open_s if watched else float("inf")
        self.body.flags &= ~LockFlag.LEFT_OPEN

    def _report_left_open(self, now: float) -> None:
        """Say that the opening stands open too long; a lock never shuts it."""
        self._ram.left_open_at = float("inf")
        self._sense(LogEvent.LEFT_OPEN, now, flag=LockFlag.LEFT_OPEN)

    # --- random numbers

    def _fresh(self, now: float) -> bytes | None:
        """Draw 16 bytes; None, a fault and no challenge left standing when the source repeats itself: it is dead."""
        drawn = self._ram.random if self.body.random_stuck else self._parts.random_bytes(16)
        if drawn == self._ram.random:
            told, self._ram.fault = self._ram.fault == RANDOM_FAULT, RANDOM_FAULT
            if not told:  # whoever asks a lock with a dead source for hellos must not wash the log away
                self._write(LogEvent.FAULT, now, cause=RANDOM_FAULT)
            return None
        self._ram.random = drawn
        self._ram.fault = 0 if self._ram.fault == RANDOM_FAULT else self._ram.fault
        return drawn

    # --- log

    def _sense(self, event: LogEvent, now: float, *, cause: int = 0, flag: LockFlag | None = None) -> None:
        self.body.flags |= flag or LockFlag(0)
        if self.powered:
            self._write(event, now, cause=cause)
        else:
            self.body.unlogged.append((event, cause))

    def _write(self, event: LogEvent, now: float, *, cause: int = 0, order: Grant | None = None, arg: int = 0) -> bool:
        """Log one event; return False when the flash did not take it."""
        state = self.state(now)
        record = LogRecord(
            seq=state.log_seq + 1,
            boot=state.boot,
            tick=state.tick,
            time=self._unix(now),
            event=event,
            cause=cause,
            bolt=state.bolt,
            door=state.door,
            kind=order.kind if order else 0,
            battery_percent=state.battery_percent,
            arg=arg,
            ref=order.cti if order else _NO_REF,
        )
        self._ram.last_event = event
        try:
            overwritten = self._log.append(record)
        except OSError:
            self._ram.fault = FLASH_FAULT
            return False
        self._ram.fault = 0 if self._ram.fault == FLASH_FAULT else self._ram.fault
        if overwritten is not None:
            self._write(LogEvent.OVERWRITTEN, now, arg=min(overwritten, _UINT16))
        return True
