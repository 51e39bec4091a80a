"""Steps 9 to 14 of an opening: what a lock does with a grant or order that nobody could have forged (`locks.md` §1.3-1.5).

What each kind needs and does is a row of the two tables at the end of `Orders`.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import msgspec

from firmware_sim.lock_chip import Chip
from firmware_sim.lock_guard import Challenge, Guard
from firmware_sim.lock_keys import Slot
from firmware_sim.lock_memory import NEVER, NEVER_AGAIN, Accepted, Motion, Pending, Publish, Remembered
from manway import codec_ble, cose, grant
from manway.entities import Bolt, Door, Grant, LockFlag, LockResult, LogEvent, ResultCode
from manway.ids import GrantKind

# How long an accepted grant waits for the button, and how long before it a press still counts (`locks.md` §1.3).
PRESS_S = 10.0
# How long a CLOSE_OUT waits for the button, and how long the door must have been closed before the bolt may be thrown
# (`locks.md` §1.5): a hand still in the gap keeps the contact open.
ARMED_S = 120.0
CLOSED_S = 2.0
# A motor that did not come where it should tries again twice, the last time 3 s after the first (choice). One that does
# takes no time here.
RETRIES, RETRY_S = 2, 1.5
BATTERY_OPEN_PERCENT = 10  # below it no PREP or ENTRY, which leaves enough for rescues (choice)

_DISTURBS_NOBODY = frozenset({GrantKind.SET_TIME, GrantKind.ROTATE_KEY})


class Orders(Chip):
    """A lock that obeys."""

    def _power_up(self, now: float) -> None:
        self._guard = Guard(self.lock_id, self.body.keys, self._parts.verify, self._allows)
        super()._power_up(now)

    def _deadlines(self) -> list[tuple[float, Callable[[float], None]]]:
        pending, motion = self._ram.pending, self._ram.motion
        waits = [(pending.press_at, self._pressed), (pending.until, self._give_up)] if pending else []
        moves = [(motion.again_at, partial(self._drive, motion))] if motion else []
        return [*waits, *moves, *super()._deadlines()]

    def _armed(self) -> bool:
        pending, motion = self._ram.pending, self._ram.motion
        waiting = pending is not None and pending.order.grant.kind is GrantKind.CLOSE_OUT
        return waiting or (motion is not None and motion.bolt is Bolt.LOCKED)

    def _session(self) -> int:
        return codec_ble.ARMED_SESSION if self._armed() else super()._session()

    # --- step 9

    def _allows(self, order: Grant, answered: Challenge) -> bool:
        """Return whether battery, bolt, door or slots allow this now."""
        return self._NEEDS[order.kind](self, order, answered)

    def _can_open(self, _order: Grant, _answered: Challenge) -> bool:
        return self.body.battery_percent >= BATTERY_OPEN_PERCENT and not self._ram.jammed

    def _can_close(self, _order: Grant, answered: Challenge) -> bool:
        # Nobody can have climbed in since somebody said that nobody is inside: the door was closed at the hello that this
        # answers, and ever since, for an opening would have burned the challenge.
        return answered.door_closed and self.body.door is Door.CLOSED and self.body.bolt is Bolt.RETRACTED

    def _can_take_key(self, order: Grant, _answered: Challenge) -> bool:
        return self.body.keys.takes(grant.decode_new_key(order.new_key))

    def _always(self, _order: Grant, _answered: Challenge) -> bool:
        return True

    # --- steps 10 to 12

    def _accept(self, order: Accepted, message: bytes, now: float) -> None:
        kind = order.grant.kind
        self._reach(10)
        self._guard.burn()
        self._ram.remembered = Remembered(message, order.link, order.grant.cti, codec_ble.REFUSED)
        self._reach(11)
        logged = self._write(LogEvent.ACCEPTED, now, order=order.grant, arg=order.grant.life_s)
        if not logged and kind is not GrantKind.EMERGENCY:
            self._answer(order, ResultCode.FAULT, now)
            return
        if logged:  # what cannot be written cannot be promoted either, and a rescue goes on without
            self._promote(order, now)
        self._reach(12)
        if kind not in _DISTURBS_NOBODY:
            self._give_up(now)
        self._DOES[kind](self, order, now)

    def _promote(self, order: Accepted, now: float) -> None:
        place = self.body.keys.promote(order.slot)
        if place is not None:
            self._log_key(place, order, now)

    def _set_key(self, order: Accepted, now: float) -> None:
        slot = self.body.keys.fill(grant.decode_new_key(order.grant.new_key))
        self._log_key(slot, order, now)
        self._answer(order, ResultCode.KEY_SET, now)

    def _log_key(self, slot: Slot, order: Accepted, now: float) -> None:
        generation = self.body.keys.generation(slot)
        self._write(LogEvent.KEY_SET, now, cause=slot, order=order.grant, arg=generation)

    def _set_time(self, order: Accepted, now: float) -> None:
        self._set_clock(order.grant.time, now, order=order.grant)
        self._answer(order, ResultCode.TIME_SET, now)

    def _set_clock(self, time: int, now: float, *, order: Grant | None) -> None:
        old = self._unix(now)
        self._ram.unix_offset = time - now
        moved_s = max(-0x8000, min(old - time, 0x7FFF)) if old else 0
        self._write(LogEvent.TIME_SET, now, order=order, arg=moved_s & 0xFFFF)

    def _open_after_press(self, order: Accepted, now: float) -> None:
        if now - self._ram.pressed_at > PRESS_S:
            self._wait(order, PRESS_S, now)
        else:
            self._open(order, now)

    def _arm(self, order: Accepted, now: float) -> None:
        self._write(LogEvent.ARMED, now, order=order.grant)
        self._wait(order, ARMED_S, now)

    def _wait(self, order: Accepted, wait_s: float, now: float) -> None:
        auto_press_s = self._parts.auto_press_s
        press_at = NEVER_AGAIN if auto_press_s is None else now + auto_press_s
        closing = order.grant.kind is GrantKind.CLOSE_OUT
        if closing:
            press_at = max(press_at, self.body.door_since + CLOSED_S)
        self._ram.pending = Pending(order, now + wait_s, press_at)
        self._answer(order, ResultCode.ARMED if closing else ResultCode.PRESS_WANTED, now)

    def _give_up(self, now: float) -> None:
        """Drop what waits for the button or for the motor, if anything: no press, a later order or the door came between."""
        waiting = self._ram.pending or self._ram.motion
        self._ram.pending = None
        if self._ram.motion is not None:
            self._ram.motion, self._ram.jammed = None, True
        if waiting is None:
            return
        closing = waiting.order.grant.kind is GrantKind.CLOSE_OUT
        event = LogEvent.DISARMED if closing else LogEvent.NO_PRESS
        code = ResultCode.NOT_CLOSED if closing else ResultCode.NO_PRESS
        if isinstance(waiting, Motion) and not closing:
            event, code = LogEvent.JAMMED, ResultCode.JAMMED
        self._write(event, now, order=waiting.order.grant)
        self._answer(waiting.order, code, now)

    def _pressed(self, now: float) -> None:
        pending = self._ram.pending
        if self.body.button_broken:
            if pending is not None:
                pending.press_at = NEVER_AGAIN
            return
        self._write(LogEvent.PRESS, now, order=pending.order.grant if pending else None)
        if pending is None:
            self._ram.pressed_at = now
        elif pending.order.grant.kind is not GrantKind.CLOSE_OUT:
            self._ram.pending = None
            self._open(pending.order, now)
        elif now >= self.body.door_since + CLOSED_S:
            self._ram.pending = None
            self._drive(Motion(pending.order, Bolt.LOCKED, RETRIES, now), now)

    # --- steps 13 and 14

    def _open(self, order: Accepted, now: float) -> None:
        self._ram.pressed_at = NEVER
        if self.body.bolt is Bolt.RETRACTED and not self._ram.jammed:  # one that jammed on its way shut may bar the opening
            self._hold(order.grant.kind, order.grant.max_open_s, now)
            self._answer(order, ResultCode.SESSION_CHANGED, now)
        else:
            self._drive(Motion(order, Bolt.RETRACTED, RETRIES, now), now)

    def _drive(self, motion: Motion, now: float) -> None:
        """Run the motor: the bolt comes where it should, or it tries again, or it is jammed."""
        self._reach(13)
        if not self.body.motor_stuck:
            self._ram.motion, self._ram.jammed = None, False
            self.body.bolt = motion.bolt  # the only line of the firmware that moves the bolt
            self._arrived(motion, now)
        elif motion.retries:
            self._ram.motion = Motion(motion.order, motion.bolt, motion.retries - 1, now + RETRY_S)
        else:
            self._ram.motion, self._ram.jammed = None, True
            self._write(LogEvent.JAMMED, now, order=motion.order.grant)
            self._answer(motion.order, ResultCode.JAMMED, now)

    def _arrived(self, motion: Motion, now: float) -> None:
        order, opened = motion.order, motion.bolt is Bolt.RETRACTED
        self.body.flags &= ~(LockFlag.FORCED | LockFlag.INSIDE_RELEASE)
        self._hold(*((order.grant.kind, order.grant.max_open_s) if opened else (0, 0)), now)
        self._reach(14)
        self._write(LogEvent.RETRACTED if opened else LogEvent.THROWN, now, order=order.grant)
        self._answer(order, ResultCode.OPENED if opened else ResultCode.LOCKED, now)

    def _hold(self, session: int, max_open_s: int, now: float) -> None:
        self.body.session, self.body.max_open_s = session, max_open_s
        self._watch_left_open(now)

    def _answer(self, order: Accepted, code: ResultCode, now: float) -> None:
        message = self._signed_result(order.grant.cti, code, now)
        remembered = self._ram.remembered
        if remembered is not None and order.grant.cti == remembered.cti:
            self._ram.remembered = msgspec.structs.replace(remembered, result=message)
        self._out.append(Publish("result", message, order.link))

    def _signed_result(self, cti: bytes, code: ResultCode, now: float) -> bytes:
        result = LockResult(self.lock_id, cti, code, self.state(now), self._log.head)
        return self._sign(cose.RESULT_AAD, codec_ble.encode_result(result))

    _NEEDS: ClassVar[dict[GrantKind, Callable[["Orders", Grant, Challenge], bool]]] = {
        GrantKind.PREP: _can_open,
        GrantKind.ENTRY: _can_open,
        GrantKind.EMERGENCY: _always,
        GrantKind.CLOSE_OUT: _can_close,
        GrantKind.ROTATE_KEY: _can_take_key,
        GrantKind.SET_TIME: _always,
    }
    _DOES: ClassVar[dict[GrantKind, Callable[["Orders", Accepted, float], None]]] = {
        GrantKind.PREP: _open_after_press,
        GrantKind.ENTRY: _open_after_press,
        GrantKind.EMERGENCY: _open,
        GrantKind.CLOSE_OUT: _arm,
        GrantKind.ROTATE_KEY: _set_key,
        GrantKind.SET_TIME: _set_time,
    }
