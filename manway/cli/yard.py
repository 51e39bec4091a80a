"""`python -m manway.cli.yard API_SETTINGS SIM_SETTINGS`: puts the training yard into a new installation, for its simulator.

Run once, before the api: spaces, devices, people and permits go into the records that the api's settings name, the locks' keys
below the simulator's data, and the logins of those it plays beside its settings, in `cast.json`. Run again it changes nothing.
"""

import json
import sys
import time
from pathlib import Path

from manway.cli.seed import seed_records
from manway.runtime import settings
from manway.runtime.secrets import write_private
from manway.runtime.signing import load_or_make_key
from manway.runtime.yard import load_yard

SEED = 7  # of the simulated yard, as the demo's (choice)


def put(api: Path, simulator: Path) -> int:
    """Seed the records and write the simulator's files; return the exit code."""
    records, played = settings.load(api), settings.load(simulator)
    if not records.yard:
        print(f"{api}: this is no training yard, and drills are never put among real sites", file=sys.stderr)
        return 2
    cast = simulator.with_name("cast.json")
    if cast.exists():
        print(f"{cast} is there already: the yard has been seeded")
        return 0
    yard = load_yard()
    locks = played.data / "keys" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    keys = {space.lock: load_or_make_key(locks / f"{space.lock}.key").public_key for space in yard.space}
    place = records.records.get_secret_value() or records.data / "records.db"
    passwords = seed_records(place, yard, keys, time.time())
    acted = {person.account: passwords[person.account] for person in yard.person if person.cast and person.account}
    write_private(cast, json.dumps({"seed": SEED, "passwords": acted}), 0o600)
    for person in yard.person:
        if person.account and not person.cast:
            print(f"{person.roles[0]:<10} {person.account:<10} {passwords[person.account]}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004  the command and its two files
        sys.exit("usage: python -m manway.cli.yard API_SETTINGS SIM_SETTINGS")
    sys.exit(put(Path(sys.argv[1]), Path(sys.argv[2])))
