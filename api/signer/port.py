"""How the api reaches its signer: the process over its socket, or in a test the same signer in place."""

from typing import Protocol

from api.signer.messages import Introduction, Signed, SignGrant, SignRotation, SignTime


class Signing(Protocol):
    """Whoever holds the issuer's key; answers within 2 s, or the refusal says that it is silent."""

    async def sign(self, request: SignGrant | SignTime | SignRotation) -> Signed:
        """Return the signed message.

        Raises:
            ActionRefused: every check that fails; `signer.silent` when there is no answer.
        """
        ...

    async def introduce(self) -> Introduction:
        """Return who the signer is and which gateways it does not hear; raises ActionRefused when it is silent."""
        ...
