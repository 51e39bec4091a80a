"""Our own pairing agent: it answers BlueZ for the one lock that a person is commissioning, and refuses everybody else."""

from collections.abc import Iterator
from contextlib import contextmanager

from dbus_fast import DBusError
from dbus_fast.annotations import DBusObjectPath, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method

CAPABILITY = "KeyboardDisplay"
_REJECTED = "org.bluez.Error.Rejected"


class PasskeyAgent(ServiceInterface):
    """`org.bluez.Agent1`. Without an agent an encrypted read waits for ever; with one that says yes anybody could pair."""

    def __init__(self) -> None:
        super().__init__("org.bluez.Agent1")
        self._expected: tuple[str, int] | None = None

    @contextmanager
    def expecting(self, device: str, passkey: int) -> Iterator[None]:
        """Answer for the device of this object path with this passkey, until the end of the block."""
        self._expected = (device, passkey)
        try:
            yield
        finally:
            self._expected = None

    @dbus_method("Release")
    def _release(self) -> None:
        """BlueZ has forgotten us, as it does when it ends; `watch` registers anew with the next."""

    @dbus_method("RequestPasskey")
    def _request_passkey(self, device: DBusObjectPath) -> DBusUInt32:
        return self._passkey_of(device)

    @dbus_method("RequestConfirmation")
    def _request_confirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> None:
        if passkey != self._passkey_of(device):
            raise DBusError(_REJECTED, "another number is printed inside the device")

    @dbus_method("RequestAuthorization")
    def _request_authorization(self, device: DBusObjectPath) -> None:
        raise DBusError(_REJECTED, f"{device} wants to pair without a passkey")

    @dbus_method("Cancel")
    def _cancel(self) -> None:
        self._expected = None

    def _passkey_of(self, device: str) -> int:
        if self._expected is None or self._expected[0] != device:
            raise DBusError(_REJECTED, f"nobody is commissioning {device}")
        return self._expected[1]
