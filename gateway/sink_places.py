"""In which space, and under which permit, a frame was measured: as the plan said when it was given to the engine.

A sink runs behind the engine, by hours after an outage, and the engine's present plan is then not the frame's. The plans stand
in the journal between the frames, so the sink follows them as it reads. A frame that its device kept and sent later belongs to
the permit of its own time, not of its arrival.
"""

from bisect import bisect_right
from collections.abc import Callable

from manway.entities import Frame, Plan
from manway.permit import HOLDING, OPEN

NOWHERE = "unknown"
"""The space of a device that no plan names."""
_KEPT = 64  # (choice) changes a device or space: more than a week of permits, and a device replays a week
Place = Callable[[str, Frame], tuple[str, str]]
"""Site and frame -> space and permit, "" for none."""


class _Changes:
    """What held from when on, ms since 1970, the oldest first."""

    def __init__(self) -> None:
        self.since: list[int] = []
        self.values: list[str] = []

    def note(self, since: int, value: str) -> None:
        if not self.values or self.values[-1] != value:
            self.since.append(since)
            self.values.append(value)
            del self.since[:-_KEPT], self.values[:-_KEPT]

    def at(self, ts: int) -> str | None:
        """Return what held at `ts`; None before anything is known."""
        place = bisect_right(self.since, ts) - 1
        return self.values[place] if place >= 0 else None


class Places:
    """Follows the plans of all sites of a process.

    Args:
        otherwise: says where a frame belongs that came before the first plan of its site was read here: after a restart the
            plan stands before the sink's cursor, and the engine knows it.
    """

    def __init__(self, otherwise: Place) -> None:
        self._otherwise = otherwise
        self._versions: dict[str, int] = {}
        self._spaces: dict[tuple[str, str], _Changes] = {}  # (site, device) -> its spaces
        self._permits: dict[tuple[str, str], _Changes] = {}  # (site, space) -> permits that held it
        self._locks: dict[tuple[str, str], str] = {}

    def learn(self, site: str, plan: Plan, at: float) -> None:
        """Take a plan that the engine was given at `at` (Unix seconds); one that is not newer is refused there, and here."""
        if plan.version <= self._versions.get(site, -1):
            return
        self._versions[site] = plan.version
        since = round(at * 1000.0)
        spaces = {(site, known.device): known.space for known in plan.instruments}
        holding = [permit for permit in plan.permits if permit.state in HOLDING]
        permits: dict[tuple[str, str], str] = {}
        for permit in sorted(holding, key=lambda permit: permit.state not in OPEN):  # the one people may be inside on first
            permits.setdefault((site, permit.space), permit.id)
        for known, now, gone in ((self._spaces, spaces, NOWHERE), (self._permits, permits, "")):
            for key in {key for key in known if key[0] == site} | now.keys():
                known.setdefault(key, _Changes()).note(since, now.get(key, gone))
        self._locks |= {(site, lock.device): lock.space for lock in plan.locks}

    def of(self, site: str, frame: Frame) -> tuple[str, str]:
        """Return the space and the permit of a frame; by its own time when its device kept it, else as the plan is read."""
        if site not in self._versions:
            return self._otherwise(site, frame)
        spaces = self._spaces.get((site, frame.device))
        if not frame.replayed:
            space = spaces.values[-1] if spaces else NOWHERE
            permits = self._permits.get((site, space))
            return space, permits.values[-1] if permits else ""
        then = spaces.at(frame.ts) if spaces else NOWHERE
        if then is None:
            return self._otherwise(site, frame)
        permits = self._permits.get((site, then))
        return then, (permits.at(frame.ts) if permits else "") or ""

    def of_lock(self, site: str, lock: str) -> str:
        """Return the space a lock bars, as the newest plan that was read says."""
        return self._locks.get((site, lock), NOWHERE)
