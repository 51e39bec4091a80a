"""One adapter of the gateway: keeps it listening, climbs the recovery ladder when it does not, and counts what goes wrong."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

import structlog

from gateway.ports import AdapterControl, AdapterNews, Link, Radio, RadioFailed, Sighting
from gateway.radio_health import CHECK_S, Rung, Watchdog
from gateway.radio_room import Room
from manway.measurements import RADIO_ERRORS
from manway.runtime.ports import Clock

_log = structlog.get_logger("radio")
_HUNG = frozenset({"timeout", "not_found"})  # a connect that nobody answered; without more room it looks the same
_BACK = frozenset({AdapterNews.POWERED, AdapterNews.PRESENT, AdapterNews.DAEMON_UP})
_SCAN_AGAIN_S = 1.0  # (choice) what BlueZ was doing is over by then (bleak#1628, #1689)
_WATCH_AGAIN_S = 10.0  # (choice) how soon a watch that broke off is set up again


class RadioAdapter:
    """A radio that listens for good.

    Args:
        radio: the adapter's own.
        control: what can be done to it from outside; None where nothing can.
        clock: of the gateway.
        slots: connections it is asked to hold at most.
        seen: told of every advertisement.
        moved: told when its place on the ladder has changed.
        dead: told when the adapter, or what drives it, is gone, and every link with it.
    """

    def __init__(
        self,
        radio: Radio,
        control: AdapterControl | None,
        clock: Clock,
        *,
        slots: int,
        seen: Callable[["RadioAdapter", Sighting], None],
        moved: Callable[["RadioAdapter"], None],
        dead: Callable[["RadioAdapter"], None],
    ) -> None:
        self.name = radio.name
        self.errors = Counter[str]()
        self.needed = False  # the plan names devices with addresses: silence means something
        self.links = 0  # a link that stands proves the adapter, and no recovery is worth it
        self._radio, self._control, self._clock = radio, control, clock
        self.pairing = False
        self._pair_limit: asyncio.Timeout | None = None  # of the pairing that is under way or waits
        self._urgent = 0  # connects that no pairing may keep waiting
        self._room = Room(slots)
        self._seen, self._moved, self._dead = seen, moved, dead
        self._watchdog = Watchdog(clock.now())
        self._connecting = asyncio.Lock()  # one connection is made at a time, and pairing makes one
        self._news = asyncio.Event()
        self._newest: AdapterNews | None = None

    @property
    def rung(self) -> Rung:
        """Where it stands on the recovery ladder."""
        return self._watchdog.rung

    @property
    def red(self) -> bool:
        """True when the whole ladder has not helped."""
        return self._watchdog.red

    @property
    def listening(self) -> bool:
        """True while there is no reason to think it deaf."""
        return self.rung is Rung.LISTENING

    @property
    def heard_at(self) -> float | None:
        """When it heard its last advertisement, None for never."""
        return self._watchdog.heard_at

    @property
    def slots(self) -> int:
        """How many connections it was said to have."""
        return self._room.slots

    @property
    def room(self) -> int:
        """How many connections it is asked to hold now: what it had room for, where it has shown that it has no more."""
        return self._room.at(self._clock.now())

    def failed(self, error: RadioFailed, *, device: str = "") -> None:
        """Count what went wrong."""
        self.errors[error.kind if error.kind in RADIO_ERRORS else "other"] += 1
        _log.warning("radio call failed", adapter=self.name, device=device, kind=error.kind, reason=error.reason)

    async def connect(self, address: str, *, urgent: bool = False) -> Link:
        """Connect; raises RadioFailed. What is urgent breaks off a pairing, which is tried again."""
        self._urgent += urgent
        try:
            if urgent and self._pair_limit is not None and not self._pair_limit.expired():
                self._pair_limit.reschedule(0.0)
            async with self._connecting:
                link = await self._radio.connect(address)
        finally:
            self._urgent -= urgent
        self._room.made(self._clock.now())
        return link

    def not_connected(self, error: RadioFailed, *, device: str, held: int) -> None:
        """Count a connect that was not made beside so many links, and learn from it how much room there is."""
        self.failed(error, device=device)
        now = self._clock.now()
        if error.kind == "slots":  # the adapter has fewer than we were told
            self._room.refused(held, now)
        elif error.kind in _HUNG and self._room.hung(device, held, now):
            self.failed(RadioFailed("slots", f"it connects nobody beside {held} links: radio_slots is too many"), device=device)

    def vacated(self, *, device: str, held: int) -> None:
        """Count that one of so many links was ended for a device whose connect hung."""
        self.failed(RadioFailed("slots", f"no connect beside {held} links: one was ended for it"), device=device)
        self._room.vacated(held, self._clock.now())

    async def pair(self, address: str, passkey: int) -> None:
        """Pair with a device, at commissioning; raises RadioFailed."""
        if self._control is None:
            raise RadioFailed("pairing", f"nothing can pair on {self.name}: pairing needs BlueZ and its agent")
        if self._urgent or self._pair_limit is not None:
            raise RadioFailed("in_progress", "the adapter has something more urgent to do, or another pairing")
        limit = self._pair_limit = asyncio.timeout(None)
        try:
            async with limit, self._connecting:
                self.pairing = True
                await self._control.pair(address, passkey)
        except TimeoutError as error:
            if not limit.expired():
                raise RadioFailed.of(error) from error
            raise RadioFailed("in_progress", "broken off: a lock had to open") from error
        finally:
            self.pairing, self._pair_limit = False, None

    # -- listening

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            if self._control is not None:
                group.create_task(self._watch(self._control))

    async def _listen(self) -> None:
        try:
            if not await self._try(Rung.SCAN):
                await self._climb(self._watchdog.gone(self._clock.now()))
            while True:
                try:
                    await self._next_look()
                except Exception as error:  # noqa: BLE001  whatever it was: the adapter is looked after
                    self.failed(RadioFailed.of(error))
                    await self._clock.sleep_until(self._clock.now() + _SCAN_AGAIN_S)
        finally:
            with contextlib.suppress(Exception):
                await self._radio.stop()

    async def _next_look(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout_at(self._clock.now() + CHECK_S):
                await self._news.wait()
        news, self._newest = self._newest, None
        self._news.clear()
        now = self._clock.now()
        if news in _BACK:  # whatever it was doing, it does no more
            if not await self._try(Rung.SCAN):
                await self._climb(self._watchdog.gone(now))
        elif news is not None:
            await self._climb(self._watchdog.gone(now))
        elif not self.needed:
            self._watchdog.idle(now)
        elif self.links == 0:
            await self._climb(self._watchdog.check(now))
        elif self._watchdog.silent(now):  # whoever has a link need not advertise: only the scan may be dead
            self._watchdog.idle(now)
            if not await self._try(Rung.SCAN):
                await self._climb(self._watchdog.gone(now))

    async def _climb(self, rung: Rung | None) -> None:
        """Try a rung, and the next at once where it cannot be tried."""
        while rung is not None:
            self._moved(self)
            tried = await self._try(rung)
            _log.warning("radio recovery", adapter=self.name, rung=rung.value, tried=tried)
            rung = None if tried else self._watchdog.failed(self._clock.now())
        self._moved(self)

    async def _try(self, rung: Rung) -> bool:
        """Return whether a rung could be tried; whether it has helped is heard."""
        try:
            await self._act(rung)
            await self._scan()
        except Exception as error:  # noqa: BLE001  a library's own errors are not ours to know
            self.failed(RadioFailed.of(error))
            return False
        return True

    async def _scan(self) -> None:
        """Scan anew; where the adapter says that a scan is being started or stopped already, once more a little later."""
        await self._radio.stop()
        try:
            await self._radio.scan(self._take)
        except RadioFailed as error:
            if error.kind != "in_progress":
                raise
            self.failed(error)
            await self._clock.sleep_until(self._clock.now() + _SCAN_AGAIN_S)
            await self._radio.scan(self._take)

    async def _act(self, rung: Rung) -> None:
        if rung is Rung.SCAN:
            return
        control = self._control
        possible = control is not None and {
            Rung.POWER: True,
            Rung.USB: control.can_reset_usb,
            Rung.DAEMON: control.can_restart_daemon,
        }.get(rung, False)
        if control is None or not possible:
            raise RadioFailed("not_configured", f"{rung.value} is not configured for {self.name}")
        acts = {Rung.POWER: control.power_cycle, Rung.USB: control.reset_usb, Rung.DAEMON: control.restart_daemon}
        await acts[rung]()

    def _take(self, sighting: Sighting) -> None:
        try:
            if self._watchdog.heard(self._clock.now()):
                self._moved(self)
            self._seen(self, sighting)
        except Exception as error:  # noqa: BLE001  one strange advertisement must not make a library stop listening
            self.failed(RadioFailed.of(error))

    async def _watch(self, control: AdapterControl) -> None:
        """Hear what becomes of the adapter, for ever; a watch that breaks off is set up again."""
        while True:
            try:
                async for news in control.watch():
                    _log.info("radio news", adapter=self.name, news=news.value)
                    self._newest = news
                    if news not in _BACK:
                        self._dead(self)
                    self._news.set()
            except Exception as error:  # noqa: BLE001  as above
                self.failed(RadioFailed.of(error))
            await self._clock.sleep_until(self._clock.now() + _WATCH_AGAIN_S)
