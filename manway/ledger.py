"""The ledger of loss: for every device what was received, doubled and missing, by (boot, sequence number)."""

import msgspec


class DeviceLedger(msgspec.Struct):
    """Counts of one device. `missing` maps a missing number of this boot to when the gap was seen (Unix seconds)."""

    boot: int = 0
    highest: int = 0
    received: int = 0
    duplicate: int = 0
    lost: int = 0
    missing: dict[int, float] = {}

    def take(self, boot: int, seq: int, at: float) -> bool:
        """Count one frame; return False when it was seen before and must not be judged again."""
        if boot != self.boot:
            self.lost += len(self.missing)
            # Of the first boot ever seen nobody knows where it began; later boots count from 1.
            self.boot, self.highest, self.missing = boot, 0 if self.boot else seq - 1, {}
        if seq > self.highest:
            self.missing.update(dict.fromkeys(range(self.highest + 1, seq), at))
            self.highest = seq
        elif self.missing.pop(seq, None) is None:
            self.duplicate += 1
            return False
        self.received += 1
        return True

    def has(self, boot: int, seq: int) -> bool:
        """Say whether this frame was counted already, or belongs to an earlier boot."""
        return boot != self.boot or (seq <= self.highest and seq not in self.missing)

    @property
    def missing_count(self) -> int:
        """How many numbers are missing, those of earlier boots and announced ones included."""
        return self.lost + len(self.missing)

    def standing(self, before: float) -> list[tuple[int, int]]:
        """Return the gaps seen before that time as (first, last), and count them as lost: each is announced once."""
        old = sorted(seq for seq, at in self.missing.items() if at <= before)
        for seq in old:
            del self.missing[seq]
        self.lost += len(old)
        gaps: list[tuple[int, int]] = []
        for seq in old:
            if gaps and gaps[-1][1] == seq - 1:
                gaps[-1] = (gaps[-1][0], seq)
            else:
                gaps.append((seq, seq))
        return gaps
