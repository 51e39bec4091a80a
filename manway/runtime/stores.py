"""Which telemetry store the settings name; the one factory both gateway and api use."""

from manway.runtime.settings import Settings
from manway.runtime.telemetry import TelemetryStore
from manway.runtime.telemetry_embedded import EmbeddedStore


def open_store(settings: Settings, *, writer: bool) -> TelemetryStore:
    """Return the store: `embedded` below the data folder, or `influx:URL`. One process opens it as the writer.

    A yard's store holds no minute back: its pages show the last minutes from the files, and it may cost bytes.
    """
    if settings.store == "embedded":
        folder, days = settings.data / "telemetry", settings.telemetry_days
        return EmbeddedStore(folder, writer=writer, hold=not settings.yard, keep_days=days)
    from manway.runtime.telemetry_influx import InfluxStore  # noqa: PLC0415  heavy, and only where it is used

    token = settings.influx_token.get_secret_value()
    return InfluxStore(
        settings.store.removeprefix("influx:"), token=token, org=settings.influx_org, bucket=settings.influx_bucket
    )
