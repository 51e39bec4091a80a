"""Who has a connection: an adapter makes one at a time, the most urgent first, and every link has a task of its own."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gateway.gas_link import GasSession
from gateway.lock_link import LockSession
from gateway.ports import Link, RadioFailed
from gateway.profiled import ProfiledSession
from gateway.radio_adapter import RadioAdapter
from gateway.radio_devices import ANSWER_S, Kind, Known, Request
from gateway.radio_queue import TURN_S, Connect, Evict, Held, Urgency, next_move, patience_s, who_makes_way
from manway.runtime.ports import Clock

_AGAIN_S = 1.0  # (choice) after an error nobody has foreseen
ATTEMPT_S = 20.0  # `locks.md` §8: one attempt; the connector's others must not keep a device waiting that answers

Tell = Callable[[Known, str, bytes], None]
Session = LockSession | GasSession | ProfiledSession


class Linked:
    """A connection, who serves it, and the task that does."""

    def __init__(self, known: Known, adapter: RadioAdapter, urgency: Urgency, session: Session, since: float) -> None:
        self.known, self.adapter, self.urgency, self.session, self.since = known, adapter, urgency, session, since
        self.leaving = False  # it is being ended, and brings nothing any more
        self.task = asyncio.current_task()

    @property
    def lock(self) -> LockSession | None:
        """The session, where it is a lock's."""
        return self.session if isinstance(self.session, LockSession) else None

    def held(self) -> Held:
        """Return it as the queue counts it; what is being left is the first to be waited for."""
        row = self.known.row
        if self.lock is None:
            watched = row.occupied and not self.leaving
            return Held(row.id, Urgency.OCCUPIED if watched else Urgency.POLL, self.since, stays=True)
        urgency = Urgency.POLL if self.leaving else self.urgency
        return Held(row.id, urgency, self.since, lingers=self.lock.lingers or self.leaving)

    def end(self) -> None:
        """Ask for its end; one that is being disconnected already must not be kept from it."""
        if self.task is not None and not self.leaving:
            self.leaving = True
            self.task.cancel()


class RadioLinks:
    """The links of all adapters.

    Args:
        known: the devices of the plan, by id; the bus keeps it.
        adapters: the bus's.
        clock: of the gateway.
        tell: takes a device's message, by its name behind `up/`.
        lost: takes grants that a link did not bring.
        roll: a random number from 0 to 1.
    """

    def __init__(
        self,
        known: Mapping[str, Known],
        adapters: Sequence[RadioAdapter],
        clock: Clock,
        *,
        tell: Tell,
        lost: Callable[[Known, Sequence[Request]], None],
        roll: Callable[[], float],
    ) -> None:
        self._known, self._adapters, self._clock = known, adapters, clock
        self._tell, self._lost, self._roll = tell, lost, roll
        self._links: dict[str, Linked] = {}
        self._wake = {adapter.name: asyncio.Event() for adapter in adapters}

    def of(self, device: str) -> Linked | None:
        """Return a device's link."""
        return self._links.get(device)

    def held(self, adapter: RadioAdapter) -> list[Held]:
        """Return the links of an adapter."""
        return [linked.held() for linked in self._links.values() if linked.adapter is adapter]

    def adapter_of(self, known: Known) -> RadioAdapter | None:
        """Return the adapter a device belongs to now, None where none hears it."""
        name = known.choose_adapter({adapter.name for adapter in self._adapters if adapter.listening}, self._clock.now())
        return next((adapter for adapter in self._adapters if adapter.name == name), None)

    def wake(self) -> None:
        """Look again who is served next: something has changed."""
        for event in self._wake.values():
            event.set()

    async def end(self, device: str) -> None:
        """End a device's link and wait for it."""
        linked = self._links.get(device)
        if linked is not None and linked.task is not None:
            linked.end()
            await asyncio.wait([linked.task])

    def end_all(self, adapter: RadioAdapter | None = None) -> None:
        """End the links of an adapter that is gone, for whoever made them does not notice; without one all, at once."""
        for linked in self._links.values():
            if adapter is None or linked.adapter is adapter:
                linked.end()

    # -- who is served

    async def serve(self, adapter: RadioAdapter, group: asyncio.TaskGroup) -> None:
        """Connect one device after the other, the most urgent first, for ever."""
        while True:
            try:
                await self._serve_next(adapter, group)
            except Exception as error:  # noqa: BLE001  whatever it was: the next is served
                adapter.failed(RadioFailed.of(error))
                await self._clock.sleep_until(self._clock.now() + _AGAIN_S)

    async def _serve_next(self, adapter: RadioAdapter, group: asyncio.TaskGroup) -> None:
        wake = self._wake[adapter.name]
        wake.clear()
        match self._next_move(adapter):
            case Connect(device, urgency):
                await self._connect(adapter, self._known[device], urgency, group)
            case Evict(device, _):
                await self.end(device)
            case _:
                await wake.wait()

    def _next_move(self, adapter: RadioAdapter, *, but: str = "") -> Connect | Evict | None:
        now = self._clock.now()
        mine = [known for known in self._known.values() if self.adapter_of(known) is adapter and known.row.id != but]
        wants = [want for known in mine if known.row.id not in self._links and (want := known.want(now)) is not None]
        return next_move(wants, self.held(adapter), now, slots=adapter.slots, room=adapter.room)

    async def _connect(self, adapter: RadioAdapter, known: Known, urgency: Urgency, group: asyncio.TaskGroup) -> None:
        """Connect; break off for something more urgent, after a while for anything else, and to begin anew with more room."""
        began, wake, settled = self._clock.now(), self._wake[adapter.name], asyncio.Event()
        known.called(began)
        task = group.create_task(self._hold(adapter, known, urgency, settled))
        try:
            while not settled.is_set() and not self._outdone(adapter, known, urgency, began):
                if await self._vacated(adapter, known):
                    return
                wake.clear()
                await wake.wait()
        finally:
            if not settled.is_set():
                task.cancel()
                await asyncio.wait([task])
                if self._clock.now() - began >= ATTEMPT_S:
                    self._hung(adapter, known)

    async def _vacated(self, adapter: RadioAdapter, known: Known) -> bool:
        """End a link that yields, once, for a connect that hangs: an adapter that is full may not say so (`radio_room`).

        The connect goes on meanwhile: it may only have been slow.
        """
        now, held = self._clock.now(), self.held(adapter)
        if adapter.pairing:
            known.called_at = now  # its turn has not come yet
        want = known.want(now)
        if want is None or now - known.called_at < patience_s(want.urgency) or now - known.vacated_at < ANSWER_S:
            return False
        victim = who_makes_way(want, held, now)
        if victim is None:
            return False
        known.vacated_at = now
        adapter.vacated(device=known.row.id, held=len(held))
        await self.end(victim.device)
        return True

    def _hung(self, adapter: RadioAdapter, known: Known) -> None:
        error = RadioFailed("timeout", f"no connection in {ATTEMPT_S:.0f} s, and others wait")
        adapter.not_connected(error, device=known.row.id, held=len(self.held(adapter)))
        known.failed(self._clock.now(), self._roll())

    def _outdone(self, adapter: RadioAdapter, known: Known, urgency: Urgency, began: float) -> bool:
        if self._known.get(known.row.id) is not known:
            return True
        other = self._next_move(adapter, but=known.row.id)
        if other is None:
            return False
        return other.urgency < urgency or (other.urgency == urgency and self._clock.now() - began >= ATTEMPT_S)

    async def _hold(self, adapter: RadioAdapter, known: Known, urgency: Urgency, settled: asyncio.Event) -> None:
        """Make a connection and serve it until it ends; `settled` once it is there, or known not to come."""
        try:
            link = await adapter.connect(known.row.address, urgent=urgency <= Urgency.EMERGENCY)
        except Exception as error:  # noqa: BLE001  whatever a radio raises, the gateway lives on
            adapter.not_connected(RadioFailed.of(error), device=known.row.id, held=len(self.held(adapter)))
            known.failed(self._clock.now(), self._roll())
            return
        finally:
            settled.set()
            self._wake[adapter.name].set()
        linked = Linked(known, adapter, urgency, self._session(adapter, known, link), self._clock.now())
        self._links[known.row.id] = linked
        adapter.links += 1
        try:
            if self._known.get(known.row.id) is known:  # else the plan has changed meanwhile
                await linked.session.run()
                known.worked()
        except Exception as error:  # noqa: BLE001  as above
            self._broke(linked, RadioFailed.of(error))
        finally:
            await self._leave(linked, link)

    async def _leave(self, linked: Linked, link: Link) -> None:
        """Disconnect. From here on what is asked of the device waits for its next link, and so does what was not brought."""
        device, linked.leaving = linked.known.row.id, True
        self._take_back(linked)
        try:
            await link.disconnect()
        except Exception as error:  # noqa: BLE001  as above
            linked.adapter.failed(RadioFailed.of(error), device=device)
        finally:
            del self._links[device]
            linked.adapter.links -= 1
            self.wake()

    def _take_back(self, linked: Linked) -> None:
        known = self._known.get(linked.known.row.id)
        if known is None or linked.lock is None:
            return
        left = [Request(*request) for request in linked.lock.unbrought()]
        known.give_back(request for request in left if request.name != "grant")
        if grants := [request for request in left if request.name == "grant"]:
            self._lost(known, grants)  # its challenge went with the link

    def _session(self, adapter: RadioAdapter, known: Known, link: Link) -> Session:
        say = partial(self._tell, known)
        if known.row.kind is Kind.LOCK:
            session = LockSession(link, say, partial(adapter.failed, device=known.row.id))
            for request in known.pending:
                session.ask(request.name, request.payload, request.at)
            known.pending = []
            return session
        return GasSession(link, say) if known.profile is None else ProfiledSession(known.profile, link, say)

    def _broke(self, linked: Linked, error: RadioFailed) -> None:
        """Note that a link ended by itself; one that had stood for a while is made again soon."""
        known, now = linked.known, self._clock.now()
        linked.adapter.failed(error, device=known.row.id)
        if now - linked.since >= TURN_S:
            known.worked()
        known.failed(now, self._roll())
        if known.row.kind is Kind.LOCK:
            known.pull = True  # what it did meanwhile is to be heard of
