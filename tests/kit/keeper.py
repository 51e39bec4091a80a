"""A reader for tests that kill it, `python -m tests.kit.keeper URL VERSION FILE`: stores a batch, then acknowledges it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import cast

from manway.runtime.mqtt import MqttBus, Version


async def main(url: str, protocol: Version, kept: Path) -> None:
    """Keep what comes on `q` until killed."""
    with kept.open("ab", buffering=0) as file:
        bus = MqttBus(url, "keeper", subscriptions=[("q", 1)], user="all", password="all", protocol=protocol)  # noqa: S106  the tests' own
        async with bus:
            async for batch in bus.batches():
                file.write(b"".join(message.payload + b"\n" for message in batch.messages))
                os.fsync(file.fileno())
                await batch.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], cast("Version", sys.argv[2]), Path(sys.argv[3])))
