"""What the shells need from the outside, as protocols; the kit's fakes and the real adapters both fit them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, Self, TypeVar

import msgspec

T = TypeVar("T")


class Run(Protocol):
    """Runs blocking work of one resource away from the event loop, one piece at a time; the kit's runs it in place."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns."""
        ...


class Clock(Protocol):
    """Time in Unix seconds that never jumps: monotonic plus a slowly disciplined offset."""

    def now(self) -> float:
        """Return the present, Unix seconds."""
        ...

    def wall_off_s(self) -> float:
        """Return by how many seconds the machine's wall clock was set since this clock began; `now()` does not follow it."""
        ...

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` has reached `at`."""
        ...

    def timeout_at(self, at: float | None) -> asyncio.Timeout:
        """Return a context that raises TimeoutError once `now()` has reached `at`; None is never."""
        ...


class Message(msgspec.Struct, frozen=True, gc=False):
    """One MQTT publication as received."""

    topic: str
    payload: bytes
    retained: bool = False


class Batch(Protocol):
    """What was readable at once, in order of arrival; acknowledged as a whole after it was stored."""

    messages: Sequence[Message]

    async def ack(self) -> None:
        """Tell the broker that every message of the batch is stored; does nothing when the connection is older."""
        ...


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us when we go without saying goodbye."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Bus(Protocol):
    """A durable MQTT session; reconnects by itself and subscribes after every connect.

    Use: `async with bus:` then `async for batch in bus.batches():` and `await batch.ack()`.
    """

    async def __aenter__(self) -> Self:
        """Start the session; returns at once, `connected` tells when the broker answered."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Disconnect cleanly within a second."""
        ...

    @property
    def connected(self) -> bool:
        """True while the broker has accepted the session."""
        ...

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, for ever, through reconnects."""
        ...

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand over one publication; QoS 1 is kept and repeated until the broker took it, QoS 0 is dropped when offline.

        Waits while 1,000 publications are unfinished: the caller's journal is the queue, not this client.
        """
        ...
