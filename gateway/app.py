"""Composition root of the gateway: the only place where its concrete parts are chosen."""

import asyncio
import contextlib
import sqlite3
from collections import defaultdict
from collections.abc import Sequence

import structlog

from gateway.host import SiteHost
from gateway.outputs import LogOutput
from gateway.ports import LocalOutput
from gateway.sink_store import StoreSink
from gateway.uplink import Uplink
from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, Heartbeat, decode, encode
from manway.errors import DecodeRejected
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Batch, Bus, Clock, Message, Run, Will
from manway.runtime.signing import load_public_key, verify
from manway.runtime.stores import open_store
from manway.runtime.tasks import OneThread, until_signalled
from manway.runtime.telemetry import TelemetryStore
from manway.topics import Address, gateway_filters, parse, root

_log = structlog.get_logger("gateway")
_STATE_EVERY_S = 60.0
_STORE_EVERY_S = 2.0
_BEAT_S = 1.0  # `trust.md` 7.2
_AHEAD_S = 1.0  # a journal ahead of the clock by more was written by a clock that was set back since
_QUEUE = 200  # batches; then the broker waits, which is what a queue is for


class _Nothing:
    """A batch that brings nothing but a look at the time."""

    messages: Sequence[Message] = ()

    async def ack(self) -> None:
        """Owe nobody anything."""


class Gateway:
    """Serves several sites over one bus; every site has its own engine and journal."""

    def __init__(
        self,
        hosts: Sequence[SiteHost],
        bus: Bus,
        store: TelemetryStore,
        clock: Clock,
        *,
        name: str,
        journal: Run,
        telemetry: Run,
    ) -> None:
        self._hosts = {host.site: host for host in hosts}
        self._bus, self._store, self._clock, self._name = bus, store, clock, name
        self._run_journal, self._run_store = journal, telemetry
        self._uplinks = {host.site: Uplink(host.site, name, host.journal) for host in hosts}
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(_QUEUE)
        # A journal written by a clock that was ahead: its time is kept and runs on, or no deadline would ever pass again.
        self._ahead = max(0.0, *(host.engine.now - clock.now() for host in hosts))
        if self._ahead > _AHEAD_S:
            _log.error("the journal is ahead of the clock", seconds=round(self._ahead, 1))
        self._boot = int(clock.now())
        self._stepped_at = clock.now()
        self._fresh = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._bus, asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._pipeline())
            group.create_task(self._send_events())
            group.create_task(self._send_pictures())
            group.create_task(self._beat())
            group.create_task(self._fill_store())

    def _now(self) -> float:
        """Return the present, never before what an engine has already seen; time goes on even where a journal is ahead."""
        return max(self._clock.now() + self._ahead, *(host.engine.now for host in self._hosts.values()))

    async def _read(self) -> None:
        async for batch in self._bus.batches():
            await self._queue.put(batch)

    async def _pipeline(self) -> None:
        """Wait for a batch or the next deadline, whichever is first; the only timer of the rules."""
        unstored = list[Batch]()  # nothing acknowledged that is not durable: their senders keep them as long as we do
        while True:
            batches: list[Batch] = []
            deadlines = [at for host in self._hosts.values() if (at := host.next_deadline()) is not None]
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout_at(min(deadlines) - self._ahead if deadlines else None):
                    batches.append(await self._queue.get())
            while not self._queue.empty():
                batches.append(self._queue.get_nowait())
            await self._step([m for batch in batches for m in batch.messages])
            unstored += batches
            if all(host.durable for host in self._hosts.values()):
                for batch in unstored:
                    await batch.ack()
                unstored.clear()
            self._stepped_at = self._clock.now()
            self._fresh.set()

    async def _step(self, messages: Sequence[Message]) -> None:
        now = self._now()
        by_site: dict[str, list[tuple[Address, Message]]] = defaultdict(list)
        for message in messages:
            try:
                address = parse(message.topic)
            except DecodeRejected as error:
                _log.warning("foreign topic", topic=error.source, reason=error.reason)
                continue
            if address.site not in self._hosts:
                continue
            if address.name == "api/ack":
                await self._acknowledged(address.site, message)
            elif address.name == "api/heartbeat":
                self._api_beat(address.site, message, now)
            else:
                by_site[address.site].append((address, message))
        for site, host in self._hosts.items():
            if by_site[site]:
                await host.take(by_site[site], now, self._bus, self._run_journal)
            elif (deadline := host.next_deadline()) is not None and deadline <= now:
                await host.advance(now, self._run_journal)

    def _api_beat(self, site: str, message: Message, now: float) -> None:
        """Hear the api; a copy that the broker kept is nobody's pulse."""
        try:
            decode(message.payload, ApiHeartbeat, message.topic)
        except DecodeRejected as error:
            _log.warning("heartbeat not understood", reason=error.reason)
            return
        if not message.retained:
            self._hosts[site].health.api_heard(now)

    async def _acknowledged(self, site: str, message: Message) -> None:
        try:
            ack = decode(message.payload, Acknowledgement, message.topic)
        except DecodeRejected as error:
            _log.warning("acknowledgement not understood", reason=error.reason)
            return
        try:
            await self._uplinks[site].acknowledge(ack, self._run_journal)
        except sqlite3.OperationalError as error:  # a full disk; what is then sent again is known there already
            _log.error("acknowledgement not kept", site=site, reason=str(error))

    async def _send_events(self) -> None:
        while True:
            for uplink in self._uplinks.values():
                await uplink.send(self._now(), self._bus, self._run_journal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._fresh.wait()
            self._fresh.clear()

    async def _send_pictures(self) -> None:
        sent: dict[str, float] = {}
        while True:
            now = self._now()
            for site, host in self._hosts.items():
                if self._bus.connected and (host.changed or now - sent.get(site, 0.0) >= _STATE_EVERY_S):
                    host.changed, sent[site] = False, now
                    try:
                        await self._bus.publish(f"{root(site)}gw/state", encode(host.picture(self._name)), retain=True)
                    except ValueError as error:  # larger than a message may be: no page is worth a gateway
                        _log.error("picture not sent", site=site, reason=str(error))
            await asyncio.sleep(0.5)

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
                )
                await self._bus.publish(f"{root(site)}gw/heartbeat", encode(beat), qos=0)
                self._look_at_clock(host)
            # By the clock that the api's deadline runs on: a yard that plays faster also beats faster.
            await self._clock.sleep_until(self._clock.now() + _BEAT_S)

    def _look_at_clock(self, host: SiteHost) -> None:
        """Note a step of the machine's clock, and wake the pipeline when the gateway has something to say of itself."""
        ahead = self._ahead if self._ahead > _AHEAD_S else 0.0
        if step := host.health.clock(self._clock.wall_off_s() - ahead):
            _log.warning("clock stepped", site=host.site, seconds=round(step, 1))
        if host.health.due(self._now()) and self._queue.empty():
            self._queue.put_nowait(_Nothing())

    async def _fill_store(self) -> None:
        sinks = [StoreSink(host, self._store) for host in self._hosts.values()]
        while True:
            for sink in sinks:
                await sink.drain(self._now(), self._run_journal, self._run_store)
            await asyncio.sleep(_STORE_EVERY_S)


async def main(settings: configuration.Settings) -> None:
    """Run the gateway until SIGINT or SIGTERM."""
    clock = SystemClock(speed=settings.speed, start=settings.started_at)
    journal, telemetry = OneThread("journal"), OneThread("telemetry")
    output: LocalOutput = LogOutput()
    limits = configuration.limits(settings.profile, settings.site_limits, when=clock.now())
    timings = configuration.timings(yard=settings.yard)
    plan_key = load_public_key(settings.data / "keys" / "plan.pub")
    hosts = [
        SiteHost(
            site,
            settings.data / "journal",
            limits=limits,
            timings=timings,
            verify=verify,
            plan_key=plan_key,
            output=output,
            began=clock.now(),
        )
        for site in settings.sites
    ]
    for host in hosts:
        host.restore()
    store = open_store(settings, writer=True)
    bus = MqttBus(
        settings.broker,
        settings.gateway_id,
        subscriptions=[(f, 1) for site in settings.sites for f in gateway_filters(site)],
        user="gateway",
        password=settings.broker_password.get_secret_value(),
        will=Will(f"{root(settings.sites[0])}gw/heartbeat", encode(Heartbeat(settings.gateway_id, 0, 0, 0.0, down=True)), 0),
    )
    gateway = Gateway(hosts, bus, store, clock, name=settings.gateway_id, journal=journal, telemetry=telemetry)
    _log.info("gateway serves", sites=settings.sites)
    try:
        async with until_signalled():
            await gateway.run()
    finally:
        journal.close()
        telemetry.close()
        store.close()
        for host in hosts:
            host.journal.close()
