"""Whoever wears an instrument: do they move, did they fall, do they call (`locks.md` §5, channel 0xF1)."""

import math

WELL, SOS, STILL, FALLEN = 0, 1, 2, 3
STILL_AFTER_S = 120.0  # no motion for 2 min [BL]; the 30 s to answer are counted by the gateway (`domain.md` §7.1)
FALLEN_AFTER_S = 30.0  # a fall, and no motion for 30 s [BL]


class Wearer:
    """One person as the instrument feels them. Times are Unix seconds; a call stays until it is taken back by hand."""

    def __init__(self) -> None:
        self.state = WELL
        self._called = False
        self._still_since = self._fell_at = math.inf

    @property
    def in_need(self) -> bool:
        """True while the instrument alarms for them."""
        return self.state != WELL

    def call(self) -> None:
        """Press the SOS button."""
        self._called, self.state = True, SOS

    def lie_still(self, now: float) -> None:
        """Move no more from now on."""
        self._still_since = min(self._still_since, now)

    def fall(self, now: float) -> None:
        """Fall, and stay where one fell."""
        self._fell_at = min(self._fell_at, now)

    def move(self) -> None:
        """Move again, which answers everything but a call."""
        self._still_since = self._fell_at = math.inf
        self.state = SOS if self._called else WELL

    def take_back(self) -> None:
        """Take a call back, by hand."""
        self._called = False
        self.state = WELL

    def advance(self, now: float) -> None:
        """Let time pass."""
        if self._called:
            self.state = SOS
        elif now >= self._fell_at + FALLEN_AFTER_S:
            self.state = FALLEN
        elif now >= self._still_since + STILL_AFTER_S:
            self.state = STILL
