"""The scenario of `tests/contract/radio_scenario.py`, unchanged, on real bleak, real bluetoothd and a real kernel."""

import pytest

from firmware_sim.radio import PASSKEY
from gateway.radio_bleak import BleakRadio
from manway.runtime.clock import SystemClock
from tests.bluez_box.conftest import Lane, Measured
from tests.contract import radio_scenario
from tests.kit.radio import address_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]


async def test_the_scenario_runs_on_bluez_and_an_unlock_takes_three_seconds_at_most(lane: Lane, measured: Measured) -> None:
    await radio_scenario.put_on_air(lane.air, SystemClock().now())
    before = lane.box.processor_s()
    times = await radio_scenario.play(BleakRadio("hci0"), lane.control, passkey=PASSKEY)
    measured.say(f"{times}; {lane.box.processor_s() - before:.1f} s of the box's processor")
    assert times.unlock_s <= 3.0
    for number in range(1, 5):
        await lane.air.remove(address_of(number))
