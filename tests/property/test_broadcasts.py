"""Whatever is broadcast, and however often: no alarm that frames give is missing because of it, and no deadline moves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from manway.alarm import ON
from manway.codec_adv import InstrumentAdvertisement, InstrumentFlag, Level, LockAdvertisement
from manway.entities import Bolt, Door
from manway.inputs import AnyInput, InstrumentAdvertised, LockAdvertised
from tests.kit.builders import Bench, a_lock_state

BROADCASTS: st.SearchStrategy[AnyInput] = st.one_of(
    st.builds(
        InstrumentAdvertised,
        st.just("gas-1"),
        st.builds(
            InstrumentAdvertisement,
            st.sampled_from(list(Level)),
            st.sampled_from([InstrumentFlag(0), InstrumentFlag.HELP, InstrumentFlag.FAULT | InstrumentFlag.PUMP]),
            st.sampled_from(["", "H2S", "LEL", "VOC"]),
            st.integers(0, 100),
            st.integers(0, 65_535),
        ),
    ),
    st.builds(
        LockAdvertised,
        st.just("lock-1"),
        st.builds(
            LockAdvertisement,
            st.sampled_from(list(Bolt)),
            st.sampled_from(list(Door)),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.integers(0, 4),
            st.integers(0, 100),
            st.integers(0, 65_535),
        ),
    ),
)
STEPS = st.lists(
    st.tuples(
        st.floats(0.2, 12.0),
        st.sampled_from(["frame", "frame", "frame", "lock", "wait"]),
        st.sampled_from([0.0, 0.0, 5.0, 8.0, 30.0]),
        st.lists(BROADCASTS, max_size=3),
    ),
    min_size=1,
    max_size=25,
)


def on(bench: Bench) -> set[tuple[str, str]]:
    return {(a.kind, a.object) for a in bench.engine.site.alarms.values() if a.state in ON}


def act(bench: Bench, what: str, h2s_ppm: float, at: float) -> None:
    if what == "frame":
        bench.read(at, h2s_ppm=h2s_ppm)
    elif what == "lock":
        bench.lock(a_lock_state(Bolt.RETRACTED if h2s_ppm > 7 else Bolt.LOCKED, log_seq=1 + int(at)), at=at)
    else:
        bench.wait(at)


@given(steps=STEPS, inside=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_broadcast_may_raise_and_never_clears(steps: list[tuple[float, str, float, list[AnyInput]]], *, inside: bool) -> None:
    plain, told = Bench(), Bench()
    for bench in (plain, told):
        bench.open_by_grant(at=0.1)
        if inside:
            bench.give(bench.desk.enter("ann"), at=0.2)
    at = 1.0
    for wait_s, what, h2s_ppm, broadcasts in steps:
        at += wait_s
        for bench in (plain, told):
            act(bench, what, h2s_ppm, at)
        if broadcasts:
            told.give(*broadcasts, at=at)
        assert on(plain) <= on(told)
        for watched in ("instruments", "locks"):
            heard = [
                {name: watch.heard_at for name, watch in getattr(bench.engine.site, watched).items()} for bench in (plain, told)
            ]
            assert heard[0] == heard[1], "no broadcast is a sign of life"
