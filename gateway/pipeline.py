"""Decode, judge, sound, commit, acknowledge: the two loops of a gateway, and what it says to its api and its pages.

Theory. Whatever is readable is one step: all sites it touches are judged and sounded at once. Behind it a second loop
commits what was judged, all steps that wait in one transaction, and then acknowledges and acts: while one commit syncs, the
next step is judged already. Sinks read the journal beside it, on threads of their own, and none can hold up another.

While the journal cannot be written, judging and sounding go on (`trust.md` X14): what was judged waits in order until it can be
committed, and until then nothing is acknowledged to anybody and no effect takes place.
"""

import asyncio
import contextlib
import math
import os
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from gateway.health import RETRY_S
from gateway.host import Acts, SiteHost
from gateway.journal import PRUNED, Entry, Journal
from gateway.sink_store import Drained, StoreSink
from gateway.uplink import Uplink
from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, Heartbeat, decode, encode, pack_state
from manway.errors import DecodeRejected
from manway.measurements import gateway_line
from manway.runtime.ports import Batch, Bus, Clock, Message, Run
from manway.topics import Address, parse, root

_log = structlog.get_logger("gateway")
_STATE_EVERY_S = 60.0
# (choice) A page shows within a second what happened, or how people inside breathe; clean air of empty spaces may wait.
_STIRRED_S, _STILL_S = 1.0, 5.0
_STORE_EVERY_S = 2.0
_KEPT_EVERY_S = 1.0  # (choice) how much the uplink sends again after a kill
_PRUNE_EVERY_S = 30.0
_SNAPSHOT_EVERY_S = 60.0  # `pipeline.md` §6
_SNAPSHOT_INPUTS = 10_000  # same place
_BEAT_S = 1.0  # `trust.md` 7.2
_AHEAD_S = 1.0  # a journal ahead of the clock by more was written by a clock that was set back since
_COMPANY_S = 0.005  # (choice) as long as the adapter's own window (`pipeline.md` §5)
_MOST_OWED = 32  # (choice) steps judged ahead of the disk; beyond, the broker waits
_QUEUE = 200  # batches; then the broker waits, which is what a queue is for


class _Nothing:
    """A batch that brings nothing but a look at the time."""

    messages: Sequence[Message] = ()

    async def ack(self) -> None:
        """Owe nobody anything."""


class _Step:
    """What was judged at once: what must be written, who is then acknowledged, what is then done, whose snapshot it ends."""

    def __init__(self, at: float, batches: Sequence[Batch]) -> None:
        self.at, self.batches = at, batches
        self.entries: list[Entry] = []
        self.acts: list[tuple[SiteHost, Acts]] = []
        self.snapshot: tuple[str, bytes] | None = None

    @property
    def urgent(self) -> bool:
        """True where somebody waits for its commit: something happened, or is asked for."""
        return bool(self.acts) or any(entry.events for entry in self.entries)


class _Kept:
    """When a site's snapshot was taken last, and how many inputs have come since."""

    def __init__(self, at: float) -> None:
        self.at, self.inputs = at, 0

    def due(self, now: float) -> bool:
        """Say whether the next one is due."""
        return self.inputs >= _SNAPSHOT_INPUTS or (self.inputs > 0 and now >= self.at + _SNAPSHOT_EVERY_S)


class Gateway:
    """Serves several sites over one bus and one journal; every site has its own engine.

    `journal` runs the journal's writer; `sinks` gives each sink a thread of its own, by name.
    """

    def __init__(
        self,
        hosts: Sequence[SiteHost],
        bus: Bus,
        clock: Clock,
        *,
        name: str,
        journal: Journal,
        run_journal: Run,
        uplinks: Sequence[Uplink],
        run_uplink: Run,
        store: StoreSink,
        run_store: Run,
    ) -> None:
        self._hosts = {host.site: host for host in hosts}
        self._bus, self._clock, self._name = bus, clock, name
        self._journal, self._run_journal = journal, run_journal
        self._uplinks, self._run_uplink = {uplink.site: uplink for uplink in uplinks}, run_uplink
        self._store, self._run_store = store, run_store
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(_QUEUE)
        self._owed: deque[_Step] = deque()  # judged, and not yet in the journal
        self._work, self._urgent, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._retry_at: float | None = None  # when a journal that could not be written is tried again
        self._deadlines = {host.site: host.next_deadline() for host in hosts}
        # A journal written by a clock that was ahead: its time is kept and runs on, or no deadline would ever pass again.
        self._engine_now = max((host.engine.now for host in hosts), default=0.0)
        self._ahead = max(0.0, self._engine_now - clock.now())
        if self._ahead > _AHEAD_S:
            _log.error("the journal is ahead of the clock", seconds=round(self._ahead, 1))
        self._boot = int(clock.now())
        self._stepped_at = clock.now()
        self._snapshots = {host.site: _Kept(self._now()) for host in hosts}
        self._fill = 0.0
        self._shown = dict[str, float]()  # when each site's picture went out
        self._fresh = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._bus, asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._judge())
            group.create_task(self._commit())
            group.create_task(self._prune())
            group.create_task(self._send_events())
            group.create_task(self._keep_cursors())
            group.create_task(self._send_pictures())
            group.create_task(self._beat())
            group.create_task(self._fill_store())

    def _now(self) -> float:
        """Return the present, never before what an engine has already seen; time goes on even where a journal is ahead."""
        return max(self._clock.now() + self._ahead, self._engine_now)

    async def _read(self) -> None:
        async for batch in self._bus.batches():
            await self._queue.put(batch)

    # -- judging

    async def _judge(self) -> None:
        """Wait for a batch or the next deadline, whichever is first; the only timer of the rules."""
        while True:
            batches: list[Batch] = []
            deadline = min((at for at in self._deadlines.values() if at is not None), default=None)
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout_at(deadline - self._ahead if deadline is not None else None):
                    batches.append(await self._queue.get())
            while not self._queue.empty():
                batches.append(self._queue.get_nowait())
            step = self._judged(batches)
            self._owed.append(step)
            self._work.set()
            if step.urgent or len(self._owed) >= _MOST_OWED:
                self._urgent.set()
            self._stepped_at = self._clock.now()
            while len(self._owed) >= _MOST_OWED and self._retry_at is None:
                self._room.clear()
                await self._room.wait()

    def _judged(self, batches: Sequence[Batch]) -> _Step:
        now = self._engine_now = self._now()
        step = _Step(now, batches)
        by_site = self._sorted([m for batch in batches for m in batch.messages], now)
        due = [site for site, at in self._deadlines.items() if at is not None and at <= now and site not in by_site]
        for site in (*by_site, *due):
            host = self._hosts[site]
            entry = host.take(by_site[site], now) if site in by_site else host.advance(now)
            if entry is not None:
                step.entries.append(entry)
                self._snapshots[site].inputs += len(entry.inputs)
            if acts := host.acts():
                step.acts.append((host, acts))
            self._deadlines[site] = host.next_deadline()
        ripe = next((site for site, kept in self._snapshots.items() if kept.due(now)), None)
        if ripe is not None:  # of one site a step: it is a pause for all of them
            self._snapshots[ripe] = _Kept(now)
            step.snapshot = ripe, self._hosts[ripe].snapshot()
        return step

    def _sorted(self, messages: Sequence[Message], now: float) -> dict[str, list[tuple[Address, Message]]]:
        """Return the messages of each site that are its own to judge; the api's pulse and answers are taken here."""
        by_site = defaultdict[str, list[tuple[Address, Message]]](list)
        for message in messages:
            try:
                address = parse(message.topic)
            except DecodeRejected as error:
                _log.warning("foreign topic", topic=error.source, reason=error.reason)
                continue
            if address.site not in self._hosts:
                continue
            if address.name == "api/ack":
                self._acknowledged(address.site, message)
            elif address.name == "api/heartbeat":
                self._api_beat(address.site, message, now)
            else:
                by_site[address.site].append((address, message))
        return by_site

    # -- committing

    async def _commit(self) -> None:
        while True:
            await self._work.wait()
            # Clean air waits a moment for company, because a sync costs the same for one frame and for a thousand; nobody waits
            # for it but the senders. What happened, or asks for something, goes at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_COMPANY_S):
                    await self._urgent.wait()
            self._work.clear()
            self._urgent.clear()
            while self._owed:
                await self._commit_some()

    async def _commit_some(self) -> None:
        """Write what is owed, oldest first, in one transaction; a disk that is full leaves it owed."""
        steps = list[_Step]()
        for step in self._owed:
            steps.append(step)
            if step.snapshot is not None:
                break  # a snapshot stands behind its own step and no later one
        try:
            await self._write(steps)
        except sqlite3.OperationalError as error:
            _log.error("journal not written", reason=str(error), steps=len(self._owed))
            await self._wait_for_room()
            return
        self._retry_at = None
        for step in steps:
            self._owed.popleft()
            for batch in step.batches:
                await batch.ack()
        self._room.set()
        self._fresh.set()
        self._journal_is(fails=False)
        for step in steps:
            for host, acts in step.acts:
                await host.act(acts, step.at, self._bus)

    async def _write(self, steps: Sequence[_Step]) -> None:
        entries, snapshot = [entry for step in steps for entry in step.entries], steps[-1].snapshot
        if entries:
            newest, dropped, fill = await self._run_journal(lambda: _committed(self._journal, entries))
            for site, seq in newest.items():
                self._hosts[site].seq = max(self._hosts[site].seq, seq)
            if dropped or fill != self._fill:
                self._fill = fill
                for site, host in self._hosts.items():
                    host.health.filled(fill, dropped=site in dropped)
                    self._look(host)
        if snapshot is not None:
            site, body = snapshot
            with _disk_may_be_full():
                await self._run_journal(
                    lambda: self._journal.keep_snapshot(site, self._journal.last_input(site), steps[-1].at, body)
                )

    async def _wait_for_room(self) -> None:
        """Let time pass before the next try; nothing that was judged meanwhile may take effect late."""
        for step in self._owed:
            step.acts.clear()
        self._retry_at = self._now() + RETRY_S
        self._room.set()
        self._journal_is(fails=True)
        await self._clock.sleep_until(self._clock.now() + RETRY_S)

    def _journal_is(self, *, fails: bool) -> None:
        for host in self._hosts.values():
            if fails or host.health.journal_fails:
                host.health.journal(self._now(), fails=fails)
                self._look(host)

    def _look(self, host: SiteHost) -> None:
        """Look at a site's deadlines again, and wake the rules when its health has something to say."""
        self._deadlines[host.site] = host.next_deadline()
        if host.health.due(self._now()) and self._queue.empty():
            self._queue.put_nowait(_Nothing())

    async def _prune(self) -> None:
        """Let go of what every sink and both snapshots have passed, a piece at a time."""
        while True:
            await self._clock.sleep_until(self._clock.now() + _PRUNE_EVERY_S)
            with _disk_may_be_full():
                gone = PRUNED
                while gone >= PRUNED:
                    gone = await self._run_journal(self._journal.prune)

    async def leave(self) -> None:
        """After `run` was cancelled: keep a snapshot of every site and the cursors, so that the next start is a quick one."""
        try:
            if self._owed:
                await self._write([*self._owed])  # judged and sounded: not acknowledged, so it comes again, and is known then
                self._owed.clear()
            for site, kept in self._snapshots.items():
                if kept.inputs:
                    body, now = self._hosts[site].snapshot(), self._now()
                    await self._run_journal(
                        lambda site=site, body=body, now=now: self._journal.keep_snapshot(  # type: ignore[misc]
                            site, self._journal.last_input(site), now, body
                        )
                    )
            await self._settle(await self._store.leave(self._run_store))
            await self._move_cursors()
        except sqlite3.OperationalError as error:
            _log.error("journal not written", reason=str(error))

    # -- the api

    def _api_beat(self, site: str, message: Message, now: float) -> None:
        """Hear the api; a copy that the broker kept is nobody's pulse."""
        try:
            decode(message.payload, ApiHeartbeat, message.topic)
        except DecodeRejected as error:
            _log.warning("heartbeat not understood", reason=error.reason)
            return
        if not message.retained:
            self._hosts[site].health.api_heard(now)
            self._deadlines[site] = self._hosts[site].next_deadline()

    def _acknowledged(self, site: str, message: Message) -> None:
        try:
            ack = decode(message.payload, Acknowledgement, message.topic)
        except DecodeRejected as error:
            _log.warning("acknowledgement not understood", reason=error.reason)
            return
        self._uplinks[site].acknowledge(ack, self._hosts[site].seq, self._now())

    async def _send_events(self) -> None:
        online = False
        while True:
            if self._bus.connected and not online:
                # After an outage pages show what is so before they are told what was.
                for host in self._hosts.values():
                    await self._send_picture(host)
            online = self._bus.connected
            for site, uplink in self._uplinks.items():
                if uplink.wants(self._now(), self._hosts[site].seq) and self._bus.connected:
                    await uplink.send(self._now(), self._bus, self._run_uplink)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._fresh.wait()
            self._fresh.clear()

    async def _keep_cursors(self) -> None:
        while True:
            await asyncio.sleep(_KEPT_EVERY_S)
            await self._move_cursors()

    async def _move_cursors(self) -> None:
        """Note how far the api has come; what a kill forgets of it is sent again, and known there."""
        moved = {uplink.sink: seq for uplink in self._uplinks.values() if (seq := uplink.moved()) is not None}
        if moved:
            with _disk_may_be_full():
                await self._run_journal(lambda: self._journal.move_cursors(moved))

    async def _send_pictures(self) -> None:
        while True:
            now = self._now()
            for host in self._hosts.values():
                if self._bus.connected and now - self._shown.get(host.site, -math.inf) >= _every_s(host):
                    await self._send_picture(host)
            await asyncio.sleep(0.5)

    async def _send_picture(self, host: SiteHost) -> None:
        host.changed = host.stirred = False
        self._shown[host.site] = self._now()
        try:
            await self._bus.publish(f"{root(host.site)}gw/state", pack_state(host.picture(self._name)), retain=True)
        except ValueError as error:  # larger than a message may be: no page is worth a gateway
            _log.error("picture not sent; divide the site", site=host.site, reason=str(error))

    async def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            for site, host in self._hosts.items():
                beat = Heartbeat(
                    gw=self._name,
                    boot=self._boot,
                    s=count,
                    at=self._now(),
                    engine_age_s=round(self._clock.now() - self._stepped_at, 3),
                    unsent=host.seq - self._uplinks[site].cursor,
                    fill=round(self._fill, 3),
                    lag_s=round(host.health.store_behind_s(self._now()), 1),
                )
                await self._bus.publish(f"{root(site)}gw/heartbeat", encode(beat), qos=0)
                self._look_at_clock(host)
            self._store.beat(self._line())
            # By the clock that the api's deadline runs on: a yard that plays faster also beats faster.
            await self._clock.sleep_until(self._clock.now() + _BEAT_S)

    def _line(self) -> bytes:
        """Return the pulse as the telemetry store keeps it."""
        now = self._now()
        return gateway_line(
            self._name,
            now,
            fill=self._fill,
            lag_s=max((host.health.store_behind_s(now) for host in self._hosts.values()), default=0.0),
            engine_age_s=max(0.0, self._clock.now() - self._stepped_at),
            rss=_resident_bytes(),
        )

    def _look_at_clock(self, host: SiteHost) -> None:
        """Note a step of the machine's clock, and wake the pipeline when the gateway has something to say of itself."""
        ahead = self._ahead if self._ahead > _AHEAD_S else 0.0
        if step := host.health.clock(self._clock.wall_off_s() - ahead):
            _log.warning("clock stepped", site=host.site, seconds=round(step, 1))
        self._look(host)

    async def _fill_store(self) -> None:
        while True:
            drained = await self._store.drain(self._now(), self._run_store)
            for host in self._hosts.values():
                host.health.stored(drained.waiting_since)
                self._look(host)
            await self._settle(drained)
            if not drained.more:
                await asyncio.sleep(_STORE_EVERY_S)

    async def _settle(self, drained: Drained) -> None:
        """Keep what the store refused, say so to its site, and only then note how far the store has come."""
        with _disk_may_be_full():
            for line, error in drained.buried:
                await self._run_journal(lambda line=line, error=error: self._journal.bury("store", line, error))  # type: ignore[misc]
            for site, rejected in drained.rejected:
                self._hosts[site].reject(rejected)
                self._deadlines[site] = self._now()
            if drained.rejected and self._queue.empty():
                self._queue.put_nowait(_Nothing())
            if drained.cursors:
                await self._run_journal(lambda: self._journal.move_cursors(drained.cursors))


def _committed(journal: Journal, owed: Sequence[Entry]) -> tuple[dict[str, int], set[str], float]:
    """Commit; return the newest event a site, the sites whose telemetry the cap took, and how full the journal is."""
    newest = journal.commit(owed)
    return newest, {gap.site for gap in journal.dropped()}, round(journal.fill, 2)


def _resident_bytes() -> int:
    """Return the memory this process holds; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _every_s(host: SiteHost) -> float:
    if host.stirred or (host.changed and host.watched):
        return _STIRRED_S
    return _STILL_S if host.changed else _STATE_EVERY_S


@contextlib.contextmanager
def _disk_may_be_full() -> Iterator[None]:
    """Let what is only a convenience wait for room on the disk."""
    try:
        yield
    except sqlite3.OperationalError as error:
        _log.error("journal not written", reason=str(error))
