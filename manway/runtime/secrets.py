"""Files that hold a secret: how they are written, and when a process must refuse them."""

import os
import secrets
import stat
from pathlib import Path

from manway.errors import ProfileInvalid

# The token that a well-known manual gives as its example; scanners of the internet try such first (`trust.md` T05).
_KNOWN = frozenset({b"my-super-secret-auth-token"})
_SHORTEST = 16  # bytes: 16 characters of `secrets.token_urlsafe` are 96 bits (choice)
_DISTINCT = 10  # different bytes; "passwordpassword" and "changemechangeme" have seven (choice)
_FOREIGN = stat.S_IRWXO | stat.S_IWGRP  # a group may read: systemd gives its credentials to a service by an access list


def check_private(path: Path) -> None:
    """Refuse a file that cannot hold a secret.

    Raises:
        ProfileInvalid: it is missing, not a file, everybody's to read or its group's to write,
            short enough to be guessed, or a known default.
    """
    try:
        with path.open("rb") as file:
            status, body = os.fstat(file.fileno()), file.read()
    except OSError as error:
        raise ProfileInvalid(str(path), f"this secret cannot be read ({error.strerror}); `manway init` makes it") from error
    if status.st_mode & _FOREIGN:
        mode = stat.filemode(status.st_mode)
        raise ProfileInvalid(str(path), f"a secret must be its owner's alone, not {mode}: chmod 0400")
    if len(body) < _SHORTEST or len(set(body)) < _DISTINCT or body.strip() in _KNOWN:
        raise ProfileInvalid(str(path), f"a default, or under {_SHORTEST} bytes, or too plain; `manway init` makes a secret")


CODE_DIGITS = 6
"""(choice) of a code that people type in gloves; it proves who asked and opens nothing, so a guess gains an alarm."""


def new_code() -> str:
    """Return a fresh code of digits for a site's emergency page."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def write_private(path: Path, body: bytes | str, mode: int = 0o400) -> None:
    """Write a file durably with this mode; without one, its owner alone may read it.

    It is written in place: a container sees one mounted file by its inode, and would never see another that took its name.
    """
    if path.exists():
        path.chmod(0o600)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(body.encode() if isinstance(body, str) else body)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)
