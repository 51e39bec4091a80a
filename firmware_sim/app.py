"""Composition root of the simulator."""

import asyncio
from pathlib import Path
from random import Random

import msgspec
import structlog

from firmware_sim.devices import Devices, Post, build_post, subscriptions
from firmware_sim.instrument import SentRow
from firmware_sim.people import Cast, HttpApi
from firmware_sim.scenario import Story
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.signing import load_or_make_key, load_public_key
from manway.runtime.tasks import until_signalled
from manway.runtime.yard import Yard, load_yard

_log = structlog.get_logger("simulator")
OPENED = ("rising", "overtime", "silent")


def build_posts(yard: Yard, keys: Path, now: float, seed: int) -> list[Post]:
    """Return every space of the yard with its devices; the locks' own keys lie in `keys`."""
    issuer, site_key = load_public_key(keys / "issuer.pub"), load_public_key(keys / "site.pub")
    return [
        build_post(
            space,
            load_or_make_key(keys / "locks" / f"{space.lock}.key"),
            issuer=issuer,
            site_key=site_key,
            now=now,
            random=Random(f"{seed}-{space.id}"),  # noqa: S311  a repeatable yard, not a secret
            opened=space.scene in OPENED,
        )
        for space in yard.space
    ]


async def main(settings: configuration.Settings, *, seed: int, passwords: dict[str, str]) -> None:
    """Run the yard until SIGINT or SIGTERM."""
    clock, yard = SystemClock(speed=settings.speed, start=settings.started_at), load_yard()
    bus = MqttBus(
        settings.broker,
        "simulator",
        subscriptions=subscriptions(settings.sites),
        tls=settings.tls,
        protocol=settings.protocol,
        user=None if settings.tls else "simulator",  # with a certificate its common name is the user
        password=settings.broker_password.get_secret_value() or None,
    )
    devices = Devices(build_posts(yard, settings.data / "keys", clock.now(), seed), bus, clock)
    api = HttpApi(f"http://{settings.host}:{settings.port}", passwords)
    story = Story(yard, devices, Cast(api, clock), clock)
    _log.info("yard plays", spaces=len(devices.posts), seed=seed)
    try:
        async with until_signalled(), bus, asyncio.TaskGroup() as group:
            group.create_task(devices.run())
            group.create_task(story.run())
            group.create_task(_note_sent(devices, bus, settings.data / "sent.json"))
    finally:
        await api.close()


async def _note_sent(devices: Devices, bus: MqttBus, path: Path) -> None:
    """Write down, every second, what the broker has taken from every instrument: the ledger is held against it."""
    while True:
        rows = [SentRow(p.yard.instrument, *p.instrument.sent) for p in devices.posts.values()]
        await bus.flush()
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(rows))
        fresh.replace(path)
        await asyncio.sleep(1.0)
