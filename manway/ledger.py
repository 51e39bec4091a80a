"""The ledger of loss: for every device what was received, doubled and missing, by (boot, sequence number).

Gaps are ranges, so that one frame with a wild number costs a row and not the memory of the process. A boot that was left
does not come back: what still arrives of it is old, whatever it says (`pipeline.md` §4.2).
"""

import msgspec

MOST_JUMP = 1_000_000  # (choice) eleven days of silence at 1 Hz; a device that was away longer has restarted


class Gap(msgspec.Struct, frozen=True):
    """Missing numbers `first` to `last` of the present boot, seen at `at` (Unix seconds)."""

    first: int
    last: int
    at: float


class DeviceLedger(msgspec.Struct):
    """Counts of one device. `gaps` are those of the present boot that are not announced yet, the oldest first.

    `late` of those received came more than 30 s after they were measured (`codec_mqtt.REPLAY_AFTER_S`).
    """

    boot: int | None = None
    highest: int = 0
    received: int = 0
    duplicate: int = 0
    late: int = 0
    lost: int = 0
    gaps: list[Gap] = []
    left: set[int] = set()

    def take(self, boot: int, seq: int, at: float) -> bool:
        """Count one frame; return False when it was seen before, or is of a boot that was left, and must not be judged."""
        if boot == self.boot and seq == self.highest + 1:  # as nearly every frame is
            self.highest = seq
            self.received += 1
            return True
        if boot in self.left:
            self.duplicate += 1
            return False
        if boot == self.boot and seq > self.highest + MOST_JUMP:
            self.duplicate += 1  # not a gap but a wild number: believing it would make every honest frame old
            return False
        if boot != self.boot:
            self._begin(boot, seq)
        if seq > self.highest:
            if seq > self.highest + 1:
                self.gaps.append(Gap(self.highest + 1, seq - 1, at))
            self.highest = seq
        elif not self._fill(seq):
            self.duplicate += 1
            return False
        self.received += 1
        return True

    def has(self, boot: int, seq: int) -> bool:
        """Say whether this frame was counted already, or belongs to an earlier boot."""
        if boot != self.boot:
            return boot in self.left
        return seq <= self.highest and not any(gap.first <= seq <= gap.last for gap in self.gaps)

    @property
    def missing_count(self) -> int:
        """How many numbers are missing, those of earlier boots and announced ones included."""
        return self.lost + sum(gap.last - gap.first + 1 for gap in self.gaps)

    def standing(self, now: float, wait_s: float) -> list[Gap]:
        """Return the gaps that have stood for `wait_s` at `now`, and count them as lost: each is announced once."""
        old = [gap for gap in self.gaps if now >= gap.at + wait_s]
        self.gaps = [gap for gap in self.gaps if now < gap.at + wait_s]
        self.lost += sum(gap.last - gap.first + 1 for gap in old)
        return old

    def _begin(self, boot: int, seq: int) -> None:
        # Of the first boot ever seen nobody knows where it began; later boots count from 1.
        first_ever = self.boot is None
        if self.boot is not None:
            self.left.add(self.boot)
        self.lost, self.gaps = self.missing_count, []
        self.boot, self.highest = boot, seq - 1 if first_ever else 0

    def _fill(self, seq: int) -> bool:
        for i, gap in enumerate(self.gaps):
            if gap.first <= seq <= gap.last:
                rest = [Gap(gap.first, seq - 1, gap.at), Gap(seq + 1, gap.last, gap.at)]
                self.gaps[i : i + 1] = [part for part in rest if part.first <= part.last]
                return True
        return False
