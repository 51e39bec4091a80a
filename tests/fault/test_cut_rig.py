"""The uplink is cut for ten seconds at 100 messages a second, and the gateway killed in the middle of it: nothing is lost."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from manway.events import AlarmRaised
from tests.fault.children import need_influx, wait_for
from tests.fault.cut_rig import DEVICES, RATE, SHORT, Place, run
from tests.fault.installation import Installation
from tests.fault.traffic import Publisher, Recorder, begin
from tests.fault.verdict import drained, events, ledger_of, stored

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(180),
]


@pytest.mark.parametrize("broker", ["nats", "mosquitto"])
async def test_a_cut_and_a_kill_lose_nothing_wherever_the_link_is_cut(broker: str, tmp_path: Path) -> None:
    need_influx()
    alone = Installation(tmp_path / "edge", devices=DEVICES, broker=broker)
    unheard = Installation(tmp_path / "api", devices=DEVICES, broker=broker, store="influx")

    verdicts = await asyncio.gather(run(alone, Place.EDGE, SHORT), run(unheard, Place.API, SHORT))

    for place, verdict in zip(Place, verdicts, strict=True):
        sys.stdout.write(f"{broker}, cut at the {place.value}: {verdict}\n")
        assert verdict.problems == []
        assert verdict.acknowledged >= SHORT.end * RATE * 0.9
        assert verdict.stored == verdict.acknowledged
    assert "UPLINK_LOST" in {e.kind for e in events(unheard) if isinstance(e, AlarmRaised)}


def test_what_a_broker_loses_after_its_word_stands_in_the_ledger_exactly(tmp_path: Path) -> None:
    """Mosquitto acknowledges before it saves; killed within its autosave interval it forgets what nobody had read."""
    need_influx()
    place = Installation(tmp_path / "rig", devices=1, broker="mosquitto", store="influx")
    publisher, recorder = Publisher(place.broker_port, place.devices, rate=50.0, over={}), Recorder(place.broker_port)
    device = place.devices[0]
    try:
        begin(place, publisher, recorder)
        wait_for(lambda: len(publisher.acknowledged(device)) >= 100, "a hundred frames are acknowledged")
        publisher.pause()
        wait_for(lambda: stored(place, publisher), "the hundred stand in the store")
        _have_mosquitto_save(place)  # with the gateway's word for the hundred: else it sends some of them again
        known = len(publisher.sent[device])
        place.gateway.kill()
        publisher.burst(200)
        wait_for(lambda: len(publisher.acknowledged(device)) == known + 200, "the broker has acknowledged two hundred more")
        place.broker.kill()
        place.broker.start()
        place.gateway.start()
        publisher.finish()
        wait_for(lambda: drained(place, publisher, recorder), "every event stands in the records")
        wait_for(lambda: _has_last(place, publisher), "the last frame stands in the store")
        place.stop()

        reader = place.reader()
        ledger = ledger_of(reader, publisher, device)
        reader.close()
        missing = {seq for gap in ledger.missing for seq in range(gap.first, gap.last + 1)}
        sent, forgotten = len(publisher.sent[device]), set(range(known + 1, known + 201))
        sys.stdout.write(f"mosquitto forgot {len(missing)} of {sent} acknowledged frames: {ledger.missing}\n")
        assert publisher.acknowledged(device) == set(range(1, sent + 1))
        assert ledger.received + len(missing) == sent
        assert missing <= forgotten
        recorder.catch_up()
        assert recorder.picture is not None
        counted = next(one for one in recorder.picture.instruments if one.device == device)
        assert (counted.received, counted.missing) == (ledger.received, len(missing))
        assert counted.duplicate <= 1, "the broker may have forgotten an acknowledgement of ours as well"
    finally:
        publisher.close()
        recorder.close()
        place.abandon()


def _have_mosquitto_save(place: Installation) -> None:
    file = place.folder / "mosquitto" / "mosquitto.db"
    before = file.stat().st_mtime_ns if file.exists() else 0
    os.kill(place.broker.pid, signal.SIGUSR1)
    wait_for(lambda: file.exists() and file.stat().st_mtime_ns > before, "Mosquitto has saved its sessions")


def _has_last(place: Installation, publisher: Publisher) -> bool:
    reader = place.reader()
    try:
        newest = reader.latest(publisher.devices)
        return all(device in newest and newest[device].seq == len(publisher.sent[device]) for device in publisher.devices)
    finally:
        reader.close()
