"""What api and signer say over the socket: one request, one answer, each a length (u32, big-endian) and msgpack."""

import asyncio
from typing import Annotated, TypeVar

import msgspec

from manway.cose import MAX_MESSAGE
from manway.errors import DecodeRejected, Failure

MOST_ASKED, MOST_ANSWERED = 1024, 65_536  # bytes; the largest request is under 600, an answer may hold every failing check
SOURCE = "signer"
_HEAD = 4
T = TypeVar("T")

_Name = Annotated[str, msgspec.Meta(max_length=64)]
_Hello = Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]


class Request(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What every request is; the signer takes no field of it for granted."""


class SignGrant(Request, frozen=True):
    """Asks for an opening grant or a CLOSE_OUT (`kind` 1-4) for the lock whose signed `hello` this is.

    `permit` is "" for EMERGENCY, `by` the person who asks.
    """

    permit: _Name
    kind: Annotated[int, msgspec.Meta(ge=1, le=4)]
    lock: _Name
    by: _Name
    hello: _Hello


class SignTime(Request, frozen=True):
    """Asks for the order that sets the clock of the lock whose hello shows it unknown or wrong."""

    lock: _Name
    hello: _Hello


class SignRotation(Request, frozen=True):
    """Asks for the order that gives a lock its next key, by the rotation of the records that two persons agreed on."""

    rotation: _Name
    lock: _Name
    hello: _Hello


class Introduce(Request, frozen=True):
    """Asks who the signer is and how it does."""


class Signed(msgspec.Struct, frozen=True, tag=True):
    """A signed message, and its id in hex."""

    cti: str
    message: bytes


class Declined(msgspec.Struct, frozen=True, tag=True):
    """Nothing was signed; every reason why."""

    failures: list[Failure]


class Introduction(msgspec.Struct, frozen=True, tag=True):
    """The public keys of locks (current, and next or b""), and the sites whose gateway the signer does not hear."""

    issuer: bytes
    next_issuer: bytes
    deaf: list[str]


AnyRequest = SignGrant | SignTime | SignRotation | Introduce
Answer = Signed | Declined | Introduction
_requests = msgspec.msgpack.Decoder(AnyRequest)
_answers = msgspec.msgpack.Decoder(Answer)
_encoder = msgspec.msgpack.Encoder()


def frame(message: AnyRequest | Answer) -> bytes:
    """Return a message as it goes over the socket."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_HEAD, "big") + body


async def read_request(reader: asyncio.StreamReader) -> AnyRequest:
    """Read one request; raises DecodeRejected."""
    return await _read(reader, MOST_ASKED, _requests)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer; raises DecodeRejected."""
    return await _read(reader, MOST_ANSWERED, _answers)


async def _read(reader: asyncio.StreamReader, most: int, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    try:
        size = int.from_bytes(await reader.readexactly(_HEAD), "big")
        if not 0 < size <= most:
            raise DecodeRejected(SOURCE, f"{size} bytes")
        return decoder.decode(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        raise DecodeRejected(SOURCE, "cut off") from error
    except msgspec.DecodeError as error:
        raise DecodeRejected(SOURCE, str(error)[:200]) from error
