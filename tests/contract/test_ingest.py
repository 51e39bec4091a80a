"""Bytes from outside become verified inputs or a rejection with its reason; never an exception, never nothing."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.ingest import MOST_HELD, MOST_STRANGERS, Ingest, Waiting
from gateway.journal import Entry
from gateway.journal_reader import JournalReader
from gateway.outputs import LogOutput
from manway import codec_ble, cose
from manway.codec_mqtt import ChannelBirth, DeviceCommand, DeviceState, GasFrames, SignedPlan, decode, encode
from manway.commands import GreetLock, WriteGrant
from manway.engine import Engine
from manway.entities import Lock, LockHello, LogEvent, LogRecord, Plan
from manway.events import FramesMissed, MessageRejected
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameHeld,
    FrameReceived,
    HelloReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from manway.runtime.ports import Message
from manway.runtime.signing import SigningKey, verify
from manway.topics import Address, device_topic, root
from tests.kit.builders import GASES, LIMITS, TIMINGS, UNITS, Desk, a_lock_state, a_permit, a_plan, a_result
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.gateway import a_host, open_journal, path_of, tell
from tests.kit.locks import ISSUER, LOCK, SITE
from tests.kit.memory_broker import MemoryBroker

SITE_ID = "yard"
LOCK_ID = codec_ble.lock_id_of(LOCK.public_key)
THE_PLAN = a_plan(locks=[Lock("lock-1", LOCK_ID, LOCK.public_key, "n01")])
PLAN_KEY = SITE
RECORD = LogRecord(1, 1, 5, 0, LogEvent.BOOT, 0, 1, 1, 0, 90, 0, bytes(16))
DEEP = b'{"b":7,"x":' + b"[" * 20_000


def a_birth(boot: int = 7, *, channels: tuple[str, ...] = tuple(GASES)) -> DeviceState:
    return DeviceState(boot, True, "m", "1", "s", {g: ChannelBirth(UNITS.get(g, "ppm"), (0.0, 30.0), 0.1) for g in channels})


def gas(seq: int = 1, *, boot: int = 7, **changed: object) -> bytes:
    values: dict[str, list[float | None]] = {"O2": [20.9], "LEL": [0.0], "H2S": [0.0], "CO": [0.0]}
    frame = GasFrames(boot, seq, 0, values, int(EPOCH * 1000))
    return encode(msgspec.structs.replace(frame, **changed))


def signed_hello(key: SigningKey = LOCK, lock_id: bytes = LOCK_ID) -> bytes:
    hello = LockHello(lock_id, bytes(16), a_lock_state(), bytes(32), 0, (bytes(4), bytes(4)), (1, 0, 0, 0))
    return key.sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))


def signed_result(key: SigningKey = LOCK, lock_id: bytes = LOCK_ID) -> bytes:
    result = msgspec.structs.replace(a_result(), lock_id=lock_id)
    return key.sign(cose.RESULT_AAD, codec_ble.encode_result(result))


def signed_plan(plan: Plan = THE_PLAN, key: SigningKey = PLAN_KEY) -> bytes:
    body = encode(plan)
    return encode(SignedPlan(key.kid.hex(), body, key.sign_raw(body)))


def an_ingest(*, birth: DeviceState | None = None) -> Ingest:
    ingest = Ingest(SITE_ID, {"gas-1": birth} if birth else {}, verify, PLAN_KEY.public_key)
    ingest.know(THE_PLAN)
    return ingest


def take(ingest: Ingest, name: str, payload: bytes, *, device: str = "", retained: bool = False) -> list[AnyInput]:
    device = device or {"g": "gas-1", "s": "gas-1", "u": "lock-1"}.get(name[0], "")
    topic = device_topic(SITE_ID, device, name) if device else f"{root(SITE_ID)}{name}"
    return ingest.take(Address(SITE_ID, device, name), Message(topic, payload, retained), EPOCH)


def frames(inputs: list[AnyInput]) -> list[tuple[int, int]]:
    return [(item.frame.boot, item.frame.seq) for item in inputs if isinstance(item, FrameReceived)]


GOOD = [
    ("gas", gas(), FrameReceived),
    ("up/state", codec_ble.encode_state(a_lock_state()), LockReported),
    ("up/hello", signed_hello(), HelloReceived),
    ("up/result", signed_result(), ResultReceived),
    ("up/log", codec_ble.encode_record(RECORD), LogReceived),
    ("api/cmd", encode(Desk().enter("ann").command), CommandReceived),
    ("api/cmd", encode(Desk().write_grant().command), CommandReceived),
    ("api/plan", signed_plan(), PlanReceived),
]


@pytest.mark.parametrize(("name", "payload", "kind"), GOOD)
def test_good_bytes_become_their_input(name: str, payload: bytes, kind: type[AnyInput]) -> None:
    (item,) = take(an_ingest(birth=a_birth()), name, payload)

    assert isinstance(item, kind)


def test_a_birth_alone_is_no_input_and_is_kept() -> None:
    ingest = an_ingest()

    assert take(ingest, "state", encode(a_birth()), retained=True) == []
    assert ingest.births == {"gas-1": a_birth()}


def test_every_row_of_a_message_is_a_frame() -> None:
    rows: dict[str, list[float | None]] = {"O2": [20.9, 20.8, 20.7]}

    taken = take(an_ingest(birth=a_birth()), "gas", gas(5, v=rows, dt=[0, 1000, 2000]))

    assert frames(taken) == [(7, 5), (7, 6), (7, 7)]


@pytest.mark.parametrize("name", ["up/logctl", "up/new", "api/other", "gw/state"])
def test_a_topic_of_no_meaning_to_the_engine_gives_nothing(name: str) -> None:
    assert take(an_ingest(), name, b"anything") == []


@pytest.mark.parametrize("byte", [b"\xff", b"\xfe"])
def test_a_refusal_byte_is_a_result_without_words(byte: bytes) -> None:
    assert take(an_ingest(), "up/result", byte) == [ResultReceived("lock-1", None)]


def test_a_hello_names_the_command_that_asked_for_it_once() -> None:
    ingest = an_ingest()
    ingest.greeting["lock-1"] = "greet-1"

    asked = [
        item.command for _ in range(2) for item in take(ingest, "up/hello", signed_hello()) if isinstance(item, HelloReceived)
    ]

    assert asked == ["greet-1", ""]


def a_hello_of(boot: int, tick: int) -> bytes:
    state = msgspec.structs.replace(a_lock_state(), boot=boot, tick=tick)
    hello = LockHello(LOCK_ID, bytes(16), state, bytes(32), 0, (bytes(4), bytes(4)), (1, 0, 0, 0))
    return LOCK.sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))


def greeted(ingest: Ingest, boot: int, tick: int) -> tuple[str, bool]:
    ingest.greeting["lock-1"] = "greet-1"
    (item,) = take(ingest, "up/hello", a_hello_of(boot, tick))
    assert isinstance(item, HelloReceived)
    return item.command, item.repeated


def test_only_a_hello_newer_than_the_last_answers_a_request_and_a_restart_knows_it() -> None:
    ingest = an_ingest()
    assert greeted(ingest, 3, 50) == ("greet-1", False)
    again = an_ingest()
    again.resume(msgspec.msgpack.decode(msgspec.msgpack.encode(ingest.waiting()), type=Waiting))
    replayed = an_ingest()
    for item in take(ingest, "up/hello", a_hello_of(3, 50)):
        replayed.remember(item)
    for knowing in (ingest, again, replayed):
        assert greeted(knowing, 3, 50) == ("", True)
        assert greeted(knowing, 3, 49) == ("", True)
        assert greeted(knowing, 2, 99) == ("", False), "of a lock that counts anew a rescue takes it all the same"
        assert knowing.greeting == {"lock-1": "greet-1"}
        assert greeted(knowing, 3, 51) == ("greet-1", False)
        assert greeted(knowing, 4, 1) == ("greet-1", False)


def test_a_replay_takes_the_waiting_request_only_with_the_hello_that_answered_it() -> None:
    ingest, replayed = an_ingest(), an_ingest()
    replayed.greeting["lock-1"] = "greet-1"
    for tick in (50, 51):
        (item,) = take(ingest, "up/hello", a_hello_of(3, tick))
        replayed.remember(item)
        assert replayed.greeting == {"lock-1": "greet-1"}
    ingest.greeting["lock-1"] = "greet-1"
    (item,) = take(ingest, "up/hello", a_hello_of(3, 52))
    replayed.remember(item)
    assert replayed.greeting == {}


def bent(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


def replaced(**changed: object) -> bytes:
    command = msgspec.to_builtins(Desk().write_grant().command)
    return encode(command | changed)


REJECTED = [
    ("gas", b"", "truncated"),
    ("gas", b"\xff\xfe", "JSON|utf"),
    ("gas", b"[]", "object"),
    ("gas", bytes(70_000), "JSON"),
    ("gas", DEEP, "deep"),
    ("gas", gas(0), ">= 1"),
    ("gas", gas(2**32), "<= 4294967295"),
    ("gas", gas(boot=2**64), "<= 4294967295"),
    ("gas", gas(boot=-1), ">= 0"),
    ("gas", gas(t=10**400), "<= 9007199254740991"),
    ("gas", gas(t=-(2**63) - 1), ">= -"),
    ("gas", gas(dt=[2**63]), "<= 9007199254740991"),
    ("gas", gas(v={"X": [1.0]}), "not in the birth"),
    ("gas", gas(v={"O2": [1.0, 2.0]}), "unequal"),
    ("gas", gas(v={"O2": [None]}), "finite"),
    ("gas", gas(v={"O2": [1e9]}), "physical"),
    ("gas", gas(v={"O2": [None]}, q={"O2": ["tired"]}), "tired"),
    ("state", b"{}", "missing"),
    ("state", b"", "truncated"),
    ("state", DEEP, "deep"),
    ("up/state", bytes(19), "bytes"),
    ("up/state", bytes(20), "version"),
    ("up/hello", b"", "bytes"),
    ("up/hello", bytes(60_000), "bytes"),
    ("up/hello", signed_hello(ISSUER), "signature"),
    ("up/hello", bent(signed_hello()), "signature"),
    ("up/hello", signed_result(), "bytes|Struct|version|unpack"),
    ("up/hello", signed_hello(LOCK, b"lockid-9"), "another lock"),
    ("up/result", b"\x00", "bytes"),
    ("up/result", signed_result(ISSUER), "signature"),
    ("up/result", bent(signed_result()), "signature"),
    ("up/result", signed_result(LOCK, b"lockid-9"), "another lock"),
    ("up/log", b"", "bytes"),
    ("up/log", bytes(41), "bytes"),
    ("up/log", bytes(40 * 101), "bytes"),
    ("up/log", b"\xff" * 40, "battery|LogEvent"),
    ("api/cmd", b'{"type":"Nothing"}', "Nothing"),
    ("api/cmd", b"{", "truncated"),
    ("api/cmd", b'{"type":' + b"[" * 20_000, "deep"),
    ("api/cmd", replaced(kind=99), "GrantKind"),
    ("api/cmd", replaced(kind=10**400), "000"),
    ("api/cmd", replaced(message="zz"), "hexadecimal"),
    ("api/plan", b"{}", "missing"),
    ("api/plan", signed_plan(key=ISSUER), "does not verify"),
    ("api/plan", encode(SignedPlan("", b"{}", PLAN_KEY.sign_raw(b"{}"))), "missing"),
    ("api/plan", signed_plan(msgspec.structs.replace(THE_PLAN, site="elsewhere")), "the plan of elsewhere"),
]


@pytest.mark.parametrize(("name", "payload", "reason"), REJECTED)
def test_bad_bytes_become_a_rejection_with_its_reason(name: str, payload: bytes, reason: str, tmp_path: Path) -> None:
    (item,) = take(an_ingest(birth=a_birth()), name, payload)

    assert isinstance(item, InputRejected)
    assert msgspec.json.encode(item.reason)
    assert any(word in item.reason for word in reason.split("|")), item.reason
    assert item.first_bytes == payload[:64].hex()
    journal = open_journal(tmp_path)
    journal.commit([Entry(SITE_ID, EPOCH, [item], [])])
    assert list(journal.replay(SITE_ID)) == [(1, EPOCH, [item])]
    journal.close()


def test_a_birth_in_another_unit_than_the_plans_makes_no_frame() -> None:
    birth = a_birth()
    other = {"H2S": msgspec.structs.replace(birth.ch["H2S"], unit="mg/m3")}

    (item,) = take(an_ingest(birth=msgspec.structs.replace(birth, ch=birth.ch | other)), "gas", gas())

    assert isinstance(item, InputRejected)
    assert item.reason == "H2S comes in mg/m3, the plan says ppm"


@pytest.mark.parametrize("name", ["up/hello", "up/result"])
def test_a_lock_that_no_plan_names_is_not_believed(name: str) -> None:
    payload = signed_hello() if name == "up/hello" else signed_result()

    (item,) = take(an_ingest(), name, payload, device="lock-9")

    assert isinstance(item, InputRejected)
    assert (item.source, item.reason) == ("lock-9", "the plan does not name this lock")


@pytest.mark.parametrize(("name", "payload"), [(name, payload) for name, payload, _ in GOOD])
def test_a_retained_copy_is_taken_only_where_it_belongs(name: str, payload: bytes) -> None:
    (item,) = take(an_ingest(birth=a_birth()), name, payload, retained=True)

    assert isinstance(item, InputRejected) == (name not in ("up/state", "api/plan"))
    assert getattr(item, "reason", "") in ("", "a retained copy is never fresh")
    assert getattr(item, "retained", True)


def test_the_same_bad_bytes_twice_are_two_rejections() -> None:
    ingest = an_ingest()

    keys = {item.id for _ in range(3) for item in take(ingest, "gas", b"?") if isinstance(item, InputRejected)}

    assert len(keys) == 3


def test_what_a_rejection_quotes_is_short_so_that_its_event_can_be_sent() -> None:
    name = "x" * 50_000
    (column,) = take(an_ingest(birth=a_birth(channels=(name,))), "gas", gas(v={name: [1.0, 2.0]}))
    (topic,) = take(an_ingest(), f"api/{name}", b"", retained=True)

    assert isinstance(column, InputRejected)
    assert isinstance(topic, InputRejected)
    assert len(encode(column)) < 1000
    assert len(encode(topic)) < 1000


# -- frames before their birth ---------------------------------------------------------------------------------------


def test_frames_before_their_birth_wait_for_it_in_order() -> None:
    ingest = an_ingest()
    held = [item for seq in (1, 2, 3) for item in take(ingest, "gas", gas(seq))]

    assert held == [FrameHeld("gas-1", gas(seq)) for seq in (1, 2, 3)]
    assert frames(take(ingest, "state", encode(a_birth()))) == [(7, 1), (7, 2), (7, 3)]
    assert take(ingest, "state", encode(a_birth())) == []


def test_a_held_frame_that_cannot_be_read_takes_none_of_the_others_with_it() -> None:
    ingest = an_ingest()
    for payload in (gas(1), gas(2, v={"X": [1.0]}), gas(3)):
        take(ingest, "gas", payload)

    released = take(ingest, "state", encode(a_birth()))

    assert [type(item) for item in released] == [FrameReceived, InputRejected, FrameReceived]
    assert ingest.births["gas-1"] == a_birth()


def test_the_birth_of_another_boot_releases_nothing_and_repeats_nothing() -> None:
    ingest = an_ingest()
    take(ingest, "gas", gas(1, boot=8))

    assert take(ingest, "state", encode(a_birth(7))) == []
    assert frames(take(ingest, "state", encode(a_birth(8)))) == [(8, 1)]


def test_the_last_frames_of_a_boot_are_read_although_the_next_birth_overtook_them() -> None:
    ingest = an_ingest(birth=a_birth(7))
    take(ingest, "state", encode(a_birth(8)))

    assert frames(take(ingest, "gas", gas(9, boot=7)) + take(ingest, "gas", gas(1, boot=8))) == [(7, 9), (8, 1)]


def test_a_restart_knows_both_births_and_neither_holds_nor_releases_again_what_was_read(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    ingest = an_ingest()
    take(ingest, "gas", gas(1, boot=7))
    before = ingest.waiting()  # a snapshot that is older than both births
    for boot in (7, 8):
        take(ingest, "state", encode(a_birth(boot)))
    journal.commit([Entry(SITE_ID, EPOCH, [], [], ingest.new_births())])

    births, older = journal.births(SITE_ID), journal.births_before(SITE_ID)
    again = Ingest(SITE_ID, births, verify, PLAN_KEY.public_key, before=older)
    again.resume(before)
    again.drop_read(Engine(SITE_ID, LIMITS, TIMINGS).site)
    journal.close()

    assert (births, older) == ({"gas-1": a_birth(8)}, {"gas-1": a_birth(7)})
    assert (again.held, again.new_births()) == ({}, [])
    assert frames(take(again, "gas", gas(2, boot=7)) + take(again, "gas", gas(1, boot=8))) == [(7, 2), (8, 1)]


def test_the_held_frames_of_a_device_are_bounded_and_what_is_too_much_is_said() -> None:
    ingest = an_ingest()
    taken = [take(ingest, "gas", gas(seq))[0] for seq in range(1, MOST_HELD + 2)]

    assert {type(item) for item in taken[:-1]} == {FrameHeld}
    assert isinstance(taken[-1], InputRejected)
    assert taken[-1].reason == "no birth of this boot is known"
    assert len(ingest.held["gas-1"]) == MOST_HELD
    assert isinstance(take(ingest, "gas", gas(), device="gas-2")[0], FrameHeld)


@pytest.mark.parametrize(("name", "payload"), [("gas", gas()), ("state", encode(a_birth())), ("up/frame", bytes(31))])
def test_devices_that_the_plan_does_not_name_are_remembered_up_to_a_bound_and_then_refused(name: str, payload: bytes) -> None:
    ingest = an_ingest()
    for number in range(MOST_STRANGERS):
        take(ingest, "gas", gas(), device=f"stray-{number}")

    (item,) = take(ingest, name, payload, device="stray-x")

    assert isinstance(item, InputRejected)
    assert item.reason == "the plan does not name this device, and already too many others"
    assert "stray-x" not in ingest.held
    assert isinstance(take(ingest, "gas", gas(2), device="stray-0")[0], FrameHeld), "who is known is heard on"
    assert isinstance(take(ingest, "gas", gas())[0], FrameHeld), "whom the plan names has a place"
    again = an_ingest()
    again.resume(ingest.waiting())
    assert isinstance(take(again, name, payload, device="stray-x")[0], InputRejected), "after a restart too"
    named = [msgspec.structs.replace(THE_PLAN.instruments[0], device=f"stray-{number}") for number in range(2)]
    ingest.know(msgspec.structs.replace(THE_PLAN, version=2, instruments=[*THE_PLAN.instruments, *named]))
    assert take(ingest, "gas", gas(), device="stray-y") == [FrameHeld("stray-y", gas())]


def test_before_the_first_plan_a_large_site_may_begin_at_once() -> None:
    ingest = Ingest(SITE_ID, {}, verify, PLAN_KEY.public_key)
    for number in range(2 * MOST_STRANGERS):
        assert isinstance(take(ingest, "gas", gas(), device=f"gas-{number}")[0], FrameHeld)


# -- the same, through a whole host ----------------------------------------------------------------------------------


class Told:
    """A host on a broker in memory, told messages one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._start()
        self.bus = MemoryBroker().bus("gw")
        self.published: list[tuple[str, bytes]] = []
        self.bus.publish = self._publish  # type: ignore[method-assign]

    async def _publish(self, topic: str, payload: bytes, **_: object) -> None:
        self.published.append((topic.removeprefix(root(SITE_ID)), payload))

    def tell(self, *messages: tuple[str, bytes], at: float = 0.0) -> None:
        """Give one batch `at` seconds after EPOCH."""
        parsed = []
        for name, payload in messages:
            device = {"g": "gas-1", "s": "gas-1", "u": "lock-1"}.get(name[0], "")
            parsed.append((Address(SITE_ID, device, name), Message(name, payload)))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(tell(self.host, self.journal, parsed, EPOCH + at, self.bus))

    def restart(self) -> None:
        self.journal.close()
        self._start()

    def _start(self) -> None:
        self.journal = open_journal(self.folder)
        self.host = a_host(self.journal, SITE_ID, PLAN_KEY.public_key, LogOutput())

    def said(self, kind: type[object]) -> list[object]:
        reader = JournalReader(path_of(self.folder))
        events = reader.events_after(SITE_ID, 0, 1000)
        reader.close()
        return [event for _, event in events if isinstance(event, kind)]

    def batches(self) -> int:
        return len(list(self.journal.replay(SITE_ID)))


def test_held_frames_survive_restarts_and_are_judged_once(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.tell(("api/plan", signed_plan()), ("gas", gas(1)), ("gas", gas(2)))
    told.restart()
    told.tell(("gas", gas(3)), at=1)
    told.restart()
    told.tell(("state", encode(a_birth())), at=2)
    ledger = told.host.engine.site.instruments["gas-1"].ledger
    assert (ledger.received, ledger.duplicate, ledger.missing_count) == (3, 0, 0)

    told.restart()
    told.tell(("state", encode(a_birth())), at=3)
    told.tell(("gas", gas(4)), at=4)

    ledger = told.host.engine.site.instruments["gas-1"].ledger
    assert (ledger.received, ledger.duplicate, ledger.missing_count) == (4, 0, 0)
    assert told.said(MessageRejected) == []
    assert told.said(FramesMissed) == []
    told.journal.close()


def test_a_device_that_no_plan_names_is_released_once_however_often_the_gateway_restarts(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.tell(("gas", gas(1)))
    told.tell(("state", encode(a_birth())), at=1)
    batches = told.batches()
    for at in (2, 3):
        told.restart()
        told.tell(("state", encode(a_birth())), at=at)

    assert told.batches() == batches
    told.journal.close()


def test_a_device_is_asked_for_its_birth_at_most_every_ten_seconds(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for second in range(21):
        told.tell(("gas", gas(second + 1)), at=second)

    asked = [decode(payload, DeviceCommand, "test") for topic, payload in told.published if topic == "dev/gas-1/cmd"]
    assert [(command.do, command.exp) for command in asked] == [("rebirth", int(EPOCH) + at + 30) for at in (0, 10, 20)]
    told.tell(("state", encode(a_birth())), at=40)
    told.tell(("gas", gas(22)), at=60)
    assert len(told.published) == 3
    told.journal.close()


def test_acts_follow_their_command_and_a_replay_does_not_repeat_them(tmp_path: Path) -> None:
    told = Told(tmp_path)
    envelope = {"id": "greet-1", "site": SITE_ID, "at": EPOCH, "exp": EPOCH + 30, "by": "attendant", "lock": "lock-1"}
    greet = encode(msgspec.convert(envelope, GreetLock))
    told.tell(
        ("api/plan", signed_plan(msgspec.structs.replace(THE_PLAN, permits=[a_permit()]))),
        ("up/state", codec_ble.encode_state(a_lock_state(log_seq=0))),  # of an unknown lock no grant is written
        ("api/cmd", greet),
        ("api/cmd", encode(msgspec.convert(envelope | {"id": "greet-2", "lock": "lock-9"}, GreetLock))),
    )
    assert told.published == [("dev/lock-1/down/hello", b"\x01")]
    write = Desk().write_grant().command
    assert isinstance(write, WriteGrant)
    told.tell(("api/cmd", encode(write)), ("api/cmd", encode(Desk().check_in().command)), at=1)
    assert told.published[1:] == [("dev/lock-1/down/grant", b"\x00")]

    told.restart()
    told.published.clear()
    assert told.published == []
    told.tell(("api/cmd", greet), ("api/cmd", encode(write)), at=2)
    assert [topic for topic, _ in told.published] == ["dev/lock-1/down/hello", "dev/lock-1/down/grant"], (
        "repeats of the api are obeyed"
    )
    told.tell(("up/result", b"\xff"), ("api/cmd", encode(write)), at=3)
    assert len(told.published) == 2, "a grant the lock has answered is not written again"
    told.journal.close()


def test_a_locks_log_is_asked_for_until_it_is_known(tmp_path: Path) -> None:
    told = Told(tmp_path)
    state = codec_ble.encode_state(a_lock_state(log_seq=2))
    record = codec_ble.encode_record
    told.tell(("api/plan", signed_plan()), ("up/state", state))
    told.tell(("up/log", record(RECORD)), at=1)
    told.tell(("up/log", record(msgspec.structs.replace(RECORD, seq=2))), ("up/state", state), at=2)

    asked = [codec_ble.decode_log_request(payload).seq for topic, payload in told.published if topic.endswith("logctl")]
    assert asked == [1, 2]
    told.tell(("up/log", record(RECORD)), at=3)
    assert len(asked) == 2
    told.journal.close()


def test_the_log_of_a_lock_nobody_knows_is_asked_for_by_nobody(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.tell(("up/log", codec_ble.encode_record(RECORD)), ("up/state", codec_ble.encode_state(a_lock_state())))

    assert told.published == []
    told.journal.close()


def test_a_slow_clock_is_learnt_once_and_a_backlog_is_still_late() -> None:
    ingest = an_ingest(birth=a_birth())

    assert ingest.clock_behind("gas-1", 7, 31.0) == 31.0  # always 31 s behind: live
    assert ingest.clock_behind("gas-1", 7, 631.0) == 31.0  # ten minutes in a queue: late by what is beyond
    assert ingest.clock_behind("gas-1", 7, 30.5) == 30.5
    assert ingest.clock_behind("gas-1", 7, 30.45) == 30.5  # no news: what is late is so by seconds
    assert ingest.clock_behind("gas-1", 8, 2.0) == 2.0  # a new boot, perhaps a new clock
    assert ingest.clock_behind("gas-1", 8, -3.0) == 0.0  # ahead of us is not late
