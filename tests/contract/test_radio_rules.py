"""The rules of the radio as tables and numbers: who is connected next, who makes way, when an adapter counts as deaf."""

import pytest

from gateway.radio_health import CHECK_S, SILENT_S, TABLE, Rung, Sign, Watchdog
from gateway.radio_queue import TURN_S, Connect, Evict, Held, Urgency, Want, back_off_s, next_move
from gateway.radio_room import FULL_FOR_S, Room

U = Urgency


def gas(name: str, urgency: Urgency = U.OCCUPIED, *, served_at: float = 0.0) -> Want:
    return Want(name, urgency, served_at, stays=True)


def held_gas(name: str, urgency: Urgency = U.OCCUPIED, since: float = 0.0) -> Held:
    return Held(name, urgency, since, stays=True)


def test_the_most_urgent_is_connected_first() -> None:
    wants = [Want("p", U.POLL), Want("l", U.LOG), gas("g"), Want("u", U.UNLOCK), Want("e", U.EMERGENCY)]
    order = []
    while wants:
        move = next_move(wants, [], 0.0, slots=4)
        assert isinstance(move, Connect)
        order.append(move.device)
        wants = [want for want in wants if want.device != move.device]
    assert order == ["e", "u", "g", "l", "p"]


def test_of_equals_the_one_that_waited_longest_is_first() -> None:
    assert next_move([gas("late", served_at=9.0), gas("early", served_at=3.0)], [], 10.0, slots=4) == Connect(
        "early", U.OCCUPIED
    )


def test_one_slot_is_kept_for_locks() -> None:
    held = [held_gas("a"), held_gas("b"), held_gas("c")]
    assert next_move([gas("d")], held, 1.0, slots=4) is None
    assert next_move([gas("d"), Want("l", U.POLL)], held, 1.0, slots=4) == Connect("l", U.POLL)


def test_an_adapter_with_one_slot_serves_an_instrument_too() -> None:
    assert next_move([gas("a")], [], 0.0, slots=1) == Connect("a", U.OCCUPIED)
    assert next_move([Want("l", U.UNLOCK)], [held_gas("a")], 0.0, slots=1) == Evict("a", U.UNLOCK)
    assert next_move([Want("l", U.LOG)], [held_gas("a")], 0.0, slots=1) is None, "nobody's air goes unwatched for a log"


@pytest.mark.parametrize(
    ("want", "held", "now", "slots", "victim"),
    [
        (gas("o"), [held_gas("i", U.POLL), held_gas("j", U.POLL, 5.0)], 6.0, 3, "i"),
        (Want("u", U.UNLOCK), [held_gas("i", U.POLL), Held("s", U.UNLOCK, 0.0)], 1.0, 2, "i"),
        (Want("u", U.UNLOCK), [held_gas("o"), Held("s", U.UNLOCK, 0.0)], 1.0, 2, None),
        (Want("e", U.EMERGENCY), [held_gas("o"), Held("s", U.UNLOCK, 0.0)], 1.0, 2, "o"),
        (Want("e", U.EMERGENCY), [Held("s", U.UNLOCK, 0.0), Held("p", U.POLL, 0.0)], 1.0, 2, "p"),
        (Want("e", U.EMERGENCY), [Held("s", U.UNLOCK, 0.0)], 1.0, 1, "s"),
        (Want("e", U.EMERGENCY), [Held("s", U.EMERGENCY, 0.0)], 1.0, 1, None),
        (Want("r", U.RESCUE), [Held("s", U.EMERGENCY, 0.0), Held("r2", U.RESCUE, 0.0)], 1.0, 2, "s"),
        (Want("r", U.RESCUE), [Held("r2", U.RESCUE, 0.0)], 1.0, 1, None),
        (Want("u", U.UNLOCK), [Held("s", U.UNLOCK, 0.0)], 1.0, 1, None),
        (Want("u", U.UNLOCK), [held_gas("o"), Held("s", U.UNLOCK, 0.0, lingers=True)], 1.0, 2, "s"),
        (Want("p", U.POLL), [Held("s", U.UNLOCK, 0.0, lingers=True)], 1.0, 1, None),
        (gas("i", U.POLL), [held_gas("j", U.POLL)], TURN_S - 1, 2, None),
        (gas("i", U.POLL), [held_gas("j", U.POLL)], TURN_S, 2, "j"),
        (gas("o"), [held_gas("p")], 500.0, 2, None),
        (Want("p", U.POLL), [held_gas("j", U.POLL), Held("s", U.LOG, 0.0)], 500.0, 2, None),
        (Want("a", U.UNLOCK), [Held("a", U.POLL, 0.0)], 0.0, 4, None),
    ],
    ids=[
        "air of people before air of nobody, longest first",
        "an unlock takes an idle link's slot",
        "an unlock waits for a lock that leaves soon, not at the cost of watched air",
        "an emergency waits for nothing",
        "an emergency ends a poll",
        "an emergency does not wait for an unlock that nobody may sign",
        "an emergency does not break off another",
        "a rescue does not wait for what somebody else has to sign",
        "a rescue does not break off another",
        "an opening under way is not broken off",
        "a lock that has opened makes way for one that is to open",
        "a poll can wait the two seconds",
        "a turn is not cut short",
        "after its turn an idle instrument makes way for another",
        "watched air makes way for no other watched air",
        "a poll evicts nobody",
        "who has a link needs none",
    ],
)
def test_who_makes_way(want: Want, held: list[Held], now: float, slots: int, victim: str | None) -> None:
    expected = None if victim is None else Evict(victim, want.urgency)
    assert next_move([want], held, now, slots=slots) == expected


def test_less_room_than_slots_keeps_nothing_for_locks() -> None:
    held = [held_gas("a")]
    assert next_move([gas("b")], held, 0.0, slots=4, room=2) == Connect("b", U.OCCUPIED)
    assert next_move([gas("c")], [*held, held_gas("b")], 0.0, slots=4, room=2) is None
    assert next_move([Want("l", U.UNLOCK)], [*held, held_gas("b", since=1.0)], 2.0, slots=4, room=2) == Evict("a", U.UNLOCK)


def test_one_device_that_hangs_says_nothing_of_the_room_and_two_beside_links_do() -> None:
    room = Room(4)
    assert not room.hung("a", 2, 0.0)
    assert not room.hung("a", 2, 1.0)
    assert not room.hung("b", 0, 2.0), "nobody has a slot: it is not the room"
    assert room.at(2.0) == 4
    assert room.hung("b", 2, 3.0)
    assert (room.at(3.0), room.at(3.0 + FULL_FOR_S)) == (2, 4), "believed for a while"


def test_a_connect_between_two_that_hang_says_that_there_is_room() -> None:
    room = Room(4)
    assert not room.hung("a", 2, 0.0)
    room.made(1.0)
    assert not room.hung("b", 3, 2.0)


def test_a_link_ended_for_a_connect_proves_the_room_only_if_it_helped_soon() -> None:
    room = Room(4)
    room.vacated(3, 0.0)
    assert room.at(1.0) == 4
    room.made(2.0)
    assert room.at(2.0) == 3
    room = Room(4)
    room.vacated(3, 0.0)
    assert not room.hung("a", 2, 10.0), "it did not help"
    room.made(11.0)
    assert room.at(11.0) == 4
    room.vacated(3, 20.0)
    room.made(50.0)
    assert room.at(50.0) == 4
    room.refused(0, 60.0)
    assert room.at(60.0) == 1, "never none"


def test_back_off_doubles_to_a_minute_with_jitter() -> None:
    assert [back_off_s(failures, 1.0) for failures in (1, 2, 3, 4, 5, 6, 7, 100)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [back_off_s(failures, 0.0) for failures in (1, 7)] == [0.5, 30]


# -- the ladder


def test_every_rung_goes_back_to_listening_when_something_is_heard() -> None:
    assert all(TABLE[rung, Sign.HEARD] is Rung.LISTENING for rung in Rung)


def test_ninety_seconds_of_silence_then_a_rung_every_thirty() -> None:
    dog = Watchdog(0.0)
    assert dog.heard(1.0)
    assert not dog.heard(2.0)
    tried = {now: rung for now in range(30, 600, 30) if (rung := dog.check(float(now))) is not None}
    assert tried == {120: Rung.SCAN, 150: Rung.POWER, 180: Rung.USB, 210: Rung.DAEMON, 270: Rung.SCAN} | {
        at: rung for at, rung in tried.items() if at > 270
    }
    assert dog.red
    assert dog.heard(601.0), "news: it hears again"
    assert (dog.rung, dog.red) == (Rung.LISTENING, False)


def test_nothing_is_tried_before_the_watchdog_time() -> None:
    dog = Watchdog(0.0)
    assert dog.check(SILENT_S - 0.1) is None
    assert dog.check(SILENT_S) is Rung.SCAN
    assert dog.check(SILENT_S + CHECK_S - 0.1) is None


def test_rungs_that_cannot_be_tried_are_passed_at_once() -> None:
    dog = Watchdog(0.0)
    assert dog.gone(5.0) is Rung.SCAN
    assert [dog.failed(5.0) for _ in range(4)] == [Rung.POWER, Rung.USB, Rung.DAEMON, None]
    assert dog.red
    assert dog.failed(6.0) is None, "red: it waits for the next check"
    assert dog.gone(7.0) is None, "it climbs already"
    assert dog.check(5.0 + CHECK_S + 1) is Rung.SCAN
    assert dog.red, "until something is heard"


def test_nobody_to_hear_is_no_silence() -> None:
    dog = Watchdog(0.0)
    dog.idle(80.0)
    assert dog.check(160.0) is None
    assert dog.check(170.0) is Rung.SCAN
