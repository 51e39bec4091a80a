"""Events of one site to the api, strictly in order; only the api's own word after its commit moves the cursor.

What was just committed is handed in as it was encoded for the journal, and goes out without being read back. It is a
convenience with a bound: whatever is not at hand, and whatever is sent again, comes from the journal.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice

import structlog

from gateway.journal_reader import JournalReader
from manway.codec_mqtt import Acknowledgement, decode_event, encode, pack_events
from manway.events import MessageRejected
from manway.runtime.ports import Bus, Run
from manway.topics import root

_log = structlog.get_logger("uplink")
MOST_EVENTS = 100
MOST_MESSAGE = 60_000  # bytes on the wire, envelope included (`topics.py`)
MOST_BYTES = 50_000  # (choice) of a batch of several events
MOST_FRESH = 100_000  # bytes of committed events at hand (choice): two batches; a city of silent apis costs 24 MB
_ENVELOPE = 200  # bytes of a batch around its events, generously: two names of at most 64 and two numbers
MOST_AHEAD = 8  # batches without an answer, `pipeline.md` §7 (choice)
AGAIN_EVERY_S = 1.0  # (choice)
RESEND_AFTER_S = (2.0, 4.0, 8.0, 16.0, 30.0)


class _Fresh:
    """The newest events as they were committed, without a hole, as many as `MOST_FRESH` bytes hold."""

    def __init__(self) -> None:
        self._events, self._first, self._size = deque[bytes](), 1, 0

    def add(self, first: int, events: Sequence[bytes]) -> None:
        """Take events numbered from `first` on; those behind a hole are of no use without it, and the journal has it."""
        end = self._first + len(self._events)
        if first > end or not self._events:
            self.drop(end)
            self._first = first
        elif first < end:
            events = events[end - first :]
        self._events.extend(events)
        self._size += sum(map(len, events))
        while self._size > MOST_FRESH:
            self._drop_oldest()

    def behind(self, seq: int) -> list[bytes]:
        """Return up to `MOST_EVENTS` events behind a number, none where the next one is not at hand."""
        begin = seq + 1 - self._first
        return [*islice(self._events, begin, begin + MOST_EVENTS)] if begin >= 0 else []

    def drop(self, seq: int) -> None:
        """Forget everything up to a number."""
        while self._events and self._first <= seq:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._size -= len(self._events.popleft())
        self._first += 1


class Uplink:
    """Sends what lies behind the cursor and waits for the acknowledgement; silence means: send again, less often."""

    def __init__(self, site: str, gateway: str, jid: str, cursor: int, reader: JournalReader) -> None:
        """Send the events of a site's stream `jid` from behind `cursor`, as `reader` has them."""
        self.site, self.sink = site, f"uplink/{site}"
        self._topic, self._gateway, self._jid, self._reader = f"{root(site)}gw/event", gateway, jid, reader
        self._cursor = self._kept = cursor
        self._sent_to, self._tries = cursor, 0
        self._ends: list[int] = []  # of the batches without an answer, the oldest first
        self._again_at = 0.0
        self._waiting_since: float | None = None  # for the oldest event without an answer; None: not yet
        self._fresh, self._newest, self._oldest = _Fresh(), cursor, 1  # `_oldest`: when the journal was last read

    def offer(self, first: int, events: Sequence[bytes]) -> None:
        """Take events that are committed, numbered from `first` on, as the journal encoded them."""
        self._newest = max(self._newest, first + len(events) - 1)
        if not self._tries:  # an api that does not answer is told by the journal, from its cursor on, when it does
            self._fresh.add(first, events)

    @property
    def cursor(self) -> int:
        """The newest event the api has committed."""
        return self._cursor

    def moved(self) -> int | None:
        """Return how far the journal should note that the api has come, None when it knows."""
        if self._cursor <= self._kept:
            return None
        self._kept = self._cursor
        return self._kept

    def acknowledge(self, ack: Acknowledgement, newest: int, now: float) -> None:
        """Take the api's word; for another journal, or of events beyond the `newest`, it means nothing."""
        if ack.jid != self._jid or not 0 <= ack.seq <= newest:
            return
        if ack.seq > self._cursor:
            self._cursor, self._sent_to, self._tries = ack.seq, max(self._sent_to, ack.seq), 0
            self._ends = [end for end in self._ends if end > ack.seq]
            self._waiting_since = None
        elif ack.seq < self._cursor:
            # The api's records were restored or lost: it tells us from where it needs them again.
            self._cursor = self._sent_to = ack.seq
            self._ends.clear()
            self._waiting_since = None
        elif self._sent_to > self._cursor and now >= self._again_at:
            # It stands where it stood and misses what is under way: it was away, or a batch was lost. Once a second at most,
            # because it says so for every batch behind the gap.
            self._sent_to, self._again_at = self._cursor, now + AGAIN_EVERY_S
            self._ends.clear()
            self._waiting_since = now

    def wants(self, now: float, newest: int) -> bool:
        """Say whether `send` has anything to do: something new up to `newest`, or an answer that is overdue."""
        self._newest = max(self._newest, newest)
        if self._sent_to > self._cursor:
            overdue = self._waiting_since is None or now - self._waiting_since >= self._wait_s
            return overdue or (self._sent_to < newest and len(self._ends) < MOST_AHEAD)
        return self._sent_to < newest

    async def send(self, now: float, bus: Bus, run: Run) -> None:
        """Send what is new, or again what stayed without an answer too long; at most `MOST_AHEAD` batches."""
        if self._waiting_since is None:
            self._waiting_since = now
        # Not since the last sending: on a busy site something new goes out before any wait has passed.
        if self._sent_to > self._cursor and now - self._waiting_since >= self._wait_s:
            self._sent_to, self._tries, self._waiting_since = self._cursor, self._tries + 1, now
            self._ends.clear()
        while len(self._ends) < MOST_AHEAD and bus.connected and self._sent_to < self._newest:
            behind = self._sent_to
            first, events = behind + 1, self._fresh.behind(behind)
            if not events:
                first, events = await run(lambda behind=behind: self._read(behind))  # type: ignore[misc]
                if not events or self._sent_to != behind:  # or the api asked for older ones meanwhile
                    return
            last, payload = self._batch(first, events)
            await bus.publish(self._topic, payload)
            if behind == self._cursor:
                self._waiting_since = now
            self._sent_to = max(last, self._cursor)
            self._ends.append(self._sent_to)
            self._fresh.drop(self._sent_to)

    def _read(self, behind: int) -> tuple[int, list[bytes]]:
        """Return what the journal has behind a number, with the number of the first; what is missing between is gone."""
        self._oldest = self._reader.oldest_event(self.site)  # before the rest, or a prune could come between
        events = self._reader.events_after(self.site, behind, MOST_EVENTS)
        return (events[0][0] if events else 0), [encode(event) for _, event in events]

    def _batch(self, first: int, events: Sequence[bytes]) -> tuple[int, bytes]:
        """Return the last number and the bytes of a batch of the first of these events, as many as one message holds."""
        count, size = 0, _ENVELOPE
        for event in events:
            size += len(event) + 1
            if size > MOST_BYTES and count:
                break
            count += 1
        payload = self._packed(first, events[:count])
        if len(payload) > MOST_MESSAGE:
            payload = self._packed(first, [encode(_instead_of(events[0]))])
        return first + count - 1, payload

    def _packed(self, first: int, events: Sequence[bytes]) -> bytes:
        # An `oldest` that has grown since is still true: there is nothing before it. Where it matters the journal is read.
        return pack_events(self._gateway, self._jid, first, events, self._oldest)

    @property
    def _wait_s(self) -> float:
        return RESEND_AFTER_S[min(self._tries, len(RESEND_AFTER_S) - 1)]


def _instead_of(body: bytes) -> MessageRejected:
    """Return what the api is told of an event that no message holds; the journal and the telemetry store have it whole."""
    event, size = decode_event(body), len(body)
    kind = type(event).__name__
    _log.error("event larger than a message", site=event.site, kind=kind, id=event.id, bytes=size)
    reason = f"an event of {size} bytes is larger than a message may be; the gateway's journal has it"
    return MessageRejected(id=event.id, at=event.at, site=event.site, source=kind, reason=reason)
