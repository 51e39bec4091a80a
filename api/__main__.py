"""`python -m api CONFIG`: the approval service."""

import asyncio
import sys
from pathlib import Path

from api.app import main
from manway.runtime import logs, settings

if __name__ == "__main__":
    logs.configure("api")
    asyncio.run(main(settings.load(Path(sys.argv[1]))))
