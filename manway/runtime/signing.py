"""Ed25519 keys of issuer, sites, locks and people: files, signing, verifying."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from manway import cose
from manway.cose import is_usable, kid_of
from manway.errors import ProfileInvalid

__all__ = ["SigningKey", "is_usable", "kid_of", "load_key", "load_or_make_key", "load_public_key", "verify"]

SEED_BYTES = 32


class SigningKey:
    """A private Ed25519 key.

    Args:
        seed: 32 secret bytes (RFC 8032 5.1.5).
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._private.public_key().public_bytes_raw()
        self.kid = kid_of(self.public_key)

    def sign(self, aad: bytes, payload: bytes) -> bytes:
        """Return the whole COSE_Sign1 message over `payload` (24-163 bytes) for the use that `aad` names."""
        signed = cose.to_be_signed(aad, self.kid, payload)
        return cose.assemble(self.kid, payload, self.sign_raw(signed))

    def sign_raw(self, message: bytes) -> bytes:
        """Return the bare signature, 64 bytes, for what is not COSE: plans, a holder's proof."""
        return self._private.sign(message)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` is a canonical signature of `message` by this usable key; never raises."""
    if not is_usable(public_key) or not cose.is_canonical(signature):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_key(path: Path) -> SigningKey:
    """Read a key file of 32 bytes.

    Raises:
        ProfileInvalid: it is missing, does not hold 32 bytes, or its group or the world may touch it. A process never makes the
            key of an installation itself: locks and gateways would not know it.
    """
    if not path.exists():
        raise ProfileInvalid(str(path), "this key is missing; `manway init` makes the keys of an installation")
    return SigningKey(_read_seed(path))


def load_or_make_key(path: Path) -> SigningKey:
    """Read a key file of 32 bytes, or make it, readable by its owner only.

    Raises:
        ProfileInvalid: the file does not hold 32 bytes, or its group or the world may touch it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return SigningKey(_read_seed(path))
    seed = os.urandom(SEED_BYTES)
    with os.fdopen(handle, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    return SigningKey(seed)


def load_public_key(path: Path) -> bytes:
    """Read a public key file: 32 raw bytes that may be enrolled.

    Raises:
        ProfileInvalid: the file holds anything else.
    """
    public_key = path.read_bytes()
    if not is_usable(public_key):
        raise ProfileInvalid(str(path), "no Ed25519 public key of 32 raw bytes")
    return public_key


def _read_seed(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077:
            mode = stat.filemode(status.st_mode)
            raise ProfileInvalid(str(path), f"a key file must be its owner's alone (0600), not {mode}")
        seed = file.read(SEED_BYTES + 1)
    if len(seed) != SEED_BYTES:
        raise ProfileInvalid(str(path), f"a key file holds {SEED_BYTES} bytes")
    return seed
