"""`manway promote`: make the next signing key the current one, once every lock has it, and prepare another."""

import os
from pathlib import Path

from manway.cli.certificates import give
from manway.cli.register import NotDone, load_register
from manway.runtime.secrets import write_private
from manway.runtime.signing import SEED_BYTES, SigningKey, load_key

NAMES = {"issuer": "issuer", "emergency": "site"}
HOLDERS = {"issuer": "signer and api", "emergency": "gateways and api"}


def run_promote(folder: Path, role: str, *, every_lock_has_it: bool) -> None:
    """Put the next key of a role in the current one's place; interrupted, it goes on where it was.

    Raises:
        NotDone: there is no such role or installation, or nobody said that every lock has the key.
        ProfileInvalid: a key is missing or damaged.
    """
    if role not in NAMES:
        raise NotDone(f"no keys of {role}; there are {' and '.join(NAMES)}")
    register, name = load_register(folder), NAMES[role]
    if not every_lock_has_it:
        raise NotDone(
            "a lock without the next key is lost by this, and must be enrolled anew: look at `missing` of "
            "GET /api/v1/keys/rotations, then say --every-lock-has-it"
        )
    secrets = folder / "secrets"
    current, following = secrets / f"{name}.key", secrets / f"{name}-next.key"
    becomes = load_key(following)
    if load_key(current).public_key != becomes.public_key:
        write_private(current, following.read_bytes())
    seed = os.urandom(SEED_BYTES)
    write_private(following, seed)
    for path, public in ((current, becomes.public_key), (following, SigningKey(seed).public_key)):
        write_private(path.with_suffix(".pub"), public, 0o444)
    for path in (current, following):
        give(path, register)
        give(path.with_suffix(".pub"), register)
    print(f"{current} signs from now on as {becomes.kid.hex()}; start {HOLDERS[role]} again.")
