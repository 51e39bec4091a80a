"""The yard's devices on the air: the same posts, the same stories, no topics; and what the command line says of it."""

import asyncio
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest
from bleak import BleakScanner

from firmware_sim import __main__ as simulator
from firmware_sim.app import open_aerial
from firmware_sim.devices import Devices, Post, build_post
from firmware_sim.radio import VirtualAir
from manway import codec_ble, gatt
from manway.cli.seed import make_keys
from manway.codec_adv import decode_advertisement
from manway.codec_gas import decode_reading, is_authentic
from manway.entities import Bolt, Door, ResultCode
from manway.errors import ProfileInvalid
from manway.ids import GrantKind
from manway.runtime.ports import Message
from manway.runtime.yard import Yard, YardRadio, load_yard
from manway.topics import device_filters, device_topic
from tests.kit.air import START, Heard, connected, play
from tests.kit.clock import FakeClock
from tests.kit.docs_tables import ROOT
from tests.kit.locks import ISSUER, LOCK, SITE, LockBench
from tests.kit.memory_broker import MemoryBroker, MemoryBus

AIRED, WIRED = load_yard().space[:2]


class Recording(MemoryBroker):
    """A broker that remembers what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Message] = []

    def accept(self, message: Message, qos: int, *, retain: bool) -> None:
        self.published.append(message)
        super().accept(message, qos, retain=retain)

    def simulator(self) -> MemoryBus:
        return self.bus("simulator", [(topic, 1) for topic in device_filters(AIRED.site, "+")])


def yard_with_radio() -> Yard:
    yard = load_yard()
    return msgspec.structs.replace(yard, space=[msgspec.structs.replace(yard.space[0], radio=True), *yard.space[1:]])


def a_post(number: int, clock: FakeClock) -> Post:
    space = yard_with_radio().space[number]
    return build_post(
        space,
        LOCK,
        issuer=ISSUER.public_key,
        site_key=SITE.public_key,
        now=clock.now(),
        random=Random(number),  # noqa: S311  repeatable
        opened=False,
    )


def test_a_device_of_the_yard_is_the_same_on_every_air_and_another_than_its_neighbours() -> None:
    everybody = [YardRadio.of(name) for space in load_yard().space for name in (space.lock, space.instrument)]
    assert len({own.address for own in everybody}) == len({own.device_key for own in everybody}) == len(everybody)
    assert all(int(own.address[:2], 16) >= 0xC0 for own in everybody)
    assert YardRadio.of(AIRED.lock) == YardRadio.of(AIRED.lock)
    record = AIRED.device(START, on_air=True)
    own = YardRadio.of(AIRED.instrument)
    assert (record.address, record.device_id, record.advertisement_key) == (own.address, own.device_id, own.advertisement_key)
    assert (AIRED.device(START).address, AIRED.device(START).device_id) == ("", b"")


def test_posts_with_a_radio_live_on_the_air_and_the_others_over_mqtt() -> None:
    async def scenario() -> None:
        clock, broker = FakeClock(epoch=START), Recording()
        posts = [a_post(number, clock) for number in (0, 1)]
        async with VirtualAir(clock=clock) as air, broker.simulator() as bus, asyncio.TaskGroup() as group:
            devices = Devices(posts, bus, clock, air)
            running = group.create_task(devices.run())
            await asyncio.sleep(5.5)
            topics = {message.topic.split("/")[5] for message in broker.published}
            assert topics == {WIRED.lock, WIRED.instrument}
            backend = air.backend()
            said = await BleakScanner.discover(1.0, return_adv=True, backend=backend.scanner)
            gas, lock = YardRadio.of(AIRED.instrument), YardRadio.of(AIRED.lock)
            assert set(said) == {gas.address, lock.address}
            decode_advertisement(gas.device_id, gas.advertisement_key, said[gas.address][1].service_data[gatt.GAS_SERVICE])
            lock_id, told = posts[0].lock.lock_id, said[lock.address][1].service_data[gatt.LOCK_SERVICE]
            decode_advertisement(lock_id, lock.advertisement_key, told)
            heard = await Heard(await connected(backend, gas.address)).subscribe(gatt.READING)
            frame = (await heard.wait(gatt.READING))[0]
            assert is_authentic(frame, gas.device_key, gas.device_id)
            assert decode_reading(frame).seq == posts[0].instrument.sent[1] > 5
            running.cancel()

    play(scenario())


def test_hands_and_thieves_of_the_story_reach_a_lock_on_the_air() -> None:
    async def scenario() -> None:
        clock, broker = FakeClock(epoch=START), Recording()
        post = a_post(0, clock)
        async with VirtualAir(clock=clock) as air, broker.simulator() as bus, asyncio.TaskGroup() as group:
            devices = Devices([post], bus, clock, air)
            running = group.create_task(devices.run())
            await asyncio.sleep(1.0)
            client = await connected(air.backend(), YardRadio.of(AIRED.lock).address)
            heard = await Heard(client).subscribe(gatt.STATE, gatt.RESULT)
            await devices.touch(AIRED.id, lambda touched, now: touched.lock.open_door(now))
            assert codec_ble.decode_state((await heard.wait(gatt.STATE))[0]).door is Door.OPEN
            bench = LockBench()

            async def ask() -> bytes:
                await asyncio.sleep(0.5)
                await client.write_gatt_char(gatt.HELLO, codec_ble.HELLO_REQUEST, response=True)
                hello = codec_ble.open_hello(bytes(await client.read_gatt_char(gatt.HELLO)))[1]
                return bench.order(GrantKind.EMERGENCY, challenge=hello.challenge)

            stolen = await ask()
            post.thief = lambda _grant: True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3.0):
                    await client.write_gatt_char(gatt.GRANT, stolen, response=True)
            assert (post.captured, post.lock.body.bolt) == ([stolen], Bolt.LOCKED)
            post.thief = None
            await client.disconnect()
            client = await connected(air.backend(), YardRadio.of(AIRED.lock).address)
            heard = await Heard(client).subscribe(gatt.RESULT)
            await client.write_gatt_char(gatt.GRANT, await ask(), response=True)
            (result,) = await heard.wait(gatt.RESULT)
            assert codec_ble.open_result(result)[1].code is ResultCode.OPENED
            running.cancel()

    play(scenario())


def test_a_message_on_a_topic_does_not_reach_a_device_on_the_air() -> None:
    async def scenario() -> None:
        clock, broker = FakeClock(epoch=START), Recording()
        post = a_post(0, clock)
        async with VirtualAir(clock=clock) as air, broker.simulator() as bus, asyncio.TaskGroup() as group:
            running = group.create_task(Devices([post], bus, clock, air).run())
            await asyncio.sleep(1.0)
            await bus.publish(device_topic(AIRED.site, AIRED.lock, "down/hello"), codec_ble.HELLO_REQUEST)
            await bus.publish(device_topic(AIRED.site, AIRED.instrument, "cmd"), b"{}")
            await asyncio.sleep(1.0)
            assert [message.topic for message in broker.published if "/up/" in message.topic or "/state" in message.topic] == []
            running.cancel()

    play(scenario())


async def test_a_radio_without_a_device_is_refused_and_no_radio_is_none() -> None:
    clock = FakeClock(epoch=START)
    async with open_aerial("", load_yard(), clock) as nothing:
        assert nothing is None
    bare = msgspec.structs.replace(load_yard(), space=[msgspec.structs.replace(s, radio=False) for s in load_yard().space])
    with pytest.raises(ProfileInvalid, match="no space has `radio = true`"):
        async with open_aerial("virtual", bare, clock):
            pass
    with pytest.raises(ProfileInvalid, match="no device is called lock-x99; the yard has lock-n01, gas-n01"):
        async with open_aerial("virtual", bare, clock, only="lock-x99"):
            pass
    async with open_aerial("virtual", bare, clock, only=AIRED.lock) as aerial:
        assert isinstance(aerial, VirtualAir)


def test_the_command_line_names_transport_and_capture() -> None:
    asked = simulator.parse(["manway.toml", "--radio", "usb:0", "--device", "lock-n01", "--capture", "air.btsnoop"])
    assert (asked.config, asked.radio, asked.device) == (Path("manway.toml"), "usb:0", "lock-n01")
    assert asked.capture == Path("air.btsnoop")
    asked = simulator.parse(["manway.toml"])
    assert (asked.radio, asked.device, asked.capture) == (None, "", None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--radio", "carrier-pigeon:7", "--device", "lock-n01"], "radio carrier-pigeon:7: .*unknown transport scheme"),
        (["--radio", "virtual", "--device", "lock-x99"], "no device is called lock-x99"),
    ],
)
def test_a_radio_that_cannot_be_ends_the_simulator_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.setattr("manway.runtime.logs.configure", lambda _process: None)  # it is for the whole process
    config = tmp_path / "manway.toml"
    config.write_text(f'data = "{tmp_path}"\nsites = ["yard-north"]\n')
    make_keys(tmp_path / "keys", load_yard())
    with pytest.raises(SystemExit, match=reason):
        simulator.run([str(config), *arguments])


def test_people_are_played_where_their_passwords_lie_beside_the_config(tmp_path: Path) -> None:
    assert simulator._cast(tmp_path / "cast.json") == (1, {})
    (tmp_path / "cast.json").write_text('{"seed": "7", "passwords": {"cast-worker": "secret"}}')
    assert simulator._cast(tmp_path / "cast.json") == (7, {"cast-worker": "secret"})


def test_a_simulator_without_a_radio_does_not_load_one() -> None:
    asked = "import sys, firmware_sim.__main__; print([m for m in sys.modules if m.startswith(('bumble', 'bleak'))])"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_device_alone_can_be_on_the_air() -> None:
    async def scenario() -> None:
        clock, broker = FakeClock(epoch=START), Recording()
        posts = [a_post(number, clock) for number in (0, 1)]
        async with VirtualAir(clock=clock) as air, broker.simulator() as bus, asyncio.TaskGroup() as group:
            devices = Devices(posts, bus, clock, air, only=WIRED.lock)
            running = group.create_task(devices.run())
            await asyncio.sleep(2.0)
            seen = await BleakScanner.discover(1.0, backend=air.backend().scanner)
            assert [device.address for device in seen] == [YardRadio.of(WIRED.lock).address]
            topics = {message.topic.split("/")[5] for message in broker.published}
            assert topics == {AIRED.lock, AIRED.instrument, WIRED.instrument}
            running.cancel()

    play(scenario())
