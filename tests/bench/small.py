"""P8: a firm's site: 100 instruments of four gases, 200 messages a second, with InfluxDB down.

Whole memory of the process, processor time a message at so low a rate that little is batched, and how long a clean exit takes
while the telemetry store answers nobody.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import entered
from tests.bench.fleet import FOUR, Fleet
from tests.bench.measure import Figures, paced
from tests.bench.options import Options
from tests.bench.report import Goal, Table, exactly, row
from tests.kit.brokers import free_port

DEVICES, RATE = 100, 200
EVERY = 40
SECONDS, QUICK_SECONDS = 15.0, 5.0


def run(options: Options) -> Table:
    """Measure the site once with each store on every broker."""
    table = Table("small", "100 instruments x 4 gases, 200 messages/s, QoS 1")
    stores = {"embedded": "embedded", "InfluxDB down": f"influx:http://127.0.0.1:{free_port()}"}
    for broker in options.brokers:
        for name, store in stores.items():
            figures, exit_s, peak_mb = one(broker, store, options)
            table.add(row(broker, "manway", figures, store=name, exit_s=exit_s, peak_mb=peak_mb))
            table.goals += _goals(f"{broker}, {name}", figures, exit_s)
    return table


def one(broker: str, store: str, options: Options) -> tuple[Figures, float, float]:
    """Return the figures, the seconds of a clean exit, and the largest resident memory in MiB."""
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    fleet = Fleet(DEVICES, FOUR, qos=1, site_devices=options.site_devices)
    down = {"store": store, "influx_token": "asked for by nobody"}
    with (
        tempfile.TemporaryDirectory(prefix="manway-bench-") as place,
        entered(broker, "manway", fleet, Path(place), tree=options.tree, **down) as it,
    ):
        figures, peak_mb = paced(it, RATE, seconds, every=EVERY), it.program.peak_mb()
        return figures, it.program.stop(), peak_mb


def _goals(who: str, figures: Figures, exit_s: float) -> Iterator[Goal]:
    yield exactly("P8", who, figures)
    yield Goal("P8", f"{who}: alarm p99 <= 50 ms", figures.p99_ms, figures.p99_ms <= 50)
    yield Goal("P8", f"{who}: <= 500 us of CPU a message", figures.cpu_us, figures.cpu_us <= 500)
    yield Goal("P8", f"{who}: <= 120 MB resident", figures.rss_mb, figures.rss_mb <= 120)
    yield Goal("P8", f"{who}: clean exit <= 5 s", exit_s, exit_s <= 5)
