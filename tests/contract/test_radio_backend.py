"""A radio backend that comes late, breaks and comes again: the gateway starts without it, and its power rung opens it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from bleak.backends.client import BaseBleakClient
from bleak.backends.scanner import BaseBleakScanner

from gateway.ports import RadioFailed
from gateway.radio_backend import LateBackend
from tests.kit.clock import VirtualLoop


class Controller:
    """What stands behind a wire: `refusals` times nobody answers; when it is switched off and on it `breaks`, or `hangs`."""

    client, scanner = BaseBleakClient, BaseBleakScanner

    def __init__(self, *, refusals: float = 0, breaks: bool = False, hangs: bool = False) -> None:
        self.refusals, self.breaks, self.hangs = refusals, breaks, hangs
        self.opened = self.closed = self.cycled = 0
        self.passkeys: dict[str, int] = {}

    async def power_cycle(self) -> None:
        if self.hangs:
            self.hangs = False
            await asyncio.sleep(3600)
        if self.breaks:
            self.breaks = False
            raise ConnectionError("transport lost")
        self.cycled += 1

    @contextlib.asynccontextmanager
    async def over(self) -> AsyncIterator["Controller"]:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError("nobody listens")
        self.opened += 1
        self.passkeys = {}
        yield self
        self.closed += 1


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario)


def test_it_is_not_there_before_its_first_power_cycle_and_is_tried_again_until_it_answers() -> None:
    async def scenario() -> None:
        controller = Controller(refusals=3)
        backend = LateBackend("bumble:wire", controller.over)
        with pytest.raises(RadioFailed, match="bumble:wire is not open"):
            _ = backend.scanner
        began = asyncio.get_running_loop().time()
        await backend.power_cycle()
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.5)
        assert (backend.client, backend.scanner) == (BaseBleakClient, BaseBleakScanner)
        await backend.power_cycle()
        assert (controller.opened, controller.cycled) == (1, 1)

    run(scenario())


def test_one_that_never_answers_is_said_within_its_time_with_its_own_words() -> None:
    async def scenario() -> None:
        backend = LateBackend("bumble:wire", Controller(refusals=float("inf")).over)
        began = asyncio.get_running_loop().time()
        with pytest.raises(RadioFailed, match="cannot be opened: ConnectionRefusedError: nobody listens") as failed:
            await backend.power_cycle()
        assert failed.value.kind == "off"
        assert asyncio.get_running_loop().time() - began < 15.0

    run(scenario())


def test_one_that_broke_is_closed_and_opened_anew_and_still_knows_the_passkeys() -> None:
    async def scenario() -> None:
        controller = Controller()
        backend = LateBackend("bumble:wire", controller.over)
        await backend.power_cycle()
        backend.passkeys["C0:00:00:00:00:01"] = 123_456
        controller.breaks = True
        await backend.power_cycle()
        assert (controller.opened, controller.closed, controller.cycled) == (2, 1, 0)
        assert controller.passkeys == {"C0:00:00:00:00:01": 123_456}
        await backend.close()
        assert controller.closed == 2
        with pytest.raises(RadioFailed):
            _ = backend.client

    run(scenario())


def test_one_whose_wire_was_cut_and_that_says_nothing_any_more_is_opened_anew_within_the_time_of_the_rung() -> None:
    async def scenario() -> None:
        controller = Controller()
        backend = LateBackend("bumble:wire", controller.over)
        await backend.power_cycle()
        controller.hangs = True
        async with asyncio.timeout(15.0):
            await backend.power_cycle()
        assert (controller.opened, controller.closed) == (2, 1)

    run(scenario())
