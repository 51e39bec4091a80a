"""When an adapter counts as deaf and what is done about it, one rung after the other (`locks.md` §8.6), as a table.

Theory: an adapter that hears nothing may be hung, switched off, pulled out, or simply alone. So nothing is concluded from it:
each rung is tried, and when the last has not helped its health is red, which is said, and the ladder begins again. One
advertisement ends it all. That a device is silent is judged elsewhere, by the engine, and long before.
"""

from enum import Enum

from manway.grid import parse_grid

SILENT_S = 90.0  # `locks.md` §8: the scanner's watchdog
CHECK_S = 30.0  # same place; as long a rung is given to help, in which every device in range has advertised thirty times


class Rung(Enum):
    """Where an adapter stands: listening, or the rung that was tried last."""

    LISTENING = "listening"
    SCAN = "scan"
    POWER = "power"
    USB = "usb"
    DAEMON = "daemon"
    RED = "red"


class Sign(Enum):
    """What is learned: something was heard, nothing was heard for its time (or cannot be), or the rung could not be tried."""

    HEARD = "heard"
    SILENT = "silent"
    FAILED = "failed"


TABLE = parse_grid(
    """
           heard     silent failed
listening  =         scan   scan
scan       listening power  power
power      listening usb    usb
usb        listening daemon daemon
daemon     listening red    red
red        listening scan   =
""",
    Rung,
    Sign,
)


class Watchdog:
    """One adapter's place on the ladder; every time in the same seconds."""

    def __init__(self, now: float) -> None:
        self.rung = Rung.LISTENING
        self.red = False
        self.heard_at: float | None = None
        self._since = now

    def heard(self, now: float) -> bool:
        """Note an advertisement; return True where it is the first, or the first after a silence."""
        news = self.heard_at is None or self.rung is not Rung.LISTENING or self.red
        self.heard_at = now
        if news:
            self._move(Sign.HEARD, now)
        return news

    def silent(self, now: float) -> bool:
        """Say whether nothing has been heard for the time that is given to it where it stands."""
        waited = now - max(self._since, self.heard_at or self._since)
        return waited >= (SILENT_S if self.rung is Rung.LISTENING else CHECK_S)

    def check(self, now: float) -> Rung | None:
        """Return the rung to try now, None for none; called every `CHECK_S`."""
        return self._move(Sign.SILENT, now) if self.silent(now) else None

    def gone(self, now: float) -> Rung | None:
        """Return the rung to try at once: the adapter is known to be switched off, pulled out or without its service."""
        return self._move(Sign.SILENT, now) if self.rung is Rung.LISTENING else None

    def failed(self, now: float) -> Rung | None:
        """Return the next rung where one could not be tried; None when red is reached: it waits for the next check."""
        return self._move(Sign.FAILED, now)

    def idle(self, now: float) -> None:
        """Note that there is nobody to hear: the plan names no device with an address, or all that are near have a link."""
        self._since = now

    def _move(self, sign: Sign, now: float) -> Rung | None:
        after = TABLE[self.rung, sign] or self.rung  # no cell of this table refuses
        moved, self.rung, self._since = after is not self.rung, after, now
        self.red = sign is not Sign.HEARD and (self.red or after is Rung.RED)
        return after if moved and after not in (Rung.LISTENING, Rung.RED) else None
