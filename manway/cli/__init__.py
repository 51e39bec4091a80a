"""The `manway` command; every subcommand imports its shells only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def manway() -> None:
    """Confined spaces stay locked until their permit is approved; air and clock are watched while people are inside."""


@app.command()
def demo(
    *,
    check: Annotated[bool, typer.Option(help="Play the story without a person; exit 0, or 1 with the reason.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated yard.")] = 7,
    speed: Annotated[float, typer.Option(min=0.1, max=20.0, help="Seconds that pass in one, in every process alike.")] = 1.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages, on loopback.")] = 8080,
    data: Annotated[Path | None, typer.Option(help="An empty folder for everything the demo stores.")] = None,
    kill: Annotated[str, typer.Option(help="Kill this process once in mid-story: gateway, api, signer or broker.")] = "",
) -> None:
    """Run a whole training yard on this machine: broker, gateway, api, simulator, on loopback, with seeded data."""
    from manway.cli.demo import run  # noqa: PLC0415  heavy

    raise typer.Exit(run(check=check, seed=seed, speed=speed, port=port, data=data, kill=kill))


@app.command()
def backtest(
    *,
    profile: Annotated[str, typer.Option(help="Limit profile that is in force.")] = "CN",
    change: Annotated[list[str] | None, typer.Option(help="A limit or delay to change, such as H2S.low=8; repeatable.")] = None,
    limits: Annotated[Path | None, typer.Option(help='TOML file of changes such as "H2S.low" = 8.0.')] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Data folder of an installation, or frames as JSON lines.")] = None,
    start: Annotated[str, typer.Option("--from", help="From this date or time on; all there is without it.")] = "",
    end: Annotated[str, typer.Option("--to", help="Until before this date or time.")] = "",
    unit: Annotated[list[str] | None, typer.Option(help="Unit of a gas at the instruments, such as H2S=mg/m3.")] = None,
    occupied: Annotated[bool, typer.Option(help="Take somebody to be inside throughout.")] = False,
    lang: Annotated[str, typer.Option(help="Language of the report: zh or en.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Replay recorded frames under changed limits and say which alarms that gains and loses; changes nothing."""
    from manway.cli.backtest import Asked, run  # noqa: PLC0415  heavy

    asked = Asked(profile, change or [], limits, data or [], start, end, unit or [], occupied, lang, as_json)
    raise typer.Exit(run(asked))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for everything this makes.")],
    *,
    site: Annotated[list[str] | None, typer.Option(help="A site; repeatable; the training yard's without.")] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(help="ID, ID=site,site or ID@0-31 (shards) of a gateway; repeatable; gw-1 without.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="ID of a device that speaks MQTT itself; repeatable.")] = None,
    host: Annotated[str, typer.Option(help="Name or address by which broker and pages are reached.")] = "localhost",
    local: Annotated[bool, typer.Option("--local", help="For processes beside this folder, not in containers.")] = False,
    owner: Annotated[int | None, typer.Option(help="User id to give the files to; as root 10001 without --local.")] = None,
) -> None:
    """Make certificate authority, certificates, keys, passwords and the configurations of brokers and processes."""
    from manway.cli.init import Wish, run_init, told  # noqa: PLC0415  heavy

    wish = Wish(folder, site or [], gateway or [], device or [], host, local, owner)
    raise typer.Exit(told(lambda: run_init(wish), "init"))


@app.command()
def issue(
    folder: Annotated[Path, typer.Argument(help="The folder that `manway init` made.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="Of a device; a new gateway is ID=site,site or ID@0-31 (shards).")],
    *,
    ca: Annotated[Path | None, typer.Option(help="Folder of the certificate authority, ca below FOLDER without.")] = None,
) -> None:
    """Give one more device or gateway its certificate, or a new one after a revocation."""
    from manway.cli.init import run_issue, told  # noqa: PLC0415  heavy

    raise typer.Exit(told(lambda: run_issue(folder, ca, name), "issue"))


@app.command()
def revoke(
    folder: Annotated[Path, typer.Argument(help="The folder that `manway init` made.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="The device or gateway to shut out.")],
    *,
    ca: Annotated[Path | None, typer.Option(help="Folder of the certificate authority, ca below FOLDER without.")] = None,
) -> None:
    """Shut a device or gateway out: its certificate into the revocation list, its rights out of the brokers' files."""
    from manway.cli.init import run_revoke, told  # noqa: PLC0415  heavy

    raise typer.Exit(told(lambda: run_revoke(folder, ca, name), "revoke"))


@app.command()
def renew(
    folder: Annotated[Path, typer.Argument(help="The folder that `manway init` made.")],
    *,
    everything: Annotated[bool, typer.Option("--all", help="Replace every certificate, whatever it has left.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say what ends when; exit 1 when something is due.")] = False,
    ca: Annotated[Path | None, typer.Option(help="Folder of the certificate authority, ca below FOLDER without.")] = None,
) -> None:
    """Every week: sign the revocation list anew and replace certificates that have 30 days left or less."""
    from manway.cli.init import run_check, run_renew, told  # noqa: PLC0415  heavy

    raise typer.Exit(told(lambda: run_check(folder) if check else run_renew(folder, ca, everything=everything), "renew"))


@app.command()
def promote(
    folder: Annotated[Path, typer.Argument(help="The folder that `manway init` made.")],
    role: Annotated[str, typer.Argument(help="Whose next key: issuer or emergency.")],
    *,
    every_lock_has_it: Annotated[bool, typer.Option("--every-lock-has-it", help="Say that no lock is missing.")] = False,
) -> None:
    """Make the next signing key the current one, when every lock has taken it, and prepare another."""
    from manway.cli.init import told  # noqa: PLC0415  heavy
    from manway.cli.keys import run_promote  # noqa: PLC0415  heavy

    raise typer.Exit(told(lambda: run_promote(folder, role, every_lock_has_it=every_lock_has_it), "promote"))


records = typer.Typer(no_args_is_help=True, help="Look at the records database of an installation, and back it up.")
app.add_typer(records, name="records")
_NAMED = typer.Argument(metavar="SETTINGS", help="The api's settings, or the file of records itself (.db).")


@records.command("check")
def records_check(named: Annotated[Path, _NAMED]) -> None:
    """Say which version the records have and whether the audit chain is whole; changes nothing."""
    from manway.cli.records import run_check  # noqa: PLC0415  heavy

    raise typer.Exit(run_check(named))


@records.command("backup")
def records_backup(
    named: Annotated[Path, _NAMED], target: Annotated[Path, typer.Argument(help="A new file for the copy.")]
) -> None:
    """Copy the records' file while the api runs, as it is at one moment, and check the copy."""
    from manway.cli.records import run_backup  # noqa: PLC0415  heavy

    raise typer.Exit(run_backup(named, target))


if __name__ == "__main__":
    app()
