"""One challenge a link, answers to whoever asked, and links that say nothing (`locks.md` §1.4, §2; L14, L38)."""

import pytest

from firmware_sim.lock import Publish
from manway import codec_ble
from manway.codec_ble import LogOp, LogRequest
from manway.entities import RefusalReason, ResultCode
from manway.ids import GrantKind
from tests.kit.locks import LockBench, only

REFUSED = codec_ble.REFUSED
ENTRY, EMERGENCY, CLOSE_OUT = GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT
NEWEST = codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 1))


def greeted(bench: LockBench, link: str, kind: GrantKind = ENTRY) -> bytes:
    """A grant that answers the challenge this link was given."""
    return bench.order(kind, challenge=bench.hello(link=link).challenge)


def links_of(out: list[Publish], name: str) -> set[str]:
    return {sent.link for sent in out if sent.name == name}


def test_l14_a_grant_on_a_second_connection_is_refused_and_opens_on_its_own() -> None:
    bench = LockBench()
    message = greeted(bench, "one")
    greeted(bench, "two")
    for link in ("two", "three", ""):
        assert bench.send(message, link=link) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE] * 3
    assert bench.send(message, link="one") == [ResultCode.PRESS_WANTED]


def test_l14_a_grant_after_the_link_came_back_is_refused() -> None:
    bench = LockBench()
    message, other = greeted(bench, "one"), greeted(bench, "two", EMERGENCY)
    bench.lock.link_lost(bench.now, link="one")
    assert bench.send(message, link="one") == [REFUSED]
    assert bench.send(other, link="two") == [ResultCode.OPENED]  # whose challenge was its own


def test_an_acceptance_burns_the_challenge_of_every_link() -> None:
    bench = LockBench()
    first, second, broker = greeted(bench, "one"), greeted(bench, "two", EMERGENCY), greeted(bench, "", EMERGENCY)
    assert bench.send(first, link="one") == [ResultCode.PRESS_WANTED]
    assert bench.send(second, link="two") == bench.send(broker) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE] * 2


def test_a_door_that_opens_burns_the_challenge_of_every_link() -> None:
    bench = LockBench()
    bench.open_with()
    messages = {link: greeted(bench, link, CLOSE_OUT) for link in ("one", "two", "")}
    bench.lock.open_door(bench.now)
    bench.lock.close_door(bench.now)
    for link, message in messages.items():
        assert bench.send(message, link=link) == [REFUSED]
    assert bench.refusals == [RefusalReason.CHALLENGE] * 3


def test_two_hellos_a_second_are_for_all_links_together() -> None:
    bench = LockBench()
    bench.hello(link="one")
    assert bench.lock.receive("hello", b"\x01", bench.now, link="two") == []
    assert bench.hello(link="two").challenge


def asks(bench: LockBench, link: str) -> bool:
    """Whether a link that asks now is greeted."""
    return "hello" in {sent.name for sent in bench.lock.receive("hello", b"\x01", bench.now, link=link)}


def test_the_link_that_was_refused_first_is_greeted_first() -> None:
    bench = LockBench()
    assert [asks(bench, link) for link in ("one", "two", "three", "one")] == [True, False, False, False]
    for link in ("two", "three", "one"):
        bench.wait(0.5)
        assert [other for other in ("one", "three", "two") if asks(bench, other)] == [link]


@pytest.mark.parametrize("strangers", [("one",), ("one", "two")])
def test_a_gateway_that_asks_every_five_seconds_is_greeted_the_second_time(strangers: tuple[str, ...]) -> None:
    bench = LockBench()
    heard = list[float]()
    for tenth in range(101):
        for link in strangers:
            asks(bench, link)
        if tenth % 50 == 1 and asks(bench, ""):
            heard.append(tenth)
        bench.wait(0.1)
    assert heard == [51]


def test_a_link_that_asked_once_and_keeps_silent_holds_the_others_up_once() -> None:
    bench = LockBench()
    assert (asks(bench, "one"), asks(bench, "silent")) == (True, False)
    bench.wait(5.9)
    assert not asks(bench, "one")
    bench.wait(0.1)
    assert asks(bench, "one")
    bench.wait(0.5)
    assert asks(bench, "one")


def test_the_turns_of_two_that_keep_silent_lapse_one_after_the_other() -> None:
    bench = LockBench()
    assert [asks(bench, link) for link in ("one", "silent", "silent too", "one")] == [True, False, False, False]
    bench.wait(11.4)
    assert not asks(bench, "one")
    bench.wait(0.1)
    assert asks(bench, "one")


@pytest.mark.parametrize("gone_after_s", [0.2, 4])
def test_a_link_that_is_lost_leaves_the_line_and_the_next_has_its_whole_time(gone_after_s: float) -> None:
    bench = LockBench()
    assert [asks(bench, link) for link in ("one", "gone", "two", "gone too", "one")] == [True, False, False, False, False]
    bench.wait(gone_after_s)
    for link in ("gone", "gone too", "never there"):
        bench.lock.link_lost(bench.now, link=link)
    bench.wait(5)
    assert [asks(bench, "one"), asks(bench, "two")] == [False, True]


def test_whoever_leaves_from_behind_gives_the_first_no_longer_time() -> None:
    bench = LockBench()
    assert [asks(bench, link) for link in ("one", "silent", "gone", "one")] == [True, False, False, False]
    bench.wait(4)
    bench.lock.link_lost(bench.now, link="gone")
    bench.wait(2)
    assert asks(bench, "one")


def test_a_request_that_is_none_has_no_place_in_the_line() -> None:
    bench = LockBench()
    assert asks(bench, "one")
    bench.lock.receive("hello", b"\x02", bench.now, link="babbling")
    bench.wait(0.5)
    assert asks(bench, "one")


def forged_rescue(bench: LockBench, link: str) -> bytes:
    """Everything in it is right but the signature."""
    wrong = bytearray(greeted(bench, link, EMERGENCY))
    wrong[-40] ^= 1
    return bytes(wrong)


@pytest.mark.parametrize(("lost", "after_s"), [(False, 2.3), (True, 0.3)])
def test_a_forger_who_keeps_silent_holds_a_rescue_up_for_two_seconds_and_one_who_is_gone_not_at_all(
    after_s: float, *, lost: bool
) -> None:
    bench = LockBench()
    forged = {link: forged_rescue(bench, link) for link in ("one", "silent")}
    true = greeted(bench, "", EMERGENCY)
    for _ in range(5):
        bench.send(b"x")
    assert bench.send(forged["one"], link="one") == [REFUSED]
    assert bench.send(forged["silent"], link="silent") == bench.send(true) == [codec_ble.THROTTLED]
    if lost:
        bench.lock.link_lost(bench.now, link="silent")
    bench.wait(after_s - 0.1)
    assert bench.send(true) == [codec_ble.THROTTLED]
    bench.wait(0.1)
    assert bench.send(true) == [ResultCode.OPENED]


def test_a_rescue_is_looked_at_in_its_turn_while_two_strangers_forge_theirs() -> None:
    bench = LockBench()
    forged = {link: forged_rescue(bench, link) for link in ("one", "two")}
    true = greeted(bench, "", EMERGENCY)
    for _ in range(5):
        bench.send(b"x", link="one")
    answers = list[ResultCode | bytes]()
    for tenth in range(20):
        for link, message in forged.items():
            bench.send(message, link=link)
        if tenth % 6 == 1:  # a gateway asks again after 0.6 s
            answers += bench.send(true)
        bench.now += 0.1
    assert answers[:3] == [codec_ble.THROTTLED, codec_ble.THROTTLED, ResultCode.OPENED]


def test_every_answer_goes_to_the_link_that_asked_and_the_state_to_whoever_listens() -> None:
    bench = LockBench()
    hello = bench.lock.receive("hello", b"\x01", bench.now, link="one")
    assert links_of(hello, "hello") == {"one"}
    log = bench.lock.receive("logctl", NEWEST, bench.now, link="two")
    assert links_of(log, "log") == links_of(log, "logctl") == {"two"}
    refused = bench.lock.receive("grant", b"x", bench.now, link="two")
    assert links_of(refused, "result") == {"two"}
    assert bench.send(greeted(bench, "one"), link="one") == [ResultCode.PRESS_WANTED]
    opened = bench.lock.press(bench.now)
    assert links_of(opened, "result") == {"one"}
    assert links_of(opened, "state") == {""}


def test_a_grant_accepted_before_its_link_was_lost_still_waits_for_the_press() -> None:
    bench = LockBench()
    bench.send(greeted(bench, "one"), link="one")
    bench.lock.link_lost(bench.now, link="one")
    assert bench.press() == [ResultCode.OPENED]


def test_only_the_link_it_came_over_gets_the_stored_result_of_a_duplicate() -> None:
    bench = LockBench()
    message = greeted(bench, "one", EMERGENCY)
    opened = only(bench.lock.receive("grant", message, bench.now, link="one"), "result")
    assert only(bench.lock.receive("grant", message, bench.now, link="one"), "result") == opened
    assert bench.send(message, link="two") == [REFUSED]
    bench.lock.link_lost(bench.now, link="one")
    assert bench.send(message, link="one") == [REFUSED]


def test_a_broker_that_hands_a_grant_out_again_after_a_cut_gets_its_result() -> None:
    bench = LockBench()
    message = greeted(bench, "", EMERGENCY)
    bench.send(message)
    bench.lock.link_lost(bench.now)
    assert bench.send(message) == [ResultCode.OPENED]
    assert bench.events.count(0x20) == 1


def test_a_hello_on_one_link_leaves_the_answer_of_another_alone() -> None:
    bench = LockBench()
    message = greeted(bench, "one", EMERGENCY)
    bench.send(message, link="one")
    bench.hello(link="two")
    assert bench.send(message, link="one") == [ResultCode.OPENED]
    bench.hello(link="one")
    assert bench.send(message, link="one") == [REFUSED]


@pytest.mark.parametrize(
    ("name", "payload"), [("hello", b"\x02"), ("grant", b"x"), ("logctl", b"\x02\x01"), ("enrol", b"x"), ("firmware", b"x")]
)
def test_l38_a_link_that_says_nothing_valid_for_thirty_seconds_is_to_be_dropped(name: str, payload: bytes) -> None:
    bench = LockBench()
    bench.lock.link_made(bench.now, link="idle")
    bench.lock.link_made(bench.now, link="babbling")
    bench.wait(29.9)
    bench.lock.receive(name, payload, bench.now, link="babbling")
    assert bench.lock.links_to_drop(bench.now) == []
    bench.wait(0.1)
    assert bench.lock.links_to_drop(bench.now) == ["idle", "babbling"]
    bench.lock.link_lost(bench.now, link="idle")
    assert bench.lock.links_to_drop(bench.now) == ["babbling"]


@pytest.mark.parametrize("name", ["hello", "logctl", "grant", "enrol"])
def test_a_valid_message_keeps_its_link(name: str) -> None:
    bench = LockBench()
    bench.lock.link_made(bench.now, link="one")
    message = {"hello": b"\x01", "logctl": NEWEST, "enrol": b"\x01"}.get(name) or greeted(bench, "one")
    bench.wait(29)
    bench.lock.receive(name, message, bench.now, link="one")
    bench.wait(29.9)
    assert bench.lock.links_to_drop(bench.now) == []
    bench.wait(0.1)
    assert bench.lock.links_to_drop(bench.now) == ["one"]


def test_the_broker_session_is_never_dropped() -> None:
    bench = LockBench()
    bench.hello()
    bench.wait(3600)
    assert bench.lock.links_to_drop(bench.now) == []


def test_a_reboot_ends_every_link() -> None:
    bench = LockBench()
    message = greeted(bench, "one", EMERGENCY)
    bench.lock.reboot(bench.now)
    assert bench.lock.links_to_drop(bench.now + 60) == []
    assert bench.send(message, link="one") == [REFUSED]
