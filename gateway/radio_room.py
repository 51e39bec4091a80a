"""How many connections an adapter has room for: what it was said to have, until it shows that it has fewer.

Theory. An adapter that is full may refuse a connect, or say nothing: over BlueZ 5.66 the connect then just does not come about,
and does not come about either when there is room again; made anew it does (measured, `docs/radio.md`). From outside that looks
as a device that does not answer. So a connect that hangs is evidence only beside links that stand, and only if another link's
end has helped it, or if another device's hangs too. What an adapter has shown is believed for a while: a wrong belief heals.
"""

FULL_FOR_S = 60.0  # (choice) so long an adapter that had no more room is believed to have no more
_TELLING = 2  # (choice) devices whose connects hang: of one it may be its own fault
_PROOF_S = 20.0  # `locks.md` §8: a session; so long a link's end may have helped the next connect


class Room:
    """The room of one adapter; every time in the same seconds.

    Args:
        slots: connections it was said to have.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._shown, self._until = slots, 0.0
        self._suspected, self._suspected_until = slots, 0.0
        self._hung: set[str] = set()

    def at(self, now: float) -> int:
        """Return how many connections it is believed to have."""
        return self._shown if now < self._until else self.slots

    def refused(self, held: int, now: float) -> None:
        """Note that it refused a connect beside so many links."""
        self._shown, self._until = max(1, held), now + FULL_FOR_S

    def hung(self, device: str, held: int, now: float) -> bool:
        """Note that a device's connect ended in its time-out; return whether that shows that it is full."""
        self._suspected_until = 0.0
        if held:
            self._hung.add(device)
        if len(self._hung) < _TELLING:
            return False
        self._hung.clear()
        self.refused(held, now)
        return True

    def vacated(self, held: int, now: float) -> None:
        """Note that one of so many links was ended for a connect that hung."""
        self._suspected, self._suspected_until = held, now + _PROOF_S

    def made(self, now: float) -> None:
        """Note that a connect has come about."""
        self._hung.clear()
        if now < self._suspected_until:
            self._suspected_until = 0.0
            self.refused(self._suspected, now)
