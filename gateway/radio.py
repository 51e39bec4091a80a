"""Bluetooth as a `Bus`: what a device says over the radio arrives under the topic it would have over MQTT, and back.

Theory. A device says the same bytes on either wire (`locks.md` §6), so whoever judges, stores and acknowledges need not know
which it was. Locks are connected only to act, instruments are held; who is served next is `radio_queue`'s rule, and the plan
says who there is. The radio publishes its own health and never judges: that a device is silent is the engine's to say.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from random import random
from typing import Self

import structlog

from gateway.ports import AdapterControl, Radio, RadioFailed, Sighting
from gateway.radio_adapter import RadioAdapter
from gateway.radio_devices import FORGET_S, RESCUE_S, Kind, Known, RadioDevice, Request
from gateway.radio_inbox import Inbox
from gateway.radio_links import RadioLinks
from gateway.radio_pairing import Pairings
from manway.device_profile import DeviceProfile, Heard
from manway.enrolment import NOT_REACHED
from manway.measurements import RadioHealth
from manway.runtime.ports import Batch, Clock
from manway.topics import Address, parse

_log = structlog.get_logger("radio")
_TICK_S = 1.0  # (choice) how soon a changed plan or a back-off that is over is noticed; what is urgent wakes us at once
_LOGGED_EVERY = 1_000  # (choice) messages lost; each is counted
_HEALTH_S = 10.0  # (choice) how often an adapter's health is written; a change is written at once


class RadioBus:
    """All adapters of a gateway as one bus.

    Args:
        adapters: each radio with what can be done to it from outside.
        devices: the devices with an address, as the plans have them now.
        clock: of the gateway.
        slots: connections an adapter holds at most.
        profiles: of other makers' devices, by their id.
        write: takes a line of an adapter's health for the telemetry store.
        say: told, with the adapter's name, whether its health is red; once at the start and at every change.
        roll: a random number from 0 to 1.
    """

    def __init__(
        self,
        adapters: Iterable[tuple[Radio, AdapterControl | None]],
        devices: Callable[[], Iterable[RadioDevice]],
        clock: Clock,
        *,
        slots: int,
        profiles: Mapping[str, DeviceProfile],
        write: Callable[[RadioHealth], None],
        say: Callable[[str, bool], None],
        roll: Callable[[], float] = random,
    ) -> None:
        self._devices, self._clock, self._write, self._say = devices, clock, write, say
        self._adapters = [
            RadioAdapter(radio, control, clock, slots=slots, seen=self._seen, moved=self._moved, dead=self._dead)
            for radio, control in adapters
        ]
        self._profiles = profiles
        self._known: dict[str, Known] = {}
        self._by_address: dict[str, Known] = {}
        self._inbox = Inbox(self._dropped)
        self._links = RadioLinks(self._known, self._adapters, clock, tell=self._inbox.put, lost=self._drop, roll=roll)
        self._pairings = Pairings(self._links, tell=self._inbox.put)
        self._red: dict[str, bool] = {}
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start listening; returns at once."""
        await self._group.__aenter__()
        self._look_at_plan()
        for adapter in self._adapters:
            self._tasks.append(self._group.create_task(adapter.run()))
            self._tasks.append(self._group.create_task(self._links.serve(adapter, self._group)))
        self._tasks.append(self._group.create_task(self._tick()))
        self._tasks.append(self._group.create_task(self._report()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End every connection, all at once, and stop listening."""
        for task in self._tasks:
            task.cancel()
        self._links.end_all()
        await self._group.__aexit__(None, None, None)

    # -- the bus

    @property
    def connected(self) -> bool:
        """True while an adapter is believed to hear."""
        return any(adapter.listening for adapter in self._adapters)

    def owns(self, address: Address) -> bool:
        """Say whether the device of a topic is spoken to over the radio."""
        if address.name == "down/enrol":  # the command that it goes with may have named the lock a moment ago
            self._look_at_plan()
        return f"{address.site}/{address.device}" in self._known

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, for ever."""
        return self._inbox.batches()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:  # noqa: ARG002  a radio has neither
        """Bring a message to a device of ours; returns at once. What cannot be brought in time is counted and logged."""
        address = parse(topic)
        device = f"{address.site}/{address.device}"
        known = self._known.get(device)
        if known is None or known.row.kind is not Kind.LOCK or not address.name.startswith("down/"):
            _log.info("nothing the radio can bring", device=device, name=address.name)
            return
        name = address.name.removeprefix("down/")
        if name == "enrol" and known.has_been_told(payload):
            return
        linked, waits, now = self._links.of(device), self._pairings.wanted(known, name, payload), self._clock.now()
        if linked is not None and linked.lock is not None and not linked.leaving and not waits:
            if name == "hello":
                linked.urgency = min(linked.urgency, known.opening_urgency(now))
            linked.lock.ask(name, payload, now)
            return
        if name == "grant":  # its challenge went with the link it was made on (`locks.md` §2)
            self._drop(known, [Request(name, payload, now)])
            return
        known.pending = [request for request in known.pending if request.name != name]
        known.pending.append(Request(name, payload, now))
        self._pair(known)
        self._links.wake()

    async def rescue(self, topic: str, payload: bytes, *, unbrought: Callable[[bytes], None]) -> None:
        """Bring a message of a rescue, before everything else; `unbrought` is told of a grant whose link was gone."""
        address = parse(topic)
        known = self._known.get(f"{address.site}/{address.device}")
        if known is not None:
            known.rescue_until, known.unbrought = self._clock.now() + RESCUE_S, unbrought
        await self.publish(topic, payload)

    async def pair(self, site: str, device: str, passkey: int) -> None:
        """Pair with a device of ours, at commissioning, with the passkey printed inside it; raises RadioFailed."""
        known = self._known.get(f"{site}/{device}")
        if known is None:
            raise RadioFailed("pairing", f"{device} has no address in the plan")
        await self._pairings.pair(known, passkey)

    def _pair(self, known: Known) -> None:
        task = self._pairings.look(known, self._group)
        if task is not None:
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    # -- what is heard

    def _seen(self, adapter: RadioAdapter, sighting: Sighting) -> None:
        known = self._by_address.get(sighting.address)
        if known is None:
            return
        now = self._clock.now()
        first = known.heard_by(adapter.name, sighting.rssi, now)
        data = sighting.service_data.get(known.service)
        if known.row.profile:
            heard = Heard(service_data=sighting.service_data, manufacturer_data=sighting.manufacturer_data)
            for payload in known.broadcasts(heard, now):
                self._inbox.put(known, "frame", payload)
        elif data is not None:
            pulled = known.pull
            if known.advertised(data, now, linked=self._links.of(known.row.id) is not None):
                self._inbox.put(known, "adv", data)
            first = first or known.pull != pulled
        if first:
            self._pair(known)
            self._links.wake()

    def _dropped(self, known: Known) -> None:
        errors = self._adapters[0].errors
        errors["dropped"] += 1
        if errors["dropped"] % _LOGGED_EVERY == 1:
            _log.error("nobody takes what the radio hears", device=known.row.id, dropped=errors["dropped"])

    # -- who is served

    def _look_at_plan(self) -> None:
        now = self._clock.now()
        rows = {row.id: row for row in self._devices() if not row.enrolling or row.enrolling_until > now}
        for device in [device for device in self._known if device not in rows]:
            self._forget(device)
        for row in rows.values():
            known = before = self._known.get(row.id)
            if known is not None and row.is_another_than(known.row):  # its name has gone to another device
                self._forget(row.id)
                known = None
            if known is None:
                self._known[row.id] = Known(row, self._profiles.get(row.profile))
                if before is not None:
                    self._known[row.id].succeeds(before)
                if row.profile and row.profile not in self._profiles:
                    _log.error("profile not known here: install it, or correct the ledger", device=row.id, profile=row.profile)
            else:
                known.row = row
        # What a plan names goes before what is being enrolled: a mistyped address must hide nobody.
        ordered = sorted(self._known.values(), key=lambda known: not known.row.enrolling)
        self._by_address = {known.row.address.upper(): known for known in ordered}
        for adapter in self._adapters:
            adapter.needed = bool(rows)

    def _forget(self, device: str) -> None:
        del self._known[device]
        if (linked := self._links.of(device)) is not None:
            linked.end()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + _TICK_S)
            with self._survived():
                self._look_at_plan()
                for known in self._known.values():
                    if late := known.give_up(self._clock.now()):
                        self._drop(known, late)
                    self._pair(known)
            self._links.wake()

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        """Count whatever goes wrong: nothing of the radio may end the watch over a site."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  as it says
            self._adapters[0].failed(RadioFailed.of(error))

    def _drop(self, known: Known, requests: Sequence[Request]) -> None:
        adapter = self._links.adapter_of(known) or self._adapters[0]
        for request in requests:
            why = "no link with its challenge" if request.name == "grant" else "it could not be reached in time"
            if request.name == "enrol":
                self._inbox.put(known, "enrol", NOT_REACHED)  # somebody stands at the open lock and waits
            if request.name == "grant" and known.unbrought is not None:
                known.unbrought(request.payload)
            known.pull = True  # when it can be reached it is asked how it stands, and the rules ask for what they lack
            adapter.failed(RadioFailed("unreachable", f"{request.name} not brought: {why}"), device=known.row.id)

    # -- health

    def _dead(self, adapter: RadioAdapter) -> None:
        self._links.end_all(adapter)

    def _moved(self, adapter: RadioAdapter) -> None:
        with self._survived():
            if self._red.get(adapter.name) is not adapter.red and (adapter.red or adapter.heard_at is not None):
                self._red[adapter.name] = adapter.red
                self._say(adapter.name, adapter.red)
            self._write(self.health(adapter.name))
        self._links.wake()

    async def _report(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + _HEALTH_S)
            with self._survived():
                for adapter in self._adapters:
                    self._write(self.health(adapter.name))

    def health(self, name: str) -> RadioHealth:
        """Return how an adapter is now."""
        (adapter,) = (one for one in self._adapters if one.name == name)
        now = self._clock.now()
        mine = [known for known in self._known.values() if known.adapter in (name, "")]  # who is heard by none waits for all
        seen = [known for known in mine if name in known.heard and now - known.heard[name].at < FORGET_S]
        waiting = sum(self._links.of(known.row.id) is None and known.urgency(now) is not None for known in mine)
        return RadioHealth(
            adapter=name,
            slots=adapter.room,
            used=len(self._links.held(adapter)),
            seen=len(seen),
            waiting=waiting,
            rung=list(type(adapter.rung)).index(adapter.rung),
            red=adapter.red,
            heard_age_s=None if adapter.heard_at is None else now - adapter.heard_at,
            errors=dict(adapter.errors),
        )
