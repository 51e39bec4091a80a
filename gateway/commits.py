"""What was judged and waits for the disk: committed in order, many steps in one transaction, then acknowledged.

While the journal cannot be written everything keeps its place; what was asked for meanwhile is not carried out late, and what
only repeats is not kept a second time: its senders were not acknowledged and will say it again.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog

from gateway.host import Acts, SiteHost
from gateway.journal import PRUNED, Entry, Journal, PlainEntry
from manway.runtime.ports import Batch, Clock, Run

_log = structlog.get_logger("gateway")
# (choice) Clean air waits that long for company, because a commit costs nearly the same for one frame and for a thousand; where
# fewer messages than `_ENOUGH` have come by then, longer: what wakes the disk's thread costs a small site more than its rules.
# Nobody waits for it but the broker: with the adapter's windows and the sync it has its acknowledgements 20 ms after it
# delivered, when at 12,000 messages a second 240 are under way of the 500 and more that a session may owe (`pipeline.md` §2),
# and a broker that lets 10 be under way (RabbitMQ; most let 20 or more) never waits for the longer time.
_COMPANY_S, _MORE_COMPANY_S = 0.010, 0.040
_ENOUGH = 10
# (choice) repeated messages that wait while the journal fails; who says them again and again beyond that will once more.
_MOST_REPEATED = 10_000
_MOST_WAITING = 32  # (choice) steps; then they go without waiting for more
RETRY_S = 2.0  # (choice) how soon a journal that could not be written is tried again
HANGS_S = 5.0  # (choice) a sync that takes longer is a disk that hangs
_PRUNE_EVERY_S = 30.0


class Step:
    """What was judged at once: what must be written, who is then acknowledged, what is then done, whose snapshot it ends."""

    def __init__(self, at: float, batches: Sequence[Batch]) -> None:
        self.at, self.batches = at, list(batches)
        self.entries: list[Entry | PlainEntry] = []
        self.acts: list[tuple[SiteHost, Acts]] = []
        self.snapshot: tuple[str, bytes] | None = None
        self.stored = False  # set by the journal's thread

    @property
    def urgent(self) -> bool:
        """True where somebody waits for its commit: something happened, or is asked for."""
        return bool(self.acts) or any(isinstance(entry, Entry) and entry.events for entry in self.entries)


class Stored(NamedTuple):
    """What a commit came to: each site's newest event number, the sites whose telemetry the cap took, the journal's fill.

    `written` are the new events of each site as the journal encoded them, with the number of the first.
    """

    newest: dict[str, int]
    dropped: set[str]
    fill: float
    written: Mapping[str, tuple[int, Sequence[bytes]]]


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
        self._repeated = 0  # messages that only repeat and wait with what is owed
        self._due = asyncio.Event()
        self._company: asyncio.TimerHandle | None = None  # while what is owed waits for more
        self._messages = 0  # that wait with it
        self._patient = False  # they were too few once, and it waits longer
        self._writing_since: float | None = None

    def owe(self, step: Step) -> None:
        """Take the next step."""
        if self.fails and not step.entries:
            self._repeat(step)
            return
        if not (step.entries or step.batches or step.acts):
            return  # a look at the time that found nothing
        self._owed.append(step)
        self._messages += sum(len(batch.messages) for batch in step.batches)
        enough = self._patient and self._messages >= _ENOUGH
        if enough or step.urgent or step.snapshot is not None or len(self._owed) >= _MOST_WAITING:
            self._due.set()
        elif self._company is None:
            self._company = asyncio.get_running_loop().call_later(_COMPANY_S, self._has_waited)

    def _has_waited(self) -> None:
        """Write what is owed, or wait longer for company where it is little."""
        if self._messages >= _ENOUGH:
            self._due.set()
        else:
            self._patient = True
            self._company = asyncio.get_running_loop().call_later(_MORE_COMPANY_S, self._due.set)

    def _repeat(self, step: Step) -> None:
        """Acknowledge what only repeats with what it repeats: most brokers say it once more on a new connection only."""
        if self._owed and self._repeated < _MOST_REPEATED:
            self._repeated += sum(len(batch.messages) for batch in step.batches)
            self._owed[-1].batches += step.batches

    @property
    def hangs(self) -> bool:
        """True while a write has not come back for so long that it must be said."""
        return self._writing_since is not None and self._clock.now() - self._writing_since >= HANGS_S

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._company is not None:
                self._company.cancel()
                self._company = None  # whoever comes while we write waits for company of its own
            self._messages, self._patient = 0, False
            owed = len(self._owed)
            while owed > 0:
                owed -= await self._commit()

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

    async def _commit(self) -> int:
        """Write what is owed, oldest first, in one transaction; return how many steps: none when the disk is full."""
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
            return 0
        finally:
            self._writing_since = None
        self._say(fails=False)
        self._repeated = 0
        for step in steps:
            self._owed.popleft()
            for batch in step.batches:
                await batch.ack()
            for host, acts in step.acts:
                self.acts.put_nowait((host, acts, step.at))
        return len(steps)

    async def _write(self, steps: Sequence[Step]) -> None:
        entries, snapshot = [entry for step in steps for entry in step.entries], steps[-1].snapshot
        if entries:  # else there is nobody but senders of repeats to be acknowledged
            self._stored(await self.run_journal(lambda: _committed(self.journal, steps, entries)))
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
    """Keep a site's snapshot behind the input that was committed last, of whichever site: plain frames are of many."""
    journal.keep_snapshot(site, journal.newest_input, at, body)


def _committed(journal: Journal, steps: Sequence[Step], entries: Sequence[Entry | PlainEntry]) -> Stored:
    """Commit on the journal's thread; what is written is marked there, for nobody may be waiting any more."""
    newest = journal.commit(entries)
    for step in steps:
        step.stored = True
    return Stored(newest, {gap.site for gap in journal.dropped()}, round(journal.fill, 2), journal.written)


@contextlib.contextmanager
def disk_may_be_full() -> Iterator[None]:
    """Let what is only a convenience wait for room on the disk."""
    try:
        yield
    except sqlite3.OperationalError as error:
        _log.error("journal not written", reason=str(error))
