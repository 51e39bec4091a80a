"""What the benches on the wire can be told."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.process import ROOT

BROKERS = ("nats", "mosquitto")
GATEWAYS = ("manway", "floor", "paho", "node-red")


class Options(msgspec.Struct, frozen=True):
    """`rounds` runs, of which the median counts; `devices`, `seconds` 0: as many as the bench needs."""

    rounds: int = 5
    brokers: tuple[str, ...] = ("nats",)
    gateways: tuple[str, ...] = GATEWAYS
    devices: int = 0
    site_devices: int = 50
    messages: int = 100_000
    seconds: float = 0.0
    quick: bool = False
    write: bool = False
    tree: Path = ROOT  # checkout whose gateway is measured: two of them can be compared


def parsed(names: Sequence[str], about: str, arguments: Sequence[str]) -> Options:
    """Return the options of a command line; `--help` prints what the bench does and ends."""
    parser = argparse.ArgumentParser(
        f"./run bench {' '.join(names) or '[NAME ...]'}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one round, shorter runs")
    parser.add_argument("--rounds", type=int, default=0, help="runs, of which the median counts (5; quick: 1)")
    parser.add_argument("--broker", action="append", choices=BROKERS, help="may be given twice (nats)")
    parser.add_argument("--gateway", action="append", choices=GATEWAYS, help="may be given more than once (all)")
    parser.add_argument("--devices", type=int, default=0, help="instruments (what the bench needs)")
    parser.add_argument("--site-devices", type=int, default=50, help="instruments of a site (50)")
    parser.add_argument("--messages", type=int, default=0, help="messages of a rate run (100,000; quick: 30,000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="seconds of a paced run (what the bench needs)")
    parser.add_argument("--write", action="store_true", help="write tables and picture into docs/performance.md and .svg")
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout whose gateway is measured (this one)")
    told = parser.parse_args(arguments)
    return Options(
        rounds=told.rounds or (1 if told.quick else 5),
        brokers=tuple(told.broker or ("nats",)),
        gateways=tuple(told.gateway or GATEWAYS),
        devices=told.devices,
        site_devices=told.site_devices,
        messages=told.messages or (30_000 if told.quick else 100_000),
        seconds=told.seconds,
        quick=told.quick,
        tree=told.tree,
        write=told.write,
    )
