"""P12: processor time a message with 100, 1,000 and 10,000 instruments, the same number of messages a second from all of them.

QoS 1, 50 instruments a site, so the sites grow as well: everything a site costs by itself (heartbeats, pictures) is in it.
"""

import tempfile
from pathlib import Path

from tests.bench.contest import entered
from tests.bench.fleet import Fleet
from tests.bench.measure import Figures, median_of, paced
from tests.bench.options import Options
from tests.bench.report import Goal, Table, exactly, row

SIZES = (100, 1_000, 10_000)
RATE = 2_000  # messages a second
ALARMS = 50  # the same few in every size: an alarm costs more than a message
SECONDS, QUICK_SECONDS = 10.0, 3.0
FLAT = 1.5  # (choice) how much a message may cost more with a hundred times the instruments


def run(options: Options) -> Table:
    """Measure every size on every broker."""
    table = Table("growth", f"The same {RATE:,} messages/s from ever more instruments, QoS 1")
    for broker in options.brokers:
        found = {size: median_of([one(broker, size, options) for _ in range(options.rounds)]) for size in SIZES}
        for size, figures in found.items():
            table.add(row(broker, "manway", figures, instruments=float(size)))
            table.goals.append(exactly("P12", f"{broker}, {size:,} instruments", figures))
        ratio = found[SIZES[-1]].cpu_us / found[SIZES[0]].cpu_us
        table.goals.append(Goal("P12", f"{broker}: CPU a message, 100 x the instruments, <= {FLAT:g} x", ratio, ratio <= FLAT))
    return table


def one(broker: str, size: int, options: Options) -> Figures:
    """Measure one size once."""
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    fleet = Fleet(size, qos=1, site_devices=options.site_devices)
    with (
        tempfile.TemporaryDirectory(prefix="manway-bench-") as place,
        entered(broker, "manway", fleet, Path(place), tree=options.tree) as it,
    ):
        return paced(it, RATE, seconds, every=round(RATE * seconds / ALARMS))
