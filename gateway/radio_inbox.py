"""What devices said over the radio and nobody has taken yet, and what is owed until it is stored."""

import asyncio
import struct
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence

from gateway.radio_devices import Known
from manway.runtime.ports import Batch, Message
from manway.topics import device_topic

MOST_UNREAD = 20_000  # (choice) messages: a quarter of an hour of twenty instruments, before the oldest goes
_MOST_AT_ONCE = 1_000  # (choice) in a batch
_CAN_GO = frozenset({"frame", "adv", "instrument", "setpoints"})  # they are said again, and a gap shows in the numbers
_STATE_LOG = struct.Struct("<I")
_STATE_LOG_AT = 8  # `locks.md` §2: log_seq stands behind eight bytes

Told = tuple[Known, int]  # a lock, and the log number its report had


class RadioBatch:
    """What has gathered; once it is stored, the radio forgets that it still owes it."""

    def __init__(self, messages: Sequence[Message], told: Sequence[Told]) -> None:
        self.messages = messages
        self._told = told

    async def ack(self) -> None:
        """Note how far the logs of locks are known to the rules, for good."""
        for known, log_seq in self._told:
            known.told(log_seq)


class Inbox:
    """A bounded queue of messages; `dropped` is told of each that had to go."""

    def __init__(self, dropped: Callable[[Known], None]) -> None:
        self._dropped = dropped
        self._waiting: OrderedDict[int, tuple[Known, Message, Told | None]] = OrderedDict()
        self._can_go: deque[int] = deque()  # numbers of those that may be lost, in order
        self._count = 0
        self._readable = asyncio.Event()

    def put(self, known: Known, name: str, payload: bytes) -> None:
        """Take a message of a device, `name` as behind `up/`; of more than can be held the oldest goes that is said again."""
        told = None
        if name == "state" and len(payload) >= _STATE_LOG_AT + _STATE_LOG.size:
            told = known, _STATE_LOG.unpack_from(payload, _STATE_LOG_AT)[0]
        if len(self._waiting) >= MOST_UNREAD:
            self._dropped(self._make_room())
        message = Message(device_topic(known.row.site, known.row.device, f"up/{name}"), payload)
        self._count += 1
        self._waiting[self._count] = known, message, told
        if name in _CAN_GO:
            self._can_go.append(self._count)
        self._readable.set()

    def _make_room(self) -> Known:
        """Drop the oldest message that may be lost, where there is none the oldest of all; return whose it was."""
        if self._can_go:
            return self._waiting.pop(self._can_go.popleft())[0]
        return self._waiting.popitem(last=False)[1][0]

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what has gathered, for ever."""
        while True:
            await self._readable.wait()
            taken = [self._waiting.popitem(last=False) for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
            while self._can_go and self._can_go[0] <= taken[-1][0]:
                self._can_go.popleft()
            if not self._waiting:
                self._readable.clear()
            told = [told for _, (_, _, told) in taken if told is not None]
            yield RadioBatch([message for _, (_, message, _) in taken], told)
