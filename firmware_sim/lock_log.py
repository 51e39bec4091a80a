"""The lock's own log: a ring of records chained by hash (`locks.md` §2). Nothing deletes; only the oldest give way."""

from firmware_sim.lock_memory import Body
from manway import codec_ble
from manway.codec_ble import LogCount, LogDone, LogOp
from manway.entities import LogRecord
from manway.errors import DecodeRejected

CAPACITY = 1024  # records; at least 1,000 (`locks.md` §2)
# How many records give way between two records that say so: one for each would only push out more (choice).
COUNT_EVERY = 100


class LockLog:
    """A view on the flash that outlives power; made again at every boot.

    Args:
        lock_id: 8 bytes; the chain starts from it.
        flash: the records kept so far, oldest first, 40 bytes each. Its `append` is the write and sync of one record; it
            raises `OSError` when the flash is broken.
        body: keeps the head before the oldest record, and says when the flash is broken.
        capacity: records the ring holds.
    """

    def __init__(self, lock_id: bytes, flash: list[bytes], body: Body, capacity: int) -> None:
        self._flash, self._body, self.capacity = flash, body, capacity
        body.log_base = body.log_base or codec_ble.log_head_0(lock_id)
        self._make_room()  # a power cut may have come between a record and the one that gives way to it
        self.head = codec_ble.chain(body.log_base, flash)

    @property
    def last(self) -> LogRecord | None:
        """The newest record."""
        return codec_ble.decode_record(self._flash[-1]) if self._flash else None

    @property
    def last_seq(self) -> int:
        """The newest sequence number, 0 before the first record; it never starts again."""
        return self.last.seq if self.last else 0

    @property
    def oldest_seq(self) -> int:
        """The oldest sequence number still kept, 0 before the first record."""
        return codec_ble.decode_record(self._flash[0]).seq if self._flash else 0

    def append(self, record: LogRecord) -> int | None:
        """Write one record; the head moves only after the flash took it.

        Returns:
            How many records have given way since the lock was made, whenever another hundred of them, or the first, has.

        Raises:
            OSError: the flash is broken.
        """
        if self._body.flash_broken:
            message = "the flash does not write"
            raise OSError(message)
        before, data = self._overwritten(), codec_ble.encode_record(record)
        self._flash.append(data)
        self.head = codec_ble.next_head(self.head, data)
        self._make_room()
        after = self._overwritten()
        told = after > 0 and (before == 0 or before // COUNT_EVERY != after // COUNT_EVERY)
        return after if told else None

    def _overwritten(self) -> int:
        return max(self.oldest_seq - 1, 0)

    def _make_room(self) -> None:
        while len(self._flash) > self.capacity:
            self._body.log_base = codec_ble.next_head(self._body.log_base, self._flash[0])
            del self._flash[0]

    def since(self, seq: int) -> list[bytes]:
        """Return the records kept from `seq` on, oldest first."""
        return [record for record in self._flash if int.from_bytes(record[:4], "little") >= seq]

    def answer(self, request: bytes) -> tuple[list[bytes], bytes]:
        """Return the messages of `up/log` a request asks for and the one of `up/logctl` that ends it."""
        try:
            asked = codec_ble.decode_log_request(request)
        except DecodeRejected:
            done = LogDone(request[0] if request else 0, supported=False)
            return [], codec_ble.encode_log_answer(done)
        match asked.op:
            case LogOp.REPORT:
                records = self.since(asked.seq)
                step = codec_ble.MAX_RECORDS
                messages = [b"".join(records[at : at + step]) for at in range(0, len(records), step)]
                return messages, codec_ble.encode_log_answer(LogDone(asked.op, supported=True))
            case LogOp.COUNT:
                count = LogCount(len(self.since(asked.seq)), self.oldest_seq, self.last_seq)
                return [], codec_ble.encode_log_answer(count)
            case LogOp.ABORT:  # a report here is over before an abort can reach it
                return [], codec_ble.encode_log_answer(LogDone(asked.op, supported=True))
