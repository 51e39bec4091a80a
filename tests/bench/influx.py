"""P10: processor time from MQTT to InfluxDB, every row counted there, beside Node-RED's influx node.

QoS 1 at 500 messages a second, into a real InfluxDB. Ours has judged all rules and kept the frame in its journal on the way;
Node-RED writes each message as it comes and knows nothing when that fails.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec
import pytest

from tests.bench.contest import Contestant, entered
from tests.bench.fleet import Fleet
from tests.bench.measure import Figures, median_of, paced
from tests.bench.node_red import Absent
from tests.bench.options import Options
from tests.bench.report import MUST, Goal, Table, exactly, row
from tests.bench.rounds import played
from tests.kit.influx import InfluxServer, running_influx

RATE, DEVICES, EVERY = 500, 500, 40
SECONDS, QUICK_SECONDS = 12.0, 5.0
_COUNTED_WITHIN_S = 30.0
_DIRECT = build_opener(ProxyHandler({}))


def run(options: Options) -> Table:
    """Measure both on every broker; without an InfluxDB to be had the table says so."""
    table = Table("influx", f"MQTT to InfluxDB, {RATE} messages/s, QoS 1")
    names = [name for name in options.gateways if name not in ("floor", "paho")]
    sent, stored = Counter[str](), Counter[str]()

    def one(broker: str, name: str, options: Options, place: Path) -> dict[str, Figures]:
        figures, frames, rows = stored_by(broker, name, options, place)
        sent[name], stored[name] = sent[name] + frames, stored[name] + rows
        return {"influx": figures}

    for broker in options.brokers:
        medians = {key.split("/")[0]: median_of(runs) for key, runs in played(table, options, broker, names, one).items()}
        for name, figures in medians.items():
            table.add(row(broker, name, figures, sent=float(sent[name]), stored=float(stored[name])))
            table.goals.append(exactly("P10", f"{broker}, {name}", figures))
            what = f"{broker}, {name}: every row of {sent[name]:,} stored{MUST if name == 'manway' else ''}"
            table.goals.append(Goal("P10", what, float(stored[name]), sent[name] == stored[name]))
        table.goals += _goals(broker, medians)
        sent.clear()
        stored.clear()
    return table


def stored_by(broker: str, name: str, options: Options, place: Path) -> tuple[Figures, int, int]:
    """Measure one gateway once; return its figures, the frames sent and the rows found. Raises Absent."""
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    fleet = Fleet(options.devices or DEVICES, qos=1, site_devices=options.site_devices)
    database = place / "influx"
    database.mkdir()
    try:
        with running_influx(database) as server, _entered(broker, name, fleet, place, options, server) as it:
            before = it.program.cpu_s()
            figures = paced(it, RATE, seconds, every=EVERY)
            stored = _counted(server, sum(fleet.sent), it.driver.idle)
            used_us = (it.program.cpu_s() - before) / (RATE * seconds) * 1e6
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise Absent(str(error)) from error
    return msgspec.structs.replace(figures, cpu_us=used_us), sum(fleet.sent), stored


def _entered(
    broker: str, name: str, fleet: Fleet, place: Path, options: Options, server: InfluxServer
) -> AbstractContextManager[Contestant]:
    if name == "manway":
        store = {"store": f"influx:{server.url}", "influx_token": server.token}
        named = {"influx_org": server.org, "influx_bucket": server.bucket}
        return entered(broker, name, fleet, place, tree=options.tree, **store, **named)
    return entered(broker, name, fleet, place, database=server.bucket, store_port=urlsplit(server.url).port)


def _counted(server: InfluxServer, wanted: int, idle: Callable[[float], None]) -> int:
    """Return the rows of the instruments once they are `wanted`, or what is there when time is up."""
    end = time.monotonic() + _COUNTED_WITHIN_S
    question = urlencode({"db": server.bucket, "q": """SELECT count("b") FROM "gas" WHERE "inst" !~ /^probe/"""})
    while True:
        with _DIRECT.open(f"{server.url}/query?{question}", timeout=10) as answer:
            series = json.load(answer)["results"][0].get("series")
        count = int(series[0]["values"][0][1]) if series else 0
        if count >= wanted or time.monotonic() > end:
            return count
        idle(0.25)


def _goals(broker: str, medians: dict[str, Figures]) -> Iterator[Goal]:
    ours, red = medians.get("manway"), medians.get("node-red")
    if ours and red:
        ratio = ours.cpu_us / red.cpu_us
        yield Goal("P10", f"{broker}: CPU a message into the store <= 1/5 of Node-RED's", ratio, ratio <= 0.2)
