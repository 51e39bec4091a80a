"""When each site wants to be looked at again, and which is the next, without asking all of them."""

import heapq


class Deadlines:
    """The earliest deadline of many sites. A site has one at most; times in Unix seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []  # the same in order, with what is no longer so

    def set(self, site: str, at: float | None) -> None:
        """Take a site's deadline in place of the one before; None is never."""
        if at is None:
            self._at.pop(site, None)
        elif self._at.get(site) != at:
            self._at[site] = at
            heapq.heappush(self._queue, (at, site))

    def next(self) -> float | None:
        """Return the earliest, None when there is none."""
        while self._queue and self._at.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def due(self, now: float) -> list[str]:
        """Return, and forget, the sites whose deadline has come."""
        sites = list[str]()
        while (at := self.next()) is not None and at <= now:
            _, site = heapq.heappop(self._queue)
            del self._at[site]
            sites.append(site)
        return sites
