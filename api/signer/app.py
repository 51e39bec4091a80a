"""Composition root of the signer: the only place where its concrete parts are chosen."""

import asyncio
import secrets

import structlog

from api.office import Sight
from api.records import ReadOnlyRecords
from api.signer.judge import Signer
from api.signer.keyring import load_keyring
from api.signer.server import Door
from manway.errors import DecodeRejected
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Bus
from manway.runtime.tasks import OneThread, until_signalled
from manway.topics import signer_filters

_log = structlog.get_logger("signer")


async def main(settings: configuration.Settings) -> None:
    """Run the signer until SIGINT or SIGTERM."""
    clock = SystemClock(speed=settings.speed, start=settings.started_at)
    keys = load_keyring(settings.data / "keys", secrets.token_bytes)
    limits = configuration.limits(settings.profile, settings.site_limits, when=clock.now())
    sight = Sight(clock, limits, configuration.timings(yard=settings.yard))
    records = ReadOnlyRecords(settings.records.get_secret_value() or settings.data / "records.db")
    # Nothing is kept for a signer that is away: an old picture is none, and the newest is retained.
    bus = MqttBus(
        settings.broker,
        "signer",
        subscriptions=[(topic, 0) for site in settings.sites for topic in signer_filters(site)],
        user=None if settings.tls else "signer",  # with a certificate its common name is the user
        password=settings.broker_password.get_secret_value(),
        tls=settings.tls,
        protocol=settings.protocol,
    )
    thread = OneThread("records")
    door = Door(Signer(sight, records, keys, settings.sites), thread)
    try:
        async with until_signalled(), bus, door.open(settings.signer_path), asyncio.TaskGroup() as group:
            _log.info("signer answers", socket=str(settings.signer_path), kid=keys.public_key[:4].hex())
            group.create_task(watch(sight, bus))
    finally:
        thread.close()
        records.close()


async def watch(sight: Sight, bus: Bus) -> None:
    """Take what the gateways say, for ever; what cannot be read changes nothing."""
    async for batch in bus.batches():
        for message in batch.messages:
            try:
                sight.pictures.hear(message, sight.now())
            except DecodeRejected as error:
                _log.warning("message rejected", source=error.source, reason=error.reason)
        await batch.ack()
