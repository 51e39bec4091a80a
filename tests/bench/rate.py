"""P2: messages a second and processor time a message, from publish through all rules to the alarm, beside the peers.

QoS 0, one message in a hundred over the limit, never more than a window ahead of the alarms. Ours judges all rules, stores
every frame durably and sends numbered events; the peers compare one number and publish.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import entered
from tests.bench.fleet import Fleet
from tests.bench.measure import Figures, median_of, poured
from tests.bench.options import Options
from tests.bench.report import Goal, Table, exactly, row
from tests.bench.rounds import played

DEVICES = 1_500  # enough for the alarms of 100,000 messages and of the warm-up
WARM_UP = 20_000  # messages, not counted: a JIT and our caches are warm after it
EVERY = 100  # one message in so many is over the limit


def run(options: Options) -> Table:
    """Measure every gateway on every broker."""
    table = Table("rate", "As fast as the alarms come back, QoS 0, 1 % over the limit")
    for broker in options.brokers:
        found = played(table, options, broker, options.gateways, one)
        medians = {key.split("/")[0]: median_of(figures) for key, figures in found.items()}
        for name, figures in medians.items():
            table.add(row(broker, name, figures, rounds=options.rounds))
            table.goals.append(exactly("P2", f"{broker}, {name}", figures))
        table.goals += _goals(broker, medians)
    return table


def one(broker: str, name: str, options: Options, place: Path) -> dict[str, Figures]:
    """Measure one gateway once."""
    fleet = Fleet(options.devices or DEVICES, site_devices=options.site_devices)
    with entered(broker, name, fleet, place, tree=options.tree) as it:
        poured(it, min(WARM_UP, options.messages // 4), every=EVERY)
        return {"rate": poured(it, options.messages, every=EVERY)}


def _goals(broker: str, medians: dict[str, Figures]) -> Iterator[Goal]:
    ours, loop, red = (medians.get(name) for name in ("manway", "paho", "node-red"))
    if ours and loop:
        speed, cost = ours.messages_a_second / loop.messages_a_second, ours.cpu_us / loop.cpu_us
        yield Goal("P2", f"{broker}: messages/s >= 2.5 x the bare paho loop's", speed, speed >= 2.5)
        yield Goal("P2", f"{broker}: CPU a message <= 1/4 of the bare paho loop's", cost, cost <= 0.25)
    if ours and red:
        speed, cost = ours.messages_a_second / red.messages_a_second, ours.cpu_us / red.cpu_us
        yield Goal("P2", f"{broker}: messages/s >= 3 x Node-RED's", speed, speed >= 3.0)
        yield Goal("P2", f"{broker}: CPU a message <= 1/5 of Node-RED's", cost, cost <= 0.2)
