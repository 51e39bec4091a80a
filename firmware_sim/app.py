"""Composition root of the simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import structlog

from firmware_sim.devices import Aerial, Devices, Post, build_post, subscriptions
from firmware_sim.instrument import SentRow
from firmware_sim.people import Cast, HttpApi
from firmware_sim.scenario import Story
from manway.errors import ProfileInvalid
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Clock
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


@asynccontextmanager
async def open_aerial(
    transport: str, yard: Yard, clock: Clock, *, only: str = "", capture: Path | None = None
) -> AsyncIterator[Aerial | None]:
    """Open the radio of the yard's devices, or of `only` one; None where no transport is named.

    Raises:
        ProfileInvalid: no space of the yard has a radio, or no device the name.
        RadioUnusable: the transport cannot be opened, or not for so many devices.
    """
    if not transport:
        yield None
        return
    names = [name for space in yard.space for name in (space.lock, space.instrument)]
    if only and only not in names:
        raise ProfileInvalid("yard.toml", f"no device is called {only}; the yard has {', '.join(names)}")
    if not only and not any(space.radio for space in yard.space):
        raise ProfileInvalid("yard.toml", "a radio is set and no space has `radio = true`: name one device with --device")
    from firmware_sim.radio import radio_of  # noqa: PLC0415  bumble takes up to a second to import

    async with radio_of(transport, clock, capture=capture) as radio:
        yield radio


async def main(
    settings: configuration.Settings,
    *,
    seed: int,
    passwords: dict[str, str],
    only: str = "",
    capture: Path | None = None,
) -> None:
    """Run the yard until SIGINT or SIGTERM.

    Args:
        settings: of the installation; `sim_radio` is the transport of the devices on the air.
        seed: makes the same yard again.
        passwords: of the people it plays, by account; empty: devices only, as for a bench of hardware.
        only: the one device on the air; "": all of spaces with a radio.
        capture: a btsnoop file of the radio.
    """
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
    posts = build_posts(yard, settings.data / "keys", clock.now(), seed)
    api = HttpApi(f"http://{settings.host}:{settings.port}", passwords)
    aerial_of_yard = open_aerial(settings.sim_radio, yard, clock, only=only, capture=capture)
    try:
        async with until_signalled(), aerial_of_yard as aerial, bus:
            devices = Devices(posts, bus, clock, aerial, only=only)
            story = Story(yard, devices, Cast(api, clock), clock)
            _log.info("yard plays", spaces=len(posts), seed=seed, radio=settings.sim_radio)
            async with asyncio.TaskGroup() as group:
                group.create_task(devices.run())
                if passwords:
                    group.create_task(story.run())
                group.create_task(_note_sent(devices, bus, settings.data / "sent.json"))
    finally:
        await api.close()


async def _note_sent(devices: Devices, bus: MqttBus, path: Path) -> None:
    """Write down, every second, what the broker has taken from every instrument: the ledger is held against it."""
    while True:
        rows = [SentRow(p.yard.instrument, *p.instrument.sent) for p in devices.wired_instruments]
        await bus.flush()
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(rows))
        fresh.replace(path)
        await asyncio.sleep(1.0)
