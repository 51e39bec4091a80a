"""What goes wrong with a radio in the field, done to real BlueZ: the gateway's radio comes back by itself, or is red.

The times are the ladder's (`locks.md` §8): news of the adapter begins it at once, silence after 90 s; each rung is given 30 s.
"""

import asyncio

import pytest
from dbus_fast import Variant

from gateway.bluez_bus import SystemBus
from gateway.radio_bluez import ADAPTER, BlueZControl
from tests.bluez_box.conftest import Lane, Measured, powered
from tests.bluez_box.rig import OnAir, Rig, gateway_radio, on_air

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

FIRST_S = 20.0  # scan, connect, subscribe, first reading
BACK_S = 30.0  # the time of one rung


async def _lost(rig: Rig, device: OnAir, seconds: float = 3.0) -> bool:
    """Return whether nothing arrives for so long; readings come every second."""
    try:
        await rig.hears(device, within_s=seconds)
    except TimeoutError:
        return True
    return False


async def test_an_adapter_that_somebody_switches_off_is_switched_on_again(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, instruments=1) as [gas], gateway_radio([gas], lane.control) as rig:
        await rig.hears(gas, within_s=FIRST_S)
        somebody = SystemBus(user=0)
        await somebody.set("/org/bluez/hci0", ADAPTER, "Powered", Variant("b", False))
        took = await rig.hears(gas, within_s=BACK_S)
        somebody.disconnect()
        measured.say(f"adapter switched off: readings again after {took:.1f} s")
        assert await lane.control.powered()


async def test_a_bluetoothd_that_dies_is_restarted_by_the_ladder(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, instruments=1) as [gas], gateway_radio([gas], lane.control) as rig:
        await rig.hears(gas, within_s=FIRST_S)
        await lane.box.kill_bluetoothd()
        took = await rig.hears(gas, within_s=BACK_S)
        measured.say(f"bluetoothd killed, restarted by the gateway: readings again after {took:.1f} s")


async def test_a_bluetoothd_that_others_restart_is_found_again_and_meanwhile_the_radio_is_red(
    lane: Lane, measured: Measured
) -> None:
    control = BlueZControl("hci0", user=0)  # nothing is configured that could restart the service
    async with on_air(lane, instruments=1) as [gas], gateway_radio([gas], control) as rig:
        await rig.hears(gas, within_s=FIRST_S)
        await lane.box.kill_bluetoothd()
        async with asyncio.timeout(BACK_S):
            while ("hci0", True) not in rig.desk.red:  # noqa: ASYNC110  what the desk was told
                await asyncio.sleep(0.05)
        assert await _lost(rig, gas)
        await lane.box.start_bluetoothd()
        took = await rig.hears(gas, within_s=BACK_S)
        measured.say(f"bluetoothd started again from outside: readings again after {took:.1f} s")
        assert rig.desk.red[-1] == ("hci0", False)
    control.close()
    await powered(lane.control)


@pytest.mark.parametrize("reason", [0x08, 0x13])
async def test_a_link_that_ends_is_made_again_and_the_lost_readings_show(lane: Lane, measured: Measured, reason: int) -> None:
    async with on_air(lane, instruments=1) as [gas], gateway_radio([gas], lane.control) as rig:
        await rig.hears(gas, within_s=FIRST_S)
        await gas.peripheral.cut(reason)
        took = await rig.hears(gas, within_s=BACK_S)
        measured.say(f"link ended with reason {reason:#04x}: readings again after {took:.1f} s")
        seen = rig.frames(gas)
        assert seen == sorted(set(seen))  # none twice, none out of order: what is missing is a gap in the numbers


async def test_a_device_out_of_range_is_found_when_it_comes_back(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, instruments=2) as [gone, here], gateway_radio([gone, here], lane.control) as rig:
        await rig.hears(gone, within_s=FIRST_S)
        await rig.hears(here, within_s=FIRST_S)
        await gone.peripheral.vanish(supervision_s=1.0)
        assert await _lost(rig, gone, 5.0)
        await rig.hears(here, within_s=FIRST_S)  # the other one is served all the while
        gone.peripheral.appear()
        took = await rig.hears(gone, within_s=2 * BACK_S)
        measured.say(f"device back in range: readings again after {took:.1f} s")


async def test_an_unlock_gets_its_slot_though_all_are_taken(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, locks=1, instruments=1) as [lock, gas], gateway_radio([lock, gas], lane.control, slots=1) as rig:
        await rig.hears(gas, within_s=FIRST_S)
        took = await rig.unlock(lock, within_s=FIRST_S)
        measured.say(f"unlock with every slot taken: {took:.1f} s, of which BlueZ takes 2 to end the instrument's link")
        await rig.hears(gas, within_s=BACK_S)  # and it comes back


async def test_a_lock_of_the_smallest_packets_opens(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, locks=1) as [lock], gateway_radio([lock], lane.control) as rig:
        lock.peripheral.mtu = 23
        await rig.desk.until(lock.row.device, "state", within_s=FIRST_S)
        took = await rig.unlock(lock, within_s=FIRST_S)
        measured.say(f"unlock at MTU 23: {took:.1f} s")
