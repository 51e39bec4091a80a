"""The golden vectors that firmware teams get, `docs/firmware/lock.toml`: the tests read that very file."""

import tomllib
from pathlib import Path
from typing import Any

from manway import grant
from manway.entities import Grant
from manway.grant import NewKey
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey
from tests.kit.locks import seeded_key

FOLDER = Path(__file__).parents[2] / "docs" / "firmware"
VECTORS: dict[str, Any] = tomllib.loads((FOLDER / "lock.toml").read_text("utf-8"))
COMMON = {name: bytes.fromhex(text) for name, text in VECTORS["common"].items()}
KEYS: dict[str, SigningKey] = {name: seeded_key(row["seed_from"]) for name, row in VECTORS["keys"].items()}
GRANTS = {row["name"]: bytes.fromhex(row["message"]) for row in VECTORS["grant"]}
SIGNERS = {row["name"]: KEYS[row["signer"]] for row in VECTORS["grant"]}


def claims_of(row: dict[str, Any]) -> Grant:
    """The content of a grant's row, before it is encoded."""
    new_key = b""
    if "new_key_of" in row:
        new = NewKey(row["new_key_role"], row["new_key_generation"], KEYS[row["new_key_of"]].public_key)
        new_key = grant.encode_new_key(new)
    return Grant(
        kind=GrantKind(row["kind"]),
        **COMMON,
        life_s=row["life_s"],
        max_open_s=row.get("max_open_s", 0),
        time=row.get("time", 0),
        new_key=new_key,
    )


def rising(first: int) -> bytes:
    """32 rising bytes, as the keys of the vectors are written."""
    return bytes(range(first, first + 32))
