"""Pairing with a lock, at its commissioning only: before the first message of its enrolment (`locks.md` §8.5)."""

import asyncio
from collections.abc import Callable

from gateway.ports import RadioFailed
from gateway.radio_devices import Known
from gateway.radio_links import RadioLinks
from manway.enrolment import ENROL_REQUEST, NOT_PAIRED

# Whatever else goes wrong is tried again until the message is too late: interference, a lock that is not heard yet.
_AGAIN = frozenset({"unreachable", "not_found", "aborted", "off", "in_progress", "slots", "dbus", "timeout"})


class Pairings:
    """The pairings of a radio.

    Args:
        links: of all adapters.
        tell: takes, in the lock's place, that it did not pair.
    """

    def __init__(self, links: RadioLinks, *, tell: Callable[[Known, str, bytes], None]) -> None:
        self._links, self._tell = links, tell

    async def pair(self, known: Known, passkey: int) -> None:
        """Pair with a device; raises RadioFailed."""
        known.pairing = True  # until it is over nobody else connects to it
        try:
            adapter = self._links.adapter_of(known)
            if adapter is None:
                raise RadioFailed("unreachable", f"no adapter hears {known.row.device}")
            await self._links.end(known.row.id)
            await adapter.pair(known.row.address, passkey)
        finally:
            known.pairing = False
            self._links.wake()

    def wanted(self, known: Known, name: str, payload: bytes) -> bool:
        """Return whether a message has to wait for a pairing; an enrolment that begins anew pairs anew."""
        if name == "enrol" and payload == ENROL_REQUEST and known.row.passkey:
            known.to_pair = True
        return name == "enrol" and known.to_pair

    def look(self, known: Known, group: asyncio.TaskGroup) -> asyncio.Task[None] | None:
        """Begin to pair with a device that is heard and waits for it; one whose message was too late waits no more."""
        known.to_pair = known.to_pair and any(request.name == "enrol" for request in known.pending)
        if not known.to_pair or known.pairing or self._links.adapter_of(known) is None:
            return None
        known.pairing = True
        return group.create_task(self._enrol(known))

    async def _enrol(self, known: Known) -> None:
        try:
            await self.pair(known, int(known.row.passkey))
        except Exception as raised:  # noqa: BLE001  whatever a radio raises, the gateway lives on
            error = RadioFailed.of(raised)
            if (adapter := self._links.adapter_of(known)) is not None:
                adapter.failed(error, device=known.row.id)
            if error.kind not in _AGAIN:
                known.to_pair = False
                known.pending = [request for request in known.pending if request.name != "enrol"]
                self._tell(known, "enrol", NOT_PAIRED)
            return
        known.to_pair = False
        self._links.wake()
