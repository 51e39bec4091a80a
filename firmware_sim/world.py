"""The air of one space as a gas balance: sources, a fan, and the open hatch.

C' = source - (fan + leak) * (C - C_outside), per gas, in the instrument's unit. Small numbers of the yard: the fan changes
the air every 8 s so that a drill takes minutes; a real well takes an hour.
"""

import math

import msgspec

OUTSIDE = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
FAN_CHANGES_PER_S = 1 / 8
LEAK_CHANGES_PER_S = 1 / 900
FAN_CURRENT_A = 2.4


class Air(msgspec.Struct):
    """Concentrations of a space; `source` is what comes in per second."""

    concentration: dict[str, float] = msgspec.field(default_factory=lambda: dict(OUTSIDE))
    source: dict[str, float] = {}
    fan_on: bool = False

    def advance(self, seconds: float) -> None:
        """Let time pass; exact for constant sources, so steps of any size agree."""
        rate = LEAK_CHANGES_PER_S + (FAN_CHANGES_PER_S if self.fan_on else 0.0)
        for gas, outside in OUTSIDE.items():
            settled = outside + self.source.get(gas, 0.0) / rate
            self.concentration[gas] = settled + (self.concentration[gas] - settled) * math.exp(-rate * seconds)
