"""Every exception of the project, split by whose fault it is.

ManwayError
├── LocalError            a bug or misuse on our side
│   ├── InvalidTransition(machine, state, signal)
│   ├── TimeWentBackwards(was, now)
│   ├── ProfileInvalid(file, reason)
│   └── SnapshotUnusable(reason)
├── RemoteError           a device, client, broker or store did something wrong
│   ├── DecodeRejected(source, reason)
│   ├── BusUnavailable(url, reason)
│   └── StoreUnavailable(store, reason, retry_after_s)
└── Refused(failures)     the rules say no; carries every failed check
    └── ActionRefused
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec


class ManwayError(Exception):
    """Base of everything this project raises on purpose."""


class LocalError(ManwayError):
    """A bug or misuse on our side."""


class InvalidTransition(LocalError):
    """A state machine was asked for a cell its table does not have."""

    def __init__(self, machine: str, state: str, signal: str) -> None:
        self.machine, self.state, self.signal = machine, state, signal
        super().__init__(f"{machine}: no cell for {signal} in {state}")


class TimeWentBackwards(LocalError):
    """The engine was given an earlier `now` than before."""

    def __init__(self, was: float, now: float) -> None:
        self.was, self.now = was, now
        super().__init__(f"time went back from {was:.3f} to {now:.3f}")


class ProfileInvalid(LocalError):
    """A table of limits, timings or texts cannot be used."""

    def __init__(self, file: str, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"{file}: {reason}")


class SnapshotUnusable(LocalError):
    """An engine's snapshot cannot be taken up; its journal tells the same from the beginning."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RemoteError(ManwayError):
    """A device, client, broker or store did something wrong."""


class DecodeRejected(RemoteError):
    """Bytes from outside cannot be decoded or break the wire's rules."""

    def __init__(self, source: str, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{source}: {reason}")


class BusUnavailable(RemoteError):
    """The broker cannot be reached or refuses us."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"broker {url}: {reason}")


class StoreUnavailable(RemoteError):
    """A telemetry store did not take or give data now; what was sent must be sent again."""

    def __init__(self, store: str, reason: str, retry_after_s: float | None = None) -> None:
        self.store, self.reason, self.retry_after_s = store, reason, retry_after_s
        super().__init__(f"telemetry store {store}: {reason}")


class Failure(msgspec.Struct, frozen=True):
    """One check that does not hold: what, by which clause, on what evidence, and what to do.

    `key` and `fix` are keys of the text catalogue, `params` their placeholders; `evidence` names rows by kind and id.
    """

    check: str
    clause: str
    key: str
    fix: str
    params: dict[str, str | int | float] = {}
    evidence: list[dict[str, str]] = []


class Refused(ManwayError):
    """The rules say no; `failures` holds every check that failed, in check order."""

    def __init__(self, failures: list[Failure]) -> None:
        self.failures = failures
        super().__init__(", ".join(f"{f.check} {f.key}" for f in failures))


class ActionRefused(Refused):
    """A command does not fit the state it meets."""


@contextmanager
def rejecting(source: str) -> Iterator[None]:
    """Turn what `struct` and the enums say of wrong bytes into `DecodeRejected`."""
    try:
        yield
    except (struct.error, ValueError) as error:
        raise DecodeRejected(source, str(error)) from error


def require(*, fact: bool, otherwise: str) -> None:
    """Raise ValueError with these words unless the fact holds; `rejecting` makes the sender's fault of it."""
    if not fact:
        raise ValueError(otherwise)
