"""Orders about a lock's own clock and keys, and its enrolment: they pass through the engine and say nothing of the opening."""

from collections.abc import Iterable

import msgspec
import pytest

from manway.codec_mqtt import decode_command, encode
from manway.commands import RelayEnrolment
from manway.engine import Engine
from manway.entities import ResultCode
from manway.errors import DecodeRejected
from manway.events import EnrolmentAnswered, Event, GrantFailed, LockKeySet, LockTimeSet, MessageRejected
from manway.ids import GrantKind
from manway.inputs import CommandReceived, EnrolmentReceived, ResultReceived
from manway.site import AirEnrolment
from tests.kit.builders import CTI, LIMITS, TIMINGS, Bench, a_lock_state, names
from tests.kit.clock import EPOCH

ABOUT_ITSELF = [(GrantKind.SET_TIME, ResultCode.TIME_SET, LockTimeSet), (GrantKind.ROTATE_KEY, ResultCode.KEY_SET, LockKeySet)]
OTHER = bytes(reversed(CTI))


def position(bench: Bench) -> str:
    return str(bench.engine.site.locks["lock-1"].position.value)


def about_locks(events: Iterable[Event]) -> list[str]:
    """What is told of locks: an instrument that is silent meanwhile is another matter."""
    return [name for name in names(events) if "LOCK" in name.upper()]


@pytest.mark.parametrize(("kind", "code", "event"), ABOUT_ITSELF)
def test_a_lock_that_takes_an_order_about_itself_stays_where_it_is_and_alarms_nobody(
    kind: GrantKind, code: ResultCode, event: type[LockTimeSet | LockKeySet]
) -> None:
    bench = Bench()
    assert bench.give(bench.desk.write_grant(kind, EPOCH + 1), at=1) == []
    assert position(bench) == "locked"
    (told,) = bench.give(bench.result(code, state=a_lock_state()), at=2)
    assert isinstance(told, event)
    assert (told.lock, told.grant, told.cause) == ("lock-1", CTI.hex(), "command-1")
    assert position(bench) == "locked"
    assert about_locks(bench.wait(30)) == []


@pytest.mark.parametrize("kind", [kind for kind, _, _ in ABOUT_ITSELF])
def test_an_order_about_itself_that_nobody_answers_leaves_the_lock_known(kind: GrantKind) -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(kind, EPOCH + 1), at=1)
    assert about_locks(bench.wait(1 + TIMINGS.lock_confirm_s)) == ["UnlockUnconfirmed"]
    assert position(bench) == "locked"
    assert about_locks(bench.wait(60)) == []
    lock = bench.engine.site.locks["lock-1"]
    assert (lock.unconfirmed, lock.written) == (False, None)


def test_a_refused_order_fails_and_moves_nothing() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.SET_TIME, EPOCH + 1), at=1)
    (told,) = bench.give(ResultReceived("lock-1", None), at=2)
    assert isinstance(told, GrantFailed)
    assert (told.reason, position(bench)) == ("REFUSED", "locked")


def test_an_opening_under_way_is_not_pushed_aside_by_an_order() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.ENTRY, EPOCH + 1), at=1)
    refused = bench.give(bench.desk.write_grant(GrantKind.SET_TIME, EPOCH + 2, grant=OTHER), at=2)
    assert [getattr(e, "reason", "") for e in refused] == ["lock.busy"]
    written = bench.engine.site.locks["lock-1"].written
    assert written is not None
    assert written.grant == CTI.hex()


def test_an_opening_or_another_order_takes_the_place_of_an_order() -> None:
    bench = Bench()
    for at, kind in enumerate((GrantKind.SET_TIME, GrantKind.ROTATE_KEY, GrantKind.ENTRY), 1):
        assert bench.give(bench.desk.write_grant(kind, EPOCH + at), at=at) == []
    assert position(bench) == "pending"


# ---- enrolment


def a_relay(
    lock: str = "lock-x", key: str = "relay-1", *, at: float = 0, address: str = "", message: str = "01"
) -> CommandReceived:
    now, passkey = EPOCH + at, "012345" if address else ""
    named = {"lock": lock, "message": message, "address": address, "passkey": passkey}
    return CommandReceived(RelayEnrolment(id=key, site="yard", at=now, exp=now + 10, by="p04", **named))


@pytest.mark.parametrize("lock", ["lock-x", "lock-1"])
def test_what_a_lock_answers_to_its_enrolment_is_told_once_whether_the_plan_knows_it_or_not(lock: str) -> None:
    bench = Bench()
    assert bench.give(a_relay(lock)) == []
    assert bench.engine.accepted("relay-1")
    (told,) = bench.give(EnrolmentReceived(lock, b"\x01\x02"), at=1)
    assert isinstance(told, EnrolmentAnswered)
    assert (told.lock, told.message, told.cause) == (lock, "0102", "relay-1")
    assert names(bench.give(EnrolmentReceived(lock, b"\xff"), at=2)) == ["MessageRejected"]


def test_a_lock_that_nobody_enrols_says_nothing() -> None:
    assert names(Bench().give(EnrolmentReceived("lock-x", b"\x01"))) == ["MessageRejected"]


def test_a_restart_remembers_whose_answer_is_awaited() -> None:
    bench = Bench()
    bench.give(a_relay())
    again = Engine.restored(bench.engine.snapshot(), "yard", LIMITS, TIMINGS)
    (told,) = again.receive([EnrolmentReceived("lock-x", b"\x01")], EPOCH + 1)
    assert isinstance(told, EnrolmentAnswered)
    assert told.cause == "relay-1"
    assert msgspec.structs.asdict(told)["lock"] == "lock-x"


def test_what_a_lock_has_shown_of_itself_is_no_answer_to_its_keys_after_a_restart_either() -> None:
    bench = Bench()
    bench.give(a_relay(message="00" * 157))
    again = Engine.restored(bench.engine.snapshot(), "yard", LIMITS, TIMINGS)
    shown = EnrolmentReceived("lock-x", bytes(62))
    (told,) = again.receive([shown], EPOCH + 1)
    assert isinstance(told, MessageRejected)
    assert told.reason == "it says again what it is, and has been given its keys"
    (answer,) = again.receive([EnrolmentReceived("lock-x", b"\xff")], EPOCH + 2)
    assert isinstance(answer, EnrolmentAnswered)


def test_where_a_lock_is_on_the_air_is_known_for_as_long_as_its_mode_lasts() -> None:
    bench = Bench()
    site = bench.engine.site
    bench.give(a_relay(address="C0:00:00:00:00:01"))
    assert site.enrolling_on_air == {"lock-x": AirEnrolment("C0:00:00:00:00:01", "012345", EPOCH + 130)}
    again = Engine.restored(bench.engine.snapshot(), "yard", LIMITS, TIMINGS)
    assert again.site.enrolling_on_air == site.enrolling_on_air
    bench.give(a_relay("lock-y", "relay-2", at=5, address="C0:00:00:00:00:02"), at=5)
    assert list(site.enrolling_on_air) == ["lock-x", "lock-y"]
    bench.give(a_relay("lock-z", "relay-3", at=131), at=131)  # it speaks MQTT
    assert list(site.enrolling_on_air) == ["lock-y"]


@pytest.mark.parametrize("wrong", [{"address": "C0:00"}, {"address": "c0:00:00:00:00:01"}, {"passkey": "12345"}])
def test_a_command_with_an_address_or_passkey_that_cannot_be_is_no_command(wrong: dict[str, str]) -> None:
    command = msgspec.structs.replace(a_relay(address="C0:00:00:00:00:01").command, **wrong)
    with pytest.raises(DecodeRejected):
        decode_command(encode(command), "test")
