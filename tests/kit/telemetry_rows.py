"""Rows for a telemetry store, and the instants the tests speak of, in ms since 1970."""

from datetime import UTC, datetime

from manway.entities import Frame, Reading
from manway.ids import Status
from manway.runtime.telemetry import StoredFrame

MIDNIGHT = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1000
NOON = MIDNIGHT + 12 * 3_600_000
MINUTE, DAY = 60_000, 86_400_000
BOOT = 0xFFFF_FFF0  # above 2^24 and 2^31: must survive every packing


def a_row(
    device: str,
    *,
    seq: int = 1,
    ts: int = NOON,
    boot: int = BOOT,
    space: str = "tank-3",
    **channels: float | Status,
) -> StoredFrame:
    """Return a row with O2 20.9, or with the given channels: a number is ok, a status a fault."""
    readings = {
        channel: Reading(value) if isinstance(value, Status) else Reading(Status.OK, value)
        for channel, value in (channels or {"O2": 20.9}).items()
    }
    return StoredFrame(Frame(device, boot, seq, ts, ts / 1000 + 0.125, readings), space, "p-2026-7")
