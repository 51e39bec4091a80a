"""What stands behind the signature is cut off and forgotten: many rows of bytes are one grant."""

import types

from manway.errors import DecodeRejected
from tests.bugs import Bug, Ran

_PAYLOAD_AT, _SIZE_AT, _SIGNATURE_BYTES = 15, 14, 66


def _plant(module: types.ModuleType, ran: Ran) -> None:
    split = module.split

    def lenient(message: bytes, aad: bytes) -> object:
        try:
            return split(message, aad)
        except DecodeRejected:
            end = _PAYLOAD_AT + (message[_SIZE_AT] if len(message) > _SIZE_AT else 0) + _SIGNATURE_BYTES
            if len(message) <= end:
                raise
            ran()
            return split(message[:end], aad)

    vars(module)["split"] = lenient


BUG = Bug(
    module="manway.cose",
    test="tests/core/test_grant_bits.py::test_l16_no_tail_is_accepted",
    reason="DID NOT RAISE GrantRejected",
    plant=_plant,
)
