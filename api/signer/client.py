"""The api's way to the signer: its socket, a bound on the waiting, and a plain refusal when nobody answers."""

import asyncio
from pathlib import Path

import structlog

from api.signer.messages import (
    Answer,
    AnyRequest,
    Declined,
    Introduce,
    Introduction,
    Signed,
    SignGrant,
    SignRotation,
    SignTime,
    frame,
    read_answer,
)
from api.signer.sockets import connected
from manway.errors import ActionRefused, DecodeRejected, Failure

ANSWERS_WITHIN_S = 2.0
"""(choice, `locks.md` §3.3) A signer that is silent for longer counts as away."""
_log = structlog.get_logger("api")


class SignerClient:
    """The signer's process behind its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def sign(self, request: SignGrant | SignTime | SignRotation) -> Signed:
        """Return the signed message; raises ActionRefused with every failing check."""
        return signed_of(await self._ask(request))

    async def introduce(self) -> Introduction:
        """Return who the signer is; raises ActionRefused when it is silent."""
        return introduction_of(await self._ask(Introduce()))

    async def _ask(self, request: AnyRequest) -> Answer:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                return await self._exchange(request)
        except (TimeoutError, OSError, DecodeRejected) as error:
            _log.warning("signer silent", request=type(request).__name__, reason=str(error) or "no answer in time")
            raise silent() from error

    async def _exchange(self, request: AnyRequest) -> Answer:
        reader, writer = await asyncio.open_unix_connection(sock=connected(self._path))
        try:
            writer.write(frame(request))
            await writer.drain()
            return await read_answer(reader)
        finally:
            writer.close()


def signed_of(answer: Answer) -> Signed:
    """Return the signature of an answer; raises ActionRefused for every other one."""
    if isinstance(answer, Declined):
        raise ActionRefused(answer.failures)
    if not isinstance(answer, Signed):
        raise silent()
    return answer


def introduction_of(answer: Answer) -> Introduction:
    """Return an answer that is an introduction; raises ActionRefused for every other one."""
    if not isinstance(answer, Introduction):
        raise silent()
    return answer


def silent() -> ActionRefused:
    """Return the refusal of a signer that says nothing of use: ordinary openings wait for it, a rescue does not."""
    return ActionRefused([Failure("SIGNER", "locks.md 3.3", "signer.silent", "signer.use_panel")])
