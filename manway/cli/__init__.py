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
    kill: Annotated[str, typer.Option(help="Kill this process once in mid-story: gateway, api or broker.")] = "",
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


if __name__ == "__main__":
    app()
