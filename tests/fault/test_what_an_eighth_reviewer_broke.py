"""What an eighth reviewer broke of the lane of plain frames and of what waits behind it for the disk."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import pytest

from gateway.host import SiteHost
from gateway.pictures import Pictures
from gateway.seats import Seats
from manway.codec_mqtt import SiteState
from manway.heard import Heard, Unread
from manway.runtime.ports import Bus, Message
from manway.topics import device_topic, parse
from tests.contract.test_commits import World, played
from tests.contract.test_lane import Yard
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.lane import FOLDERS, Twins
from tests.kit.lane_fleet import SITES, Fleet
from tests.property.test_lane import Day, a_script

WINDOW = 10  # messages that RabbitMQ lets be under way, the fewest of the brokers we know


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=FOLDERS) as name:
        yield Path(name)


@pytest.fixture
def yard(folder: Path) -> Iterator[Yard]:
    one = Yard(folder)
    yield one
    one.twins.close()


def test_a_channel_that_the_birth_does_not_name_is_refused_however_often_it_is_said(yard: Yard) -> None:
    """What the lane knew of its channels was of the birth before; the third copy of a refused frame was believed."""
    device = yard.devices[0]
    yard.tell([device.born_otherwise(3)])  # without CO
    said = device.says(yard.next())
    for copy in range(1, 6):
        yard.tell([Message(said.topic, said.payload)])
        assert yard.events("s1").count("MessageRejected") == copy
        yard.next()
    yard.twins.compare_journals()


def test_a_gateway_that_was_stopped_twice_does_not_take_its_api_for_lost(yard: Yard) -> None:
    """Who wakes late has heard nobody only because it did not listen, unless it woke late before and never in time since.

    A step of plain frames alone was no such time.
    """
    for _ in range(3):
        yard.fleet.at += 60.0
        yard.breathe(5)
    for site in SITES:
        assert "UPLINK_LOST" not in yard.events(site)


def test_a_broker_with_a_small_window_does_not_wait_for_company_that_cannot_come(tmp_path: Path) -> None:
    """It sends no more until what it sent is acknowledged: to wait for more of it stopped a site of 200 instruments."""

    async def story(world: World) -> None:
        sent = 0
        while world.ms < 1_000:
            if sent - len(world.acked) < WINDOW:
                world.owe(sent, messages=1)
                sent += 1
            await world.until(world.ms + 1)

    assert len(played(tmp_path, story).acked) > 500


class Shown:
    """What `Pictures` asks of a site's host and of the bus; `sent` are the sites and when their pictures went out, seconds."""

    connected = True

    def __init__(self, site: str, sent: list[tuple[str, float]]) -> None:
        self.site, self.sent = site, sent
        self.watched = self.changed = self.stirred = False

    def picture(self, gateway: str) -> SiteState:
        return SiteState(gateway, "", self.site, 0, 0.0, 0, [], [], [], [])

    async def publish(self, topic: str, _payload: bytes, *, retain: bool) -> None:
        assert retain
        self.sent.append((parse(topic).site, asyncio.get_running_loop().time()))


def test_the_picture_of_an_alarm_does_not_wait_behind_clean_air() -> None:
    """Three hundred sites with nobody inside have news of clean air all the time, more than may go out; in one gas rises."""
    sent = list[tuple[str, float]]()
    hosts = [Shown(f"yard-{number}", sent) for number in range(300)]

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pictures = Pictures(cast("list[SiteHost]", hosts), cast("Bus", hosts[0]), loop.time, gateway="gw")
        task = asyncio.create_task(pictures.run())
        while loop.time() < 60.0:
            for host in hosts:
                host.changed = True
            hosts[7].stirred = hosts[7].stirred or loop.time() >= 30.0
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
    at = {host.site: [when for site, when in sent if site == host.site] for host in hosts}
    alarm = [when for when in at["yard-7"] if when >= 30.0]
    assert max(later - when for when, later in pairwise([30.0, *alarm])) < 2.0
    assert max(later - when for times in at.values() for when, later in pairwise(times[1:])) < 8.0  # and nobody is forgotten


def test_who_judges_has_a_turn_between_two_pictures_after_an_outage() -> None:
    sent = list[tuple[str, float]]()
    hosts, behind = [Shown(f"yard-{number}", sent) for number in range(50)], list[int]()

    async def scenario() -> None:
        pictures = Pictures(cast("list[SiteHost]", hosts), cast("Bus", hosts[0]), lambda: EPOCH, gateway="gw")
        task = asyncio.create_task(pictures.catch_up())
        while not task.done():
            await asyncio.sleep(0)
            behind.append(len(sent))

    asyncio.run(scenario())
    assert len(sent) == 50
    assert max(later - one for one, later in pairwise([0, *behind])) <= 1


def test_what_waits_survives_that_the_columns_grow() -> None:
    heard = Heard()
    unread = Unread(heard, heard.add(2), 7, ("O2", "CO"))
    place, two = np.array([unread.place]), np.array([2])
    heard.take(place, np.array([5]), np.array([5_000]), heard.cells(place, two), np.array([20.9, 1.5]), EPOCH)
    for width in range(1, 200):
        heard.add(width)
    count, plain = unread.read() or (0, None)
    assert plain is not None
    assert (count, plain.seq, plain.ts, plain.received_at, plain.numbers) == (1, 5, 5_000, EPOCH, (20.9, 1.5))


def test_who_takes_the_place_of_another_is_looked_at_first(yard: Yard) -> None:
    """Versions of two sites may be the same number: what was seen of the instrument before must not pass for its own."""
    assert yard.quick.lane is not None
    seats = cast("Seats", yard.quick.lane._seats)
    topics = [device_topic(device.site, device.name, "gas") for device in (yard.devices[8], yard.devices[5])]
    left, comes = (seats.at[topic] for topic in topics)
    seat = seats[comes]
    version = seats[left].host.engine.version = seat.host.engine.version
    seats.see(left)
    for topic in topics[::-1]:
        seats.drop(topic)
    assert seats.add(seat) == left
    assert int(seats.version[left]) != version
    assert seats.unseen(np.array([left])) == [left]


def test_a_second_frame_is_heard_where_the_first_one_of_its_batch_made_that_matter(yard: Yard) -> None:
    """Much H2S must last a minute to poison a sensor; a breath of less in the same batch ends that minute."""
    device, watch = yard.devices[0], yard.quick.hosts["s1"].engine.site.instruments["gas-1"]
    at = yard.next()
    yard.tell([device.with_air(at, H2S=60.0), device.with_air(at, H2S=45.0)])
    assert yard.given_back == []
    assert watch.sour_since is None
    yard.tell([device.with_air(at, H2S=60.0)])
    assert watch.sour_since == at


WAYS: dict[str, list[tuple[str, int]]] = {
    "a birth": [("birth", 1)],
    "another boot": [("boot", 0)],
    "a gas less": [("untold", 2)],
    "another unit base": [("plan", 6)],
    "another space": [("plan", 0)],
    "out of the plan and in again": [("plan", 1), ("plan", 0)],
    "the places of two": [("swap", 1)],
    "a flood": [("flood", 7)],
    "a hole": [("hole", 2)],
    "a repeat": [("again", 0)],
    "somebody inside": [("count", 2)],
}


@pytest.mark.parametrize("at_once", [True, False], ids=["in one breath", "in breaths of their own"])
@pytest.mark.parametrize("way", WAYS)
def test_a_seat_that_is_lost_takes_nothing_along_that_waited(yard: Yard, way: str, at_once: bool) -> None:  # noqa: FBT001  tried
    """Frames that wait for a watch nobody asks, in a space nobody is inside, when its instrument becomes another."""
    yard.twins.looks = lambda: False
    for i in (8, 3, 0):  # whom time alone asks seldom, and often
        yard.breathe(3)
        for act, x in WAYS[way]:
            said = yard.fleet.do(act, i, x)
            if at_once:
                at = yard.next()
                yard.tell([yard.devices[i].says(at), *said, *yard.fleet.breath()])
            else:
                yard.tell(said)
                yard.breathe()
        yard.breathe(3)
    yard.twins.looks = lambda: True
    yard.breathe()
    yard.twins.compare_journals()


class SeldomAsked(Day):
    """A day of many instruments whose watches are asked now and then only, by chance."""

    def __init__(self, folder: Path, chance: Random, share: float, more: int) -> None:
        self.twins = Twins(folder, SITES)
        self.twins.looks = lambda: chance.random() < share
        self.fleet = Fleet(self._alarms, more)
        self.unheard = []
        for messages in self.fleet.begin():
            self.twins.step(messages, EPOCH)
        self.breathe(14)

    def end(self) -> None:
        self.twins.looks = lambda: True
        super().end()


@pytest.mark.parametrize("seed", range(6))
def test_what_waits_unread_for_long_is_what_was_said(folder: Path, seed: int) -> None:
    """Also where seats come, go and grow in number meanwhile."""
    day = SeldomAsked(folder, Random(seed), (0.0, 0.02, 0.2)[seed % 3], more=25 * (seed % 2))  # noqa: S311  repeatable
    try:
        for scene in a_script(8_000 + seed):
            day.play(scene)
        day.end()
    finally:
        day.twins.close()
