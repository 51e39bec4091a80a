"""`python -m firmware_sim CONFIG [--radio TRANSPORT [--device NAME] [--capture FILE]]`: the yard's devices and people."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from firmware_sim.app import main
from manway.errors import ManwayError
from manway.runtime import logs, settings


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m firmware_sim", description="The virtual devices and people of a yard.")
    parser.add_argument("config", type=Path, help="the installation's manway.toml")
    parser.add_argument("--radio", help="transport of the yard's Bluetooth devices, such as tcp-server:127.0.0.1:9000 or usb:0")
    parser.add_argument("--device", default="", help="the one device on the air, such as lock-n01: a dongle carries one")
    parser.add_argument("--capture", type=Path, help="write what the radio says to this btsnoop file, for Wireshark")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> None:
    """Play the yard until a signal comes, without its people where no `cast.json` lies beside the config.

    Raises:
        SystemExit: it cannot be played; says what to do.
    """
    asked = parse(arguments)
    logs.configure("simulator")
    seed, passwords = _cast(asked.config.parent / "cast.json")
    installation = settings.load(asked.config)
    if asked.radio is not None:
        installation = installation.model_copy(update={"sim_radio": asked.radio})
    try:
        asyncio.run(
            main(
                installation,
                seed=seed,
                passwords=passwords,
                only=asked.device,
                capture=asked.capture,
            )
        )
    except* ManwayError as failed:
        raise SystemExit("\n".join(_reasons(failed))) from failed


def _cast(path: Path) -> tuple[int, dict[str, str]]:
    """Return the seed of the yard and its people's passwords; nobody's where there is no such file."""
    if not path.exists():
        return 1, {}
    cast = json.loads(path.read_text("utf-8"))
    return int(cast["seed"]), cast["passwords"]


def _reasons(failed: BaseExceptionGroup[BaseException]) -> list[str]:
    """Return what went wrong, from all the groups in the group."""
    parts = [_reasons(error) if isinstance(error, BaseExceptionGroup) else [str(error)] for error in failed.exceptions]
    return [reason for part in parts for reason in part]


if __name__ == "__main__":
    run(sys.argv[1:])
