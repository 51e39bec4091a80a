"""InfluxDB dies under load, is away, refuses a line: in the end the rows are equal, and nobody waits for it."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manway.runtime.telemetry import Ledger
from tests.fault.children import STOPS_WITHIN_S, InfluxChild, need_influx, wait_for
from tests.fault.installation import Installation
from tests.fault.traffic import Publisher, Recorder, begin
from tests.fault.verdict import drained, judge, ledger_of, standing, stored

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(120),
]
RATE = 100.0
REFUSED = "gas-01"  # the instrument whose faulty LEL sensor meets a field of another type


class Bench:
    """An installation on InfluxDB under load."""

    def __init__(self, folder: Path) -> None:
        self.place = Installation(folder / "rig", devices=4, store="influx")
        self.publisher = Publisher(self.place.broker_port, self.place.devices, rate=RATE, over={"gas-00": 0.0})
        self.recorder = Recorder(self.place.broker_port)

    @property
    def influx(self) -> InfluxChild:
        assert self.place.influx is not None
        return self.place.influx

    def ledger(self, device: str) -> Ledger:
        reader = self.place.reader()
        try:
            return ledger_of(reader, self.publisher, device)
        finally:
            reader.close()

    def end(self) -> None:
        """Send the last frames and wait until they are everywhere."""
        self.publisher.finish()
        wait_for(lambda: drained(self.place, self.publisher, self.recorder), "every event stands in the records", 60.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    need_influx()
    one = Bench(tmp_path)
    try:
        begin(one.place, one.publisher, one.recorder)
        yield one
    finally:
        one.publisher.close()
        one.recorder.close()
        one.place.abandon()


def test_rows_are_equal_after_the_store_was_killed_and_away(bench: Bench) -> None:
    time.sleep(1.5)
    bench.influx.kill()
    time.sleep(4)
    before = bench.publisher.count
    bench.influx.start()
    time.sleep(1)
    bench.end()
    wait_for(lambda: stored(bench.place, bench.publisher), "every frame stands in the store", 60.0)
    bench.place.stop()

    verdict = judge(bench.place, bench.publisher, bench.recorder)
    sys.stdout.write(f"InfluxDB away for 4 s of load: {verdict}\n")
    assert verdict.problems == []
    assert verdict.stored == bench.publisher.count > before > 4 * RATE


def test_a_refused_line_is_put_aside_and_an_absent_store_holds_up_no_exit(bench: Bench) -> None:
    """A field that is text already takes no number: InfluxDB answers 400 to a block of good lines with one of these in it."""
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    bench.influx.write_raw(f'gas,space=well-01,inst={REFUSED} q_lel="text" {an_hour_ago}')
    time.sleep(1)
    bench.publisher.send(REFUSED, fault="LEL")
    refused = next(row.seq for row in bench.publisher.sent[REFUSED] if row.fault)
    time.sleep(3)
    bench.influx.kill()
    time.sleep(2)
    bench.end()  # events reach the records although nobody takes a row
    took = bench.place.gateway.stop(30.0)
    sys.stdout.write(f"the gateway ended in {took:.1f} s with InfluxDB down\n")
    assert took < STOPS_WITHIN_S

    bench.influx.start()
    bench.place.gateway.start()
    wait_for(
        lambda: standing(bench.place, bench.publisher) == bench.publisher.count - 1,
        "all rows but the refused one stand in the store",
        60.0,
    )
    assert [(gap.first, gap.last) for gap in bench.ledger(REFUSED).missing] == [(refused, refused)]
    log = bench.place.gateway.log.splitlines()
    assert any(REFUSED in line and str(refused) in line for line in log), "the gateway says which row was refused"
