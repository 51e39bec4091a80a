"""The kill loop: SIGKILL at drawn moments under a steady load, start again, and count what is left in the end.

`python -m tests.fault.kill_loop --target gateway --kills 100 --seed 7`. Of every target each fourth kill falls into its start
and each tenth into a checkpoint of its database (or right behind a burst of commits, where no checkpoint comes).
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import msgspec

from manway.runtime.broker import BrokerProcess
from tests.fault.children import Child, answers, wait_for
from tests.fault.foreman import Foreman
from tests.fault.installation import Installation
from tests.fault.traffic import Publisher, Recorder, begin
from tests.fault.verdict import Verdict, drained, judge, judge_permits, settle

TARGETS = ("gateway", "api", "broker", "influx")
DEVICES, RATE = 10, 100.0
_READY_WITHIN_S = 10.0  # then it is killed as it is: others may be down that it waits for
_LIVES_S = {"gateway": 0.4, "api": 0.4, "broker": 0.4, "influx": 0.3}  # drawn from 0 to this after it was ready
_STARTS_S = {"gateway": 0.8, "api": 1.2, "broker": 0.05, "influx": 0.3}  # drawn from 0 to this after its start
_CHECKPOINT_WITHIN_S = 6.0
_BURST_S = 0.2


class Moment(msgspec.Struct, frozen=True):
    """One kill: whom, and when in its life."""

    target: str
    when: str  # work, start, checkpoint
    share: float  # drawn, 0 to 1 of the time it may live


def moments(targets: Sequence[str], kills: int, rng: random.Random) -> Iterator[Moment]:
    """Yield `kills` moments of each target, in rounds of drawn order."""
    for number in range(1, kills + 1):
        when = "checkpoint" if number % 10 == 0 else "start" if number % 4 == 0 else "work"
        for target in rng.sample(targets, len(targets)):
            yield Moment(target, when, rng.random())


class KillLoop:
    """A running installation whose processes are killed one after the other."""

    def __init__(self, place: Installation, publisher: Publisher, recorder: Recorder, foreman: Foreman) -> None:
        self._place, self._publisher, self._recorder, self._foreman = place, publisher, recorder, foreman
        self.kills = Counter[str]()
        self._started = dict.fromkeys(TARGETS, 0.0)

    def kill(self, moment: Moment) -> None:
        """Wait for the moment, kill, and start again."""
        victim = self._victim(moment.target)
        if moment.when == "start":
            time.sleep(moment.share * _STARTS_S[moment.target])
        else:
            self._wait_until_ready(moment.target)
            if moment.when == "checkpoint":
                self._wait_for_checkpoint(moment.target)
            else:
                time.sleep(moment.share * _LIVES_S[moment.target])
        victim.kill()
        self.kills[moment.target] += 1
        self._started[moment.target] = time.time()
        victim.start()

    def _victim(self, target: str) -> Child | BrokerProcess:
        victim = {"gateway": self._place.gateway, "api": self._place.api, "influx": self._place.influx}.get(target)
        return victim or self._place.broker

    def _wait_until_ready(self, target: str) -> None:
        until = time.monotonic() + _READY_WITHIN_S
        while not self._ready(target) and time.monotonic() < until:
            time.sleep(0.02)

    def _ready(self, target: str) -> bool:
        if target == "broker":
            return True  # `start` returns once it accepts clients
        if target == "influx":
            assert self._place.influx is not None
            return answers(f"http://127.0.0.1:{self._place.influx.port}/ping")
        self._recorder.catch_up()
        return self._recorder.heard_at[target] > self._started[target]

    def _wait_for_checkpoint(self, target: str) -> None:
        """Return within a checkpoint, which is the only time SQLite writes to the database file itself, or after a burst."""
        path = self._database(target)
        before = path.stat().st_mtime_ns if path else 0
        until = time.monotonic() + (_CHECKPOINT_WITHIN_S if path else _BURST_S)
        self._foreman.hurries = True
        for device in cycle(self._place.devices):  # one by one, so that many commits fill the log that is then folded in
            self._publisher.send(device)
            time.sleep(0.001)
            if path and path.stat().st_mtime_ns != before:
                self.kills[f"{target} in a checkpoint"] += 1
                break
            if time.monotonic() > until:
                break
        self._foreman.hurries = False

    def _database(self, target: str) -> Path | None:
        data = self._place.data
        return {"gateway": next(data.glob("journal/*.db"), None), "api": data / "records.db"}.get(target)


def run(
    folder: Path, targets: Sequence[str], kills: int, seed: int, *, store: str, broker: str = "nats"
) -> tuple[Verdict, str]:
    """Kill every target `kills` times and return the verdict, every process ended, and a line about the run."""
    place = Installation(folder, devices=DEVICES, broker=broker, store=store)
    publisher = Publisher(place.broker_port, place.devices, rate=RATE, over={place.devices[0]: 0.0, place.devices[1]: 5.0})
    recorder, foreman = Recorder(place.broker_port), Foreman(place.url, place.devices[2].replace("gas", "well"))
    loop = KillLoop(place, publisher, recorder, foreman)
    began = time.monotonic()
    try:
        begin(place, publisher, recorder)
        foreman.start()
        for moment in moments(targets, kills, random.Random(seed)):  # noqa: S311  a seed, to repeat a run
            loop.kill(moment)
        foreman.close()
        publisher.finish()
        wait_for(lambda: drained(place, publisher, recorder), "every event stands in the records", 120.0)
        settle(place, publisher)
        verdict = judge(place, publisher, recorder)
        judge_permits(verdict, place, foreman)
    finally:
        foreman.close()
        publisher.close()
        recorder.close()
        place.abandon()
    total = sum(count for name, count in loop.kills.items() if name in TARGETS)
    inside = sum(loop.kills.values()) - total
    took = time.monotonic() - began
    line = f"kills {total} ({', '.join(targets)}; {inside} in a checkpoint), {verdict}, permits {len(foreman.confirmed)}"
    return verdict, f"{line}, seed {seed}, {store} on {broker}, {took:.0f} s"


def main(arguments: Sequence[str]) -> int:
    """Run as a command; 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.kill_loop", description=__doc__)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="gateway")
    parser.add_argument("--kills", type=int, default=20, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=["embedded", "influx"], default="")
    parser.add_argument("--broker", choices=["nats", "mosquitto"], default="nats")
    asked = parser.parse_args(arguments)
    targets = list(TARGETS) if asked.target == "all" else [asked.target]
    store = asked.store or ("influx" if "influx" in targets else "embedded")
    if "influx" in targets and store != "influx":
        parser.error("--target influx needs --store influx")
    if "broker" in targets and asked.broker == "mosquitto":
        parser.error(
            "a Mosquitto that is killed may lose what it acknowledged: test_cut_rig.py has that case; use --broker nats"
        )
    with tempfile.TemporaryDirectory() as folder:
        verdict, line = run(Path(folder) / "rig", targets, asked.kills, asked.seed, store=store, broker=asked.broker)
    sys.stdout.write(f"{line}\n")
    sys.stdout.writelines(f"  {problem}\n" for problem in verdict.problems)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
