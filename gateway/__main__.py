"""`python -m gateway CONFIG`: one gateway process."""

import asyncio
import sys
from pathlib import Path

from gateway.app import main
from manway.runtime import logs, settings

if __name__ == "__main__":
    logs.configure("gateway")
    asyncio.run(main(settings.load(Path(sys.argv[1]))))
