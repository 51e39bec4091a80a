"""What of a run stands in the telemetry store afterwards: how nothing lost, torn or double is shown, not assumed."""

from pathlib import Path

import msgspec

from manway.runtime.telemetry_embedded import EmbeddedStore
from tests.bench.fleet import Fleet


class Kept(msgspec.Struct, frozen=True):
    """Frames sent, by all and by the instruments looked at, and what the store says of those; bytes of files."""

    all_sent: int
    sent: int
    lost: int
    torn: int
    double: int
    store_bytes: int
    journal_bytes: int

    @property
    def whole(self) -> bool:
        """True when every frame is there, once, whole."""
        return self.lost == self.torn == self.double == 0


def kept(fleet: Fleet, data: Path, start_ms: int, *, most: int = 500) -> Kept:
    """Look at up to `most` instruments, spread over all sites, in the store of a gateway that has ended."""
    store = EmbeddedStore(data / "telemetry", writer=False)
    sent = received = torn = double = 0
    for number in range(0, fleet.devices, max(1, fleet.devices // most)):
        ledger = store.ledger(fleet.names[number], start_ms, _next_midnight(start_ms))
        sent, received = sent + fleet.sent[number], received + ledger.received
        torn, double = torn + ledger.torn, double + ledger.doubled
    store.close()
    return Kept(sum(fleet.sent), sent, sent - received, torn, double, _size(data / "telemetry"), _size(data / "journal"))


def _next_midnight(start_ms: int) -> int:
    day = 86_400_000
    return (start_ms // day + 2) * day


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
