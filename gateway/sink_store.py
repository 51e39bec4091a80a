"""Frames of one journal to the telemetry store; the store is never in the way of an acknowledgement."""

import sqlite3

import structlog

from gateway.host import SiteHost
from manway.entities import Frame
from manway.errors import StoreUnavailable
from manway.inputs import FrameReceived
from manway.runtime.ports import Run
from manway.runtime.telemetry import StoredFrame, TelemetryStore

_log = structlog.get_logger("store")
_BATCHES = 500
_RETRY_S = 2.0


class StoreSink:
    """One cursor behind the journal; moves only after the store said yes."""

    def __init__(self, host: SiteHost, store: TelemetryStore) -> None:
        self._host, self._store = host, store
        self._cursor = host.journal.cursor("store")
        self._wait_until = 0.0

    async def drain(self, now: float, run_journal: Run, run_store: Run) -> None:
        """Store what is new; while the store is away, keep it and try again later."""
        await self._say_lag(run_journal)
        if now < self._wait_until:
            return
        behind, journal = self._cursor, self._host.journal
        batches = await run_journal(lambda: journal.inputs_after(behind, _BATCHES))
        if not batches:
            return
        rows = [self._placed(item.frame) for _, inputs in batches for item in inputs if isinstance(item, FrameReceived)]
        try:
            dead = await run_store(lambda: self._store.write(rows))
        except StoreUnavailable as error:
            self._wait_until = now + (error.retry_after_s or _RETRY_S)
            _log.warning("store unavailable", site=self._host.site, reason=error.reason)
            return
        for row in dead:
            _log.error("row refused by the store", device=row.row.frame.device, seq=row.row.frame.seq, reason=row.reason)
        self._cursor = batches[-1][0]
        try:
            await run_journal(lambda: journal.move_cursor("store", batches[-1][0]))
        except sqlite3.OperationalError as error:  # a full disk; what is then stored again is there once
            _log.error("cursor not kept", site=self._host.site, reason=str(error))
        await self._say_lag(run_journal)

    async def _say_lag(self, run_journal: Run) -> None:
        """Tell before and after the store was asked: one that neither takes nor refuses is behind too."""
        behind, journal = self._cursor, self._host.journal
        self._host.health.stored(await run_journal(lambda: journal.waiting_since(behind)))

    def _placed(self, frame: Frame) -> StoredFrame:
        site = self._host.engine.site
        watch = site.instruments.get(frame.device)
        space = watch.space if watch else "unknown"
        permit = site.permit_of(space)
        return StoredFrame(frame, space, permit.id if permit else "")
