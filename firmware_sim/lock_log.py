"""The lock's own log: records chained by hash in a flash that is only ever appended to (`locks.md` §2)."""

from manway import codec_ble
from manway.codec_ble import LogCount, LogDone, LogOp
from manway.entities import LogRecord
from manway.errors import DecodeRejected


class LockLog:
    """A view on the flash that outlives power; made again at every boot.

    Args:
        lock_id: 8 bytes; the chain starts from it.
        flash: the records kept so far, oldest first, 40 bytes each. Its `append` is the write and sync of one record; it
            raises `OSError` when the flash is full or broken. The simulated flash never wraps.
    """

    def __init__(self, lock_id: bytes, flash: list[bytes]) -> None:
        self._flash = flash
        self.head = codec_ble.chain(codec_ble.log_head_0(lock_id), flash)

    @property
    def last(self) -> LogRecord | None:
        """The newest record."""
        return codec_ble.decode_record(self._flash[-1]) if self._flash else None

    @property
    def last_seq(self) -> int:
        """The newest sequence number, 0 before the first record."""
        return len(self._flash)

    def append(self, record: LogRecord) -> None:
        """Write one record; the head moves only after the flash took it."""
        data = codec_ble.encode_record(record)
        self._flash.append(data)
        self.head = codec_ble.next_head(self.head, data)

    def since(self, seq: int) -> list[bytes]:
        """Return the records from `seq` on, oldest first."""
        return self._flash[max(seq, 1) - 1 :]

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
                count = LogCount(len(self.since(asked.seq)), min(1, self.last_seq), self.last_seq)
                return [], codec_ble.encode_log_answer(count)
            case LogOp.ABORT:  # a report here is over before an abort can reach it
                return [], codec_ble.encode_log_answer(LogDone(asked.op, supported=True))
