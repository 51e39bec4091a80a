"""A lock's way into the records, and keys' way into locks: who must agree, what is refused, what is believed."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import desk, enrolments, key_changes, lock_orders, store
from api.enrolments import LockEnrolment
from api.public_keys import PublicKeys, load_public_keys
from api.rotations import KeyRotation, agreement_failures
from gateway.ingest import Ingest
from manway import codec_ble
from manway.codec_ble import lock_id_of
from manway.codec_mqtt import decode_command, encode
from manway.commands import GreetLock, RelayEnrolment
from manway.cose import HELLO_AAD, MAX_MESSAGE, RESULT_AAD
from manway.enrolment import NOT_PAIRED, NOT_REACHED, EnrolInfo, decode, encode_info, is_authentic
from manway.entities import Lock, LockHello, LockResult, PermitState, Person, ResultCode, Space
from manway.errors import DecodeRejected
from manway.events import AnyEvent, CommandRefused, EnrolmentAnswered, LockGreeted, PlanApplied
from manway.ids import GrantKind
from manway.inputs import InputRejected
from manway.runtime.ports import Message
from manway.runtime.signing import SigningKey
from manway.topics import device_topic, parse
from tests.kit.api import LOCK, SPACE, Bench, an_api
from tests.kit.builders import a_lock_state
from tests.kit.locks import HOLDER, ISSUER, SECRET, SITE, seeded_key

NEW = seeded_key(0xD0)
KEYS = PublicKeys(ISSUER.public_key, seeded_key(0xB0).public_key, SITE.public_key, HOLDER.public_key)
NONCE = bytes(range(16))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        with bench.records.change() as db:
            store.put(db, "Person", "m2", Person("m2", 902, {"en": "Second"}, ["manager"]))
        bench.office.keys = KEYS
        bench.look()
        yield bench


def entrance(bench: Bench, space: str = "n05") -> str:
    with bench.records.look() as db:
        return desk.space_of(db, space).entrances[0].id


def proposed(bench: Bench, **changed: object) -> dict[str, object]:
    body = {"space": "n05", "entrance": entrance(bench), "device": "lock-x1"} | changed
    answer = bench.post("manager", "/api/v1/locks/enrolments", body)
    assert answer.status_code == 201, answer.json()
    return dict(answer.json())


def confirmed(bench: Bench, **changed: object) -> str:
    key = str(proposed(bench, **changed)["id"])
    assert bench.post("m2", f"/api/v1/locks/enrolments/{key}/confirm").json()["state"] == "confirmed"
    return key


def present(bench: Bench, key: str, secret: str = SECRET.hex(), passkey: str = "") -> int:
    body = {"secret": secret, "passkey": passkey}
    return bench.post("attendant", f"/api/v1/locks/enrolments/{key}/secret", body).status_code


def of(bench: Bench, key: str) -> LockEnrolment:
    with bench.records.look() as db:
        return enrolments.of(db, key)


def sent(bench: Bench, kind: type[RelayEnrolment] | type[GreetLock]) -> list[RelayEnrolment | GreetLock]:
    with bench.records.look() as db:
        bodies = db.execute(store.command.select().order_by(store.command.c.exp, store.command.c.id)).all()
    return [
        msgspec.json.decode(row.body, type=kind) for row in bodies if msgspec.json.decode(row.body)["type"] == kind.__name__
    ]


def hear(bench: Bench, event: AnyEvent) -> None:
    with bench.records.change() as db:
        enrolments.heard(db, bench.office, event)  # type: ignore[arg-type]


def answered(bench: Bench, key: str, message: bytes, *, lock: str = "lock-x1", cause: str | None = None) -> LockEnrolment:
    command = of(bench, key).command if cause is None else cause
    named = {"id": f"e-{len(message)}", "at": bench.now(), "site": "yard-north", "cause": command}
    hear(bench, EnrolmentAnswered(**named, lock=lock, message=message.hex()))  # type: ignore[arg-type]
    return of(bench, key)


def shown(key: SigningKey = NEW, *, in_mode: bool = True) -> bytes:
    return encode_info(EnrolInfo(key.public_key, NONCE, b"hardware", (0, 1, 4, 2), in_mode))


def result(key: SigningKey = NEW, *, code: ResultCode = ResultCode.ENROLLED, cti: bytes = NONCE) -> bytes:
    said = LockResult(lock_id_of(NEW.public_key), cti, code, a_lock_state(), bytes(32))
    return key.sign(RESULT_AAD, codec_ble.encode_result(said))


def hello(key: SigningKey = NEW, *, kid: bytes = ISSUER.kid) -> bytes:
    said = LockHello(lock_id_of(NEW.public_key), NONCE, a_lock_state(), bytes(32), 0, (kid, bytes(4)), (0, 1, 4, 2))
    return key.sign(HELLO_AAD, codec_ble.encode_hello(said))


def given(bench: Bench) -> str:
    """An enrolment whose lock has been given its keys."""
    key = confirmed(bench)
    assert present(bench, key) == 200
    assert answered(bench, key, shown()).state == "given"
    return key


# ---- who must agree


def test_one_manager_is_not_enough_and_nobody_else_has_a_say(bench: Bench) -> None:
    row = proposed(bench)
    path = f"/api/v1/locks/enrolments/{row['id']}/confirm"
    refused = bench.post("manager", path)
    assert (refused.status_code, refused.json()["failures"][0]["check"]) == (409, "TWO_PERSONS")
    for account in ("worker", "attendant", "approver", "auditor"):
        assert bench.post(account, path).status_code == 403
    assert bench.post("m2", path).status_code == 200
    assert bench.post("m2", path).status_code == 409  # once is enough
    actions = [action for action in bench.audit_actions() if "Enrolment" in action]
    assert actions == ["p04 LockEnrolmentProposed", "m2 LockEnrolmentConfirmed"]
    listed = bench.get("worker", "/api/v1/locks/enrolments").json()["items"]
    assert [(one["state"], one["device"], one["why"]) for one in listed] == [("confirmed", "lock-x1", "")]
    assert not {"public_key", "advertisement_key", "nonce"} & listed[0].keys()


def test_what_cannot_be_is_refused_at_once(bench: Bench) -> None:
    body = {"space": "n05", "entrance": "none", "device": "lock-x1"}
    assert (
        bench.post("manager", "/api/v1/locks/enrolments", body).json()["failures"][0]["text"]
        == "The space has no entrance none"
    )
    assert bench.post("manager", "/api/v1/locks/enrolments", body | {"space": "n99"}).status_code == 404
    for wrong in ({"device": "Lock 1"}, {"device": "a/b"}, {"address": "C0:00"}, {"address": "c0:00:00:00:00:05"}):
        assert bench.post("manager", "/api/v1/locks/enrolments", body | wrong).status_code == 422
    assert bench.post("manager", "/api/v1/locks/enrolments/none/confirm").status_code == 404
    key = str(proposed(bench)["id"])
    assert present(bench, key) == 409  # nobody has confirmed it
    assert present(bench, key, "abc") == 422


def test_a_space_with_work_in_it_keeps_its_lock(bench: Bench) -> None:
    key = confirmed(bench, space=SPACE, entrance=entrance(bench, SPACE))
    bench.make_permit(PermitState.APPROVED)
    refused = bench.post("attendant", f"/api/v1/locks/enrolments/{key}/secret", {"secret": SECRET.hex()})
    assert refused.json()["failures"][0]["text"] == f"A permit holds space {SPACE}: its lock is not changed now"


def test_without_public_keys_nothing_is_begun(bench: Bench) -> None:
    bench.office.keys = PublicKeys()
    assert present(bench, confirmed(bench)) == 409


# ---- what is sent and what is believed


def test_the_secret_makes_one_message_and_is_forgotten(bench: Bench) -> None:
    key = given(bench)
    first, second = sent(bench, RelayEnrolment)
    assert isinstance(second, RelayEnrolment)
    assert (first.lock, first.message) == ("lock-x1", "01")  # type: ignore[union-attr]
    message = bytes.fromhex(second.message)
    assert is_authentic(message, SECRET)
    claims = decode(message)
    assert (claims.lock_id, claims.nonce) == (lock_id_of(NEW.public_key), NONCE)
    assert (claims.issuer_key, claims.site_key, claims.time) == (ISSUER.public_key, SITE.public_key, round(bench.now()))
    assert len(set(claims.advertisement_key)) > 1
    assert bench.office.enrolment_secrets == {}
    with bench.records.look() as db:
        assert SECRET.hex() not in str(db.execute(store.document.select()).all())
        assert store.get(db, Lock, "lock-x1") is None  # it has proven nothing yet
    assert of(bench, key).typed_by == "p02"


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        (b"\xff", "enrolment.unreadable"),
        (shown()[:-1], "enrolment.unreadable"),
        (shown(in_mode=False), "enrolment.not_in_mode"),
    ],
)
def test_a_lock_that_does_not_show_itself_is_given_nothing(message: bytes, failure: str, bench: Bench) -> None:
    key = confirmed(bench)
    present(bench, key)
    assert (answered(bench, key, message).state, of(bench, key).failure) == ("failed", failure)
    assert len(sent(bench, RelayEnrolment)) == 1
    row = bench.get("worker", f"/api/v1/locks/enrolments/{key}").json()
    assert row["why"]
    assert row["why"] != failure


def test_a_service_that_began_anew_asks_for_the_secret_again(bench: Bench) -> None:
    key = confirmed(bench)
    present(bench, key)
    bench.office.enrolment_secrets.clear()
    assert answered(bench, key, shown()).failure == "enrolment.secret_gone"
    assert present(bench, key) == 200
    assert answered(bench, key, shown()).state == "given"


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        (b"\xff", "enrolment.refused"),
        (result(HOLDER), "enrolment.not_proven"),
        (result(code=ResultCode.OPENED), "enrolment.not_proven"),
        (result(cti=bytes(16)), "enrolment.not_proven"),
    ],
)
def test_what_the_lock_did_not_sign_for_its_own_nonce_enrols_nothing(message: bytes, failure: str, bench: Bench) -> None:
    key = given(bench)
    assert (answered(bench, key, message).state, of(bench, key).failure) == ("failed", failure)
    with bench.records.look() as db:
        assert store.get(db, Lock, "lock-x1") is None


def test_an_answer_that_belongs_to_nothing_changes_nothing(bench: Bench) -> None:
    key = given(bench)
    assert answered(bench, key, result(), cause="another").state == "given"
    assert answered(bench, key, result(), lock="lock-x2").state == "given"
    named = {"id": "p", "at": bench.now(), "site": "yard-north"}
    hear(bench, PlanApplied(**named, version=1))  # type: ignore[arg-type]
    hear(bench, LockGreeted(**named, cause=of(bench, key).command, lock="lock-x1", hello=hello().hex()))  # type: ignore[arg-type]
    assert of(bench, key).state == "given"
    hear(bench, CommandRefused(**named, cause=of(bench, key).command, reason="command.expired"))  # type: ignore[arg-type]
    assert (of(bench, key).state, of(bench, key).failure) == ("failed", "command.expired")
    assert bench.get("worker", f"/api/v1/locks/enrolments/{key}").json()["why"] == "The gateway got it too late"


def proven(bench: Bench) -> str:
    key = given(bench)
    assert answered(bench, key, result()).state == "answered"
    return key


def test_a_proven_lock_enters_the_plan_and_ends_with_its_hello(bench: Bench) -> None:
    key = proven(bench)
    with bench.records.look() as db:
        lock, space = store.get(db, Lock, "lock-x1"), store.get(db, Space, "n05")
    assert lock is not None
    assert space is not None
    assert (lock.public_key, lock.space, [e.lock for e in space.entrances]) == (NEW.public_key, "n05", ["lock-x1"])
    assert "lock-x1" in {x.device for x in bench.plan("yard-north").locks}
    named = {"id": "p", "at": bench.now(), "site": "yard-north"}
    hear(bench, PlanApplied(**named, version=9))  # type: ignore[arg-type]
    first = of(bench, key).command
    hear(bench, CommandRefused(**named, cause=first, reason="lock.unknown"))  # type: ignore[arg-type]
    hear(bench, PlanApplied(**named, version=10))  # type: ignore[arg-type]
    greets = [one for one in sent(bench, GreetLock) if one.lock == "lock-x1"]
    assert len(greets) == 2
    last = of(bench, key).command
    assert last != first
    for garbage in ("zz", "00"):
        hear(bench, LockGreeted(**named, cause=last, lock="lock-x1", hello=garbage))  # type: ignore[arg-type]
    assert of(bench, key).state == "answered"
    hear(bench, LockGreeted(**named, cause=last, lock="lock-x1", hello=hello().hex()))  # type: ignore[arg-type]
    assert of(bench, key).state == "done"
    assert bench.audit_actions()[-1] == "p02 LockEnrolled"
    assert len(bench.events("LockEnrolled")) == 1


@pytest.mark.parametrize("said", [hello(HOLDER), hello(kid=HOLDER.kid)], ids=["another's signature", "another's keys"])
def test_a_hello_of_another_or_under_other_keys_ends_it_badly(said: bytes, bench: Bench) -> None:
    key = proven(bench)
    named = {"id": "p", "at": bench.now(), "site": "yard-north"}
    hear(bench, PlanApplied(**named, version=9))  # type: ignore[arg-type]
    hear(bench, LockGreeted(**named, cause=of(bench, key).command, lock="lock-x1", hello=said.hex()))  # type: ignore[arg-type]
    assert of(bench, key).failure == "enrolment.not_proven"


def test_an_entrance_that_is_gone_meanwhile_gets_no_lock(bench: Bench) -> None:
    key = given(bench)
    with bench.records.change() as db:
        space = desk.space_of(db, "n05")
        store.put(db, "Space", "n05", msgspec.structs.replace(space, entrances=[]), site="yard-north")
    assert answered(bench, key, result()).failure == "enrolment.entrance_gone"


def test_a_lock_that_bars_another_space_stays_there(bench: Bench) -> None:
    body = {"space": "n05", "entrance": entrance(bench), "device": LOCK}
    refused = bench.post("manager", "/api/v1/locks/enrolments", body)
    assert refused.status_code == 409
    assert SPACE in refused.text
    assert proposed(bench, space=SPACE, entrance=entrance(bench, SPACE), device=LOCK)  # exchanged where it is


def test_a_lock_enrolled_elsewhere_meanwhile_is_not_taken_from_there(bench: Bench) -> None:
    key = given(bench)
    with bench.records.change() as db:
        store.put(db, "Lock", "lock-x1", Lock("lock-x1", b"12345678", NEW.public_key, SPACE), site="yard-north")
    assert answered(bench, key, result()).failure == "enrolment.lock_elsewhere"
    with bench.records.look() as db:
        lock = store.get(db, Lock, "lock-x1")
        assert lock is not None
        assert lock.space == SPACE


@pytest.mark.parametrize("pair", [("", "p04"), ("p04", ""), ("", "")])
def test_an_agreement_takes_two_persons_who_are_named(pair: tuple[str, str], bench: Bench) -> None:
    with bench.records.change() as db:
        store.put(db, "Person", "p04", Person("p04", 904, {"en": "Fourth"}, ["manager"]))
        assert [failure.key for failure in agreement_failures(db, *pair)] == ["two_persons.one"]


# ---- over Bluetooth


def test_a_lock_on_the_air_is_asked_at_its_address_and_paired_with_once(bench: Bench) -> None:
    key = confirmed(bench, address="C0:00:00:00:00:05")
    assert present(bench, key) == 409  # without its passkey
    assert present(bench, key, passkey="12345") == 422
    assert present(bench, key, passkey="012345") == 200
    assert answered(bench, key, shown()).state == "given"
    asked, told = sent(bench, RelayEnrolment)
    assert isinstance(asked, RelayEnrolment)
    assert isinstance(told, RelayEnrolment)
    assert (asked.address, asked.passkey) == ("C0:00:00:00:00:05", "012345")
    assert (told.address, told.passkey) == ("C0:00:00:00:00:05", "")
    assert answered(bench, key, result()).state == "answered"
    with bench.records.look() as db:
        lock = store.get(db, Lock, "lock-x1")
    assert lock is not None
    assert lock.address == "C0:00:00:00:00:05"
    again = bench.post("manager", "/api/v1/locks/enrolments", {
        "space": "n05", "entrance": entrance(bench), "device": "lock-x2", "address": "C0:00:00:00:00:05",
    })  # fmt: skip
    assert again.json()["failures"][0]["text"] == "Bluetooth address C0:00:00:00:00:05 belongs to lock-x1"


def test_a_passkey_is_for_a_lock_with_an_address(bench: Bench) -> None:
    assert present(bench, confirmed(bench), passkey="123456") == 409


@pytest.mark.parametrize(("said", "failure"), [(NOT_PAIRED, "not_paired"), (NOT_REACHED, "not_reached")])
def test_what_the_radio_could_not_bring_is_said_and_can_be_typed_again(said: bytes, failure: str, bench: Bench) -> None:
    key = confirmed(bench, address="C0:00:00:00:00:05")
    present(bench, key, passkey="123456")
    assert answered(bench, key, said).failure == f"enrolment.{failure}"
    assert bench.office.enrolment_secrets == {}
    assert "ateway could not" in bench.get("worker", f"/api/v1/locks/enrolments/{key}").json()["why"]
    assert present(bench, key, passkey="123456") == 200
    assert answered(bench, key, shown()).state == "given"


# ---- the keys


def test_a_change_of_keys_takes_two_managers_and_says_which_locks_are_missing(bench: Bench) -> None:
    path = "/api/v1/keys/rotations"
    wanted = bench.post("manager", path, {"site": "yard-north", "role": "issuer"}).json()
    assert (wanted["generation"], wanted["done"], len(wanted["missing"])) == (2, [], 6)
    assert bench.post("manager", f"{path}/{wanted['id']}/confirm").status_code == 409
    assert bench.post("m2", f"{path}/{wanted['id']}/confirm").status_code == 200
    assert bench.post("m2", f"{path}/{wanted['id']}/confirm").status_code == 409
    assert bench.post("m2", f"{path}/none/confirm").status_code == 404
    assert (
        bench.post("manager", path, {"site": "yard-north", "role": "issuer"}).status_code == 409
    )  # this very key is under way
    assert bench.post("manager", path, {"site": "nowhere", "role": "issuer"}).status_code == 404
    assert bench.post("manager", path, {"site": "yard-north", "role": "plan"}).status_code == 422
    assert {one.lock for one in sent(bench, GreetLock)} == {f"lock-n0{n}" for n in range(1, 7)}
    with bench.records.change() as db:
        key_changes.done(db, wanted["id"], LOCK)
        key_changes.done(db, wanted["id"], LOCK)
        key_changes.done(db, "none", LOCK)
        assert key_changes.waiting_for(db, "yard-north", LOCK) is None
        waits = key_changes.waiting_for(db, "yard-north", "lock-n05")
        assert isinstance(waits, KeyRotation)
    (row,) = bench.get("auditor", path).json()["items"]
    assert (row["done"], LOCK in row["missing"], len(row["missing"])) == ([LOCK], False, 5)
    bench.office.keys = PublicKeys()
    assert bench.post("manager", path, {"site": "yard-south", "role": "issuer"}).status_code == 409


def test_an_emergency_key_is_not_changed_again_before_it_was_ever_used(bench: Bench) -> None:
    """Another one would push the very key out of the locks that their gateway holds."""
    path = "/api/v1/keys/rotations"
    wanted = bench.post("manager", path, {"site": "yard-north", "role": "emergency"}).json()
    bench.post("m2", f"{path}/{wanted['id']}/confirm")
    bench.office.keys = msgspec.structs.replace(KEYS, next_site=NEW.public_key)
    refused = bench.post("manager", path, {"site": "yard-north", "role": "emergency"})
    assert refused.json()["failures"][0]["fix"] == "Enrol the locks anew"
    assert bench.post("manager", path, {"site": "yard-south", "role": "emergency"}).status_code == 201


def test_a_lock_that_is_being_opened_is_left_alone(bench: Bench) -> None:
    with bench.records.change() as db:
        lock = store.get(db, Lock, LOCK)
        assert lock is not None
        desk.emergency(db, bench.office, bench.person("worker"), LOCK)
        assert lock_orders.greet(db, bench.office, lock, GrantKind.SET_TIME) == ""
        homeless = msgspec.structs.replace(lock, space="nowhere", device="lock-n05")
        assert lock_orders.greet(db, bench.office, homeless, GrantKind.SET_TIME) == ""
    bench.wait(desk.UNLOCK_LIFE_S + 1)
    with bench.records.change() as db:
        assert lock_orders.greet(db, bench.office, lock, GrantKind.SET_TIME) != ""


def test_public_keys_are_read_where_they_are(tmp_path: Path) -> None:
    assert load_public_keys(tmp_path) == PublicKeys()
    (tmp_path / "issuer-next.pub").write_bytes(NEW.public_key)
    keys = load_public_keys(tmp_path)
    assert (keys.following("issuer"), keys.following("emergency")) == (NEW.public_key, b"")


@pytest.mark.parametrize("size", [0, MAX_MESSAGE + 1])
def test_an_answer_of_no_possible_length_is_rejected_at_the_gateway(size: int) -> None:
    ingest = Ingest("yard-north", {}, lambda *_: False, b"")
    message = Message(device_topic("yard-north", "lock-x1", "up/enrol"), bytes(size))
    (rejected,) = ingest.take(parse(message.topic), message, 0.0)
    assert isinstance(rejected, InputRejected)
    assert rejected.reason == f"an enrolment answer of {size} bytes"


def test_a_message_for_a_lock_must_be_bytes() -> None:
    relay = RelayEnrolment(id="r", site="yard-north", at=0.0, exp=1.0, by="p04", lock="lock-x1", message="zz")
    with pytest.raises(DecodeRejected):
        decode_command(encode(relay), "test")
    assert decode_command(encode(msgspec.structs.replace(relay, message="01")), "test").id == "r"
