"""Composition root of the gateway: the only place where its concrete parts are chosen."""

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import structlog

from gateway.host import SiteHost, restore
from gateway.journal import Journal
from gateway.journal_reader import JournalReader
from gateway.outputs import LogOutput
from gateway.panel import Panel, serve
from gateway.panel_code import load_code
from gateway.pipeline import Gateway
from gateway.ports import AdapterControl, LocalOutput, Radio
from gateway.radio import RadioBus
from gateway.radio_devices import devices_of
from gateway.rescue import RescueDesk
from gateway.sink_places import NOWHERE
from gateway.sink_store import StoreSink
from gateway.uplink import Uplink
from gateway.wires import Wires
from manway.codec_mqtt import Heartbeat, encode
from manway.device_profile import DeviceProfile
from manway.entities import Frame
from manway.errors import ProfileInvalid
from manway.gas import GasRows
from manway.measurements import RadioHealth, radio_line
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Bus, Clock, Will
from manway.runtime.profiles import load_profiles
from manway.runtime.signing import load_key, load_public_key, verify
from manway.runtime.stores import open_store
from manway.runtime.tasks import OneThread, collect_shortly, until_signalled
from manway.topics import gateway_filters, root, shard, shard_filters

_log = structlog.get_logger("gateway")
Adapters = list[tuple[Radio, AdapterControl | None]]
_MIB = 2**20
_TURN_S = 0.0005  # (choice) a tenth of the default: the sinks' threads must not make an alarm wait for theirs
# More come through the entry points of this name; a checkout has none, and its own is found all the same.
_BACKENDS, _OURS = "manway.radio_backends", {"bumble": "firmware_sim.bleak_backend:over"}
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
    sites, profiles = sites_of(settings), load_profiles(settings.data / "profiles")
    path = settings.data / "journal" / f"{settings.gateway_id}.db"
    journal = Journal(path, cap_bytes=journal_cap(settings))
    gas = GasRows(limits, timings.rising_s)
    hosts = [
        SiteHost(
            site,
            journal,
            limits=limits,
            timings=timings,
            verify=verify,
            plan_key=plan_key,
            output=output,
            profiles=profiles,
            began=clock.now(),
            gas=gas,
        )
        for site in sites
    ]
    restore(hosts, journal)
    store, events = open_store(settings, writer=True), JournalReader(path)  # of all uplinks, whose thread is one
    sink = StoreSink(
        journal.cursor("store"),
        JournalReader(path),
        store,
        _place({host.site: host for host in hosts}),
        event_cursor=journal.cursor("store.event"),
    )
    air = contextlib.AsyncExitStack()
    bus: Bus = _bus(settings, sites)
    if settings.radio:
        bus = Wires(bus, _radio(settings, _adapters(settings, air), hosts, profiles, clock, sink))
    gateway = Gateway(
        hosts,
        bus,
        clock,
        name=settings.gateway_id,
        journal=journal,
        run_journal=journal_thread,
        uplinks=[
            Uplink(host.site, settings.gateway_id, host.jid, journal.cursor(f"uplink/{host.site}"), events) for host in hosts
        ],
        run_uplink=uplink_thread,
        store=sink,
        run_store=store_thread,
    )
    _log.info("gateway serves", sites=len(sites))
    sys.setswitchinterval(_TURN_S)
    try:
        async with until_signalled(), asyncio.TaskGroup() as group:
            group.create_task(collect_shortly())
            _prepare_rescues(settings, hosts, gateway, clock, bus, group)
            await gateway.run()
        await gateway.leave()
    finally:
        await air.aclose()
        store.close()  # first: it ends a write that hangs, for which its thread would wait
        for thread in threads:
            thread.close()
        journal.close()


def _adapters(settings: configuration.Settings, air: contextlib.AsyncExitStack) -> Adapters:
    """Return the adapters that the settings name, with what can be done to each; raises ProfileInvalid.

    `bluez` and `bluez:hci0,hci1` are BlueZ's; any other name is a backend's, and what follows it is the backend's to read.
    """
    from gateway.radio_backend import LateBackend  # noqa: PLC0415  only a gateway with a radio loads it
    from gateway.radio_bleak import BackendControl, BleakRadio  # noqa: PLC0415  as above

    kind, _, rest = settings.radio.partition(":")
    if kind == "bluez":
        from gateway.radio_bluez import BlueZControl, command  # noqa: PLC0415  as above

        found: Adapters = []
        for name in dict.fromkeys((rest or "hci0").split(",")):
            reset = [word.replace("{adapter}", name) for word in settings.radio_reset]
            restart = settings.radio_restart
            control = BlueZControl(
                name, reset_usb=command(reset) if reset else None, restart=command(restart) if restart else None
            )
            air.callback(control.close)
            found.append((BleakRadio(name, adapter=name), control))
        return found
    opens = _backend(kind)
    backend = LateBackend(settings.radio, lambda: opens(rest))
    air.push_async_callback(backend.close)
    over = BleakRadio(kind, backend)
    return [(over, BackendControl(over, backend))]


def _backend(name: str) -> Callable[[str], contextlib.AbstractAsyncContextManager[Any]]:
    found = {point.name: point.value for point in entry_points(group=_BACKENDS)}
    known = _OURS | found
    if name not in known:
        raise ProfileInvalid(
            "settings", f"radio = {name!r}: bluez is wanted, or one of {', '.join(sorted(known))} with a transport"
        )
    module, _, attribute = known[name].partition(":")
    opens: Callable[[str], contextlib.AbstractAsyncContextManager[Any]] = getattr(import_module(module), attribute)
    return opens


def _radio(
    settings: configuration.Settings,
    adapters: Adapters,
    hosts: list[SiteHost],
    profiles: Mapping[str, DeviceProfile],
    clock: Clock,
    sink: StoreSink,
) -> RadioBus:
    """Return the radio of all sites; its health goes to the telemetry store, and to every site when it is red."""

    def say(adapter: str, red: bool) -> None:  # noqa: FBT001  a fact, passed on
        for host in hosts:
            host.health.radio(adapter, lost=red)

    def write(health: RadioHealth) -> None:
        sink.beat(radio_line(settings.gateway_id, clock.now(), health))

    for host in hosts:
        host.health.adapters_are(radio.name for radio, _ in adapters)
    return RadioBus(
        adapters,
        lambda: [row for host in hosts for row in devices_of(host.engine.site)],
        clock,
        slots=settings.radio_slots,
        profiles=profiles,
        write=write,
        say=say,
    )


def _prepare_rescues(
    settings: configuration.Settings,
    hosts: list[SiteHost],
    gateway: Gateway,
    clock: Clock,
    bus: Bus,
    group: asyncio.TaskGroup,
) -> None:
    """Give every site its rescue desk, and serve the emergency page where it has a port.

    A key or a code that is missing ends nothing: the page says so, and the site is watched all the same.
    """
    if not settings.panel_port:
        return
    keys, code = settings.data / "keys", ""
    try:
        sign = load_key(keys / "site.key").sign
        for host in hosts:
            host.rescue = RescueDesk(host.site, sign, secrets.token_bytes, wake=partial(gateway.wake, host.site))
            host.rescue.resume(host.engine.site.locks.values(), clock.now())
            group.create_task(host.rescue.run(bus))
        code = load_code(keys / "panel.code")
    except ProfileInvalid as error:
        _log.error("the emergency page lacks a secret", reason=str(error))
    panel = Panel(hosts, code=code, wake=gateway.wake, now=clock.now)
    group.create_task(serve(panel.app(), settings.panel_host, settings.panel_port))


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
