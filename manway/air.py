"""Frames of gas instruments, taken into the picture a round at a time, and said where they change something.

A round names no instrument twice, so that the arrays judge it in one go and still miss no second of anybody's air. Most air is
clean and steady: only the spaces in which something is loud are looked at again.
"""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from msgspec.structs import replace

from manway import people
from manway.entities import Frame, Instrument, Reading
from manway.events import DeviceRestarted, InstrumentFaulted, InstrumentRecovered, MessageRejected
from manway.gas import GasRows
from manway.gas_columns import CODES
from manway.gas_few import FEW
from manway.ids import Status
from manway.instrument import BACKING, InstrumentSignal, after_frame, move
from manway.site import InstrumentWatch, Site
from manway.step import Step

# A channel that its frame does not name says nothing: unknown, never the number it had before.
_MISSING = Reading(Status.INVALID)
_OK = CODES[Status.OK]
_BACKING = tuple(BACKING)  # looked through by identity: hashing an enum takes longer, and every frame asks
FAN_RUNNING_A = 0.5  # (choice) below this current a fan's motor is not turning
SOUR_PPM, SOUR_S, POISON_PPM = 50.0, 60.0, 200.0  # `domain.md` §7.1 [MSA]
_QUIET = (Status.OK, Status.WARMUP)
BESIDE = frozenset({"fan_a", "wearer_state"})  # what `_beside` follows though it is no gas: a frame that names it is never calm


def rounds(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Yield frames (at least one) in arrival order, in runs in which no device comes twice."""
    run: list[Frame] = []
    seen: set[str] = set()
    for frame in frames:
        if frame.device in seen:
            yield run
            run, seen = [], set()
        run.append(frame)
        seen.add(frame.device)
    yield run


def breathe(step: Step, frames: Sequence[Frame]) -> list[str]:
    """Take one round of frames; return the spaces in which something must be judged now."""
    heard, loud = list[tuple[InstrumentWatch, Frame]](), dict[str, None]()
    for frame in frames:
        watch = _count(step, frame)
        if watch is not None:
            heard.append((watch, frame))
            if watch.troubled or watch.lost or watch.ledger.gaps:
                loud[watch.space] = None
    other, noticed = _read(step, heard)
    loud |= dict.fromkeys(watch.space for watch in noticed)
    loud |= dict.fromkeys(watch.space for watch, frame in heard if _follow(step, watch, frame, other))
    return list(loud)


def answer(step: Step, watches: Sequence[InstrumentWatch], other: AbstractSet[int], noticed: AbstractSet[int]) -> list[str]:
    """Follow one round of frames that `Heard` and the rows have taken; return the spaces that must be judged.

    `other` are the rows whose status is another than before, `noticed` those that must be looked at, as `GasRows.take` says.
    """
    loud = dict.fromkeys(watch.space for watch in watches if watch.troubled or watch.lost or watch.ledger.gaps)
    others = _say_faults(step, watches, other) if other else set[str]()
    loud |= dict.fromkeys(watch.space for watch in watches if not noticed.isdisjoint(watch.rows.values()))
    heard = ((watch, watch.frame) for watch in watches)
    loud |= dict.fromkeys(watch.space for watch, frame in heard if frame is not None and _follow(step, watch, frame, others))
    return list(loud)


def _say_faults(step: Step, watches: Sequence[InstrumentWatch], other: AbstractSet[int]) -> set[str]:
    """Say the faults among rows whose status is another than before; return the devices of these rows."""
    others = [(watch, row) for watch in watches for row in watch.rows.values() if row in other]
    for watch, row in others:
        _say_fault(step, watch, row)
    return {watch.device for watch, _ in others}


def _follow(step: Step, watch: InstrumentWatch, frame: Frame, other: set[str]) -> bool:
    """Let an instrument's state, and what stands beside its gases, follow a frame; say whether that must be judged."""
    if watch.state not in _BACKING or (other and watch.device in other):
        _show(step, watch)
    if watch.troubled:
        _recover(step, watch, frame)
    return _beside(step, watch, frame)


def quiet(site: Site, watch: InstrumentWatch) -> bool:
    """Say whether the next frame of an instrument's boot would change nothing but numbers, and need no judging.

    That is so if all its gases stay calm and it names nothing of `BESIDE`. Whatever `breathe` and what it calls do with such a
    frame, other than to keep it (`Heard.take`), is asked for here: who changes the one changes the other.
    """
    if watch.troubled or watch.lost or watch.counted.gaps or watch.state not in _BACKING:  # no plain frame changes a gap
        return False
    if watch.fan_on is not None or watch.sour_since is not None or _may_sour(site.gas, watch):
        return False
    space = site.spaces.get(watch.space)
    return space is None or not space.occupancy.inside


def _may_sour(gas: GasRows, watch: InstrumentWatch) -> bool:
    """Say whether H2S that is calm may be so much that `_sour` remembers it: where it has no limits, or very high ones."""
    if not _poisonable(watch):
        return False
    return "H2S" not in watch.rows or gas.calm_band(watch.rows["H2S"])[1] > SOUR_PPM


def look_back(step: Step, watch: InstrumentWatch, frame: Frame, newest: Frame) -> bool:
    """Take a frame that a newer one overtook on its way for the present where it is worse; say whether it is.

    A broker that delivers late must not hide that a limit was broken, and clean air of the past clears nothing. Its time is
    before all others: it is no part of the trend. The caller judges what is so now, and then looks at the newest frame again.
    """
    before = step.site.channels_of(watch)
    _read(step, [(watch, replace(frame, received_at=0.0))])
    after = step.site.channels_of(watch)
    worse = any((c.level or 0) > (before[gas].level or 0) or c.over_range > before[gas].over_range for gas, c in after.items())
    if not worse:
        look_again(step, watch, newest)
    return worse


def look_again(step: Step, watch: InstrumentWatch, newest: Frame) -> None:
    """Let the newest frame of an instrument be the present again."""
    _read(step, [(watch, newest)])


def _read(step: Step, heard: Sequence[tuple[InstrumentWatch, Frame]]) -> tuple[set[str], list[InstrumentWatch]]:
    """Let the rows judge every gas of a round; return whose statuses are others than before, and who must be looked at."""
    rows, values, codes = _readings(heard)
    if not rows:
        return set(), []
    counts = [len(watch.rows) for watch, _ in heard]
    other, noticed = _take(step.site.gas, rows, values, codes, [frame.received_at for _, frame in heard], counts)
    if not noticed:  # whatever has another status is noticed too
        return set(), []
    ends = [*itertools.accumulate(counts)]
    owner = [heard[bisect.bisect_right(ends, place)][0] for place in noticed]
    changed = dict(zip(noticed, owner, strict=True))
    for i in other:
        _say_fault(step, changed[i], rows[i])
    return {changed[i].device for i in other}, owner


def _readings(heard: Sequence[tuple[InstrumentWatch, Frame]]) -> tuple[list[int], list[float | None], bytearray]:
    """Return the rows of these instruments with what their frames say of each: a number or None, and the code of its status."""
    rows, values, faults = list[int](), list[float | None](), list[tuple[int, int]]()
    for watch, frame in heard:
        readings = frame.readings
        read = [readings[gas].value if gas in readings else None for gas in watch.rows]
        if None in read:
            faults += _faults(watch, frame, len(values))
        values += read
        rows += watch.rows.values()
    codes = bytearray(len(rows))  # OK is 0
    for place, code in faults:
        codes[place] = code
    return rows, values, codes


def _faults(watch: InstrumentWatch, frame: Frame, begin: int) -> list[tuple[int, int]]:
    """Return the places, counted from `begin`, and the status codes of an instrument's gases that have no good number."""
    said = (CODES[frame.readings.get(gas, _MISSING).status] for gas in watch.rows)
    return [(place, code) for place, code in enumerate(said, begin) if code != _OK]


def _take(
    gas: GasRows, rows: list[int], values: list[float | None], codes: bytearray, heard_at: list[float], counts: list[int]
) -> tuple[list[int], list[int]]:
    """Judge the rows of frames, `counts` rows each; return the places whose status is another, and who must be looked at."""
    if len(rows) <= FEW:
        return gas.take_few(rows, values, codes, [at for at, count in zip(heard_at, counts, strict=True) for _ in range(count)])
    numbers = np.array(values, np.float64)  # None becomes NaN
    taken = gas.take(np.array(rows), numbers, np.frombuffer(codes, np.int8), np.array(heard_at).repeat(counts))
    other, noticed = (flags.nonzero()[0].tolist() for flags in taken)
    return other, noticed


def bind(step: Step, instrument: Instrument) -> None:
    """Watch an instrument where it works now; over-range and its ledger go with it, its numbers do not."""
    site, was = step.site, step.site.instruments.get(instrument.device)
    if was is None or _reads_otherwise(was.known, instrument):
        rows = site.gas.bind(instrument.channels, lel_base_vol=instrument.lel_base_vol, correction=instrument.correction)
        if was is not None:
            site.gas.inherit(was.rows, rows)
        watch = InstrumentWatch(instrument, step.now if was is None else was.heard_at, rows)
        if was is not None:
            watch.ledger, watch.troubled = was.ledger, was.troubled
            watch.poisoned, watch.state = was.poisoned, was.state
        site.instruments[instrument.device] = watch
        return
    if was.space != instrument.space:
        site.gas.forget(list(was.rows.values()))
        was.frame, was.lost, was.fan_on, was.wearer = None, False, None, people.WELL
    if instrument.bump_due > was.known.bump_due:  # a new bump test has passed
        was.poisoned, was.state = False, move(was.state, InstrumentSignal.BUMPED)
        site.gas.restart(list(was.rows.values()))
    was.known = instrument


def settle(step: Step, watch: InstrumentWatch) -> None:
    """Bind an instrument to what the plan says of it now: to a person who wears it, or to a permit that names it."""
    watch.state = move(watch.state, InstrumentSignal.BOUND if _bound(step, watch) else InstrumentSignal.UNBOUND)


def _reads_otherwise(was: Instrument, now: Instrument) -> bool:
    return (was.channels, was.lel_base_vol, was.correction) != (now.channels, now.lel_base_vol, now.correction)


def _count(step: Step, frame: Frame) -> InstrumentWatch | None:
    """Enter a frame into its device's ledger; return the watch of the device when the present is this frame's."""
    site = step.site
    watch = site.instruments.get(frame.device)
    if watch is None:
        if site.plan is not None:  # before the first plan nobody is named, and that is no fault
            reason = "the plan does not name this device"
            step.emit(MessageRejected, frame.device, frame.boot, frame.seq, source=frame.device, reason=reason)
        return None
    ledger = watch.ledger
    was_boot = ledger.boot
    if frame.replayed and was_boot not in (None, frame.boot):
        ledger.received += 1  # of another boot, told late: stored, and no reason to take the live one for left
        ledger.late += 1
        return None
    new = ledger.take(frame.boot, frame.seq, step.now)
    ledger.late += new and frame.replayed
    if was_boot not in (None, ledger.boot):
        step.emit(DeviceRestarted, frame.device, frame.boot, device=frame.device, boot=frame.boot)
        # Its numbers count again after its warm-up; what was over its range backs no grant before its bump test (§4.5, §7.1).
        watch.poisoned = watch.poisoned or any(channel.over_range for channel in site.channels_of(watch).values())
        site.gas.restart(list(watch.rows.values()))
        watch.state = move(watch.state, InstrumentSignal.BOOTED)
    # A broker may repeat old messages behind newer ones: those are counted and stored, the present is not theirs.
    if not new or frame.replayed:
        return None
    if frame.seq < ledger.highest:
        if watch.frame is not None:  # else it works elsewhere now, and this is the air of another space
            step.overtaken.append((watch, frame, watch.frame))
        return None
    watch.heard_at, watch.frame = max(watch.heard_at, frame.received_at), frame
    return watch


def _show(step: Step, watch: InstrumentWatch) -> None:
    """Move an instrument along its table: what its channels say together, and whether it is bound to a person or a permit."""
    statuses = [channel.status for channel in step.site.channels_of(watch).values() if channel.status is not None]
    watch.state = after_frame(watch.state, statuses, bound=_bound(step, watch))


def _bound(step: Step, watch: InstrumentWatch) -> bool:
    permit = step.site.permit_of(watch.space)
    return bool(watch.known.worn_by) or (permit is not None and watch.device in permit.instruments)


def _poisonable(watch: InstrumentWatch) -> bool:
    return watch.known.channels.get("H2S") == "ppm" and "LEL" in watch.rows


def _sour(watch: InstrumentWatch, h2s: Reading, at: float) -> None:
    """Remember that H2S may have poisoned the combustible sensor: > 200 ppm, or > 50 ppm for a minute [MSA]."""
    if not _poisonable(watch):
        return
    if h2s.status is Status.OVER:  # beyond its range is beyond 200 ppm
        watch.poisoned = True
    if h2s.value is None:
        return
    if h2s.value <= SOUR_PPM:
        watch.sour_since = None
        return
    watch.sour_since = at if watch.sour_since is None else watch.sour_since
    if h2s.value > POISON_PPM or at - watch.sour_since >= SOUR_S:
        watch.poisoned = True


def _beside(step: Step, watch: InstrumentWatch, frame: Frame) -> bool:
    """Take what a frame says beside gas: the fan, how its wearer is, what people breathe; return whether it is loud."""
    readings, space, was_poisoned = frame.readings, step.site.spaces.get(watch.space), watch.poisoned
    h2s = readings.get("H2S")
    if h2s is not None and (watch.sour_since is not None or h2s.value is None or h2s.value > SOUR_PPM):
        _sour(watch, h2s, frame.received_at)
    current = readings.get("fan_a")  # a channel the frame does not name says nothing, whatever it said before
    on = None if current is None or current.value is None else current.value >= FAN_RUNNING_A
    loud, watch.fan_on = on is not watch.fan_on or watch.poisoned is not was_poisoned, on
    if space is None:
        return loud
    if on and not space.fan_seen:
        space.fan_seen = step.site.permit_of(space.id) is not None
    wearer = readings.get("wearer_state")
    if wearer is not None and wearer.value is not None:
        loud = people.worn(step, watch, int(wearer.value)) or loud
    if space.occupancy.inside:
        loud = people.breathe(step, space, watch) or loud
    return loud


def _say_fault(step: Step, watch: InstrumentWatch, row: int) -> None:
    status = step.site.gas.at(row).status
    if status in _QUIET or status is None or watch.frame is None:
        return
    gas = next(name for name, index in watch.rows.items() if index == row)
    key = (watch.device, watch.frame.boot, watch.frame.seq, gas)
    step.emit(InstrumentFaulted, *key, device=watch.device, channel=gas, status=status.value)
    watch.troubled = True


def _recover(step: Step, watch: InstrumentWatch, frame: Frame) -> None:
    if any(channel.status is not Status.OK for channel in step.site.channels_of(watch).values()):
        return
    watch.troubled = False
    key = (watch.device, frame.boot, frame.seq, "ok")
    step.emit(InstrumentRecovered, *key, device=watch.device, space=watch.space)
