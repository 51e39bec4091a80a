"""Composition root of the gateway: the only place where its concrete parts are chosen."""

import gc
import shutil
import sys
from collections.abc import Callable

import structlog

from gateway.host import SiteHost
from gateway.journal import Journal
from gateway.journal_reader import JournalReader
from gateway.outputs import LogOutput
from gateway.pipeline import Gateway
from gateway.ports import LocalOutput
from gateway.sink_places import NOWHERE
from gateway.sink_store import StoreSink
from gateway.uplink import Uplink
from manway.codec_mqtt import Heartbeat, encode
from manway.entities import Frame
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Will
from manway.runtime.signing import load_public_key, verify
from manway.runtime.stores import open_store
from manway.runtime.tasks import OneThread, until_signalled
from manway.topics import gateway_filters, root, shard, shard_filters

_log = structlog.get_logger("gateway")
_MIB = 2**20
_TURN_S = 0.0005  # (choice) a tenth of the default: the sinks' threads must not make an alarm wait for theirs
_COLLECT_AFTER = 50_000  # (choice) objects: some seconds of a busy site; what a pass finds are a few cycles of exceptions
_CAP_MOST = 1_536 * _MIB  # (choice) a week of a site of 20 occupied spaces, `pipeline.md` §6


def sites_of(settings: configuration.Settings) -> list[str]:
    """Return the sites this process serves: those of its shards, or all."""
    return [site for site in settings.sites if not settings.shards or int(shard(site)) in settings.shards]


def journal_cap(settings: configuration.Settings) -> int:
    """Return the bytes the journal may take: what the settings say, else the lesser of 1.5 GiB and half of the file system."""
    return settings.journal_cap_mb * _MIB or min(_CAP_MOST, shutil.disk_usage(settings.data).total // 2)


async def main(settings: configuration.Settings) -> None:
    """Run the gateway until SIGINT or SIGTERM."""
    clock = SystemClock(speed=settings.speed, start=settings.started_at)
    threads = journal_thread, uplink_thread, store_thread = OneThread("journal"), OneThread("uplink"), OneThread("store")
    output: LocalOutput = LogOutput()
    limits = configuration.limits(settings.profile, settings.site_limits, when=clock.now())
    timings = configuration.timings(yard=settings.yard)
    plan_key = load_public_key(settings.data / "keys" / "plan.pub")
    sites = sites_of(settings)
    path = settings.data / "journal" / f"{settings.gateway_id}.db"
    journal = Journal(path, cap_bytes=journal_cap(settings))
    hosts = [
        SiteHost(
            site,
            journal,
            limits=limits,
            timings=timings,
            verify=verify,
            plan_key=plan_key,
            output=output,
            began=clock.now(),
        )
        for site in sites
    ]
    for host in hosts:
        host.restore()
    store = open_store(settings, writer=True)
    gateway = Gateway(
        hosts,
        _bus(settings, sites),
        clock,
        name=settings.gateway_id,
        journal=journal,
        run_journal=journal_thread,
        uplinks=[
            Uplink(host.site, settings.gateway_id, host.jid, journal.cursor(f"uplink/{host.site}"), JournalReader(path))
            for host in hosts
        ],
        run_uplink=uplink_thread,
        store=StoreSink(
            journal.cursor("store"),
            JournalReader(path),
            store,
            _place({host.site: host for host in hosts}),
            event_cursor=journal.cursor("store.event"),
        ),
        run_store=store_thread,
    )
    _log.info("gateway serves", sites=len(sites))
    # What is there by now stays: the collector need not walk a city of instruments again and again to find nothing to free.
    sys.setswitchinterval(_TURN_S)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)
    try:
        async with until_signalled():
            await gateway.run()
        await gateway.leave()
    finally:
        store.close()  # first: it ends a write that hangs, for which its thread would wait
        for thread in threads:
            thread.close()
        journal.close()


def _place(hosts: dict[str, SiteHost]) -> Callable[[str, Frame], tuple[str, str]]:
    def place(site: str, frame: Frame) -> tuple[str, str]:
        return hosts[site].place_of(frame.device) if site in hosts else (NOWHERE, "")

    return place


def _bus(settings: configuration.Settings, sites: list[str]) -> MqttBus:
    filters = shard_filters(settings.shards) if settings.shards else [f for site in sites for f in gateway_filters(site)]
    return MqttBus(
        settings.broker,
        settings.gateway_id,
        subscriptions=[(f, 1) for f in filters],
        tls=settings.tls,
        protocol=settings.protocol,
        user=None if settings.tls else "gateway",  # with a certificate its common name is the user
        password=settings.broker_password.get_secret_value() or None,
        will=Will(f"{root(sites[0])}gw/heartbeat", encode(Heartbeat(settings.gateway_id, 0, 0, 0.0, down=True)), 0),
    )
