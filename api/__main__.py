"""`python -m api CONFIG`: the approval service."""

import asyncio
import sys
from pathlib import Path

from api.app import main
from api.dialects import RecordsUnavailable, RecordsUnusable
from manway.runtime import logs, settings

if __name__ == "__main__":
    logs.configure("api")
    try:
        asyncio.run(main(settings.load(Path(sys.argv[1]))))
    except RecordsUnusable as error:
        sys.exit(f"api: {error}")  # it says what to do; where it came from helps nobody
    except RecordsUnavailable as error:
        sys.exit(f"api: {error}; start the database, or correct `records` in {sys.argv[1]}")
