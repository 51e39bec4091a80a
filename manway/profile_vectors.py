"""A device profile's own vectors must decode as they say, and try all of it: what nobody has tried is not taken.

Every channel stands in one vector with a number and in one with a status, unless its profile may only raise.
"""

from manway.device_profile import DeviceProfile, decode
from manway.entities import Reading
from manway.errors import DecodeRejected, ProfileInvalid
from manway.ids import Status
from manway.profile_rows import Vector, insist, is_hex


def require_vectors(file: str, profile: DeviceProfile) -> None:
    """Let pass a profile whose vectors hold and try all of it."""
    tried: set[tuple[str, str, bool]] = set()
    for place, vector in enumerate(profile.file.vectors):
        tried |= _tried(f"vectors[{place}]", file, profile, vector)
    for source in profile.sources.values():
        name = source.row.name
        heard = any(vector.source == name for vector in profile.file.vectors)
        insist(file, fact=heard, key="vectors", otherwise=f"give one of the source {name!r}")
        for field in source.row.fields:
            for numbered, what in ((True, "a number"), (False, "a status other than ok")):
                shown = (name, field.channel, numbered) in tried or (profile.file.raises_only and not numbered)
                insist(file, fact=shown, key="vectors", otherwise=f"give one in which {field.channel} of {name!r} has {what}")


def _tried(key: str, file: str, profile: DeviceProfile, vector: Vector) -> set[tuple[str, str, bool]]:
    insist(file, fact=is_hex(vector.hex.replace(" ", "")), key=f"{key}.hex", otherwise="write whole bytes in hex")
    try:
        said = decode(profile, vector.source, bytes.fromhex(vector.hex))
    except DecodeRejected as error:
        raise ProfileInvalid(file, f"{key}: it does not decode: {error.reason}") from error
    wanted = {name: _expected(key, file, word) for name, word in vector.expect.items()}
    shown = {name: r.value if r.value is not None else r.status.value for name, r in said.readings.items()}
    insist(file, fact=said.readings == wanted, key=f"{key}.expect", otherwise=f"it decodes to {shown}")
    signs = sorted(sign.value for sign in said.signs)
    insist(file, fact=signs == sorted(s.value for s in vector.signs), key=f"{key}.signs", otherwise=f"it decodes to {signs}")
    counted = said.counter == vector.counter
    insist(file, fact=counted, key=f"{key}.counter", otherwise=f"it decodes to {said.counter}")
    return {(vector.source, name, reading.value is not None) for name, reading in said.readings.items()}


def _expected(key: str, file: str, word: float | Status) -> Reading:
    insist(file, fact=word is not Status.OK, key=f"{key}.expect", otherwise="what is ok has a number")
    return Reading(word) if isinstance(word, Status) else Reading(Status.OK, float(word))
