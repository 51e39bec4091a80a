"""`python -m firmware_sim CONFIG`: the yard's devices and people."""

import asyncio
import json
import sys
from pathlib import Path

from firmware_sim.app import main
from manway.runtime import logs, settings

if __name__ == "__main__":
    logs.configure("simulator")
    cast = json.loads((Path(sys.argv[1]).parent / "cast.json").read_text("utf-8"))
    asyncio.run(main(settings.load(Path(sys.argv[1])), seed=int(cast["seed"]), passwords=cast["passwords"]))
