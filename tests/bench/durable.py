"""P4: durable in batches beside one commit a message, both at QoS 1, acknowledged only after the commit.

The floor keeps nothing: no gateway gets more out of this broker at QoS 1, however it commits.
"""

from pathlib import Path

from tests.bench.contest import entered
from tests.bench.fleet import Fleet
from tests.bench.measure import Figures, median_of, poured
from tests.bench.options import Options
from tests.bench.report import Goal, Table, exactly, row
from tests.bench.rounds import played

DEVICES = 2_500  # enough for the alarms of 120,000 messages
EVERY = 50
PLAIN = "one commit a message"


def run(options: Options) -> Table:
    """Measure both on every broker."""
    table = Table("durable", "Durable before it is acknowledged, QoS 1, 2 % over the limit")
    for broker in options.brokers:
        found = played(table, options, broker, ("manway", "floor", PLAIN), one)
        medians = {key.split("/")[0]: median_of(figures) for key, figures in found.items()}
        for name, figures in medians.items():
            table.add(row(broker, name, figures, rounds=options.rounds))
            table.goals.append(exactly("P4", f"{broker}, {name}", figures))
        if "manway" in medians and PLAIN in medians:
            ratio = medians["manway"].messages_a_second / medians[PLAIN].messages_a_second
            table.goals.append(Goal("P4", f"{broker}: messages/s >= 8 x one commit a message", ratio, ratio >= 8))
    return table


def one(broker: str, name: str, options: Options, place: Path) -> dict[str, Figures]:
    """Measure one of them once; the plain way gets a tenth of the messages, or it would take all day."""
    fleet = Fleet(options.devices or DEVICES, qos=1, site_devices=options.site_devices)
    count = options.messages // 10 if name == PLAIN else options.messages
    with entered(broker, name, fleet, place, tree=options.tree) as it:
        poured(it, count // 5, every=EVERY)
        return {"durable": poured(it, count, every=EVERY)}
