"""What an instrument broadcasts while no link delivers: its own alarm, taken at its word (`locks.md` §5)."""

from manway.codec_adv import Level as Own
from manway.site import BROADCAST_AFTER_S, InstrumentWatch

_KINDS = {Own.A1: ("GAS_LOW",), Own.A2: ("GAS_LOW", "GAS_HIGH")}


def counts_from(instrument: InstrumentWatch) -> float | None:
    """Return from when on its broadcast alarm counts, Unix seconds; None when it broadcasts none, or frames came since."""
    heard = instrument.advertised
    if heard is None or heard.said.level not in _KINDS or heard.at <= instrument.heard_at:
        return None
    return max(heard.at, instrument.heard_at + BROADCAST_AFTER_S)


def cried(instrument: InstrumentWatch, now: float) -> dict[str, tuple[str, ...]]:
    """Return the alarms that its broadcast raises now, object -> kinds: of the channel it names, else of the instrument."""
    since, heard = counts_from(instrument), instrument.advertised
    if since is None or heard is None or now < since:
        return {}
    named = heard.said.channel in instrument.rows
    return {f"{instrument.device}/{heard.said.channel}" if named else instrument.device: _KINDS[heard.said.level]}
