"""The cut rig: instruments -> broker -> gateway -> broker -> api, cut in the middle and killed in the middle of the cut.

`python -m tests.fault.cut_rig` runs it once and prints what became of every acknowledged frame; `--peer` runs a peer on it.
Our gateway has one broker for devices and api alike, so the link is cut in two places: `edge`, between the gateway and that
broker (the gateway is alone), and `api`, between the broker and the api (the gateway works on, nobody hears it).
"""

import argparse
import asyncio
import enum
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.fault.children import STOPS_WITHIN_S, wait_for
from tests.fault.installation import Installation
from tests.fault.traffic import Publisher, Recorder, begin
from tests.fault.verdict import Verdict, drained, judge, settle
from tests.kit.proxy import FaultProxy, Link

DEVICES, RATE = 10, 100.0  # ten instruments at 10 Hz: 100 messages a second (`pipeline.md` §12)
HELD, CROSSES = "gas-00", "gas-01"


class Place(enum.Enum):
    """Where the link is cut."""

    EDGE = "edge"
    API = "api"


class Schedule(msgspec.Struct, frozen=True):
    """When what happens, in seconds after the first frame; `kill` None leaves the gateway alive."""

    cut: float = 6.0
    kill: float | None = 11.0
    heal: float = 16.0
    end: float = 26.0


SHORT = Schedule(cut=2.0, kill=7.0, heal=12.0, end=15.0)  # the same ten seconds of outage, without the quiet before and after


async def run(place: Installation, where: Place, schedule: Schedule) -> Verdict:
    """Play a schedule on a fresh installation and return the verdict, every process ended."""
    async with FaultProxy(place.broker_port) as link:
        place.configure("gateway" if where is Place.EDGE else "api", broker_port=link.port)
        recorder = Recorder(place.broker_port)
        publisher = Publisher(
            place.broker_port, place.devices, rate=RATE, over={HELD: 0.0, CROSSES: (schedule.cut + schedule.heal) / 2}
        )
        try:
            await asyncio.to_thread(begin, place, publisher, recorder)
            await _play(place, link, schedule)
            await asyncio.to_thread(_finish, place, publisher, recorder)
            verdict = await asyncio.to_thread(judge, place, publisher, recorder)
            if recorder.jumped:  # the broker stayed: whoever listens hears every journal in its order
                verdict.problems.append(f"batches that left out what came before them: {recorder.jumped[:5]}")
            return verdict
        finally:
            publisher.close()
            recorder.close()
            place.abandon()


async def _play(place: Installation, link: FaultProxy, schedule: Schedule) -> None:
    began = asyncio.get_running_loop().time()

    async def until(at: float) -> None:
        await asyncio.sleep(began + at - asyncio.get_running_loop().time())

    await until(schedule.cut)
    await link.turn(Link.RESET)
    await link.turn(Link.REFUSE)
    if schedule.kill is not None:
        await until(schedule.kill)
        place.gateway.kill()
        place.gateway.start()
    await until(schedule.heal)
    await link.turn(Link.OK)
    await until(schedule.end)


def _finish(place: Installation, publisher: Publisher, recorder: Recorder) -> None:
    """Send the last frames, wait until everything has arrived everywhere, and end every process in good order."""
    publisher.finish()
    wait_for(lambda: drained(place, publisher, recorder), "every event stands in the records", within_s=60.0)
    slow = {name: took for name, took in settle(place, publisher).items() if took > STOPS_WITHIN_S}
    assert not slow, f"not ended within {STOPS_WITHIN_S} s: {slow}"


def main(arguments: Sequence[str]) -> int:
    """Run once as a command; 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.cut_rig", description=__doc__)
    parser.add_argument("--broker", choices=["nats", "mosquitto"], default="nats")
    parser.add_argument("--store", choices=["embedded", "influx"], default="embedded")
    parser.add_argument("--cut", choices=[place.value for place in Place], default="edge")
    parser.add_argument("--peer", choices=["node-red", "thingsboard-gateway"], default="")
    parser.add_argument("--no-kill", action="store_true", help="cut only")
    parser.add_argument("--without-ts", action="store_true", help="peers only: frames carry no time of their own")
    asked = parser.parse_args(arguments)
    schedule = Schedule(kill=None) if asked.no_kill else Schedule()
    if asked.peer:
        from tests.fault.peers import run_peer  # noqa: PLC0415  needs what only this option needs

        return run_peer(asked.peer, schedule, stamped=not asked.without_ts)
    with tempfile.TemporaryDirectory() as folder:
        place = Installation(Path(folder) / "rig", devices=DEVICES, broker=asked.broker, store=asked.store)
        verdict = asyncio.run(run(place, Place(asked.cut), schedule))
    sys.stdout.write(f"Manway on {asked.broker}, {asked.store}, cut {asked.cut}: {verdict}\n")
    sys.stdout.writelines(f"  {problem}\n" for problem in verdict.problems)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
