"""A gateway's parts for tests: a small journal in a folder, hosts over it, and the whole on any bus and clock."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from gateway.host import SiteHost, restore
from gateway.journal import Journal
from gateway.journal_reader import JournalReader
from gateway.pipeline import Gateway
from gateway.ports import LocalOutput
from gateway.sink_store import StoreSink
from gateway.uplink import Uplink
from manway.errors import StoreUnavailable
from manway.inputs import AnyInput, FrameReceived
from manway.limits import LimitProfile, Timings
from manway.runtime.ports import Bus, Clock, Message, Run
from manway.runtime.signing import verify
from manway.runtime.telemetry import Dead, DeadLine, PlainRows, StoredFrame, TelemetryStore
from manway.topics import Address
from tests.kit.builders import LIMITS, TIMINGS

T = TypeVar("T")
NAME = "gw-1"


async def in_place(work: Callable[[], T]) -> T:
    """The kit's `Run`: no thread, so that virtual time stands while it works."""
    return work()


def path_of(folder: Path) -> Path:
    """Where the journal of a folder stands."""
    return folder / f"{NAME}.db"


def open_journal(folder: Path) -> Journal:
    """A journal that writes no eight megabytes of ballast for every test."""
    return Journal(path_of(folder), cap_bytes=2**26, ballast_bytes=4096, remade_at_bytes=8192)


class Shelf:
    """A telemetry store in memory: rows by identity, as a store keeps them; it may be away."""

    keeps_lines = True

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], StoredFrame] = {}
        self.lines: list[bytes] = []
        self.away = False
        self._mark = 0

    def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
        self._require()
        self.rows |= {(row.frame.device, row.frame.boot, row.frame.seq): row for row in rows}
        self._mark = max(self._mark, mark)
        return []

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        self._require()
        return np.arange(len(rows.plain))

    def annotate(self, lines: Sequence[bytes]) -> list[DeadLine]:
        self._require()
        self.lines += lines
        return []

    def settle(self, now: float) -> None:
        del now
        self._require()

    def durable(self) -> int:
        return self._mark

    def prune(self, now: float) -> None:
        del now
        self._require()

    def _require(self) -> None:
        if self.away:
            raise StoreUnavailable("shelf", "gone")


def a_host(
    journal: Journal,
    site: str,
    plan_key: bytes,
    output: LocalOutput,
    *,
    began: float = 0.0,
    limits: LimitProfile = LIMITS,
    timings: Timings = TIMINGS,
) -> SiteHost:
    """A host of one site that has taken up what the journal holds."""
    host = SiteHost(site, journal, limits=limits, timings=timings, verify=verify, plan_key=plan_key, output=output, began=began)
    restore([host], journal)
    return host


async def tell(host: SiteHost, journal: Journal, messages: Sequence[tuple[Address, Message]], now: float, bus: Bus) -> None:
    """One step of one site, as the pipeline goes it: judge, commit, act."""
    entry = host.take(messages, now)
    if entry is not None:
        host.seq = journal.commit([entry])[host.site]
    if acts := host.acts():
        await host.act(acts, now, bus)


def inputs_of(journal: Journal, site: str) -> list[AnyInput]:
    """Everything a site was given, in order."""
    return [item for _, _, inputs in journal.replay(site) for item in inputs]


def journaled(reader: JournalReader) -> Iterator[tuple[str, float, list[AnyInput]]]:
    """Site, time and inputs of everything a journal holds, in its order; frames of columns as the inputs they stand for."""
    for entry in reader.inputs_after(0, 1_000_000):
        if entry.plain is None:
            yield entry.site, entry.at, entry.inputs
        else:
            for source, frame in entry.plain.frames(entry.at, reader.sources):
                yield source.site, entry.at, [FrameReceived(frame)]


def a_gateway(
    folder: Path,
    journal: Journal,
    hosts: Sequence[SiteHost],
    bus: Bus,
    store: TelemetryStore | Shelf,
    clock: Clock,
    *,
    run_journal: Run = in_place,
) -> Gateway:
    """The whole gateway in one task, without a thread."""
    reader = JournalReader(path_of(folder))
    places = {host.site: host for host in hosts}
    return Gateway(
        hosts,
        bus,
        clock,
        name=NAME,
        journal=journal,
        run_journal=run_journal,
        uplinks=[Uplink(host.site, NAME, host.jid, journal.cursor(f"uplink/{host.site}"), reader) for host in hosts],
        run_uplink=in_place,
        store=StoreSink(
            journal.cursor("store"),
            reader,
            cast("TelemetryStore", store),
            lambda site, frame: places[site].place_of(frame.device),
            event_cursor=journal.cursor("store.event"),
            jitter=lambda: 0.5,
        ),
        run_store=in_place,
    )
