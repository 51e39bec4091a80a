"""`manway backtest` from the outside: both kinds of recordings, both languages, and what it says of wrong input."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from manway.cli import app
from manway.entities import Frame, Reading
from manway.ids import Status
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_embedded import EmbeddedStore
from tests.kit.clock import EPOCH

PPM = 10.5 / 1.4168  # 10.5 mg/m3 of H2S at 20 °C


def rows() -> list[StoredFrame]:
    """Two minutes of one instrument, half a minute of them beyond the low limit of H2S."""
    found = []
    for i in range(120):
        h2s = Reading(Status.OK, round(PPM, 2) if 30 <= i < 60 else 0.0)
        readings = {"H2S": h2s, "O2": Reading(Status.OK, 20.9), "battery_percent": Reading(Status.OK, 90.0)}
        at = EPOCH + i
        found.append(StoredFrame(Frame("gas-1", 7, i + 1, round(at * 1000), at, readings), "n01"))
    return found


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows()) + b"\n\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = EmbeddedStore(tmp_path / "data" / "telemetry", writer=True)
    assert store.write(rows()) == []
    store.close()
    return tmp_path / "data"


def backtest(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["backtest", *map(str, arguments)])


def test_a_laxer_limit_loses_a_p1_and_that_is_said_first(lines: Path) -> None:
    done = backtest("--change", "H2S.low=11", "--data", lines)
    assert done.exit_code == 0, done.output
    assert "LAXER than GBZ 2.1-2019 MAC" in done.output
    said = done.output.splitlines()
    first = next(i for i, line in enumerate(said) if "P1 ALARMS THAT THE CHANGE WOULD MISS: 1" in line)
    assert "gas-1/H2S" in said[first + 2]
    assert first < next(i for i, line in enumerate(said) if "alarms instead of" in line)


def test_a_stricter_limit_misses_nothing(lines: Path) -> None:
    done = backtest("--change", "H2S.low=8", "--data", lines)
    assert "misses no P1 alarm" in done.output
    assert "stricter (GBZ 2.1-2019 MAC)" in done.output


def test_day_files_and_lines_say_the_same(lines: Path, folder: Path) -> None:
    asked = ("--change", "H2S.low=11", "--json", "--data")
    assert backtest(*asked, folder).output == backtest(*asked, folder / "telemetry").output == backtest(*asked, lines).output


def test_its_json_holds_everything(folder: Path) -> None:
    report = msgspec.json.decode(backtest("--change", "H2S.low=11", "--json", "--data", folder).output)
    [missed] = report["missed_p1"]
    assert (missed["kind"], missed["space"], missed["began"], missed["limit"]) == ("GAS_LOW", "n01", EPOCH + 30, 10.0)
    assert report["counts"]["GAS_LOW"] == [1, 0]
    assert (report["instruments"], report["samples"], report["laxer"]) == (1, 240, ["H2S.low"])


def test_chinese_is_whole(lines: Path) -> None:
    done = backtest("--change", "H2S.low=11", "--data", lines, "--lang", "zh")
    assert done.exit_code == 0
    assert "更改后会漏掉的一级（P1）报警：1 次" in done.output
    assert "更宽松" in done.output


def test_a_range_is_only_what_lies_in_it(folder: Path, lines: Path) -> None:
    for data in (folder, lines):
        asked = ("--change", "H2S.low=11", "--json", "--data", data, "--from", "2027-01-15T08:00:45+00:00")
        report = msgspec.json.decode(backtest(*asked, "--to", "2027-01-15T08:01:00+00:00").output)
        assert report["samples"] == 30, data


def test_what_a_line_of_no_space_holds_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(row.frame) for row in rows()))
    report = msgspec.json.decode(backtest("--change", "H2S.low=11", "--json", "--data", path).output)
    assert [missed["space"] for missed in report["missed_p1"]] == ["-"]


def test_delays_units_and_files_of_changes(lines: Path, tmp_path: Path) -> None:
    table = tmp_path / "limits.toml"
    table.write_text('[site_limits]\n"H2S.low" = 11\n')
    done = backtest("--limits", table, "--change", "alarm_off_delay_s=5", "--data", lines, "--occupied")
    assert done.exit_code == 0, done.output
    assert "alarm_off_delay_s" in done.output
    assert "inside throughout" in done.output
    in_mg = backtest("--limits", table, "--unit", "H2S=mg/m3", "--json", "--data", lines)
    assert msgspec.json.decode(in_mg.output)["missed_p1"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--change", "H2S.low=8"], "--data"),
        (["--data", "LINES"], "--change"),
        (["--change", "H2S.low", "--data", "LINES"], "H2S.low=8"),
        (["--change", "H2S.lowest=8", "--data", "LINES"], "H2S.low"),
        (["--change", "H2S.low=nan", "--data", "LINES"], "finite"),
        (["--change", "alarm_off_delay_s=-1", "--data", "LINES"], "finite"),
        (["--change", "H2S.low=8", "--data", "LINES", "--profile", "MOON"], "MOON"),
        (["--change", "H2S.low=8", "--data", "LINES", "--from", "noon"], "noon"),
        (["--change", "H2S.low=8", "--data", "LINES", "--from", "2030-01-01"], "No frame"),
        (["--change", "H2S.low=8", "--data", "LINES", "--unit", "H2S=bananas"], "bananas"),
        (["--change", "H2S.low=8", "--data", "LINES", "--lang", "la"], "la"),
        (["--change", "H2S.low=8", "--data", "NOWHERE.jsonl"], "NOWHERE"),
        (["--change", "H2S.low=8", "--data", "EMPTY"], "no recorded frames"),
        (["--change", "H2S.low=8", "--data", "BROKEN"], "line 2"),
        (["--change", "H2S.low=8", "--data", "RUINED"], "Cannot read"),
        (["--change", "H2S.low=8", "--data", "LINES", "--data", "FOLDER"], "gas-1"),
        (["--limits", "BROKEN", "--data", "LINES"], "Cannot read"),
    ],
)
def test_wrong_input_is_said_plainly(arguments: list[str], says: str, lines: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "ruined").mkdir()
    (tmp_path / "ruined" / "meta.db").write_text("no database at all, and long enough to be read as one" * 20)
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(lines.read_bytes().split(b"\n")[0] + b"\n{}\n")
    places = {"LINES": lines, "FOLDER": folder, "EMPTY": tmp_path / "empty", "BROKEN": broken, "RUINED": tmp_path / "ruined"}
    done = backtest(*(places.get(argument, argument) for argument in arguments))
    assert done.exit_code == 2, done.output
    assert says in done.output
    assert "Traceback" not in done.output


def test_numbers_come_back_as_the_instrument_showed_them(tmp_path: Path) -> None:
    """Single precision would make 19.5 % vol of oxygen, or 20.2, another number than the limit it is held against."""
    store = EmbeddedStore(tmp_path / "telemetry", writer=True)
    values = [20.2, 19.5, 0.1, 23.499, 1234.5, 7.06]
    frames = [
        Frame("gas-1", 7, i + 1, round(EPOCH * 1000) + 1000 * i, EPOCH + i, {"O2": Reading(Status.OK, value)})
        for i, value in enumerate(values)
    ]
    store.write([StoredFrame(frame, "n01") for frame in frames])
    store.close()
    from manway.cli.recorded import read  # noqa: PLC0415  only here

    [one] = read([tmp_path], ["O2"], 0, 10**14)
    assert one.channels["O2"].value.tolist() == values
