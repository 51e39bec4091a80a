"""What one look of the store's sink takes from the journal: plain frames as columns, others as rows, lock reports as lines.

Plain frames are handed over before the rows of their look, and of one device and one time the newest frame stays in a store. So
a look ends before a plain frame of a device and a time that it has a row of: instruments whose clocks stand still are few.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import structlog

from gateway.journal_reader import JournalReader, Stored
from gateway.sink_places import Places
from manway.inputs import FrameReceived, LockReported, PlanReceived
from manway.measurements import lock_line
from manway.plain import Plain, Source
from manway.runtime.telemetry import PlainRows, StoredFrame

_log = structlog.get_logger("store")
# (choice) A look ends at either: so many rows are a second of a thousand frames that came one by one, so many frames a second
# and a half of a city. Columns of that many frames are made in milliseconds, and none of it holds up a judgement for long.
_ROWS, _FRAMES = 2_000, 20_000
_ROWS_FEWEST = 10  # (choice) at a time, however many frames a row of a backlog holds
_FRAMES_A_ROW = 100.0  # (choice) before the first was read


class _UnknownSource(Exception):
    """The journal holds plain frames of a source with this number, and does not know it."""


class Look:
    """One look: as it is handed over, and again until the store has taken it.

    `mark` is the number of its newest input, `at` the store's idea of now (Unix s), `full` whether more waits. `sites` are
    those of `rows`, `odd` what is no line of any store, and why.
    """

    def __init__(self, mark: int) -> None:
        self.mark, self.at, self.full = mark, 0.0, True
        self.plain: list[PlainRows] = []
        self.rows: list[StoredFrame] = []
        self.sites: list[str] = []
        self.lines: list[bytes] = []
        self.odd: list[tuple[bytes, str]] = []


class Looks:
    """Reads a journal forward, for one sink."""

    def __init__(self, reader: JournalReader, places: Places) -> None:
        self._reader, self._places = reader, places
        self._frames_a_row = _FRAMES_A_ROW

    def next(self, number: int, now: float) -> Look:
        """Return what stands behind an input number, as much as a look may hold; `now` in Unix seconds.

        Raises:
            sqlite3.Error: the journal cannot be read, or a plain frame has a source that is not in it.
        """
        look, rows, frames = Look(number), 0, 0
        read = list[Stored]()
        while look.full and rows < _ROWS and frames < _FRAMES:
            most = min(_ROWS - rows, max(_ROWS_FEWEST, int((_FRAMES - frames) / self._frames_a_row)))
            some = self._reader.inputs_after(read[-1].number if read else number, most)
            look.full = 2 * len(some) >= most  # an entry is one row of the journal, or two
            if some:
                count = sum(len(entry.inputs) if entry.plain is None else len(entry.plain) for entry in some)
                self._frames_a_row = max(1.0, count / len(some))
                rows, frames = rows + most, frames + count
                read += some
        taken = self._sort(read, look)
        if taken:
            look.mark = read[taken - 1].number
        look.full = look.full or taken < len(read)
        # While it catches up, time is the journal's: else a minute of the backlog would be over before it was read.
        look.at = read[taken - 1].at if look.full and taken else now
        return look

    def _sort(self, read: Sequence[Stored], look: Look) -> int:
        """Put everything where it goes, and return how many entries that were; frames go where the plan before them says."""
        waiting, seen = list[tuple[float, Plain]](), dict[int, set[str]]()
        taken, begin = 0, 0
        for entry in read:
            if entry.plain is not None:
                for row in look.rows[begin:]:
                    seen.setdefault(row.frame.ts, set()).add(row.frame.device)
                begin = len(look.rows)
                if seen and self._again(entry.plain, seen):
                    break
                waiting.append((entry.at, entry.plain))
            else:
                if waiting and any(type(item) is PlanReceived for item in entry.inputs):
                    look.plain += self._placed_where_known(waiting)
                    waiting = []
                self._sort_inputs(entry, look)
            taken += 1
        if waiting:
            look.plain += self._placed_where_known(waiting)
        return taken

    def _again(self, plain: Plain, seen: Mapping[int, set[str]]) -> bool:
        """Say whether a frame is of a device and a time that have been seen."""
        times = plain.ts.tolist()
        if seen.keys().isdisjoint(times):
            return False
        known, sources = self._reader.sources, zip(times, plain.source.tolist(), strict=True)
        return any(number in known and known[number].device in seen[ts] for ts, number in sources if ts in seen)

    def _sort_inputs(self, entry: Stored, look: Look) -> None:
        """Put the inputs of one entry where they go; what is neither reading nor lock report goes nowhere."""
        site, of, take = entry.site, self._places.of, look.rows.append
        for place, item in enumerate(entry.inputs):
            if type(item) is FrameReceived:
                take(StoredFrame(item.frame, *of(site, item.frame)))
            elif isinstance(item, PlanReceived):
                self._places.learn(site, item.plan, entry.at)
            elif isinstance(item, LockReported) and not item.retained:
                space = self._places.of_lock(site, item.lock)
                try:
                    look.lines.append(lock_line(item.lock, item.state, space=space, at=entry.at, place=place))
                except ValueError as error:
                    look.odd.append((msgspec.json.encode(item), str(error)))
        look.sites.extend([site] * (len(look.rows) - len(look.sites)))

    def _source(self, number: int) -> Source:
        try:
            return self._reader.sources[number]
        except KeyError as error:
            raise _UnknownSource(number) from error

    def _placed_where_known(self, steps: Sequence[tuple[float, Plain]]) -> list[PlainRows]:
        """Return the plain frames of some steps; of a damaged journal those of steps all of whose sources it knows."""
        try:
            return [self._placed(steps)]
        except _UnknownSource as error:
            if len(steps) > 1:
                return [rows for step in steps for rows in self._placed_where_known([step])]
            _log.error("plain frames of no source the journal knows, not stored", source=error.args[0], frames=len(steps[0][1]))
            return []

    def _placed(self, steps: Sequence[tuple[float, Plain]]) -> PlainRows:
        """Return the plain frames of some steps as the columns of one."""
        plain = steps[0][1] if len(steps) == 1 else _joined([plain for _, plain in steps])
        at = np.repeat([at for at, _ in steps], [len(plain) for _, plain in steps])
        places = self._places.of_sources(plain.source.tolist(), self._source)
        return PlainRows(plain, at, places, self._places.placed)


def _joined(parts: Sequence[Plain]) -> Plain:
    return Plain(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.seq for part in parts]),
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.width for part in parts]),
        np.concatenate([part.values for part in parts]),
    )
