"""A virtual lock: a `manway-lock-v1` device as a pure model, and what the world does to it.

No I/O and no clock: messages, acts and `now` (Unix or any other seconds that never fall) come in, the messages to
publish come out. Seed, saved flash and saved body make the same lock again.
"""

from firmware_sim.lock_firmware import BATTERY_FLAG_PERCENT, DOOR_FORCED, SHACKLE_CUT, Firmware
from firmware_sim.lock_memory import Body, Publish
from manway.entities import Bolt, Door, LockFlag, LogEvent

__all__ = ["Body", "Publish", "VirtualLock"]


class VirtualLock(Firmware):
    """One lock with the hands that touch it; every method returns what the lock publishes then."""

    def lose_power(self) -> None:
        """Go dark: no answer and no motion until `reboot`; bolt, door and log stay as they are."""
        self.powered = False
        self._out = []

    def reboot(self, now: float) -> list[Publish]:
        """Start again, with or without a loss of power before: log and open session live on, all challenges are gone."""
        self._out = []
        self._power_up(now)
        return self._flush(now)

    def link_lost(self, now: float) -> list[Publish]:
        """End the broker session; its challenge ends with it."""
        return self._run(lambda _at: self._guard.burn(), now)

    def press(self, now: float) -> list[Publish]:
        """Press the button."""
        return self._run(self._pressed, now) if self.powered else []

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
        if self.body.bolt is Bolt.LOCKED:
            self._sense(LogEvent.FORCED, now, cause=DOOR_FORCED, flag=LockFlag.FORCED)
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

    def cut_shackle(self, now: float) -> list[Publish]:
        """Cut through the shackle."""
        return self._run(lambda at: self._sense(LogEvent.FORCED, at, cause=SHACKLE_CUT, flag=LockFlag.FORCED), now)

    def open_case(self, now: float) -> list[Publish]:
        """Open the lock's case."""
        return self._run(lambda at: self._sense(LogEvent.TAMPER, at, flag=LockFlag.TAMPER), now)

    def break_seal(self, now: float) -> list[Publish]:
        """Break the seal and use the key behind it: the bolt is drawn by hand."""
        return self._run(lambda at: self._draw_by_hand(LogEvent.SEAL_BROKEN, LockFlag.SEAL_BROKEN, at), now)

    def pull_inside_release(self, now: float) -> list[Publish]:
        """Pull the release on the inside: the bolt is drawn by hand, with or without power."""
        return self._run(lambda at: self._draw_by_hand(LogEvent.INSIDE_RELEASE, LockFlag.INSIDE_RELEASE, at), now)

    def _draw_by_hand(self, event: LogEvent, flag: LockFlag, now: float) -> None:
        self.body.bolt = Bolt.RETRACTED
        self._sense(event, now, flag=flag)

    def set_battery(self, percent: int, now: float) -> list[Publish]:
        """Set the charge, 0-100 %."""
        falls = percent < BATTERY_FLAG_PERCENT <= self.body.battery_percent
        self.body.battery_percent = percent
        return self._run(lambda at: self._sense(LogEvent.BATTERY_LOW, at) if falls else None, now)
