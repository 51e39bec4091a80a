"""The lane of the box: one machine a session, booted once, with the virtual air as its adapter.

The lane runs in a process of its own (`tests/run.sh`), beside the rest: DBUS_SYSTEM_BUS_ADDRESS is the process's, and workers
would each boot a machine. Where a session has workers its tests are left out: `./run test -n 0 tests/bluez_box` runs them.
"""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from firmware_sim.radio import VirtualAir
from gateway.ports import RadioFailed
from gateway.radio_bluez import BlueZControl
from tests.bluez_box.box import Box, running_box
from tests.bluez_box.image import NoBox
from tests.kit.brokers import missing

POWERED_WITHIN_S = 20.0  # 1 s after the boot on an idle machine
# As often as a device of ours may (`locks.md` §5). Five times as often, an emulated BlueZ tells bleak of so many that the news
# "connected" comes after the answer to "connect", on another D-Bus connection, and bleak takes the device for disconnected.
ADVERTISED_EVERY_MS = 100.0
_LINES = pytest.StashKey[list[str]]()


class Lane(NamedTuple):
    """The machine, the air its adapter is on, and what the gateway can do to that adapter."""

    box: Box
    air: VirtualAir
    control: BlueZControl
    numbers: Iterator[int]  # of devices, one for each as BlueZ remembers them; 1 to 4 are the scenario's


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the lane out where workers share the session."""
    if hasattr(config, "workerinput"):
        here = Path(__file__).parent
        items[:] = [item for item in items if here not in item.path.parents]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what BlueZ said beside what failed."""
    report = yield
    lane = getattr(item, "funcargs", {}).get("lane")
    if report.failed and isinstance(lane, Lane):
        report.sections.append(("BlueZ's console", "\n".join(list(lane.box.console)[-60:])))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured, also where all is well."""
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)


class Measured:
    """Where tests write what they measured; the session prints it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def say(self, line: str) -> None:
        """Keep a line for the end of the session."""
        self._lines.append(f"box: {line}")


@pytest.fixture(name="measured", scope="session")
def _measured(request: pytest.FixtureRequest) -> Measured:
    return Measured(request.config.stash[_LINES])


@pytest_asyncio.fixture(name="lane", scope="session", loop_scope="session")
async def _lane(measured: Measured) -> AsyncIterator[Lane]:
    ready: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def keep() -> None:  # one task enters and leaves all of it
        async with VirtualAir(interval_ms=ADVERTISED_EVERY_MS) as air:
            await air.offer("tcp-server:127.0.0.1:0")
            async with running_box(air.port) as box:
                with pytest.MonkeyPatch.context() as environment:
                    environment.setenv("DBUS_SYSTEM_BUS_ADDRESS", box.dbus)
                    environment.setenv("BLEAK_DBUS_AUTH_UID", "0")
                    control = BlueZControl("hci0", user=0, restart=box.restart_bluetoothd)
                    await powered(control)
                    ready.set_result(Lane(box, air, control, count(5)))
                    await done.wait()
                    control.close()
                measured.say(f"booted in {box.boot_s:.1f} s ({box.accelerator}), {box.processor_s():.1f} s of processor in all")

    keeper = asyncio.get_running_loop().create_task(keep())
    keeper.add_done_callback(lambda _: ready.cancel())
    await asyncio.wait([ready])
    if ready.cancelled():
        try:
            await keeper
        except NoBox as error:
            missing(str(error))
    yield ready.result()
    done.set()
    await keeper


async def powered(control: BlueZControl) -> None:
    """Return when the adapter is switched on."""
    async with asyncio.timeout(POWERED_WITHIN_S):
        while True:
            with suppress(RadioFailed):
                if await control.powered():
                    return
            await asyncio.sleep(0.1)
