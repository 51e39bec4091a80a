"""Settings of the processes: defaults < one TOML file < `MANWAY_*` environment; frozen, complete or refused."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from manway.emergency import CardFile, parse_cards
from manway.limit_tables import Gases, extended_by, parse_gases, parse_limits, parse_timings
from manway.limits import LimitProfile, Timings, stricter
from manway.runtime.mqtt_setup import Tls
from manway.runtime.secrets import check_private

TELEMETRY_DAYS_FEWEST = 7  # (choice) who asks what happened asks within days; 0 must not mean that everything goes


class Settings(BaseSettings):
    """What every process of an installation shares; a file names them once (`manway.toml` of the data folder)."""

    model_config = SettingsConfigDict(env_prefix="MANWAY_", extra="forbid", frozen=True)

    data: Path
    """Folder of everything this installation stores."""
    sites: list[str]
    """Sites served by the gateway."""
    broker: str = "mqtt://127.0.0.1:1883"
    """Address of the broker; `mqtts://host:port` with the three files below."""
    broker_password: SecretStr = SecretStr("")
    """Password of this process at the broker, where it asks for one; from the file of that process only."""
    broker_ca: Path | None = None
    """Certificate of the authority that signed the broker's; needed with `mqtts`."""
    broker_cert: Path | None = None
    """This process's own certificate; its common name is its MQTT user and client id."""
    broker_key: Path | None = None
    """The key of that certificate, readable by this process alone."""
    protocol: Literal["auto", "3.1.1", "5"] = "auto"
    """MQTT version: `auto` takes 5 where the broker grants it."""
    profile: str = "CN"
    """Limit profile: `manway/tables/limits_<profile>.toml`."""
    site_limits: dict[str, float] = {}
    """Limits of this site that are stricter than its profile's, such as `{"H2S.low" = 8.0}`; a laxer one stops the start."""
    yard: bool = False
    """A training yard: permits are drills and work times (never safety deadlines) are shortened, and shown as such."""
    gateway_id: str = "gw-1"
    """Name and MQTT client id of the gateway, and of its journal; a successor takes both over."""
    shards: list[int] = []
    """Of `sites`, the gateway serves those of these shards (0 to 63), subscribed by shard; empty: all, subscribed by site."""
    journal_cap_mb: int = 0
    """The gateway's journal drops its oldest telemetry beyond this; 0: the lesser of 1,536 and half of the file system."""
    radio: str = ""
    """Bluetooth of the gateway: empty for none, `bluez` or `bluez:hci0,hci1` for its adapters, or `bumble:` and a transport."""
    radio_slots: int = 4
    """Connections one adapter holds at once; cheap adapters take 5 to 7."""
    radio_reset: list[str] = []
    """Command that resets an adapter's USB port when it hears nothing, `{adapter}` stands for its name; empty: not done."""
    radio_restart: list[str] = []
    """Command that restarts the Bluetooth service when an adapter hears nothing; empty: not done."""
    panel_host: str = "127.0.0.1"
    """Address of the gateway's own emergency page, on the site's network."""
    panel_port: int = 0
    """Port of the gateway's own emergency page; 0: none."""
    sim_radio: str = ""
    """Transport of the simulator's Bluetooth devices, such as `tcp-server:127.0.0.1:9000`, `usb:0` or `serial:/dev/ttyACM0`."""
    records: SecretStr = SecretStr("")
    """Records of the api: empty for `records.db` in the data folder, or `postgresql+psycopg://user:password@host/name`."""
    signer_socket: Path | None = None
    """Unix socket between api and signer; `signer.sock` in the data folder where none is named."""
    host: str = "127.0.0.1"
    """Address the api listens on."""
    port: int = 8080
    """Port the api listens on."""
    store: str = "embedded"
    """Telemetry store: `embedded`, or `influx:http://host:8086` with token, org and bucket below."""
    telemetry_days: Annotated[int, Field(ge=TELEMETRY_DAYS_FEWEST)] = 400
    """Days with telemetry that the embedded store keeps, 7 or more; an InfluxDB bucket has its own retention."""
    influx_token: SecretStr = SecretStr("")
    """Token of the InfluxDB store."""
    influx_org: str = "manway"
    """Organisation of the InfluxDB store."""
    influx_bucket: str = "manway"
    """Bucket of the InfluxDB store."""
    speed: float = 1.0
    """How many seconds pass in one; only the demo uses anything but 1."""
    started_at: float | None = None
    """Unix seconds that `speed` counts from, shared by all processes."""

    @property
    def signer_path(self) -> Path:
        """Where the signer listens."""
        return self.signer_socket or self.data / "signer.sock"

    @property
    def tls(self) -> Tls | None:
        """The certificates for the broker, None without; raises ProfileInvalid for a key that others can read."""
        if self.broker_ca is None:
            return None
        if self.broker_key is not None:
            check_private(self.broker_key)
        return Tls(self.broker_ca, self.broker_cert, self.broker_key)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic passes it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put flags above environment above file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(path: Path) -> Settings:
    """Return the settings of a TOML file with the environment over it; a missing or unknown one is an error."""

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    return FromFile()  # type: ignore[call-arg]  # the values come from the file


def _table(name: str) -> str:
    return (files("manway") / "tables" / f"{name}.toml").read_text("utf-8")


def gases() -> Gases:
    """Return the substances of the package: molar masses, flammable limits, correction factors."""
    return parse_gases(_table("gases"))


def hazards() -> CardFile:
    """Return the hazard cards of the package; raises ProfileInvalid."""
    return parse_cards(_table("hazards"))


def limits(profile: str, changes: dict[str, float] | None = None, *, when: float | None = None) -> LimitProfile:
    """Return a limit profile of the package by its name, such as `CN`, with a site's stricter limits.

    `when` (Unix seconds) chooses the rows in force then; None takes every row that has no end. Raises ProfileInvalid.
    """
    text = _table(f"limits_{profile.lower()}")
    extended = extended_by(text)
    base = _table(f"limits_{extended.lower()}") if extended else None
    return stricter(parse_limits(text, _table("gases"), base, when=when), changes or {})


def timings(*, yard: bool) -> Timings:
    """Return the timings; a yard's work times are shorter."""
    return parse_timings(_table("timings"), _table("timings_yard") if yard else None)
