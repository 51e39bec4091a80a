"""`python -m api.signer CONFIG`: the process that holds the issuer's key."""

import asyncio
import sys
from pathlib import Path

from api.dialects import RecordsUnusable
from api.signer.app import main
from manway.errors import ProfileInvalid
from manway.runtime import logs, settings

if __name__ == "__main__":
    logs.configure("signer")
    try:
        asyncio.run(main(settings.load(Path(sys.argv[1]))))
    except (RecordsUnusable, ProfileInvalid) as error:
        sys.exit(f"signer: {error}")  # it says what to do; where it came from helps nobody
