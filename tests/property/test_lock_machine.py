"""Two virtual locks, one network that replays, reorders, cross-delivers and damages: no opening without its grant.

The model below knows only what was signed and what was heard; it never looks into a lock's memory. It demands
I1: a lock opens, changes its session or arms only for a message signed for it, for its outstanding challenge, in time;
I2: one grant acts at most once, through reboots and power cuts at any record; I3: the bolt is thrown only by a press
after an accepted CLOSE_OUT, with the door closed; I4: an honest grant in time is never refused, so that the machine
does not pass by refusing everything.
"""

from collections import Counter

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from firmware_sim.lock import Publish
from manway import codec_ble
from manway.entities import Bolt, Door, LogEvent, ResultCode
from manway.ids import GrantKind
from tests.kit.locks import HOLDER, ISSUER, LOCK, SITE, LockBench, only

COUNTS: Counter[str] = Counter()
ACTED = {ResultCode.OPENED, ResultCode.SESSION_CHANGED, ResultCode.LOCKED, ResultCode.JAMMED}
SIGNERS = {"issuer": ISSUER, "site": SITE, "stranger": HOLDER}

at_lock = st.sampled_from([0, 1])
kinds = st.sampled_from([GrantKind.PREP, GrantKind.ENTRY, GrantKind.ENTRY, GrantKind.EMERGENCY, GrantKind.CLOSE_OUT])


class PowerLost(BaseException):
    """The supply breaks while a record is written."""


class CuttableFlash(list[bytes]):
    """A flash in which the n-th write from now loses power; 0 is never."""

    cut_in = 0

    def append(self, record: bytes) -> None:
        self.cut_in -= 1
        if self.cut_in == 0:
            raise PowerLost
        super().append(record)


class Signed(msgspec.Struct):
    """A message and what was true of it when it was signed."""

    message: bytes
    at: int
    kind: GrantKind
    signer: str
    challenge: bytes
    life_s: int
    cti: bytes


class Model(msgspec.Struct):
    """What an observer knows of one lock: the outstanding challenge, and the last one heard, which may be spent."""

    challenge: bytes = b""
    heard: bytes = bytes(16)
    challenged_at: float = 0.0
    boot_at: float = 0.0
    seen_bolt: Bolt = Bolt.LOCKED


class TwoLocks(RuleBasedStateMachine):
    """The world around two locks that trust the same issuer."""

    @initialize()
    def start(self) -> None:
        self.flashes = [CuttableFlash(), CuttableFlash()]
        keys = (LOCK, HOLDER)
        self.benches = [LockBench(key=key, flash=flash) for key, flash in zip(keys, self.flashes, strict=True)]
        self.models = [Model(), Model()]
        self.network: list[Signed] = []
        self.accepted: set[bytes] = set()
        self.acted: set[bytes] = set()
        COUNTS["runs"] += 1

    # --- what an observer derives

    def live(self, at: int, sent: Signed) -> bool:
        """Whether a lock may accept the message now."""
        model, now = self.models[at], self.benches[at].now
        allowed = sent.signer == "issuer" or (sent.signer == "site" and sent.kind is GrantKind.EMERGENCY)
        age = int((now - model.boot_at) * 10) - int((model.challenged_at - model.boot_at) * 10)
        return sent.at == at and allowed and sent.challenge == model.challenge and age <= sent.life_s * 10

    def hear(self, at: int, out: list[Publish], sent: Signed | None = None, *, live: bool = False) -> None:
        """Judge what a lock said; `sent` is what it was just given and `live` whether it might accept it."""
        for result in self.benches[at].results(out):
            if isinstance(result, bytes):
                COUNTS["refused"] += 1
                continue
            own = sent is not None and result.cti == sent.cti
            if own and result.cti not in self.accepted:
                assert live, f"accepted what is not live: {sent}"
                self.accepted.add(result.cti)
                self.models[at].challenge = b""
                COUNTS["accepted"] += 1
            assert result.cti in self.accepted, "a result for a grant nobody accepted"
            duplicate = own and not live
            if result.code in ACTED and not duplicate:
                assert result.cti not in self.acted, "one grant acted twice"
                self.acted.add(result.cti)
                COUNTS[result.code.name] += 1

    def guarded(self, at: int, name: str, payload: bytes, sent: Signed | None = None, *, live: bool = False) -> None:
        """Deliver a message; a power cut in it is followed by a reboot."""
        bench, model = self.benches[at], self.models[at]
        try:
            out = bench.lock.receive(name, payload, bench.now)
        except PowerLost:
            COUNTS["power cuts"] += 1
            if sent is not None and live:
                self.accepted.add(sent.cti)
            bench.lock.lose_power()
            out = bench.lock.reboot(bench.now)
            model.challenge, model.boot_at = b"", bench.now
        self.flashes[at].cut_in = 0
        self.hear(at, out, sent, live=live)

    # --- what happens

    @rule(at=at_lock)
    def hello(self, at: int) -> None:
        bench = self.benches[at]
        out = bench.lock.receive("hello", codec_ble.HELLO_REQUEST, bench.now)
        if any(sent.name == "hello" for sent in out):
            _, hello = codec_ble.open_hello(only(out, "hello"))
            model = self.models[at]
            model.challenge = model.heard = hello.challenge
            model.challenged_at = bench.now
        self.hear(at, out)

    def sign(self, at: int, kind: GrantKind, signer: str, life_s: int) -> Signed:
        bench, model = self.benches[at], self.models[at]
        challenge = model.heard  # outstanding or spent: whoever signs may be behind
        cti = len(self.network).to_bytes(16, "big")
        message = bench.order(kind, challenge=challenge, signer=SIGNERS[signer], life_s=life_s, cti=cti)
        sent = Signed(message, at, kind, signer, challenge, life_s, cti)
        self.network.append(sent)
        COUNTS["signed"] += 1
        return sent

    @rule(
        at=at_lock,
        kind=kinds,
        signer=st.sampled_from(["issuer", "issuer", "site", "stranger"]),
        life_s=st.sampled_from([5, 60]),
    )
    def sign_only(self, at: int, kind: GrantKind, signer: str, life_s: int) -> None:
        """A message for the challenge heard last, left in the network."""
        self.sign(at, kind, signer, life_s)

    def unlock(self, at: int, kind: GrantKind) -> None:
        self.wait(0.5)
        self.hello(at)
        self.deliver_to(at, self.sign(at, kind, "issuer", 60))

    @rule(at=at_lock, kind=st.sampled_from([GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY]), press=st.booleans())
    def honest_opening(self, at: int, kind: GrantKind, *, press: bool) -> None:
        """An attendant's whole unlock: hello, grant, press or none."""
        self.unlock(at, kind)
        if press:
            self.press(at)

    @rule(at=at_lock, press=st.booleans())
    def honest_lock_up(self, at: int, *, press: bool) -> None:
        """An attendant's whole lock-up: door closed, hello, order, press or none."""
        self.close_door(at)
        self.wait(2)
        self.unlock(at, GrantKind.CLOSE_OUT)
        if press:
            self.press(at)

    @rule(at=at_lock, data=st.data())
    def deliver(self, at: int, data: st.DataObject) -> None:
        """Any message ever signed, to either lock, as often as it likes."""
        if self.network:
            self.deliver_to(at, self.network[data.draw(st.integers(0, len(self.network) - 1))])

    @rule(at=at_lock)
    def deliver_newest(self, at: int) -> None:
        if self.network:
            self.deliver_to(at, self.network[-1])

    def deliver_to(self, at: int, sent: Signed) -> None:
        bench = self.benches[at]
        live, before = self.live(at, sent), len(bench.flash)
        possible = sent.kind is not GrantKind.CLOSE_OUT or (
            bench.lock.body.door is Door.CLOSED and bench.lock.body.bolt is Bolt.RETRACTED
        )
        COUNTS["deliveries"] += 1
        refused = COUNTS["refused"]
        cut = self.flashes[at].cut_in > 0
        self.guarded(at, "grant", sent.message, sent, live=live)
        if live and possible and not cut and COUNTS["refused"] > refused:  # I4
            new = [codec_ble.decode_record(record) for record in bench.flash[before:]]
            reasons = [record.cause for record in new if record.event == LogEvent.REFUSED]
            throttled = sum(record.event == LogEvent.REFUSED for record in bench.log) >= 5
            assert throttled, f"an honest grant was refused: {reasons}"

    @rule(at=at_lock, kind=kinds, bit=st.integers(0, 8 * 154 - 1))
    def damaged(self, at: int, kind: GrantKind, bit: int) -> None:
        """An honest message with one bit wrong, then with a tail, then cut short, then as it was."""
        self.wait(0.5)
        self.hello(at)
        sent = self.sign(at, kind, "issuer", 60)
        flipped = bytearray(sent.message)
        flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
        for wrong in (bytes(flipped), sent.message + bytes([bit % 256]), sent.message[: bit // 8 % len(flipped)]):
            COUNTS["damaged"] += 1
            self.guarded(at, "grant", wrong)
        self.deliver_to(at, sent)

    @rule(at=at_lock, kind=kinds, seconds=st.sampled_from([59, 60, 60.1, 61]))
    def late(self, at: int, kind: GrantKind, seconds: float) -> None:
        """An honest message that the network held back."""
        self.wait(0.5)
        self.hello(at)
        sent = self.sign(at, kind, "issuer", 60)
        self.wait(seconds)
        self.deliver_to(at, sent)

    @rule(at=at_lock, kind=kinds, signer=st.sampled_from(["site", "stranger"]))
    def by_another_key(self, at: int, kind: GrantKind, signer: str) -> None:
        """A message for the fresh challenge, signed by a stolen site key or a stranger's."""
        self.wait(0.5)
        self.hello(at)
        self.deliver_to(at, self.sign(at, kind, signer, 60))

    @rule(at=at_lock, kind=kinds)
    def for_the_other_lock(self, at: int, kind: GrantKind) -> None:
        """A message that names one lock and answers the fresh challenge of the other, delivered there."""
        self.wait(0.5)
        self.hello(1 - at)
        self.models[at].heard = self.models[1 - at].heard
        self.deliver_to(1 - at, self.sign(at, kind, "issuer", 60))

    @rule(at=at_lock, first=kinds, second=kinds)
    def two_for_one_challenge(self, at: int, first: GrantKind, second: GrantKind) -> None:
        """Two messages signed for one challenge, both delivered, the first one twice."""
        self.unlock(at, first)
        sent = self.network[-1]
        self.deliver_to(at, self.sign(at, second, "issuer", 60))
        self.deliver_to(at, sent)

    @rule(at=at_lock)
    def press(self, at: int) -> None:
        bench = self.benches[at]
        self.hear(at, bench.lock.press(bench.now))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 2, 4, 5, 6, 11, 59, 60, 61, 121]))
    def wait(self, seconds: float) -> None:
        for at, bench in enumerate(self.benches):
            bench.now += seconds
            self.hear(at, bench.lock.advance(bench.now))

    @rule(at=at_lock, kind=kinds, nth=st.integers(1, 4))
    def honest_with_a_power_cut(self, at: int, kind: GrantKind, nth: int) -> None:
        """Lose power at one of the records of an honest delivery, and deliver it again after the boot."""
        self.wait(0.5)
        self.hello(at)
        sent = self.sign(at, kind, "issuer", 60)
        self.flashes[at].cut_in = nth
        self.deliver_to(at, sent)
        self.flashes[at].cut_in = 0
        self.deliver_to(at, sent)

    @rule(at=at_lock)
    def reboot(self, at: int) -> None:
        bench, model = self.benches[at], self.models[at]
        self.hear(at, bench.lock.reboot(bench.now))
        model.challenge, model.boot_at = b"", bench.now

    @rule(at=at_lock)
    def lose_link(self, at: int) -> None:
        bench = self.benches[at]
        self.models[at].challenge = b""
        self.hear(at, bench.lock.link_lost(bench.now))

    @rule(at=at_lock)
    def open_door(self, at: int) -> None:
        bench = self.benches[at]
        if bench.lock.body.door is Door.CLOSED:
            self.models[at].challenge = b""
        self.hear(at, bench.lock.open_door(bench.now))

    @rule(at=at_lock)
    def close_door(self, at: int) -> None:
        bench = self.benches[at]
        self.hear(at, bench.lock.close_door(bench.now))

    # --- what must hold

    @invariant()
    def every_motion_has_its_grant(self) -> None:
        for bench, model in zip(self.benches, self.models, strict=True):
            bolt, last = bench.lock.body.bolt, bench.log
            if bolt is not model.seen_bolt:
                order = next(record for record in reversed(last) if record.event == LogEvent.ACCEPTED)
                assert order.ref in self.accepted
                sent = self.network[int.from_bytes(order.ref, "big")]
                assert (sent.kind is GrantKind.CLOSE_OUT) == (bolt is Bolt.LOCKED)
                assert bolt is Bolt.RETRACTED or bench.lock.body.door is Door.CLOSED
                assert self.benches[sent.at] is bench
                model.seen_bolt = bolt
                COUNTS["motions"] += 1

    @invariant()
    def each_grant_opened_at_most_once(self) -> None:
        for bench in self.benches:
            opened = Counter(record.ref for record in bench.log if record.event == LogEvent.RETRACTED)
            assert all(times == 1 for times in opened.values())

    @invariant()
    def the_log_is_whole(self) -> None:
        for bench in self.benches:
            assert [record.seq for record in bench.log] == list(range(1, len(bench.flash) + 1))


def test_no_sequence_opens_a_lock_without_a_matching_live_unused_grant() -> None:
    COUNTS.clear()
    budget = settings(
        max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(TwoLocks, settings=budget)
    print("lock machine:", ", ".join(f"{name} {count}" for name, count in sorted(COUNTS.items())))  # noqa: T201
    assert COUNTS["OPENED"] > 20
    assert COUNTS["LOCKED"] > 5
