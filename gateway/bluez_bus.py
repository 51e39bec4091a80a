"""The system's D-Bus as the gateway speaks it to BlueZ: no call without its time, no error without its kind."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from dbus_fast import BusType, ErrorType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.auth import AuthExternal
from dbus_fast.service import ServiceInterface

from gateway.ports import RadioFailed

CALL_S = 5.0  # `locks.md` §8: a GATT call; D-Bus itself has no time-out
BLUEZ = "org.bluez"
DBUS = "org.freedesktop.DBus"
PROPERTIES = f"{DBUS}.Properties"
OBJECT_MANAGER = f"{DBUS}.ObjectManager"

# What BlueZ and D-Bus answer -> its word, one of the radio's errors; an answer without a row is `dbus`.
KINDS = {
    f"{BLUEZ}.Error.AuthenticationCanceled": "pairing",
    f"{BLUEZ}.Error.AuthenticationFailed": "pairing",
    f"{BLUEZ}.Error.AuthenticationRejected": "pairing",
    f"{BLUEZ}.Error.AuthenticationTimeout": "timeout",
    f"{BLUEZ}.Error.Busy": "in_progress",
    f"{BLUEZ}.Error.InProgress": "in_progress",
    f"{BLUEZ}.Error.NotReady": "off",
    ErrorType.UNKNOWN_OBJECT.value: "not_found",
    ErrorType.UNKNOWN_METHOD.value: "not_found",
}


class SystemBus:
    """One connection to the system's D-Bus, made by the first call and made anew by the first after it was lost.

    Every method raises RadioFailed: `timeout`, `dbus` without D-Bus or BlueZ and for what else they say, or a word of KINDS.
    """

    def __init__(self, *, user: int | None = None) -> None:
        """Speak as `user`, a number on the bus's machine, or as the process's own user."""
        self._user = user
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._exported: list[tuple[str, ServiceInterface]] = []
        self._rules: list[str] = []
        self._heard: Callable[[Message], None] = _ignore

    @property
    def connected(self) -> bool:
        """True while the connection stands."""
        return self._bus is not None and self._bus.connected

    def export(self, path: str, interface: ServiceInterface) -> None:
        """Offer an object on this and every later connection; to be said before the first call."""
        self._exported.append((path, interface))

    def listen(self, rules: Sequence[str], heard: Callable[[Message], None]) -> None:
        """Hear the signals that match, on this and every later connection; to be said before the first call."""
        self._rules, self._heard = list(rules), heard

    async def call(
        self,
        path: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
        *,
        destination: str = BLUEZ,
        within_s: float = CALL_S,
    ) -> list[Any]:
        """Call `member`, an interface and a method joined by a dot, and return what it answered."""
        interface, _, method = member.rpartition(".")
        asked = Message(
            destination=destination, path=path, interface=interface, member=method, signature=signature, body=list(body)
        )
        try:
            async with asyncio.timeout(within_s):
                return _answer(await (await self._connected()).call(asked))
        except TimeoutError as error:
            raise RadioFailed("timeout", f"{member} gave no answer in {within_s:g} s") from error
        except RadioFailed:
            raise
        except Exception as error:  # an address that is none, a refusal, an end: what dbus-fast may raise is not ours to know
            raise RadioFailed("dbus", f"the system's D-Bus cannot be used: {error}") from error

    async def get(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401  a property is of any type
        """Return a property of an object of BlueZ."""
        answer = await self.call(path, f"{PROPERTIES}.Get", "ss", [interface, name])
        return answer[0].value

    async def set(self, path: str, interface: str, name: str, value: Variant) -> None:
        """Set a property of an object of BlueZ."""
        await self.call(path, f"{PROPERTIES}.Set", "ssv", [interface, name, value])

    def disconnect(self) -> None:
        """End the connection."""
        if self._bus is not None:
            self._bus.disconnect()
            self._bus = None

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is not None and self._bus.connected:
                return self._bus
            if self._bus is not None:
                with suppress(Exception):  # how it ended was said to whoever called then
                    await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast leaves it so
            bus = MessageBus(bus_type=BusType.SYSTEM, auth=AuthExternal(uid=self._user))
            try:
                await bus.connect()
                bus.add_message_handler(self._heard)
                for rule in self._rules:
                    _answer(await bus.call(_add_match(rule)))
            except BaseException:
                bus.disconnect()
                raise
            for path, interface in self._exported:
                bus.export(path, interface)
            self._bus = bus
            return bus


def _add_match(rule: str) -> Message:
    return Message(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", signature="s", body=[rule])


def _answer(reply: Message | None) -> list[Any]:
    if reply is None:
        raise RadioFailed("dbus", "the connection to D-Bus ended before the answer")
    if reply.message_type is MessageType.ERROR:
        name = reply.error_name or "an error without a name"
        raise RadioFailed(KINDS.get(name, "dbus"), f"{name}: {' '.join(map(str, reply.body))}")
    return reply.body


def _ignore(_message: Message) -> None:
    """Hear nothing."""
