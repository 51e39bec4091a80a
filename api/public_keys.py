"""The public halves of the keys that locks are given; their private halves are the signer's and the gateways'."""

from pathlib import Path

import msgspec

from manway.runtime.signing import load_public_key


class PublicKeys(msgspec.Struct, frozen=True):
    """Current and next key of issuer and site, 32 bytes each; b"" where the installation has none."""

    issuer: bytes = b""
    next_issuer: bytes = b""
    site: bytes = b""
    next_site: bytes = b""

    def following(self, role: str) -> bytes:
        """Return the next key of a role: issuer or emergency."""
        return self.next_issuer if role == "issuer" else self.next_site


def load_public_keys(folder: Path) -> PublicKeys:
    """Read the public keys of a folder; raises ProfileInvalid for a file that holds none."""

    def key(name: str) -> bytes:
        path = folder / f"{name}.pub"
        return load_public_key(path) if path.exists() else b""

    return PublicKeys(key("issuer"), key("issuer-next"), key("site"), key("site-next"))
