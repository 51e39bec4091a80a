"""The broker has its acknowledgement before the journal has the frame."""

import contextlib
import types
from collections.abc import Sequence

from manway.runtime.ports import Batch, Message
from tests.bugs import Bug, Ran


class _Acknowledged:
    """A batch nobody is owed anything for any more."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages

    async def ack(self) -> None:
        """Say nothing: it was said already."""


def _plant(module: types.ModuleType, ran: Ran) -> None:
    judged = module.Gateway._judged

    def eager(self: object, batches: Sequence[Batch]) -> object:
        ran()
        for batch in batches:
            with contextlib.suppress(StopIteration):  # it never waits: it only hands bytes to the socket
                batch.ack().send(None)
        return judged(self, [_Acknowledged(batch.messages) for batch in batches])

    module.Gateway._judged = eager


BUG = Bug(
    module="gateway.pipeline",
    test="tests/fault/test_kill_loop.py::test_kills_at_drawn_moments_lose_tear_and_double_nothing[gateway-embedded]",
    reason=r"lost [1-9]",
    plant=_plant,
)
