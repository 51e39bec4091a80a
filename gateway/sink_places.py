"""In which space, and under which permit, a frame was measured: as the plan said when it was given to the engine.

A sink runs behind the engine, by hours after an outage, and the engine's present plan is then not the frame's. The plans stand
in the journal between the frames, so the sink follows them as it reads. A frame that its device kept and sent later belongs to
the permit of its own time, not of its arrival. A plain frame was never kept, so all of one source are in one place until the
next plan of its site: the place has a number, and is looked up once.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Plan
from manway.permit import HOLDING, OPEN
from manway.plain import Source
from manway.runtime.telemetry import Placed

NOWHERE = "unknown"
"""The space of a device that no plan names."""
_KEPT = 64  # (choice) changes a device or space: more than a week of permits, and a device replays a week
_PLACED_MOST = 100_000  # (choice) places before all are numbered anew: a city, and eight permits each
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
        self.placed: list[Placed] = []
        self._place_of: dict[int, int] = {}  # source -> its number in `placed`, while that holds
        self._place_before: dict[int, int] = {}  # source -> the newest number it had
        self._sources: defaultdict[str, list[int]] = defaultdict(list)  # site -> sources that have a number

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
        for number in self._sources.pop(site, ()):
            del self._place_of[number]

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

    def of_sources(self, numbers: Sequence[int], source: Callable[[int], Source]) -> npt.NDArray[np.intp]:
        """Return for each source where its frames are measured, as the plan is read: numbers in `placed`.

        `placed` only grows; when it has grown too long it is another list. `source` says which one a number is.
        """
        try:
            return np.fromiter(map(self._place_of.__getitem__, numbers), np.intp, len(numbers))
        except KeyError:
            if len(self.placed) > _PLACED_MOST:
                self.placed, self._place_of, self._place_before = [], {}, {}
                self._sources.clear()
            for number in dict.fromkeys(numbers):
                if number not in self._place_of:
                    self._place(source(number))
        return np.fromiter(map(self._place_of.__getitem__, numbers), np.intp, len(numbers))

    def _place(self, source: Source) -> None:
        place = Placed(source, *self.of(source.site, Frame(source.device, source.boot, 0, 0, 0.0, {})))
        before = self._place_before.get(source.number)
        if before is None or self.placed[before] != place:
            self._place_before[source.number] = before = len(self.placed)
            self.placed.append(place)
        self._place_of[source.number] = before
        self._sources[source.site].append(source.number)

    def of_lock(self, site: str, lock: str) -> str:
        """Return the space a lock bars, as the newest plan that was read says."""
        return self._locks.get((site, lock), NOWHERE)
