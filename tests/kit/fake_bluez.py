"""BlueZ as the gateway sees it, on a real D-Bus of the test's own: it answers as 5.66 does in the box, with faults to order."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.kit.brokers import missing

ADAPTER = "/org/bluez/hci0"
LOCK = f"{ADAPTER}/dev_F0_00_00_00_00_01"
_PROPERTIES, _MANAGER = "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.ObjectManager"
_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""


class PrivateDBus:
    """A D-Bus daemon of the test's own; `address` is for DBUS_SYSTEM_BUS_ADDRESS."""

    def __init__(self, directory: Path) -> None:
        self._socket, self._configuration = directory / "bus", directory / "dbus.conf"
        self._configuration.write_text(_CONFIGURATION.format(socket=self._socket))
        self.address = f"unix:path={self._socket}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return when it can be connected to."""
        words = ["dbus-daemon", f"--config-file={self._configuration}", "--nofork", "--nopidfile", "--print-address"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("unix:")

    def stop(self) -> None:
        """End it, and with it every connection."""
        if self._process is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
            self._socket.unlink(missing_ok=True)


@contextmanager
def private_dbus(directory: Path) -> Iterator[PrivateDBus]:
    """Give a running daemon; without one on this machine the test is skipped, or fails where CI is `true`."""
    if shutil.which("dbus-daemon") is None:
        missing("dbus-daemon")
    bus = PrivateDBus(directory)
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()


class FakeBlueZ:
    """One bluetoothd with one adapter and one lock it has seen; `passkey` is printed inside the lock."""

    def __init__(self, address: str, passkey: int = 123456) -> None:
        self.passkey = passkey
        self.adapter = {"Powered": True}
        self.lock = {"Connected": False, "Bonded": False, "Trusted": False}
        self.asked: list[str] = []  # methods, in order
        self.agents: dict[str, str] = {}  # who registered one -> its path
        self.switches = True  # obeys when it is switched on and off
        self.pairs = True  # a pairing ends
        self.numeric: int | None = None  # instead of a passkey's entry: the number the lock shows
        self._address, self._tasks = address, set[asyncio.Task[None]]()
        self._bus: MessageBus | None = None

    async def __aenter__(self) -> Self:
        self._bus = await MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM).connect()
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name("org.bluez")
        self._signal("/", _MANAGER, "InterfacesAdded", "oa{sa{sv}}", [ADAPTER, {"org.bluez.Adapter1": _variants(self.adapter)}])
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Die, as a crash does: nothing is said."""
        for task in self._tasks:
            task.cancel()
        assert self._bus is not None
        self._bus.disconnect()
        with suppress(EOFError, OSError):  # its D-Bus may have died before it
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast leaves it so

    def unplug(self) -> None:
        """Take the adapter away."""
        self.adapter.clear()
        self._signal("/", _MANAGER, "InterfacesRemoved", "oas", [ADAPTER, ["org.bluez.Adapter1"]])

    def power(self, *, on: bool) -> None:
        """Switch the adapter, as somebody else may, and say so."""
        self.adapter["Powered"] = on
        changed = ["org.bluez.Adapter1", {"Powered": Variant("b", on)}, []]
        self._signal(ADAPTER, _PROPERTIES, "PropertiesChanged", "sa{sv}as", changed)

    async def ask_agent(self, member: str, signature: str, body: Sequence[object]) -> Message:
        """Ask the default agent as BlueZ does, and return its answer, an error too."""
        assert self._bus is not None
        owner, path = next(reversed(self.agents.items()))
        reply = await self._bus.call(Message(owner, path, "org.bluez.Agent1", member, signature=signature, body=list(body)))
        assert reply is not None
        return reply

    def _signal(self, path: str, interface: str, member: str, signature: str, body: Sequence[object]) -> None:
        assert self._bus is not None
        self._bus.send(Message.new_signal(path, interface, member, signature, list(body)))

    def _answer(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self.asked.append(str(message.member))
        match message.member, message.path:
            case "Get", _ if (value := self._properties(message.path).get(message.body[1])) is not None:
                return Message.new_method_return(message, "v", [Variant("b", value)])
            case "Set", str(path) if self._properties(path):
                self._set(path, message.body[1], on=message.body[2].value)
            case "RegisterAgent", _ if message.sender in self.agents:
                return Message.new_error(message, "org.bluez.Error.AlreadyExists", "Already Exists")
            case "RegisterAgent", _:
                self.agents[str(message.sender)] = message.body[0]
            case "Pair", _:
                task = asyncio.get_running_loop().create_task(self._pair(message))
                self._tasks.add(task)
                return True  # answered later
            case (("CancelPairing" | "Disconnect" | "RequestDefaultAgent"), _):
                pass
            case _:
                return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", "no such object")
        return Message.new_method_return(message)

    def _properties(self, path: str | None) -> dict[str, bool]:
        return {ADAPTER: self.adapter, LOCK: self.lock}.get(str(path), {})

    def _set(self, path: str, name: str, *, on: bool) -> None:
        if path == LOCK:
            self.lock[name] = on
        elif self.switches:
            self.power(on=on)

    async def _pair(self, message: Message) -> None:
        assert self._bus is not None
        if not self.pairs:
            return
        if self.numeric is None:
            said = await self.ask_agent("RequestPasskey", "o", [LOCK])
            right = said.body == [self.passkey]
        else:
            said = await self.ask_agent("RequestConfirmation", "ou", [LOCK, self.numeric])
            right = said.message_type is MessageType.METHOD_RETURN
        self.lock["Bonded"] = self.lock["Connected"] = right
        failed = Message.new_error(message, "org.bluez.Error.AuthenticationFailed", "Authentication Failed")
        await self._bus.send(Message.new_method_return(message) if right else failed)


def _variants(values: dict[str, bool]) -> dict[str, Variant]:
    return {name: Variant("b", value) for name, value in values.items()}
