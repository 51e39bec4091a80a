"""Whose turn it is: of what a lock does only so often a second, no link can take every one (`locks.md` §1.4, §2).

Theory: whoever is refused because it was too soon stands in a line, and is served before anybody who joined it later. So the
link served last gives way, however often it asks. A turn that is not taken in time lapses: a link that asked once and then
keeps silent holds the others up once, and for no longer than that.
"""


class Turns:
    """The line of one scarce act; any unit of time, that of `now`.

    Args:
        spacing: the shortest time between two services.
        hold: how long a turn is kept for the link whose it is, from the moment it could have taken it.
    """

    def __init__(self, spacing: float, hold: float) -> None:
        self._spacing, self._hold = spacing, hold
        self._free_at = self._lapses_at = float("-inf")
        self._line: dict[str, None] = {}  # the links that were refused, longest wait first

    def take(self, link: str, now: float) -> bool:
        """Return whether a link that asks now is served; if not, it has its place in the line."""
        while self._line and now >= self._lapses_at:
            self._pass(next(iter(self._line)), self._lapses_at)
        self._line.setdefault(link)
        if now < self._free_at or next(iter(self._line)) != link:
            return False
        self._free_at = now + self._spacing
        self._pass(link, self._free_at)
        return True

    def leave(self, link: str, now: float) -> None:
        """Forget a link that is gone; whose turn it is then has the whole time for it."""
        if link in self._line:
            self._pass(link, max(now, self._free_at))

    def _pass(self, link: str, at: float) -> None:
        """Take a link out of the line; a turn that so becomes another's begins at `at`."""
        was_first = next(iter(self._line)) == link
        del self._line[link]
        if was_first:
            self._lapses_at = at + self._hold
