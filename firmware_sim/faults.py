"""What bad links do to the messages of one device, one class each (`locks.md` §9).

A fault is given every value that is written to a device or told by it, by name and direction, and returns what arrives: none,
one or several values, each with the seconds it takes. The rest of a bad air (cuts, an adapter that hears nothing) acts on
connections and controllers: see `Peripheral` and `VirtualAir`.
"""

from collections.abc import Iterable
from enum import Enum

from manway.codec_ble import HELLO_REQUEST

LONGEST_RELAY_S = 0.5  # a relay that is slower outlives the patience of no gateway (`locks.md` §9)

# Why a connection ends: Core Specification Vol 1, Part F, 1.3.
SUPERVISION, HUNG_UP, POWERED_OFF = 0x08, 0x13, 0x15

Arrivals = list[tuple[float, bytes]]


class Full(Enum):
    """What an adapter does that is asked for one connection more than it has room for."""

    REFUSES = "refuses"  # Connection Limit Exceeded, error 0x09 (Core Specification Vol 1, Part F, 1.3)
    WAITS = "waits"  # says nothing, and connects when another connection has ended


class LinkFault:
    """A link that carries everything; `names` limits a fault to some messages, none to all."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)

    def carry(self, name: str, value: bytes, *, to_device: bool) -> Arrivals:
        """Return what arrives of a value, with the seconds it takes."""
        if self.names and name not in self.names:
            return [(0.0, value)]
        return self.harm(value, to_device=to_device)

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002  what most faults do not look at
        """Return what arrives of a value the fault is about."""
        return [(0.0, value)]


class Drop(LinkFault):
    """Nothing arrives; a write is never answered."""

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002
        """Return nothing."""
        return []


class LostNotification(Drop):
    """What the device notifies is lost on the way; what is written to it arrives."""

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:
        """Return only what goes to the device."""
        return [(0.0, value)] if to_device else []


class LostIndication(LostNotification):
    """The device believes its indication told; nobody heard it. The value can still be read."""


class Duplicate(LinkFault):
    """Everything arrives twice."""

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002
        """Return the value and its double."""
        return [(0.0, value), (0.0, value)]


class Reorder(LinkFault):
    """Of two values the device tells, the second arrives first; what is written to it stays in order."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self._held: bytes | None = None

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:
        """Hold every other value back until the next has gone."""
        if to_device:
            return [(0.0, value)]
        held, self._held = self._held, value if self._held is None else None
        return [] if held is None else [(0.0, value), (0.0, held)]


class Delay(LinkFault):
    """Everything arrives late."""

    def __init__(self, seconds: float, *names: str) -> None:
        super().__init__(*names)
        self.seconds = seconds

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002
        """Return the value with its delay."""
        return [(self.seconds, value)]


class Relay(Delay):
    """Two radios and a wire between them: everything arrives, far from where it was sent, 0 to 500 ms later."""

    def __init__(self, seconds: float, *names: str) -> None:
        if not 0 <= seconds <= LONGEST_RELAY_S:
            message = f"a relay takes 0 to {LONGEST_RELAY_S} s, not {seconds}"
            raise ValueError(message)
        super().__init__(seconds, *names)


class SlowResponse(LinkFault):
    """The device answers writes late; what it tells by itself is on time."""

    def __init__(self, seconds: float, *names: str) -> None:
        super().__init__(*names)
        self.seconds = seconds

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:
        """Return what goes to the device with its delay."""
        return [(self.seconds if to_device else 0.0, value)]


class BitFlip(LinkFault):
    """One bit of every value arrives the other way round."""

    def __init__(self, bit: int, *names: str) -> None:
        super().__init__(*names)
        self.bit = bit

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002
        """Return the value with one bit changed; the bit counts through the value and round again."""
        at = self.bit % (8 * len(value)) if value else 0
        return [(0.0, bytes(byte ^ (1 << at % 8 if place == at // 8 else 0) for place, byte in enumerate(value)))]


class Truncate(LinkFault):
    """Only the beginning of every value arrives."""

    def __init__(self, length: int, *names: str) -> None:
        super().__init__(*names)
        self.length = length

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:  # noqa: ARG002
        """Return the beginning."""
        return [(0.0, value[: self.length])]


class Replay(LinkFault):
    """A thief who heard the first grant sends it again before every later one."""

    def __init__(self, *names: str) -> None:
        super().__init__(*(names or ("grant",)))
        self._heard = b""

    def harm(self, value: bytes, *, to_device: bool) -> Arrivals:
        """Return the stolen value and then the true one."""
        if not to_device or value == HELLO_REQUEST:
            return [(0.0, value)]
        if not self._heard:
            self._heard = value
            return [(0.0, value)]
        return [(0.0, self._heard), (0.0, value)]


def carried(faults: Iterable[LinkFault], name: str, value: bytes, *, to_device: bool) -> Arrivals:
    """Return what arrives of a value after every fault of a link."""
    arrivals = [(0.0, value)]
    for fault in faults:
        arrivals = [
            (before + after, harmed)
            for before, passed in arrivals
            for after, harmed in fault.carry(name, passed, to_device=to_device)
        ]
    return arrivals
