"""What was judged and waits for the disk: committed in order, many steps in one transaction, then acknowledged.

While the journal cannot be written everything keeps its place; what was asked for meanwhile is not carried out late, and what
only repeats is not kept a second time: its senders were not acknowledged and will say it again.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog

from gateway.host import Acts, SiteHost
from gateway.journal import PRUNED, Entry, Journal
from manway.runtime.ports import Batch, Clock, Run

_log = structlog.get_logger("gateway")
# (choice) Clean air waits that long for company, because a sync costs the same for one frame and for a thousand; nobody waits
# for it but the senders. As long as the adapter's own window (`pipeline.md` §5).
_COMPANY_S = 0.005
_MOST_WAITING = 32  # (choice) steps; then they go without waiting for more
RETRY_S = 2.0  # (choice) how soon a journal that could not be written is tried again
HANGS_S = 5.0  # (choice) a sync that takes longer is a disk that hangs
_PRUNE_EVERY_S = 30.0


class Step:
    """What was judged at once: what must be written, who is then acknowledged, what is then done, whose snapshot it ends."""

    def __init__(self, at: float, batches: Sequence[Batch]) -> None:
        self.at, self.batches = at, batches
        self.entries: list[Entry] = []
        self.acts: list[tuple[SiteHost, Acts]] = []
        self.snapshot: tuple[str, bytes] | None = None
        self.stored = False  # set by the journal's thread

    @property
    def urgent(self) -> bool:
        """True where somebody waits for its commit: something happened, or is asked for."""
        return bool(self.acts) or any(entry.events for entry in self.entries)


class Stored(NamedTuple):
    """What a commit came to: each site's newest event number, the sites whose telemetry the cap took, the journal's fill."""

    newest: dict[str, int]
    dropped: set[str]
    fill: float


class Commits:
    """The second loop of a gateway.

    Args:
        journal: the one writer of the file.
        run: its thread.
        clock: for the time between two tries.
        stored: told of every commit.
        failing: told when the journal begins or ceases to fail.
    """

    def __init__(
        self, journal: Journal, run: Run, clock: Clock, *, stored: Callable[[Stored], None], failing: Callable[[bool], None]
    ) -> None:
        self.journal, self.run_journal = journal, run
        self.acts: asyncio.Queue[tuple[SiteHost, Acts, float]] = asyncio.Queue()
        self.fails = False
        self._clock, self._stored, self._failing = clock, stored, failing
        self._owed: deque[Step] = deque()
        self._work, self._urgent = asyncio.Event(), asyncio.Event()
        self._writing_since: float | None = None

    def owe(self, step: Step) -> None:
        """Take the next step."""
        if self.fails and not step.entries:
            return  # only repeats: nobody is acknowledged, and they come again
        self._owed.append(step)
        self._work.set()
        if step.urgent or step.snapshot is not None or len(self._owed) >= _MOST_WAITING:
            self._urgent.set()

    @property
    def hangs(self) -> bool:
        """True while a write has not come back for so long that it must be said."""
        return self._writing_since is not None and self._clock.now() - self._writing_since >= HANGS_S

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._work.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_COMPANY_S):
                    await self._urgent.wait()
            self._work.clear()
            self._urgent.clear()
            while self._owed:
                await self._commit()

    async def prune(self) -> None:
        """Let go of what every sink and both snapshots have passed, a piece at a time, for ever."""
        while True:
            await self._clock.sleep_until(self._clock.now() + (RETRY_S if self.fails else _PRUNE_EVERY_S))
            with disk_may_be_full():
                gone = PRUNED
                while gone >= PRUNED:
                    gone = await self.run_journal(self.journal.prune)

    async def finish(self) -> None:
        """Write what is left, after `run` was cancelled; raises sqlite3.OperationalError.

        It was judged and sounded, and nobody was acknowledged: it comes again, and is known then.
        """
        await self.run_journal(lambda: None)  # what was being written when we were cancelled has ended now
        rest = [step for step in self._owed if not step.stored]
        self._owed.clear()
        if rest:
            await self._write(rest)

    async def _commit(self) -> None:
        """Write what is owed, oldest first, in one transaction; a disk that is full leaves it owed."""
        steps = list[Step]()
        for step in self._owed:
            steps.append(step)
            if step.snapshot is not None:
                break  # a snapshot stands behind its own step and no later one
        self._writing_since = self._clock.now()
        try:
            await self._write(steps)
        except sqlite3.OperationalError as error:
            _log.error("journal not written", reason=str(error), steps=len(self._owed))
            self._say(fails=True)
            for step in self._owed:
                step.acts.clear()
            await self._clock.sleep_until(self._clock.now() + RETRY_S)
            return
        finally:
            self._writing_since = None
        self._say(fails=False)
        for step in steps:
            self._owed.popleft()
            for batch in step.batches:
                await batch.ack()
            for host, acts in step.acts:
                self.acts.put_nowait((host, acts, step.at))

    async def _write(self, steps: Sequence[Step]) -> None:
        entries, snapshot = [entry for step in steps for entry in step.entries], steps[-1].snapshot
        stored = await self.run_journal(lambda: _committed(self.journal, steps, entries))
        if stored is not None:
            self._stored(stored)
        if snapshot is not None:
            with disk_may_be_full():
                await self.run_journal(lambda: keep(self.journal, *snapshot, steps[-1].at))

    def _say(self, *, fails: bool) -> None:
        if fails or self.fails:
            self.fails = fails
            self._failing(fails)

    def look(self) -> None:
        """Say that the journal fails while a write hangs; called every second or so."""
        if self.hangs and not self.fails:
            _log.error("the journal's disk does not answer", seconds=HANGS_S)
            self._say(fails=True)


def keep(journal: Journal, site: str, body: bytes, at: float) -> None:
    """Keep a site's snapshot behind the input that was committed last."""
    journal.keep_snapshot(site, journal.last_input(site), at, body)


def _committed(journal: Journal, steps: Sequence[Step], entries: Sequence[Entry]) -> Stored | None:
    """Commit on the journal's thread; what is written is marked there, for nobody may be waiting any more."""
    newest = journal.commit(entries) if entries else None
    for step in steps:
        step.stored = True
    return None if newest is None else Stored(newest, {gap.site for gap in journal.dropped()}, round(journal.fill, 2))


@contextlib.contextmanager
def disk_may_be_full() -> Iterator[None]:
    """Let what is only a convenience wait for room on the disk."""
    try:
        yield
    except sqlite3.OperationalError as error:
        _log.error("journal not written", reason=str(error))
