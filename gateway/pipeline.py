"""Decode, judge, sound, commit, acknowledge: the two loops of a gateway, and what it says to its api and its pages.

Theory. Whatever is readable is one step: all sites it touches are judged and sounded at once. Behind it a second loop
commits what was judged, all steps that wait in one transaction, and then acknowledges and acts: while one commit syncs, the
next step is judged already. Sinks read the journal beside it, on threads of their own, and none can hold up another.

While the journal cannot be written, judging and sounding go on (`trust.md` X14): what was judged waits in order until it can be
committed, and until then nothing is acknowledged to anybody and no effect takes place.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path

import structlog

from gateway.commits import Commits, Step, Stored, disk_may_be_full, keep
from gateway.deadlines import Deadlines
from gateway.host import SiteHost
from gateway.journal import Entry, Journal
from gateway.lane import Lane
from gateway.pictures import Pictures
from gateway.sink_store import Drained, StoreSink
from gateway.uplink import Uplink
from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, Heartbeat, decode, encode
from manway.errors import DecodeRejected
from manway.measurements import gateway_line
from manway.runtime.logs import together
from manway.runtime.ports import Batch, Bus, Clock, Message, Run
from manway.runtime.tasks import Bell
from manway.topics import Address, parse, root

_log = structlog.get_logger("gateway")
_STORE_EVERY_S = 2.0
_UNANSWERED_EVERY_S = 0.5  # (choice) how often it is looked whether an answer of the api is overdue
_KEPT_EVERY_S = 1.0  # (choice) how much the uplink sends again after a kill
_SNAPSHOT_EVERY_S = 60.0  # `pipeline.md` §6
_SNAPSHOT_INPUTS = 10_000  # same place
# (choice) at least between two: each takes the disk some milliseconds, and those of a city's sites would all be due at once.
_SNAPSHOT_PAUSE_S = 0.1
_BEAT_S = 1.0  # `trust.md` 7.2
_BEAT_TURNS = 20  # (choice) of a second: a dozen sites of a city each
_PULSE = "/api/heartbeat"
_AHEAD_S = 1.0  # a journal ahead of the clock by more was written by a clock that was set back since
_ACT_WITHIN_S = 30.0  # (choice) what nobody could be asked for so long is not asked for any more: commands live ten seconds
_FOREIGN_MOST = 1_000  # (choice) names remembered
_QUEUE = 200  # batches; then the broker waits, which is what a queue is for


class _Kept:
    """When a site's snapshot was taken last, behind how many rows of plain frames, and how many inputs have come since."""

    def __init__(self, at: float, plain: int) -> None:
        self.at, self.plain, self.inputs = at, plain, 0

    def due(self, now: float, plain: int) -> bool:
        """Say whether the next one is due; `plain` rows go only when the snapshots of every site stand behind them."""
        moved = self.inputs > 0 or plain > self.plain
        return self.inputs >= _SNAPSHOT_INPUTS or (moved and now >= self.at + _SNAPSHOT_EVERY_S)


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
        self._uplinks, self._run_uplink = {uplink.site: uplink for uplink in uplinks}, run_uplink
        self._store, self._run_store = store, run_store
        self._queue: deque[Batch] = deque()
        self._bell = Bell()  # for the rules: a batch, or something else to look at
        self._commits = Commits(journal, run_journal, clock, stored=self._note_stored, failing=self._note_failing)
        self._deadlines = Deadlines()
        self._telling: set[str] = set()  # sites with events the api does not have
        self._news: set[str] = set()  # of them those with something to send now
        self._tell_bell = Bell()
        self._foreign: set[str] = set()  # sites somebody speaks for and the settings do not name
        self._refused: list[Drained] = []  # what the store came to, and is not kept yet
        # A journal written by a clock that was ahead: its time is kept and runs on, or no deadline would ever pass again.
        self._engine_now = max((host.engine.now for host in hosts), default=0.0)
        self._ahead = max(0.0, self._engine_now - clock.now())
        if self._ahead > _AHEAD_S:
            _log.error("the journal is ahead of the clock", seconds=round(self._ahead, 1))
        for host in hosts:
            host.ahead_s = self._ahead if self._ahead > _AHEAD_S else 0.0
            self._deadlines.set(host.site, host.next_deadline())
            if self._uplinks[host.site].cursor < host.seq:
                self._telling.add(host.site)
        self._boot = int(clock.now())
        self._stepped_at = clock.now()
        self._plain = 0  # rows of plain frames so far
        self._snapshots = {host.site: _Kept(self._now(), 0) for host in hosts}
        self._snapshot_at = 0.0  # when the newest was taken
        self._idle = cycle([*self._hosts])
        # A journal that is ahead of the clock has a time of its own, which the lane does not know.
        self._lane = Lane(hosts[0].engine.site.gas, journal.newest_source) if _in_lane(hosts) and not hosts[0].ahead_s else None
        self._fill = -1.0  # of the journal; not known yet
        self._pictures = Pictures(self._hosts.values(), bus, self._now, gateway=name)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._bus, asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._judge())
            group.create_task(self._commits.run())
            group.create_task(self._commits.prune())
            group.create_task(self._act())
            group.create_task(self._send_events())
            group.create_task(self._keep_cursors())
            group.create_task(self._pictures.run())
            group.create_task(self._beat())
            group.create_task(self._fill_store())

    def _now(self) -> float:
        """Return the present, never before what an engine has already seen; time goes on even where a journal is ahead."""
        return max(self._clock.now() + self._ahead, self._engine_now)

    async def _read(self) -> None:
        async for batch in self._bus.batches():
            self._queue.append(batch)
            self._bell.ring()
            if len(self._queue) >= _QUEUE:
                await asyncio.sleep(0)  # the rules' turn: they take all of it

    # -- judging

    async def _judge(self) -> None:
        """Wait for a batch or the next deadline, whichever is first; the only timer of the rules.

        Nothing else is ever waited for: neither disk nor broker may silence a siren. What can wait for a commit is bounded by
        what the broker sends without an acknowledgement.
        """
        step = Step(self._now(), [])
        step.entries = [entry for host in self._hosts.values() for entry in host.unwritten()]
        self._commits.owe(step)
        while True:
            deadline = self._deadlines.next()
            await self._bell.wait(None if deadline is None else self._clock.timeout_at(deadline - self._ahead).when())
            batches = [*self._queue]
            self._queue.clear()
            with together():
                self._commits.owe(self._judged(batches))
            self._stepped_at = self._clock.now()

    def _judged(self, batches: Sequence[Batch]) -> Step:
        """Judge one step: deadlines that have passed, plain frames of all sites, then everything else site by site."""
        now = self._engine_now = self._now()
        step = Step(now, batches)
        messages = [message for batch in batches for message in batch.messages]
        touched = dict.fromkeys(self._deadlines.due(now))
        if touched:  # the api's pulse counts before its absence does
            self._sorted([message for message in messages if message.topic.endswith(_PULSE)], now)
            messages = [message for message in messages if not message.topic.endswith(_PULSE)]
        for site in touched:
            self._add(step, self._hosts[site], self._hosts[site].advance(now))
        if self._lane is not None:
            messages, entries, frames, heard = self._lane.take(messages, now)
            step.entries += entries
            self._plain += len(entries)
            for host, count in frames.items():
                self._snapshots[host.site].inputs += count
                touched[host.site] = None
            for host in heard:
                self._deadlines.set(host.site, host.next_deadline())
        for site, own in self._sorted(messages, now).items():
            host, touched[site] = self._hosts[site], None
            self._add(step, host, host.take(own, now, again=self._commits.fails))
            if self._lane is not None:
                for address, message in own:
                    if address.name == "gas":
                        self._lane.seat(message.topic, host, address.device)
        touched[next(self._idle)] = None
        self._keep_one(step, touched, now)
        return step

    def _add(self, step: Step, host: SiteHost, entry: Entry | None) -> None:
        self._deadlines.set(host.site, host.next_deadline())
        if acts := host.acts():
            step.acts.append((host, acts))
        if entry is not None:
            step.entries.append(entry)
            self._snapshots[host.site].inputs += len(entry.inputs)

    def _keep_one(self, step: Step, sites: Iterable[str], now: float) -> None:
        """Have the step end with the snapshot of one of its sites that is due: it is a pause for all.

        The one that waits longest, or with more sites than the pauses let through in a minute the last never had theirs.
        """
        if now < self._snapshot_at + _SNAPSHOT_PAUSE_S or self._commits.fails:
            return
        due = [site for site in sites if self._snapshots[site].due(now, self._plain)]
        if due:
            site = min(due, key=lambda one: self._snapshots[one].at)
            self._snapshots[site], self._snapshot_at = _Kept(now, self._plain), now
            step.snapshot = site, self._hosts[site].snapshot()

    async def _act(self) -> None:
        """Carry out what was committed; a broker that takes nothing holds up nobody but those who wait for it."""
        while True:
            host, acts, at = await self._commits.acts.get()
            if self._now() - at < _ACT_WITHIN_S:
                await host.act(acts, at, self._bus)

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
                self._say_foreign(address.site)
                continue
            if address.name == "api/ack":
                self._acknowledged(address.site, message)
            elif address.name == "api/heartbeat":
                self._api_beat(address.site, message, now)
            else:
                by_site[address.site].append((address, message))
        return by_site

    def _say_foreign(self, site: str) -> None:
        """Say once that somebody speaks for a site of our shards that our settings do not name; its messages are nobody's."""
        if site not in self._foreign and len(self._foreign) < _FOREIGN_MOST:
            self._foreign.add(site)
            _log.error("messages of a site that the settings do not name are thrown away; add it to `sites`", site=site)

    # -- committing

    def _note_stored(self, stored: Stored) -> None:
        for site, (first, events) in stored.written.items():
            if site in self._uplinks:
                self._uplinks[site].offer(first, events)
        for site, seq in stored.newest.items():
            host = self._hosts.get(site)  # the cap may take telemetry of a site that is served no more
            if host is not None and seq > host.seq:
                host.seq = seq
                self._have_told(site)
        if stored.dropped or stored.fill != self._fill:
            self._fill = stored.fill
            for site, host in self._hosts.items():
                host.health.filled(stored.fill, dropped=site in stored.dropped)
                self._look(host)

    def _note_failing(self, fails: bool) -> None:  # noqa: FBT001  a fact, passed on
        for host in self._hosts.values():
            host.health.journal(self._now(), fails=fails)
            self._look(host)

    def _look(self, host: SiteHost) -> None:
        """Look at a site's deadlines again, and wake the rules when its health has something to say."""
        self._deadlines.set(host.site, host.next_deadline())
        if host.health.due(self._now()):
            self._bell.ring()

    def wake(self, site: str) -> None:
        """Look at a site now: its rescue desk was asked for something."""
        self._deadlines.set(site, self._hosts[site].next_deadline())
        self._bell.ring()

    async def leave(self) -> None:
        """After `run` was cancelled: keep a snapshot of every site and the cursors, so that the next start is a quick one."""
        commits = self._commits
        try:
            await commits.finish()
            for site, kept in self._snapshots.items():
                if kept.inputs:
                    body, now = self._hosts[site].snapshot(), self._now()
                    await commits.run_journal(lambda site=site, body=body, now=now: keep(commits.journal, site, body, now))  # type: ignore[misc]
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
            self._deadlines.set(site, self._hosts[site].next_deadline())

    def _acknowledged(self, site: str, message: Message) -> None:
        try:
            ack = decode(message.payload, Acknowledgement, message.topic)
        except DecodeRejected as error:
            _log.warning("acknowledgement not understood", reason=error.reason)
            return
        uplink, newest = self._uplinks[site], self._hosts[site].seq
        uplink.acknowledge(ack, newest, self._now())
        if uplink.wants(self._now(), newest):  # more than may be under way at once, or what it was sent already
            self._have_told(site)

    def _have_told(self, site: str) -> None:
        self._telling.add(site)
        self._news.add(site)
        self._tell_bell.ring()

    async def _send_events(self) -> None:
        """Send what is new as it comes, and look twice a second at what stays without an answer."""
        clock, look_at, online = asyncio.get_running_loop().time, 0.0, False
        while True:
            if self._bus.connected and not online:
                # After an outage pages show what is so before they are told what was.
                await self._pictures.catch_up()
                look_at = 0.0
            online = self._bus.connected
            news, self._news = self._news, set()
            if clock() >= look_at:
                news, look_at = news | self._telling, clock() + _UNANSWERED_EVERY_S
            for site in news:
                await self._tell(site)
            await self._tell_bell.wait(look_at)

    async def _tell(self, site: str) -> None:
        uplink, newest = self._uplinks[site], self._hosts[site].seq
        if uplink.cursor >= newest:
            self._telling.discard(site)
        elif uplink.wants(self._now(), newest) and self._bus.connected:
            try:
                await uplink.send(self._now(), self._bus, self._run_uplink)
            except sqlite3.Error as error:  # a disk that fails to read; the rules go on, and it is tried again
                _log.error("journal not read for the api", site=site, reason=str(error))

    async def _keep_cursors(self) -> None:
        while True:
            await asyncio.sleep(_KEPT_EVERY_S)
            await self._move_cursors()

    async def _move_cursors(self) -> None:
        """Note how far the api has come; what a kill forgets of it is sent again, and known there."""
        moved = {uplink.sink: seq for uplink in self._uplinks.values() if (seq := uplink.moved()) is not None}
        if moved:
            with disk_may_be_full():
                await self._commits.run_journal(lambda: self._commits.journal.move_cursors(moved))

    async def _beat(self) -> None:
        """Say once a second for every site that we live: a few sites at a time, for a city's pulses in a row delay alarms."""
        sites = [*self._hosts.values()]
        turns = [sites[first::_BEAT_TURNS] for first in range(min(_BEAT_TURNS, len(sites)))]
        count = 0
        while True:
            count += 1
            # By the clock that the api's deadline runs on: a yard that plays faster also beats faster.
            began = self._clock.now()
            for turn, some in enumerate(turns, start=1):
                for host in some:
                    await self._bus.publish(f"{root(host.site)}gw/heartbeat", encode(self._heartbeat(host, count)), qos=0)
                    self._look_at_clock(host)
                await self._clock.sleep_until(began + _BEAT_S * turn / len(turns))
            self._store.beat(self._line())
            self._commits.look()

    def _heartbeat(self, host: SiteHost, count: int) -> Heartbeat:
        return Heartbeat(
            gw=self._name,
            boot=self._boot,
            s=count,
            at=self._now(),
            engine_age_s=round(self._clock.now() - self._stepped_at, 3),
            unsent=host.seq - self._uplinks[host.site].cursor,
            fill=max(0.0, round(self._fill, 3)),
            lag_s=round(host.health.store_behind_s(self._now()), 1),
        )

    def _line(self) -> bytes:
        """Return the pulse as the telemetry store keeps it."""
        now = self._now()
        return gateway_line(
            self._name,
            now,
            fill=max(0.0, self._fill),
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
        """Keep what the store refused, say so to its site, and only then note how far the store has come.

        What a full disk does not take is tried again with the next look, before anything newer.
        """
        self._refused.append(drained)
        journal, run = self._commits.journal, self._commits.run_journal
        with disk_may_be_full():
            while self._refused:
                oldest = self._refused[0]
                lines = [("store", line, error) for line, error in oldest.buried]
                if lines or oldest.cursors:
                    await run(lambda oldest=oldest, lines=lines: journal.settle(lines, oldest.cursors))  # type: ignore[misc]
                self._refused.pop(0)
                for site, rejected in oldest.rejected:
                    if site in self._hosts:
                        self._hosts[site].reject(rejected)
                        self._deadlines.set(site, self._now())
                if oldest.rejected:
                    self._bell.ring()


def _in_lane(hosts: Sequence[SiteHost]) -> bool:
    """Say whether all engines share their rows, as those of a process do."""
    return len({id(host.engine.site.gas) for host in hosts}) == 1


def _resident_bytes() -> int:
    """Return the memory this process holds; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
