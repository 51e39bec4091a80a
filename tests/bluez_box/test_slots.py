"""An adapter that has fewer connections than it is said to have, on real BlueZ, which does not say so: locks open all the same.

Whatever the controller does at its limit, BlueZ's connect hangs, and goes on hanging when there is room again; made anew it
takes half a second.
"""

import asyncio

import msgspec
import pytest

from firmware_sim.faults import Full
from tests.bluez_box.conftest import Lane, Measured
from tests.bluez_box.rig import NOW, gateway_radio, on_air

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

FIRST_S = 20.0  # scan, connect, subscribe, first reading
IN_TIME_S = 20.0  # `locks.md` §8: a session; a request that has not been brought by then is dropped
BACK_S = 15.0  # the lock leaves after 2 s, a link is made in one or two


@pytest.mark.parametrize("full", Full)
@pytest.mark.parametrize("occupied", [False, True], ids=["unlock", "emergency"])
async def test_slots_that_are_fewer_than_believed_cost_seconds(
    lane: Lane, measured: Measured, full: Full, *, occupied: bool
) -> None:
    async with on_air(lane, locks=1, instruments=2) as [free, *instruments]:
        lock = free._replace(row=msgspec.structs.replace(free.row, occupied=occupied))
        lane.air.few_slots(2, full)
        try:
            async with gateway_radio([lock, *instruments], lane.control) as rig:
                for device in instruments:
                    await rig.hears(device, within_s=FIRST_S)
                took = await rig.unlock(lock, within_s=IN_TIME_S)
                began = NOW()
                assert rig.bus.health("hci0").errors["slots"] == 1
                await asyncio.gather(*(rig.hears(device, within_s=BACK_S) for device in instruments))
                what = f"{'emergency' if occupied else 'unlock'} {took:.1f} s"
                measured.say(f"adapter is full ({full.value}): {what}, all air watched again {NOW() - began:.1f} s later")
        finally:
            lane.air.few_slots(255, full)
