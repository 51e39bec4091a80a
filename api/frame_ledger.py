"""The ledger of loss of one job: what its instruments sent, as the telemetry store holds it and the records tell it.

A job is complete only where nothing is missing, torn or dropped *and* the store has come as far as the gateway: what nobody
can prove is never called complete.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec
import sqlalchemy as sa

from api import store
from api.office import Office
from manway.entities import Frame, Instrument, Permit
from manway.events import AnyEvent, FramesMissed, PersonEntered, TelemetryDropped
from manway.permit import TERMINAL
from manway.runtime.telemetry import Missing, TelemetryStore

DAY_S = 86_400.0
BEHIND_S = 180.0  # (choice) an embedded store holds the open minute and a grace in memory; three of them is behind
SHOWN_S = 60.0  # (choice) a page that shows an answer asks every second; nobody asked for a minute means nobody looks
DAY_AGAIN_S = 60.0  # (choice) a day of a device is 86,400 frames to go through, and torn ones are rare
JOB_AGAIN_S = 15.0  # (choice) fresher than the store itself is
MOST_EVENTS = 2_000
T = TypeVar("T")
_ENDS = ("PermitClosed", "PermitExpired", "PermitCancelled", "PermitRejected")


class InstrumentFrames(msgspec.Struct, frozen=True):
    """What the store holds of one instrument over a job.

    `received` distinct frames, `stored_twice` rows beyond the first of one frame, `missing` the sequence numbers in `ranges`,
    `torn` instants with a reading and no frame, `late` frames that came more than 30 s after they were measured.
    """

    device: str
    received: int
    stored_twice: int
    missing: int
    ranges: list[Missing]
    torn: int
    late: int


class JobLedger(msgspec.Struct, frozen=True):
    """The ledger of one job from `start` to `end`, Unix seconds; `dropped` frames its gateway's full journal gave up.

    `verdict`: `complete`; `incomplete` (missing, torn or dropped); `silent` (an instrument of the job has no frame, or there
    is none); `behind` (the store has not come as far as the gateway, or nobody knows how far the gateway is).
    """

    permit: str
    start: float
    end: float
    instruments: list[InstrumentFrames]
    dropped: int
    verdict: str


def job_ledger(db: sa.Connection, office: Office, telemetry: TelemetryStore, permit: Permit) -> JobLedger:
    """Return the ledger of a job as of now.

    Raises:
        StoreUnavailable: the telemetry store cannot be asked.
    """
    start, end = job_time(db, permit, office.now())
    rows = [_frames(db, telemetry, permit, device, (start, end)) for device in devices_of(db, permit)]
    dropped = sum(event.frames for event in _dropped(db, permit.site, start, end))
    behind = _behind(office, telemetry, permit, [row.device for row in rows], end)
    return JobLedger(permit.id, start, end, rows, dropped, verdict_of(rows, dropped, behind=behind))


def job_time(db: sa.Connection, permit: Permit, now: float) -> tuple[float, float]:
    """Return from when to when a job is: its start, or the first entry before it; what ended it, or now."""
    entered = store.events(db, lambda c: (c.c.subject == permit.id) & (c.c.type == PersonEntered.__name__), most=1)
    start = min([permit.start, *(event.at for _, event in entered)])
    if permit.state not in TERMINAL:
        return start, max(start, now)
    ended = store.events(db, lambda c: (c.c.subject == permit.id) & c.c.type.in_(_ENDS), most=1, newest=True)
    return start, max(start, min([now, *(event.at for _, event in ended)] if ended else [now, permit.end]))


def devices_of(db: sa.Connection, permit: Permit) -> list[str]:
    """Return the instruments of a job: those on the permit, and those its people wear as the records know them."""
    rows = store.events(db, lambda c: (c.c.subject == permit.id) & (c.c.type == PersonEntered.__name__), most=MOST_EVENTS)
    people = {*permit.entrants, permit.attendant, *(e.person for _, e in rows if isinstance(e, PersonEntered))}
    worn = [i.device for i in store.every(db, Instrument, site=permit.site) if i.worn_by in people]
    return list(dict.fromkeys([*permit.instruments, *worn]))


def verdict_of(rows: Sequence[InstrumentFrames], dropped: int, *, behind: bool) -> str:
    """Return what the counts of a job come to; see JobLedger."""
    if dropped or any(row.missing or row.torn for row in rows):
        return "incomplete"
    if not rows or not all(row.received for row in rows):
        return "silent"
    return "behind" if behind else "complete"


def _frames(
    db: sa.Connection, telemetry: TelemetryStore, permit: Permit, device: str, span: tuple[float, float]
) -> InstrumentFrames:
    kept = telemetry.ledger(device, int(span[0] * 1000), int(span[1] * 1000) + 1)
    ranges = _joined([*kept.missing, *_first_of_boots(db, permit.site, device, span)])
    missing = sum(gap.last - gap.first + 1 for gap in ranges)
    return InstrumentFrames(device, kept.received, kept.doubled, missing, ranges, kept.torn, kept.late)


def _first_of_boots(db: sa.Connection, site: str, device: str, span: tuple[float, float]) -> list[Missing]:
    """Return the announced gaps the store cannot see: it knows holes *between* frames, and these begin with a boot."""
    found = _of_gateway(db, site, FramesMissed.__name__, span[0])
    events = [e for e in found if isinstance(e, FramesMissed) and e.device == device and e.first == 1 and e.at <= span[1]]
    return [Missing(e.boot, e.first, e.last) for e in events]


def _dropped(db: sa.Connection, site: str, start: float, end: float) -> list[TelemetryDropped]:
    """Return what a site's journal gave up of the time: it may have done so long afterwards."""
    found = _of_gateway(db, site, TelemetryDropped.__name__, start)
    return [e for e in found if isinstance(e, TelemetryDropped) and e.start <= end and e.end >= start]


def _of_gateway(db: sa.Connection, site: str, kind: str, since: float) -> list[AnyEvent]:
    # Events about no space and nobody: by that index they are found without going through the whole log.
    rows = store.events(
        db,
        lambda c: (c.c.space == "") & (c.c.subject == "") & (c.c.type == kind) & (c.c.site == site) & (c.c.at >= since),
        most=MOST_EVENTS,
    )
    return [event for _, event in rows]


def _joined(gaps: Sequence[Missing]) -> list[Missing]:
    """Return gaps as disjoint ranges, boots in the order they came, each rising."""
    found: list[Missing] = []
    boots = list(dict.fromkeys(gap.boot for gap in gaps))
    for gap in sorted(gaps, key=lambda gap: (boots.index(gap.boot), gap.first)):
        before = found[-1] if found and found[-1].boot == gap.boot else None
        if before is not None and gap.first <= before.last + 1:
            found[-1] = Missing(gap.boot, before.first, max(before.last, gap.last))
        else:
            found.append(gap)
    return found


def _behind(office: Office, telemetry: TelemetryStore, permit: Permit, devices: Sequence[str], end: float) -> bool:
    """Say whether the store may still lack frames of the job that the gateway has."""
    state, age = office.pictures.state.get(permit.site), office.pictures.age_s(permit.site, office.now())
    if state is None or age is None:
        return True
    if permit.state not in TERMINAL and age > office.timings.live_reading_s:
        return True
    if any(alarm.kind == "STORE_LAGGING" and alarm.holds is not False for alarm in state.alarms):
        return True
    newest = telemetry.latest(devices)
    return any(_stored_until(newest, i.device) < min(end, i.at) - BEHIND_S for i in state.instruments if i.device in devices)


def _stored_until(newest: Mapping[str, Frame], device: str) -> float:
    return newest[device].received_at if device in newest else 0.0


class Shown(Generic[T]):
    """The newest answer about each thing that some page shows; what nobody looks at is not asked for and forgotten.

    Args:
        ask: key and now (Unix seconds) -> the answer, None when there is no such thing.
        again_s: after which an answer is too old.
    """

    def __init__(self, ask: Callable[[str, float], T | None], again_s: float) -> None:
        self._ask, self._again_s = ask, again_s
        self._looked_at: dict[str, float] = {}
        self._known: dict[str, tuple[float, T | None]] = {}

    def look(self, key: str, now: float) -> T | None:
        """Return the newest answer, None before the first, and remember that somebody looks."""
        self._looked_at[key] = now
        return self._known.get(key, (0.0, None))[1]

    def refresh(self, now: float) -> None:
        """Ask again for what is shown and has grown old; an error of the asking leaves what was known."""
        for key, at in list(self._looked_at.items()):
            if now - at > SHOWN_S:
                self._looked_at.pop(key, None)
                self._known.pop(key, None)
            elif key not in self._known or now - self._known[key][0] >= self._again_s:
                self._known[key] = now, self._ask(key, now)


class ShownLedgers:
    """What pages show of the telemetry store, counted beside them, because a store takes its time."""

    def __init__(self, office: Office, telemetry: TelemetryStore) -> None:
        self._office, self._telemetry = office, telemetry
        self._days = Shown(self._day, DAY_AGAIN_S)
        self._jobs = Shown(self._job, JOB_AGAIN_S)

    def torn(self, device: str) -> int | None:
        """Return the torn frames of a device's last day, None while they are being counted."""
        return self._days.look(device, self._office.now())

    def job(self, permit: str) -> JobLedger | None:
        """Return a job's ledger, None while it is being counted."""
        return self._jobs.look(permit, self._office.now())

    def count(self) -> None:
        """Count again what has grown old; raises StoreUnavailable, and what was known stays."""
        self._days.refresh(self._office.now())
        self._jobs.refresh(self._office.now())

    def _day(self, device: str, now: float) -> int:
        return self._telemetry.ledger(device, int((now - DAY_S) * 1000), int(now * 1000) + 60_000).torn

    def _job(self, permit: str, _now: float) -> JobLedger | None:
        with self._office.records.look() as db:
            known = next(iter(store.permits(db, id=permit)), None)
            return job_ledger(db, self._office, self._telemetry, known) if known else None
