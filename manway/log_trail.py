"""Follows a lock's log as it comes in: no number missing, and its chain gives the head the lock signed (`locks.md` §2)."""

import msgspec

from manway import codec_ble
from manway.entities import LogRecord


class LogTrail(msgspec.Struct):
    """What was heard: the newest number, and the head of the chain there, empty while it cannot be known.

    `signed` is the newest (number, head) that came under the lock's signature.
    """

    seq: int = 0
    head: bytes = b""
    signed: tuple[int, bytes] = (0, b"")

    def follow(self, record: LogRecord, lock_id: bytes) -> str:
        """Take the next record; return what is wrong with the log, empty for nothing.

        A log first heard in its middle is not wrong: what gave way before belongs to nobody here.
        """
        missing = record.seq != self.seq + 1
        wrong = "records of its log are missing" if missing and self.seq else ""
        if record.seq == 1:
            self.head = codec_ble.log_head_0(lock_id)
        elif missing:
            self.head = b""
        self.seq = record.seq
        if self.head:
            self.head = codec_ble.next_head(self.head, codec_ble.encode_record(record))
        return wrong or self._compare()

    def believe(self, seq: int, head: bytes, *, newest: bool = False) -> str:
        """Take what a verified hello or result says of the log; return what is wrong with it, empty for nothing.

        The `newest` word of a lock says how far its log goes: records with later numbers were never its own, and what it will
        write under those numbers is still to be read.
        """
        if newest and seq < self.seq:
            self.seq, self.head, self.signed = seq, head, (seq, head)
            return "its log has numbers that it never reached"
        if seq >= self.signed[0]:
            self.signed = (seq, head)
        return self._compare()

    def _compare(self) -> str:
        seq, head = self.signed
        if seq != self.seq or not head:
            return ""
        differs = self.head not in (b"", head)
        self.head = head
        return "its log is not the one it signed" if differs else ""
