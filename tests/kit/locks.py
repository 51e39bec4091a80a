"""Test keys and a virtual lock on a bench: real signatures, a clock set by hand, every message kept."""

from collections.abc import Callable
from itertools import count

from firmware_sim.lock import Body, Publish, VirtualLock
from firmware_sim.lock_log import CAPACITY
from manway import codec_ble, cose, grant
from manway.codec_ble import HELLO_REQUEST
from manway.entities import Grant, LockHello, LockResult, LockState, LogEvent, LogRecord, ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey, verify


def seeded_key(seed_from: int) -> SigningKey:
    """The test key whose seed is 32 rising bytes."""
    return SigningKey(bytes(range(seed_from, seed_from + 32)))


ISSUER, LOCK, HOLDER, SITE, FIRMWARE = (seeded_key(at) for at in (0x00, 0x20, 0x40, 0x60, 0x80))


SECRET = bytes(range(0xC0, 0xD0))  # printed inside the case
ADVERTISEMENT_KEY = bytes(range(0xE0, 0x100))


def counting_random() -> Callable[[int], bytes]:
    """A random source whose every draw differs, across boots too, and which a test can predict."""
    draws = count(1)
    return lambda size: next(draws).to_bytes(size, "big")


class LockBench:
    """One virtual lock; `now` starts at 0 and moves only by `wait`."""

    def __init__(
        self,
        *,
        key: SigningKey = LOCK,
        body: Body | None = None,
        flash: list[bytes] | None = None,
        auto_press_s: float | None = None,
        random_bytes: Callable[[int], bytes] | None = None,
        verifier: Callable[[bytes, bytes, bytes], bool] = verify,
        clock_ahead_s: float | None = None,
        factory: bool = False,
        log_capacity: int = CAPACITY,
    ) -> None:
        """Put a lock on the bench; `factory`: nobody has enrolled it yet."""
        self.key = key
        self.now = 0.0
        self.flash: list[bytes] = [] if flash is None else flash
        self.lock = VirtualLock(
            public_key=key.public_key,
            issuer_key=b"" if factory else ISSUER.public_key,
            site_key=b"" if factory else SITE.public_key,
            firmware_key=FIRMWARE.public_key,
            secret=SECRET,
            log_capacity=log_capacity,
            sign=key.sign,
            verify=verifier,
            random_bytes=random_bytes or counting_random(),
            flash=self.flash,
            now=0.0,
            body=body,
            auto_press_s=auto_press_s,
            clock_ahead_s=clock_ahead_s,
        )
        self._grants = count(1)

    def hello(self, *, link: str = "") -> LockHello:
        """Ask for a hello, check its signature and read it."""
        self.wait(0.5)  # two a second at most
        payload = only(self.lock.receive("hello", HELLO_REQUEST, self.now, link=link), "hello")
        envelope, hello = codec_ble.open_hello(payload)
        assert verify(self.key.public_key, envelope.signed, envelope.signature)
        return hello

    def order(
        self,
        kind: GrantKind,
        *,
        challenge: bytes | None = None,
        signer: SigningKey = ISSUER,
        life_s: int = 60,
        max_open_s: int = 0,
        time: int = 0,
        new_key: bytes = b"",
        lock_id: bytes | None = None,
        cti: bytes | None = None,
    ) -> bytes:
        """A signed order, with a new id unless given, for the challenge given, else for that of a new hello."""
        claims = Grant(
            kind=kind,
            holder=bytes(8),
            lock_id=lock_id or self.lock.lock_id,
            cti=cti or next(self._grants).to_bytes(16, "big"),
            challenge=challenge or self.hello().challenge,
            life_s=life_s,
            max_open_s=max_open_s,
            time=time,
            new_key=new_key,
        )
        return signer.sign(cose.GRANT_AAD, grant.encode_payload(claims))

    def send(self, message: bytes, *, link: str = "") -> list[ResultCode | bytes]:
        """Deliver a message; verified result codes, or the refusal byte as it came."""
        return self.codes(self.lock.receive("grant", message, self.now, link=link))

    def enrol(self, message: bytes, *, link: str = "") -> list[ResultCode | bytes]:
        """Deliver an enrolment; its verified answer, or the refusal byte."""
        out = self.lock.receive("enrol", message, self.now, link=link)
        results = [self._result(sent.payload) for sent in out if sent.name in ("enrol", "result")]
        return [result if isinstance(result, bytes) else result.code for result in results]

    def press(self) -> list[ResultCode | bytes]:
        return self.codes(self.lock.press(self.now))

    def wait(self, seconds: float) -> list[ResultCode | bytes]:
        self.now += seconds
        return self.codes(self.lock.advance(self.now))

    def codes(self, out: list[Publish]) -> list[ResultCode | bytes]:
        return [read if isinstance(read, bytes) else read.code for read in self.results(out)]

    def results(self, out: list[Publish]) -> list[LockResult | bytes]:
        return [self._result(sent.payload) for sent in out if sent.name == "result"]

    def _result(self, payload: bytes) -> LockResult | bytes:
        if len(payload) == 1:
            return payload
        envelope, result = codec_ble.open_result(payload)
        assert verify(self.key.public_key, envelope.signed, envelope.signature)
        return result

    def open_with(self, kind: GrantKind = GrantKind.ENTRY, **claims: int) -> None:
        """Open the lock as an attendant does: order, press."""
        assert self.send(self.order(kind, **claims)) == [ResultCode.PRESS_WANTED]  # type: ignore[arg-type]
        assert self.press() == [ResultCode.OPENED]

    @property
    def state(self) -> LockState:
        return self.lock.state(self.now)

    @property
    def log(self) -> list[LogRecord]:
        return [codec_ble.decode_record(record) for record in self.flash]

    @property
    def events(self) -> list[int]:
        return [record.event for record in self.log]

    @property
    def refusals(self) -> list[int]:
        """The reasons in the log, oldest first."""
        return [record.cause for record in self.log if record.event == LogEvent.REFUSED]


def only(out: list[Publish], name: str) -> bytes:
    """The payload of the one message of this name."""
    (payload,) = [sent.payload for sent in out if sent.name == name]
    return payload
