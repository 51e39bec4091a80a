"""Events to the api: strictly in order, again after silence, and only the api's word moves the cursor."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import Entry
from gateway.journal_reader import JournalReader
from gateway.uplink import MOST_BYTES, MOST_EVENTS, MOST_FRESH, MOST_MESSAGE, RESEND_AFTER_S, Uplink
from manway.codec_mqtt import Acknowledgement, EventBatch, decode, encode
from manway.events import MessageRejected, PersonEntered
from manway.runtime.mqtt import MAX_PAYLOAD
from tests.kit.clock import EPOCH
from tests.kit.gateway import in_place, open_journal, path_of


class Air:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.connected, self.sent, self.payloads = True, list[EventBatch](), list[bytes]()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        assert (topic, qos, retain) == ("manway/1/40/yard/gw/event", 1, False)
        assert len(payload) <= MAX_PAYLOAD
        self.sent.append(decode(payload, EventBatch, "test"))
        self.payloads.append(payload)


class Rig:
    """An uplink on a journal, at seconds after EPOCH."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.air = open_journal(folder), Air()
        self.jid, self.reader = self.journal.jid("yard"), JournalReader(path_of(folder))
        self.uplink = self.begin()

    def begin(self) -> Uplink:
        """An uplink as a process that has just started has it."""
        return Uplink("yard", "gw-1", self.jid, self.journal.cursor("uplink/yard"), self.reader)

    def add(self, count: int, *, weight: int = 0, offer: bool = False) -> list[bytes]:
        first = self.journal.last_seq("yard") + 1
        numbers = range(first, first + count)
        said = [MessageRejected(id=f"e{n}", at=EPOCH, site="yard", source="x" * weight, reason="r") for n in numbers]
        self.journal.commit([Entry("yard", EPOCH, [], said)])
        bodies = [encode(event) for event in said]
        if offer:
            self.uplink.offer(first, bodies)
        return bodies

    def send(self, at: float) -> list[tuple[int, int]]:
        """The batches that went out at `at`, as (first, last) numbers."""
        before = len(self.air.sent)
        if self.uplink.wants(EPOCH + at, self.journal.last_seq("yard")):
            asyncio.run(self.uplink.send(EPOCH + at, self.air, in_place))  # type: ignore[arg-type]
        for batch in self.air.sent[before:]:
            assert [event.id for event in batch.e] == [f"e{batch.first + i}" for i in range(len(batch.e))]
        return [(batch.first, batch.first + len(batch.e) - 1) for batch in self.air.sent[before:]]

    def answer(self, seq: int, jid: str = "", at: float = 0.0) -> None:
        self.uplink.acknowledge(Acknowledgement(jid or self.jid, seq), self.journal.last_seq("yard"), EPOCH + at)
        if (moved := self.uplink.moved()) is not None:
            self.journal.move_cursor(self.uplink.sink, moved)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.journal.close()


def test_nothing_to_say_is_not_said(rig: Rig) -> None:
    assert rig.send(0) == []


def test_events_go_out_in_order_once_and_name_their_journal(rig: Rig) -> None:
    rig.add(3)
    assert rig.send(0) == [(1, 3)]
    assert rig.send(0.5) == []
    rig.add(2)
    assert rig.send(1) == [(4, 5)]
    assert {(batch.gw, batch.jid) for batch in rig.air.sent} == {("gw-1", rig.jid)}


def test_a_batch_has_at_most_a_hundred_events(rig: Rig) -> None:
    rig.add(250)

    assert [rig.send(0) for _ in range(2)] == [[(1, 100), (101, 200), (201, 250)], []]
    assert MOST_EVENTS == 100


def test_a_batch_stays_below_the_limit_of_the_wire_and_one_large_event_still_goes(rig: Rig) -> None:
    rig.add(20, weight=6_000)
    rig.add(1, weight=55_000)
    sent = [batch for _ in range(12) for batch in rig.send(0)]

    assert [first for first, _ in sent] == [1, *(last + 1 for _, last in sent[:-1])]
    assert sent[-1] == (21, 21)
    assert max(last - first for first, last in sent) >= 3, "halved, not sent one by one"
    assert MOST_BYTES < MAX_PAYLOAD == MOST_MESSAGE


def test_an_event_that_no_message_holds_is_told_of_in_its_place_and_the_rest_goes_on(rig: Rig) -> None:
    rig.add(1)
    large = PersonEntered(
        id="e2", at=EPOCH + 2, site="yard", cause="c", space="n01", permit="p-1", person="x" * 59_950, source="tag"
    )
    rig.journal.commit([Entry("yard", EPOCH, [], [large])])
    rig.add(1)
    with capture_logs() as logs:
        sent = rig.send(0)

    assert sent == [(1, 1), (2, 2), (3, 3)]
    (told,) = rig.air.sent[1].e
    size = len(encode(large))
    assert told == MessageRejected(
        id="e2",
        at=EPOCH + 2,
        site="yard",
        source="PersonEntered",
        reason=f"an event of {size} bytes is larger than a message may be; the gateway's journal has it",
    )
    assert [(log["log_level"], log["id"], log["bytes"]) for log in logs] == [("error", "e2", size)]
    with_the_rest = rig.reader.events_after("yard", 1, 1)
    assert with_the_rest == [(2, large)], "nothing is lost here"


def test_a_batch_says_from_which_number_on_there_are_events(rig: Rig) -> None:
    rig.add(3)
    rig.send(0)
    rig.journal._db.execute("DELETE FROM event WHERE seq <= 2")
    rig.answer(3)
    rig.answer(0)  # the api's records were lost
    sent = rig.send(10)

    assert sent == [(3, 3)]
    assert [(batch.first, batch.oldest) for batch in rig.air.sent] == [(1, 1), (3, 3)]


def test_silence_means_again_with_growing_waits(rig: Rig) -> None:
    rig.add(1)
    sent = [at / 2 for at in range(300) if rig.send(at / 2)]

    waits = [after - before for before, after in itertools.pairwise(sent)]
    assert waits[:6] == [*RESEND_AFTER_S, RESEND_AFTER_S[-1]]


def test_an_answer_ends_the_waiting_and_the_next_silence_is_short_again(rig: Rig) -> None:
    rig.add(1)
    assert [rig.send(at) for at in (0, 2, 6)] == [[(1, 1)]] * 3
    rig.answer(1)
    assert rig.send(60) == []
    rig.add(1)
    assert [rig.send(at) for at in (61, 62.5, 63)] == [[(2, 2)], [], [(2, 2)]]


def test_a_lost_batch_is_sent_again_although_new_events_never_stop(rig: Rig) -> None:
    """The api answers every batch behind a gap with what it has: no progress, whatever else goes out."""
    sent: list[tuple[int, int]] = []
    for second in range(6):
        rig.add(1)
        sent += rig.send(second)
        rig.answer(0)

    assert [last for first, last in sent if first == 1][1:], sent


def test_progress_puts_the_resending_off(rig: Rig) -> None:
    rig.add(1)
    rig.send(0)
    rig.add(1)
    rig.send(1.9)
    rig.answer(1)

    assert [rig.send(at) for at in (2, 3.5, 4)] == [[], [], [(2, 2)]]


def test_an_answer_moves_the_cursor_for_good(rig: Rig) -> None:
    rig.add(5)
    rig.send(0)
    rig.answer(3)

    assert (rig.uplink.cursor, rig.journal.cursor("uplink/yard")) == (3, 3)
    again = rig.begin()
    assert again.cursor == 3
    rig.uplink = again
    assert rig.send(10) == [(4, 5)]


def test_a_late_answer_after_a_restart_spares_the_sending(rig: Rig) -> None:
    rig.add(5)
    rig.answer(5)

    assert rig.send(0) == []
    assert rig.uplink.cursor == 5


@pytest.mark.parametrize("jid", ["0123456789abcdef", "x"])
def test_an_answer_about_another_journal_means_nothing(rig: Rig, jid: str) -> None:
    rig.add(5)
    rig.send(0)
    rig.answer(5, jid)

    assert rig.uplink.cursor == 0
    assert rig.send(2) == [(1, 5)]


@pytest.mark.parametrize("seq", [6, 10**6, 2**64, -1, -(2**64)])
def test_an_answer_about_events_that_do_not_exist_means_nothing(rig: Rig, seq: int) -> None:
    """Believed, it would keep every event up to that number from ever being sent."""
    rig.add(5)
    rig.send(0)
    rig.answer(2)
    rig.answer(seq)

    assert (rig.uplink.cursor, rig.journal.cursor("uplink/yard")) == (2, 2)
    rig.add(1)
    assert rig.send(0.5) == [(6, 6)]


def test_an_older_answer_means_send_again_from_there(rig: Rig) -> None:
    rig.add(9)
    rig.send(0)
    rig.answer(9)
    rig.answer(4)

    assert rig.send(0.5) == [(5, 9)]
    assert rig.journal.cursor("uplink/yard") == 9
    rig.answer(0)
    assert rig.send(1) == [(1, 9)]
    rig.answer(9)
    assert rig.send(60) == []


def test_nothing_is_sent_or_counted_as_sent_while_disconnected(rig: Rig) -> None:
    rig.add(2)
    rig.air.connected = False
    assert [rig.send(at) for at in range(50)] == [[]] * 50
    rig.air.connected = True
    assert rig.send(50) == [(1, 2)]
    rig.air.connected = False
    assert [rig.send(at) for at in range(51, 90)] == [[]] * 39
    rig.air.connected = True
    assert rig.send(90) == [(1, 2)]


def test_an_answer_that_stands_still_brings_at_once_what_the_api_misses(rig: Rig) -> None:
    """The api comes back after an outage and says how far it is: nobody waits half a minute for the timer."""
    rig.add(3)
    for at in (0, 2, 6, 14):
        rig.send(at)
    rig.answer(0, at=15)
    assert rig.send(15) == [(1, 3)]
    rig.answer(0, at=15.5)
    assert rig.send(15.5) == [], "it says so for every batch behind a gap"
    rig.answer(0, at=16)
    assert rig.send(16) == [(1, 3)]


def test_at_most_eight_batches_are_under_way(rig: Rig) -> None:
    rig.add(1000)
    assert len(rig.send(0)) == 8
    rig.answer(100)
    assert rig.send(0.5) == [(801, 900)]


def test_what_was_just_committed_goes_out_without_the_journal_being_read(rig: Rig) -> None:
    rig.add(150, offer=True)
    rig.reader.close()

    assert rig.send(0) == [(1, 100), (101, 150)]
    rig.answer(150)
    rig.add(2, offer=True)
    assert rig.send(1) == [(151, 152)]


def test_what_was_offered_is_the_very_message_that_the_journal_gives(rig: Rig) -> None:
    rig.add(3, offer=True)
    rig.send(0)
    rig.send(2)

    assert len(rig.air.payloads) == 2
    assert rig.air.payloads[0] == rig.air.payloads[1] == encode(rig.air.sent[0])


def test_what_lies_before_a_hole_comes_from_the_journal_and_nothing_twice(rig: Rig) -> None:
    rig.add(2, offer=True)
    rig.add(3)
    rig.add(2, offer=True)

    assert rig.send(0) == [(1, 7)]
    assert rig.send(1) == []
    rig.add(1, offer=True)
    rig.reader.close()
    assert rig.send(1.5) == [(8, 8)]


def test_what_is_offered_twice_or_was_sent_already_is_not_said_again(rig: Rig) -> None:
    bodies = rig.add(3, offer=True)
    rig.uplink.offer(1, bodies)
    rig.uplink.offer(2, bodies[1:])
    assert rig.send(0) == [(1, 3)]
    rig.uplink.offer(1, bodies)
    rig.add(1, offer=True)
    assert rig.send(0.5) == [(4, 4)]


def test_only_so_much_is_kept_at_hand_and_the_rest_comes_from_the_journal(rig: Rig) -> None:
    rig.air.connected = False
    for _ in range(30):
        rig.add(10, weight=1_000, offer=True)
    assert sum(map(len, rig.uplink._fresh._events)) <= MOST_FRESH
    rig.air.connected = True
    sent = [batch for _ in range(2) for batch in rig.send(0)]

    assert (sent[0][0], sent[-1][1]) == (1, 300)
    assert [first for first, _ in sent[1:]] == [last + 1 for _, last in sent[:-1]]
    assert not rig.uplink._fresh._events, "what went out is let go of"


def test_a_lost_batch_comes_from_the_journal_again_and_what_is_new_behind_it(rig: Rig) -> None:
    rig.add(2, offer=True)
    assert rig.send(0) == [(1, 2)]
    rig.add(1, offer=True)
    assert rig.send(2) == [(1, 3)], "sent again from the cursor on"
    rig.add(1, offer=True)
    assert rig.send(2.5) == [(4, 4)]
    rig.answer(4, at=3)
    rig.add(1, offer=True)
    rig.reader.close()
    assert rig.send(3) == [(5, 5)], "once it has answered, what is new is at hand again"


def test_a_restart_has_nothing_at_hand_and_forgets_nothing(rig: Rig) -> None:
    rig.add(3, offer=True)
    rig.send(0)
    rig.answer(1)
    rig.uplink = rig.begin()
    rig.add(1, offer=True)

    assert rig.send(1) == [(2, 4)]


def test_the_api_that_lost_its_records_gets_them_from_the_journal(rig: Rig) -> None:
    rig.add(4, offer=True)
    rig.send(0)
    rig.answer(4)
    rig.add(1, offer=True)
    rig.answer(2)

    assert rig.send(0.5) == [(3, 5)]
    assert not rig.uplink._fresh._events
