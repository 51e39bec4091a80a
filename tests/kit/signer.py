"""The signer in place: the class that serves the socket, without the socket between."""

from api.office import Sight
from api.records import Reading
from api.signer import Keyring, Signer
from api.signer.client import introduction_of, signed_of
from api.signer.messages import Introduce, Introduction, Signed, SignGrant, SignRotation, SignTime
from manway.runtime.signing import SigningKey
from tests.kit.locks import ISSUER, counting_random


class SignerInPlace:
    """A `Signing` that judges in the asking process."""

    def __init__(
        self, sight: Sight, records: Reading, *, key: SigningKey = ISSUER, following: SigningKey | None = None, sites: list[str]
    ) -> None:
        self.signer = Signer(sight, records, Keyring(key, following, counting_random()), sites)
        self.public_key = key.public_key

    async def sign(self, request: SignGrant | SignTime | SignRotation) -> Signed:
        return signed_of(self.signer.answer(request))

    async def introduce(self) -> Introduction:
        return introduction_of(self.signer.answer(Introduce()))
