"""What can be wrong with a lock, one named act each (`locks.md` §9): for scenes, drills and whoever tests a gateway."""

from collections.abc import Callable
from functools import partial

from firmware_sim.lock import Publish, VirtualLock

Fault = Callable[[VirtualLock, float], list[Publish]]

SKEW_S = 60.0  # far beyond the 5 s that an unlock allows (choice)
LOW_PERCENT = 15  # below the flag's 20 and above the 10 that an ordinary opening needs
STEPS = (10, 11, 12, 13, 14)  # of an opening (`locks.md` §1.3)


def apply(name: str, lock: VirtualLock, now: float) -> list[Publish]:
    """Do one of `FAULTS` to a lock and return what it publishes.

    Raises:
        ValueError: there is no fault of this name.
    """
    if name not in FAULTS:
        message = f"a lock has no fault {name!r}; choose one of {', '.join(sorted(FAULTS))}"
        raise ValueError(message)
    return FAULTS[name](lock, now)


def mend(lock: VirtualLock, now: float) -> list[Publish]:
    """Repair and recharge everything, and start the lock again if it was dark. What was logged and broken open stays so."""
    body = lock.body
    body.motor_stuck = body.button_broken = body.flash_broken = body.random_stuck = False
    return lock.set_battery(100, now) if lock.powered else [*lock.set_battery(100, now), *lock.reboot(now)]


def _cut_power(step: int, lock: VirtualLock, now: float) -> list[Publish]:
    lock.cut_power_at(step)
    return lock.advance(now)


def _clock_skew(lock: VirtualLock, now: float) -> list[Publish]:
    return lock.skew_clock(SKEW_S, now)


def _battery_low(lock: VirtualLock, now: float) -> list[Publish]:
    return lock.set_battery(LOW_PERCENT, now)


def _jam(lock: VirtualLock, now: float) -> list[Publish]:
    lock.body.motor_stuck = True
    return lock.advance(now)


def _no_press(lock: VirtualLock, now: float) -> list[Publish]:
    lock.body.button_broken = True
    return lock.advance(now)


def _flash_full(lock: VirtualLock, now: float) -> list[Publish]:
    return [sent for _ in range(lock.log_capacity) for sent in lock.press(now)]


def _flash_fail(lock: VirtualLock, now: float) -> list[Publish]:
    lock.body.flash_broken = True
    return lock.advance(now)


def _rng_fail(lock: VirtualLock, now: float) -> list[Publish]:
    lock.body.random_stuck = True
    return lock.advance(now)


def _battery_dead(lock: VirtualLock, now: float) -> list[Publish]:
    out = lock.set_battery(0, now)
    lock.lose_power()
    return out


FAULTS: dict[str, Fault] = {
    "reboot": VirtualLock.reboot,
    "clock_skew": _clock_skew,
    "jam": _jam,
    "no_press": _no_press,
    "door_forced": VirtualLock.open_door,
    "tamper": VirtualLock.open_case,
    "shackle_cut": VirtualLock.cut_shackle,
    "seal_broken": VirtualLock.break_seal,
    "battery_low": _battery_low,
    "battery_dead": _battery_dead,
    "flash_full": _flash_full,
    "flash_fail": _flash_fail,
    "rng_fail": _rng_fail,
    "log_gap": VirtualLock.lose_record,
    **{f"power_cut_at_step_{step}": partial(_cut_power, step) for step in STEPS},
}
