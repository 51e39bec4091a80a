"""What a bus is told once: where it connects, as whom, what it says; and whom its thread tells what it hears."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from manway.runtime.ports import Message, Will

# MQTT versions of a bus: `auto` tries 5, takes 3.1.1 where that meets a refusal or silence, and keeps what was taken.
Version = Literal["auto", "3.1.1", "5"]


class Tls(msgspec.Struct, frozen=True):
    """Files of a TLS connection, read again at every connect, so that renewed ones count."""

    ca: Path
    """Certificate of the authority that signed the broker's."""
    cert: Path | None = None
    """Our own certificate, with its key below; None where the broker asks for none."""
    key: Path | None = None
    """The key of that certificate."""

    def context(self) -> ssl.SSLContext:
        """Return what a connection needs: TLS 1.2 or newer, the broker's name verified.

        Raises:
            OSError: a file is missing or is not what its name says.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


class Setup(msgspec.Struct, frozen=True):
    """Where a bus connects, as whom, and what it says first."""

    url: str
    host: str
    port: int
    client_id: str
    user: str | None
    password: str | None
    tls: Tls | None
    protocol: Version
    subscriptions: Sequence[tuple[str, int]]
    will: Will | None
    birth: Sequence[Message]


class Publication(msgspec.Struct, frozen=True, gc=False):
    """What we say; at QoS 1 until its PUBACK."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 1


class Listener(Protocol):
    """What a bus hears from its thread; called there, and must not wait."""

    def on_received(self, connection: int, messages: list[Message], mids: list[int]) -> None:
        """Take messages of this connection with their packet ids, 0 at QoS 0."""
        ...

    def on_finished(self, count: int) -> None:
        """Learn that this many publications of QoS 1 have their PUBACK."""
        ...

    def on_refused(self, filters: list[str]) -> None:
        """Learn that the broker refused these subscriptions."""
        ...

    def on_end(self) -> None:
        """Learn that the thread has ended."""
        ...

    def full(self) -> bool:
        """Tell whether so much is unread that the socket is to be left alone: then TCP holds the broker back."""
        ...
