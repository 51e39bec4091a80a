"""Events of one journal to the api, strictly in order; only the api's own word after its commit moves the cursor."""

from gateway.journal import Journal
from manway.codec_mqtt import Acknowledgement, EventBatch, encode
from manway.runtime.ports import Bus, Run
from manway.topics import root

MOST_EVENTS = 100
MOST_BYTES = 50_000  # a batch must stay below the 60,000 B of the wire, envelope included
RESEND_AFTER_S = (2.0, 4.0, 8.0, 16.0, 30.0)


class Uplink:
    """Sends what lies behind the cursor and waits for the acknowledgement; silence means: send again, less often."""

    def __init__(self, site: str, gateway: str, journal: Journal) -> None:
        self._topic, self._gateway, self._journal = f"{root(site)}gw/event", gateway, journal
        self._cursor = journal.cursor("uplink")
        self._sent_to, self._tries = self._cursor, 0
        self._waiting_since: float | None = None  # for the oldest event without an answer; None: not yet

    @property
    def cursor(self) -> int:
        """The newest event the api has committed."""
        return self._cursor

    async def acknowledge(self, ack: Acknowledgement, run: Run) -> None:
        """Take the api's word; for another journal, or of events that do not exist, it means nothing."""
        if ack.jid != self._journal.jid or not 0 <= ack.seq <= await run(self._journal.last_seq):
            return
        if ack.seq > self._cursor:
            self._cursor, self._sent_to, self._tries = ack.seq, max(self._sent_to, ack.seq), 0
            self._waiting_since = None
            await run(lambda: self._journal.move_cursor("uplink", ack.seq))
        elif ack.seq < self._cursor:
            # The api's records were restored or lost: it tells us from where it needs them again.
            self._cursor = self._sent_to = ack.seq
            self._waiting_since = None

    async def send(self, now: float, bus: Bus, run: Run) -> None:
        """Send what is new, or again what stayed without an answer too long."""
        wait = RESEND_AFTER_S[min(self._tries, len(RESEND_AFTER_S) - 1)]
        if self._waiting_since is None:
            self._waiting_since = now
        # Not since the last sending: on a busy site something new goes out before any wait has passed.
        if self._sent_to > self._cursor and now - self._waiting_since >= wait:
            self._sent_to, self._tries, self._waiting_since = self._cursor, self._tries + 1, now
        behind = self._sent_to
        events = await run(lambda: self._journal.events_after(behind, MOST_EVENTS))
        if not events or not bus.connected:
            return
        payload = encode(EventBatch(self._gateway, self._journal.jid, events[0][0], [e for _, e in events]))
        while len(payload) > MOST_BYTES and len(events) > 1:
            events = events[: len(events) // 2]
            payload = encode(EventBatch(self._gateway, self._journal.jid, events[0][0], [e for _, e in events]))
        await bus.publish(self._topic, payload)
        if behind == self._cursor:
            self._waiting_since = now
        self._sent_to = max(events[-1][0], self._cursor)
