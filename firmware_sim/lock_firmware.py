"""The firmware of a virtual lock: its messages and steps 10-14 of an opening (`locks.md` §1-2, §6).

The guard (`lock_guard.py`) decides on steps 1-9; what hands and power cuts do to the lock is in `lock.py`.
"""

from collections.abc import Callable

import msgspec

from firmware_sim.lock_guard import TICKS_PER_S, Attempt, Guard, slots
from firmware_sim.lock_log import LockLog
from firmware_sim.lock_memory import NEVER, Body, Pending, Publish, Ram
from manway import codec_ble, cose
from manway.entities import (
    Bolt,
    Door,
    Grant,
    LockFlag,
    LockHello,
    LockResult,
    LockState,
    LogEvent,
    LogRecord,
    RefusalReason,
    ResultCode,
)
from manway.ids import GrantKind

# How long an accepted grant waits for the button, and how long before it a press still counts (`locks.md` §1.3).
PRESS_S = 10.0
# How long a CLOSE_OUT waits for the button, and how long the door must have been closed before the bolt may be thrown
# (`locks.md` §1.5): a hand still in the gap keeps the contact open.
ARMED_S = 120.0
CLOSED_S = 2.0
HELLO_SPACING_S = 0.5  # at most two a second
STATE_EVERY_S = 60.0
BATTERY_FLAG_PERCENT = 20  # (choice)
BATTERY_OPEN_PERCENT = 10  # below it no PREP or ENTRY, which leaves enough for rescues (choice)

_MOTOR_FAULT, _FLASH_FAULT, _RANDOM_FAULT = 1, 2, 3
DOOR_FORCED, SHACKLE_CUT = 1, 2  # causes of event 30
_NO_REF = bytes(16)
_UINT32 = 0xFFFF_FFFF


class Firmware:
    """One lock, powered from the start.

    Args:
        public_key: the lock's own Ed25519 key; its id follows from it.
        issuer_key: public key of the grant issuer.
        site_key: public key of the site's emergency key.
        sign: (external data, payload) -> signed message, with the lock's private key.
        verify: (public key, signed bytes, signature) -> whether it is right.
        random_bytes: the hardware's random source.
        flash: the log so far; see `LockLog`.
        now: seconds, as in every method.
        body: mechanics at the start, for seeded scenes: bolt retracted with session 2 is a permit under way.
        auto_press_s: a training yard's lock presses its own button this long after it asks; None waits for a person.
        firmware: version reported in the hello.
        clock_ahead_s: how far its evidence clock, set at enrolment, is ahead of `now`; None: unknown. A power cut loses it.
    """

    def __init__(
        self,
        *,
        public_key: bytes,
        issuer_key: bytes,
        site_key: bytes,
        sign: Callable[[bytes, bytes], bytes],
        verify: Callable[[bytes, bytes, bytes], bool],
        random_bytes: Callable[[int], bytes],
        flash: list[bytes],
        now: float,
        body: Body | None = None,
        auto_press_s: float | None = None,
        firmware: tuple[int, int, int, int] = (0, 1, 0, 0),
        clock_ahead_s: float | None = None,
    ) -> None:
        self.lock_id = codec_ble.lock_id_of(public_key)
        self.body = body or Body()
        self._slots = slots(issuer_key, site_key)
        self._sign, self._verify, self._random = sign, verify, random_bytes
        self._flash = flash
        self._auto_press_s = auto_press_s
        self._firmware = firmware
        self._out: list[Publish] = []
        self._boot = 0
        self._power_up(now)
        self._ram.unix_offset = clock_ahead_s

    def _power_up(self, now: float) -> None:
        self.powered = True
        self._log = LockLog(self.lock_id, self._flash)
        self._guard = Guard(self.lock_id, self._slots, self._verify, self._allows)
        self._ram = Ram(booted_at=now, random=self._random(16))
        last = self._log.last
        self._boot = max(self._boot, last.boot if last else 0) + 1
        self._write(LogEvent.BOOT, now)
        latched, self.body.unlogged = self.body.unlogged, []
        for event, cause in latched:
            self._write(event, now, cause=cause)
        if self.body.bolt is Bolt.LOCKED and self.body.door is Door.OPEN:
            self._sense(LogEvent.FORCED, now, cause=DOOR_FORCED, flag=LockFlag.FORCED)
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
        pending = self._ram.pending
        waits = [(pending.press_at, self._pressed), (pending.until, self._give_up)] if pending else []
        return [*waits, (self._ram.left_open_at, self._report_left_open)]

    def _run(self, act: Callable[[float], None], now: float) -> list[Publish]:
        """Do what was due before `now`, then the act: a press after the tenth second is late whoever wakes us when."""
        while self.powered:
            at, due = min(self._deadlines(), key=lambda deadline: deadline[0])
            if at > now:
                break
            due(at)
        act(now)
        return self._flush(now)

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

    # --- messages

    def receive(self, name: str, payload: bytes, now: float) -> list[Publish]:
        """Take one message of `{root}/down/{name}`; the caller drops retained copies, an unknown name does nothing."""
        take = {"hello": self._take_hello, "grant": self._take_grant, "logctl": self._take_log_request}.get(name)
        if take is None or not self.powered:
            return self.advance(now)
        return self._run(lambda at: take(payload, at), now)

    def state(self, now: float) -> LockState:
        """Return what the lock says of itself; it goes on saying it without power, only nobody hears it."""
        body, ram = self.body, self._ram
        flags = body.flags
        flags |= LockFlag.TIME_UNKNOWN if ram.unix_offset is None else LockFlag(0)
        flags |= LockFlag.BATTERY_LOW if body.battery_percent < BATTERY_FLAG_PERCENT else LockFlag(0)
        return LockState(
            bolt=Bolt.JAMMED if ram.jammed else body.bolt,
            door=body.door,
            session=codec_ble.ARMED_SESSION if self._armed() else body.session,
            flags=flags,
            cause=ram.last_event,
            battery_percent=body.battery_percent,
            fault=_MOTOR_FAULT if ram.jammed else ram.fault,
            log_seq=self._log.last_seq,
            boot=self._boot,
            tick=self._tick(now),
        )

    def _take_hello(self, payload: bytes, now: float) -> None:
        if payload != codec_ble.HELLO_REQUEST or now - self._ram.hello_at < HELLO_SPACING_S:
            return
        challenge = self._random(16)
        if challenge == self._ram.random:  # a source that repeats itself is dead: no challenge from it is worth anything
            self._ram.fault = _RANDOM_FAULT
            self._guard.burn()
            self._write(LogEvent.FAULT, now, cause=_RANDOM_FAULT)
            return
        self._ram.random, self._ram.hello_at = challenge, now
        self._ram.accepted = None  # a new challenge ends the old message's right to its stored answer
        self._ram.fault = 0 if self._ram.fault == _RANDOM_FAULT else self._ram.fault
        self._guard.challenge(challenge, self._tick(now))
        hello = LockHello(
            lock_id=self.lock_id,
            challenge=challenge,
            state=self.state(now),
            log_head=self._log.head,
            time=self._unix(now),
            kids=(self._slots[0].kid, bytes(4)),
            firmware=self._firmware,
        )
        self._out.append(Publish("hello", self._sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))))

    def _take_log_request(self, payload: bytes, _now: float) -> None:
        messages, answer = self._log.answer(payload)
        self._out += [Publish("log", message) for message in messages]
        self._out.append(Publish("logctl", answer))

    def _take_grant(self, message: bytes, now: float) -> None:
        if message == self._ram.accepted:  # a QoS 1 duplicate: the same answer, and no act
            self._out.append(Publish("result", self._ram.stored_result))
            return
        attempt = Attempt(message)
        reason = self._guard.judge(attempt, self._tick(now))
        if reason is not None:
            self._refuse(reason, attempt, now)
            return
        try:
            self._accept(attempt.grant, message, now)
        except Exception:  # noqa: BLE001 - whatever failed, the answer is no and no press may follow
            self._ram.pending = None
            self._out.append(Publish("result", codec_ble.REFUSED))
            self._write(LogEvent.FAULT, now, order=attempt.grant)

    def _refuse(self, reason: RefusalReason, attempt: Attempt, now: float) -> None:
        throttled = reason is RefusalReason.THROTTLED
        self._out.append(Publish("result", codec_ble.THROTTLED if throttled else codec_ble.REFUSED))
        if throttled and self._ram.throttle_logged:  # a flood must not wash the log away
            return
        self._ram.throttle_logged = throttled
        # Before its signature held, a message's own words have no place in the log.
        order = attempt.grant if reason is RefusalReason.PRECONDITION else None
        self._write(LogEvent.REFUSED, now, cause=reason, order=order)

    def _allows(self, order: Grant) -> bool:
        match order.kind:
            case GrantKind.PREP | GrantKind.ENTRY:
                return self.body.battery_percent >= BATTERY_OPEN_PERCENT and not self._ram.jammed
            case GrantKind.CLOSE_OUT:  # closed ever since the hello: an opening would have burned the challenge
                return self.body.door is Door.CLOSED and self.body.bolt is Bolt.RETRACTED
            case GrantKind.EMERGENCY | GrantKind.SET_TIME:
                return True
            case GrantKind.ROTATE_KEY:
                return False

    # --- steps 10 to 14

    def _accept(self, order: Grant, message: bytes, now: float) -> None:
        self._guard.burn()
        self._ram.accepted, self._ram.accepted_cti = message, order.cti
        self._ram.stored_result = codec_ble.REFUSED
        logged = self._write(LogEvent.ACCEPTED, now, order=order, arg=order.life_s)
        if not logged and order.kind is not GrantKind.EMERGENCY:
            self._answer(order, ResultCode.FAULT, now)
            return
        if order.kind is not GrantKind.SET_TIME:
            self._give_up(now)
        match order.kind:
            case GrantKind.PREP | GrantKind.ENTRY if now - self._ram.pressed_at > PRESS_S:
                self._wait(order, PRESS_S, now)
            case GrantKind.CLOSE_OUT:
                self._write(LogEvent.ARMED, now, order=order)
                self._wait(order, ARMED_S, now)
            case GrantKind.SET_TIME:
                self._set_time(order, now)
            case GrantKind.PREP | GrantKind.ENTRY | GrantKind.EMERGENCY:
                self._open(order, now)
            case GrantKind.ROTATE_KEY:  # no slot allows it
                self._answer(order, ResultCode.FAULT, now)

    def _wait(self, order: Grant, wait_s: float, now: float) -> None:
        press_at = float("inf") if self._auto_press_s is None else now + self._auto_press_s
        closing = order.kind is GrantKind.CLOSE_OUT
        if closing:
            press_at = max(press_at, self.body.door_since + CLOSED_S)
        self._ram.pending = Pending(order, now + wait_s, press_at)
        self._answer(order, ResultCode.ARMED if closing else ResultCode.PRESS_WANTED, now)

    def _give_up(self, now: float) -> None:
        """Drop the grant that waits, if any: nobody pressed, or a later order or the door came between."""
        pending, self._ram.pending = self._ram.pending, None
        if pending is None:
            return
        closing = pending.grant.kind is GrantKind.CLOSE_OUT
        self._write(LogEvent.DISARMED if closing else LogEvent.NO_PRESS, now, order=pending.grant)
        self._answer(pending.grant, ResultCode.NOT_CLOSED if closing else ResultCode.NO_PRESS, now)

    def _pressed(self, now: float) -> None:
        pending = self._ram.pending
        self._write(LogEvent.PRESS, now, order=pending.grant if pending else None)
        if pending is None:
            self._ram.pressed_at = now
        elif pending.grant.kind is not GrantKind.CLOSE_OUT:
            self._ram.pending = None
            self._open(pending.grant, now)
        elif now >= self.body.door_since + CLOSED_S:
            self._ram.pending = None
            self._close(pending.grant, now)

    def _open(self, order: Grant, now: float) -> None:
        self._ram.pressed_at = NEVER
        moves = self.body.bolt is not Bolt.RETRACTED
        if moves and not self._drive(Bolt.RETRACTED):
            self._write(LogEvent.JAMMED, now, order=order)
            self._answer(order, ResultCode.JAMMED, now)
            return
        self._hold(order.kind, order.max_open_s, now)
        if moves:
            self._write(LogEvent.RETRACTED, now, order=order)
        self._answer(order, ResultCode.OPENED if moves else ResultCode.SESSION_CHANGED, now)

    def _close(self, order: Grant, now: float) -> None:
        if not self._drive(Bolt.LOCKED):
            self._write(LogEvent.JAMMED, now, order=order)
            self._answer(order, ResultCode.JAMMED, now)
            return
        self._hold(0, 0, now)
        self._write(LogEvent.THROWN, now, order=order)
        self._answer(order, ResultCode.LOCKED, now)

    def _drive(self, bolt: Bolt) -> bool:
        """Run the motor, which takes no time here; return whether the bolt went where it should."""
        self._ram.jammed = self.body.motor_stuck
        if self._ram.jammed:
            return False
        self.body.bolt = bolt  # the only line of the firmware that moves the bolt
        self.body.flags &= ~(LockFlag.FORCED | LockFlag.INSIDE_RELEASE)
        return True

    def _hold(self, session: int, max_open_s: int, now: float) -> None:
        self.body.session, self.body.max_open_s = session, max_open_s
        self._watch_left_open(now)

    def _set_time(self, order: Grant, now: float) -> None:
        old = self._unix(now)
        self._ram.unix_offset = order.time - now
        moved_s = max(-0x8000, min(old - order.time, 0x7FFF)) if old else 0
        self._write(LogEvent.TIME_SET, now, order=order, arg=moved_s & 0xFFFF)
        self._answer(order, ResultCode.TIME_SET, now)

    def _answer(self, order: Grant, code: ResultCode, now: float) -> None:
        result = LockResult(self.lock_id, order.cti, code, self.state(now), self._log.head)
        message = self._sign(cose.RESULT_AAD, codec_ble.encode_result(result))
        if order.cti == self._ram.accepted_cti:
            self._ram.stored_result = message
        self._out.append(Publish("result", message))

    def _sense(self, event: LogEvent, now: float, *, cause: int = 0, flag: LockFlag | None = None) -> None:
        self.body.flags |= flag or LockFlag(0)
        if self.powered:
            self._write(event, now, cause=cause)
        else:
            self.body.unlogged.append((event, cause))

    # --- small parts

    def _armed(self) -> bool:
        pending = self._ram.pending
        return pending is not None and pending.grant.kind is GrantKind.CLOSE_OUT

    def _watch_left_open(self, now: float) -> None:
        watched = self.body.bolt is Bolt.RETRACTED and self.body.max_open_s
        self._ram.left_open_at = now + self.body.max_open_s if watched else float("inf")
        self.body.flags &= ~LockFlag.LEFT_OPEN

    def _report_left_open(self, now: float) -> None:
        """Say that the opening stands open too long; a lock never shuts it."""
        self._ram.left_open_at = float("inf")
        self._sense(LogEvent.LEFT_OPEN, now, flag=LockFlag.LEFT_OPEN)

    def _tick(self, now: float) -> int:
        return int((now - self._ram.booted_at) * TICKS_PER_S) & _UINT32

    def _unix(self, now: float) -> int:
        return 0 if self._ram.unix_offset is None else int(now + self._ram.unix_offset) & _UINT32

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
            self._log.append(record)
        except OSError:
            self._ram.fault = _FLASH_FAULT
            return False
        self._ram.fault = 0 if self._ram.fault == _FLASH_FAULT else self._ram.fault
        return True
