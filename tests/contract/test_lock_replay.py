"""All that was ever on the air, said again to the same lock in every order and after every reboot: nothing opens (L22)."""

from firmware_sim.lock import Publish
from manway.entities import Bolt, ResultCode
from manway.ids import GrantKind
from tests.kit.locks import LockBench, only

KINDS = (GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY)


class Tap:
    """A bench whose every message to the lock is kept."""

    def __init__(self) -> None:
        draws = iter(range(1, 1_000_000))
        self.bench = LockBench(random_bytes=lambda size: next(draws).to_bytes(size, "big"))
        self.heard: list[tuple[str, bytes]] = []
        self.challenges: list[bytes] = []

    def say(self, name: str, payload: bytes) -> list[Publish]:
        self.heard.append((name, payload))
        return self.bench.lock.receive(name, payload, self.bench.now)

    def unlock(self, kind: GrantKind) -> None:
        """One whole opening, and the lock-up by hand that makes the next one possible."""
        self.bench.wait(0.5)
        hello = only(self.say("hello", b"\x01"), "hello")
        challenge = hello[24:40]
        self.challenges.append(challenge)
        self.say("grant", self.bench.order(kind, challenge=challenge))
        self.bench.press()
        assert self.bench.lock.body.bolt is Bolt.RETRACTED
        self.bench.lock.body.bolt, self.bench.lock.body.session = Bolt.LOCKED, 0  # by hand, with the mechanical key


def test_no_traffic_of_an_opening_opens_again_also_after_a_reboot() -> None:
    tap = Tap()
    for kind in KINDS * 3:
        tap.unlock(kind)
    recorded, boots = list(tap.heard), 4

    for boot in range(boots):
        for name, payload in recorded:
            tap.bench.wait(13.0)  # below the throttle, so that every message is judged
            answers = tap.bench.codes(tap.bench.lock.receive(name, payload, tap.bench.now))
            tap.bench.press()
            assert ResultCode.OPENED not in answers, f"replayed after {boot} reboots, it opened"
            assert tap.bench.lock.body.bolt is Bolt.LOCKED, f"replayed after {boot} reboots, it opened"
        tap.bench.lock.reboot(tap.bench.now)


def test_no_challenge_comes_twice_whatever_reboots() -> None:
    tap = Tap()
    for _ in range(1000):
        tap.bench.wait(0.5)
        tap.challenges.append(only(tap.say("hello", b"\x01"), "hello")[24:40])
        if len(tap.challenges) % 50 == 0:
            tap.bench.lock.reboot(tap.bench.now)

    assert len(set(tap.challenges)) == 1000, "a challenge came twice"
