"""The signer: it believes nobody, judges every request anew from the records and the gateways' own words, and says why not."""

import asyncio
import contextlib
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from api import auth, desk, store
from api.actions import ACTIONS, Action, Call
from api.issuing import Issuing
from api.office import Sight
from api.records import ReadOnlyRecords
from api.rotations import KeyRotation, next_generation
from api.signer import Keyring, Signer, SignGrant, SignRotation, SignTime
from api.signer import client as client_module
from api.signer.app import watch
from api.signer.client import SignerClient, introduction_of, signed_of
from api.signer.keyring import CURRENT, NEXT, load_keyring
from api.signer.messages import MOST_ANSWERED, MOST_ASKED, Declined, Introduce, Introduction, Signed, frame
from api.signer.server import Door
from api.signer.sockets import connected, listening
from manway import codec_ble, grant
from manway.codec_mqtt import Heartbeat, encode
from manway.entities import Bolt, Entrance, LockHello, Permit, PermitState, Person
from manway.errors import ActionRefused, ProfileInvalid
from manway.events import LockGreeted
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, load_or_make_key, verify
from manway.topics import root, signer_filters
from tests.contract.test_desk import active, ready
from tests.kit.api import LOCK, SITES, SPACE, Desk, a_desk, place_in
from tests.kit.brokers import until
from tests.kit.docs_tables import ROOT
from tests.kit.gateway import in_place
from tests.kit.locks import HOLDER, ISSUER, SITE, LockBench, counting_random, only, seeded_key
from tests.kit.signer import SignerInPlace

ON_BOTH = pytest.mark.usefixtures("on_both")  # SQLite and PostgreSQL
NEXT_KEY = seeded_key(0xB0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Desk]:
    with a_desk(tmp_path) as bench:
        bench.look()
        yield bench


def keys(refusal: pytest.ExceptionInfo[ActionRefused]) -> list[str]:
    return [failure.key for failure in refusal.value.failures]


def checks(refusal: pytest.ExceptionInfo[ActionRefused]) -> list[str]:
    return [failure.check for failure in refusal.value.failures]


def sign(
    bench: Desk,
    permit: Permit | None,
    kind: GrantKind = GrantKind.ENTRY,
    *,
    lock: str = LOCK,
    by: str = "p02",
    hello: bytes | None = None,
    signer: Signer | None = None,
) -> Signed:
    """Ask as the api does."""
    request = SignGrant(permit.id if permit else "", int(kind), lock, by, bench.hello(lock) if hello is None else hello)
    return signed_of((signer or bench.signer.signer).answer(request))


def a_lock(bench: Desk, lock: str = LOCK, *, ahead_s: float | None = 0.0) -> LockBench:
    """A lock on the bench whose clock is so far ahead; None: it does not know the time."""
    one = LockBench(key=bench.lock_key(lock), clock_ahead_s=None if ahead_s is None else bench.now() + ahead_s - 1.0)
    one.wait(1.0)
    return one


def said(lock: LockBench) -> bytes:
    """The lock's fresh hello."""
    return only(lock.lock.receive("hello", b"\x01", lock.now), "hello")


# ---- what it signs


@ON_BOTH
def test_a_signed_grant_is_for_this_lock_this_challenge_and_no_longer_than_the_permit(bench: Desk) -> None:
    permit, lock = ready(bench), a_lock(bench)
    signed = sign(bench, permit, hello=said(lock))
    read = grant.parse(signed.message)
    assert (read.grant.kind, read.grant.cti.hex(), read.grant.lock_id) == (GrantKind.ENTRY, signed.cti, lock.lock.lock_id)
    assert (read.grant.life_s, int.from_bytes(read.grant.holder, "big")) == (60, 2)
    assert read.grant.max_open_s == int(permit.end - bench.now())
    assert verify(ISSUER.public_key, read.signed, read.signature)
    assert lock.send(signed.message) == [2]  # PRESS_WANTED


def test_an_emergency_needs_one_signed_in_person_and_no_gas_test(bench: Desk) -> None:
    """Nothing is ventilated, tested or approved, the gateway is silent: it is signed all the same."""
    bench.office.pictures.state.clear()
    bench.office.pictures.heard_at.clear()
    read = grant.parse(sign(bench, None, GrantKind.EMERGENCY, by="p01").message).grant
    assert (read.kind, read.max_open_s, int.from_bytes(read.holder, "big")) == (GrantKind.EMERGENCY, 0, 1)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, None, GrantKind.EMERGENCY, by="p15")  # on the permits, but signed in nowhere
    assert keys(refusal) == ["requester.not_signed_in"]
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, None, GrantKind.EMERGENCY, by="nobody", hello=bench.hello("lock-n05"))
    assert keys(refusal) == ["requester.not_signed_in", "signer.hello"]


def test_a_session_that_was_idle_too_long_vouches_for_nobody(bench: Desk) -> None:
    bench.wait(auth.LONG_IDLE_S + 1)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, None, GrantKind.EMERGENCY)
    assert keys(refusal) == ["requester.not_signed_in"]


def test_an_emergency_opens_no_lock_that_its_space_does_not_name(bench: Desk) -> None:
    with bench.records.change() as db:
        space = desk.space_of(db, SPACE)
        store.put(db, "Space", SPACE, msgspec.structs.replace(space, entrances=[]), site="yard-north")
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, None, GrantKind.EMERGENCY)
    assert keys(refusal) == ["lock.other_space"]
    with bench.records.change() as db:
        db.execute(store.document.delete().where((store.document.c.kind == "Space") & (store.document.c.id == SPACE)))
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, None, GrantKind.EMERGENCY)
    assert keys(refusal) == ["signer.lock"]


def test_facts_of_one_entrance_open_no_other(bench: Desk) -> None:
    permit = ready(bench)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, lock="lock-n05")
    assert "lock.other_space" in keys(refusal)
    with bench.records.change() as db:
        two = msgspec.structs.replace(desk.space_of(db, SPACE), entrances=[Entrance("a", LOCK), Entrance("b", "lock-n05")])
        store.put(db, "Space", SPACE, two, site="yard-north")
    assert sign(bench, permit, lock="lock-n05").message


def test_a_close_out_for_a_space_with_people_is_not_signed(bench: Desk) -> None:
    permit = active(bench)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    bench.count(permit, "p15")
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, GrantKind.CLOSE_OUT)
    assert keys(refusal) == ["permit.people_inside"]
    bench.count(permit, "p15", "out")
    assert sign(bench, permit, GrantKind.CLOSE_OUT).message
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, GrantKind.CLOSE_OUT, lock="lock-n01")  # the permit is of an empty space, the lock is another's
    assert keys(refusal) == ["lock.other_space"]


def test_what_the_records_do_not_know_is_not_signed_for(bench: Desk) -> None:
    permit = ready(bench)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, msgspec.structs.replace(permit, id="no-such"))
    assert keys(refusal) == ["permit.none"]
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, lock="lock-n99", hello=bench.hello())
    assert keys(refusal) == ["signer.lock"]


# ---- T10: an api that asks for what it may not have


@pytest.fixture
def alone(bench: Desk) -> Signer:
    """A signer as its process has it: the records read-only, an own picture, and only the clock in common with the api."""
    sight = Sight(bench.clock, bench.office.limits, bench.timings)
    for site in SITES:
        sight.pictures.take(bench.office.pictures.state[site])
        sight.pictures.heard_at[site] = bench.now()
    return Signer(sight, bench.records, Keyring(ISSUER, None, counting_random()), SITES)


def test_a_route_that_says_yes_mints_no_grant(bench: Desk, alone: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """T10: the unlock route is stubbed to allow everything; the signer asks the checks itself, and names all that fail."""
    permit = bench.make_permit()  # neither ventilated nor tested

    def allowed(c: Call, _: object) -> tuple[int, dict[str, object]]:
        return 202, {"id": c.target, "state": "pending"}

    route = "POST /api/v1/permits/{permit}/unlock"
    monkeypatch.setitem(ACTIONS, route, Action(ACTIONS[route].body, allowed))
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, signer=alone)
    assert checks(refusal) == ["G01", "G06", "G10", "G11", "G12", "G22"]


def test_a_permit_that_nobody_approved_opens_nothing(bench: Desk, alone: Signer) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, GrantKind.PREP, signer=alone)
    assert "G01" in checks(refusal)
    lie = msgspec.structs.replace(permit, state=PermitState.APPROVED)  # what the api believes does not travel
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, lie, GrantKind.PREP, signer=alone)
    assert "G01" in checks(refusal)


def test_nobody_but_the_attendant_opens(bench: Desk) -> None:
    permit = ready(bench)
    for person in ("p01", "p04", "nobody"):
        with pytest.raises(ActionRefused) as refusal:
            sign(bench, permit, by=person)
        assert "attendant.not_you" in keys(refusal), person


def test_entry_before_the_gas_test_is_not_signed(bench: Desk) -> None:
    permit = msgspec.structs.replace(ready(bench), gas_test=None)
    with bench.records.change() as db:
        store.put_permit(db, permit)
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit)
    assert {"G11", "G12"} <= set(checks(refusal))


def test_the_picture_is_the_signers_own(bench: Desk, alone: Signer) -> None:
    """The api's is fresh and the signer's is stale: it signs nothing, whatever the api has on its pages."""
    permit = ready(bench)  # ventilated for minutes: the signer has heard nothing since
    assert sign(bench, permit).message
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, signer=alone)
    assert "G20" in checks(refusal)
    bench.wait(20.0)
    introduced = introduction_of(alone.answer(Introduce()))
    assert (introduced.issuer, introduced.next_issuer, introduced.deaf) == (ISSUER.public_key, b"", SITES)


# ---- hellos


def test_every_altered_or_foreign_hello_is_refused(bench: Desk) -> None:
    permit, hello = ready(bench), bench.hello()
    foreign = [bench.hello("lock-n05"), b"", b"\x00" * 174, hello[:-1], hello + b"\x00", said(LockBench(key=seeded_key(0xC0)))]
    flipped = [hello[:i] + bytes([hello[i] ^ 1]) + hello[i + 1 :] for i in range(len(hello))]
    for message in foreign + flipped:
        with pytest.raises(ActionRefused) as refusal:
            sign(bench, permit, hello=message)
        assert keys(refusal) == ["signer.hello"]
    assert sign(bench, permit, hello=hello).message


def keep(bench: Desk, key: str, hello: bytes, at: float) -> None:
    bench.add_events(LockGreeted(id=key, at=at, site="yard-north", lock=LOCK, hello=hello.hex()))


def test_a_hello_the_lock_has_overtaken_is_refused_while_it_could_live(bench: Desk) -> None:
    permit, lock = ready(bench), a_lock(bench)
    old = said(lock)
    lock.wait(2.0)
    new = said(lock)
    keep(bench, "broken", b"\x00", bench.now())
    keep(bench, "new", new, bench.now())
    keep(bench, "none", b"", bench.now())
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, hello=old)
    assert keys(refusal) == ["signer.old_hello"]
    assert sign(bench, permit, hello=new).message
    assert sign(bench, None, GrantKind.EMERGENCY, hello=old).message  # a rescue is never kept back


def test_a_lock_that_began_anew_is_not_shut_out_for_ever(bench: Desk) -> None:
    """Its boot counter may fall when its electronics are replaced: hellos are compared only while the old one could be used."""
    late = a_lock(bench)
    late.wait(100.0)
    keep(bench, "late", said(late), bench.now() - 120.0)
    assert sign(bench, ready(bench), hello=said(a_lock(bench))).message


def test_how_far_a_clock_is_off_counts_from_when_the_gateway_had_the_hello(bench: Desk) -> None:
    permit, hello = ready(bench), said(a_lock(bench))
    keep(bench, "g", hello, bench.now())
    bench.wait(8.0)
    bench.look()
    assert sign(bench, permit, hello=hello).message  # it has taken eight seconds to come here; the lock's clock is right
    with pytest.raises(ActionRefused) as refusal:
        sign(bench, permit, hello=said(a_lock(bench, ahead_s=-20.0)))  # of which the records know nothing
    assert keys(refusal) == ["lock.clock"]


# ---- a lock's clock


@pytest.mark.parametrize(
    ("ahead_s", "signed"), [(None, True), (3.5, True), (-3.5, True), (100.0, True), (2.5, False), (-1.5, False), (0.0, False)]
)
def test_a_clock_is_set_when_it_is_unknown_or_two_seconds_off(
    ahead_s: float | None,
    signed: bool,  # noqa: FBT001  a column of the table above
    bench: Desk,
) -> None:
    lock = a_lock(bench, ahead_s=ahead_s)
    answer = bench.signer.signer.answer(SignTime(LOCK, said(lock)))
    if not signed:
        assert isinstance(answer, Declined)
        assert [f.key for f in answer.failures] == ["signer.clock_right"]
        return
    order = grant.parse(signed_of(answer).message).grant
    assert (order.kind, order.time, order.life_s, order.holder) == (GrantKind.SET_TIME, round(bench.now()), 10, bytes(8))
    assert lock.send(signed_of(answer).message) == [10]  # TIME_SET
    assert isinstance(bench.signer.signer.answer(SignTime(LOCK, bench.hello("lock-n05"))), Declined)


# ---- the next key


def agreed(bench: Desk, *, by: str = "p04", confirmed: str = "m2", key: bytes = b"", role: str = "issuer") -> str:
    """A rotation in the records; a second safety manager is there to confirm it."""
    with bench.records.change() as db:
        store.put(db, "Person", "m2", Person("m2", 902, {"en": "Second"}, ["manager"]))
        rotation = KeyRotation("r1", "yard-north", role, next_generation(db, role), key or NEXT_KEY.public_key, by, bench.now())
        store.put(db, "KeyRotation", "r1", msgspec.structs.replace(rotation, confirmed_by=confirmed), site="yard-north")
    return "r1"


def rotating(bench: Desk, following: SigningKey | None = NEXT_KEY) -> Signer:
    return SignerInPlace(bench.office, bench.records, following=following, sites=SITES).signer


def test_a_lock_takes_the_next_key_and_is_then_served_under_it(bench: Desk) -> None:
    signer, lock = rotating(bench), a_lock(bench)
    order = signed_of(signer.answer(SignRotation(agreed(bench), LOCK, said(lock))))
    read = grant.parse(order.message)
    assert (read.kid, grant.decode_new_key(read.grant.new_key)) == (ISSUER.kid, grant.NewKey(0, 2, NEXT_KEY.public_key))
    assert lock.send(order.message) == [9]  # KEY_SET
    with bench.records.look() as db:
        assert (next_generation(db, "issuer"), next_generation(db, "emergency")) == (3, 2)
    hello = hello_with(bench, ISSUER.kid, NEXT_KEY.kid)
    assert grant.parse(sign(bench, None, GrantKind.EMERGENCY, hello=hello, signer=signer).message).kid == NEXT_KEY.kid
    promoted = hello_with(bench, NEXT_KEY.kid, bytes(4))
    assert grant.parse(sign(bench, None, GrantKind.EMERGENCY, hello=promoted, signer=signer).message).kid == NEXT_KEY.kid


def hello_with(bench: Desk, *kids: bytes) -> bytes:
    """A hello of LOCK that names these keys in its slots."""
    _, hello = codec_ble.open_hello(bench.hello())
    assert isinstance(hello, LockHello)
    changed = msgspec.structs.replace(hello, kids=(kids[0], kids[1]))
    return bench.lock_key(LOCK).sign(b"manway-hello-v1", codec_ble.encode_hello(changed))


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"confirmed": ""}, "two_persons.one"),
        ({"confirmed": "p04"}, "two_persons.one"),
        ({"confirmed": "p03"}, "two_persons.no_right"),
        ({"by": "p01"}, "two_persons.no_right"),
        ({"by": "nobody"}, "two_persons.no_right"),
        ({"key": HOLDER.public_key}, "signer.key"),
        ({"role": "emergency", "key": ISSUER.public_key}, "signer.key"),
        ({"role": "emergency", "key": bytes(32)}, "signer.key"),
    ],
)
def test_a_key_that_two_managers_did_not_agree_on_is_given_to_no_lock(changed: dict[str, str], key: str, bench: Desk) -> None:
    answer = rotating(bench).answer(SignRotation(agreed(bench, **changed), LOCK, bench.hello()))  # type: ignore[arg-type]
    assert isinstance(answer, Declined)
    assert [f.key for f in answer.failures] == [key]


def test_a_rotation_is_of_its_site_its_lock_and_a_key_there_is(bench: Desk) -> None:
    name = agreed(bench)
    for request, following, want in (
        (SignRotation("r2", LOCK, bench.hello()), NEXT_KEY, ["signer.rotation"]),
        (SignRotation(name, LOCK, bench.hello("lock-n05")), NEXT_KEY, ["signer.hello"]),
        (SignRotation(name, "lock-s01", bench.hello("lock-s01")), NEXT_KEY, ["signer.lock"]),
        (SignRotation(name, LOCK, bench.hello()), None, ["signer.key"]),
    ):
        answer = rotating(bench, following).answer(request)
        assert isinstance(answer, Declined)
        assert [f.key for f in answer.failures] == want
    emergency = agreed(bench, role="emergency", key=SITE.public_key)
    order = grant.parse(signed_of(rotating(bench, None).answer(SignRotation(emergency, LOCK, bench.hello()))).message).grant
    assert grant.decode_new_key(order.new_key) == grant.NewKey(2, 2, SITE.public_key)


def test_the_keys_are_the_signers_own_files(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="missing"):
        load_keyring(tmp_path, counting_random())
    current = load_or_make_key(tmp_path / CURRENT)
    assert load_keyring(tmp_path, counting_random()).next_public_key == b""
    following = load_or_make_key(tmp_path / NEXT)
    ring = load_keyring(tmp_path, counting_random())
    assert (ring.public_key, ring.next_public_key) == (current.public_key, following.public_key)
    (tmp_path / CURRENT).chmod(0o644)
    with pytest.raises(ProfileInvalid, match="owner's alone"):
        load_keyring(tmp_path, counting_random())


@pytest.mark.parametrize(("records", "says"), [("", "this key is missing"), ("mysql://x", "setting `records`")])
def test_a_signer_that_cannot_start_says_what_to_do(records: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "signer.toml"
    config.write_text(f'data = "{tmp_path}"\nsites = ["demo"]\nrecords = "{records}"\n')
    if records:
        (tmp_path / "keys").mkdir()
        load_or_make_key(tmp_path / "keys" / CURRENT)
    done = subprocess.run(
        [sys.executable, "-m", "api.signer", str(config)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("signer: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


# ---- records it cannot read


def test_without_the_records_it_signs_nothing_and_says_so(bench: Desk, tmp_path: Path) -> None:
    away = Signer(
        bench.office, ReadOnlyRecords(tmp_path / "gone" / "records.db"), Keyring(ISSUER, None, counting_random()), SITES
    )
    empty = tmp_path / "empty.db"
    empty.touch()
    unmade = Signer(bench.office, ReadOnlyRecords(empty), Keyring(ISSUER, None, counting_random()), SITES)
    for signer in (away, unmade):
        with pytest.raises(ActionRefused) as refusal:
            sign(bench, None, GrantKind.EMERGENCY, signer=signer)
        assert keys(refusal) == ["signer.records"]


@ON_BOTH
def test_it_reads_what_the_api_has_committed_and_can_write_nothing(bench: Desk, tmp_path: Path) -> None:
    records = ReadOnlyRecords(place_in(tmp_path))
    signer = Signer(bench.office, records, Keyring(ISSUER, None, counting_random()), SITES)
    assert sign(bench, ready(bench), signer=signer).message
    with records.look() as db, pytest.raises(Exception, match=r"read-?only"):
        db.execute(store.session.delete())
    records.close()


# ---- the socket


@contextlib.asynccontextmanager
async def a_door(bench: Desk, path: Path) -> AsyncIterator[SignerClient]:
    async with Door(bench.signer.signer, in_place).open(path):
        yield SignerClient(path)


async def test_over_the_socket_it_is_the_same_signer(bench: Desk, tmp_path: Path) -> None:
    permit = ready(bench)
    async with a_door(bench, tmp_path / "signer.sock") as client:
        assert (await client.introduce()).issuer == ISSUER.public_key
        request = SignGrant(permit.id, int(GrantKind.ENTRY), LOCK, "p02", bench.hello())
        assert grant.parse((await client.sign(request)).message).grant.kind is GrantKind.ENTRY
        with pytest.raises(ActionRefused) as refusal:
            await client.sign(msgspec.structs.replace(request, by="p01"))
        assert keys(refusal) == ["attendant.not_you"]
        many = await asyncio.gather(*(client.introduce() for _ in range(12)))
        assert len(many) == 12
    assert not (tmp_path / "signer.sock").exists()


async def test_who_leaves_does_not_take_the_door_of_who_came_after(bench: Desk, tmp_path: Path) -> None:
    """As when a signer is started again before the old one has gone."""
    path = tmp_path / "signer.sock"
    async with contextlib.AsyncExitStack() as old:
        await old.enter_async_context(a_door(bench, path))
        async with a_door(bench, path) as client:
            await old.aclose()
            assert (await client.introduce()).issuer == ISSUER.public_key
        assert not path.exists()


async def test_a_door_whose_file_was_taken_away_closes_all_the_same(bench: Desk, tmp_path: Path) -> None:
    async with a_door(bench, tmp_path / "signer.sock"):
        (tmp_path / "signer.sock").unlink()


async def test_only_its_user_and_group_may_open_it_however_long_its_path(bench: Desk, tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-name-" * 10) / ("and-a-longer-one-" * 5)
    folder.mkdir(parents=True)
    path = folder / "signer.sock"
    path.write_text("left by one that died")
    async with a_door(bench, path) as client:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await client.introduce()).deaf == []


def big(size: int) -> bytes:
    return size.to_bytes(4, "big")


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x00", big(0), big(MOST_ASKED + 1), big(2**32 - 1), big(5) + b"abc", big(3) + b"abc", big(1) + b"\xc1",
     frame(Introduction(b"", b"", [])), frame(SignTime("x" * 65, b"")), frame(SignGrant("", 5, "", "", b"")),
     frame(SignTime("", bytes(245)))],
)  # fmt: skip
async def test_what_is_no_request_gets_no_answer_and_ends_nothing(sent: bytes, bench: Desk, tmp_path: Path) -> None:
    path = tmp_path / "signer.sock"
    async with a_door(bench, path) as client:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (await client.introduce()).issuer == ISSUER.public_key


async def test_a_slow_asker_is_sent_away(bench: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.signer.server._READ_S", 0.05)
    path = tmp_path / "signer.sock"
    async with a_door(bench, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"\x00")
        assert await reader.read() == b""
        writer.close()


async def test_more_at_once_than_it_takes_are_sent_away(bench: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.signer.server._MOST_AT_ONCE", 1)
    path = tmp_path / "signer.sock"
    async with a_door(bench, path) as client:
        _, first = await asyncio.open_unix_connection(str(path))
        with pytest.raises(ActionRefused) as refusal:
            await client.introduce()
        assert keys(refusal) == ["signer.silent"]
        first.close()
        async with asyncio.timeout(20):
            while not await introduced(client):  # noqa: ASYNC110  until it has seen that the first has left
                await asyncio.sleep(0.01)


async def introduced(client: SignerClient) -> bool:
    with contextlib.suppress(ActionRefused):
        return bool((await client.introduce()).issuer)
    return False


# ---- no answer is a refusal that says so


async def test_a_signer_that_is_not_there_is_said_to_be_silent(tmp_path: Path) -> None:
    for call in asked(SignerClient(tmp_path / "signer.sock")):
        with pytest.raises(ActionRefused) as refusal:
            await call()
        assert [(f.key, f.fix) for f in refusal.value.failures] == [("signer.silent", "signer.use_panel")]


def asked(client: SignerClient) -> list[Callable[[], Awaitable[object]]]:
    return [client.introduce, lambda: client.sign(SignTime(LOCK, b""))]


@pytest.mark.parametrize(
    "answer", [None, b"", b"\x00\x00", big(MOST_ANSWERED + 1), big(3) + b"abc", frame(Introduce()), "the other kind"]
)  # fmt: skip
async def test_an_answer_that_does_not_come_or_makes_no_sense_is_none(
    answer: bytes | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ANSWERS_WITHIN_S", 0.1)
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(100)
        if answer is None:
            await release.wait()
        elif isinstance(answer, bytes):
            writer.write(answer)
        else:
            other = Signed("", b"") if b"Introduce" in request else Introduction(b"", b"", [])
            writer.write(frame(other))
        writer.close()

    path = tmp_path / "signer.sock"
    async with await asyncio.start_unix_server(serve, path):
        for call in asked(SignerClient(path)):
            with pytest.raises(ActionRefused) as refusal:
                await call()  # and not for ever
            assert keys(refusal) == ["signer.silent"]
        release.set()


async def test_a_signer_that_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    """Its queue of connections is full and it takes none: connecting must not wait for it."""
    path = tmp_path / "signer.sock"
    stands, waiting = listening(path), list[socket.socket]()
    with contextlib.suppress(BlockingIOError):
        while len(waiting) < 100:
            waiting.append(connected(path))
    assert 0 < len(waiting) < 100
    with pytest.raises(ActionRefused):
        await SignerClient(path).introduce()
    for one in (stands, *waiting):
        one.close()


# ---- what the api makes of it


class Silent:
    """A signer that is away until it is told to be there."""

    def __init__(self, signer: SignerInPlace) -> None:
        self._signer, self.away, self.deaf = signer, True, list[str]()

    async def sign(self, request: SignGrant | SignTime | SignRotation) -> Signed:
        self._refuse()
        return await self._signer.sign(request)

    async def introduce(self) -> Introduction:
        self._refuse()
        return Introduction(ISSUER.public_key, b"", self.deaf)

    def _refuse(self) -> None:
        if self.away:
            raise client_module.silent()


async def test_the_api_knows_whether_its_signer_is_there_and_hears_what_it_hears(
    bench: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.issuing._INTRODUCE_S", 0.01)
    signer = Silent(bench.signer)
    issuing = asyncio.create_task(Issuing(bench.office, signer, in_place).run())
    for signer.away, signer.deaf, wanted in (
        (True, [], "signer.silent"),
        (False, [], ""),
        (False, ["yard-north"], "signer.deaf"),
        (False, ["nobody-heard"], ""),
    ):
        await until(lambda: bench.office.signer_fault == wanted)  # noqa: B023  awaited in this very turn
    issuing.cancel()


# ---- the gateways' own words


async def test_it_takes_pictures_and_heartbeats_and_stumbles_over_nothing(bench: Desk) -> None:
    sight = Sight(bench.clock, bench.office.limits, bench.timings)
    bus = bench.broker.bus("signer", [(f, 0) for f in signer_filters("yard-north")])
    gateway = bench.broker.bus("gw-1", [])
    async with bus, gateway:
        task = asyncio.create_task(watch(sight, bus))
        await gateway.publish(f"{root('yard-north')}gw/state", b"{")
        await gateway.publish(f"{root('yard-north')}gw/state", encode(bench.office.pictures.state["yard-north"]))
        await gateway.publish(f"{root('yard-north')}gw/heartbeat", encode(Heartbeat("gw-1", 1, 1, bench.now())))
        await gateway.publish(f"{root('yard-north')}gw/event", b"{}")
        await until(lambda: "yard-north" in sight.pictures.heard_at)
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
    assert sight.pictures.state.keys() == {"yard-north"}
    assert sight.pictures.age_s("yard-north", bench.now()) == 0.0
