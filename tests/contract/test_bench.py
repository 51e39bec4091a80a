"""`./run bench` is true: its load is what it says, its counts are exact, and ours costs a fraction of the bare paho loop."""

import json
import os
import socket
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from manway.codec_mqtt import GasFrames
from tests.bench import measure, page, rate, report
from tests.bench.__main__ import BENCHES, WIRE, main
from tests.bench.contest import entered
from tests.bench.driver import Driver, Missed, Run
from tests.bench.fleet import LIMIT_PPM, Fleet, Message
from tests.bench.kept import kept
from tests.bench.measure import Figures, median_of
from tests.bench.node_red import Absent
from tests.bench.options import Options, parsed
from tests.bench.process import ROOT, Ended, Program
from tests.bench.rounds import played
from tests.bench.wire import Link, Login, Refused, frame, publish
from tests.kit.brokers import nats

TIME = b"1795046400000"
ON_THE_WIRE = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(180),
]
FIGURES = Figures(1000.0, 5.0, 1.0, 1.0, 2.0, 3.0, 10, 10, 0, 60.0, 0.5)


def on_the_wire(test: Callable[..., None]) -> Callable[..., None]:
    for mark in ON_THE_WIRE:
        test = mark(test)
    return test


# -- the load


def payload_of(message: Message) -> GasFrames:
    packet = message.before + TIME + message.after
    return msgspec.json.decode(packet[packet.index(b"{") :], type=GasFrames)


@pytest.mark.parametrize("every", [10, 100])
def test_every_message_over_the_limit_is_of_an_instrument_that_was_not_over_before(every: int) -> None:
    fleet = Fleet(300)

    messages = [*fleet.messages(1_000, every), *fleet.messages(1_000, every)]

    over = [message.over for message in messages if message.over]
    assert len(over) == len(set(over)) == 2_000 // every
    high = [message for message in messages if (payload_of(message).v["H2S"][0] or 0.0) >= LIMIT_PPM]
    assert [message.over for message in high] == over


def test_more_alarms_than_instruments_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"11 alarms wanted of 10 instruments .* --devices"):
        Fleet(10).messages(110, 10)


def test_a_message_is_a_whole_frame_numbered_by_its_instrument() -> None:
    fleet = Fleet(3, qos=1, links=2)
    messages = fleet.messages(7, 0)

    assert [payload_of(message).s for message in messages] == [1, 1, 1, 2, 2, 2, 3]
    assert fleet.sent == [3, 2, 2]
    for message in messages:
        packet = message.before + TIME + message.after
        assert packet == frame(packet[0], packet[3:])  # two bytes of length: the body is longer than 127
    assert len(messages[0].before) + len(TIME) + len(messages[0].after) > fleet.size()


# -- the wire


def dropping(server: socket.socket, pieces: list[bytes]) -> None:
    """Be a broker that sends what it sends in these pieces, whatever it is asked."""
    far = server.accept()[0]
    with far:
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            far.sendall(piece)
            time.sleep(0.002)
        while far.recv(1 << 16):
            pass


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_link_reads_packets_in_whatever_pieces_they_come(size: int) -> None:
    answers = b"\x20\x02\x00\x00" + publish("a/b", b"early") + b"\x90\x03\x00\x01\x01"
    stream = answers + publish("c", b"x" * 300, packet_id=9) + b"\x40\x02\x00\x05"
    with socket.create_server(("127.0.0.1", 0)) as server:
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        broker = threading.Thread(target=dropping, args=(server, pieces), daemon=True)
        broker.start()
        link = Link(Login(server.getsockname()[1]), "reader")
        link.subscribe(["#"], 1)
        link.ready()
        heard = []
        while not link.acked:
            heard += link.take()
        link.close()
        broker.join(10)

    assert [(one.topic, one.payload) for one in heard] == [("a/b", b"early"), ("c", b"x" * 300)]


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"\x20\x02\x00\x05", "CONNACK 5"), (b"\x20\x02\x00\x00\x90\x03\x00\x01\x80", "refused: #")],
    ids=["login", "filter"],
)
def test_a_broker_that_refuses_is_said(answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=dropping, args=(server, [answer]), daemon=True)
        broker.start()
        with pytest.raises(Refused, match=said):
            Link(Login(server.getsockname()[1], "user", "word"), "reader").subscribe(["#"], 0)
        broker.join(10)


# -- the report


def test_the_median_of_rounds_adds_up_what_was_missing() -> None:
    quick, slow = (msgspec.structs.replace(FIGURES, cpu_us=us, alarms_got=got) for us, got in ((4.0, 10), (9.0, 9)))

    middle = median_of([FIGURES, quick, slow])

    assert middle.cpu_us == 5.0
    assert (middle.alarms_wanted, middle.alarms_got, middle.exact) == (30, 29, False)


def test_the_first_tenth_of_the_latencies_is_dropped() -> None:
    run = Run(messages=20, seconds=1.0, wanted=20, got=20, false=0, latencies=[9.0, 9.0, *[0.001] * 18])

    assert run.quantile_ms(1.0) == pytest.approx(1.0)


def a_table() -> report.Table:
    table = report.Table("rate", "Rate")
    table.add(report.row("nats", "manway", FIGURES))
    table.add(report.row("nats", "paho", msgspec.structs.replace(FIGURES, cpu_us=20.0)))
    table.add({"broker": "nats", "gateway": "node-red", "absent": "no npm"})
    table.goals.append(report.Goal("P2", "CPU <= 1/4", 0.25, met=True))
    return table


def test_the_page_gets_tables_and_picture_between_its_marks(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")

    page.written([a_table()], tmp_path)

    text = (tmp_path / "performance.md").read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| nats | manway | 1,000 | 5 |" in text
    assert "| P2 | CPU <= 1/4 | 0.25 | met |" in text
    drawing = ET.fromstring((tmp_path / "performance.svg").read_text("utf-8"))  # noqa: S314  our own file
    bars = [float(bar.attrib["width"]) for bar in drawing.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars[3] == pytest.approx(4 * bars[2])  # 20 beside 5; the absent peer has no bar


def test_a_page_that_has_lost_its_marks_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("mine")

    with pytest.raises(ValueError, match="must hold the lines"):
        page.written([a_table()], tmp_path)

    assert (tmp_path / "performance.md").read_text() == "mine"


def test_the_page_of_the_project_has_its_marks_and_names_every_bench() -> None:
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")

    assert page.BEGIN in text
    assert page.END in text
    assert [name for name in (*BENCHES, *WIRE) if f"`{name}`" not in text] == []


def test_a_peer_that_is_not_installed_is_a_row_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    table = report.Table("rate", "Rate")

    def measured(_broker: str, name: str, _options: Options, _place: Path) -> dict[str, Figures]:
        if name == "node-red":
            raise Absent("no npm")
        return {"rate": FIGURES}

    found = played(table, Options(rounds=2), "nats", ("manway", "node-red"), measured)

    assert {name: len(figures) for name, figures in found.items()} == {"manway/rate": 2}
    assert table.rows == [{"broker": "nats", "gateway": "node-red", "absent": "no npm"}]
    assert json.loads(capsys.readouterr().out) == {"bench": "rate", **table.rows[0]}
    report.show([table])
    assert "no npm" in capsys.readouterr().out


# -- the command


@pytest.mark.parametrize("name", [*BENCHES, *WIRE])
def test_every_bench_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    assert ended.value.code == 0
    assert f"{name}: " in capsys.readouterr().out


def test_an_unknown_bench_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fast"]) == 2
    assert "no bench fast; there are" in capsys.readouterr().err


def test_a_bench_that_breaks_off_fails_the_run_and_lets_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Options) -> report.Table:
        raise Missed("no alarm of 3 probes")

    monkeypatch.setattr("tests.bench.rate.run", broken)
    monkeypatch.setattr("tests.bench.paced.run", lambda _: a_table())

    assert main(["rate", "paced", "--quick"]) == 1

    out = capsys.readouterr().out
    assert "rate broke off: no alarm of 3 probes" in out
    assert "CPU <= 1/4" in out


def test_a_missed_ratio_does_not_fail_the_run_but_a_missing_alarm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_table()
    table.goals[:] = [report.Goal("P2", "CPU <= 1/4", 9.0, met=False), report.exactly("P2", "nats, manway", FIGURES)]
    monkeypatch.setattr("tests.bench.rate.run", lambda _: table)
    assert main(["rate"]) == 0

    table.goals.append(report.exactly("P2", "nats, manway", msgspec.structs.replace(FIGURES, alarms_false=1)))
    assert main(["rate"]) == 1


def test_quick_is_one_round() -> None:
    assert (parsed([], "", ["--quick"]).rounds, parsed([], "", []).rounds) == (1, 5)


def test_a_program_that_ends_by_itself_is_said_with_its_last_words(tmp_path: Path) -> None:
    program = Program([sys.executable, "-c", "import sys; sys.exit('no such file')"], tmp_path / "log")
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(Ended, match="ended with 1: no such file"):
        program.check()
    assert program.stop() == 0.0


# -- the whole, short


MOST_OF_THE_LOOP = 2.0  # measured 0.5 to 1.0, as busy as the machine was; a ratio, so that it holds on every machine


@on_the_wire
def test_ours_loses_no_alarm_and_costs_no_more_of_the_bare_loop_than_it_did(tmp_path: Path) -> None:
    """P2: all alarms, exactly. The goal for CPU a message, 1/4 of the loop's, is missed: docs/performance.md says by how much.

    What is held here is that it grows no worse: ours judges five gases by all rules and stores them, the loop compares one.
    """
    options = Options(rounds=1, messages=40_000, devices=1_000)
    (tmp_path / "ours").mkdir()
    (tmp_path / "loop").mkdir()

    ours = rate.one("nats", "manway", options, tmp_path / "ours")["rate"]
    loop = rate.one("nats", "paho", options, tmp_path / "loop")["rate"]

    sys.stdout.write(f"ours {ours.cpu_us:.1f} us, the loop {loop.cpu_us:.1f} us a message\n")
    assert (ours.alarms_wanted, ours.alarms_got, ours.alarms_false) == (400, 400, 0)
    assert (loop.alarms_wanted, loop.alarms_got, loop.alarms_false) == (400, 400, 0)
    assert ours.cpu_us <= MOST_OF_THE_LOOP * loop.cpu_us


@on_the_wire
def test_at_a_steady_rate_every_alarm_comes_and_every_frame_is_kept(tmp_path: Path) -> None:
    fleet, began_ms = Fleet(150, qos=1), int(time.time() * 1000)

    with entered("nats", "manway", fleet, tmp_path) as it:
        figures = measure.paced(it, 500, 2.0, every=10)
        it.driver.settle()
        left_s = it.program.stop()

    assert (figures.alarms_wanted, figures.alarms_got, figures.alarms_false) == (100, 100, 0)
    assert figures.rss_mb <= 120  # P8, of a site as large
    assert left_s <= 5
    assert it.program.written_at_end > 0
    found = kept(fleet, it.folder / "data", began_ms)
    assert (found.all_sent, found.lost, found.torn, found.double) == (1_150, 0, 0, 0)


@on_the_wire
def test_alarms_that_do_not_come_are_counted_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody behind the broker the bench must not find itself met."""
    monkeypatch.setattr("tests.bench.driver._SILENCE_S", 0.3)
    broker = nats(tmp_path)
    broker.start()
    try:
        fleet = Fleet(100)
        driver = Driver(Login(int(broker.url.rpartition(":")[2]), "all", "all"), fleet, api=False)
        run = driver.pace(fleet.messages(200, 10), 2_000)
        with pytest.raises(Missed, match="alarms did not come"):
            driver.pour(fleet.messages(400, 10), window=50)
        driver.close()
    finally:
        broker.stop()

    assert (run.wanted, run.got, run.exact) == (20, 0, False)
