"""The bytes that announce an image to a lock: 53, signed by the offline firmware key (`locks.md` §3.4).

Only the announcement is here; how an image travels is its adapter's matter (an open standard: MCUmgr, SMP).
"""

import struct
from hashlib import sha256

import msgspec

from manway import cose
from manway.errors import DecodeRejected

MANIFEST_BYTES = 53

_VERSION = 1
_MANIFEST = struct.Struct("<B8s4s4sI32s")
_MAX_IMAGE = 2**32 - 1

Version = tuple[int, int, int, int]


class Manifest(msgspec.Struct, frozen=True):
    """An image for one kind of hardware (8 bytes): its version, the oldest it may replace, its size in bytes and SHA-256."""

    hardware_id: bytes
    version: Version
    min_version: Version
    size: int
    digest: bytes

    def fits(self, image: bytes) -> bool:
        """Return whether these are the bytes that were announced."""
        return len(image) == self.size and sha256(image).digest() == self.digest


def encode(manifest: Manifest) -> bytes:
    """Return the 53 bytes that the firmware key signs.

    Raises:
        ValueError: a length or a range is wrong.
    """
    lengths = [len(manifest.hardware_id), len(manifest.version), len(manifest.min_version), len(manifest.digest)]
    if lengths != [8, 4, 4, 32] or not 1 <= manifest.size <= _MAX_IMAGE:
        message = f"no manifest: {manifest}"
        raise ValueError(message)
    versions = (bytes(manifest.version), bytes(manifest.min_version))
    return _MANIFEST.pack(_VERSION, manifest.hardware_id, *versions, manifest.size, manifest.digest)


def decode(data: bytes) -> Manifest:
    """Read the 53 bytes of a manifest.

    Raises:
        DecodeRejected: another length or version, or an empty image.
    """
    if len(data) != MANIFEST_BYTES or data[0] != _VERSION:
        raise DecodeRejected("firmware manifest", "not the 53 bytes of a manifest")
    _, hardware_id, version, oldest, size, digest = _MANIFEST.unpack(data)
    if not size:
        raise DecodeRejected("firmware manifest", "it announces an empty image")
    return Manifest(hardware_id, _version(version), _version(oldest), size, digest)


def open_manifest(message: bytes) -> tuple[cose.Envelope, Manifest]:
    """Read a signed manifest of 134 bytes; the caller verifies it under a firmware key before believing a word.

    Raises:
        DecodeRejected: not the one shape, or no manifest inside.
    """
    envelope = cose.split(message, cose.FIRMWARE_AAD)
    return envelope, decode(envelope.payload)


def _version(data: bytes) -> Version:
    return data[0], data[1], data[2], data[3]
