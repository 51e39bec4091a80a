"""Every MQTT topic, built and parsed here and nowhere else (`docs/topics.md` is generated from `TOPICS`).

The root is `manway/1/{shard}/{site}/`: wire version 1, then crc32(site) mod 64 as two digits, fixed at provisioning.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import msgspec

from manway.errors import DecodeRejected

WIRE_VERSION = 1
SHARDS = 64
_NAME = re.compile(r"[a-z0-9-]{1,32}")


class TopicRow(msgspec.Struct, frozen=True):
    """One row of the topic table: who writes to whom, at which quality of service, retained or not."""

    below_root: str
    writer: str
    reader: str
    qos: int
    retain: bool
    payload: str
    rate: str


TOPICS = (
    TopicRow("dev/{device}/gas", "device", "gateway", 1, False, "GasFrames", "1/s under a permit, 60 s idle"),
    TopicRow("dev/{device}/state", "device", "gateway", 1, True, "DeviceState", "connect, change; the will"),
    TopicRow("dev/{device}/cmd", "gateway", "device", 1, False, "DeviceCommand", "demand"),
    TopicRow("dev/{device}/up/hello", "lock", "gateway", 1, False, "signed hello", "demand"),
    TopicRow("dev/{device}/up/result", "lock", "gateway", 1, False, "signed result, ff or fe", "grant"),
    TopicRow("dev/{device}/up/state", "lock", "gateway", 1, True, "LockState", "change and 60 s"),
    TopicRow("dev/{device}/up/log", "lock", "gateway", 1, False, "n x 40 bytes, n <= 100", "demand"),
    TopicRow("dev/{device}/up/enrol", "lock", "gateway", 1, False, "enrolment answer", "enrolment"),
    TopicRow("dev/{device}/up/frame", "instrument", "gateway", 1, False, "Reading, 11 + 5n bytes", "1/s"),
    TopicRow("dev/{device}/up/instrument", "instrument", "gateway", 1, False, "Instrument", "connect, change"),
    TopicRow("dev/{device}/up/setpoints", "instrument", "gateway", 1, False, "Set-points", "connect, change"),
    TopicRow("dev/{device}/up/adv", "radio", "gateway", 1, False, "advertised service data, 10 bytes", "change"),
    TopicRow("dev/{device}/up/logctl", "lock", "gateway", 1, False, "Log Control", "demand"),
    TopicRow("dev/{device}/down/hello", "gateway", "lock", 1, False, "01", "demand"),
    TopicRow("dev/{device}/down/grant", "gateway", "lock", 1, False, "grant or order", "unlock"),
    TopicRow("dev/{device}/down/logctl", "gateway", "lock", 1, False, "Log Control", "demand"),
    TopicRow("dev/{device}/down/enrol", "gateway", "lock", 1, False, "enrolment message", "enrolment"),
    TopicRow("gw/event", "gateway", "api", 1, False, "EventBatch", "commit; at most 100 events, 60,000 B"),
    TopicRow("gw/heartbeat", "gateway", "api, signer", 0, False, "Heartbeat", "1 s; will `down`"),
    TopicRow("gw/state", "gateway", "api, signer", 1, True, "SiteState", "change, at most 1/s, else 60 s"),
    TopicRow("api/plan", "api", "gateway", 1, True, "SignedPlan", "change"),
    TopicRow("api/cmd", "api", "gateway", 1, False, "Command", "demand"),
    TopicRow("api/ack", "api", "gateway", 0, False, "Acknowledgement", "commit, at most 20/s"),
    TopicRow("api/heartbeat", "api", "gateway", 0, False, "ApiHeartbeat", "1 s"),
    TopicRow("sim/cmd", "api", "simulator", 1, False, "SimulatorCommand", "demand"),
)


class Address(msgspec.Struct, frozen=True):
    """A parsed topic: the site, the device (empty for gateway and api topics) and the rest, such as `gas` or `up/hello`."""

    site: str
    device: str
    name: str


def shard(site: str) -> str:
    """Return the site's shard as two digits: `demo` 32, `s1` 48, `hongkou-07` 01."""
    return f"{crc32(site.encode()) % SHARDS:02d}"


def root(site: str) -> str:
    """Return the site's topic root, with a trailing slash."""
    return f"manway/{WIRE_VERSION}/{shard(site)}/{site}/"


def device_topic(site: str, device: str, name: str) -> str:
    """Return a device's topic; `name` is `gas`, `state`, `cmd`, `up/...` or `down/...`."""
    return f"{root(site)}dev/{device}/{name}"


def gateway_filters(site: str) -> list[str]:
    """Return what a gateway subscribes for one site: everything from devices, everything from the api."""
    top = root(site)
    return [f"{top}dev/+/gas", f"{top}dev/+/state", f"{top}dev/+/up/+", f"{top}api/+"]


def shard_filters(shards: Sequence[int]) -> list[str]:
    """Return what a gateway subscribes for all sites of these shards, four filters a shard.

    A broker counts what is owed a filter, so a city of sites must not cost a filter each (`pipeline.md` §2.1).
    """
    everywhere = len(set(shards)) == SHARDS
    tops = [f"manway/{WIRE_VERSION}/{number}/+/" for number in (["+"] if everywhere else [f"{n:02d}" for n in shards])]
    return [top + below for top in tops for below in ("dev/+/gas", "dev/+/state", "dev/+/up/+", "api/+")]


def api_filters(site: str) -> list[str]:
    """Return what the api subscribes for one site."""
    return [f"{root(site)}gw/+"]


def signer_filters(site: str) -> list[str]:
    """Return what the signer subscribes for one site: how things stand, by the gateway's own word."""
    return [f"{root(site)}gw/heartbeat", f"{root(site)}gw/state"]


def device_filters(site: str, device: str) -> list[str]:
    """Return what a device subscribes: its own commands."""
    return [device_topic(site, device, "cmd"), device_topic(site, device, "down/+")]


@lru_cache(maxsize=65_536)  # a city's instruments with their topics; every message asks
def parse(topic: str) -> Address:
    """Return the parts of a topic.

    Raises:
        DecodeRejected: not one of ours, wrong wire version or shard, or a name outside [a-z0-9-]{1,32}.
    """
    parts = topic.split("/")
    if len(parts) < 6 or parts[0] != "manway" or parts[1] != str(WIRE_VERSION):  # noqa: PLR2004  root has 4 parts, a name at least 2
        raise DecodeRejected(topic[:96], "not a topic of wire version 1")
    site, below = parts[3], parts[4:]
    if not _NAME.fullmatch(site) or parts[2] != shard(site):
        raise DecodeRejected(topic[:96], "the shard does not belong to the site")
    if below[0] != "dev":
        return Address(site, "", "/".join(below))
    device = below[1]
    if not _NAME.fullmatch(device) or len(below) < 3:  # noqa: PLR2004  dev, name, rest
        raise DecodeRejected(topic[:96], "not a device topic")
    return Address(site, device, "/".join(below[2:]))
