"""The signer: a process of its own, the only holder of the issuer's key, which believes nobody and judges for itself.

The api asks it over a Unix socket (`messages`, `client`, `server`). A request names a permit, a lock, a person and carries the
lock's signed hello; everything else the signer reads itself: the records, read-only, and what the gateways say, by a broker
session of its own. Then it asks all checks once more (`judge`) and answers with signed bytes, or with every failing check.
"""

from api.signer.judge import Signer
from api.signer.keyring import Keyring
from api.signer.messages import SignGrant, SignRotation, SignTime
from api.signer.port import Signing

__all__ = ["Keyring", "SignGrant", "SignRotation", "SignTime", "Signer", "Signing"]
