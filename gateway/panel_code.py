"""The site's panel code: what somebody on the site knows, so that the record says whether they were trusted to open."""

import hmac
import re
import stat
from pathlib import Path

from manway.errors import ProfileInvalid

_FORM = re.compile(r"[0-9]{6,12}")


def load_code(path: Path) -> str:
    """Return the code of a file: 6 to 12 digits, its owner's alone to read.

    Raises:
        ProfileInvalid: it is missing, open to others, or no such code.
    """
    try:
        mode, body = path.stat().st_mode, path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileInvalid(str(path), "the panel's code cannot be read; `manway init` makes it") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ProfileInvalid(str(path), f"a code must be its owner's alone, not {stat.filemode(mode)}: chmod 0400")
    if not _FORM.fullmatch(body):
        raise ProfileInvalid(str(path), "a panel code is 6 to 12 digits; `manway init` makes one")
    return body


def is_right(code: str, typed: str) -> bool:
    """Say whether a typed code is the site's; how long it takes does not tell where they differ. No code is never right."""
    return bool(code) and hmac.compare_digest(code.encode(), typed.strip().encode())
