"""Frames of the journal to the telemetry store, with lock reports and events beside them for whoever looks at curves.

One sink serves all sites of the process, on a thread of its own: the store is never in the way of an acknowledgement. It reads
the journal in order, hands the store what it read, and keeps as its cursor how far the store is durable; after a crash it hands
over again what lies behind, which changes nothing that is stored. A store that is away is asked again, later and later; what
waits for it stays in the journal.
"""

import asyncio
import contextlib
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import structlog

from gateway.journal_reader import JournalReader
from gateway.sink_looks import Look, Looks
from gateway.sink_places import Place, Places
from manway.errors import StoreUnavailable
from manway.ids import derived_id
from manway.inputs import InputRejected
from manway.measurements import event_line
from manway.runtime.ports import Run
from manway.runtime.telemetry import Dead, StoredFrame, TelemetryStore

_log = structlog.get_logger("store")
_EVENTS = 1000  # (choice) a look
_BEATS = 600  # (choice) ten minutes of heartbeats wait for a store that is away; older ones tell nothing
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0  # `pipeline.md` §8.2
_JITTER = 0.2  # (choice) of a wait: a hundred gateways do not all come back at once
_LEAVE_S, _LAST_LOOKS_S = 2.0, 1.0  # (choice) of the five seconds a process has to end; of it to hand over what still waits
_SHOWN = 64  # bytes of a refused row, as of any other refused message
_END = float("inf")


class Buried(NamedTuple):
    """What the store will never take, for `Journal.bury`: the row or line itself, and the store's words."""

    line: bytes
    error: str


class Drained(NamedTuple):
    """What a look at the store came to.

    `waiting_since` is when the oldest input that the store has not taken was received (Unix s), None when none waits.
    `cursors` are to be kept now (`Journal.move_cursors`), after `buried` (`Journal.bury`) and `rejected` (site, input of its
    engine) are: a crash between them repeats, and loses nothing. `more` asks for the next look at once.
    """

    waiting_since: float | None
    cursors: dict[str, int]
    more: bool
    buried: Sequence[Buried] = ()
    rejected: Sequence[tuple[str, InputRejected]] = ()


class StoreSink:
    """Two cursors behind the journal, of inputs and of events; each moves only as far as the store is durable.

    Args:
        cursor: `Journal.cursor("store")`.
        reader: the journal's, for the thread that `drain` is given and no other.
        store: where rows and lines go; a store that keeps readings alone takes the lines for nothing.
        place: says where a frame belongs whose site's plan was not read yet: the engine's present, as (space, permit).
        event_cursor: `Journal.cursor("store.event")`.
        jitter: draws a number from 0 to 1.
    """

    def __init__(
        self,
        cursor: int,
        reader: JournalReader,
        store: TelemetryStore,
        place: Place,
        *,
        event_cursor: int = 0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reader, self._store, self._places, self._jitter = reader, store, Places(place), jitter
        self._read = self._kept = cursor
        self._event_read = self._event_kept = event_cursor
        self._looks = Looks(reader, self._places)
        self._look: Look | None = None
        self._beats: deque[bytes] = deque(maxlen=_BEATS)
        self._buried: list[Buried] = []
        self._rejected: list[tuple[str, InputRejected]] = []
        self._reached = 0.0  # how far the journal was read, Unix s: the store's idea of now
        self._plans_known = False
        self._since: float | None = None  # when the oldest input was received that waited at the last look, Unix s
        self._away = False
        self._tries = 0
        self._wait_until = 0.0

    def beat(self, line: bytes) -> None:
        """Take a heartbeat, a `gateway_line`, for the next look; old ones are forgotten while the store is away."""
        self._beats.append(line)

    async def drain(self, now: float, run: Run) -> Drained:
        """Hand over what is new, on the thread of `run`; while the store is away, keep it and try again later."""
        more = False
        if now >= self._wait_until:
            try:
                more = await run(lambda: self._hand_over(now))
                self._away, self._tries = False, 0
            except StoreUnavailable as error:
                self._wait(now, error.retry_after_s)
                _log.warning("store unavailable", reason=error.reason, seconds=round(self._wait_until - now, 1))
            except sqlite3.Error as error:
                self._wait(now, None)
                _log.error("journal not read for the store", reason=str(error))
        return await run(lambda: self._drained(now, more=more))

    async def leave(self, run: Run) -> Drained:
        """Have the store write what it holds, at the end of the process: what it cannot is handed over at the next start."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                with contextlib.suppress(StoreUnavailable, sqlite3.Error):
                    await self._look_once_more(run)
                with contextlib.suppress(StoreUnavailable):
                    await run(lambda: self._store.settle(_END))
                return await run(lambda: self._drained(self._reached, more=False))
        except TimeoutError:  # its thread waits for a server that says nothing; `TelemetryStore.close` ends that
            _log.warning("store did not answer at the end")
            return Drained(None, {}, more=False)

    async def _look_once_more(self, run: Run) -> None:
        """Hand over what came since the last look, as long as the time for it lasts; a store that is away gets it later."""
        clock = asyncio.get_running_loop().time
        until, more = clock() + _LAST_LOOKS_S, not self._away
        while more and clock() < until:
            more = await run(lambda: self._hand_over(self._reached))

    # -- on the store's thread

    def _hand_over(self, now: float) -> bool:
        if not self._plans_known:  # those behind which the sink goes on: the engines know the newest
            for site, at, plan in self._reader.plans_at(self._read):
                self._places.learn(site, plan, at)
            self._plans_known = True
        self._store.prune(now)  # first: a full disk, which the rest cannot do without, is what it makes room on
        again = self._look is not None
        self._store.settle(self._reached)  # what it could not write last time comes before more is read
        look = self._look = self._look or self._looks.next(self._read, now)
        if self._beats:
            beats = [*self._beats]
            self._bury((dead.line, dead.reason) for dead in self._store.annotate(beats))
            for _ in beats:
                self._beats.popleft()
        self._bury(look.odd)
        look.odd.clear()
        if look.lines:
            self._bury((dead.line, dead.reason) for dead in self._store.annotate(look.lines))
            look.lines.clear()
        self._hand_over_plain(look)
        self._refuse(look, self._store.write(look.rows, look.mark))
        self._read, self._reached, self._look = look.mark, max(self._reached, look.at), None
        events_wait = self._hand_over_events()
        self._store.settle(self._reached)
        return look.full or events_wait or again

    def _hand_over_plain(self, look: Look) -> None:
        """Hand over columns; what a store has no columns for, or cannot keep, goes before the look's own rows."""
        left = list[tuple[str, StoredFrame]]()
        for rows in look.plain:
            left += rows.rows(self._store.write_plain(rows))
        look.sites[:0], look.rows[:0] = [site for site, _ in left], [row for _, row in left]
        look.plain.clear()

    def _hand_over_events(self) -> bool:
        if not self._store.keeps_lines:
            self._event_read = max(self._event_read, self._reader.newest_event())
            return False
        events = self._reader.all_events_after(self._event_read, _EVENTS)
        lines = []
        for number, event in events:
            try:
                lines.append(event_line(event, seq=number))
            except ValueError as error:
                self._bury([(msgspec.json.encode(event), str(error))])
        if lines:
            self._bury((dead.line, dead.reason) for dead in self._store.annotate(lines))
        if events:
            self._event_read = events[-1][0]
        return len(events) == _EVENTS

    def _drained(self, now: float, *, more: bool) -> Drained:
        cursors = {}
        with contextlib.suppress(StoreUnavailable):  # closed: what is not known to be durable is not
            if (durable := self._store.durable()) > self._kept:
                cursors["store"] = self._kept = durable
        if self._event_read > self._event_kept:
            cursors["store.event"] = self._event_kept = self._event_read
        buried, self._buried = self._buried, []
        rejected, self._rejected = self._rejected, []
        try:  # what the store holds in memory has arrived, unless it cannot get rid of it
            self._since = self._reader.waiting_since(self._kept if self._away else self._read)
        except sqlite3.Error as error:  # nobody knows what waits: from now on something does
            self._since = now if self._since is None else self._since
            _log.error("journal not read for the store", reason=str(error))
        return Drained(self._since, cursors, more, buried, rejected)

    # -- what is refused, what is away

    def _bury(self, dead: Iterable[tuple[bytes, str]]) -> None:
        for line, error in dead:
            self._buried.append(Buried(line, error))
            _log.error("line refused by the store", reason=error)

    def _refuse(self, look: Look, dead: Sequence[Dead]) -> None:
        """Keep rows that the store will never take aside, and say so to the site they are of."""
        sites = {id(row): site for site, row in zip(look.sites, look.rows, strict=True)} if dead else {}
        for refused in dead:
            frame, line = refused.row.frame, msgspec.json.encode(refused.row)
            _log.error("row refused by the store", device=frame.device, seq=frame.seq, reason=refused.reason)
            self._buried.append(Buried(line, refused.reason))
            key = derived_id("store", sites[id(refused.row)], frame.device, frame.boot, frame.seq)
            told = InputRejected(key, f"store/{frame.device}", refused.reason, line[:_SHOWN].decode("ascii", "replace"))
            self._rejected.append((sites[id(refused.row)], told))

    def _wait(self, now: float, asked_s: float | None) -> None:
        """Wait as long as the store asked for, else 1, 2, 4 … 30 s, and a little longer each time by chance."""
        own = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**self._tries) * (1.0 + _JITTER * self._jitter())
        self._tries = min(self._tries + 1, 10)
        self._away = True
        self._wait_until = now + (own if asked_s is None else asked_s)
