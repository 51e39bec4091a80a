"""A virtual lock: a `manway-lock-v1` device as a pure model, and what the world does to it.

No I/O and no clock: messages, acts and `now` (Unix or any other seconds that never fall) come in, the messages to
publish come out. Seed, saved flash and saved body make the same lock again. Faults by name are in `lock_faults.py`.
"""

from firmware_sim.lock_chip import BATTERY_FLAG_PERCENT, SHACKLE_CUT
from firmware_sim.lock_enrolment import HOLD_S
from firmware_sim.lock_firmware import Firmware
from firmware_sim.lock_memory import NEVER_AGAIN, Body, Publish
from manway.entities import Bolt, Door, LockFlag, LogEvent

__all__ = ["Body", "Publish", "VirtualLock"]


class VirtualLock(Firmware):
    """One lock with the hands that touch it; every method returns what the lock publishes then."""

    # --- power

    def lose_power(self) -> None:
        """Go dark: no answer and no motion until `reboot`; bolt, door and log stay as they are."""
        self._go_dark()

    def reboot(self, now: float) -> list[Publish]:
        """Start again, with or without a loss of power before: log and open session live on, all challenges are gone."""
        self._out = []
        self.powered = False  # what was due before ends with the RAM it stood in
        return self._run(self._power_up, now)

    def cut_power_at(self, step: int) -> None:
        """Let the power fail the next time the firmware comes to step 10, 11, 12, 13 or 14 of an opening (`locks.md` §1.3)."""
        self._cut_at = step

    def set_battery(self, percent: int, now: float) -> list[Publish]:
        """Set the charge, 0-100 %."""
        falls = percent < BATTERY_FLAG_PERCENT <= self.body.battery_percent
        self.body.battery_percent = percent
        return self._run(lambda at: self._sense(LogEvent.BATTERY_LOW, at) if falls else None, now)

    def skew_clock(self, seconds: float, now: float) -> list[Publish]:
        """Put the evidence clock wrong by so much; one that is not set stays so."""
        if self._ram.unix_offset is not None:
            self._ram.unix_offset += seconds
        return self.advance(now)

    def lose_record(self, now: float) -> list[Publish]:
        """Let the flash lose a record from the middle of the log: its number is missing, and the chain no longer closes."""
        del self._flash[len(self._flash) // 2]
        return self.advance(now)

    # --- the button

    def press(self, now: float) -> list[Publish]:
        """Press the button."""
        return self._run(self._pressed, now) if self.powered else []

    def hold_button(self, now: float) -> list[Publish]:
        """Press the button and keep it down: for 5 s in an open case, that begins the enrolment mode."""
        return self._run(self._held, now) if self.powered else []

    def _held(self, now: float) -> None:
        self._pressed(now)
        if not self.body.button_broken:
            self._ram.held_until = now + HOLD_S

    def release_button(self, now: float) -> list[Publish]:
        """Let the button go."""
        return self._run(self._let_go, now)

    def _let_go(self, _now: float) -> None:
        self._ram.held_until = NEVER_AGAIN

    # --- the door

    def open_door(self, now: float) -> list[Publish]:
        """Open the door, by force where the bolt is thrown."""
        return self._run(self._door_opened, now)

    def _door_opened(self, now: float) -> None:
        if self.body.door is Door.OPEN:
            return
        self.body.door, self.body.door_since = Door.OPEN, now
        if not self.powered:
            return
        self._guard.burn()
        self._write(LogEvent.DOOR_OPENED, now)
        self._find_forced_door(now)
        if self._armed():
            self._give_up(now)

    def close_door(self, now: float) -> list[Publish]:
        """Close the door; the bolt does not follow."""
        return self._run(self._door_closed, now)

    def _door_closed(self, now: float) -> None:
        if self.body.door is Door.CLOSED:
            return
        self.body.door, self.body.door_since = Door.CLOSED, now
        if self.powered:
            self._write(LogEvent.DOOR_CLOSED, now)

    # --- case, shackle, seal, inside release

    def open_case(self, now: float) -> list[Publish]:
        """Open the lock's case."""
        self.body.case_open = True
        return self._run(lambda at: self._sense(LogEvent.TAMPER, at, flag=LockFlag.TAMPER), now)

    def close_case(self, now: float) -> list[Publish]:
        """Close the case: the flag falls, the record of its opening stays."""
        self.body.case_open = False
        self.body.flags &= ~LockFlag.TAMPER
        return self.advance(now)

    def cut_shackle(self, now: float) -> list[Publish]:
        """Cut through the shackle."""
        return self._run(lambda at: self._sense(LogEvent.FORCED, at, cause=SHACKLE_CUT, flag=LockFlag.FORCED), now)

    def break_seal(self, now: float) -> list[Publish]:
        """Break the seal and use the key behind it: the bolt is drawn by hand."""
        return self._run(lambda at: self._draw_by_hand(LogEvent.SEAL_BROKEN, LockFlag.SEAL_BROKEN, at), now)

    def renew_seal(self, now: float) -> list[Publish]:
        """Put a new seal on: the flag falls, the record stays."""
        self.body.flags &= ~LockFlag.SEAL_BROKEN
        return self.advance(now)

    def pull_inside_release(self, now: float) -> list[Publish]:
        """Pull the release on the inside: the bolt is drawn by hand, with or without power."""
        return self._run(lambda at: self._draw_by_hand(LogEvent.INSIDE_RELEASE, LockFlag.INSIDE_RELEASE, at), now)

    def _draw_by_hand(self, event: LogEvent, flag: LockFlag, now: float) -> None:
        # Who pulls the release is inside, whatever was said when a CLOSE_OUT was signed: nothing of before throws the bolt.
        self.body.bolt = Bolt.RETRACTED
        if self.powered:
            self._guard.burn()
            if self._armed() or self._ram.motion is not None:
                self._give_up(now)
            self._ram.jammed = False
        self._sense(event, now, flag=flag)
