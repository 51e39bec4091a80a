"""The reader of the MQTT adapter: any tearing of the stream gives the same messages, and what is no message ends nothing."""

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho

from manway.runtime import mqtt_batches, mqtt_packets
from manway.runtime.mqtt_batches import INTERNALS, BatchClient
from manway.runtime.mqtt_packets import MAX_PACKET, POISON, Cut, PacketStream
from manway.runtime.mqtt_setup import Publication
from manway.runtime.ports import Message


def length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def publish(message: Message, mid: int, properties: bytes | None = None, topic: bytes | None = None) -> bytes:
    """Return the packet of MQTT 3.1.1, or of 5 where there are properties, be they empty."""
    raw = message.topic.encode() if topic is None else topic
    body = struct.pack(">H", len(raw)) + raw + (struct.pack(">H", mid) if mid else b"")
    body += (b"" if properties is None else length(len(properties)) + properties) + message.payload
    return bytes([0x30 | (2 if mid else 0) | message.retained]) + length(len(body)) + body


def feed(stream: PacketStream, data: bytes, cuts: list[int]) -> Cut:
    found, edges = Cut(), [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        part = stream.feed(data[begin:end])
        found.messages += part.messages
        found.mids += part.mids
        found.others += part.others
        found.broken |= part.broken
    return found


MESSAGES = st.builds(Message, st.text(max_size=40), st.binary(max_size=300), st.booleans())
SENT = st.lists(st.tuples(MESSAGES, st.integers(0, 65_535)), max_size=12)
OTHERS = st.lists(st.tuples(st.sampled_from([0x20, 0x40, 0x90, 0xD0]), st.binary(max_size=200)), max_size=4)
TOPICS = st.text("abc/", min_size=1, max_size=300)
PUBLICATIONS = st.lists(st.builds(Publication, TOPICS, st.binary(max_size=20_000), st.booleans(), st.sampled_from([0, 1])))
CUTS = st.lists(st.integers(0, 5_000), max_size=20)


@given(SENT, OTHERS, CUTS, st.one_of(st.none(), st.binary(max_size=200)))
def test_however_the_stream_is_torn_the_packets_are_the_same(
    sent: list[tuple[Message, int]], others: list[tuple[int, bytes]], cuts: list[int], properties: bytes | None
) -> None:
    packets = [publish(message, mid, properties) for message, mid in sent]
    packets += [bytes([head]) + length(len(body)) + body for head, body in others]
    found = feed(PacketStream(version5=properties is not None), b"".join(packets), cuts)
    assert found == Cut([message for message, _ in sent], [mid for _, mid in sent], others, broken=False)


@given(st.integers(MAX_PACKET - 3, 3 * MAX_PACKET), CUTS, st.sampled_from([0, 7]))
def test_a_publication_over_the_limit_is_thrown_away_but_acknowledged(size: int, cuts: list[int], mid: int) -> None:
    before, after = Message("a", b"1"), Message("b", b"2")
    large = publish(Message("large", bytes(size - 4 - 7 - (2 if mid else 0))), mid)
    data = publish(before, 1) + large + publish(after, 2)
    found = feed(PacketStream(), data, [cut * 37 for cut in cuts])
    assert found.mids == [1, mid, 2]
    assert [found.messages[0], found.messages[2]] == [before, after]
    assert found.messages[1].topic == (POISON if len(large) > MAX_PACKET else "large")
    assert not found.broken


def test_a_topic_that_is_no_text_is_poison_under_its_packet_id() -> None:
    found = PacketStream().feed(publish(Message("", b"?"), 7, topic=b"\xff"))
    assert (found.messages, found.mids) == ([Message(POISON, b"?")], [7])


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x03\x00\x09abc",  # a topic longer than its packet
        b"\x32\x03\x00\x01a",  # QoS 1 without packet id
        b"\x30\x00",
        b"\x90\xff\xff\x7f",  # a SUBACK of two megabytes
    ],
)
def test_lengths_that_contradict_each_other_break_the_stream_and_go_on_as_poison(packet: bytes) -> None:
    good = Message("a", b"1")
    found = PacketStream().feed(publish(good, 1) + packet)
    assert found.broken
    assert found.messages == [good, Message(POISON, packet)]
    assert found.mids == [1, 0]


@given(st.binary(max_size=2_000), CUTS, st.sampled_from([False, True]))
def test_no_bytes_raise(data: bytes, cuts: list[int], version5: object) -> None:
    found = feed(PacketStream(version5=version5 is True), data, cuts)
    assert len(found.messages) == len(found.mids)


def test_topics_are_remembered_as_one_text_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_packets, "_TOPICS", 100)
    stream = PacketStream()
    first, again = stream.feed(publish(Message("a/b", b""), 0) * 2).messages
    assert first.topic is again.topic
    for n in range(1_000):
        assert stream.feed(publish(Message(f"random/{n}", b""), 0)).messages[0].topic == f"random/{n}"
    assert len(stream._topics) <= 100


# ---- the client


def client() -> BatchClient:
    return BatchClient("a", lambda *_: None, lambda *_: None)


def test_this_paho_has_what_the_reader_rests_on() -> None:
    assert client().batching
    assert all(hasattr(client(), name) for name in INTERNALS)


def test_a_batch_is_acknowledged_in_order_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    one, written = client(), list[bytes]()
    monkeypatch.setattr(one, "_packet_queue", lambda _kind, packet, *_: written.append(packet))
    mids = random.Random(1).sample(range(1, 65_536), 1_000)  # noqa: S311  any order will do
    one.ack_many(mids)
    assert written == [b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)]
    one.ack_many([])
    assert len(written) == 1


@pytest.mark.parametrize("version5", [False, True])
@given(PUBLICATIONS)
def test_what_is_said_is_cut_again_into_what_it_was(version5: object, said: list[Publication]) -> None:
    one, written = BatchClient("a", lambda *_: None, lambda *_: None, version5=bool(version5)), list[bytes]()
    one._packet_queue = lambda _kind, packet, *_: written.append(packet)  # type: ignore[method-assign,assignment]
    ids = one.say_many(said, {1, 2, 5})
    found = PacketStream(version5=bool(version5)).feed(b"".join(written))
    assert found == Cut([Message(p.topic, p.payload, p.retain) for p in said], ids)
    assert len(written) == bool(said)
    assert [mid for mid in ids if mid] == [3, 4, *range(6, 70_000)][: sum(p.qos for p in said)]
    assert [mid > 0 for mid in ids] == [p.qos > 0 for p in said]


def test_a_packet_id_under_way_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, said = client(), [Publication("q", b"")]
    monkeypatch.setattr(one, "_packet_queue", lambda *_: None)
    taken = {one.say_many(said, ())[0]}
    rest = [one.say_many(said, taken)[0] for _ in range(65_534)]
    assert {*rest} == {*range(2, 65_536)}
    assert one.say_many(said, taken) == [2]  # 1 has no PUBACK yet


def test_without_a_connection_there_is_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert client().loop_read() == paho.MQTT_ERR_NO_CONN
    monkeypatch.setattr(mqtt_batches, "INTERNALS", (*INTERNALS, "_gone"))
    assert not client().batching
    assert client().loop_read() == paho.MQTT_ERR_NO_CONN
