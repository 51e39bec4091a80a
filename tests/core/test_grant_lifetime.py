"""A challenge lives 60 s by the lock's own tick, whatever the message says and whoever sets a clock (`locks.md` §1.3; L15)."""

import pytest

from manway import codec_ble
from manway.entities import RefusalReason, ResultCode
from manway.ids import GrantKind
from tests.kit.locks import LockBench

IN_TIME = [(1, 1.0), (40, 39.0), (60, 60.0)]  # exi of the message, seconds since the hello
TOO_LATE = [(1, 1.1), (40, 41.0), (60, 60.1), (60, 61.0)]
AFTER_HELLO = [(*times, True) for times in IN_TIME] + [(*times, False) for times in TOO_LATE]


@pytest.mark.parametrize(("life_s", "waited_s", "opens"), AFTER_HELLO)
def test_a_grant_opens_up_to_its_last_second_and_not_after_it(life_s: int, waited_s: float, *, opens: bool) -> None:
    bench = LockBench()
    message = bench.order(GrantKind.EMERGENCY, life_s=life_s)
    bench.wait(waited_s)

    assert bench.send(message) == ([ResultCode.OPENED] if opens else [codec_ble.REFUSED]), "a challenge outlived its time"
    assert bench.refusals == ([] if opens else [RefusalReason.AGE])


def test_no_clock_that_is_set_makes_an_old_challenge_young() -> None:
    bench = LockBench(clock_ahead_s=1_782_864_000)
    message = bench.order(GrantKind.EMERGENCY)
    bench.wait(30)
    bench.lock.skew_clock(-3600, bench.now)
    bench.wait(31)

    assert bench.send(message) == [codec_ble.REFUSED]


def test_a_set_time_lives_ten_seconds() -> None:
    for waited_s, answer in ((10.0, ResultCode.TIME_SET), (10.2, codec_ble.REFUSED)):
        bench = LockBench()
        message = bench.order(GrantKind.SET_TIME, life_s=10, time=1_782_864_000)
        bench.wait(waited_s)
        assert bench.send(message) == [answer]
