"""All virtual devices of a yard: over MQTT one session, every device under its own topics; or on the air.

A device on the air has no topics. Faults need no broker there: `Peripheral.faults` and the methods of `Peripheral` and
`VirtualAir` are the control.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from firmware_sim.faults import Arrivals, LinkFault
from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.lock import Body, Publish, VirtualLock
from firmware_sim.world import Air
from manway.codec_mqtt import encode
from manway.entities import Bolt, Door
from manway.ids import GrantKind
from manway.runtime.ports import Bus, Clock, Message
from manway.runtime.signing import SigningKey, verify
from manway.runtime.yard import YardRadio, YardSpace
from manway.topics import device_filters, device_topic, parse

AUTO_PRESS_S = 1.5  # the yard's locks press their own button, because no visitor of a page can
_STEP_S = 0.2


class OnAir(Protocol):
    """A device on the air, as `Peripheral` is one."""

    faults: list[LinkFault]

    def say(self, messages: Iterable[Publish]) -> None:
        """Tell what the model says: to the link it answers, or to all that listen."""
        ...


class Aerial(Protocol):
    """Where devices live on the air, as `VirtualAir` and `Dongle` are."""

    async def add(self, model: VirtualLock | VirtualInstrument, address: str) -> OnAir:
        """Put a device on the air and return it once it can be heard."""
        ...


class Post:
    """One space of the yard: its air, its lock, its instrument; `on_air` holds those of the two that are, by name."""

    def __init__(self, yard: YardSpace, lock: VirtualLock, instrument: VirtualInstrument) -> None:
        self.yard, self.lock, self.instrument, self.air = yard, lock, instrument, instrument.air
        self.captured: list[bytes] = []  # grants seen on the way to this lock: what a thief with a radio has
        self.thief: Callable[[bytes], bool] | None = None  # takes a grant off the air when it answers True
        self.on_air: dict[str, OnAir] = {}

    def overhear(self, message: bytes) -> bool:
        """Keep a grant on its way to this lock; return True when the thief has taken it off the air."""
        self.captured.append(message)
        return self.thief is not None and self.thief(message)


class Overheard(LinkFault):
    """Somebody listens to the grants for a lock, and may take one."""

    def __init__(self, post: Post) -> None:
        super().__init__("grant")
        self._post = post

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:
        """Return the grant unless it was taken."""
        return [] if to_device and self._post.overhear(value) else [(0.0, value)]


def build_post(
    yard: YardSpace, key: SigningKey, *, issuer: bytes, site_key: bytes, now: float, random: Random, opened: bool
) -> Post:
    """Return a space with its devices; `opened` = its permit is under way: bolt retracted, hatch open, fan off."""
    air = Air()
    body = Body(Bolt.RETRACTED, Door.OPEN, session=int(GrantKind.ENTRY)) if opened else Body()
    lock = VirtualLock(
        public_key=key.public_key,
        issuer_key=issuer,
        site_key=site_key,
        sign=key.sign,
        verify=verify,
        random_bytes=random.randbytes,
        flash=[],
        now=now,
        body=body,
        auto_press_s=AUTO_PRESS_S,
        clock_ahead_s=0.0,
        advertisement_key=YardRadio.of(yard.lock).advertisement_key,
    )
    boot = random.randrange(1, 2**32)
    own = YardRadio.of(yard.instrument)
    enrolment = Enrolment(own.device_id, own.device_key, signs=True)
    beside = ("fan_a", "battery_percent")  # a yard's fan is seen wherever its instrument speaks
    name = yard.instrument
    instrument = VirtualInstrument(name, f"YD4-{yard.id}", air, boot, now, random, beside=beside, enrolment=enrolment)
    return Post(yard, lock, instrument)


class Devices:
    """Runs every post of the yard against a bus and a clock.

    Args:
        posts: the spaces with their devices.
        bus: for all that speak MQTT.
        clock: of the yard.
        aerial: where the devices of spaces with `radio` live; None: these speak MQTT too.
        only: the one device that lives on the aerial, as a dongle carries one; "": see above.
    """

    def __init__(self, posts: Iterable[Post], bus: Bus, clock: Clock, aerial: Aerial | None = None, *, only: str = "") -> None:
        self.posts = {post.yard.id: post for post in posts}
        self._by_device = {p.yard.lock: p for p in self.posts.values()} | {p.yard.instrument: p for p in self.posts.values()}
        self._bus, self._clock, self._aerial, self._only = bus, clock, aerial, only

    @property
    def wired_instruments(self) -> list[Post]:
        """The posts whose instrument speaks MQTT."""
        return [post for post in self.posts.values() if post.yard.instrument not in post.on_air]

    @property
    def wired_locks(self) -> list[Post]:
        """The posts whose lock speaks MQTT."""
        return [post for post in self.posts.values() if post.yard.lock not in post.on_air]

    async def run(self) -> None:
        """Serve until cancelled: births first, then a frame a second, and every message of the locks."""
        async with asyncio.TaskGroup() as group:
            for post in self.posts.values():
                if self._aerial is not None:
                    await self._go_on_air(post, self._aerial)
            for post in self.wired_instruments:
                await self._say_birth(post)
            for post in self.wired_locks:
                await self.publish(post, post.lock.advance(self._clock.now()))
            group.create_task(self._listen())
            group.create_task(self._live())
            group.create_task(self._measure())

    async def _go_on_air(self, post: Post, aerial: Aerial) -> None:
        devices: dict[str, VirtualLock | VirtualInstrument] = {post.yard.instrument: post.instrument, post.yard.lock: post.lock}
        for name, model in devices.items():
            if name == self._only or (post.yard.radio and not self._only):
                post.on_air[name] = await aerial.add(model, YardRadio.of(name).address)
                post.on_air[name].faults = [Overheard(post)]

    async def touch(self, space: str, act: Callable[[Post, float], list[Publish]]) -> None:
        """Let a hand do something to a space's lock and publish what the lock says to it."""
        post = self.posts[space]
        await self.publish(post, act(post, self._clock.now()))

    async def write(self, post: Post, name: str, payload: bytes) -> None:
        """Write to a lock over its own link, past the broker; what it answers goes where its answers go."""
        await self.publish(post, post.lock.receive(name, payload, self._clock.now()))

    async def publish(self, post: Post, messages: Iterable[Publish]) -> None:
        """Send a lock's messages in order; only its state is retained."""
        if post.yard.lock in post.on_air:
            post.on_air[post.yard.lock].say(messages)
            return
        for message in messages:
            topic = device_topic(post.yard.site, post.yard.lock, f"up/{message.name}")
            await self._bus.publish(topic, message.payload, retain=message.name == "state")

    async def _say_birth(self, post: Post) -> None:
        topic = device_topic(post.yard.site, post.yard.instrument, "state")
        await self._bus.publish(topic, encode(post.instrument.birth()), retain=True)

    async def _listen(self) -> None:
        async for batch in self._bus.batches():
            for message in batch.messages:
                if not message.retained:  # a retained command is never fresh
                    await self._obey(message)
            await batch.ack()

    async def _obey(self, message: Message) -> None:
        address = parse(message.topic)
        post = self._by_device.get(address.device)
        if post is None or address.device in post.on_air:
            return
        if address.name == "cmd":
            await self._say_birth(post)
        elif address.name.startswith("down/") and address.device == post.yard.lock:
            name = address.name.removeprefix("down/")
            if name == "grant" and post.overhear(message.payload):
                return
            await self.publish(post, post.lock.receive(name, message.payload, self._clock.now()))

    async def _live(self) -> None:
        """Let the locks' own deadlines pass: the press that is due, the state that is repeated."""
        while True:
            now = self._clock.now()
            for post in self.wired_locks:  # a device on the air keeps its own time
                if (due := post.lock.next_deadline()) is not None and due <= now:
                    await self.publish(post, post.lock.advance(now))
            await self._clock.sleep_until(now + _STEP_S)

    async def _measure(self) -> None:
        """Move the air and send one frame a second; a slow broker delays frames, it never drops them."""
        at = self._clock.now()
        while True:
            for post in self.posts.values():
                post.air.advance(1.0)
            for post in self.wired_instruments:
                frame = post.instrument.frame(self._clock.now())
                if frame is not None:
                    topic = device_topic(post.yard.site, post.yard.instrument, "gas")
                    await self._bus.publish(topic, encode(frame))
            at += 1.0
            with contextlib.suppress(TimeoutError):
                await self._clock.sleep_until(at)


def subscriptions(sites: Iterable[str]) -> list[tuple[str, int]]:
    """Return what the simulator's session subscribes: every device's own commands."""
    return [(f, 1) for site in sites for f in device_filters(site, "+")]
