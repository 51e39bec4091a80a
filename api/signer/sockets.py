"""Where the signer listens: a Unix socket that only the installation's own users may open."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

MODE = 0o660
"""(choice) The signer's user and its group: an api of another user shares the group, everybody else is shut out."""
_LONGEST = 100  # bytes; Linux takes 107, whatever else the path needs


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give the path as the kernel takes it: a long one by the open folder, for a socket's address ends after 107 bytes."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listening(path: Path) -> socket.socket:
    """Return a listening socket at a path, in place of what a process that died has left there.

    Raises:
        OSError: the folder is not there or not writable.
    """
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return _open(path, lambda one, address: _bind(one, address, path))


@contextlib.contextmanager
def removing(path: Path) -> Iterator[None]:
    """Take the file of a listening socket away at the end, but not one that another process has put in its place."""
    own = _file_of(path)
    try:
        yield
    finally:
        if own is not None and own == _file_of(path):
            path.unlink()


def _file_of(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except FileNotFoundError:
        return None
    return known.st_dev, known.st_ino


def _bind(one: socket.socket, address: str, path: Path) -> None:
    before = os.umask(0o177)  # nobody slips in between making the file and giving it its mode
    try:
        one.bind(address)
    finally:
        os.umask(before)
    path.chmod(MODE)
    one.listen(16)


def connected(path: Path) -> socket.socket:
    """Return a socket that is connected to the signer; raises OSError at once when nobody listens, or too many wait."""
    return _open(path, lambda one, address: one.connect(address))


def _open(path: Path, start: Callable[[socket.socket, str], None]) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setblocking(False)
    try:
        with _address(path) as address:
            start(one, address)
    except OSError:
        one.close()
        raise
    return one
