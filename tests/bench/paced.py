"""P3: how long an alarm takes at 1,000, 5,000 and 10,000 messages a second, and how much of a core that costs.

QoS 1, one message in ten over the limit. Latency is from the socket the device writes to until the alarm is read behind the
broker: ours has been judged by all rules and is durable by then, a peer's is one comparison old.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.bench import measure
from tests.bench.contest import entered
from tests.bench.fleet import Fleet
from tests.bench.measure import Figures, median_of
from tests.bench.options import Options
from tests.bench.report import Goal, Table, exactly, row
from tests.bench.rounds import played

RATES = (1_000, 5_000, 10_000)
EVERY = 10
SECONDS, QUICK_SECONDS = 4.0, 2.0
# Every instrument has spoken so often before, at that rate: what is measured is the air of every second, not first words.
WARM_UP, WARM_UP_RATE = 3, 5_000.0


def run(options: Options) -> Table:
    """Measure every gateway on every broker at every rate."""
    table = Table("paced", "Latency of an alarm at a steady rate, QoS 1, 10 % over the limit")
    for broker in options.brokers:
        names = [name for name in options.gateways if name != "floor"]  # its latency would be its window
        found = played(table, options, broker, names, one)
        medians = {key: median_of(figures) for key, figures in found.items()}
        for key, figures in medians.items():
            name, rate = key.split("/")
            table.add(row(broker, name, figures, rounds=options.rounds, rate=float(rate)))
            table.goals.append(exactly("P3", f"{broker}, {name} at {rate}/s", figures))
        table.goals += _goals(broker, medians)
    return table


def one(broker: str, name: str, options: Options, place: Path) -> dict[str, Figures]:
    """Measure one gateway once, at one rate after the other."""
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    alarms = round(sum(RATES) * seconds / EVERY)
    fleet = Fleet(options.devices or alarms + 100, qos=1, site_devices=options.site_devices)
    with entered(broker, name, fleet, place, tree=options.tree) as it:
        measure.paced(it, WARM_UP_RATE, WARM_UP * fleet.devices / WARM_UP_RATE, every=0)
        return {f"{rate}": measure.paced(it, rate, seconds, every=EVERY) for rate in RATES}


def _goals(broker: str, medians: dict[str, Figures]) -> Iterator[Goal]:
    slow, fast = medians.get("manway/1000"), medians.get("manway/10000")
    if slow is None or fast is None:
        return
    yield Goal("P3", f"{broker}: alarm p99 <= 5 ms at 1,000 messages/s", slow.p99_ms, slow.p99_ms <= 5)
    yield Goal("P3", f"{broker}: alarm p99 <= 10 ms at 10,000 messages/s", fast.p99_ms, fast.p99_ms <= 10)
    yield Goal("P3", f"{broker}: <= 25 % of a core at 10,000 messages/s", fast.core_percent, fast.core_percent <= 25)
    if loop := medians.get("paho/10000"):
        ratio = fast.p99_ms / loop.p99_ms
        yield Goal("P3", f"{broker}: p99 at 10,000/s <= 1.5 x the bare paho loop's", ratio, ratio <= 1.5)
