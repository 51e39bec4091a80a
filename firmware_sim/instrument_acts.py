"""Everything that can go wrong with a virtual instrument, by name (`locks.md` §9): what a drill or a test asks for."""

from collections.abc import Callable, Iterator

from firmware_sim.instrument import VirtualInstrument
from firmware_sim.sensor import Sensor
from firmware_sim.wearer import Wearer
from manway.codec_gas import SensorKind, SetPointKind

Act = Callable[[VirtualInstrument, float], None]  # the instrument and now, Unix seconds

WARMUP_S = 30.0  # (choice) of a four-gas instrument that is switched on
TOO_MUCH_S, TOO_MUCH = 10.0, 20.0  # (choice) so many times the full scale, until a catalytic sensor has passed it
LOW_O2_VOL = 8.0  # % vol: below what a catalytic sensor needs
LAX_H2S_PPM = 20.0  # ppm: "ISC 20", the laxest high alarm of `domain.md` §6.3, as a low one
DRIFT_PER_S = 0.01 / 60  # (choice) one per cent of full scale a minute: seen within a drill
POISONED = 0.05  # (choice) what silicone leaves of a catalytic sensor's answer


def warmup(instrument: VirtualInstrument, now: float) -> None:
    """Let it be switched off and on, and warm up."""
    instrument.reboot(now, warmup_s=WARMUP_S)


def stuck(instrument: VirtualInstrument, _: float) -> None:
    """Let every sensor stay at what it shows."""
    for sensor in instrument.chamber.sensors.values():
        sensor.stuck_at = round(max(0.0, sensor.clean), 1)


def drift(instrument: VirtualInstrument, _: float) -> None:
    """Let the zero of every sensor but oxygen's creep upwards."""
    for sensor in _but_oxygen(instrument):
        sensor.drift_per_s = sensor.make.full_scale * DRIFT_PER_S


def negative(instrument: VirtualInstrument, _: float) -> None:
    """Let the zero of every sensor but oxygen's stand far below zero."""
    for sensor in _but_oxygen(instrument):
        sensor.offset = sensor.make.drifted * 2 - sensor.shown * sensor.gain


def over_range_then_zero(instrument: VirtualInstrument, now: float) -> None:
    """Hold far too much combustible gas to it, and let its firmware forget that: it reads 0 ever after."""
    instrument.chamber.honest = False
    too_much = {"LEL": instrument.chamber.sensors["LEL"].make.full_scale * TOO_MUCH}
    instrument.chamber.open_bottle(now, too_much, TOO_MUCH_S, tests=False)


def poison(instrument: VirtualInstrument, _: float) -> None:
    """Let silicone reach the catalytic sensor: well in clean air, deaf to gas."""
    for sensor in instrument.chamber.sensors.values():
        if sensor.make.kind is SensorKind.PELLISTOR:
            sensor.gain = POISONED


def pump_block(instrument: VirtualInstrument, now: float) -> None:
    """Let the end of its hose be under water."""
    instrument.chamber.pump_blocked_at = now


def low_o2(instrument: VirtualInstrument, _: float) -> None:
    """Let something take the oxygen's place in the space."""
    instrument.air.concentration["O2"] = LOW_O2_VOL


def seq_stands(instrument: VirtualInstrument, _: float) -> None:
    """Let its counter stand still."""
    instrument.seq_stands = True


def repeat_frame(instrument: VirtualInstrument, _: float) -> None:
    """Let it send its last frame once more instead of the next."""
    instrument.repeats = True


def bad_mac(instrument: VirtualInstrument, _: float) -> None:
    """Let it sign with another key than the one it was enrolled with."""
    instrument.bad_mac = True


def lax_setpoint(instrument: VirtualInstrument, _: float) -> None:
    """Let somebody set its low H2S alarm higher than the law's limit."""
    instrument.set_point("H2S", SetPointKind.LOW, LAX_H2S_PPM)


def sos(instrument: VirtualInstrument, _: float) -> None:
    """Let its wearer call."""
    _wearer(instrument).call()


def no_motion(instrument: VirtualInstrument, now: float) -> None:
    """Let its wearer lie still."""
    _wearer(instrument).lie_still(now)


def fall(instrument: VirtualInstrument, now: float) -> None:
    """Let its wearer fall."""
    _wearer(instrument).fall(now)


_ACTS: tuple[Act, ...] = (
    warmup,
    stuck,
    drift,
    negative,
    over_range_then_zero,
    poison,
    pump_block,
    low_o2,
    seq_stands,
    repeat_frame,
    bad_mac,
    lax_setpoint,
    sos,
    no_motion,
    fall,
)
ACTS: dict[str, Act] = {act.__name__: act for act in _ACTS}


def _but_oxygen(instrument: VirtualInstrument) -> Iterator[Sensor]:
    return (sensor for gas, sensor in instrument.chamber.sensors.items() if gas != "O2")


def _wearer(instrument: VirtualInstrument) -> Wearer:
    if instrument.wearer is None:
        message = f"nobody wears {instrument.device}: make it with worn=True"
        raise ValueError(message)
    return instrument.wearer
