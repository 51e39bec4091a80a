"""P4 and P11: a city on one gateway process: 12,000 instruments of five gases, one frame a second each, all durable.

QoS 1, one message in 150 over the limit. Afterwards the gateway is stopped and its store asked for every frame of 500
instruments. Bytes are the kernel's (`/proc/PID/io`, file sizes) for journal and store together; a run of a minute or more
says what a sample costs on disk, a short one has only begun its chunks.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.bench.contest import entered
from tests.bench.fleet import FIVE, Fleet
from tests.bench.kept import Kept, kept
from tests.bench.measure import Figures, paced
from tests.bench.options import Options
from tests.bench.report import MUST, Goal, Table, exactly, row

DEVICES = 12_000
EVERY = 150  # as many alarms in the whole run as there are instruments that can raise one
# Two minutes of every channel are whole, whenever it begins; a quick run only shows that the pace is kept.
SECONDS, QUICK_SECONDS = 130.0, 8.0
KEPT_MOST = 4.0  # bytes a sample (`pipeline.md` §11 P11)


def run(options: Options) -> Table:
    """Measure the city on every broker, once: it lasts as long as many short runs."""
    table = Table("city", "A city: 12,000 instruments x 5 gases x 1 Hz, QoS 1, durable")
    for broker in options.brokers:
        with tempfile.TemporaryDirectory(prefix="manway-bench-") as place:
            figures, found, written = lived(broker, options, Path(place))
        samples = found.all_sent * len(FIVE)
        disk: dict[str, float | str] = {"store_a_sample": found.store_bytes / samples, "written_a_sample": written / samples}
        shown: dict[str, float | str] = {name: float(value) for name, value in msgspec.structs.asdict(found).items()}
        table.add(row(broker, "manway", figures) | shown | disk)
        table.goals += _goals(broker, figures, found)
        if not options.quick:
            seen = found.store_bytes / samples
            table.goals.append(
                Goal("P11", f"{broker}: the store keeps <= {KEPT_MOST:g} bytes a sample", seen, seen <= KEPT_MOST)
            )
    return table


def lived(broker: str, options: Options, place: Path) -> tuple[Figures, Kept, int]:
    """Run a city; return its figures, what the store has of it, and the bytes the gateway wrote to the disk."""
    fleet = Fleet(options.devices or DEVICES, FIVE, qos=1, site_devices=options.site_devices)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    began_ms = int(time.time() * 1000)
    with entered(broker, "manway", fleet, place, tree=options.tree) as it:
        figures = paced(it, fleet.devices, seconds, every=EVERY)
        it.driver.settle()
    return figures, kept(fleet, it.folder / "data", began_ms), it.program.written_at_end


def _goals(broker: str, figures: Figures, found: Kept) -> Iterator[Goal]:
    yield exactly("P4", f"{broker}, manway", figures)
    yield Goal("P4", f"{broker}: no frame lost, torn or double in the store{MUST}", float(found.lost), found.whole)
    yield Goal("P4", f"{broker}: <= one core", figures.core_percent, figures.core_percent <= 100)
    yield Goal("P4", f"{broker}: alarm p99 <= 25 ms", figures.p99_ms, figures.p99_ms <= 25)
